/** The cached content of one file (fs/fuse/file.c, mm/filemap.c). */
import { PAGE_BYTES } from '../../core/index.ts';
import { asOnePiece, type Backing, type Failure, type Page, type PageHolder } from './page.ts';
import type { PagePool } from './page-pool.ts';
import { Readahead } from './page-readahead.ts';
import { Latch, start, type Task } from '../task.ts';

/** WRITEs of one file that are under way side by side when it is written back. */
const MAX_WRITES = 8;

/** A READ. */
class Load extends Latch {
  readonly pages: Page[];
  failure: Failure | undefined;

  constructor(pages: Page[]) {
    super();
    this.pages = pages;
  }
}

/**
 * What a guest keeps of a file, and the size it believes the file to have. Bytes behind that size are zeros in all
 * pages, and no page lies behind it.
 */
export class CachedFile implements PageHolder {
  readonly #pool: PagePool;
  readonly #pages = new Map<number, Page>();
  readonly #dirty = new Set<Page>();
  readonly #writes = new Set<Latch>();
  /** A window for each open file. */
  readonly #readaheads = new WeakMap<Backing, Readahead>();
  #sizeBytes: number;
  /** Counts what makes a reply that is still under way outdated. */
  #epoch = 0;
  /** Held by whoever writes, or changes the size. */
  #lock: Latch | undefined;
  /** While it is there, no WRITE of dirty pages begins. */
  #held: Latch | undefined;
  /** The first error of a WRITE that nobody has heard of yet. */
  #failure: Failure | undefined;
  #writingBack = false;

  constructor(pool: PagePool, sizeBytes: number) {
    this.#pool = pool;
    this.#sizeBytes = sizeBytes;
  }

  /** As the guest believes it: writes raise it, and `truncate` sets it. Without write-back, a short READ lowers it. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Something is not sent yet, or is under way. */
  get isDirty(): boolean {
    return this.#dirty.size > 0 || this.#writes.size > 0;
  }

  /** Bytes read: fewer than asked at the end of the file, or where a READ failed behind those. Throws its error. */
  *read(backing: Backing, into: Uint8Array, position: number): Task<number> {
    const readahead = this.#readahead(backing);
    let done = 0;
    try {
      while (done < into.length) {
        const at = position + done;
        const wanted = Math.min(into.length - done, this.#sizeBytes - at);
        if (wanted <= 0) break;
        const index = Math.floor(at / PAGE_BYTES);
        const pages = Math.ceil((at + wanted) / PAGE_BYTES) - index;
        const page = this.#pages.get(index);
        if (page === undefined) yield* this.#miss(backing, index, readahead.miss(index, pages));
        else if (page.load !== undefined) {
          // What was read here before may lie beyond the limit, and the wait may be long.
          this.#pool.trim();
          yield page.load;
        } else {
          const offset = at - page.position;
          const length = Math.min(wanted, PAGE_BYTES - offset);
          into.set(page.bytes(offset, offset + length), done);
          done += length;
          if (page.idle && page.dirtiedBy === undefined) this.#pool.clean.touch(page);
          const window = readahead.hit(index, pages);
          if (window !== undefined) this.#load(backing, window.start, window.count);
        }
      }
    } catch (error) {
      if (done === 0) throw error;
    } finally {
      this.#pool.trim();
    }
    return done;
  }

  /**
   * Writes all of it: at the end of the file where no position is given. Returns where that was. Writers wait for each
   * other. With write-back only what must be read first, or too much that is dirty, makes it wait.
   */
  *write(backing: Backing, from: Uint8Array, position?: number): Task<number> {
    return yield* this.exclusive(this.#write(backing, from, position));
  }

  /** Runs it while nobody writes or changes the size: inode_lock. It may do neither of both by this file itself. */
  *exclusive<T>(work: Task<T>): Task<T> {
    while (this.#lock !== undefined) yield this.#lock;
    const lock = new Latch();
    this.#lock = lock;
    try {
      return yield* work;
    } finally {
      this.#lock = undefined;
      lock.settle();
    }
  }

  /**
   * Sends all that is dirty, in order, and waits for what is under way. Throws the first error since the last flush,
   * once. What could not be written is lost, as it is for any guest: it is read again from the file.
   */
  *flush(): Task<void> {
    yield* this.settle();
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure.error;
  }

  *settle(): Task<void> {
    yield* this.#writeBack();
    yield* this.#underWay();
  }

  startWriteBack(): void {
    if (!this.#writingBack && this.#dirty.size > 0) start(this.#writeBackBeside());
  }

  /**
   * Changes the size: `change` is the SETATTR. It runs while no WRITE is under way, which would come after it and bring
   * back what it cuts off (fuse_set_nowrite); pages follow when it has succeeded.
   */
  *resize<T>(sizeBytes: number, change: Task<T>): Task<T> {
    return yield* this.exclusive(this.#resize(sizeBytes, change));
  }

  /** Drops what is clean of these bytes, when their pages have changed in the file. What is dirty stays. */
  invalidate(from = 0, to = Infinity): void {
    this.#epoch += 1;
    for (const page of this.#pagesOf(Math.floor(from / PAGE_BYTES), Math.ceil(to / PAGE_BYTES))) {
      if (page.write !== undefined) page.outdated = true;
      else if (page.dirtiedBy === undefined) this.#drop(page);
    }
  }

  /**
   * The file has this size from now on. Pages behind it go, dirty ones, too. Where the file has grown by somebody else,
   * `invalidate` is due, too. With 0, all is forgotten.
   */
  truncate(sizeBytes: number): void {
    this.#epoch += 1;
    this.#sizeBytes = sizeBytes;
    const last = Math.floor(sizeBytes / PAGE_BYTES);
    const kept = sizeBytes % PAGE_BYTES;
    for (const page of this.#pagesOf(last, Infinity)) {
      if (page.index > last || kept === 0 || page.load !== undefined) this.#drop(page);
      else page.bytes(kept).fill(0);
    }
    this.#pool.ease();
  }

  evict(page: Page): void {
    this.#drop(page);
  }

  /** Those in the cache, from one index to before another. */
  #pagesOf(from: number, to: number): Page[] {
    if (to - from > this.#pages.size)
      return [...this.#pages.values()].filter(({ index }) => index >= from && index < to);
    const pages: Page[] = [];
    for (let index = from; index < to; index += 1) {
      const page = this.#pages.get(index);
      if (page !== undefined) pages.push(page);
    }
    return pages;
  }

  #take(index: number): Page {
    const page = this.#pool.take(this, index);
    this.#pages.set(index, page);
    return page;
  }

  /** The file knows it no more. Its memory is free when nothing is under way. */
  #drop(page: Page): void {
    this.#pages.delete(page.index);
    page.gone = true;
    if (page.dirtiedBy !== undefined) this.#clean(page);
    else if (page.idle) this.#pool.clean.remove(page);
    if (page.idle) this.#pool.give(page);
  }

  /** Nothing is under way with it any more. */
  #rest(page: Page): void {
    if (page.gone) this.#pool.give(page);
    else if (page.dirtiedBy === undefined) this.#pool.clean.add(page);
  }

  #clean(page: Page): void {
    page.dirtiedBy = undefined;
    this.#dirty.delete(page);
    this.#pool.cleaned();
    if (!this.isDirty) this.#pool.settled(this);
  }

  #soil(page: Page, backing: Backing): void {
    if (page.dirtiedBy === undefined) {
      if (page.idle) this.#pool.clean.remove(page);
      this.#dirty.add(page);
      this.#pool.dirtied(this);
    }
    page.dirtiedBy = backing;
  }

  #readahead(backing: Backing): Readahead {
    let readahead = this.#readaheads.get(backing);
    if (readahead === undefined) {
      const { limitPages, options } = this.#pool;
      // A window that pushes itself out of the cache is of no use.
      const pagesOf = (bytes: number): number => Math.floor(Math.min(bytes / PAGE_BYTES, limitPages / 2));
      const maxPages = pagesOf(options.maxReadaheadBytes);
      readahead = new Readahead(maxPages, Math.max(1, maxPages, pagesOf(options.maxReadBytes)));
      this.#readaheads.set(backing, readahead);
    }
    return readahead;
  }

  /** Reads a page that is not there, and those behind it. */
  *#miss(backing: Backing, index: number, count: number): Task<void> {
    const load = this.#load(backing, index, count, true);
    if (load === undefined) return;
    if (!load.settled) yield load;
    if (load.failure !== undefined) throw load.failure.error;
  }

  /**
   * Starts to read those of the pages that are missing, as far as there is room: the first in any case where it is
   * `needed`. Returns what reads the first one.
   */
  #load(backing: Backing, index: number, count: number, needed = false): Load | undefined {
    const end = Math.min(index + count, Math.ceil(this.#sizeBytes / PAGE_BYTES));
    const most = Math.floor(this.#pool.options.maxReadBytes / PAGE_BYTES);
    const loads: Load[] = [];
    let load: Load | undefined;
    for (let at = index; at < end; at += 1) {
      if (this.#pages.has(at)) {
        load = undefined;
        continue;
      }
      if (!this.#pool.makeRoom() && !(needed && at === index)) break;
      if (load === undefined || load.pages.length === most) {
        load = new Load([]);
        loads.push(load);
      }
      const page = this.#take(at);
      page.load = load;
      load.pages.push(page);
    }
    for (const each of loads) start(this.#fetch(backing, each));
    return loads.at(0);
  }

  *#fetch(backing: Backing, load: Load): Task<void> {
    const { pages } = load;
    const { position } = pages[0];
    const piece = asOnePiece(pages);
    const into = piece ?? new Uint8Array(pages.length * PAGE_BYTES);
    const epoch = this.#epoch;
    try {
      const length = yield* backing.read(into, position);
      into.fill(0, Math.max(0, Math.min(length, this.#sizeBytes - position)));
      pages.forEach((page, i) => {
        if (piece === undefined) page.bytes().set(into.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES));
        page.load = undefined;
        this.#rest(page);
      });
      if (length < into.length && epoch === this.#epoch) this.#foundEnd(position + length);
    } catch (error) {
      load.failure = { error };
      for (const page of pages) {
        if (!page.gone) this.#drop(page);
        page.load = undefined;
        this.#rest(page);
      }
    }
    load.settle();
    this.#pool.ease();
  }

  /** fuse_short_read: with write-back it is only the end of what was sent; and whoever writes knows better. */
  #foundEnd(sizeBytes: number): void {
    if (!this.#pool.options.writeback && this.#lock === undefined && sizeBytes < this.#sizeBytes) {
      this.truncate(sizeBytes);
    }
  }

  *#write(backing: Backing, from: Uint8Array, given: number | undefined): Task<number> {
    // Now that all others have ended: the end may have moved.
    const position = given ?? this.#sizeBytes;
    try {
      if (this.#pool.options.writeback) yield* this.#writeLater(backing, from, position);
      else yield* this.#writeNow(backing, from, position);
    } finally {
      this.#epoch += 1;
      this.#pool.trim();
    }
    return position;
  }

  /** fuse_perform_write */
  *#writeNow(backing: Backing, from: Uint8Array, position: number): Task<void> {
    const { maxWriteBytes } = this.#pool.options;
    const end = position + from.length;
    for (let at = position; at < end; ) {
      // All but the first begin with a page.
      const next = Math.min(end, Math.floor((at + maxWriteBytes) / PAGE_BYTES) * PAGE_BYTES);
      const piece = from.subarray(at - position, next - position);
      const epoch = this.#epoch;
      try {
        yield* backing.write(piece, at);
      } catch (error) {
        // Nobody knows how much of it was written.
        this.invalidate(at, next);
        throw error;
      }
      if (epoch === this.#epoch) this.#keep(piece, at);
      else this.invalidate(at, next);
      this.#sizeBytes = Math.max(this.#sizeBytes, next);
      at = next;
    }
  }

  /** What the file has got, for those who read it next. */
  #keep(piece: Uint8Array, position: number): void {
    const end = position + piece.length;
    for (let at = position; at < end; ) {
      const index = Math.floor(at / PAGE_BYTES);
      const next = Math.min(end, (index + 1) * PAGE_BYTES);
      let page = this.#pages.get(index);
      // It may be read from before the WRITE or from after it.
      if (page?.load !== undefined) this.#drop(page);
      else {
        if (page === undefined && next - at === PAGE_BYTES && this.#pool.makeRoom()) {
          page = this.#take(index);
          this.#rest(page);
        }
        page?.bytes(at % PAGE_BYTES).set(piece.subarray(at - position, next - position));
      }
      at = next;
    }
  }

  *#writeLater(backing: Backing, from: Uint8Array, position: number): Task<void> {
    const end = position + from.length;
    for (let at = position; at < end; ) {
      const next = Math.min(end, (Math.floor(at / PAGE_BYTES) + 1) * PAGE_BYTES);
      const page = yield* this.#pageFor(backing, at, next);
      page.bytes(at - page.position).set(from.subarray(at - position, next - position));
      this.#soil(page, backing);
      this.#sizeBytes = Math.max(this.#sizeBytes, next);
      yield* this.#pool.balance();
      at = next;
    }
  }

  /** The page that is written from one position to another: with what the file has besides. */
  *#pageFor(backing: Backing, from: number, to: number): Task<Page> {
    const index = Math.floor(from / PAGE_BYTES);
    for (;;) {
      const page = this.#pages.get(index);
      if (page !== undefined) {
        if (page.load === undefined) return page;
        yield page.load;
        continue;
      }
      if (!this.#pool.makeRoom()) {
        yield* this.#pool.room();
        if (this.#pages.has(index)) continue;
      }
      const known = Math.min(this.#sizeBytes, (index + 1) * PAGE_BYTES);
      if (known <= index * PAGE_BYTES || (from === index * PAGE_BYTES && to >= known)) {
        const fresh = this.#take(index);
        fresh.bytes().fill(0);
        this.#rest(fresh);
        return fresh;
      }
      yield* this.#miss(backing, index, 1);
    }
  }

  *#resize<T>(sizeBytes: number, change: Task<T>): Task<T> {
    const held = new Latch();
    this.#held = held;
    try {
      yield* this.#underWay();
      const result = yield* change;
      this.truncate(sizeBytes);
      return result;
    } finally {
      this.#held = undefined;
      held.settle();
    }
  }

  *#underWay(): Task<void> {
    for (const write of [...this.#writes]) if (!write.settled) yield write;
  }

  *#writeBackBeside(): Task<void> {
    this.#writingBack = true;
    while (this.#dirty.size > 0) yield* this.#writeBack();
    this.#writingBack = false;
  }

  /** Sends what is dirty now. */
  *#writeBack(): Task<void> {
    const pages = [...this.#dirty].toSorted((a, b) => a.index - b.index);
    const most = Math.floor(this.#pool.options.maxWriteBytes / PAGE_BYTES);
    for (let i = 0; i < pages.length; ) {
      const { dirtiedBy, write } = pages[i];
      const [oldest] = this.#writes;
      if (dirtiedBy === undefined) i += 1;
      else if (this.#held !== undefined) yield this.#held;
      // Two WRITEs of one page might arrive in any order.
      else if (write !== undefined) yield write;
      else if (this.#writes.size >= MAX_WRITES) yield oldest;
      else {
        let end = i + 1;
        while (end < pages.length && end - i < most && follows(pages[end - 1], pages[end])) end += 1;
        start(this.#send(dirtiedBy, pages.slice(i, end)));
        i = end;
      }
    }
  }

  *#send(backing: Backing, pages: readonly Page[]): Task<void> {
    const write = new Latch();
    this.#writes.add(write);
    this.#pool.writing(pages.length);
    for (const page of pages) {
      page.write = write;
      page.outdated = false;
      this.#clean(page);
    }
    const { position } = pages[0];
    const length = Math.min(pages.length * PAGE_BYTES, this.#sizeBytes - position);
    let failed = false;
    try {
      yield* backing.write(pieceOf(pages, length), position);
    } catch (error) {
      failed = true;
      this.#failure ??= { error };
      this.#pool.failed({ error });
    }
    for (const page of pages) {
      page.write = undefined;
      this.#rest(page);
      if (!page.gone && page.dirtiedBy === undefined && (failed || page.outdated)) this.#drop(page);
    }
    this.#writes.delete(write);
    if (!this.isDirty) this.#pool.settled(this);
    write.settle();
    this.#pool.written(pages.length);
  }
}

/** Whether one WRITE can send both. */
function follows(page: Page, next: Page): boolean {
  return next.index === page.index + 1 && next.dirtiedBy === page.dirtiedBy && next.write === undefined;
}

function pieceOf(pages: readonly Page[], length: number): Uint8Array {
  const piece = asOnePiece(pages)?.subarray(0, length);
  if (piece !== undefined) return piece;
  const copy = new Uint8Array(length);
  pages.forEach((page, i) => {
    copy.set(page.bytes(0, Math.min(PAGE_BYTES, length - i * PAGE_BYTES)), i * PAGE_BYTES);
  });
  return copy;
}
