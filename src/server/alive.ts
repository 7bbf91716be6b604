const RUNNING = 0;
const ENDING = 1;

/** The threads of the process that run, counted in shared memory: the main thread waits for their end. */
export class Alive {
  readonly #words: Int32Array;

  constructor(shared: SharedArrayBuffer) {
    this.#words = new Int32Array(shared);
  }

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(8);
  }

  /** Counts the calling thread, until the returned function is called. */
  count(): () => void {
    const words = this.#words;
    Atomics.add(words, RUNNING, 1);
    return () => {
      Atomics.sub(words, RUNNING, 1);
      Atomics.notify(words, RUNNING);
    };
  }

  /** No session is begun any more: threads without one are to end. */
  get isEnding(): boolean {
    return Atomics.load(this.#words, ENDING) !== 0;
  }

  setEnding(): void {
    Atomics.store(this.#words, ENDING, 1);
  }

  /** Waits until no thread runs, `timeoutMs` at most. */
  awaitNone(timeoutMs: number): void {
    const words = this.#words;
    const deadline = performance.now() + timeoutMs;
    for (let running = Atomics.load(words, RUNNING); running > 0; running = Atomics.load(words, RUNNING)) {
      const left = deadline - performance.now();
      if (left <= 0 || Atomics.wait(words, RUNNING, running, left) === 'timed-out') return;
    }
  }
}
