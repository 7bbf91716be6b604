/** The daemon as users have it, for tests: `virtiofs serve` in a process of its own, with a temporary directory. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  rmSync,
  watch,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
const READY = 'Waiting for vhost-user socket connection...\n';
const END_LIMIT_MS = 10_000;
/** No test waits longer for anything. */
const SILENCE_LIMIT_MS = 30_000;

export interface DaemonEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface DaemonOptions {
  /** How many sockets it serves, in a folder of its own. */
  readonly sockets?: number;
  /** These sockets instead. */
  readonly socketPaths?: readonly string[];
  /** This directory, which stays, instead of a temporary one. */
  readonly share?: string;
  readonly args?: readonly string[];
  /** A program of the test that takes the same arguments, instead of `virtiofs`. */
  readonly program?: string;
  /** How many descriptors the process may have. */
  readonly descriptorLimit?: number;
  /** A program and its options, which start the daemon. */
  readonly wrapper?: readonly string[];
}

export class TestDaemon {
  readonly share: string;
  readonly socketPaths: readonly string[];
  readonly process: ChildProcess;
  /** All that the daemon has said on stderr. */
  said = '';
  /** Resolves when the process has ended. */
  readonly ended: Promise<DaemonEnd>;
  readonly #folder: string;
  readonly #listeners: (() => void)[] = [];
  readonly #watchdog: Watchdog;

  private constructor(options: DaemonOptions) {
    this.#folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
    this.share = options.share ?? mkdtempSync(join(this.#folder, 'share-'));
    const made = Array.from({ length: options.sockets ?? 1 }, (_, i) => join(this.#folder, `${i}.sock`));
    this.socketPaths = options.socketPaths ?? made;
    const sockets = this.socketPaths.flatMap((path) => ['--socket-path', path]);
    // Most tests are over before a warm-up is, which would only take the processors from others.
    const cold = options.program === undefined ? ['--no-warm-up'] : [];
    const args = ['serve', '--shared-dir', this.share, ...sockets, ...cold, ...(options.args ?? [])];
    const command = [process.execPath, '--disable-warning=ExperimentalWarning', options.program ?? MAIN, ...args];
    const limit = options.descriptorLimit;
    const shell = limit === undefined ? [] : ['/bin/sh', '-c', `ulimit -n ${limit} && exec "$@"`, 'sh'];
    const [program, ...rest] = [...(options.wrapper ?? []), ...shell, ...command];
    this.process = spawn(program, rest, { stdio: ['ignore', 'inherit', 'pipe'] });
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.said += text;
      for (const listener of this.#listeners.splice(0)) listener();
    });
    this.#watchdog = new Watchdog(this.process.pid ?? 0);
    this.ended = once(this.process, 'close').then(([code, signal]) => {
      this.#watchdog.stop();
      return { code, signal };
    });
  }

  /** Starts a daemon and waits until it takes connections. */
  static async start(options: DaemonOptions = {}): Promise<TestDaemon> {
    const daemon = TestDaemon.launch(options);
    await daemon.hears(READY);
    return daemon;
  }

  /** Starts a daemon that may not come up. */
  static launch(options: DaemonOptions): TestDaemon {
    return new TestDaemon(options);
  }

  get socketPath(): string {
    return this.socketPaths[0];
  }

  /** A test that starts, or a step of a long one: from now on it is given its full time. */
  watched(): void {
    this.#watchdog.reset();
  }

  /** Waits until the daemon has said `text`, from `from` on. Rejects when it ends first. */
  async hears(text: string, from = 0): Promise<void> {
    while (!this.said.includes(text, from)) {
      const more = new Promise<boolean>((resolve) => this.#listeners.push(() => resolve(true)));
      if (!(await Promise.race([more, this.ended.then(() => false)]))) {
        if (this.said.includes(text, from)) return;
        throw new Error(`the daemon ended without saying '${text}'; it said:\n${this.said}`);
      }
    }
  }

  /** What the daemon knows and holds now, by name. */
  async gauges(): Promise<Record<string, number>> {
    const from = this.said.length;
    this.process.kill('SIGUSR1');
    await this.hears('handles ', from);
    await this.hears('\n', this.said.indexOf('handles ', from));
    const line = this.said.slice(from).match(/^inodes .*$/m)?.[0] ?? '';
    return Object.fromEntries(line.split(', ').map((each) => [each.split(' ')[0], Number(each.split(' ')[1])]));
  }

  /** Waits until a socket in the daemon's own folder is gone: the session on it has ended. */
  gone(socketPath: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const watcher = watch(this.#folder, () => look());
      const deadline = setTimeout(() => end(() => reject(new Error(`${socketPath} is still there`))), END_LIMIT_MS);
      const end = (settle: () => void): void => {
        clearTimeout(deadline);
        watcher.close();
        settle();
      };
      const look = (): void => {
        if (!existsSync(socketPath)) end(resolve);
      };
      look();
    });
  }

  /** Descriptors that the process has open. */
  descriptors(): number {
    return readdirSync(`/proc/${this.process.pid}/fd`).length;
  }

  /** Those of what is or was in the share. The others come with threads as well, which start in their own time. */
  openFiles(): number {
    const folder = `/proc/${this.process.pid}/fd`;
    const share = realpathSync(this.share);
    return readdirSync(folder).filter((fd) => linkOf(`${folder}/${fd}`).startsWith(share)).length;
  }

  /** Waits for the process to end by itself; kills it when it does not. */
  async awaitEnd(limitMs = END_LIMIT_MS): Promise<DaemonEnd> {
    const deadline = setTimeout(() => this.process.kill('SIGKILL'), limitMs);
    const end = await this.ended;
    clearTimeout(deadline);
    return end;
  }

  /** Ends the daemon and removes its folders. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode === null) this.process.kill('SIGTERM');
    await this.awaitEnd();
    removeTree(this.#folder);
  }
}

/** Where a symlink leads; '' when it has gone meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** Removes a folder or a file, whatever a guest has made of it; what is not there is none of its trouble. */
export function removeTree(path: string | Buffer): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory()) openFolders(path);
  rmSync(path, { recursive: true, force: true });
}

/** A guest may have taken all permissions from a directory; an ordinary user then cannot empty it. */
function openFolders(folder: string | Buffer): void {
  chmodSync(folder, 0o700);
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: 'buffer' })) {
    // As bytes: names need not be UTF-8.
    if (entry.isDirectory()) openFolders(Buffer.concat([Buffer.from(folder), Buffer.from('/'), entry.name]));
  }
}

/** One daemon for all tests of a file; after a test that failed the next one gets another. */
export function commonDaemon(options: DaemonOptions): () => TestDaemon {
  let daemon: TestDaemon | undefined;
  beforeEach(async () => {
    daemon?.watched();
    daemon ??= await TestDaemon.start(options);
  });
  afterEach(async (t) => {
    if ('passed' in t && t.passed) return;
    await daemon?.[Symbol.asyncDispose]();
    daemon = undefined;
  });
  after(() => daemon?.[Symbol.asyncDispose]());
  return () => {
    if (daemon === undefined) throw new Error('the daemon has not been started');
    return daemon;
  };
}

/**
 * Kills a process when nobody says for a while that all is well. A thread of its own: a guest waits for answers in
 * system calls, in which no timer of its thread runs, and a daemon that does not answer would keep it there for ever.
 */
class Watchdog {
  readonly #signs = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker: Worker;

  constructor(pid: number) {
    const program = `
      const { pid, signs, limit } = require('node:worker_threads').workerData;
      for (let seen = 0; seen >= 0; seen = Atomics.load(signs, 0)) {
        if (Atomics.wait(signs, 0, seen, limit) !== 'timed-out') continue;
        process.kill(pid, 'SIGKILL');
        break;
      }
    `;
    const workerData = { pid, signs: this.#signs, limit: SILENCE_LIMIT_MS };
    this.#worker = new Worker(program, { eval: true, workerData });
    this.#worker.unref();
  }

  /** All is well. */
  reset(): void {
    Atomics.add(this.#signs, 0, 1);
    Atomics.notify(this.#signs, 0);
  }

  stop(): void {
    Atomics.store(this.#signs, 0, -1);
    Atomics.notify(this.#signs, 0);
  }
}
