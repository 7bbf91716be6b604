/** What a DAX window needs of a file: not on the way of a request, but of a range that is mapped. */
import { EBADF, EINVAL, EOPNOTSUPP, EROFS } from '../../core/index.ts';
import {
  close,
  FALLOC_FL_KEEP_SIZE,
  fallocate,
  fstatfs,
  lseek,
  O_RDWR,
  S_IFREG,
  SEEK_HOLE,
  seekPosition,
} from '../../sys/index.ts';
import type { Context } from './context.ts';

const TWO_32 = 2 ** 32;
const STATFS_BYTES = 120;
/** linux/magic.h. Its holes become memory when they are read through a mapping. */
const TMPFS_MAGIC = 0x0102_1994;

export class Mapping {
  readonly #context: Context;
  readonly #readonly: boolean;
  /** struct statfs. */
  readonly #statfs: number;

  constructor(context: Context, readonly: boolean) {
    this.#context = context;
    this.#readonly = readonly;
    this.#statfs = context.arena.reserve(STATFS_BYTES);
  }

  /** Whoever maps a file may write to it, whatever the guest asked for: this process must be allowed to. */
  open(nodeidLo: number, nodeidHi: number): number {
    if (this.#readonly) return -EROFS;
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(nodeidLo, nodeidHi);
    if (slot === 0) return -EBADF;
    const fd = inodes.type(slot) === S_IFREG >> 12 ? inodes.fd(slot) : -EINVAL;
    const opened = fd < 0 ? fd : this.#context.reopen(fd, O_RDWR);
    inodes.unpin(slot);
    return opened;
  }

  sizeOf(nodeidLo: number, nodeidHi: number): number {
    const slot = this.#context.lookups.pin(nodeidLo, nodeidHi);
    if (slot === 0) return -EBADF;
    const result = this.#context.statInode(slot);
    this.#context.inodes.unpin(slot);
    return result < 0 ? result : this.#context.size;
  }

  reserveBlocks(nodeidLo: number, nodeidHi: number, offset: number, length: number, writes: boolean): number {
    const size = this.sizeOf(nodeidLo, nodeidHi);
    const end = Math.min(size, offset + length);
    if (end <= offset) return Math.min(0, size);
    const fd = this.open(nodeidLo, nodeidHi);
    if (fd < 0) return fd;
    const result = writes || this.#isTmpfs(fd) ? this.#fillHoles(fd, offset, end) : 0;
    close(fd);
    return result;
  }

  #isTmpfs(fd: number): boolean {
    const { address, u32 } = this.#context.arena;
    return fstatfs(fd, address + this.#statfs) === 0 && u32[this.#statfs >> 2] === TMPFS_MAGIC;
  }

  #fillHoles(fd: number, offset: number, end: number): number {
    const [lo, hi] = [offset | 0, (offset / TWO_32) | 0];
    if (lseek(fd, lo, hi, SEEK_HOLE) < 0) return 0;
    if (seekPosition[0] + seekPosition[1] * TWO_32 >= end) return 0;
    const length = end - offset;
    const result = fallocate(fd, FALLOC_FL_KEEP_SIZE, lo, hi, length | 0, (length / TWO_32) | 0);
    // Such a file system promises nothing.
    return result === -EOPNOTSUPP ? 0 : result;
  }
}
