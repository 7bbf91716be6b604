/** Who is compared with whom, and what the goals are. */
import type { BenchResult, ContestantInfo, Row, SuiteName } from '../results.ts';
import { cpuUs, fastest, messages, ofKind, rates } from './figures.ts';
import { judge, type Ratio, ratioOf, type Verdict } from './statistics.ts';

/**
 * A ratio of rates, virtio-fs to virtio-9p, that the announcement of virtio-fs reported (RFC, December 2018). It is our
 * goal.
 */
interface Announced {
  readonly title: string;
  readonly suite: SuiteName;
  /** Matches the row's name. */
  readonly row: RegExp;
  /**
   * Modes that cache: 9p loose against a virtio-fs that caches as much; else neither caches. What is in the caches was
   * dropped before each step by the announcement, in any mode.
   */
  readonly cached: boolean;
  /** Files were mapped: with cache=none only a DAX window can do that. */
  readonly mapped: boolean;
  readonly ratio: number;
}

function smallfile(name: string, ratio: number, cachedRatio?: number): Announced[] {
  const common = { suite: 'smallfile', mapped: false } as const;
  const row = new RegExp(`^${name}$`);
  const all: Announced[] = [{ ...common, title: name, row, cached: false, ratio }];
  if (cachedRatio !== undefined) {
    all.push({ ...common, title: `${name}, modes that cache`, row, cached: true, ratio: cachedRatio });
  }
  return all;
}

function mmap(files: string, ratio: number): Announced {
  const title = `fio mmap, ${files}`;
  return { title, suite: 'fio', row: new RegExp(`\\bmmap\\b.*\\b${files}$`), cached: false, mapped: true, ratio };
}

const ANNOUNCED: readonly Announced[] = [
  ...smallfile('create', 3.7),
  ...smallfile('ls-l', 2.3, 8.4),
  ...smallfile('read', 7.1),
  ...smallfile('append', 3.6),
  ...smallfile('rename', 2.4, 3.8),
  mmap('1 file', 4.5),
  mmap('4 files', 3.6),
];

/** A measurement of the announcement, repeated. */
export interface NinePComparison {
  readonly title: string;
  /** What the announcement reported. */
  readonly announced: number;
  /** Absent: not measured. */
  readonly ours?: ContestantInfo;
  readonly theirs?: ContestantInfo;
  readonly ratio?: Ratio;
  readonly verdict?: Verdict;
}

/** Ours against virtio-9p in the same modes: all measurements of the announcement whose row was run. */
export function ninePComparisons(result: BenchResult): NinePComparison[] {
  return ANNOUNCED.flatMap((announced) => {
    const row = rowOf(result, announced);
    return row === undefined ? [] : [compareWithNineP(result, row, announced)];
  });
}

function rowOf({ rows }: BenchResult, { suite, row }: Announced): Row | undefined {
  return rows.find((each) => each.suite === suite && row.test(each.name));
}

function compareWithNineP(result: BenchResult, row: Row, announced: Announced): NinePComparison {
  const { title, ratio: goal, cached } = announced;
  const measured = ({ id }: ContestantInfo): boolean => (row.samples[id] ?? []).length > 0;
  const ours = inModes(ofKind(result, 'virtiofs').filter(measured), announced);
  const theirs = ofKind(result, '9p')
    .filter(measured)
    .find(({ cache }) => cache === (cached ? 'loose' : 'none'));
  const found = { title, announced: goal, ours, theirs };
  if (ours === undefined || theirs === undefined) return found;
  const ratio = ratioOf(rates(row, ours.id), rates(row, theirs.id));
  return ratio === undefined ? found : { ...found, ratio, verdict: judge(ratio, goal, 'more') };
}

/** Ours in the modes that the announcement used, or in those that come next to them. */
function inModes(ours: readonly ContestantInfo[], { cached, mapped }: Announced): ContestantInfo | undefined {
  const able = ours.filter(({ writeback }) => !writeback);
  const caches = cached ? ['always', 'auto'] : ['never'];
  const hasWindow = ({ daxWindow }: ContestantInfo): boolean => daxWindow !== undefined;
  // `false` sorts before `true`: first those with a window where files are mapped, first those without elsewhere.
  const inOrder = able.toSorted((a, b) => Number(hasWindow(a) !== mapped) - Number(hasWindow(b) !== mapped));
  const same = caches.map((mode) => inOrder.find(({ cache }) => cache === mode));
  return same.find((each) => each !== undefined) ?? (mapped ? inOrder.find(hasWindow) : undefined);
}

/** Of ours to theirs, and whether that is what we want. */
export interface Judged {
  readonly ratio: Ratio;
  readonly verdict: Verdict;
}

/** A row of ours against Rust virtiofsd, each in the configuration that did most there. */
export interface PeerComparison {
  readonly row: Row;
  readonly ours: ContestantInfo;
  readonly theirs: ContestantInfo;
  readonly rate: Judged;
  /** Absent where one of them was not measured, or theirs took none. */
  readonly cpu?: Judged;
  readonly messages?: Messages;
}

/** For an operation. */
export interface Messages {
  readonly ours: number;
  readonly theirs: number;
  readonly verdict: Verdict;
}

/** All rows that both have done. */
export function peerComparisons(result: BenchResult): PeerComparison[] {
  return result.rows.flatMap((row) => {
    const ours = fastest(row, ofKind(result, 'virtiofs'));
    const theirs = fastest(row, ofKind(result, 'virtiofsd'));
    if (ours === undefined || theirs === undefined) return [];
    const rate = ratioOf(rates(row, ours.id), rates(row, theirs.id));
    if (rate === undefined) return [];
    const judged = { ratio: rate, verdict: judge(rate, 1, 'more') };
    return [
      { row, ours, theirs, rate: judged, cpu: cpuOf(row, ours, theirs), messages: messagesOf(row, ours, theirs) },
    ];
  });
}

function cpuOf(row: Row, ours: ContestantInfo, theirs: ContestantInfo): Judged | undefined {
  const ratio = ratioOf(cpuUs(row, ours.id), cpuUs(row, theirs.id));
  return ratio === undefined ? undefined : { ratio, verdict: judge(ratio, 1, 'less') };
}

/** Counted, not timed: there is no noise. */
export function messagesOf(row: Row, a: ContestantInfo, b: ContestantInfo): Messages | undefined {
  const [ours, theirs] = [messages(row, a.id), messages(row, b.id)];
  if (ours === undefined || theirs === undefined) return undefined;
  return { ours, theirs, verdict: { met: ours <= theirs, clear: true } };
}

/** Ours and theirs with the same caches: neither has a DAX window. */
export interface SameMode {
  readonly ours: ContestantInfo;
  readonly theirs: ContestantInfo;
}

/** Each of ours whose mode Rust virtiofsd was measured in, too. */
export function sameModes(result: BenchResult): SameMode[] {
  const theirs = ofKind(result, 'virtiofsd').filter(({ daxWindow }) => daxWindow === undefined);
  return ofKind(result, 'virtiofs').flatMap((ours) => {
    if (ours.daxWindow !== undefined) return [];
    const other = theirs.find(({ cache, writeback }) => cache === ours.cache && writeback === ours.writeback);
    return other === undefined ? [] : [{ ours, theirs: other }];
  });
}

/** What several threads of a program, or several programs, do at once. */
const isParallel = ({ suite, name }: Row): boolean => suite === 'smallfile' || name.endsWith('4 files');

/** What four queues and more are to gain against one on parallel work. */
export const QUEUES_GOAL = 1.3;

/** Ours with several queues in a row of parallel work, against Rust virtiofsd in the same mode with its one. */
export function queueComparisons(result: BenchResult): { readonly row: Row; readonly ratio: Ratio }[] {
  const several = sameModes(result).filter(({ ours }) => (ours.queues ?? 1) > 1);
  return several.flatMap(({ ours, theirs }) =>
    result.rows.filter(isParallel).flatMap((row) => {
      const ratio = ratioOf(rates(row, ours.id), rates(row, theirs.id));
      return ratio === undefined ? [] : [{ row, ratio }];
    }),
  );
}
