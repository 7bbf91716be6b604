/**
 * The DAX window of a session: which 2 MiB of which file each of its ranges shows. In memory that all threads share:
 * queue workers say what the guest wishes (SETUPMAPPING, REMOVEMAPPING), and the thread that speaks with the VMM has it
 * done. A wish takes a while, so whoever has one asks again until it is there.
 *
 * Memory beyond the end of its file must not be touched: the VMM would die of it (SIGBUS). A guest touches nothing
 * beyond the end that it knows of, so a range may reach beyond it, and be right when the file grows, until somebody
 * else makes the file shorter. Then what lies beyond the new end is taken out first (`beginCut`), and comes back
 * as far as the file grows (`cutFiles`, `extend`).
 */
import { EINVAL, lock, PAGE_BYTES, unlock } from '../core/index.ts';
import { signalEventfd } from '../sys/index.ts';

/** Linux maps such ranges and no others: FUSE_DAX_SZ, fs/fuse/dax.c. */
export const RANGE_BYTES = 2 * 1024 * 1024;
/** For fuse_init_out: ranges begin at multiples of their size, in the window and in the file. */
export const RANGE_SHIFT = 21;
/** As many as a word can count: 8 PiB of a file. */
const BLOCKS_MAX = 2 ** 32;
/** From `setup`: not there yet. */
export const PENDING = 1;
/** A VMM that has not answered for so long is not waited for: what happens to it is its own doing. */
export const ANSWER_MS = 2000;

const FREE = 0;
const WANTED = 1;
const MAPPED = 2;
const FAILED = 3;

const LOCK = 0;
/** The eventfd that has wishes looked at. */
const WAKE_FD = 1;
/** Ranges that do not show all of their 2 MiB. */
const CUTS = 2;
/** Ranges that the VMM shows, or is asked for. */
const SHOWN = 3;
/** 1 when others have made any file shorter. */
const ANY_SHRUNK = 4;
/** By node id: others are making such a file shorter right now. */
const BUSY = 16;
const BUSY_WORDS = 64;
/** By node id: others have made such a file shorter, and the guest may not know. */
const SHRUNK = BUSY + BUSY_WORDS;
const SHRUNK_BITS = 2 ** 16;
const RANGES = SHRUNK + SHRUNK_BITS / 32;

// A range.
const STATE = 0;
const NODEID_LO = 1;
const NODEID_HI = 2;
/** Which 2 MiB of the file. */
const BLOCK = 3;
/** How many bytes of it. */
const BYTES = 4;
const ERROR = 5;
/** Changes with every wish: what was done for an earlier one is void. */
const TICKET = 6;
/** When that was: milliseconds, their low bits. */
const SINCE = 7;
const RANGE_WORDS = 8;

/** A file as the session knows it. */
export interface WindowFile {
  readonly nodeidLo: number;
  readonly nodeidHi: number;
}

/** What a range is to show. */
export interface Wish {
  readonly ticket: number;
  /** Absent: nothing. */
  readonly file?: WindowFile & { readonly offset: number; readonly bytes: number };
}

export class DaxWindow {
  /** Ranges. */
  readonly count: number;
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(shared: SharedArrayBuffer) {
    this.#words = new Int32Array(shared);
    this.count = (this.#words.length - RANGES) / RANGE_WORDS;
  }

  /** `bytes`: a multiple of RANGE_BYTES. */
  static create(bytes: number): SharedArrayBuffer {
    return new SharedArrayBuffer((RANGES + (bytes / RANGE_BYTES) * RANGE_WORDS) * 4);
  }

  /** Ranges that show something now. */
  get mapped(): number {
    let sum = 0;
    for (let range = 0; range < this.count; range += 1) if (this.#words[at(range) + STATE] === MAPPED) sum += 1;
    return sum;
  }

  /** Whether there are ranges that may have to be extended. */
  get isCut(): boolean {
    return Atomics.load(this.#words, CUTS) > 0;
  }

  /** Who is to be woken when there is something to do. */
  setWakeFd(fd: number): void {
    this.#words[WAKE_FD] = fd;
  }

  /**
   * SETUPMAPPING: 0 when the range shows that part of the file, PENDING, or a negative errno. A range that showed
   * something else is taken for that: a guest that was started anew knows nothing of it. `sizeBytes` is asked for where
   * the guest may think that the file is longer than it is.
   */
  setup(
    { nodeidLo, nodeidHi }: WindowFile,
    fileOffset: number,
    length: number,
    windowOffset: number,
    sizeBytes: () => number,
  ): number {
    const range = windowOffset / RANGE_BYTES;
    const block = fileOffset / RANGE_BYTES;
    if (!Number.isInteger(range) || range >= this.count) return -EINVAL;
    if (!Number.isInteger(block) || block >= BLOCKS_MAX) return -EINVAL;
    if (length <= 0 || length > RANGE_BYTES) return -EINVAL;
    const words = this.#words;
    const bytes = this.#isShrunk(nodeidLo) ? bytesOf(block, sizeBytes()) : RANGE_BYTES;
    const w = at(range);
    lock(words, LOCK);
    const same = this.#shows(w, nodeidLo, nodeidHi) && words[w + BLOCK] === (block | 0);
    const state = same ? words[w + STATE] : FREE;
    const wishes = state === FREE && words[busyAt(nodeidLo)] === 0;
    let result = PENDING;
    if (state === MAPPED) {
      result = 0;
    } else if (state === FAILED) {
      result = words[w + ERROR];
      this.#clear(range);
    } else if (wishes) {
      this.#clear(range);
      words[w + NODEID_LO] = nodeidLo;
      words[w + NODEID_HI] = nodeidHi;
      words[w + BLOCK] = block;
      words[w + BYTES] = RANGE_BYTES;
      this.#want(w, bytes);
    }
    unlock(words, LOCK);
    if (wishes) this.#wake();
    return result;
  }

  /** REMOVEMAPPING of one range: 0 or a negative errno. Nobody waits for it: what comes next in that range does. */
  remove(windowOffset: number, length: number): number {
    const first = windowOffset / RANGE_BYTES;
    const end = (windowOffset + length) / RANGE_BYTES;
    if (!Number.isInteger(first) || !Number.isInteger(end) || end > this.count || end <= first) return -EINVAL;
    this.#clearRanges(first, end);
    return 0;
  }

  /** The FUSE session is void, and all that it mapped. */
  reset(): void {
    this.#clearRanges(0, this.count);
    this.#words.fill(0, SHRUNK, RANGES);
    Atomics.store(this.#words, ANY_SHRUNK, 0);
  }

  /**
   * Others are about to make a file `sizeBytes` long: false until what lies beyond is shown no more. Then true, and no
   * more of the file is shown until `endCut`.
   */
  beginCut(file: WindowFile, sizeBytes: number): boolean {
    // Held first: what is wished for in between would be shown whole.
    this.hold(file);
    const done = this.cut(file, sizeBytes);
    if (!done) this.endCut(file);
    return done;
  }

  /** No more of a file is shown than now, until `endCut`. */
  hold({ nodeidLo }: WindowFile): void {
    lock(this.#words, LOCK);
    this.#words[busyAt(nodeidLo)] += 1;
    unlock(this.#words, LOCK);
  }

  /** What lies beyond `sizeBytes` of a file is not to be shown: whether it is so. */
  cut({ nodeidLo, nodeidHi }: WindowFile, sizeBytes: number): boolean {
    const words = this.#words;
    let wanted = false;
    let done = true;
    lock(words, LOCK);
    words[SHRUNK + ((nodeidLo & (SHRUNK_BITS - 1)) >> 5)] |= 1 << (nodeidLo & 31);
    Atomics.store(words, ANY_SHRUNK, 1);
    for (let range = 0; range < this.count; range += 1) {
      const w = at(range);
      if (!this.#shows(w, nodeidLo, nodeidHi)) continue;
      const bytes = bytesOf(words[w + BLOCK] >>> 0, sizeBytes);
      if (bytes < words[w + BYTES] && words[w + STATE] !== FAILED) {
        this.#want(w, bytes);
        wanted = true;
      }
      if (words[w + STATE] === WANTED && !isLate(words[w + SINCE])) done = false;
    }
    unlock(words, LOCK);
    if (wanted) this.#wake();
    return done;
  }

  endCut({ nodeidLo }: WindowFile): void {
    lock(this.#words, LOCK);
    this.#words[busyAt(nodeidLo)] -= 1;
    unlock(this.#words, LOCK);
    Atomics.notify(this.#words, busyAt(nodeidLo));
  }

  /** Waits until nobody is making a file shorter, or that takes too long. */
  awaitCuts({ nodeidLo }: WindowFile): void {
    const busy = busyAt(nodeidLo);
    for (let cuts = Atomics.load(this.#words, busy); cuts !== 0; cuts = Atomics.load(this.#words, busy)) {
      if (Atomics.wait(this.#words, busy, cuts, ANSWER_MS) === 'timed-out') return;
    }
  }

  /** Whether there are ranges that do not show all that they might of a file. */
  isCutFile(nodeidLo: number, nodeidHi: number): boolean {
    const words = this.#words;
    let found = false;
    lock(words, LOCK);
    for (let range = 0; range < this.count && !found; range += 1) {
      const w = at(range);
      found = words[w + BYTES] < RANGE_BYTES && this.#shows(w, nodeidLo, nodeidHi);
    }
    unlock(words, LOCK);
    return found;
  }

  /** Whether others have made a file shorter since the last `reset`. */
  get anyShrunk(): boolean {
    return Atomics.load(this.#words, ANY_SHRUNK) !== 0;
  }

  /** Files of which ranges are cut, each once; `shrunk`: those alone that others have made shorter. */
  cutFiles(shrunk = false): WindowFile[] {
    const words = this.#words;
    const files = new Map<number, WindowFile>();
    lock(words, LOCK);
    for (let range = 0; range < this.count; range += 1) {
      const w = at(range);
      if (words[w + STATE] === FREE || words[w + BYTES] === RANGE_BYTES) continue;
      if (shrunk && !this.#isShrunk(words[w + NODEID_LO])) continue;
      files.set(words[w + NODEID_LO], { nodeidLo: words[w + NODEID_LO], nodeidHi: words[w + NODEID_HI] });
    }
    unlock(words, LOCK);
    return [...files.values()];
  }

  /** The guest is about to hear that a file is `sizeBytes` long: waits until all of it is shown that was cut. */
  extend(file: WindowFile, sizeBytes: number): void {
    this.regrow(file, sizeBytes);
    for (let range = 0; range < this.count; range += 1) {
      const w = at(range);
      if (this.#shows(w, file.nodeidLo, file.nodeidHi)) Atomics.wait(this.#words, w + STATE, WANTED, ANSWER_MS);
    }
  }

  /** A file is `sizeBytes` long: all of it is to be shown that was cut, unless somebody is cutting it. */
  regrow({ nodeidLo, nodeidHi }: WindowFile, sizeBytes: number): void {
    const words = this.#words;
    let wanted = false;
    lock(words, LOCK);
    for (let range = 0; range < this.count && words[busyAt(nodeidLo)] === 0; range += 1) {
      const w = at(range);
      if (!this.#shows(w, nodeidLo, nodeidHi)) continue;
      const bytes = bytesOf(words[w + BLOCK] >>> 0, sizeBytes);
      if (bytes <= words[w + BYTES]) continue;
      this.#want(w, bytes);
      wanted = true;
    }
    unlock(words, LOCK);
    if (wanted) this.#wake();
  }

  /** The file of a wish is `sizeBytes` long, and the guest may think it longer: how many bytes the range is to show. */
  limit(range: number, ticket: number, sizeBytes: number): number {
    const words = this.#words;
    const w = at(range);
    lock(words, LOCK);
    const bytes = Math.min(words[w + BYTES], bytesOf(words[w + BLOCK] >>> 0, sizeBytes));
    if (words[w + TICKET] === ticket && words[w + STATE] === WANTED) this.#setBytes(w, bytes);
    unlock(words, LOCK);
    return bytes;
  }

  /** Changes when a range is to show something else. */
  ticket(range: number): number {
    return Atomics.load(this.#words, at(range) + TICKET);
  }

  /** What a range is to show. */
  wish(range: number): Wish {
    const words = this.#words;
    const w = at(range);
    lock(words, LOCK);
    const [state, nodeidLo, nodeidHi, block, bytes] = words.subarray(w, w + RANGE_WORDS);
    const ticket = words[w + TICKET];
    unlock(words, LOCK);
    if (state !== WANTED && state !== MAPPED) return { ticket };
    return { ticket, file: { nodeidLo, nodeidHi, offset: (block >>> 0) * RANGE_BYTES, bytes } };
  }

  /** The wish of that ticket is fulfilled (0), or cannot be (a negative errno). */
  fulfil(range: number, ticket: number, result: number): void {
    const words = this.#words;
    const w = at(range);
    lock(words, LOCK);
    if (words[w + TICKET] === ticket && words[w + STATE] === WANTED) {
      words[w + ERROR] = result;
      // A guest that has this range for long does not ask for it: it is tried again when the file is extended.
      if (result < 0) this.#setBytes(w, 0);
      Atomics.store(words, w + STATE, result < 0 ? FAILED : MAPPED);
      Atomics.notify(words, w + STATE);
    }
    unlock(words, LOCK);
  }

  /** How many ranges the VMM shows, or is asked for. */
  setShown(count: number): void {
    Atomics.store(this.#words, SHOWN, count);
    Atomics.notify(this.#words, SHOWN);
  }

  /** After `reset`: waits until nothing is shown any more, or the VMM does not answer. */
  awaitEmpty(): void {
    const words = this.#words;
    for (let shown = Atomics.load(words, SHOWN); shown !== 0; shown = Atomics.load(words, SHOWN)) {
      if (Atomics.wait(words, SHOWN, shown, ANSWER_MS) === 'timed-out') return;
    }
  }

  // Under the lock, all of these.

  #shows(w: number, nodeidLo: number, nodeidHi: number): boolean {
    const words = this.#words;
    return words[w + STATE] !== FREE && words[w + NODEID_LO] === nodeidLo && words[w + NODEID_HI] === nodeidHi;
  }

  #want(w: number, bytes: number): void {
    const words = this.#words;
    this.#setBytes(w, bytes);
    words[w + TICKET] = (words[w + TICKET] + 1) | 0;
    words[w + SINCE] = Date.now() | 0;
    Atomics.store(words, w + STATE, WANTED);
  }

  #setBytes(w: number, bytes: number): void {
    const before = this.#words[w + BYTES];
    this.#words[w + BYTES] = bytes;
    Atomics.add(this.#words, CUTS, (bytes < RANGE_BYTES ? 1 : 0) - (before < RANGE_BYTES ? 1 : 0));
  }

  #clear(range: number): boolean {
    const words = this.#words;
    const w = at(range);
    if (words[w + STATE] === FREE) return false;
    if (words[w + BYTES] < RANGE_BYTES) Atomics.sub(words, CUTS, 1);
    words[w + TICKET] = (words[w + TICKET] + 1) | 0;
    Atomics.store(words, w + STATE, FREE);
    Atomics.notify(words, w + STATE);
    return true;
  }

  #clearRanges(first: number, end: number): void {
    lock(this.#words, LOCK);
    let cleared = false;
    for (let range = first; range < end; range += 1) cleared = this.#clear(range) || cleared;
    unlock(this.#words, LOCK);
    if (cleared) this.#wake();
  }

  #isShrunk(nodeidLo: number): boolean {
    return (this.#words[SHRUNK + ((nodeidLo & (SHRUNK_BITS - 1)) >> 5)] & (1 << (nodeidLo & 31))) !== 0;
  }

  #wake(): void {
    signalEventfd(this.#words[WAKE_FD]);
  }
}

function at(range: number): number {
  return RANGES + range * RANGE_WORDS;
}

function busyAt(nodeidLo: number): number {
  return BUSY + (nodeidLo & (BUSY_WORDS - 1));
}

/** Bytes of the pages that a file has in its `block`-th 2 MiB. */
function bytesOf(block: number, sizeBytes: number): number {
  const left = Math.ceil(sizeBytes / PAGE_BYTES) * PAGE_BYTES - block * RANGE_BYTES;
  return Math.max(0, Math.min(RANGE_BYTES, left));
}

function isLate(since: number): boolean {
  return ((Date.now() | 0) - since) >>> 0 > ANSWER_MS;
}
