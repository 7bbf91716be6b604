/** Daemons under our client, without a guest: `virtiofs bench --daemon-only`. */
import { mkdirSync, mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { messageOf, type Progress, removeAtExit } from '../lab/index.ts';
import type { CacheMode } from '../src/client/index.ts';
import { type ClientSample, Contestant, type Limits } from './client-contestant.ts';
import { type ClientRow, fillShare, ROWS } from './client-rows.ts';
import { leaveOut, someoneIsLeft } from './left-out.ts';
import { describeMachine } from './machine-info.ts';
import { findPeer } from './peer.ts';
import type { BenchResult, ContestantInfo, LeftOut, Row } from './results.ts';
import type { RunProgress } from './run.ts';

/** What both daemons are told: the client believes what it is told to believe, whatever the daemon says. */
const DAEMON_CACHE = 'auto';

export interface DaemonOnlyOptions {
  /** Where the shared folder is made: its file system is what is measured. */
  readonly parent: string;
  readonly rounds: number;
  /** Of a run of a row; default a quarter of a second. */
  readonly limits?: Limits;
  /** What the client keeps; default nothing, so that the daemon does all. */
  readonly cache?: CacheMode;
  /** Absent: all. */
  readonly rows?: readonly ClientRow[];
  /** Whether Rust virtiofsd is measured, too. */
  readonly peer: boolean;
  /** Its program; absent: found, or fetched. */
  readonly virtiofsd?: string;
  /** More arguments for it. */
  readonly virtiofsdArgs?: readonly string[];
  /** As it was asked for, for the report. */
  readonly command: string;
  /** Of this project. */
  readonly version: string;
  /** Of what is fetched. */
  readonly progress: Progress;
  readonly onProgress: (progress: RunProgress) => void;
  /** After each round with all that is known by then; the first one, of no counted round, has no samples. */
  readonly onRound?: (result: DaemonOnlyResult) => void;
}

export interface DaemonOnlyRow extends Row {
  readonly samples: Readonly<Record<string, readonly ClientSample[]>>;
}

/** With the client's CPU time, which only this bench has. */
export interface DaemonOnlyResult extends BenchResult {
  readonly rows: readonly DaemonOnlyRow[];
}

interface OpenRow extends DaemonOnlyRow {
  readonly samples: Record<string, ClientSample[]>;
  readonly failures: Record<string, string>;
}

const LIMITS: Limits = { seconds: 0.25, operations: Infinity };
const WARM_UP_SECONDS = 0.5;

interface Opened {
  readonly info: ContestantInfo;
  readonly contestant: Contestant;
}

class Run {
  readonly #options: DaemonOnlyOptions;
  readonly #opened: Opened[] = [];
  readonly #leftOut: LeftOut[] = [];
  readonly #rows: readonly ClientRow[];
  readonly #open: readonly OpenRow[];
  #done = 0;

  constructor(options: DaemonOnlyOptions) {
    this.#options = options;
    this.#rows = options.rows ?? ROWS;
    this.#open = this.#rows.map(({ name, noun, bytes }) => {
      return { suite: 'daemon', name, operation: noun, operationBytes: bytes, samples: {}, counts: {}, failures: {} };
    });
  }

  /** Starts the daemons, on one share. */
  async open(folder: string, share: string): Promise<void> {
    const { cache = 'none', peer, virtiofsd, virtiofsdArgs = [], version, progress } = this.#options;
    const common = { cache: DAEMON_CACHE, writeback: false };
    const add = async (info: ContestantInfo, args: readonly string[], command?: readonly string[]): Promise<void> => {
      const socketPath = join(folder, info.id);
      const { label } = info;
      try {
        const contestant = await Contestant.open({ label, share, socketPath, command, args, client: { cache } });
        this.#opened.push({ info, contestant });
      } catch (error) {
        this.#leftOut.push(leaveOut(label, error, progress));
      }
    };
    await add({ ...common, id: 'virtiofs', label: 'virtiofs', kind: 'virtiofs', version }, []);
    if (peer) {
      const { command, version: theirVersion } = await findPeer(virtiofsd, progress);
      const theirs = { ...common, id: 'virtiofsd', label: 'Rust virtiofsd', kind: 'virtiofsd' } as const;
      // As this project's daemon runs here; what a sandbox keeps away costs nothing for a request.
      const args = ['--sandbox', 'none', ...virtiofsdArgs];
      await add({ ...theirs, version: theirVersion }, args, command);
    }
    someoneIsLeft(this.#opened.length, this.#leftOut);
  }

  async close(): Promise<void> {
    for (const { contestant } of this.#opened) await contestant.close();
  }

  async rounds(share: string): Promise<DaemonOnlyResult> {
    const { command, rounds, onRound, limits = LIMITS } = this.#options;
    const machine = describeMachine(share);
    const contestants = this.#opened.map(({ info }) => info);
    const leftOut = this.#leftOut.length === 0 ? undefined : this.#leftOut;
    const resultOf = (done: number): DaemonOnlyResult => {
      return { format: 1, machine, command, rounds: done, contestants, leftOut, rows: this.#open };
    };
    const warmUp = { ...limits, seconds: Math.max(limits.seconds, WARM_UP_SECONDS) };
    for (let round = 0; round <= rounds; round += 1) {
      // Who comes first has the machine as the row before has left it: each in turn.
      const order = round % 2 === 0 ? this.#opened : this.#opened.toReversed();
      for (const [i, row] of this.#rows.entries()) {
        for (const each of order) this.#measure(each, row, this.#open[i], round, round === 0 ? warmUp : limits);
        // Our client never waits for an event: without this nobody would hear a Ctrl-C.
        await nextTurn();
      }
      onRound?.(resultOf(round));
    }
    return resultOf(rounds);
  }

  #measure({ info, contestant }: Opened, row: ClientRow, open: OpenRow, round: number, limits: Limits): void {
    this.#tell(round, info, row);
    if (open.failures[info.id] !== undefined) return;
    try {
      const sample = contestant.measure(row, limits);
      if (round > 0) (open.samples[info.id] ??= []).push(sample);
    } catch (error) {
      if (contestant.isGone) throw error;
      const [line] = messageOf(error).split('\n');
      open.failures[info.id] = line;
    }
  }

  #tell(round: number, { label }: ContestantInfo, { name }: ClientRow): void {
    const { rounds, onProgress } = this.#options;
    const part = this.#done / (this.#rows.length * this.#opened.length * (rounds + 1));
    this.#done += 1;
    onProgress({ round, rounds, suite: 'daemon', contestant: label, step: name, part });
  }
}

/**
 * Has this project's daemon, and Rust virtiofsd where it is wanted, serve the same folder to our client, and do the
 * same in turn. Who does not start is left out. Throws LabError where there is no virtiofsd, or nobody starts, or a
 * daemon ends.
 */
export async function runDaemonOnly(options: DaemonOnlyOptions): Promise<DaemonOnlyResult> {
  const folder = mkdtempSync(join(options.parent, 'virtiofs-client-'));
  const remove = removeAtExit(folder);
  const run = new Run(options);
  try {
    const share = join(folder, 'share');
    mkdirSync(share);
    fillShare(share);
    await run.open(folder, share);
    return await run.rounds(share);
  } finally {
    await run.close();
    remove();
  }
}
