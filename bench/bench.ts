/** Guests, contestants and suites together: what `virtiofs bench` runs. */
import { UserError } from '../src/core/index.ts';
import type { CpioEntry, Progress } from '../lab/index.ts';
import { Contest } from './contest.ts';
import { describeMachine } from './machine-info.ts';
import { findPeer } from './peer.ts';
import { PLANS, type Plan } from './plans.ts';
import type { BenchResult, ContestantInfo, Row } from './results.ts';
import { fillFolders, runSuites, type RunProgress } from './run.ts';
import type { Suite } from './workload.ts';

export interface BenchOptions {
  /** Of PLANS; see `plansOf`. */
  readonly plans: readonly Plan[];
  readonly suites: readonly Suite[];
  /** Timed ones; one that counts comes before them. */
  readonly rounds: number;
  /** The program of Rust virtiofsd; absent: found, or fetched. */
  readonly virtiofsd?: string;
  /** Where the shared folder is made: its file system is what is measured. */
  readonly parent: string;
  /** As it was asked for, for the report. */
  readonly command: string;
  /** Of this project. */
  readonly version: string;
  readonly progress: Progress;
  readonly onProgress: (progress: RunProgress) => void;
  /** After each round with all that is known by then; the first one, of no timed round, has counts only. */
  readonly onRound: (result: BenchResult) => void;
}

const GUEST = { memoryMiB: 2048, cpus: 4 };

/** Contestants by id, and those of the peers that are wanted. Throws UserError. */
export function plansOf(ids: readonly string[], peers: readonly string[]): Plan[] {
  const unknown = ids.find((id) => !PLANS.some((plan) => plan.id === id));
  if (unknown !== undefined) {
    throw new UserError(`There is no contestant ${unknown}: there are ${PLANS.map(({ id }) => id).join(', ')}.`);
  }
  const plans = PLANS.filter(({ id, kind }) => ids.includes(id) && (kind === 'virtiofs' || peers.includes(kind)));
  if (plans.length === 0) {
    throw new UserError(
      `Of the contestants ${ids.join(', ')} none is left with the peers ${peers.join(', ') || 'none'}.`,
    );
  }
  return plans;
}

/** Boots, measures, ends all; leaves out who cannot be started. Throws LabError where a guest or a daemon fails. */
export async function runBench(options: BenchOptions): Promise<BenchResult> {
  const { plans, suites, rounds, parent, command, version, progress, onProgress, onRound } = options;
  const withPeer = plans.some(({ kind }) => kind === 'virtiofsd');
  const peer = withPeer ? await findPeer(options.virtiofsd, progress) : undefined;
  const contest = await Contest.open({
    plans,
    peer,
    parent,
    packages: [...new Set(suites.flatMap(({ packages }) => packages))],
    machine: { ...GUEST, node: suites.some(({ node }) => node), files: await filesOf(suites, progress) },
    fill: (folder) =>
      fillFolders(
        folder,
        suites,
        plans.map(({ id }) => id),
      ),
    progress,
  });
  try {
    const [{ vm }] = contest.contestants;
    const machine = describeMachine(contest.sharedDir);
    const kernel = await vm.sh('uname -r');
    const guest = { ...GUEST, accelerator: vm.accel, qemu: vm.qemuVersion, kernel };
    const versions = { '9p': vm.qemuVersion, virtiofs: version, virtiofsd: peer?.version ?? '' };
    const contestants = contest.contestants.map(
      ({ plan }): ContestantInfo => ({ ...plan, version: versions[plan.kind] }),
    );
    const leftOut = contest.leftOut.length === 0 ? undefined : contest.leftOut;
    const resultOf = (rows: readonly Row[], done: number): BenchResult => {
      return { format: 1, machine: { ...machine, guest }, command, rounds: done, contestants, leftOut, rows };
    };
    const rows = await runSuites(contest, {
      suites,
      rounds,
      onProgress,
      onRound: (known, done) => onRound(resultOf(known, done)),
    });
    return resultOf(rows, rounds);
  } finally {
    await contest.close();
  }
}

async function filesOf(suites: readonly Suite[], progress: Progress): Promise<CpioEntry[]> {
  const files: CpioEntry[] = [];
  for (const suite of suites) files.push(...((await suite.files?.({ progress })) ?? []));
  return files;
}
