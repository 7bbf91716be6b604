/** What `npm run bench:micro` measures. */

/** One thing that is done again and again; it throws when it does not do what it should. */
export interface MicroBench {
  /** Unique: figures are compared by it. */
  readonly name: string;
  readonly run: () => void;
}

/** Some of them, and what they need. */
export interface MicroGroup extends Disposable {
  readonly benches: readonly MicroBench[];
}
