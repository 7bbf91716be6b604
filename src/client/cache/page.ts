/** A page of a file, the memory it lies in, and the order in which pages were used. */
import { PAGE_BYTES } from '../../core/index.ts';
import type { Latch, Task } from '../task.ts';

/** Where pages come from and go to: READ and WRITE of one open file. Both throw ShareError. */
export interface Backing {
  /** At most `into.length` bytes from `position` on; fewer only at the end of the file. */
  read(into: Uint8Array, position: number): Task<number>;
  /** All of it. Where pages are written back, these bytes may change as long as it goes on. */
  write(from: Uint8Array, position: number): Task<void>;
}

/** What was thrown, whatever it was. */
export interface Failure {
  readonly error: unknown;
}

/** The file of a page, as the pool sees it. */
export interface PageHolder {
  /** Gives up a clean page. */
  evict(page: Page): void;
  /** Sends what is dirty, beside. */
  startWriteBack(): void;
  /** Sends what is dirty, and waits for what is under way; errors are kept. */
  settle(): Task<void>;
}

/** One piece of memory for many pages: an ArrayBuffer for each page would cost a tenth of it once more. */
class Slab {
  readonly bytes: Uint8Array;
  readonly #taken: Uint8Array;
  #used = 0;
  #next = 0;

  constructor(pages: number) {
    this.bytes = new Uint8Array(pages * PAGE_BYTES);
    this.#taken = new Uint8Array(pages);
  }

  get used(): number {
    return this.#used;
  }

  get full(): boolean {
    return this.#used === this.#taken.length;
  }

  /** One that is free: the one behind the last that was taken, where possible. */
  take(): number {
    let slot = this.#taken.indexOf(0, this.#next);
    if (slot === -1) slot = this.#taken.indexOf(0);
    this.#taken[slot] = 1;
    this.#used += 1;
    this.#next = slot + 1;
    return slot;
  }

  give(slot: number): void {
    this.#taken[slot] = 0;
    this.#used -= 1;
  }
}

export class Page {
  readonly file: PageHolder;
  readonly index: number;
  readonly slab: Slab;
  readonly slot: number;
  /** Settled when the READ that fills it has ended. */
  load: Latch | undefined = undefined;
  /** Settled when the WRITE that sends it has ended. */
  write: Latch | undefined = undefined;
  /** The open file that wrote what was not sent yet. */
  dirtiedBy: Backing | undefined = undefined;
  /** Its file has let it go. The memory is in use until READ or WRITE have ended. */
  gone = false;
  /** It was invalidated while it was sent: nobody knows whether the file has changed before or after. */
  outdated = false;
  older: Page | undefined = undefined;
  newer: Page | undefined = undefined;

  constructor(file: PageHolder, index: number, slab: Slab, slot: number) {
    this.file = file;
    this.index = index;
    this.slab = slab;
    this.slot = slot;
  }

  get idle(): boolean {
    return this.load === undefined && this.write === undefined;
  }

  /** In the file. */
  get position(): number {
    return this.index * PAGE_BYTES;
  }

  bytes(from = 0, to = PAGE_BYTES): Uint8Array {
    const start = this.slot * PAGE_BYTES;
    return this.slab.bytes.subarray(start + from, start + to);
  }
}

/** All pages as one piece, where they lie behind each other in memory. */
export function asOnePiece(pages: readonly Page[]): Uint8Array | undefined {
  const { slab, slot } = pages[0];
  for (let i = 1; i < pages.length; i += 1) {
    if (pages[i].slab !== slab || pages[i].slot !== slot + i) return undefined;
  }
  return slab.bytes.subarray(slot * PAGE_BYTES, (slot + pages.length) * PAGE_BYTES);
}

/** Memory for pages. What is not in use any more goes back in whole slabs. */
export class PageMemory {
  readonly #slabPages: number;
  /** Those that have room. */
  readonly #roomy = new Set<Slab>();
  #current: Slab | undefined;
  #used = 0;

  constructor(slabPages: number) {
    this.#slabPages = slabPages;
  }

  /** Pages in use. */
  get used(): number {
    return this.#used;
  }

  /** Its content is whatever was there before. */
  take(file: PageHolder, index: number): Page {
    let slab = this.#current;
    if (slab === undefined || slab.full) {
      [slab] = this.#roomy;
      slab ??= new Slab(this.#slabPages);
      this.#current = slab;
    }
    const page = new Page(file, index, slab, slab.take());
    if (slab.full) this.#roomy.delete(slab);
    else this.#roomy.add(slab);
    this.#used += 1;
    return page;
  }

  give({ slab, slot }: Page): void {
    slab.give(slot);
    this.#used -= 1;
    if (slab.used > 0) {
      this.#roomy.add(slab);
      return;
    }
    this.#roomy.delete(slab);
    if (this.#current === slab) this.#current = undefined;
  }
}

/** Pages in the order of their last use. */
export class PageList {
  #oldest: Page | undefined;
  #newest: Page | undefined;

  get oldest(): Page | undefined {
    return this.#oldest;
  }

  /** As the one that was used last. */
  add(page: Page): void {
    page.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = page;
    else this.#newest.newer = page;
    this.#newest = page;
  }

  remove(page: Page): void {
    const { older, newer } = page;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    page.older = undefined;
    page.newer = undefined;
  }

  touch(page: Page): void {
    if (page === this.#newest) return;
    this.remove(page);
    this.add(page);
  }
}
