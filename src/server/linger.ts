import { availableParallelism } from 'node:os';

/**
 * Some 10 us, which is what it takes to go to sleep and to be woken: who looks that long loses by it no more than once
 * that. Where there is but one processor, the driver could not run meanwhile.
 */
const LOOKS = availableParallelism() > 1 ? 1000 : 0;
const LONGEST_REST = 64;
/** To stay in vain costs as much as three stays that are not: looking takes time as well, even of who finds. */
const IN_VAIN = 8;

/**
 * A thread that has served all stays for a moment: a driver at work mostly has its next request soon, and so saves its
 * kick, and we our sleep. Where that is in vain more than once in four times, we hardly ever stay.
 */
export class Linger {
  readonly #looks: number;
  /** How often we do not stay after the next time in vain. */
  #rest = 1;
  #resting = 0;

  constructor(looks = LOOKS) {
    this.#looks = looks;
  }

  /** Whether there is more to do. */
  until(queue: { readonly more: boolean }): boolean {
    if (this.#resting > 0) {
      this.#resting -= 1;
      return false;
    }
    let found = false;
    for (let look = 0; look < this.#looks && !found; look += 1) found = queue.more;
    // Worked out in either case: what only one of them does is not compiled until it comes.
    const less = Math.max(this.#rest >> 1, 1);
    const more = Math.min(IN_VAIN * this.#rest, LONGEST_REST);
    this.#resting = found ? 0 : this.#rest;
    this.#rest = found ? less : more;
    return found;
  }
}
