/** How far an open file is read ahead: a window that grows as long as it is read in order (mm/readahead.c). */

/** Pages, from `start` on. */
export interface Window {
  readonly start: number;
  readonly count: number;
}

export class Readahead {
  readonly #maxPages: number;
  readonly #maxWanted: number;
  #start = 0;
  #count = 0;
  /** The page at whose first use the next window is asked for. */
  #mark = -1;
  #previous = -1;

  /** With 0 for `maxPages` nothing is read that was not asked for. Of what is, `maxWanted` pages are read at once. */
  constructor(maxPages: number, maxWanted: number) {
    this.#maxPages = maxPages;
    this.#maxWanted = maxWanted;
  }

  /** Page `index` is missing, and `pages` from it on are asked for: how many to read. */
  miss(index: number, pages: number): number {
    const wanted = Math.min(pages, this.#maxWanted);
    if (this.#maxPages === 0) return wanted;
    const ahead = this.#count > 0 && index === this.#start + this.#count;
    const inOrder = index === 0 || index === this.#previous || index === this.#previous + 1;
    // Somebody who jumps about gets what he asks for; where he was before may go on.
    if (!ahead && !inOrder && wanted <= this.#maxPages) return wanted;
    this.#count = ahead ? this.#next(wanted) : this.#first(wanted);
    this.#start = index;
    this.#mark = this.#count > wanted ? index + wanted : index;
    return this.#count;
  }

  /** Page `index` is used, the first of `pages` that are asked for: what to read beside, if anything. */
  hit(index: number, pages: number): Window | undefined {
    this.#previous = index;
    if (index !== this.#mark) return undefined;
    this.#start += this.#count;
    this.#count = this.#next(Math.min(pages, this.#maxWanted));
    this.#mark = this.#start;
    return { start: this.#start, count: this.#count };
  }

  /** get_init_ra_size */
  #first(wanted: number): number {
    const max = Math.max(this.#maxPages, wanted);
    const size = 2 ** Math.ceil(Math.log2(wanted));
    if (size <= max / 32) return size * 4;
    return size <= max / 4 ? size * 2 : max;
  }

  /** get_next_ra_size */
  #next(wanted: number): number {
    const max = Math.max(this.#maxPages, wanted);
    const grown = this.#count < max / 16 ? this.#count * 4 : this.#count * 2;
    return Math.min(Math.max(grown, wanted), max);
  }
}
