/** What a row says of a contestant, in the units of the report. */
import type { BenchResult, ContestantInfo, Row } from '../results.ts';
import { type Figure, median, short, type Spread, spreadOf } from './statistics.ts';

const MB = 1e6;
const MIB = 2 ** 20;
const MINUTE_SECONDS = 60;
const US = 1e6;

/** Operations a second, by round. */
export function rates(row: Row, id: string): Figure[] {
  return (row.samples[id] ?? []).map(({ operations, seconds }) => finite(operations / seconds));
}

/** CPU time of the daemon for an operation in microseconds, by round. */
export function cpuUs(row: Row, id: string): Figure[] {
  return (row.samples[id] ?? []).map(({ operations, daemonCpuSeconds }) =>
    daemonCpuSeconds === undefined ? undefined : finite((daemonCpuSeconds * US) / operations),
  );
}

/** Messages to the server for an operation. */
export function messages(row: Row, id: string): Figure {
  const counts = row.counts[id];
  return counts?.messages === undefined ? undefined : finite(counts.messages / counts.operations);
}

function finite(number: number): Figure {
  return Number.isFinite(number) ? number : undefined;
}

/** How rates of a row are shown: a rate times `factor` is one in `unit`. */
export interface Scale {
  readonly unit: string;
  readonly factor: number;
}

/** MB/s where bytes are moved; else operations a second, or a minute where nobody does one in a second. */
export function scaleOf(row: Row): Scale {
  if (row.operationBytes !== undefined) return { unit: 'MB/s', factor: row.operationBytes / MB };
  const best = Math.max(...Object.keys(row.samples).map((id) => spreadOf(rates(row, id))?.median ?? 0));
  return best < 1
    ? { unit: `${row.operation}/min`, factor: MINUTE_SECONDS }
    : { unit: `${row.operation}/s`, factor: 1 };
}

/** Something that the report has a table of. */
export interface Metric {
  /** Part of a file's name. */
  readonly id: string;
  readonly title: string;
  /** Absent: that of the row. */
  readonly unit?: string;
  readonly spread: (row: Row, id: string) => Spread | undefined;
}

function scaled(spread: Spread | undefined, factor: number): Spread | undefined {
  if (spread === undefined) return undefined;
  return { median: spread.median * factor, low: spread.low * factor, high: spread.high * factor };
}

export const RATE: Metric = {
  id: 'rate',
  title: 'Rate',
  spread: (row, id) => scaled(spreadOf(rates(row, id)), scaleOf(row).factor),
};

export const CPU: Metric = {
  id: 'cpu',
  title: 'CPU time of the daemon for an operation',
  unit: 'us',
  spread: (row, id) => spreadOf(cpuUs(row, id)),
};

export const MESSAGES: Metric = {
  id: 'messages',
  title: 'Messages for an operation',
  unit: 'messages',
  spread: (row, id) => spreadOf([messages(row, id)]),
};

export const MEMORY: Metric = {
  id: 'memory',
  title: 'Memory of the guest that came into use',
  unit: 'MiB',
  spread: (row, id) => scaled(spreadOf([row.counts[id]?.guestMemoryBytes]), 1 / MIB),
};

const LATENCIES = [
  { id: 'p50', title: 'Half of the operations took at most', get: 'p50Us' },
  { id: 'p99', title: '99 of 100 operations took at most', get: 'p99Us' },
] as const;

/** All of them; a table is shown of those that somebody has figures of. */
export const METRICS: readonly Metric[] = [
  RATE,
  CPU,
  MESSAGES,
  MEMORY,
  ...LATENCIES.map(({ id, title, get }) => {
    const spread = (row: Row, contestant: string): Spread | undefined =>
      spreadOf((row.samples[contestant] ?? []).map((sample) => sample[get]));
    return { id, title, unit: 'us', spread };
  }),
];

/** The row's name with the unit of a metric, such as `create, files/s`. */
export function rowTitle(row: Row, { unit }: Metric): string {
  return unit === undefined ? `${row.name}, ${scaleOf(row).unit}` : row.name;
}

/** Such as `731 (690-760)`; a single figure stands alone. */
export function formatSpread({ median: middle, low, high }: Spread): string {
  return low === high ? short(middle) : `${short(middle)} (${short(low)}-${short(high)})`;
}

/** Whoever of these did most in a row: by the median rate. Undefined when none did anything. */
export function fastest(row: Row, contestants: readonly ContestantInfo[]): ContestantInfo | undefined {
  const rate = ({ id }: ContestantInfo): number => median(rates(row, id).filter((each) => each !== undefined));
  const able = contestants.filter((each) => !Number.isNaN(rate(each)));
  return able.toSorted((a, b) => rate(b) - rate(a)).at(0);
}

/** Contestants of a kind. */
export function ofKind(result: BenchResult, kind: ContestantInfo['kind']): ContestantInfo[] {
  return result.contestants.filter((each) => each.kind === kind);
}
