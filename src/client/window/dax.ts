/**
 * Files through the window: which 2 MiB of which file each of its ranges shows, as fs/fuse/dax.c has it. A range is set
 * up when a file is first read or written there, and taken back when there are too few; reading and writing is then a
 * copy, without any message. What makes a file longer is not written here: data and size would not change as one.
 *
 * Ranges begin at multiples of their size, in the window and in the file, and all have that size. So a block of a file
 * is shown by one range or by none, and a map by block says which: no two of them can overlap in part, and nothing is
 * asked for by intervals but all that lies behind an end, for which all of a file's ranges are looked at.
 */
import { assert } from '../../core/index.ts';
import { flags } from '../../fuse/index.ts';
import { readMemory, writeMemory } from '../../sys/index.ts';
import { Latch, start, type Task } from '../task.ts';
import type { WindowPlace } from './window-requests.ts';

/** FUSE_DAX_SZ. */
export const DAX_RANGE_BYTES = 2 * 1024 * 1024;
/** FUSE_DAX_RECLAIM_THRESHOLD: with fewer free ranges some are taken back beside. */
const FREE_WANTED = 0.2;
/** FUSE_DAX_RECLAIM_CHUNK: so many at once. */
const RECLAIM_CHUNK = 10;

export interface DaxRange {
  readonly windowOffset: number;
  readonly length: number;
}

/** What the daemon is asked for. */
export interface DaxOps {
  /** SETUPMAPPING of DAX_RANGE_BYTES, both offsets multiples of that. When it returns the window shows them. */
  setup(nodeid: bigint, fh: bigint, fileOffset: number, windowOffset: number, write: boolean): Task<void>;
  /** REMOVEMAPPING of at most flags.REMOVEMAPPING_MAX_ENTRY ranges. */
  remove(ranges: readonly DaxRange[], nodeid: bigint): Task<void>;
}

/** A range that shows a block of a file, or is about to, or does until just now. */
export interface Shown {
  readonly file: DaxFile;
  readonly block: number;
  readonly windowOffset: number;
  writable: boolean;
  /** Tasks that copy, or wait for that: it is not taken back meanwhile. */
  users: number;
  /** While the daemon is asked to show it, to show it to be written, or to take it back. */
  changing: Latch | undefined;
}

export class DaxRanges {
  readonly #window: WindowPlace;
  readonly #ops: DaxOps;
  readonly #files = new Map<bigint, DaxFile>();
  /** Offsets in the window. */
  readonly #free: number[] = [];
  /** Those that show something and are not on their way out, least recently used first. */
  readonly #shown = new Set<Shown>();
  readonly #freeWanted: number;
  /** What tasks wait for that find every range in use: a range comes free, or is not used any more. */
  #change: Latch | undefined;
  #reclaiming: Latch | undefined;
  /** Of `#shown`, the last. */
  #latest: Shown | undefined;
  #closed = false;

  /** `window.sizeBytes`: what is beyond a multiple of DAX_RANGE_BYTES is not used. Throws RangeError below one. */
  constructor(window: WindowPlace, ops: DaxOps) {
    const count = Math.floor(window.sizeBytes / DAX_RANGE_BYTES);
    if (count === 0) throw new RangeError(`a window of ${window.sizeBytes} bytes has no range of ${DAX_RANGE_BYTES}`);
    this.#window = window;
    this.#ops = ops;
    this.#freeWanted = Math.max(1, Math.floor(count * FREE_WANTED));
    for (let range = count - 1; range >= 0; range -= 1) this.#free.push(range * DAX_RANGE_BYTES);
  }

  /** Ranges that show nothing. */
  get free(): number {
    return this.#free.length;
  }

  /** A file, by its node: one object until it is dropped. */
  file(nodeid: bigint): DaxFile {
    const known = this.#files.get(nodeid);
    if (known !== undefined) return known;
    const file = new DaxFile(this, nodeid);
    this.#files.set(nodeid, file);
    return file;
  }

  /**
   * The range of a block, for a task that copies at once and then lets go of it, or undefined where the daemon must be
   * asked first.
   */
  ready(file: DaxFile, block: number, write: boolean): Shown | undefined {
    const shown = file.blocks.get(block);
    if (shown === undefined || shown.changing !== undefined || (write && !shown.writable)) return undefined;
    return this.#closed ? undefined : this.#use(shown);
  }

  /** As `ready`, with what it takes: a range that is free, or comes free, or is taken from another block. */
  *claim(file: DaxFile, fh: bigint, block: number, write: boolean): Task<Shown> {
    for (;;) {
      this.#checkOpen();
      const known = file.blocks.get(block);
      const shown = known === undefined ? yield* this.#show(file, fh, block, write) : yield* this.#share(known);
      if (shown === undefined) continue;
      if (write && !shown.writable) yield* this.#upgrade(shown, fh);
      return shown;
    }
  }

  #checkOpen(): void {
    if (this.#closed) throw new Error('the window of the share is closed');
  }

  /** A range that somebody else has set up, or is about to; undefined where that came to nothing. */
  *#share(shown: Shown): Task<Shown | undefined> {
    this.#use(shown);
    while (shown.changing !== undefined) yield shown.changing;
    if (shown.file.blocks.get(shown.block) === shown) return shown;
    this.release(shown);
    return undefined;
  }

  /** Has a block shown; undefined where it is to be looked at again. */
  *#show(file: DaxFile, fh: bigint, block: number, write: boolean): Task<Shown | undefined> {
    const windowOffset = yield* this.#take();
    if (windowOffset === undefined) return undefined;
    if (this.#closed || file.blocks.has(block)) {
      this.#giveBack(windowOffset);
      return undefined;
    }
    const shown: Shown = { file, block, windowOffset, writable: write, users: 1, changing: new Latch() };
    file.blocks.set(block, shown);
    this.#shown.add(shown);
    try {
      yield* this.#ops.setup(file.nodeid, fh, block * DAX_RANGE_BYTES, windowOffset, write);
    } catch (error) {
      file.blocks.delete(block);
      this.#shown.delete(shown);
      this.#giveBack(windowOffset);
      throw error;
    } finally {
      settled(shown);
    }
    return shown;
  }

  /** Linux asks for the same range again, to be written to, without a REMOVEMAPPING. */
  *#upgrade(shown: Shown, fh: bigint): Task<void> {
    const { file, block, windowOffset } = shown;
    shown.changing = new Latch();
    let done = false;
    try {
      yield* this.#ops.setup(file.nodeid, fh, block * DAX_RANGE_BYTES, windowOffset, true);
      done = true;
    } finally {
      shown.writable = done;
      settled(shown);
      if (!done) this.release(shown);
    }
  }

  /** A range that shows nothing; undefined after a wait, when things are to be looked at again. */
  *#take(): Task<number | undefined> {
    const first = this.#free.pop();
    this.#reclaimBeside();
    const free = first ?? this.#free.pop();
    if (free !== undefined) return free;
    const [oldest] = this.#leastUsed(1);
    if (oldest === undefined) {
      this.#change ??= new Latch();
      yield this.#change;
      return undefined;
    }
    yield* this.#remove(oldest.file, [oldest]);
    return oldest.windowOffset;
  }

  #giveBack(windowOffset: number): void {
    this.#free.push(windowOffset);
    this.#wake();
  }

  #use(shown: Shown): Shown {
    shown.users += 1;
    if (this.#latest !== shown && this.#shown.delete(shown)) this.#shown.add(shown);
    this.#latest = shown;
    return shown;
  }

  /** Whoever has a range does not use it any more. */
  release(shown: Shown): void {
    assert(shown.users > 0, 'a range is let go of twice');
    shown.users -= 1;
    if (shown.users === 0) this.#wake();
  }

  #wake(): void {
    const change = this.#change;
    this.#change = undefined;
    change?.settle();
  }

  /** Bytes copied between a range and a buffer: fewer than `count` where the window shows no more of the file. */
  copy(shown: Shown, offset: number, bytes: Uint8Array, at: number, count: number, write: boolean): number {
    // There may be anything at these addresses afterwards.
    this.#checkOpen();
    const address = this.#window.address + shown.windowOffset + offset;
    return write ? writeMemory(address, bytes, at, count) : readMemory(address, bytes, at, count);
  }

  #leastUsed(count: number): Shown[] {
    const found: Shown[] = [];
    for (const shown of this.#shown) {
      if (found.length === count) break;
      if (shown.users === 0) found.push(shown);
    }
    return found;
  }

  /**
   * Has ranges of a file unmapped. When the daemon does not do it they are free nevertheless, as for Linux: what is set
   * up there next takes their place, or fails and says so.
   */
  *#remove(file: DaxFile, all: readonly Shown[]): Task<void> {
    for (const shown of all) {
      shown.changing = new Latch();
      this.#shown.delete(shown);
      file.blocks.delete(shown.block);
      file.leaving.add(shown);
    }
    for (let at = 0; at < all.length; at += flags.REMOVEMAPPING_MAX_ENTRY) {
      const some = all.slice(at, at + flags.REMOVEMAPPING_MAX_ENTRY);
      try {
        const ranges = some.map(({ windowOffset }) => ({ windowOffset, length: DAX_RANGE_BYTES }));
        yield* this.#ops.remove(ranges, file.nodeid);
      } catch {
        // See above.
      }
      for (const shown of some) {
        file.leaving.delete(shown);
        settled(shown);
      }
    }
  }

  #reclaimBeside(): void {
    if (this.#closed || this.#reclaiming !== undefined || this.#free.length >= this.#freeWanted) return;
    this.#reclaiming = start(this.#reclaim());
    if (this.#reclaiming.settled) this.#reclaiming = undefined;
  }

  *#reclaim(): Task<void> {
    while (!this.#closed && this.#free.length < this.#freeWanted) {
      const oldest = this.#leastUsed(Math.min(RECLAIM_CHUNK, this.#freeWanted - this.#free.length));
      if (oldest.length === 0) break;
      // One request speaks of one file.
      const [{ file }] = oldest;
      const together = oldest.filter((shown) => shown.file === file);
      yield* this.#remove(file, together);
      for (const { windowOffset } of together) this.#giveBack(windowOffset);
    }
    this.#reclaiming = undefined;
  }

  /** Has all of a file's ranges from a block on unmapped, when nobody uses them any more. */
  *takeBack(file: DaxFile, firstBlock: number): Task<void> {
    for (;;) {
      const all = [...file.blocks.values()].filter(({ block }) => block >= firstBlock);
      const unused = all.filter(({ users }) => users === 0);
      const [leaving] = [...file.leaving].filter(({ block }) => block >= firstBlock);
      if (unused.length > 0) {
        yield* this.#remove(file, unused);
        for (const { windowOffset } of unused) this.#giveBack(windowOffset);
      } else if (leaving?.changing !== undefined) {
        yield leaving.changing;
      } else if (all.length > 0) {
        this.#change ??= new Latch();
        yield this.#change;
      } else {
        return;
      }
    }
  }

  /** A file is not known any more. */
  forget(file: DaxFile): void {
    if (this.#files.get(file.nodeid) === file) this.#files.delete(file.nodeid);
  }

  /**
   * Nobody copies from now on: whoever still waits for a range hears an error when what was asked of the daemon is
   * answered, and then this returns. What it shows it shows until DESTROY, as for a guest that unmounts.
   */
  *close(): Task<void> {
    this.#closed = true;
    for (const file of this.#files.values()) {
      for (const { changing } of [...file.blocks.values(), ...file.leaving]) if (changing !== undefined) yield changing;
    }
    if (this.#reclaiming !== undefined) yield this.#reclaiming;
  }
}

/** Whoever waits for a range to be changed looks at what has become of it. */
function settled(shown: Shown): void {
  const { changing } = shown;
  shown.changing = undefined;
  changing?.settle();
}

/** A file of the share, as far as the window shows it. */
export class DaxFile {
  readonly nodeid: bigint;
  /** What shows it, by block: for DaxRanges. */
  readonly blocks = new Map<number, Shown>();
  /** What does so until the daemon has answered. */
  readonly leaving = new Set<Shown>();
  readonly #ranges: DaxRanges;

  constructor(ranges: DaxRanges, nodeid: bigint) {
    this.#ranges = ranges;
    this.nodeid = nodeid;
  }

  /**
   * Reads from a position on, below `sizeBytes`: what the file is known to have. Bytes read: fewer than there should be
   * where the window shows no more. Somebody has made the file shorter, or does so now; the daemon knows more.
   */
  read(fh: bigint, into: Uint8Array, position: number, sizeBytes: number): Task<number> {
    return this.#copy(fh, into, position, sizeBytes, false);
  }

  /**
   * Writes below `sizeBytes`: what would make the file longer is for the daemon. Bytes written: fewer as for `read`,
   * and the rest is for the daemon, too. Nobody may make the file shorter meanwhile through this share.
   */
  write(fh: bigint, from: Uint8Array, position: number, sizeBytes: number): Task<number> {
    return this.#copy(fh, from, position, sizeBytes, true);
  }

  *#copy(fh: bigint, bytes: Uint8Array, position: number, sizeBytes: number, write: boolean): Task<number> {
    const length = Math.min(bytes.length, sizeBytes - position);
    let done = 0;
    while (done < length) {
      const at = position + done;
      const block = Math.floor(at / DAX_RANGE_BYTES);
      const offset = at - block * DAX_RANGE_BYTES;
      const count = Math.min(length - done, DAX_RANGE_BYTES - offset);
      const shown = this.#ranges.ready(this, block, write) ?? (yield* this.#ranges.claim(this, fh, block, write));
      let copied: number;
      try {
        copied = this.#ranges.copy(shown, offset, bytes, done, count, write);
      } finally {
        this.#ranges.release(shown);
      }
      done += copied;
      if (copied < count) break;
    }
    return done;
  }

  /** The file ends there now: ranges that lie beyond are given back. */
  truncated(sizeBytes: number): Task<void> {
    return this.#ranges.takeBack(this, Math.ceil(sizeBytes / DAX_RANGE_BYTES));
  }

  /** Before FORGET: all ranges are given back. */
  *drop(): Task<void> {
    this.#ranges.forget(this);
    yield* this.#ranges.takeBack(this, 0);
  }
}
