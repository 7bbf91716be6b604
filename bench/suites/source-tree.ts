/** A tree of source files, the same on every machine, so that results can be compared. */

export interface SourceFile {
  /** Relative, such as `lib/tabo/remi/core12.c`. */
  readonly path: string;
  readonly text: string;
}

/** What is searched for: a line in one file of FILES_PER_NEEDLE. */
export const NEEDLE = 'find_this_name';
const FILES_PER_NEEDLE = 20;
const FILES_PER_FOLDER = 12;
const SYLLABLES = 'ba co da fe ga hi jo ku la mi no pe ra si ta ve wo xi yu zo'.split(' ');
const TOP_FOLDERS = 'arch block drivers fs include kernel lib net sound tools'.split(' ');
const WORDS = 400;
const LINE_WORDS = 7;
/** The median of the sizes; a few files have twenty times as much, as in real trees. */
const MEDIAN_BYTES = 3000;
const SPREAD = 1;

/** Numbers from 0 to 1 that look random and are the same every time (mulberry32). */
export function numbersFrom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Makes texts that compress as source code does. */
export class Writer {
  readonly #random: () => number;
  readonly #words: string[];

  constructor(seed: number) {
    this.#random = numbersFrom(seed);
    this.#words = Array.from({ length: WORDS }, () => this.#word(2 + this.below(3)));
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** A name of one to three syllables. */
  name(): string {
    return this.#word(1 + this.below(3));
  }

  line(): string {
    const words = Array.from({ length: LINE_WORDS }, () => this.#words[this.below(WORDS)]);
    return `${' '.repeat(2 * this.below(4))}${words.join(this.below(2) === 0 ? ' ' : '_')};\n`;
  }

  /** Lines of about so many bytes. */
  text(sizeBytes: number): string {
    let text = '';
    while (text.length < sizeBytes) text += this.line();
    return text;
  }

  /** A size as files of a source tree have it. */
  size(): number {
    const normal = Math.sqrt(-2 * Math.log(1 - this.#random())) * Math.cos(2 * Math.PI * this.#random());
    return Math.min(20 * MEDIAN_BYTES, Math.max(100, Math.round(MEDIAN_BYTES * Math.exp(SPREAD * normal))));
  }

  #word(syllables: number): string {
    return Array.from({ length: syllables }, () => SYLLABLES[this.below(SYLLABLES.length)]).join('');
  }
}

/** How many lines of a tree of so many files have the NEEDLE. */
export function needlesIn(files: number): number {
  return Math.ceil(files / FILES_PER_NEEDLE);
}

/** So many files in folders two to four deep. */
export function sourceTree(files: number): SourceFile[] {
  const writer = new Writer(files);
  let folder = '';
  return Array.from({ length: files }, (_, i) => {
    if (i % FILES_PER_FOLDER === 0) {
      const names = Array.from({ length: 1 + writer.below(3) }, () => writer.name());
      folder = [TOP_FOLDERS[writer.below(TOP_FOLDERS.length)], ...names].join('/');
    }
    const found = i % FILES_PER_NEEDLE === 0 ? `${NEEDLE};\n` : '';
    return { path: `${folder}/${writer.name()}${i}.c`, text: writer.text(writer.size()) + found };
  });
}

/** A tree's history for `git fast-import`: its files, and commits that each change a few. */
export function history(files: number, commits: number): string {
  const writer = new Writer(commits);
  const tree = sourceTree(files).map(({ path, text }) => ({ path, text }));
  const parts: string[] = [];
  const data = (text: string): string => `data ${text.length}\n${text}\n`;
  for (let commit = 0; commit < commits; commit += 1) {
    const message = `${writer.name()}: ${writer.line().trim()}`;
    const person = `Somebody <somebody@example.org> ${1_700_000_000 + 3600 * commit} +0000`;
    parts.push(`commit refs/heads/main\ncommitter ${person}\n${data(message)}`);
    const changed = commit === 0 ? tree : Array.from({ length: 3 }, () => tree[writer.below(files)]);
    for (const file of changed) {
      if (commit > 0) {
        const at = file.text.indexOf('\n', writer.below(file.text.length)) + 1;
        file.text = file.text.slice(0, at) + writer.line() + file.text.slice(at);
      }
      parts.push(`M 100644 inline ${file.path}\n${data(file.text)}`);
    }
  }
  return parts.join('');
}
