/** A file in memory, behind a daemon whose replies come when a test says so. */
import type { Backing } from './page-cache.ts';
import { Latch, start, type Task } from '../task.ts';

export interface Request {
  readonly kind: 'read' | 'write';
  readonly position: number;
  readonly length: number;
}

interface Waiting extends Request {
  readonly latch: Latch;
  /** What the daemon does with it. Nothing the second time. */
  serve(): void;
}

/** The daemon's file. */
export class HostFile {
  content: Uint8Array;
  /** All that was asked, in order. */
  readonly requests: Request[] = [];
  /** What was asked and is not answered yet. */
  readonly waiting: Waiting[] = [];
  /** Answered at once: nobody ever waits. */
  prompt = false;
  /** Thrown in place of the next replies. */
  failures: Error[] = [];

  constructor(content: Uint8Array = new Uint8Array(0)) {
    this.content = content;
  }

  /** How many READs or WRITEs there were. */
  count(kind: Request['kind']): number {
    return this.requests.filter((request) => request.kind === kind).length;
  }

  /** Positions and lengths of the READs or WRITEs. */
  pieces(kind: Request['kind']): [position: number, length: number][] {
    return this.requests.filter((each) => each.kind === kind).map(({ position, length }) => [position, length]);
  }

  /** Answers one of those that wait. */
  answer(which = 0): void {
    const [request] = this.waiting.splice(which, 1);
    request.serve();
    request.latch.settle();
  }

  /** The daemon does it, and its reply is still under way. */
  serve(which = 0): void {
    this.waiting[which].serve();
  }

  answerAll(): void {
    while (this.waiting.length > 0) this.answer();
  }

  resize(sizeBytes: number): void {
    const content = new Uint8Array(sizeBytes);
    content.set(this.content.subarray(0, sizeBytes));
    this.content = content;
  }

  put(from: Uint8Array, position: number): void {
    if (from.length === 0) return;
    if (position + from.length > this.content.length) this.resize(position + from.length);
    this.content.set(from, position);
  }

  /** Does something on the host when the test says so, such as SETATTR. */
  *ask(kind: Request['kind'], position: number, length: number, action: () => void): Task<void> {
    const latch = new Latch();
    const error = this.failures.shift();
    let served = false;
    const serve = (): void => {
      if (served) return;
      served = true;
      if (error === undefined) action();
    };
    this.requests.push({ kind, position, length });
    if (this.prompt) serve();
    else {
      this.waiting.push({ kind, position, length, latch, serve });
      yield latch;
    }
    if (error !== undefined) throw error;
  }

  /** Opens it. */
  open(): Backing {
    return {
      read: (into, position) => this.#read(into, position),
      write: (from, position) => this.ask('write', position, from.length, () => this.put(from, position)),
    };
  }

  /** Runs a task, and answers all that it waits for. */
  run<T>(task: Task<T>): T {
    const running = start(task);
    while (!running.settled) this.answer();
    return running.result;
  }

  *#read(into: Uint8Array, position: number): Task<number> {
    let found = new Uint8Array(0);
    yield* this.ask('read', position, into.length, () => {
      found = this.content.slice(position, position + into.length);
    });
    into.set(found);
    return found.length;
  }
}

export function joined(...pieces: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(pieces));
}

/** Bytes that tell where they are: none of them is 0. */
export function pattern(length: number, seed = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => 1 + ((i * 7 + (i >> 8) * 31 + seed * 13) % 255));
}
