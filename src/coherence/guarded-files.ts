/**
 * The files that guests have mapped while others on the host might make them shorter: each has a mark, for which the
 * kernel asks us first. In memory that all threads share.
 */
import { ENOSPC, lock, unlock } from '../core/index.ts';
import { Statx } from '../fuse/index.ts';
import {
  Arena,
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  coldString,
  FAN_MARK_ADD,
  FAN_MARK_REMOVE,
  FAN_MODIFY,
  FAN_OPEN_PERM,
  FAN_PRE_ACCESS,
  fanotifyMark,
  STATX_BASIC_STATS,
  statx,
} from '../sys/index.ts';
import type { WindowFile } from './window.ts';

/** truncate(2), ftruncate(2) and fallocate(2) come with the one, O_TRUNC with the other. */
export const GUARD_MASK = FAN_PRE_ACCESS | FAN_OPEN_PERM;

const LOCK = 0;
const ENTRIES = 1;

// An entry: a file (device and inode numbers), what guests call it, and how many lenses there are over it so.
const USES = 0;
const IDENTITY = 1;
const IDENTITY_WORDS = 4;
const NODEID_LO = 5;
const NODEID_HI = 6;
const ENTRY_WORDS = 7;

const STRUCT_STATX_BYTES = 256;

export class GuardedFiles {
  readonly #words: Int32Array<SharedArrayBuffer>;
  readonly #groupFd: number;
  readonly #arena = new Arena(512);
  readonly #statAt = this.#arena.reserve(STRUCT_STATX_BYTES);
  /** Device and inode of the file looked at last. */
  readonly #identity = new Int32Array(IDENTITY_WORDS);

  constructor(shared: SharedArrayBuffer, groupFd: number) {
    this.#words = new Int32Array(shared);
    this.#groupFd = groupFd;
  }

  /** `count`: files, at most. */
  static create(count: number): SharedArrayBuffer {
    return new SharedArrayBuffer((ENTRIES + count * ENTRY_WORDS) * 4);
  }

  /** Guards the file of `fd`, until `remove` was called as often: 0, or a negative errno (ENOSPC: `count`). */
  add(fd: number, { nodeidLo, nodeidHi }: WindowFile): number {
    const words = this.#words;
    const size = this.sizeOf(fd);
    if (size < 0) return size;
    lock(words, LOCK);
    let free = 0;
    let found = 0;
    for (let at = ENTRIES; at < words.length && found === 0; at += ENTRY_WORDS) {
      if (words[at + USES] === 0) free ||= at;
      else if (this.#isFile(at) && words[at + NODEID_LO] === nodeidLo && words[at + NODEID_HI] === nodeidHi) found = at;
    }
    const at = found || free;
    const marked = at === 0 ? -ENOSPC : fanotifyMark(this.#groupFd, FAN_MARK_ADD, GUARD_MASK, fd);
    if (marked === 0) {
      words.set(this.#identity, at + IDENTITY);
      words[at + NODEID_LO] = nodeidLo;
      words[at + NODEID_HI] = nodeidHi;
      words[at + USES] += 1;
    }
    unlock(words, LOCK);
    return marked;
  }

  remove(fd: number, { nodeidLo, nodeidHi }: WindowFile): void {
    const words = this.#words;
    if (this.sizeOf(fd) < 0) return;
    lock(words, LOCK);
    let uses = 0;
    for (let at = ENTRIES; at < words.length; at += ENTRY_WORDS) {
      if (words[at + USES] === 0 || !this.#isFile(at)) continue;
      if (words[at + NODEID_LO] === nodeidLo && words[at + NODEID_HI] === nodeidHi) words[at + USES] -= 1;
      uses += words[at + USES];
    }
    if (uses === 0) fanotifyMark(this.#groupFd, FAN_MARK_REMOVE, GUARD_MASK | FAN_MODIFY, fd);
    unlock(words, LOCK);
  }

  /** From now on, as long as the file is guarded, the guard also hears when others have written to it. */
  watch(fd: number): void {
    fanotifyMark(this.#groupFd, FAN_MARK_ADD, FAN_MODIFY, fd);
  }

  /** What guests call the file of `fd`: several names where it was forgotten and found again meanwhile. */
  namesOf(fd: number): WindowFile[] {
    const words = this.#words;
    const names: WindowFile[] = [];
    if (this.sizeOf(fd) < 0) return names;
    lock(words, LOCK);
    for (let at = ENTRIES; at < words.length; at += ENTRY_WORDS) {
      if (words[at + USES] === 0 || !this.#isFile(at)) continue;
      names.push({ nodeidLo: words[at + NODEID_LO], nodeidHi: words[at + NODEID_HI] });
    }
    unlock(words, LOCK);
    return names;
  }

  /** Files that are guarded now. */
  get count(): number {
    let count = 0;
    for (let at = ENTRIES; at < this.#words.length; at += ENTRY_WORDS) if (this.#words[at + USES] > 0) count += 1;
    return count;
  }

  /** Bytes of the file of `fd`, or a negative errno. */
  sizeOf(fd: number): number {
    const { view } = this.#arena;
    const at = this.#statAt;
    const flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
    const result = statx(fd, coldString(''), flags, STATX_BASIC_STATS, this.#arena.address + at);
    if (result < 0) return result;
    this.#identity[0] = Statx.devMajor(view, at);
    this.#identity[1] = Statx.devMinor(view, at);
    this.#identity[2] = view.getInt32(at + Statx.offsets.ino, true);
    this.#identity[3] = view.getInt32(at + Statx.offsets.ino + 4, true);
    return Statx.size(view, at);
  }

  #isFile(at: number): boolean {
    for (let i = 0; i < IDENTITY_WORDS; i += 1) if (this.#words[at + IDENTITY + i] !== this.#identity[i]) return false;
    return true;
  }
}
