/**
 * Another process, as far as descriptors and their locks go: a thread with a table of descriptors of its own
 * (unshare(2), CLONE_FILES), which is what POSIX locks belong to.
 */
import { readFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import { Worker } from 'node:worker_threads';
import type { Face, Other, OtherCall } from './face.ts';
import { failure, NotApplicable } from './verdicts.ts';

// Words of the shared memory.
export const STATE = 0;
const LENGTH = 1;
export const WORDS = 4;
const HEADER_BYTES = WORDS * 4;
const SHARED_BYTES = 1 << 20;

/** Of STATE: nothing to do, a call is asked for, it is done. */
const IDLE = 0;
const ASKED = 1;
const DONE = 2;

const START_MS = 60_000;
const CALL_MS = 20_000;

export interface Ask {
  readonly base: string;
  readonly name: OtherCall;
  readonly args: readonly unknown[];
}
export type Answer =
  | { readonly value: unknown }
  | { readonly call: string; readonly errno: number; readonly detail: string };

export function putMessage(shared: SharedArrayBuffer, message: unknown): void {
  const bytes = serialize(message);
  new Uint8Array(shared).set(bytes, HEADER_BYTES);
  new Int32Array(shared)[LENGTH] = bytes.length;
}

export function takeMessage(shared: SharedArrayBuffer): unknown {
  const length = new Int32Array(shared)[LENGTH];
  return deserialize(Buffer.from(new Uint8Array(shared).slice(HEADER_BYTES, HEADER_BYTES + length)));
}

/** The other side: gives its thread's number, or why it cannot be another process, then serves what is asked. */
export function serveAsks(shared: SharedArrayBuffer, thread: Answer, serve: (ask: Ask) => Answer): never {
  const words = new Int32Array(shared);
  putMessage(shared, thread);
  Atomics.store(words, STATE, DONE);
  Atomics.notify(words, STATE);
  for (;;) {
    const state = Atomics.load(words, STATE);
    if (state === ASKED) {
      putMessage(shared, serve(takeMessage(shared) as Ask));
      Atomics.store(words, STATE, DONE);
      Atomics.notify(words, STATE);
    } else Atomics.wait(words, STATE, state);
  }
}

export class SecondProcess implements Other {
  readonly #shared: SharedArrayBuffer;
  readonly #words: Int32Array;
  #base = '';
  #thread = 0;
  #asked = false;

  private constructor(shared: SharedArrayBuffer) {
    this.#shared = shared;
    this.#words = new Int32Array(shared);
  }

  /** The one of this process, started when it is first wanted; paths are below `base` from now on. */
  static at(base: string): SecondProcess {
    if (whyNone !== undefined) throw new NotApplicable(whyNone);
    started ??= SecondProcess.#start();
    started.#settle();
    started.#base = base;
    return started;
  }

  static #start(): SecondProcess {
    const shared = new SharedArrayBuffer(SHARED_BYTES);
    const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
    const worker = new Worker(new URL(`./second-worker${extension}`, import.meta.url), { workerData: shared });
    // It waits for ever, and ends with the process.
    worker.unref();
    const second = new SecondProcess(shared);
    whyNone = 'a second process does not start';
    second.#await(START_MS);
    const answer = takeMessage(shared) as Answer;
    whyNone = 'errno' in answer ? failure(answer.call, answer.errno, 'a second process').message : undefined;
    if ('errno' in answer) throw new NotApplicable(whyNone ?? '');
    second.#thread = answer.value as number;
    return second;
  }

  /** Lets a call end that a behaviour began and did not wait for: what it waited for was closed meanwhile. */
  #settle(): void {
    try {
      if (this.#asked) this.finish();
    } catch {
      // Whatever came of it.
    }
  }

  #await(limitMs: number): void {
    const limit = Date.now() + limitMs;
    for (;;) {
      const state = Atomics.load(this.#words, STATE);
      if (state === DONE) break;
      if (Date.now() > limit) throw new Error('the second process does not answer');
      Atomics.wait(this.#words, STATE, state, 100);
    }
    Atomics.store(this.#words, STATE, IDLE);
  }

  #ask(name: OtherCall, args: readonly unknown[]): void {
    const ask: Ask = { base: this.#base, name, args };
    putMessage(this.#shared, ask);
    this.#asked = true;
    Atomics.store(this.#words, STATE, ASKED);
    Atomics.notify(this.#words, STATE);
  }

  call<K extends OtherCall>(name: K, ...args: Parameters<Face[K]>): ReturnType<Face[K]> {
    this.#ask(name, args);
    return this.finish() as ReturnType<Face[K]>;
  }

  /** The call is in the kernel, asleep, when this returns: /proc says so (proc(5), syscall). */
  start<K extends OtherCall>(name: K, ...args: Parameters<Face[K]>): void {
    this.#ask(name, args);
    const limit = Date.now() + CALL_MS;
    while (!this.#isAsleep()) {
      if (Date.now() > limit) throw new Error(`${name} does not block`);
      Atomics.wait(this.#words, WORDS - 1, 0, 2);
    }
  }

  #isAsleep(): boolean {
    const folder = `/proc/self/task/${this.#thread}`;
    const number = Number.parseInt(readFileSync(`${folder}/syscall`, 'latin1'), 10);
    const fcntl = process.arch === 'arm64' ? 25 : 72;
    const flock = process.arch === 'arm64' ? 32 : 73;
    return number === fcntl || number === flock;
  }

  finish(): unknown {
    this.#await(CALL_MS);
    this.#asked = false;
    const answer = takeMessage(this.#shared) as Answer;
    if ('errno' in answer) throw failure(answer.call, answer.errno, answer.detail);
    return answer.value;
  }
}

let started: SecondProcess | undefined;
/** Set once one could not be started: waiting for it again would take as long. */
let whyNone: string | undefined;
