/**
 * The host mounts that known inodes are on, in memory shared by all workers. A mount is told by its device and its
 * mount id (statx(2), STATX_MNT_ID): bind mounts of one file system differ in the id alone, subvolumes of btrfs and
 * layers of an overlay in the device alone. Both are used again by the
 * host when a mount is gone. That confuses nobody: an entry lives as long as an inode counts on it, and for as long
 * there is a descriptor on the mount, the entry's own or the inode's, which keeps the host from giving its numbers to
 * another.
 */
import { type Fd, lock, unlock } from '../../core/index.ts';
import { close } from '../../sys/index.ts';
import { InodeNumbers, type SharedInodeNumbers } from './inode-numbers.ts';

/**
 * Whether known inodes may give their descriptors up for file handles: `never`; where that can be (`prefer`); or every
 * mount must allow it (`mandatory`).
 */
export type InodeFileHandles = 'never' | 'prefer' | 'mandatory';

/** One more than the mounts that there may be at a time; index 0 means none. */
const MOUNTS = 4097;

// A record.
const HOLDS = 0;
/** 1 until the descriptor is closed: HOLDS may be 0 for a moment before. */
const TAKEN = 1;
const DEV = 2;
const ID_LO = 3;
const ID_HI = 4;
const FD = 5;
/** For inode numbers with 16 zero bits on top: what stands there instead where all mounts share one device number. */
const PREFIX = 6;
const FLAGS = 7;
/** The inode by which the mount was found: what is mounted. 0 for the share's own. */
const ROOT_LO = 8;
const ROOT_HI = 9;
const RECORD_WORDS = 10;

/** Inodes on the mount can be opened by handle. */
export const MOUNT_REOPENS = 1;
/** Its inodes are files among those of another: one bound over a file, or an overlay's, from a layer of its own. */
export const MOUNT_FILES = 2;
/** Nothing can be written on it. */
export const MOUNT_READONLY = 4;

/** What libfuse, too, says where it has no number to give. */
const UNKNOWN_INODE = 0xffffffff;

// Control words, before the records.
const LOCK = 0;
/** One more than the highest index ever used. */
const END = 1;
const RECORDS = 2;

export interface SharedMounts {
  readonly table: SharedArrayBuffer;
  readonly numbers: SharedInodeNumbers;
}

export class Mounts {
  readonly #table: Int32Array;
  readonly #numbers: InodeNumbers;

  constructor(shared: SharedMounts) {
    this.#table = new Int32Array(shared.table);
    this.#numbers = new InodeNumbers(shared.numbers);
  }

  static create(): SharedMounts {
    const table = new SharedArrayBuffer((RECORDS + MOUNTS * RECORD_WORDS) * 4);
    new Int32Array(table)[END] = 1;
    return { table, numbers: InodeNumbers.create() };
  }

  /** Mounts that inodes are on. */
  get count(): number {
    let count = 0;
    for (let index = 1; index < this.end; index += 1) count += this.#isHeld(index) ? 1 : 0;
    return count;
  }

  /** One more than the highest index in use. */
  get end(): number {
    return Atomics.load(this.#table, END);
  }

  #isHeld(index: number): boolean {
    return Atomics.load(this.#table, at(index) + HOLDS) > 0;
  }

  /** Whether a mount is this one. */
  is(index: number, dev: number, idLo: number, idHi: number): boolean {
    const table = this.#table;
    const record = at(index);
    return table[record + DEV] === dev && table[record + ID_LO] === idLo && table[record + ID_HI] === idHi;
  }

  /**
   * The index of a mount, `hint` being tried first, or 0 when no inode is known on it. Nothing is held: by the time
   * that an inode has been found, the index may stand for another mount. Ask `is` then.
   */
  find(hint: number, dev: number, idLo: number, idHi: number): number {
    if (this.is(hint, dev, idLo, idHi)) return hint;
    const { end } = this;
    for (let index = 1; index < end; index += 1) {
      if (this.is(index, dev, idLo, idHi) && this.#isHeld(index)) return index;
    }
    return 0;
  }

  /** As `find`, and the mount is held until `release`. */
  findAndHold(hint: number, dev: number, idLo: number, idHi: number): number {
    const index = this.find(hint, dev, idLo, idHi);
    if (index === 0 || !this.#holdIfHeld(index)) return 0;
    if (this.is(index, dev, idLo, idHi)) return index;
    this.release(index);
    return 0;
  }

  #holdIfHeld(index: number): boolean {
    const word = at(index) + HOLDS;
    for (let holds = Atomics.load(this.#table, word); holds > 0; ) {
      const found = Atomics.compareExchange(this.#table, word, holds, holds + 1);
      if (found === holds) return true;
      holds = found;
    }
    return false;
  }

  /**
   * Adds a mount, found by its inode `root`, and holds it. The table takes over `fd`, a descriptor on the mount that is
   * not O_PATH, or -1. Another worker may have been quicker: its entry is given. 0 when the table is full (`fd` is
   * closed then).
   */
  add(dev: number, idLo: number, idHi: number, fd: number, flags: number, rootLo = 0, rootHi = 0): number {
    const table = this.#table;
    lock(table, LOCK);
    const known = this.findAndHold(0, dev, idLo, idHi);
    const index = known === 0 ? this.#freeIndex() : known;
    if (known === 0 && index !== 0) {
      const record = at(index);
      table[record + TAKEN] = 1;
      table[record + DEV] = dev;
      table[record + ID_LO] = idLo;
      table[record + ID_HI] = idHi;
      table[record + FD] = fd;
      table[record + FLAGS] = flags;
      table[record + ROOT_LO] = rootLo;
      table[record + ROOT_HI] = rootHi;
      table[record + PREFIX] = this.#numbers.prefix(dev, 0, false);
      Atomics.store(table, record + HOLDS, 1);
      if (index >= table[END]) Atomics.store(table, END, index + 1);
    }
    unlock(table, LOCK);
    if ((known !== 0 || index === 0) && fd >= 0) close(fd);
    return index;
  }

  /** Under the lock. 0: there is none. */
  #freeIndex(): number {
    for (let index = 1; index < MOUNTS; index += 1) if (this.#table[at(index) + TAKEN] === 0) return index;
    return 0;
  }

  /** Holds a mount that is held already. */
  hold(index: number): void {
    Atomics.add(this.#table, at(index) + HOLDS, 1);
  }

  /** The last one to let go closes the descriptor, so that the host can unmount. */
  release(index: number): void {
    const table = this.#table;
    const record = at(index);
    if (Atomics.sub(table, record + HOLDS, 1) !== 1) return;
    lock(table, LOCK);
    const fd = table[record + FD];
    table[record + FD] = -1;
    table[record + TAKEN] = 0;
    unlock(table, LOCK);
    if (fd >= 0) close(fd);
  }

  /** A descriptor on a held mount for calls about all of it (open_by_handle_at, syncfs), or -1. */
  fd(index: number): Fd {
    return this.#table[at(index) + FD] as Fd;
  }

  /** The device of a held mount. */
  device(index: number): number {
    return this.#table[at(index) + DEV];
  }

  /** Whether a held mount's inodes can be opened by handle. */
  reopens(index: number): boolean {
    return (this.#table[at(index) + FLAGS] & MOUNT_REOPENS) !== 0;
  }

  isReadonly(index: number): boolean {
    return (this.#table[at(index) + FLAGS] & MOUNT_READONLY) !== 0;
  }

  /** The first device is the share's own: its inode numbers stay as they are as far as they can. */
  setOwnDevice(dev: number): void {
    this.#numbers.setOwnDevice(dev);
  }

  /**
   * Makes the inode number at `w` of `u32` (two words) on a held mount what the guest gets. `announced`: the guest has
   * a device number for every mount.
   */
  showInode(index: number, announced: boolean, u32: Uint32Array, w: number): void {
    const record = at(index);
    if (announced && !this.#isAmongOthers(record, u32[w] | 0, u32[w + 1] | 0)) return;
    const high = u32[w + 1] >>> 16;
    const prefix =
      high === 0 && !announced
        ? this.#table[record + PREFIX]
        : this.#numbers.prefix(this.#table[record + DEV], high, announced);
    u32[w] = prefix < 0 ? UNKNOWN_INODE : u32[w];
    u32[w + 1] = prefix < 0 ? 0 : (prefix << 16) | (u32[w + 1] & 0xffff);
  }

  /**
   * Whether the guest sees an inode on the device of the directory that it is in, which is another: what is mounted, as
   * long as the guest has not made a mount of it, and files, of which it makes none.
   */
  #isAmongOthers(record: number, inoLo: number, inoHi: number): boolean {
    const table = this.#table;
    if ((table[record + FLAGS] & MOUNT_FILES) !== 0) return true;
    return table[record + ROOT_LO] === inoLo && table[record + ROOT_HI] === inoHi;
  }

  /** Whether there is an inode number for a guest that has one device number for all mounts. */
  canShow(index: number, inoHi: number): boolean {
    return this.#numbers.prefix(this.device(index), inoHi >>> 16, false) >= 0;
  }

  /** Calls `sync` with a descriptor on each mount that has one; the first error, or 0. */
  forEachFd(sync: (fd: number) => number): number {
    let result = 0;
    for (let index = 1; index < this.end; index += 1) {
      if (!this.#holdIfHeld(index)) continue;
      const fd = this.fd(index);
      const done = fd < 0 ? 0 : sync(fd);
      if (result === 0) result = done;
      this.release(index);
    }
    return result;
  }

  /** Closes every descriptor. No worker may use the table any more. */
  closeAll(): void {
    for (let index = 1; index < this.end; index += 1) {
      const record = at(index);
      if (this.#table[record + TAKEN] !== 0 && this.#table[record + FD] >= 0) close(this.#table[record + FD]);
      this.#table[record + TAKEN] = 0;
    }
  }
}

function at(index: number): number {
  return RECORDS + index * RECORD_WORDS;
}
