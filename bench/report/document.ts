/** What the report says, in parts that Markdown and HTML write in their own ways. */
import { caveatOf } from '../machine-info.ts';
import type { BenchResult, ContestantInfo, MachineInfo, Row, SuiteName } from '../results.ts';
import { NOT_MEASURED, ratioChart, SUITES, suiteCharts } from './charts.ts';
import {
  messagesOf,
  type NinePComparison,
  ninePComparisons,
  type PeerComparison,
  peerComparisons,
  queueComparisons,
  QUEUES_GOAL,
  type SameMode,
  sameModes,
} from './comparisons.ts';
import { cpuUs, formatSpread, type Metric, METRICS, RATE, rates, rowTitle } from './figures.ts';
import { formatRatio, judge, ratioOf, short, type Verdict } from './statistics.ts';
import type { Chart } from './svg.ts';

export interface Table {
  readonly kind: 'table';
  readonly head: readonly string[];
  /** As many cells in each as the head has: the first names the row. */
  readonly rows: readonly (readonly string[])[];
}

export type Part =
  | { readonly kind: 'heading'; readonly level: 1 | 2 | 3; readonly text: string }
  | { readonly kind: 'paragraph'; readonly text: string }
  | { readonly kind: 'list'; readonly items: readonly string[] }
  | { readonly kind: 'chart'; readonly chart: Chart }
  | Table;

const NONE = '-';
const SUITE_NAMES: readonly SuiteName[] = ['smallfile', 'fio', 'everyday', 'daemon'];

const EMULATED =
  'This machine gave the guests no KVM: QEMU emulated their CPUs, and that takes most of the time whoever serves the ' +
  'files. Rates are nearer to each other than they would be with KVM. The comparison that counts here is the ' +
  "daemon's: its CPU time and the messages for an operation.";
const READING =
  'Figures are medians of the rounds, with the middle half of the rounds in parentheses. A ratio is that of two ' +
  'contestants in the same round. The mark ~ says: too noisy to tell apart, because the middle half holds the number ' +
  'that is compared with (1 beside a ratio, the goal beside a verdict), or because there were fewer than 3 rounds.';
const PEER =
  'Rate and CPU time of the daemon for an operation as ratios, ours to theirs; messages for an operation as ours : ' +
  'theirs. Each is in the configuration that had the highest rate in that row. Noise favors whoever had more of them ' +
  'to choose from; in the tables by mode nothing was chosen.';
const SAME_MODE =
  'Each of ours to Rust virtiofsd with the same caches. Goals: a rate of 1 or more, CPU time of 1 or less.';
const NINE_P =
  'In the cache modes of the announcement of virtio-fs (December 2018): neither caches, or both do where it says so. ' +
  'The goal is the ratio that was announced.';

const heading = (level: 1 | 2 | 3, text: string): Part => ({ kind: 'heading', level, text });
const paragraph = (text: string): Part => ({ kind: 'paragraph', text });

/** The whole report, in its order. */
export function documentOf(result: BenchResult): Part[] {
  const { machine, command, rounds } = result;
  const chart = ratioChart(result);
  return [
    heading(1, 'virtiofs bench'),
    paragraph(`${machine.date}, ${counted(rounds, 'round')}: ${command}`),
    heading(2, 'Machine'),
    { kind: 'list', items: machineLines(machine) },
    ...[machine.guest?.accelerator === 'tcg' ? EMULATED : undefined, caveatOf(machine.fileSystem)]
      .filter((caveat) => caveat !== undefined)
      .map(paragraph),
    paragraph(READING),
    ...goals(result),
    ...(chart === undefined ? [] : [{ kind: 'chart', chart } as const]),
    heading(2, 'Contestants'),
    contestantTable(result.contestants),
    ...leftOutParts(result),
    ...SUITE_NAMES.flatMap((suite) => suiteParts(result, suite)),
    ...ninePParts(result),
    ...peerParts(result),
    ...sameModeParts(result),
  ];
}

/** Charts of the report, in their order. */
export function chartsOf(parts: readonly Part[]): Chart[] {
  return parts.flatMap((part) => (part.kind === 'chart' ? [part.chart] : []));
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function machineLines({ cpuModel, cores, memoryMiB, kernel, fileSystem, node, guest }: MachineInfo): string[] {
  const lines = [
    `Host: ${counted(cores, 'core')} (${cpuModel}), ${memoryMiB} MiB, Linux ${kernel}, Node.js ${node}`,
    `Shared folder: on ${fileSystem}`,
  ];
  if (guest === undefined) return [...lines, 'Guest: none, a client in TypeScript drove the daemons'];
  const { accelerator, qemu, kernel: guestKernel, cpus, memoryMiB: guestMiB } = guest;
  const virtual = `${counted(cpus, 'CPU')} (${accelerator === 'kvm' ? 'KVM' : 'TCG, without KVM'})`;
  return [...lines, `Guest: ${virtual}, ${guestMiB} MiB, Linux ${guestKernel}, QEMU ${qemu}`];
}

function contestantTable(contestants: readonly ContestantInfo[]): Table {
  const rows = contestants.map(({ label, cache, writeback, daxWindow = NONE, version }) => {
    return [label, cache, writeback ? 'yes' : NONE, daxWindow, version];
  });
  return { kind: 'table', head: ['', 'cache', 'writeback', 'DAX window', 'version'], rows };
}

function leftOutParts({ leftOut = [] }: BenchResult): Part[] {
  if (leftOut.length === 0) return [];
  return [
    heading(3, 'Could not be started'),
    { kind: 'list', items: leftOut.map(({ label, why }) => `${label}: ${why}`) },
  ];
}

/** How many goals are met. */
function goals(result: BenchResult): Part[] {
  const nineP = ninePComparisons(result);
  const peers = peerComparisons(result);
  const verdicts = {
    'Rate against virtio-9p, at least as announced': nineP.map(({ verdict }) => verdict),
    'Rate against Rust virtiofsd, each at its best': peers.map(({ rate }) => rate.verdict),
    'CPU time of the daemon against that of Rust virtiofsd': peers.map(({ cpu }) => cpu?.verdict),
    'Messages against Rust virtiofsd': peers.map((each) => each.messages?.verdict),
    'Rate against Rust virtiofsd in the same mode': sameModeVerdicts(result, rates, 'more'),
    'CPU time of the daemon in the same mode': sameModeVerdicts(result, cpuUs, 'less'),
    'Messages in the same mode': sameModes(result).flatMap(({ ours, theirs }) =>
      result.rows.map((row) => messagesOf(row, ours, theirs)?.verdict),
    ),
    [`Rate with several queues against its one on parallel work, at least ${QUEUES_GOAL}`]: queueComparisons(
      result,
    ).map(({ ratio }) => judge(ratio, QUEUES_GOAL, 'more')),
  };
  const items = Object.entries(verdicts).flatMap(([what, all]) => goalLine(what, all));
  return items.length === 0 ? [] : [heading(2, 'Goals'), { kind: 'list', items }];
}

function sameModeVerdicts(result: BenchResult, figures: typeof rates, better: 'more' | 'less'): Verdict[] {
  const ratios = sameModes(result).flatMap(({ ours, theirs }) =>
    result.rows.map((row) => ratioOf(figures(row, ours.id), figures(row, theirs.id))),
  );
  return ratios.filter((ratio) => ratio !== undefined).map((ratio) => judge(ratio, 1, better));
}

function goalLine(what: string, verdicts: readonly (Verdict | undefined)[]): string[] {
  const judged = verdicts.filter((each) => each !== undefined);
  if (judged.length === 0) return [];
  const unclear = judged.filter(({ clear }) => !clear).length;
  const met = judged.filter((each) => each.clear && each.met).length;
  const noise = unclear === 0 ? '' : `, ${unclear} too noisy to tell (~)`;
  return [`${what}: ${met} met, ${judged.length - met - unclear} missed${noise}`];
}

function formatVerdict(verdict: Verdict | undefined): string {
  if (verdict === undefined) return NONE;
  return `${verdict.met ? 'met' : 'missed'}${verdict.clear ? '' : ' ~'}`;
}

function suiteParts(result: BenchResult, suite: SuiteName): Part[] {
  const rows = result.rows.filter((row) => row.suite === suite);
  if (rows.length === 0) return [];
  return [
    heading(2, SUITES[suite]),
    ...suiteCharts(result, suite).map((chart) => ({ kind: 'chart', chart }) as const),
    ...METRICS.flatMap((metric) => metricParts(result.contestants, rows, metric)),
    ...failureParts(result.contestants, rows),
  ];
}

/** A table of a metric: a row for each workload, a column for each contestant that has a figure. */
function metricParts(contestants: readonly ContestantInfo[], all: readonly Row[], metric: Metric): Part[] {
  const has = (row: Row, { id }: ContestantInfo): boolean => metric.spread(row, id) !== undefined;
  const shown = contestants.filter((each) => all.some((row) => has(row, each)));
  const rows = all.filter((row) => shown.some((each) => has(row, each)));
  if (shown.length === 0) return [];
  const cell = (row: Row, { id }: ContestantInfo): string => {
    const spread = metric.spread(row, id);
    return spread === undefined ? NONE : formatSpread(spread);
  };
  return [
    heading(3, metric === RATE || metric.unit === 'messages' ? metric.title : `${metric.title} (${metric.unit})`),
    {
      kind: 'table',
      head: ['', ...shown.map(({ label }) => label)],
      rows: rows.map((row) => [rowTitle(row, metric), ...shown.map((each) => cell(row, each))]),
    },
  ];
}

/** Who could not do what, and why: each reason of a contestant once. */
function failureParts(contestants: readonly ContestantInfo[], rows: readonly Row[]): Part[] {
  const items = contestants.flatMap(({ id, label }) => {
    const names = new Map<string, string[]>();
    for (const { name, failures } of rows) {
      const why = failures[id];
      if (why !== undefined) names.set(why, [...(names.get(why) ?? []), name]);
    }
    return [...names].map(([why, which]) => `${label}: ${which.join('; ')}: ${why}`);
  });
  return items.length === 0 ? [] : [heading(3, 'Could not be measured'), { kind: 'list', items }];
}

function ninePParts(result: BenchResult): Part[] {
  const comparisons = ninePComparisons(result);
  if (comparisons.length === 0) return [];
  const cells = ({ title, announced, ours, theirs, ratio, verdict }: NinePComparison): string[] => [
    title,
    ours?.label ?? NOT_MEASURED,
    theirs?.label ?? NOT_MEASURED,
    ratio === undefined ? NONE : formatRatio(ratio),
    short(announced),
    formatVerdict(verdict),
  ];
  const head = ['', 'ours', '9p', 'ours : 9p', 'announced', 'goal'];
  const table: Table = { kind: 'table', head, rows: comparisons.map(cells) };
  return [heading(2, 'Rate against virtio-9p'), paragraph(NINE_P), table];
}

function peerParts(result: BenchResult): Part[] {
  const comparisons = peerComparisons(result);
  if (comparisons.length === 0) return [];
  const cells = ({ row, ours, theirs, rate, cpu, messages }: PeerComparison): string[] => [
    uniqueName(result, row),
    ours.label,
    theirs.label,
    formatRatio(rate.ratio),
    formatVerdict(rate.verdict),
    cpu === undefined ? NONE : formatRatio(cpu.ratio),
    formatVerdict(cpu?.verdict),
    messages === undefined ? NONE : `${short(messages.ours)} : ${short(messages.theirs)}`,
    formatVerdict(messages?.verdict),
  ];
  const head = ['', 'ours', 'theirs', 'rate', '1 or more', 'CPU', '1 or less', 'messages', 'no more'];
  const table: Table = { kind: 'table', head, rows: comparisons.map(cells) };
  return [heading(2, 'Against Rust virtiofsd'), paragraph(PEER), table];
}

/** With its suite where two suites have a row of that name. */
function uniqueName({ rows }: BenchResult, { suite, name }: Row): string {
  return rows.some((each) => each.name === name && each.suite !== suite) ? `${suite}: ${name}` : name;
}

/** Ours to theirs in each mode that both have: rates, the daemon's CPU time, and messages. */
function sameModeParts(result: BenchResult): Part[] {
  const modes = sameModes(result);
  const tableOf = (title: string, cell: (row: Row, mode: SameMode) => string): Part[] => {
    const rows = result.rows
      .map((row) => [uniqueName(result, row), ...modes.map((mode) => cell(row, mode))])
      .filter(([, ...cells]) => cells.some((each) => each !== NONE));
    if (rows.length === 0) return [];
    return [heading(3, title), { kind: 'table', head: ['', ...modes.map(({ ours }) => ours.label)], rows }];
  };
  const ratioCell = (figures: typeof rates) => {
    return (row: Row, { ours, theirs }: SameMode): string => {
      const ratio = ratioOf(figures(row, ours.id), figures(row, theirs.id));
      return ratio === undefined ? NONE : formatRatio(ratio);
    };
  };
  const messagesCell = (row: Row, { ours, theirs }: SameMode): string => {
    const both = messagesOf(row, ours, theirs);
    return both === undefined ? NONE : `${short(both.ours)} : ${short(both.theirs)}`;
  };
  const tables = [
    ...tableOf('Rate', ratioCell(rates)),
    ...tableOf('CPU time of the daemon for an operation', ratioCell(cpuUs)),
    ...tableOf('Messages for an operation, ours : theirs', messagesCell),
  ];
  if (tables.length === 0) return [];
  return [heading(2, 'Against Rust virtiofsd in the same mode'), paragraph(SAME_MODE), ...tables];
}
