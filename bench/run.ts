/** Rounds: each contestant does each step of each suite in each of them. */
import { cpSync, linkSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { messageOf } from '../lab/index.ts';
import type { Contest, Contestant } from './contest.ts';
import type { Counts, Row, Sample } from './results.ts';
import { countMessages, cpuSeconds, guestUse } from './watch.ts';
import type { Outcome, Place, Step, Suite } from './workload.ts';

/** How far it is. */
export interface RunProgress {
  /** 0: the one that is not timed. */
  readonly round: number;
  readonly rounds: number;
  readonly suite: string;
  readonly contestant: string;
  readonly step: string;
  /** 0 to 1. */
  readonly part: number;
}

export interface RunOptions {
  readonly suites: readonly Suite[];
  /** Timed ones; the one before them counts messages, and warms all up. */
  readonly rounds: number;
  readonly onProgress: (progress: RunProgress) => void;
  /** After each round with all that is known by then: how many timed ones there were, 0 after the one that counts. */
  readonly onRound: (rows: readonly Row[], rounds: number) => void;
}

/** Whom it is about. */
type Guests = Pick<Contest, 'contestants' | 'sharedDir'>;

const DROP_CACHES = 'sync; echo 3 > /proc/sys/vm/drop_caches';
const WRITE_BACK = 'sync';
const LIMIT_MS = 600_000;

interface OpenRow extends Row {
  readonly samples: Record<string, Sample[]>;
  readonly counts: Record<string, Counts>;
  readonly failures: Record<string, string>;
}

/** A folder for each suite, and in it one for each contestant: what one leaves is not in another's way. */
function folderOf(root: string, suite: Suite, { plan }: Contestant): string {
  return join(root, suite.name, plan.id);
}

/** Fills the shared folder with what suites need: each contestant has it for itself, or a link of its own to it. */
export async function fillFolders(sharedDir: string, suites: readonly Suite[], ids: readonly string[]): Promise<void> {
  for (const suite of suites) {
    const [first, ...others] = ids.map((id) => join(sharedDir, suite.name, id));
    mkdirSync(first, { recursive: true });
    await suite.prepare?.(first);
    for (const other of others) {
      if (suite.sharesFiles) linkFiles(first, other);
      else cpSync(first, other, { recursive: true, verbatimSymlinks: true, mode: 0 });
    }
  }
}

function linkFiles(from: string, to: string): void {
  mkdirSync(to);
  for (const name of readdirSync(from)) linkSync(join(from, name), join(to, name));
}

class Run {
  readonly rows: OpenRow[];
  readonly #contest: Guests;
  readonly #options: RunOptions;
  #done = 0;

  constructor(contest: Guests, options: RunOptions) {
    this.#contest = contest;
    this.#options = options;
    this.rows = options.suites.flatMap(({ name, steps }) =>
      steps.map(({ name: step, operation, operationBytes }) => {
        return { suite: name, name: step, operation, operationBytes, samples: {}, counts: {}, failures: {} };
      }),
    );
  }

  async all(): Promise<void> {
    const { rounds, suites, onRound } = this.#options;
    const { contestants } = this.#contest;
    for (const vm of new Set(contestants.map((each) => each.vm))) await countMessages(vm);
    for (let round = 0; round <= rounds; round += 1) {
      const first = round % contestants.length;
      // Who comes first has the machine as the suite before has left it: each in turn.
      const order = [...contestants.slice(first), ...contestants.slice(0, first)];
      for (const suite of suites) for (const each of order) await this.#suite(round, suite, each);
      onRound(this.rows, round);
    }
  }

  async #suite(round: number, suite: Suite, contestant: Contestant): Promise<void> {
    const { vm, mountPoint } = contestant;
    const hostFolder = folderOf(this.#contest.sharedDir, suite, contestant);
    const place = { vm, folder: folderOf(mountPoint, suite, contestant), hostFolder };
    for (const step of suite.steps) {
      this.#tell(round, suite, contestant, step);
      const row = this.rows.find(({ suite: name, name: rowName }) => name === suite.name && rowName === step.name);
      if (row === undefined || row.failures[contestant.plan.id] !== undefined) continue;
      try {
        if (round === 0) row.counts[contestant.plan.id] = await this.#count(step, place);
        else (row.samples[contestant.plan.id] ??= []).push(await this.#time(step, place, contestant));
      } catch (error) {
        const { daemon } = contestant;
        if (daemon?.ended !== undefined) throw error;
        const [line] = messageOf(error).split('\n');
        row.failures[contestant.plan.id] = line;
      }
    }
  }

  #tell(round: number, suite: Suite, contestant: Contestant, step: Step): void {
    const { rounds, suites, onProgress } = this.#options;
    const steps = suites.reduce((sum, each) => sum + each.steps.length, 0);
    const part = this.#done / (steps * this.#contest.contestants.length * (rounds + 1));
    this.#done += 1;
    onProgress({ round, rounds, suite: suite.name, contestant: contestant.plan.label, step: step.name, part });
  }

  async #ready(step: Step, place: Place): Promise<void> {
    await step.before?.(place);
    await place.vm.sh(step.cached === true ? WRITE_BACK : DROP_CACHES, { timeoutMs: LIMIT_MS });
  }

  async #count(step: Step, place: Place): Promise<Counts> {
    await this.#ready(step, place);
    const before = await guestUse(place.vm);
    const { operations } = await step.run(place);
    const after = await guestUse(place.vm);
    const guestMemoryBytes = Math.max(0, after.memoryBytes - before.memoryBytes);
    return { operations, messages: after.messages - before.messages, guestMemoryBytes };
  }

  async #time(step: Step, place: Place, { daemon }: Contestant): Promise<Sample> {
    await this.#ready(step, place);
    const cpuBefore = daemon === undefined ? 0 : cpuSeconds(daemon);
    const { operations, seconds }: Outcome = await step.run(place);
    if (daemon === undefined) return { operations, seconds };
    return { operations, seconds, daemonCpuSeconds: cpuSeconds(daemon) - cpuBefore };
  }
}

/** Has all contestants do all suites. Throws where a guest or a daemon has gone. */
export async function runSuites(contest: Guests, options: RunOptions): Promise<readonly Row[]> {
  const run = new Run(contest, options);
  await run.all();
  return run.rows;
}
