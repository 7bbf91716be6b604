import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { LabError } from './errors.ts';
import { LANE_HELLO } from './guest-init.ts';

/** What a command in the guest gave. */
export interface RunResult {
  /** Exit code; 128 + n after signal n. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Standard output as it came, for what is not text. */
  readonly stdoutBytes: Buffer;
}

export interface RunOptions {
  /** Default 60 s. The guest is not usable for this lane afterwards, so a command that runs longer ends in an error. */
  readonly timeoutMs?: number;
  /** Standard input; none by default. */
  readonly stdin?: string | Uint8Array | Readable;
  /** Output as it comes; it is not collected then. The guest waits while a returned promise is pending. */
  readonly onStdout?: (bytes: Buffer) => void | Promise<void>;
  readonly onStderr?: (bytes: Buffer) => void | Promise<void>;
}

/** Finds the end of a command's output in a stream: a NUL, the token, a blank, digits, a newline. */
export class Trailer {
  readonly #mark: Buffer;
  readonly #emit: (bytes: Buffer) => void;
  readonly #end: (code: number) => void;
  #held: Buffer = Buffer.alloc(0);

  constructor(token: string, emit: (bytes: Buffer) => void, end: (code: number) => void) {
    this.#mark = Buffer.from(`\0${token} `);
    this.#emit = emit;
    this.#end = end;
  }

  push(bytes: Buffer): void {
    const all = this.#held.length === 0 ? bytes : Buffer.concat([this.#held, bytes]);
    const at = all.indexOf(this.#mark);
    if (at < 0) {
      // The mark may have begun in the last bytes; it begins with a NUL, which is rare.
      const from = Math.max(0, all.length - this.#mark.length + 1);
      const nul = all.indexOf(0, from);
      const keep = nul < 0 ? all.length : nul;
      if (keep > 0) this.#emit(all.subarray(0, keep));
      this.#held = all.subarray(keep);
      return;
    }
    const newline = all.indexOf(0x0a, at);
    if (at > 0) this.#emit(all.subarray(0, at));
    this.#held = all.subarray(at);
    if (newline < 0) return;
    this.#held = all.subarray(newline + 1);
    this.#end(Number(all.subarray(at + this.#mark.length, newline).toString('latin1')));
  }
}

/** Takes output: into a list, or to a function, at whose pace the stream then flows; `taken` when it has all. */
class Taker {
  readonly #stream: Readable;
  readonly #list: Buffer[];
  readonly #to: RunOptions['onStdout'];
  readonly #pending = new Set<Promise<void>>();

  constructor(stream: Readable, list: Buffer[], to: RunOptions['onStdout']) {
    this.#stream = stream;
    this.#list = list;
    this.#to = to;
  }

  take(bytes: Buffer): void {
    if (this.#to === undefined) {
      this.#list.push(bytes);
      return;
    }
    const pending = this.#to(bytes);
    if (pending === undefined) return;
    this.#stream.pause();
    const done = pending.finally(() => {
      this.#pending.delete(done);
      if (this.#pending.size === 0) this.#stream.resume();
    });
    this.#pending.add(done);
    // Whoever waits for `taken` hears of it.
    done.catch(() => {});
  }

  async taken(): Promise<void> {
    await Promise.all(this.#pending);
  }
}

/** The host's half of one lane: see guest-init.ts for the other. */
export class Lane {
  readonly #io: Duplex;
  readonly #err: Readable;
  readonly #inPath: string;
  #onIo: (bytes: Buffer) => void = () => {};
  #onErr: (bytes: Buffer) => void = () => {};
  #hello = '';
  #ready = Promise.withResolvers<void>();

  /** @param inPath the socket of the port that carries standard input. */
  constructor(io: Duplex, err: Readable, inPath: string) {
    this.#io = io;
    this.#err = err;
    this.#inPath = inPath;
    io.on('data', (bytes: Buffer) => this.#onIo(bytes));
    err.on('data', (bytes: Buffer) => this.#onErr(bytes));
    // The end of QEMU is reported by the machine, not by each of its streams.
    io.on('error', () => {});
    err.on('error', () => {});
    this.reset();
  }

  /** Resolves when the guest's half takes commands. */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  /** Forgets what was running: the guest starts anew. */
  reset(): void {
    this.#hello = '';
    this.#ready = Promise.withResolvers<void>();
    this.#onErr = () => {};
    this.#onIo = (bytes) => {
      this.#hello = (this.#hello + bytes.toString('latin1')).slice(-64);
      if (!this.#hello.endsWith(LANE_HELLO)) return;
      this.#onIo = () => {};
      this.#ready.resolve();
    };
  }

  /** Runs a shell script; one at a time. */
  async run(script: string, options: RunOptions): Promise<RunResult> {
    const token = randomBytes(16).toString('hex');
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    const ended = [Promise.withResolvers<number>(), Promise.withResolvers<number>()] as const;
    const takers = [
      new Taker(this.#io, stdout, options.onStdout),
      new Taker(this.#err, stderr, options.onStderr),
    ] as const;
    const out = new Trailer(token, (bytes) => takers[0].take(bytes), ended[0].resolve);
    const err = new Trailer(token, (bytes) => takers[1].take(bytes), ended[1].resolve);
    this.#onIo = (bytes) => out.push(bytes);
    this.#onErr = (bytes) => err.push(bytes);
    const stopInput = options.stdin === undefined ? () => {} : await this.#feed(options.stdin);
    const bytes = Buffer.from(script);
    this.#io.write(`${token} ${bytes.length} ${options.stdin === undefined ? 0 : 1}\n`);
    this.#io.write(bytes);
    const [code] = await Promise.all([ended[0].promise, ended[1].promise]);
    stopInput();
    await Promise.all(takers.map((taker) => taker.taken()));
    const stdoutBytes = Buffer.concat(stdout);
    return { code, stdout: stdoutBytes.toString(), stderr: Buffer.concat(stderr).toString(), stdoutBytes };
  }

  /** Connects to the input port and sends. @returns stops. */
  async #feed(input: string | Uint8Array | Readable): Promise<() => void> {
    const socket = connect(this.#inPath);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (cause) => reject(new LabError('EXITED', 'QEMU takes no input', { cause })));
    });
    socket.on('error', () => {});
    socket.write('go\n');
    if (typeof input === 'string' || input instanceof Uint8Array) socket.end(input);
    else input.pipe(socket);
    return () => {
      if (typeof input !== 'string' && !(input instanceof Uint8Array)) input.unpipe(socket);
      socket.destroy();
    };
  }
}
