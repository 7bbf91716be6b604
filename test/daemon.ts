/** The daemon as users have it, for tests: `virtiofs serve` in a process of its own, with a temporary directory. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
const READY = 'Waiting for vhost-user socket connection...\n';
const END_LIMIT_MS = 10_000;

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
  #listeners: (() => void)[] = [];

  private constructor(options: DaemonOptions) {
    this.#folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
    this.share = options.share ?? mkdtempSync(join(this.#folder, 'share-'));
    const made = Array.from({ length: options.sockets ?? 1 }, (_, i) => join(this.#folder, `${i}.sock`));
    this.socketPaths = options.socketPaths ?? made;
    const sockets = this.socketPaths.flatMap((path) => ['--socket-path', path]);
    const args = ['serve', '--shared-dir', this.share, ...sockets, ...(options.args ?? [])];
    this.process = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, ...args], {
      stdio: ['ignore', 'inherit', 'pipe'],
    });
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.said += text;
      for (const listener of this.#listeners.splice(0)) listener();
    });
    this.ended = once(this.process, 'close').then(([code, signal]) => ({ code, signal }));
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
    const line = this.said.slice(from).match(/^inodes .*$/m)?.[0] ?? '';
    return Object.fromEntries(line.split(', ').map((each) => [each.split(' ')[0], Number(each.split(' ')[1])]));
  }

  /** Descriptors that the process has open. */
  descriptors(): number {
    return readdirSync(`/proc/${this.process.pid}/fd`).length;
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
    openFolders(this.#folder);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** A guest may have taken all permissions from a directory; an ordinary user then cannot empty it. */
function openFolders(folder: string | Buffer): void {
  chmodSync(folder, 0o700);
  for (const entry of readdirSync(folder, { withFileTypes: true, encoding: 'buffer' })) {
    // As bytes: names need not be UTF-8.
    if (entry.isDirectory()) openFolders(Buffer.concat([Buffer.from(folder), Buffer.from('/'), entry.name]));
  }
}
