/** GETLK, SETLK and SETLKW on the host's files, so that guests and the host's processes exclude one another. */
import { EAGAIN, EBADF, EINVAL, ENFILE, ENOENT, ENOLCK, ENOSYS } from '../../core/index.ts';
import { FileLock, FlushIn, flags, LkIn, LkOut, ReleaseIn } from '../../fuse/index.ts';
import {
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  FLOCK_BYTES,
  flock,
  getOfdLock,
  heldLocks,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  O_ACCMODE,
  O_NONBLOCK,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  openFlags,
  S_IFREG,
  setOfdLock,
} from '../../sys/index.ts';
import { type Request, RETRY } from '../file-system.ts';
import type { Context } from './context.ts';
import { HANDLE_DIRECTORY } from './handles.ts';
import type { Locks } from './locks.ts';

export interface LockOptions {
  /** POSIX locks of guests are locks on the host. */
  readonly posixLocks: boolean;
  /** flock locks of guests are. */
  readonly flock: boolean;
  readonly readonly: boolean;
}

const START = LkIn.offsets.lk + FileLock.offsets.start;
const END = LkIn.offsets.lk + FileLock.offsets.end;
const TYPE = LkIn.offsets.lk + FileLock.offsets.type;
const PID = LkIn.offsets.lk + FileLock.offsets.pid;
/** Of OFFSET_MAX, 2^63 - 1; the low word is -1. */
const OFFSET_MAX_HI = 0x7fffffff;
/** What the host says of the holder of an OFD lock. */
const NO_PROCESS = 0xffffffff;

export class LockOperations {
  readonly #context: Context;
  readonly #locks: Locks;
  readonly #options: LockOptions;
  readonly #released: () => void;
  /** struct flock in the context's arena: its first word, and its address. */
  readonly #flock: number;
  readonly #flockAddress: number;

  constructor(context: Context, locks: Locks, options: LockOptions, released: () => void) {
    this.#context = context;
    this.#locks = locks;
    this.#options = options;
    this.#released = released;
    const at = context.arena.reserve(FLOCK_BYTES);
    this.#flock = at >> 2;
    this.#flockAddress = context.arena.address + at;
  }

  /** SETLK, and SETLKW with `waits`. */
  set(request: Request, waits: boolean): number {
    const { view } = request.scratch;
    const isFlock = (LkIn.lkFlags(view, request.body) & flags.LK_IN.FLOCK) !== 0;
    if (!(isFlock ? this.#options.flock : this.#options.posixLocks)) return -ENOSYS;
    const described = this.#describe(request);
    if (described < 0) return described;
    const { handles } = this.#context;
    const handle = this.#pinFile(request);
    if (handle === 0) return -EBADF;
    const type = view.getInt32(request.body + TYPE, true);
    const result = isFlock ? this.#setFlock(handles.fd(handle), type) : this.#setPosix(request, handle, type);
    handles.unpin(handle);
    // Somebody may wait for what was given up, in whole or in part.
    if (result === 0 && type !== F_WRLCK) this.#released();
    return result === -EAGAIN && waits ? RETRY : result;
  }

  /** The pinned handle of a file, or 0. */
  #pinFile(request: Request): number {
    const { handles } = this.#context;
    const handle = this.#context.pinHandle(request, LkIn.offsets.fh);
    if (handle === 0 || (handles.flags(handle) & HANDLE_DIRECTORY) === 0) return handle;
    handles.unpin(handle);
    return 0;
  }

  /** The lock of the handle's own open file, which goes with it. */
  #setFlock(fd: number, type: number): number {
    return flock(fd, LOCK_NB | (type === F_RDLCK ? LOCK_SH : type === F_WRLCK ? LOCK_EX : LOCK_UN));
  }

  /** Fills struct flock from fuse_file_lock; -EINVAL where that is none. */
  #describe(request: Request): number {
    const { view } = request.scratch;
    const { body } = request;
    const type = view.getUint32(body + TYPE, true);
    const startLo = view.getInt32(body + START, true);
    const startHi = view.getInt32(body + START + 4, true);
    const endLo = view.getInt32(body + END, true);
    const endHi = view.getInt32(body + END + 4, true);
    if (type > F_UNLCK || startHi < 0 || endHi < 0) return -EINVAL;
    if (startHi > endHi || (startHi === endHi && startLo >>> 0 > endLo >>> 0)) return -EINVAL;
    const words = this.#context.arena.u32;
    const at = this.#flock;
    // l_whence, in the high half, is SEEK_SET.
    words[at] = type;
    words[at + 2] = startLo;
    words[at + 3] = startHi;
    const toTheEnd = endLo === -1 && endHi === OFFSET_MAX_HI;
    // end - start + 1 in two words; 0 is the length of all that there may be.
    const borrow = endLo >>> 0 < startLo >>> 0 ? 1 : 0;
    const lengthLo = (endLo - startLo + 1) | 0;
    const carry = lengthLo === 0 ? 1 : 0;
    words[at + 4] = toTheEnd ? 0 : lengthLo;
    words[at + 5] = toTheEnd ? 0 : endHi - startHi - borrow + carry;
    words[at + 6] = 0;
    return 0;
  }

  #setPosix(request: Request, handle: number, type: number): number {
    const { handles, lookups, inodes } = this.#context;
    // As fcntl(2): a read lock takes a file open for reading, a write lock one open for writing.
    const mode = openFlags(handles.fd(handle)) & O_ACCMODE;
    if ((type === F_RDLCK && mode === O_WRONLY) || (type === F_WRLCK && mode === O_RDONLY)) return -EBADF;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const result = inodes.type(slot) === S_IFREG >> 12 ? this.#change(request, slot, type) : -EINVAL;
    inodes.unpin(slot);
    return result;
  }

  #change(request: Request, slot: number, type: number): number {
    const { view } = request.scratch;
    const { body, nodeidLo, nodeidHi } = request;
    const ownerLo = view.getInt32(body + LkIn.offsets.owner, true);
    const ownerHi = view.getInt32(body + LkIn.offsets.owner + 4, true);
    const locks = this.#locks;
    const bucket = locks.enter(nodeidLo, nodeidHi);
    let record = locks.find(bucket, nodeidLo, nodeidHi, ownerLo, ownerHi);
    const fresh = record === 0;
    let result = 0;
    if (fresh && type !== F_UNLCK) {
      const fd = this.#open(slot, type);
      record = fd < 0 ? 0 : locks.add(bucket, nodeidLo, nodeidHi, ownerLo, ownerHi, fd);
      if (record === 0) result = fd >= 0 || fd === -ENFILE ? -ENOLCK : fd;
    }
    if (record !== 0) {
      result = setOfdLock(locks.fd(record), this.#flockAddress);
      if (result === 0 && type !== F_UNLCK) this.#noteHolder(request, record);
      // Who holds nothing needs no descriptor.
      if (result === 0 ? type === F_UNLCK && this.#isWhole() : fresh) locks.remove(bucket, record);
    }
    locks.leave(bucket);
    return result;
  }

  #noteHolder(request: Request, record: number): void {
    const { view } = request.scratch;
    const at = request.body + LkIn.offsets.fh;
    const pid = view.getInt32(request.body + PID, true);
    this.#locks.setHolder(record, pid, view.getInt32(at, true), view.getInt32(at + 4, true));
  }

  #isWhole(): boolean {
    const words = this.#context.arena.u32;
    const at = this.#flock;
    return (words[at + 2] | words[at + 3] | words[at + 4] | words[at + 5]) === 0;
  }

  /** Opens a regular file for an owner's locks, for all kinds of them where that may be. */
  #open(slot: number, type: number): number {
    const context = this.#context;
    const inodeFd = context.inodes.fd(slot);
    if (inodeFd < 0) return inodeFd;
    // A lease of a host process must not keep us waiting: -EAGAIN then, as for a lock.
    const both = this.#options.readonly ? -EBADF : context.reopen(inodeFd, O_RDWR | O_NONBLOCK);
    if (both >= 0 || both === -EAGAIN) return both;
    return context.reopen(inodeFd, (type === F_RDLCK ? O_RDONLY : O_WRONLY) | O_NONBLOCK);
  }

  /** GETLK: the lock that is in the way of one. Nothing is opened for it. */
  get(request: Request): number {
    const { view } = request.scratch;
    const { body, nodeidLo, nodeidHi } = request;
    if (!this.#options.posixLocks) return -ENOSYS;
    const described = this.#describe(request);
    if (described < 0) return described;
    if (view.getUint32(body + TYPE, true) === F_UNLCK) return -EINVAL;
    const { handles } = this.#context;
    const handle = this.#pinFile(request);
    if (handle === 0) return -EBADF;
    const locks = this.#locks;
    const bucket = locks.enter(nodeidLo, nodeidHi);
    const ownerLo = view.getInt32(body + LkIn.offsets.owner, true);
    const ownerHi = view.getInt32(body + LkIn.offsets.owner + 4, true);
    const record = locks.find(bucket, nodeidLo, nodeidHi, ownerLo, ownerHi);
    // The handle's own open file has no such locks: whatever there is, is in its way.
    const result = getOfdLock(record === 0 ? handles.fd(handle) : locks.fd(record), this.#flockAddress);
    if (result === 0) this.#writeConflict(request, bucket);
    locks.leave(bucket);
    handles.unpin(handle);
    return result < 0 ? result : LkOut.bytes;
  }

  /** Writes fuse_lk_out from struct flock. */
  #writeConflict(request: Request, bucket: number): void {
    const { view } = request.scratch;
    const { reply } = request;
    const found = this.#context.arena.view;
    const at = this.#flock * 4;
    const type = found.getUint16(at, true);
    const start = found.getBigUint64(at + 8, true);
    const length = found.getBigUint64(at + 16, true);
    const last = length === 0n ? undefined : start + length - 1n;
    view.setBigUint64(reply + FileLock.offsets.start, start, true);
    view.setBigUint64(reply + FileLock.offsets.end, last ?? 2n ** 63n - 1n, true);
    view.setUint32(reply + FileLock.offsets.type, type, true);
    const ours = type !== F_UNLCK && found.getUint32(at + 24, true) === NO_PROCESS;
    const pid = ours ? this.#holder(request, bucket, type, start, last) : 0;
    view.setInt32(reply + FileLock.offsets.pid, pid, true);
  }

  /** The process of this guest that has such a lock, or 0: it is another guest's, or the host's. */
  #holder(request: Request, bucket: number, type: number, start: bigint, last: bigint | undefined): number {
    const { nodeidLo, nodeidHi } = request;
    const locks = this.#locks;
    const next = (record: number): number => locks.next(bucket, record, nodeidLo, nodeidHi);
    for (let record = next(0); record !== 0; record = next(record)) {
      for (const held of heldLocks(locks.fd(record))) {
        if (held.type === type && held.start === start && held.end === last) return locks.pid(record);
      }
    }
    return 0;
  }

  /** FLUSH: a process has closed the file, so its locks go, whatever other descriptors it has. */
  flush(request: Request): number {
    if (this.#options.posixLocks) this.#drop(request, FlushIn.offsets.lockOwner);
    return 0;
  }

  /** RELEASE, after the handle has gone and its flock lock with it. */
  release(request: Request): number {
    const flushes = (ReleaseIn.releaseFlags(request.scratch.view, request.body) & flags.RELEASE_IN.FLUSH) !== 0;
    if (flushes && this.#options.posixLocks) this.#drop(request, ReleaseIn.offsets.lockOwner);
    if (this.#options.posixLocks) this.#dropBy(request);
    if (this.#options.flock) this.#released();
    return 0;
  }

  /**
   * What was locked by a handle that is closed for good goes, if it has not gone by FLUSH: OFD locks, whose end Linux
   * does not tell (their owner is the open file; fuse_setlk leaves what ends at close to FLUSH, which names another).
   */
  #dropBy(request: Request): void {
    const { view } = request.scratch;
    const { nodeidLo, nodeidHi } = request;
    const at = request.body + ReleaseIn.offsets.fh;
    const [lo, hi] = [view.getInt32(at, true), view.getInt32(at + 4, true)];
    const locks = this.#locks;
    if (locks.owners === 0) return;
    const bucket = locks.enter(nodeidLo, nodeidHi);
    let dropped = false;
    for (let record = locks.next(bucket, 0, nodeidLo, nodeidHi); record !== 0; ) {
      const next = locks.next(bucket, record, nodeidLo, nodeidHi);
      if (locks.isBy(record, lo, hi)) {
        locks.remove(bucket, record);
        dropped = true;
      }
      record = next;
    }
    locks.leave(bucket);
    if (dropped) this.#released();
  }

  #drop(request: Request, ownerOffset: number): void {
    const { view } = request.scratch;
    const { nodeidLo, nodeidHi } = request;
    const at = request.body + ownerOffset;
    const locks = this.#locks;
    if (locks.owners === 0) return;
    const bucket = locks.enter(nodeidLo, nodeidHi);
    const record = locks.find(bucket, nodeidLo, nodeidHi, view.getInt32(at, true), view.getInt32(at + 4, true));
    if (record !== 0) locks.remove(bucket, record);
    locks.leave(bucket);
    if (record !== 0) this.#released();
  }
}
