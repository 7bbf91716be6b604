/**
 * What a thread of the host that waits in the kernel has asked for, from /proc/TID/syscall (proc_pid_syscall(5)): the
 * arguments are those of its registers, which stay as they are while it waits.
 */
import { PAGE_BYTES } from '../core/index.ts';
import {
  Arena,
  AT_FDCWD,
  close,
  coldString,
  FALLOC_FL_COLLAPSE_RANGE,
  O_CLOEXEC,
  O_RDONLY,
  O_TRUNC,
  openat,
  preadv,
  read,
  STATX_BASIC_STATS,
  statx,
} from '../sys/index.ts';

/** asm/unistd.h. What arm64 does not have has a number that no call has. */
interface Numbers {
  readonly truncate: number;
  readonly ftruncate: number;
  readonly fallocate: number;
  readonly open: number;
  readonly creat: number;
  readonly openat: number;
}

const X64: Numbers = { truncate: 76, ftruncate: 77, fallocate: 285, open: 2, creat: 85, openat: 257 };
const ARM64: Numbers = { truncate: 45, ftruncate: 46, fallocate: 47, open: -2, creat: -2, openat: 56 };
const CALLS = process.arch === 'arm64' ? ARM64 : X64;
const OPENAT2 = 437;

const LINE_BYTES = 256;
const STRUCT_STATX_BYTES = 256;

/** On the CPU: it may still be in the call, or not any more. */
export const RUNNING = 'running';

export class HostCalls {
  readonly #arena = new Arena(1024);
  readonly #lineAt = this.#arena.reserve(LINE_BYTES);
  readonly #iovecAt = this.#arena.reserve(16);
  readonly #wordAt = this.#arena.reserve(8);
  readonly #statAt = this.#arena.reserve(STRUCT_STATX_BYTES);

  /** Whether a thread is one of this process. */
  isOurs(tid: number): boolean {
    const path = coldString(`/proc/self/task/${tid}`);
    return statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, this.#arena.address + this.#statAt) === 0;
  }

  /** The call and its arguments, RUNNING, or '' where there is no such thread, or none that may be looked at. */
  at(tid: number): string {
    const fd = openat(AT_FDCWD, coldString(`/proc/${tid}/syscall`), O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return '';
    const length = read(fd, this.#arena.address + this.#lineAt, LINE_BYTES);
    close(fd);
    return length <= 0 ? '' : Buffer.from(this.#arena.buffer, this.#lineAt, length).toString('latin1').trim();
  }

  /**
   * How long a call of `at` leaves the file that FAN_PRE_ACCESS tells of, at `offset` (whole pages): bytes, or -1 where
   * it makes no file shorter. Of fallocate(2): where the bytes end that stay where they are.
   */
  lengthAfter(call: string, offset: number): number {
    const [number, ...args] = call.split(' ').map(Number);
    if (number === CALLS.truncate || number === CALLS.ftruncate) {
      // A 32-bit program may mean another call by the number.
      return Math.floor(args[1] / PAGE_BYTES) * PAGE_BYTES === offset ? args[1] : -1;
    }
    return this.collapses(call) ? offset : -1;
  }

  /** Whether a call of `at` takes out a part of a file, and moves what is behind it. */
  collapses(call: string): boolean {
    const [number, , mode] = call.split(' ').map(Number);
    return number === CALLS.fallocate && (mode & FALLOC_FL_COLLAPSE_RANGE) !== 0;
  }

  /** Whether a call of `at`, of a thread that waits for FAN_OPEN_PERM, empties what it opens. */
  empties(tid: number, call: string): boolean {
    const [number, ...args] = call.split(' ').map(Number);
    if (number === CALLS.creat) return true;
    if (number === CALLS.open) return (args[1] & O_TRUNC) !== 0;
    if (number === CALLS.openat) return (args[2] & O_TRUNC) !== 0;
    return number === OPENAT2 && (this.#wordOf(tid, BigInt(call.split(' ')[3])) & O_TRUNC) !== 0;
  }

  /** A 32-bit word of another process; 0 where it cannot be had. */
  #wordOf(tid: number, address: bigint): number {
    const fd = openat(AT_FDCWD, coldString(`/proc/${tid}/mem`), O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    const { view, address: base } = this.#arena;
    view.setBigUint64(this.#iovecAt, BigInt(base + this.#wordAt), true);
    view.setBigUint64(this.#iovecAt + 8, 4n, true);
    const [lo, hi] = [Number(BigInt.asIntN(32, address)), Number(BigInt.asIntN(32, address >> 32n))];
    const length = preadv(fd, base + this.#iovecAt, 1, lo, hi);
    close(fd);
    return length === 4 ? view.getUint32(this.#wordAt, true) : 0;
  }
}
