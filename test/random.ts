/** Numbers that look random and come again with the same seed: VIRTIOFS_SEED=n repeats what a test printed. */
export class Random {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed >>> 0;
    this.#state = this.seed;
  }

  /** The seed in VIRTIOFS_SEED, or another one every time. It is printed. */
  static fromEnvironment(t: { readonly name: string }): Random {
    const given = process.env.VIRTIOFS_SEED;
    const random = new Random(given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given));
    console.log(`# VIRTIOFS_SEED=${random.seed}: ${t.name}`);
    return random;
  }

  /** 32 bits (splitmix32). */
  word(): number {
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 16), 0x21f0aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  }

  /** An integer from 0 to `end` - 1. */
  below(end: number): number {
    return Math.floor((this.word() / 2 ** 32) * end);
  }

  pick<Value>(from: readonly Value[]): Value {
    return from[this.below(from.length)];
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i += 1) bytes[i] = this.word();
    return bytes;
  }
}
