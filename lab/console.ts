/** What a guest printed on its console, kept whole for error messages. */
export class Console {
  #text = '';
  readonly #watchers = new Set<() => void>();

  add(text: string): void {
    this.#text += text;
    for (const watcher of this.#watchers) watcher();
  }

  get text(): string {
    return this.#text;
  }

  /** Why the kernel gave up, in its own words, or undefined while it did not. */
  get panic(): string | undefined {
    return /Kernel panic - not syncing[^\r\n]*/.exec(this.#text)?.[0];
  }

  /** The last lines, without carriage returns and escape sequences. */
  tail(lines: number): string {
    // oxlint-disable-next-line no-control-regex -- terminal escape sequences are what is taken out
    const plain = this.#text.replaceAll(/\u001b\[[0-9;?]*[A-Za-z]|\u001bc|\r/g, '');
    return plain.trimEnd().split('\n').slice(-lines).join('\n');
  }

  /** Calls `watcher` after each addition. @returns stops it. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }
}
