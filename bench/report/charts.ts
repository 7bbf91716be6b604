/** Which charts the report has. */
import type { BenchResult, ContestantInfo, Row, SuiteName } from '../results.ts';
import { type NinePComparison, ninePComparisons } from './comparisons.ts';
import { CPU, MESSAGES, type Metric, RATE, rowTitle } from './figures.ts';
import { short } from './statistics.ts';
import type { Bar, Chart, Legend, Panel } from './svg.ts';

/** Told apart by those who see colors otherwise, too (after Okabe and Ito). */
const COLORS = { virtiofs: '#0072b2', virtiofsd: '#e69f00', '9p': '#8c959f' } as const;
const ANNOUNCED_COLOR = '#b6bfc8';
const KINDS: readonly (Legend & { readonly kind: ContestantInfo['kind'] })[] = [
  { kind: 'virtiofs', label: 'virtiofs (this project)', color: COLORS.virtiofs },
  { kind: 'virtiofsd', label: 'Rust virtiofsd', color: COLORS.virtiofsd },
  { kind: '9p', label: 'virtio-9p (QEMU)', color: COLORS['9p'] },
];
const COLUMNS = 2;
export const NOT_MEASURED = 'not measured';

/** How a suite is called in titles. */
export const SUITES: Readonly<Record<SuiteName, string>> = {
  smallfile: 'smallfile',
  fio: 'fio',
  everyday: 'Everyday work',
  daemon: 'The daemon alone',
};

/** Ours to virtio-9p, each beside what the announcement reported; undefined when none of that was run. */
export function ratioChart(result: BenchResult): Chart | undefined {
  const comparisons = ninePComparisons(result);
  if (comparisons.length === 0) return undefined;
  return {
    name: 'ratios',
    title: 'How many times as fast as virtio-9p in the same cache mode',
    legend: [
      { label: 'virtiofs, this run (line: middle half of the rounds)', color: COLORS.virtiofs },
      { label: 'virtio-fs as announced in 2018', color: ANNOUNCED_COLOR },
    ],
    panels: comparisons.map(ratioPanel),
    columns: COLUMNS,
    sameScale: true,
  };
}

function ratioPanel({ title, announced, ours, theirs, ratio }: NinePComparison): Panel {
  const text = ratio === undefined ? NOT_MEASURED : `${short(ratio.median)}${ratio.noisy ? '~' : ''}`;
  const middleHalf = ratio === undefined ? undefined : ([ratio.low, ratio.high] as const);
  return {
    title: theirs === undefined ? title : `${title}, to ${theirs.label}`,
    bars: [
      { label: ours?.label ?? 'virtiofs', value: ratio?.median, text, middleHalf, color: COLORS.virtiofs },
      { label: 'announced', value: announced, text: short(announced), color: ANNOUNCED_COLOR },
    ],
  };
}

/** Of each suite: every contestant in every row. */
export function suiteCharts(result: BenchResult, suite: SuiteName): Chart[] {
  const rows = result.rows.filter((row) => row.suite === suite);
  return [RATE, CPU, MESSAGES].flatMap((metric) => {
    const able = rows.filter((row) => result.contestants.some(({ id }) => metric.spread(row, id) !== undefined));
    return able.length === 0 ? [] : [suiteChart(result, suite, metric, able)];
  });
}

function suiteChart({ contestants }: BenchResult, suite: SuiteName, metric: Metric, rows: readonly Row[]): Chart {
  // Where nobody could have a figure there is no bar: nobody sees what 9p's daemon takes.
  const shown = contestants.filter(({ id }) => rows.some((row) => metric.spread(row, id) !== undefined));
  const better = metric === RATE ? 'longer' : 'shorter';
  const unit = metric.unit === undefined || metric === MESSAGES ? '' : ` in ${metric.unit}`;
  return {
    name: `${suite}-${metric.id}`,
    title: `${SUITES[suite]}: ${metric.title}${unit} (${better} is better)`,
    legend: KINDS.filter(({ kind }) => shown.some((each) => each.kind === kind)),
    panels: rows.map((row) => ({
      title: rowTitle(row, metric),
      bars: shown.map((contestant) => contestantBar(row, contestant, metric)),
    })),
    columns: COLUMNS,
    sameScale: false,
  };
}

function contestantBar(row: Row, { id, label, kind }: ContestantInfo, metric: Metric): Bar {
  const color = COLORS[kind];
  const spread = metric.spread(row, id);
  if (spread === undefined) return { label, value: undefined, text: NOT_MEASURED, color };
  const { median, low, high } = spread;
  return { label, value: median, text: short(median), middleHalf: [low, high], color };
}
