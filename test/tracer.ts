/** `virtiofs trace` as users have it, for tests: a process of its own in front of a daemon. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MAIN = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url));
const READY = 'Waiting for vhost-user socket connection...\n';
const END_LIMIT_MS = 10_000;
const LINE_LIMIT_MS = 20_000;

export class TestTracer {
  /** Where to connect. */
  readonly socketPath: string;
  readonly process: ChildProcess;
  /** All that it has said on stdout: the trace. */
  said = '';
  /** And on stderr. */
  complained = '';
  /** Resolves with the exit code when the process has ended. */
  readonly ended: Promise<number | null>;
  readonly #folder: string;
  readonly #listeners: (() => void)[] = [];

  private constructor(daemonSocket: string, args: readonly string[]) {
    this.#folder = mkdtempSync(join(tmpdir(), 'virtiofs-trace-'));
    this.socketPath = join(this.#folder, 'trace.sock');
    const command = [MAIN, 'trace', '--socket', daemonSocket, '--listen', this.socketPath, ...args];
    this.process = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const heard = (): void => {
      for (const listener of this.#listeners.splice(0)) listener();
    };
    this.process.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.said += text;
      heard();
    });
    this.process.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.complained += text;
      heard();
    });
    this.ended = once(this.process, 'close').then(([code]) => {
      heard();
      return code as number | null;
    });
  }

  /** Starts a tracer and waits until it takes connections. */
  static async start(daemonSocket: string, args: readonly string[] = []): Promise<TestTracer> {
    const tracer = new TestTracer(daemonSocket, args);
    await tracer.until(() => tracer.complained.includes(READY), 'it is ready');
    return tracer;
  }

  /** Starts one that may not come up. */
  static launch(daemonSocket: string, args: readonly string[] = []): TestTracer {
    return new TestTracer(daemonSocket, args);
  }

  /** Waits until something holds of what it has said. Rejects when it ends first, or takes too long. */
  async until(condition: () => boolean, what: string): Promise<void> {
    const isOver = Promise.withResolvers<boolean>();
    const deadline = setTimeout(() => isOver.resolve(false), LINE_LIMIT_MS);
    try {
      while (!condition()) {
        const more = new Promise<boolean>((resolve) => this.#listeners.push(() => resolve(true)));
        if (!(await Promise.race([more, isOver.promise, this.ended.then(() => false)])) && !condition()) {
          throw new Error(`not in time, or never: ${what}; the tracer said:\n${this.said}${this.complained}`);
        }
      }
    } finally {
      clearTimeout(deadline);
    }
  }

  /** Waits for a line that matches; the line. */
  async line(pattern: RegExp): Promise<string> {
    const find = (): string | undefined => this.lines().find((each) => pattern.test(each));
    await this.until(() => find() !== undefined, `it said ${pattern}`);
    return find() as string;
  }

  /** The lines so far, those that are whole. */
  lines(): string[] {
    return this.said.split('\n').slice(0, -1);
  }

  /** Ends it by SIGINT; its exit code. Kills it when that does not help. */
  async stop(): Promise<number | null> {
    this.process.kill('SIGINT');
    const deadline = setTimeout(() => this.process.kill('SIGKILL'), END_LIMIT_MS);
    const code = await this.ended;
    clearTimeout(deadline);
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
