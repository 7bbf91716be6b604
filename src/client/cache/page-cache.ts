/** The guest's page cache, for all files of a share: read-ahead, a bound, and write-back. */
import { CachedFile } from './page-file.ts';
import { type PageCacheOptions, PagePool } from './page-pool.ts';
import { all, type Task } from '../task.ts';

export type { Backing } from './page.ts';
export type { CachedFile } from './page-file.ts';
export type { PageCacheOptions } from './page-pool.ts';

export class PageCache {
  readonly #pool: PagePool;

  /** Throws RangeError where a limit is less than a page. */
  constructor(options: PageCacheOptions) {
    this.#pool = new PagePool(options);
  }

  /** What the pages take, with those that are under way. */
  get bytes(): number {
    return this.#pool.bytes;
  }

  /** What is not sent yet. */
  get dirtyBytes(): number {
    return this.#pool.dirtyBytes;
  }

  /** For one file, as long as the guest knows it. Its end is `truncate(0)`. */
  file(sizeBytes: number): CachedFile {
    return new CachedFile(this.#pool, sizeBytes);
  }

  /**
   * Writes back everything, as syncfs(2) does. Throws the first error of a WRITE since the last time; the flush of the
   * file throws it nevertheless.
   */
  *flushAll(): Task<void> {
    yield* all([...this.#pool.dirtyFiles].map((file) => file.settle()));
    this.#pool.throwFailure();
  }
}
