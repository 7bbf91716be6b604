/** What growth measurements find, where the lines cross, and the tables of it. */
import type { MachineInfo } from '../results.ts';
import type { Memory } from './memory.ts';

/** What one contestant does and weighs at one count. */
export interface GrowthFigure {
  /** Daemons that serve all of it together. */
  readonly processes: number;
  readonly memory: Memory;
  /** A second, all together, by what is done: `stat`, `read 4 KiB`. */
  readonly rates: Readonly<Record<string, number>>;
}

export interface GrowthPoint {
  readonly count: number;
  readonly ours: GrowthFigure;
  /** Rust virtiofsd; absent where it is not measured. */
  readonly theirs?: GrowthFigure;
}

export interface GrowthSeries {
  /** What there is more and more of, in the plural. */
  readonly of: 'shares' | 'guests' | 'files known';
  /** In the order of their counts. */
  readonly points: readonly GrowthPoint[];
}

export interface GrowthResult {
  readonly format: 1;
  readonly machine: MachineInfo;
  readonly series: readonly GrowthSeries[];
}

/** Where two lines change places. */
export interface Crossing {
  /** From this count on the other one is the lower one, or at least no higher. */
  readonly count: number;
  readonly lower: 'ours' | 'theirs';
  /** Beyond what was measured: the last piece of each line, carried on. */
  readonly isExtrapolated: boolean;
}

export interface LinePoint {
  readonly count: number;
  readonly ours: number;
  readonly theirs: number;
}

/** The first place where two lines cross, straight between their points; undefined where they never do. */
export function crossingOf(points: readonly LinePoint[]): Crossing | undefined {
  if (points.length < 2) return undefined;
  const isOursLower = points[0].ours <= points[0].theirs;
  const lower = isOursLower ? 'theirs' : 'ours';
  /** How far the one that was lower at first still is below the other. */
  const lead = ({ ours, theirs }: LinePoint): number => (isOursLower ? theirs - ours : ours - theirs);
  const at = points.findIndex((point) => lead(point) < 0 || (!isOursLower && lead(point) === 0));
  const isExtrapolated = at === -1;
  const after = points[isExtrapolated ? points.length - 1 : at];
  const before = points[isExtrapolated ? points.length - 2 : at - 1];
  const slope = (lead(after) - lead(before)) / (after.count - before.count);
  if (slope >= 0) return undefined;
  const exact = before.count - lead(before) / slope;
  return { count: Math.ceil(exact), lower, isExtrapolated };
}

const MIB = 2 ** 20;

/** Ways to count memory, and what they are called. */
const MEASURES = { ownBytes: 'own memory', rssBytes: 'RSS' } as const;
type Measure = keyof typeof MEASURES;

function linesOf({ points }: GrowthSeries, measure: Measure): LinePoint[] {
  return points.flatMap(({ count, ours, theirs }) =>
    theirs === undefined ? [] : [{ count, ours: ours.memory[measure], theirs: theirs.memory[measure] }],
  );
}

const mib = (bytes: number): string => (bytes / MIB).toFixed(bytes < 100 * MIB ? 1 : 0);

/** Bytes, for files that are known; MiB for all others. */
function sizeOf(bytes: number, { of }: GrowthSeries): string {
  return of === 'files known' ? `${bytes.toFixed(0)} bytes` : `${mib(bytes)} MiB`;
}

/** What one more costs where there are most: from the last point but one to the last. */
function eachBytes(
  { points }: GrowthSeries,
  measure: Measure,
  of: (point: GrowthPoint) => GrowthFigure | undefined,
): number | undefined {
  const [before, last] = points.slice(-2);
  if (last === undefined) return undefined;
  const [least, most] = [of(before), of(last)];
  if (least === undefined || most === undefined) return undefined;
  return (most.memory[measure] - least.memory[measure]) / (last.count - before.count);
}

function conclusionOf(series: GrowthSeries, measure: Measure): string[] {
  const ours = eachBytes(series, measure, (point) => point.ours);
  const theirs = eachBytes(series, measure, (point) => point.theirs);
  const one = { shares: 'share', guests: 'guest', 'files known': 'file known' }[series.of];
  if (ours === undefined) return [];
  const what = MEASURES[measure];
  const before = series.points.at(-2)?.count;
  const ourCost = `In ${what} one ${one} more than ${before} costs virtiofs ${sizeOf(ours, series)}`;
  if (theirs === undefined) return [`${ourCost}.`];
  const costs = `${ourCost}, Rust virtiofsd ${sizeOf(theirs, series)}`;
  const lines = linesOf(series, measure);
  const crossing = crossingOf(lines);
  if (crossing === undefined) {
    const who = lines[0].ours <= lines[0].theirs ? 'virtiofs' : 'Rust virtiofsd';
    return [`${costs}. The lines do not cross: ${who} has less at any count.`];
  }
  const who = crossing.lower === 'ours' ? 'virtiofs' : 'Rust virtiofsd';
  const how = crossing.isExtrapolated ? ' (extrapolated)' : '';
  return [`${costs}. The lines cross: from ${crossing.count} ${series.of} on ${who} has less${how}.`];
}

/** Sentences on memory: what one more costs, and where the lines cross. */
export function conclusionsOf(series: GrowthSeries): string[] {
  return [...conclusionOf(series, 'ownBytes'), ...conclusionOf(series, 'rssBytes')];
}

function cellsOf(count: number, who: string, { processes, memory, rates }: GrowthFigure, names: string[]): string[] {
  const memories = [memory.rssBytes, memory.pssBytes, memory.ownBytes].map(mib);
  const shown = names.map((name) => (rates[name] === undefined ? '' : rates[name].toFixed(0)));
  return [`${count}`, who, `${processes}`, ...memories, ...shown];
}

/** One series as Markdown. */
function tableOf(series: GrowthSeries): string[] {
  const names = [...new Set(series.points.flatMap(({ ours }) => Object.keys(ours.rates)))];
  const rates = names.map((name) => `${name}, /s`);
  const title = [series.of, 'daemon', 'processes', 'RSS MiB', 'Pss MiB', 'own MiB', ...rates];
  const rows = series.points.flatMap(({ count, ours, theirs }) => [
    cellsOf(count, 'virtiofs', ours, names),
    ...(theirs === undefined ? [] : [cellsOf(count, 'Rust virtiofsd', theirs, names)]),
  ]);
  const rule = title.map((_, i) => (i === 1 ? '---' : '---:'));
  return [title, rule, ...rows].map((cells) => `| ${cells.join(' | ')} |`);
}

/** The whole of it as Markdown. */
export function markdownOf({ machine, series }: GrowthResult): string {
  const { cpuModel, cores, memoryMiB, kernel, fileSystem, node } = machine;
  const where = `${cpuModel}, ${cores} cores, ${memoryMiB} MiB, Linux ${kernel}, ${fileSystem}, Node.js ${node}`;
  const legend = 'RSS and Pss of all processes of a daemon together; own: Pss without the shared memory of guests.';
  const parts = series.flatMap((each) => [
    `## ${each.of[0].toUpperCase()}${each.of.slice(1)}`,
    '',
    ...tableOf(each),
    '',
    ...conclusionsOf(each).flatMap((line) => [line, '']),
  ]);
  return ['# Growth', '', where, '', legend, '', ...parts].join('\n');
}
