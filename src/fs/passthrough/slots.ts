import { lock, unlock } from '../../core/index.ts';

/** Words of the shared state of an allocator. */
export const SLOT_STATE_WORDS = 3;
const LOCK = 0;
const FREE_HEAD = 1;
const NEVER_USED = 2;

/**
 * Hands out the slots of a table in shared memory. Freed slots are linked through a word of their own records, so the
 * list costs nothing; slots that were never used are not touched, so their memory is not either.
 */
export class Slots {
  readonly #state: Int32Array;
  readonly #records: Int32Array;
  readonly #recordWords: number;
  readonly #linkWord: number;
  readonly #capacity: number;

  /** `first` is the lowest slot: 0 means 'none' everywhere. */
  constructor(state: Int32Array, records: Int32Array, recordWords: number, linkWord: number, first: number) {
    this.#state = state;
    this.#records = records;
    this.#recordWords = recordWords;
    this.#linkWord = linkWord;
    this.#capacity = Math.floor(records.length / recordWords);
    Atomics.compareExchange(state, NEVER_USED, 0, first);
  }

  /** A free slot, or 0 when the table is full. */
  take(): number {
    const state = this.#state;
    lock(state, LOCK);
    let slot = state[FREE_HEAD];
    if (slot !== 0) state[FREE_HEAD] = this.#records[slot * this.#recordWords + this.#linkWord];
    else if (state[NEVER_USED] < this.#capacity) {
      slot = state[NEVER_USED];
      state[NEVER_USED] = slot + 1;
    }
    unlock(state, LOCK);
    return slot;
  }

  give(slot: number): void {
    const state = this.#state;
    lock(state, LOCK);
    this.#records[slot * this.#recordWords + this.#linkWord] = state[FREE_HEAD];
    state[FREE_HEAD] = slot;
    unlock(state, LOCK);
  }

  /** One more than the highest slot ever used: where a walk over the table ends. */
  get end(): number {
    return Atomics.load(this.#state, NEVER_USED);
  }
}
