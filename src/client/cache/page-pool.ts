/** The pages of all files: how many there may be, which go first, and when what is dirty must be sent. */
import { PAGE_BYTES } from '../../core/index.ts';
import { type Failure, type Page, type PageHolder, PageList, PageMemory } from './page.ts';
import { Latch, type Task } from '../task.ts';

export interface PageCacheOptions {
  /** What all pages together may take. Pages that are being read or sent may go beyond it. */
  readonly limitBytes: number;
  /** How far to read ahead of somebody who reads in order; 0: not at all. */
  readonly maxReadaheadBytes: number;
  /** Of one WRITE and one READ: a page at least. */
  readonly maxWriteBytes: number;
  readonly maxReadBytes: number;
  /** FUSE_WRITEBACK_CACHE: what is written stays here, and is sent later. */
  readonly writeback: boolean;
}

/** A MiB: much smaller ones cost more, larger ones come back to the system more seldom. */
const SLAB_PAGES = 256;

export class PagePool {
  readonly options: PageCacheOptions;
  readonly limitPages: number;
  /** Pages that can go at any time: nothing of them is under way, and nothing dirty. */
  readonly clean = new PageList();
  readonly #memory: PageMemory;
  readonly #dirtyFiles = new Set<PageHolder>();
  #dirty = 0;
  #writing = 0;
  /** The first error of a WRITE since somebody asked. */
  #failure: Failure | undefined;
  /** What the next `ease` settles. */
  #eased: Latch | undefined;

  /** Throws RangeError for sizes below a page. */
  constructor(options: PageCacheOptions) {
    for (const name of ['limitBytes', 'maxWriteBytes', 'maxReadBytes'] as const) {
      if (!(options[name] >= PAGE_BYTES)) {
        throw new RangeError(`${name} is ${options[name]}: a page has ${PAGE_BYTES} bytes, give at least as many`);
      }
    }
    this.options = options;
    this.limitPages = Math.floor(options.limitBytes / PAGE_BYTES);
    this.#memory = new PageMemory(Math.min(SLAB_PAGES, this.limitPages));
  }

  get bytes(): number {
    return this.#memory.used * PAGE_BYTES;
  }

  /** Not sent yet. */
  get dirtyBytes(): number {
    return this.#dirty * PAGE_BYTES;
  }

  /** Those with something that is dirty or being sent. */
  get dirtyFiles(): ReadonlySet<PageHolder> {
    return this.#dirtyFiles;
  }

  /** Whether one more page fits; clean ones that were not used for long make room. */
  makeRoom(): boolean {
    while (this.#memory.used >= this.limitPages) {
      const page = this.clean.oldest;
      if (page === undefined) return false;
      page.file.evict(page);
    }
    return true;
  }

  /** Waits until one more page fits, or until all others are being read: these will go. */
  *room(): Task<void> {
    while (!this.makeRoom()) {
      if (this.#dirty > 0) this.#startWriteBack();
      else if (this.#writing === 0) return;
      if (this.#dirty + this.#writing > 0) yield this.#nextEase();
    }
  }

  /** A page with whatever was there before. It belongs to nobody's list. */
  take(file: PageHolder, index: number): Page {
    return this.#memory.take(file, index);
  }

  give(page: Page): void {
    this.#memory.give(page);
  }

  /** Back to the limit, where somebody went beyond it. */
  trim(): void {
    while (this.#memory.used > this.limitPages && this.clean.oldest !== undefined) {
      this.clean.oldest.file.evict(this.clean.oldest);
    }
  }

  /** A page more is dirty. */
  dirtied(file: PageHolder): void {
    this.#dirtyFiles.add(file);
    this.#dirty += 1;
  }

  /** A page less is dirty. */
  cleaned(): void {
    this.#dirty -= 1;
  }

  /** Nothing of the file is dirty, or being sent. */
  settled(file: PageHolder): void {
    this.#dirtyFiles.delete(file);
  }

  writing(pages: number): void {
    this.#writing += pages;
  }

  written(pages: number): void {
    this.#writing -= pages;
    this.trim();
    this.ease();
  }

  failed(failure: Failure): void {
    this.#failure ??= failure;
  }

  /** Throws the first error since the last time. */
  throwFailure(): void {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure.error;
  }

  /** Less is dirty, or under way, than before: whoever waits for that looks again, here and now. */
  ease(): void {
    const eased = this.#eased;
    this.#eased = undefined;
    eased?.settle();
  }

  /** A quarter of the limit may be dirty; who makes more than half of it dirty or under way waits. */
  *balance(): Task<void> {
    for (;;) {
      if (this.#dirty > this.limitPages / 4) this.#startWriteBack();
      if (this.#dirty + this.#writing <= this.limitPages / 2) return;
      yield this.#nextEase();
    }
  }

  #startWriteBack(): void {
    for (const file of [...this.#dirtyFiles]) file.startWriteBack();
  }

  #nextEase(): Latch {
    this.#eased ??= new Latch();
    return this.#eased;
  }
}
