/** Which files guests map through their DAX window, where the guest leaves that to the server: no mount option. */
import { S_IFMT, S_IFREG, STATX_ATTR_APPEND, STATX_ATTR_IMMUTABLE } from '../../sys/index.ts';
import type { Inodes } from './inodes.ts';
import { ATTRIBUTES, MODE, SIZE } from './statx-words.ts';

/** What the user has chosen. */
export interface DaxChoice {
  /** Regular files of that many bytes or more. */
  readonly minBytes: number;
  /** Instead, files that were found by such a name, which may begin or end with a `*`. None: size decides. */
  readonly names: readonly string[];
  /** By slot; see DaxFiles. */
  readonly named: SharedArrayBuffer | undefined;
}

/** A name, or its beginning and its end. */
interface Pattern {
  readonly start: Uint8Array;
  readonly end: Uint8Array;
  readonly isWhole: boolean;
}

const TWO_32 = 2 ** 32;
const NAMED = 0x80;
const GENERATION_BITS = 0x7f;

export class DaxFiles {
  readonly #minBytes: number;
  readonly #patterns: readonly Pattern[];
  readonly #inodes: Inodes;
  /** Where struct statx of the file in question is. */
  readonly #words: Uint32Array;
  readonly #stat: number;
  /** NAMED with some bits of the generation of the inode that was found by such a name; else nothing of that. */
  readonly #named: Uint8Array | undefined;

  constructor(choice: DaxChoice | undefined, inodes: Inodes, words: Uint32Array, stat: number) {
    this.#minBytes = choice?.minBytes ?? Number.POSITIVE_INFINITY;
    this.#patterns = (choice?.names ?? []).map(patternOf);
    this.#inodes = inodes;
    this.#words = words;
    this.#stat = stat;
    this.#named = choice?.named && new Uint8Array(choice.named);
  }

  static choose(minBytes: number, names: readonly string[], capacity: number): DaxChoice {
    return { minBytes, names, named: names.length === 0 ? undefined : new SharedArrayBuffer(capacity) };
  }

  /** An inode was found by the name at `nameAt`, which ends with a NUL. */
  note(slot: number, u8: Uint8Array, nameAt: number): void {
    const named = this.#named;
    if (named === undefined) return;
    const name = u8.subarray(nameAt, u8.indexOf(0, nameAt));
    if (this.#patterns.some((pattern) => matches(pattern, name))) named[slot] = this.#mark(slot);
  }

  #mark(slot: number): number {
    return NAMED | (this.#inodes.generation(slot) & GENERATION_BITS);
  }

  /** Whether the file of a slot, which has been looked at, is one of them. What cannot be written cannot be mapped. */
  isFor(slot: number): boolean {
    const words = this.#words;
    const s = this.#stat;
    const named = this.#named;
    const chosen =
      named === undefined
        ? words[s + SIZE] + words[s + SIZE + 1] * TWO_32 >= this.#minBytes
        : named[slot] === this.#mark(slot);
    if (!chosen || (words[s + MODE] & S_IFMT) !== S_IFREG) return false;
    if ((words[s + ATTRIBUTES] & (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND)) !== 0) return false;
    return !this.#inodes.mounts.isReadonly(this.#inodes.mount(slot));
  }
}

function patternOf(text: string): Pattern {
  const [start, end = ''] = text.split('*');
  const encoder = new TextEncoder();
  return { start: encoder.encode(start), end: encoder.encode(end), isWhole: !text.includes('*') };
}

function matches({ start, end, isWhole }: Pattern, name: Uint8Array): boolean {
  if (isWhole ? name.length !== start.length : name.length < start.length + end.length) return false;
  const tail = name.length - end.length;
  return start.every((byte, i) => name[i] === byte) && end.every((byte, i) => name[tail + i] === byte);
}
