/** A lock in shared memory, a 32-bit word each: 0 free, 1 held, 2 held and somebody sleeps. */

const FREE = 0;
const HELD = 1;
const CONTENDED = 2;
/** Critical sections here are tens of nanoseconds: a short spin mostly wins, a sleep covers a descheduled holder. */
const SPINS = 64;

export function lock(words: Int32Array, at: number): void {
  if (Atomics.compareExchange(words, at, FREE, HELD) === FREE) return;
  for (let spin = 0; spin < SPINS; spin += 1) {
    if (Atomics.load(words, at) === FREE && Atomics.compareExchange(words, at, FREE, HELD) === FREE) return;
  }
  while (Atomics.exchange(words, at, CONTENDED) !== FREE) Atomics.wait(words, at, CONTENDED);
}

export function tryLock(words: Int32Array, at: number): boolean {
  return Atomics.compareExchange(words, at, FREE, HELD) === FREE;
}

export function unlock(words: Int32Array, at: number): void {
  if (Atomics.exchange(words, at, FREE) === CONTENDED) Atomics.notify(words, at, 1);
}
