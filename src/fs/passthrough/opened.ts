/**
 * When each file had changed last as a session opened it. A guest that keeps a file's pages from one open to the next
 * (FOPEN_KEEP_CACHE) sees what others wrote and closed all the same, as long as it is told to keep them only while the
 * file is as it was: NFS clients find that out by themselves, Linux's FUSE leaves it to the server.
 */

/**
 * A file that changed so lately may change again unnoticed: within one tick of the clock that stamps it, or through a
 * shared mapping on the host, which stamps it when a clean page becomes dirty. Linux cleans pages after 35 s
 * (vm.dirty_expire_centisecs and vm.dirty_writeback_centisecs).
 */
const SETTLED_SECONDS = 60;

export class Opened {
  /** For each slot the seconds (low word) and nanoseconds of its ctime; nanoseconds -1: nothing can be told. */
  readonly #ctimes: Int32Array;

  constructor(shared: SharedArrayBuffer) {
    this.#ctimes = new Int32Array(shared);
  }

  static create(capacity: number): SharedArrayBuffer {
    return new SharedArrayBuffer(capacity * 8);
  }

  /** Notes the ctime of a file at this open; whether it is what it was at the last. */
  isAsBefore(slot: number, seconds: number, nanoseconds: number): boolean {
    const ctimes = this.#ctimes;
    const at = slot * 2;
    if (at >= ctimes.length) return false;
    const age = (((Date.now() / 1000) | 0) - seconds) | 0;
    const known = age < SETTLED_SECONDS ? -1 : nanoseconds;
    const before = Atomics.exchange(ctimes, at + 1, known);
    const beforeSeconds = Atomics.exchange(ctimes, at, seconds);
    return known !== -1 && before === known && beforeSeconds === (seconds | 0);
  }
}
