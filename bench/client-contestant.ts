/** A daemon with our client on it: what operations take, in time and in each process's CPU time. */
import { type Daemon, messageOf, startDaemon } from '../lab/index.ts';
import { type ConnectOptions, mount, openTransport } from '../src/client/connect.ts';
import { all, finished, type OpenFile, type Task, type Volume } from '../src/client/index.ts';
import { type ClientRow, DATA, DATA_FLAGS, type Operate } from './client-rows.ts';
import type { Sample } from './results.ts';
import { cpuSeconds } from './watch.ts';

export interface Limits {
  /** Of one run. */
  readonly seconds: number;
  readonly operations: number;
}

/** One run of a row. CPU time is that of all threads. */
export interface ClientSample extends Sample {
  readonly daemonCpuSeconds: number;
  readonly clientCpuSeconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

export interface ContestantOptions {
  /** For errors. */
  readonly label: string;
  readonly share: string;
  readonly socketPath: string;
  /** Absent: this project's. */
  readonly command?: readonly string[];
  readonly args: readonly string[];
  readonly client: ConnectOptions;
}

export class Contestant {
  readonly label: string;
  readonly #share: string;
  readonly #daemon: Daemon;
  readonly #volume: Volume;
  readonly #file: OpenFile;

  private constructor({ label, share }: ContestantOptions, daemon: Daemon, volume: Volume) {
    this.label = label;
    this.#share = share;
    this.#daemon = daemon;
    this.#volume = volume;
    this.#file = this.#run(volume.open(DATA, DATA_FLAGS));
  }

  static async open(options: ContestantOptions): Promise<Contestant> {
    const { share, socketPath, command, args, client } = options;
    const daemon = await startDaemon({ sharedDir: share, socketPaths: [socketPath], command, args, cache: 'auto' });
    try {
      const transport = openTransport(socketPath, client);
      const volume = finished(mount(transport, client), () => transport.idle());
      return new Contestant(options, daemon, volume);
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  }

  async close(): Promise<void> {
    try {
      this.#run(this.#volume.close());
    } finally {
      await this.#daemon.stop();
    }
  }

  #run<T>(task: Task<T>): T {
    try {
      return finished(task, () => this.#volume.idle());
    } catch (cause) {
      throw new Error(`${this.label}: ${messageOf(cause)}; it said:\n${this.#daemon.output}`, { cause });
    }
  }

  /** Does operations of a row until a limit is reached, and nothing else. */
  measure(row: ClientRow, limits: Limits): ClientSample {
    row.prepare?.(this.#share);
    const operate = row.operation(this.#volume, this.#file);
    const most = Math.min(row.most, limits.operations);
    const latencies: number[] = [];
    const daemonBefore = cpuSeconds(this.#daemon);
    const clientBefore = process.cpuUsage();
    const began = performance.now();
    const turns = { next: 0, most, end: began + limits.seconds * 1000 };
    this.#run(all(Array.from({ length: row.inFlight }, () => lane(operate, turns, latencies))));
    const seconds = (performance.now() - began) / 1000;
    const client = process.cpuUsage(clientBefore);
    const daemonCpuSeconds = cpuSeconds(this.#daemon) - daemonBefore;
    const operations = latencies.length;
    const sorted = Float64Array.from(latencies).toSorted();
    return {
      operations,
      seconds,
      daemonCpuSeconds,
      clientCpuSeconds: (client.user + client.system) / 1e6,
      p50Us: sorted[operations >> 1] * 1000,
      p99Us: sorted[Math.floor(operations * 0.99)] * 1000,
    };
  }

  /** The daemon has ended by itself. */
  get isGone(): boolean {
    return this.#daemon.ended !== undefined;
  }
}

interface Turns {
  next: number;
  readonly most: number;
  readonly end: number;
}

function* lane(operate: Operate, turns: Turns, latencies: number[]): Task<void> {
  for (let now = performance.now(); turns.next < turns.most && now < turns.end; ) {
    const i = turns.next;
    turns.next += 1;
    yield* operate(i);
    const then = performance.now();
    latencies.push(then - now);
    now = then;
  }
}
