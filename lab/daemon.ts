import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import { undoAtExit } from './cleanup.ts';
import { LabError } from './errors.ts';
import { endingWithUs } from './guard.ts';

/** How a daemon is started. */
export interface DaemonOptions {
  readonly sharedDir: string;
  /** One socket for each VM. */
  readonly socketPaths: readonly string[];
  /** What guests may cache: never, auto (default) or always. */
  readonly cache?: string;
  /** More arguments. */
  readonly args?: readonly string[];
  /** Another daemon that takes --shared-dir, --socket-path and --cache; default this project's `serve`. */
  readonly command?: readonly string[];
  /** Time until it says that it waits for a connection, default 20 s. */
  readonly readyLimitMs?: number;
}

const READY = 'Waiting for vhost-user socket connection...';
const READY_LIMIT_MS = 20_000;
const STOP_LIMIT_MS = 5_000;

/** The command line of this project's daemon, from the sources or from what was built of them. */
export function ownDaemon(): string[] {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const main = fileURLToPath(new URL(`../src/cli/main.${extension}`, import.meta.url));
  return [process.execPath, '--disable-warning=ExperimentalWarning', main, 'serve'];
}

/** How a process ended. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A running virtio-fs daemon. */
export class Daemon {
  readonly pid: number;
  /** Milliseconds from its start until it was ready. */
  readyMs = 0;
  readonly exited: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  #output = '';
  #ended: ProcessEnd | undefined;
  readonly #ready = Promise.withResolvers<void>();

  /** @internal startDaemon() makes it. */
  constructor(child: ChildProcess, forget: () => void) {
    this.#child = child;
    this.pid = child.pid ?? -1;
    this.#ready.promise.catch(() => {});
    const take = (text: string): void => {
      this.#output += text;
      if (this.#output.includes(READY)) this.#ready.resolve();
    };
    child.stdout?.setEncoding('utf8').on('data', take);
    child.stderr?.setEncoding('utf8').on('data', take);
    this.exited = new Promise((resolve) => {
      const over = (end: ProcessEnd): void => {
        if (this.#ended !== undefined) return;
        this.#ended = end;
        forget();
        const how = end.signal ?? `exit code ${end.code}`;
        this.#ready.reject(new LabError('DAEMON', `the daemon ended (${how}) before it was ready\n${this.#output}`));
        resolve(end);
      };
      child.once('error', (error) => {
        this.#output += error.message;
        over({ code: -1, signal: null });
      });
      child.once('close', (code, signal) => over({ code, signal }));
    });
  }

  /** What it printed so far, on both streams. */
  get output(): string {
    return this.#output;
  }

  /** How it ended, or undefined while it runs. */
  get ended(): ProcessEnd | undefined {
    return this.#ended;
  }

  /** @internal */
  async waitUntilReady(limitMs: number): Promise<void> {
    const late = sleep(limitMs, undefined, { ref: false }).then(() => {
      throw new LabError('DAEMON', `the daemon was not ready within ${limitMs} ms\n${this.#output}`);
    });
    const began = performance.now();
    await Promise.race([this.#ready.promise, late]);
    this.readyMs = performance.now() - began;
  }

  /** Sends a signal. */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /**
   * Waits for its end.
   *
   * @throws LabError when it takes longer; the daemon goes on then.
   */
  async waitForEnd(limitMs = STOP_LIMIT_MS): Promise<ProcessEnd> {
    await Promise.race([this.exited, sleep(limitMs, undefined, { ref: false })]);
    if (this.#ended !== undefined) return this.#ended;
    throw new LabError('DAEMON', `the daemon did not end within ${limitMs} ms\n${this.#output}`);
  }

  /** Ends it by SIGTERM, and by SIGKILL if that does not help. */
  async stop(): Promise<ProcessEnd> {
    this.signal('SIGTERM');
    return this.waitForEnd().catch(() => this.kill());
  }

  kill(): Promise<ProcessEnd> {
    if (this.#ended === undefined) this.#child.kill('SIGKILL');
    return this.exited;
  }
}

/** Starts a daemon and waits until its sockets exist. */
export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  const [program = '', ...args] = endingWithUs(options.command ?? ownDaemon(), 'TERM');
  const sockets = options.socketPaths.flatMap((path) => ['--socket-path', path]);
  const all = [
    ...args,
    '--shared-dir',
    options.sharedDir,
    ...sockets,
    '--cache',
    options.cache ?? 'auto',
    ...(options.args ?? []),
  ];
  // A group of its own: Ctrl-C on the terminal is for us, and we end the VM before its daemon.
  const child = spawn(program, all, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const daemon = new Daemon(
    child,
    undoAtExit(() => child.kill('SIGKILL')),
  );
  try {
    await daemon.waitUntilReady(options.readyLimitMs ?? READY_LIMIT_MS);
    return daemon;
  } catch (error) {
    await daemon.kill();
    throw error;
  }
}
