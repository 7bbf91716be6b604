/** The size that a lens has: a descriptor over a file's page cache whose end is beyond all that a guest may ask for. */
export const LENS_BYTES = 2 ** 62;

/** Hears of what the front-end has mapped. */
export interface Commits {
  /** Where in the window a range of a file is, if it is the one that was asked for last, and answered for; else -1. */
  offsetOf(key: string, fdOffset: number, length: number): number;
  /** What was asked for, and answered for, is there; where there is nothing of that kind, nothing happens. */
  commit(): void;
}

/**
 * Files that the front-end was asked to map into a window, by their identity (`fileIdentity`). They are kept for the
 * connection, not for the backend channel: what is mapped stays mapped when the channel goes.
 */
export class MappedFiles {
  readonly #counts = new Map<string, number>();
  /** Who asked for the mapping that is being done now. */
  commits: Commits | undefined;

  has(key: string): boolean {
    return this.#counts.has(key);
  }

  add(key: string): void {
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  remove(key: string): void {
    const count = this.#counts.get(key) ?? 0;
    if (count > 1) this.#counts.set(key, count - 1);
    else this.#counts.delete(key);
  }
}
