/** Bar charts as SVG: bars and text are all there is, which is less code than any library takes to be called. */

/** A bar, to the right. */
export interface Bar {
  readonly label: string;
  /** Undefined: there is nothing to show, which is said. */
  readonly value: number | undefined;
  /** At the bar's end. */
  readonly text: string;
  /** Where the middle half lies. */
  readonly middleHalf?: readonly [low: number, high: number];
  readonly color: string;
}

/** Bars with a scale of their own, from 0. */
export interface Panel {
  readonly title: string;
  readonly bars: readonly Bar[];
}

/** What a color stands for. */
export interface Legend {
  readonly label: string;
  readonly color: string;
}

export interface Chart {
  /** Name of its file, without the suffix. */
  readonly name: string;
  readonly title: string;
  readonly legend: readonly Legend[];
  readonly panels: readonly Panel[];
  /** Panels side by side. */
  readonly columns: number;
  /** All panels have one scale. */
  readonly sameScale: boolean;
}

const WIDTH = 960;
const MARGIN = 20;
const GAP = 28;
const TITLE_PX = 17;
const TEXT_PX = 12;
const BAR_PX = 13;
const BAR_STEP = 19;
const HEAD_PX = 62;
const PANEL_TITLE_PX = 24;
const PANEL_GAP = 16;
/** Of a letter, in its height: a guess on the safe side, for a font that is not known here. */
const LETTER = 0.62;
const INK = '#1f2328';
const MUTED = '#59636e';
const PAPER = '#ffffff';
const LINE = '#d1d9e0';
const FONT = 'system-ui, -apple-system, Segoe UI, DejaVu Sans, Helvetica, Arial, sans-serif';

/** For XML and HTML, text and attributes alike. Characters that XML has no place for become question marks. */
export function escaped(text: string): string {
  const marks: Readonly<Record<string, string>> = { '&': 'amp', '<': 'lt', '>': 'gt', '"': 'quot', "'": '#39' };
  return text
    .replace(/[^\t\n\r\x20-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, '?')
    .replace(/[&<>"']/g, (mark) => `&${marks[mark]};`);
}

/** A file of its own. */
export function svgFile(chart: Chart): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${draw(chart, ' xmlns="http://www.w3.org/2000/svg"')}\n`;
}

/** A part of a page of HTML. */
export function svgElement(chart: Chart): string {
  return draw(chart, '');
}

/** How wide a text is at most, in pixels. */
function widthOf(text: string): number {
  return Math.ceil(text.length * TEXT_PX * LETTER);
}

/** A text that is no wider. */
function cut(text: string, width: number): string {
  const letters = Math.floor(width / (TEXT_PX * LETTER));
  return text.length <= letters ? text : `${text.slice(0, Math.max(1, letters - 2))}..`;
}

function px(number: number): string {
  return String(Math.round(number * 10) / 10);
}

interface TextStyle {
  readonly color?: string;
  readonly size?: number;
  readonly bold?: boolean;
  readonly anchor?: 'end';
}

function textAt(x: number, y: number, text: string, style: TextStyle = {}): string {
  const { color = INK, size = TEXT_PX, bold = false, anchor } = style;
  const more = `${bold ? ' font-weight="600"' : ''}${anchor === undefined ? '' : ` text-anchor="${anchor}"`}`;
  return `<text x="${px(x)}" y="${px(y)}" font-size="${size}" fill="${color}"${more}>${escaped(text)}</text>`;
}

function rect(x: number, y: number, width: number, height: number, color: string): string {
  return `<rect x="${px(x)}" y="${px(y)}" width="${px(width)}" height="${px(height)}" fill="${color}"/>`;
}

/** Where a panel's parts begin. */
interface Place {
  readonly x: number;
  readonly y: number;
  readonly labelPx: number;
  /** From a bar's foot to the greatest value. */
  readonly barsPx: number;
  readonly widthPx: number;
  readonly greatest: number;
}

function greatestOf(panels: readonly Panel[]): number {
  const values = panels.flatMap(({ bars }) =>
    bars.flatMap(({ value, middleHalf }) => [value ?? 0, ...(middleHalf ?? [])]),
  );
  return Math.max(...values) || 1;
}

function drawBar({ label, value, text, middleHalf, color }: Bar, { x, y, labelPx, barsPx, greatest }: Place): string[] {
  const middle = y + BAR_PX / 2;
  const foot = x + labelPx;
  const baseline = middle + TEXT_PX * 0.36;
  const at = (number: number): number => foot + (number / greatest) * barsPx;
  const name = textAt(foot - 8, baseline, cut(label, labelPx - 8), { anchor: 'end' });
  if (value === undefined) return [name, textAt(foot + 6, baseline, text, { color: MUTED })];
  const parts = [name, rect(foot, y, Math.max(1, at(value) - foot), BAR_PX, color)];
  let end = at(value);
  if (middleHalf !== undefined && middleHalf[0] < middleHalf[1]) {
    const [low, high] = middleHalf.map(at);
    parts.push(`<path d="M${px(low)} ${px(middle)}H${px(high)}" stroke="${INK}" stroke-width="1.5"/>`);
    parts.push(
      ...[low, high].map((each) => `<path d="M${px(each)} ${px(middle - 3)}v6" stroke="${INK}" stroke-width="1.5"/>`),
    );
    end = Math.max(end, high);
  }
  return [...parts, textAt(end + 6, baseline, text)];
}

function drawPanel({ title, bars }: Panel, place: Place): string[] {
  const top = place.y + PANEL_TITLE_PX;
  const foot = px(place.x + place.labelPx);
  return [
    textAt(place.x, place.y + TEXT_PX, cut(title, place.widthPx), { bold: true }),
    ...bars.flatMap((bar, i) => drawBar(bar, { ...place, y: top + i * BAR_STEP })),
    `<path d="M${foot} ${px(top - 3)}V${px(top + bars.length * BAR_STEP - 3)}" stroke="${LINE}"/>`,
  ];
}

function drawLegend(legend: readonly Legend[]): string[] {
  let x = MARGIN;
  return legend.flatMap(({ label, color }) => {
    const parts = [rect(x, MARGIN + 20, 10, 10, color), textAt(x + 15, MARGIN + 29.5, label, { color: MUTED })];
    x += 15 + widthOf(label) + 16;
    return parts;
  });
}

function draw(chart: Chart, attributes: string): string {
  const { title, legend, panels, columns, sameScale } = chart;
  const widthPx = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns;
  const bars = panels.flatMap((panel) => panel.bars);
  const labelPx = Math.min(widthPx * 0.55, 8 + Math.max(0, ...bars.map(({ label }) => widthOf(label))));
  const textPx = 6 + Math.max(0, ...bars.map(({ text }) => widthOf(text)));
  const barsPx = Math.max(40, widthPx - labelPx - textPx);
  const parts: string[] = [];
  let y = HEAD_PX + MARGIN / 2;
  for (let first = 0; first < panels.length; first += columns) {
    const line = panels.slice(first, first + columns);
    line.forEach((panel, i) => {
      const greatest = greatestOf(sameScale ? panels : [panel]);
      parts.push(...drawPanel(panel, { x: MARGIN + i * (widthPx + GAP), y, labelPx, barsPx, widthPx, greatest }));
    });
    y += PANEL_TITLE_PX + Math.max(...line.map((panel) => panel.bars.length)) * BAR_STEP + PANEL_GAP;
  }
  const size = `width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}"`;
  return [
    `<svg${attributes} ${size} role="img" aria-label="${escaped(title)}" font-family="${FONT}">`,
    // Its own background: it is read on light pages and on dark ones.
    `<rect width="${WIDTH}" height="${y}" rx="6" fill="${PAPER}"/>`,
    textAt(MARGIN, MARGIN + 10, title, { size: TITLE_PX, bold: true }),
    ...drawLegend(legend),
    ...parts,
    '</svg>',
  ].join('\n');
}
