/** Figures of `npm run bench:micro`: kept, read again, compared. */
import { UserError } from '../../src/core/index.ts';
import type { MachineInfo } from '../results.ts';

/** How long one takes, in nanoseconds: the least, the quartiles and the median of the samples. */
export interface Figure {
  readonly name: string;
  readonly leastNs: number;
  readonly p25Ns: number;
  readonly p50Ns: number;
  readonly p75Ns: number;
}

export interface MicroFigures {
  readonly format: 1;
  readonly machine: MachineInfo;
  readonly figures: readonly Figure[];
}

const NUMBERS = ['leastNs', 'p25Ns', 'p50Ns', 'p75Ns'] as const;

function isFigure(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || !('name' in value)) return false;
  const numbers: Partial<Record<string, unknown>> = { ...value };
  return typeof value.name === 'string' && NUMBERS.every((key) => Number(numbers[key]) > 0);
}

/** Reads what `--json` wrote to `path`. Throws UserError. */
export function parseFigures(text: string, path: string): MicroFigures {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${path} is no JSON: give a file that bench:micro wrote with --json or --save`, { cause });
  }
  const { format, machine, figures } = (parsed ?? {}) as Partial<Record<keyof MicroFigures, unknown>>;
  const isMachine = typeof machine === 'object' && machine !== null;
  if (format !== 1 || !isMachine || !Array.isArray(figures) || !figures.every(isFigure)) {
    throw new UserError(`${path} has no figures of bench:micro: give a file that it wrote with --json or --save`);
  }
  return parsed as MicroFigures;
}

/** What the time of a request depends on. */
const MACHINE_FIELDS = ['cpuModel', 'cores', 'kernel', 'fileSystem', 'node'] as const;

/** How two machines differ, a line each: `kernel: 6.12.1 now, 6.1.2 then`. */
export function machineDifferences(now: MachineInfo, then: MachineInfo): string[] {
  return MACHINE_FIELDS.filter((field) => now[field] !== then[field]).map(
    (field) => `${field}: ${now[field]} now, ${then[field]} then`,
  );
}

export interface Comparison {
  /** Medians, now to then: less than 1 is faster now. */
  readonly ratio: number;
  /** The middle halves of the samples do not meet. */
  readonly isClear: boolean;
}

export function compare(now: Figure, then: Figure): Comparison {
  return { ratio: now.p50Ns / then.p50Ns, isClear: now.p25Ns > then.p75Ns || now.p75Ns < then.p25Ns };
}

/** With three digits or more. */
function nanoseconds(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

function ratioCell(now: Figure, then: Figure | undefined): string {
  if (then === undefined) return 'new';
  const { ratio, isClear } = compare(now, then);
  return `${ratio.toFixed(2)}${isClear ? ' ' : '~'}`;
}

/** The lines of a table; beside each figure what it was then, where it was. */
export function tableOf(now: readonly Figure[], then?: readonly Figure[]): string[] {
  const before = new Map(then?.map((figure) => [figure.name, figure]));
  const title = ['', 'median ns', 'middle half', 'least', ...(then === undefined ? [] : ['then', 'now : then'])];
  const rows = now.map((figure) => {
    const old = before.get(figure.name);
    const compared = then === undefined ? [] : [old ? nanoseconds(old.p50Ns) : '', ratioCell(figure, old)];
    const half = `${nanoseconds(figure.p25Ns)}-${nanoseconds(figure.p75Ns)}`;
    return [figure.name, nanoseconds(figure.p50Ns), half, nanoseconds(figure.leastNs), ...compared];
  });
  const table = [title, ...rows];
  const widths = title.map((_, i) => Math.max(...table.map((line) => line[i].length)));
  return table.map((line) =>
    line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i] + 2))).join(''),
  );
}

/** What is to be known beside the table: of which machine the old figures are, and what has no figure any more. */
export function remarksOn(now: MicroFigures, then: MicroFigures, isWhole: boolean): string[] {
  const names = new Set(now.figures.map(({ name }) => name));
  const gone = isWhole ? then.figures.filter(({ name }) => !names.has(name)).map(({ name }) => name) : [];
  const differences = machineDifferences(now.machine, then.machine);
  return [
    `then: ${then.machine.date}; a ratio below 1 is faster now; ~: the middle halves meet`,
    ...(differences.length === 0 ? [] : ['another machine: the ratios mean little', ...differences]),
    ...gone.map((name) => `not measured any more: ${name}`),
  ];
}
