/** So many at once. */
export class Slots {
  #free: number;
  readonly #waiting: (() => void)[] = [];
  readonly #crowd: number;
  readonly #outside: (() => void)[] = [];

  /** `crowd`: how many may wait before room() holds back whoever brings more. */
  constructor(count: number, crowd = 1000) {
    this.#free = count;
    this.#crowd = crowd;
  }

  /** Does `work` when it is its turn. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
      if (this.#waiting.length < this.#crowd) for (const goOn of this.#outside.splice(0)) goOn();
    }
  }

  /** Waits until fewer are waiting than make a crowd. */
  async room(): Promise<void> {
    if (this.#waiting.length >= this.#crowd) await new Promise<void>((resolve) => this.#outside.push(resolve));
  }
}

/** Requests that a command has in flight for the attributes of files. */
const LOOKS_AT_ONCE = 16;

/** What `work` gives for each, in order. */
export function forAll<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const slots = new Slots(LOOKS_AT_ONCE);
  return Promise.all(items.map((item) => slots.run(() => work(item))));
}
