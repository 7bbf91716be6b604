/** What one session knows: how often each inode was given to it. Shared by the session's workers. */
import { lock, unlock } from '../../core/index.ts';
import { type Inodes, ROOT_SLOT } from './inodes.ts';

const STRIPES = 64;

export interface SharedLookups {
  readonly locks: SharedArrayBuffer;
  readonly counts: SharedArrayBuffer;
}

export class Lookups {
  readonly #inodes: Inodes;
  readonly #locks: Int32Array;
  /** Doubles: a long-lived guest that caches nothing looks a directory up more than 2^32 times. */
  readonly #counts: Float64Array;

  constructor(shared: SharedLookups, inodes: Inodes) {
    this.#inodes = inodes;
    this.#locks = new Int32Array(shared.locks);
    this.#counts = new Float64Array(shared.counts);
  }

  static create(capacity: number): SharedLookups {
    return { locks: new SharedArrayBuffer(STRIPES * 4), counts: new SharedArrayBuffer(capacity * 8) };
  }

  /** Pins the inode of a node id; the slot, or 0 when this session was never given it, or forgot it. */
  pin(nodeidLo: number, nodeidHi: number): number {
    const slot = nodeidLo;
    if (slot <= 0 || slot >= this.#counts.length || !this.#inodes.pin(slot, nodeidHi)) return 0;
    if (this.#counts[slot] > 0 || slot === ROOT_SLOT) return slot;
    this.#inodes.unpin(slot);
    return 0;
  }

  /** Counts a pinned inode as given to the guest, and takes the pin. */
  add(slot: number): void {
    if (slot === ROOT_SLOT) {
      this.#inodes.unpin(slot);
      return;
    }
    const at = slot & (STRIPES - 1);
    lock(this.#locks, at);
    const before = this.#counts[slot];
    this.#counts[slot] = before + 1;
    // Under the lock: a forget that came in between would take back a hold that is not there yet.
    if (before === 0) this.#inodes.pinToSession(slot);
    unlock(this.#locks, at);
    if (before > 0) this.#inodes.unpin(slot);
  }

  /** FORGET. A count beyond what was given, or an inode that was not, costs nobody but this guest. */
  forget(nodeidLo: number, nodeidHi: number, count: number): void {
    const slot = this.pin(nodeidLo, nodeidHi);
    if (slot === 0) return;
    if (slot !== ROOT_SLOT) this.#subtract(slot, count);
    this.#inodes.unpin(slot);
  }

  /** Forgets everything: the guest is gone or has started anew. */
  forgetAll(): void {
    const end = Math.min(this.#inodes.end, this.#counts.length);
    for (let slot = ROOT_SLOT + 1; slot < end; slot += 1) {
      if (this.#counts[slot] > 0) this.#subtract(slot, Number.POSITIVE_INFINITY);
    }
  }

  #subtract(slot: number, count: number): void {
    const at = slot & (STRIPES - 1);
    lock(this.#locks, at);
    const before = this.#counts[slot];
    const after = Math.max(0, before - count);
    this.#counts[slot] = after;
    unlock(this.#locks, at);
    if (before > 0 && after === 0) this.#inodes.dropSession(slot);
  }
}
