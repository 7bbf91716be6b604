/** Operations on files: open, read, write and their kin. */
import {
  EAGAIN,
  EEXIST,
  EINVAL,
  EIO,
  EISDIR,
  EMFILE,
  ENFILE,
  ENOENT,
  ENOSYS,
  EOPNOTSUPP,
  EROFS,
  ESTALE,
  EBADF,
} from '../../core/index.ts';
import {
  CopyFileRangeIn,
  CreateIn,
  FallocateIn,
  flags,
  FlushIn,
  FsyncIn,
  LseekIn,
  LseekOut,
  OpenIn,
  opcodes,
  ReadIn,
  ReleaseIn,
  WriteIn,
  WriteOut,
} from '../../fuse/index.ts';
import {
  close,
  copyFileRange,
  duplicate,
  fallocate,
  fdatasync,
  fsync,
  lseek,
  O_ACCMODE,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_DSYNC,
  O_EXCL,
  O_NOFOLLOW,
  O_RDONLY,
  O_RDWR,
  O_SYNC,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
  openat,
  preadv,
  preadv2,
  pwritev,
  pwritev2,
  RWF_APPEND,
  RWF_NOWAIT,
  S_IFDIR,
  S_IFREG,
  SEEK_HOLE,
  seekPosition,
  statusFlags,
  unlinkat,
} from '../../sys/index.ts';
import { type Request, WOULD_SLEEP } from '../file-system.ts';
import type { Context } from './context.ts';
import { HANDLE_APPEND } from './handles.ts';
import { OpenFile } from './open-file.ts';
import { bytesBeforeEnd, openFile } from './open-flags.ts';
import { Vectors } from './vectors.ts';

/** TMPFILE has no name. */
const CREATE = opcodes.CREATE.code;
const OPEN_OUT_BYTES = 16;
const ENTRY_OUT_BYTES = 128;
/** Flags of a guest's open that mean something to the host. O_APPEND comes with each write: see there. */
const OPEN_FLAGS = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC;
/** linux/falloc.h: every mode up to UNSHARE_RANGE. */
const FALLOCATE_MODES = 0x7f;
/** MAX_RW_COUNT: as much as one call of the host copies. */
const MAX_COPY_BYTES = 0x7ffff000;
const SEEK_END = 2;

// What #transfer does.
const READ = 0;
const WRITE = 1;
const APPEND = 2;
/** READ, as far as the page cache goes. */
const READ_NOW = 3;
/** WRITE and APPEND, but all or an error. */
const PAGES = 4;
const APPEND_PAGES = 5;

export class Files {
  readonly #context: Context;
  readonly #vectors: Vectors;
  readonly #file: OpenFile;
  /** Where COPY_FILE_RANGE copies to. */
  readonly #target: OpenFile;
  readonly #readonly: boolean;
  /** Flags of a guest's open that are passed on: OPEN_FLAGS and what the user allows. */
  readonly #openFlags: number;
  /** What the user allows. */
  readonly #allowed: number;
  /** Until a file system turns out not to know RWF_NOWAIT. */
  #readsNow = true;

  constructor(context: Context, readonly: boolean, openFlags: number) {
    this.#context = context;
    this.#vectors = new Vectors(context.arena);
    this.#file = new OpenFile(context);
    this.#target = new OpenFile(context);
    this.#readonly = readonly;
    this.#openFlags = OPEN_FLAGS | openFlags;
    this.#allowed = openFlags;
  }

  open(request: Request): number {
    const { lookups, inodes } = this.#context;
    // From then on the guest does not ask.
    if (this.#isOpenless(request)) return -ENOSYS;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const { view } = request.scratch;
    const openFlags = OpenIn.openFlags(view, request.body);
    const result = this.#open(request, slot, OpenIn.flags(view, request.body), openFlags, request.reply);
    inodes.unpin(slot);
    return result;
  }

  /** Whether the guest works on inodes, without handles: its kernel sends no RELEASE then, not for CREATE either. */
  #isOpenless(request: Request): boolean {
    return this.#context.policy.noOpen && (request.agreed & flags.INIT.NO_OPEN_SUPPORT) !== 0;
  }

  /** Opens a pinned inode and writes fuse_open_out at `out`. */
  #open(request: Request, slot: number, guestFlags: number, openFlags: number, out: number): number {
    const context = this.#context;
    const type = context.inodes.type(slot);
    // A guest opens its own FIFOs and devices; one that asks us wants a worker to block.
    if (type !== S_IFREG >> 12) return type === S_IFDIR >> 12 ? -EISDIR : -EINVAL;
    if (this.#readonly && (guestFlags & (O_ACCMODE | O_TRUNC)) !== O_RDONLY) return -EROFS;
    const inodeFd = context.inodes.fd(slot);
    if (inodeFd < 0) return inodeFd;
    const truncates = (guestFlags & O_TRUNC) !== 0;
    const keep = (openFlags & flags.OPEN_IN.KILL_SUIDGID) === 0;
    if (truncates) context.privileges.beforeTruncation(inodeFd, keep);
    const fd = openFile(context, inodeFd, this.#hostFlags(guestFlags), guestFlags);
    if (truncates && fd >= 0) context.privileges.afterTruncation(fd, keep);
    return fd < 0 ? fd : this.#replyOpen(request, fd, slot, guestFlags, out);
  }

  /** How the host opens what the guest opens. A page that is written in part is read first, in writeback. */
  #hostFlags(guestFlags: number): number {
    const both = this.#context.policy.writeback && (guestFlags & O_ACCMODE) === O_WRONLY;
    const flagBits = guestFlags & this.#openFlags;
    return both ? (flagBits & ~O_ACCMODE) | O_RDWR : flagBits;
  }

  #replyOpen(request: Request, fd: number, slot: number, guestFlags: number, out: number): number {
    const context = this.#context;
    const { fileFlags, keepUnchanged } = context.policy;
    if (this.#isOpenless(request)) {
      close(fd);
      context.writeOpenOut(request.scratch, out, 0, fileFlags);
      return OPEN_OUT_BYTES;
    }
    const keep = keepUnchanged && context.isAsBefore(slot, fd) ? flags.FOPEN.KEEP_CACHE : 0;
    const handle = context.handles.add(fd, (guestFlags & O_APPEND) !== 0 ? HANDLE_APPEND : 0);
    if (handle === 0) return -ENFILE;
    context.writeOpenOut(request.scratch, out, handle, fileFlags | keep);
    return OPEN_OUT_BYTES;
  }

  create(request: Request): number {
    const context = this.#context;
    const dir = context.lookups.pin(request.nodeidLo, request.nodeidHi);
    if (dir === 0) return -ENOENT;
    const dirFd = context.inodes.fd(dir);
    const result = dirFd < 0 ? dirFd : this.#create(request, dirFd, dir);
    context.inodes.unpin(dir);
    return result;
  }

  #create(request: Request, dirFd: number, dir: number): number {
    const context = this.#context;
    const { view, address } = request.scratch;
    const name = address + request.name;
    const guestFlags = CreateIn.flags(view, request.body);
    const mode = CreateIn.mode(view, request.body) & 0o7777;
    const hostFlags = this.#hostFlags(guestFlags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    if (!context.inodes.mayOpen()) return -ENFILE;
    const begun = context.creation.begin(request, mode, CreateIn.umask(view, request.body));
    if (begun < 0) return begun;
    const fd = openat(dirFd, name, hostFlags, mode);
    context.creation.end();
    // Somebody else created it meanwhile. It may be anything, so it is opened as any known inode is.
    const exists = fd === -EEXIST && (guestFlags & O_EXCL) === 0;
    if (fd < 0 && !exists) return fd === -EMFILE ? -ENFILE : fd;
    // Others may have it mapped, and must lose sight of its end first: the guest is to look again, and open it.
    if (exists && (guestFlags & O_TRUNC) !== 0 && context.policy.dax !== undefined) return -ESTALE;
    if (!exists) {
      const created = this.#replyCreated(request, fd, dir, guestFlags);
      if (created < 0 && request.contextCount > 0) unlinkat(dirFd, name, 0);
      return created;
    }
    const slot = context.lookUp(dirFd, dir, request.scratch, request.name);
    if (slot < 0) return slot;
    context.writeEntryOut(request, request.reply, slot, dir);
    const openFlags = CreateIn.openFlags(view, request.body);
    return this.#replyOpened(slot, this.#open(request, slot, guestFlags, openFlags, request.reply + ENTRY_OUT_BYTES));
  }

  /** A file without a name, which LINK may give it later. */
  tmpfile(request: Request): number {
    const context = this.#context;
    const dir = context.lookups.pin(request.nodeidLo, request.nodeidHi);
    if (dir === 0) return -ENOENT;
    const dirFd = context.inodes.fd(dir);
    const result = dirFd < 0 ? dirFd : this.#tmpfile(request, dirFd, dir);
    context.inodes.unpin(dir);
    return result;
  }

  #tmpfile(request: Request, dirFd: number, dir: number): number {
    const context = this.#context;
    if (!context.inodes.mayOpen()) return -ENFILE;
    const { view } = request.scratch;
    const guestFlags = CreateIn.flags(view, request.body);
    const hostFlags = this.#hostFlags(guestFlags) | (guestFlags & O_EXCL) | O_TMPFILE | O_CLOEXEC;
    const mode = CreateIn.mode(view, request.body) & 0o7777;
    const begun = context.creation.begin(request, mode, CreateIn.umask(view, request.body));
    if (begun < 0) return begun;
    const fd = openat(dirFd, context.dot, hostFlags, mode);
    context.creation.end();
    return fd < 0 ? fd : this.#replyCreated(request, fd, dir, guestFlags);
  }

  /** The entry and the handle of a file that was created just now as `fd`. */
  #replyCreated(request: Request, fd: number, dir: number, guestFlags: number): number {
    const context = this.#context;
    const labelled = context.creation.label(request, fd);
    const slot = labelled < 0 ? labelled : context.lookUpOpen(fd, dir);
    if (slot < 0) {
      close(fd);
      return slot;
    }
    if (request.opcode === CREATE) context.daxFiles.note(slot, request.scratch.u8, request.name);
    context.writeEntryOut(request, request.reply, slot, dir);
    return this.#replyOpened(slot, this.#replyOpen(request, fd, slot, guestFlags, request.reply + ENTRY_OUT_BYTES));
  }

  /** Counts the inode of a created file as given, unless its handle could not be. */
  #replyOpened(slot: number, opened: number): number {
    if (opened < 0) this.#context.inodes.unpin(slot);
    else this.#context.lookups.add(slot);
    return opened < 0 ? opened : ENTRY_OUT_BYTES + OPEN_OUT_BYTES;
  }

  /** COPY_FILE_RANGE: the host copies, or shares the blocks, without the data passing through the guest. */
  copyFileRange(request: Request): number {
    const { view } = request.scratch;
    const { body, reply } = request;
    const { offsets } = CopyFileRangeIn;
    if (!isOffset(view, body + offsets.offIn) || !isOffset(view, body + offsets.offOut)) return -EINVAL;
    if (CopyFileRangeIn.flags(view, body) !== 0) return -EINVAL;
    const result = this.#copy(request);
    this.#file.release();
    this.#target.release();
    if (result < 0) return result;
    // fuse_write_out and fuse_copy_file_range_out: the count is the first word of both.
    view.setUint32(reply, result, true);
    view.setUint32(reply + 4, 0, true);
    return WriteOut.bytes;
  }

  #copy(request: Request): number {
    const { view, address } = request.scratch;
    const { body } = request;
    const { offsets } = CopyFileRangeIn;
    const from = this.#acquire(request, offsets.fhIn, O_RDONLY);
    if (from < 0) return from;
    const target = body + offsets.nodeidOut;
    const [lo, hi] = [view.getInt32(target, true), view.getInt32(target + 4, true)];
    const to = this.#target.acquire(request, offsets.fhOut, lo, hi, O_RDWR);
    if (to < 0) return to;
    const length = Math.min(CopyFileRangeIn.len(view, body), MAX_COPY_BYTES);
    // The kernel moves the offsets on, in scratch, where nobody needs them any more.
    const base = address + body;
    this.#context.privileges.beforeChange(to, true);
    return copyFileRange(from, base + offsets.offIn, to, base + offsets.offOut, length);
  }

  /** The descriptor of the file that a request is about: to be released. */
  #acquire(request: Request, fhOffset: number, access: number): number {
    return this.#file.acquire(request, fhOffset, request.nodeidLo, request.nodeidHi, access);
  }

  read(request: Request): number {
    const { view } = request.scratch;
    const size = Math.min(ReadIn.size(view, request.body), request.dataBytes);
    if (!isOffset(view, request.body + ReadIn.offsets.offset)) return -EINVAL;
    const allowed = ReadIn.flags(view, request.body) & this.#allowed;
    const fd = this.#acquire(request, ReadIn.offsets.fh, O_RDONLY | allowed);
    const direction = request.nowait && this.#readsNow ? READ_NOW : READ;
    const result = fd < 0 ? fd : this.#transfer(request, fd, size, direction);
    this.#file.release();
    return result;
  }

  write(request: Request): number {
    const { view } = request.scratch;
    const { body } = request;
    if (WriteIn.size(view, body) !== request.dataBytes) return -EINVAL;
    if (!isOffset(view, body + WriteIn.offsets.offset)) return -EINVAL;
    // The descriptor itself never appends: pages that the guest's cache writes back belong where they came from, even
    // when the file that it uses for them was opened with O_APPEND. A program's own write goes to the host's end.
    const guestFlags = WriteIn.flags(view, body);
    const appends = (guestFlags & O_APPEND) !== 0;
    const writeFlags = WriteIn.writeFlags(view, body);
    const cached = (writeFlags & flags.WRITE_IN.CACHE) !== 0;
    const allowed = cached ? O_APPEND : guestFlags & (O_APPEND | this.#allowed);
    const fd = this.#acquire(request, WriteIn.offsets.fh, O_RDWR | allowed);
    const keep = (writeFlags & flags.WRITE_IN.KILL_SUIDGID) === 0;
    if (fd >= 0) this.#context.privileges.beforeChange(fd, keep);
    const special = cached && (this.#file.mayAppend || this.#openFlags !== OPEN_FLAGS);
    const direction = cached ? PAGES : appends ? APPEND : WRITE;
    const done =
      fd < 0 ? fd : special ? this.#writePages(request, fd) : this.#transfer(request, fd, request.dataBytes, direction);
    this.#file.release();
    if (done < 0) return done;
    WriteOut.set.size(view, request.reply, done);
    view.setUint32(request.reply + 4, 0, true);
    return WriteOut.bytes;
  }

  /**
   * Writes pages of the guest's cache: all of them, or an error. The guest's kernel does not look at how many bytes
   * were written (fs/fuse/file.c, fuse_writepage_end), so a disk that is full in the middle would cost the rest in
   * silence. The descriptor may be one that appends (an append-only file) or that takes whole blocks only (O_DIRECT,
   * and the last page of a file is none).
   */
  #writePages(request: Request, fd: number): number {
    const hostFlags = statusFlags(fd);
    const appends = (hostFlags & O_APPEND) !== 0;
    const plain = (hostFlags & O_DIRECT) === 0 ? fd : this.#context.reopen(fd, O_WRONLY | (hostFlags & O_APPEND));
    if (plain < 0) return plain;
    const skip = appends ? bytesBeforeEnd(this.#context, request, plain) : 0;
    let written = skip;
    if (skip >= 0 && skip < request.dataBytes) {
      request.dataFrom += skip;
      const direction = appends ? APPEND_PAGES : PAGES;
      const result = this.#transfer(request, plain, request.dataBytes - skip, direction);
      written = result < 0 ? result : skip + result;
    }
    if (plain !== fd) close(plain);
    return written;
  }

  /** Moves file data between the file and guest memory; READ and WRITE have their offset at the same place. */
  #transfer(request: Request, fd: number, size: number, direction: number): number {
    const { view } = request.scratch;
    const vectors = this.#vectors;
    const offsetAt = request.body + ReadIn.offsets.offset;
    let lo = view.getInt32(offsetAt, true);
    let hi = view.getInt32(offsetAt + 4, true);
    let done = 0;
    while (done < size) {
      const count = vectors.fill(request.data, request.dataFrom + done, size - done);
      const result =
        direction === READ
          ? preadv(fd, vectors.address, count, lo, hi)
          : direction === READ_NOW
            ? preadv2(fd, vectors.address, count, lo, hi, RWF_NOWAIT)
            : direction === WRITE || direction === PAGES
              ? pwritev(fd, vectors.address, count, lo, hi)
              : pwritev2(fd, vectors.address, count, lo, hi, RWF_APPEND);
      if (direction === READ_NOW && result === -EAGAIN) return WOULD_SLEEP;
      if (direction === READ_NOW && result === -EOPNOTSUPP) {
        // Nobody can tell: it is read here, as all others from now on.
        this.#readsNow = false;
        return this.#transfer(request, fd, size, READ);
      }
      const whole = direction >= PAGES;
      if (result < 0) return done > 0 && !whole ? done : result;
      if (result === 0 && whole) return -EIO;
      done += result;
      // Less than asked for is the end of the file, or of what is in the page cache: the next call tells.
      if (result < vectors.bytes && !whole && (direction !== READ_NOW || result === 0)) break;
      const carry = (lo >>> 0) + result > 0xffffffff;
      lo = (lo + result) | 0;
      if (carry) hi += 1;
    }
    return done;
  }

  /** RELEASE and RELEASEDIR. What was created just before the guest learned not to open has handle 0. */
  release(request: Request): number {
    const { handles, policy } = this.#context;
    const { view } = request.scratch;
    const at = request.body + ReleaseIn.offsets.fh;
    const lo = view.getInt32(at, true);
    const hi = view.getInt32(at + 4, true);
    if (lo === 0 && hi === 0 && policy.noOpen) return 0;
    return handles.release(lo, hi) ? 0 : -EBADF;
  }

  /** As close(2) of one of several descriptors: a file system that reports write errors on close reports them here. */
  flush(request: Request): number {
    // From then on the guest does not ask.
    if (this.#context.policy.noFlush) return -ENOSYS;
    const fd = this.#acquire(request, FlushIn.offsets.fh, O_RDONLY);
    const copy = fd < 0 ? fd : duplicate(fd);
    const result = copy < 0 ? copy : close(copy);
    this.#file.release();
    return result;
  }

  fsync(request: Request): number {
    return this.#fsync(request, O_RDONLY);
  }

  fsyncdir(request: Request): number {
    return this.#fsync(request, O_RDONLY | O_DIRECTORY);
  }

  #fsync(request: Request, access: number): number {
    const { view } = request.scratch;
    const fd = this.#acquire(request, FsyncIn.offsets.fh, access);
    const dataOnly = (FsyncIn.fsyncFlags(view, request.body) & flags.FSYNC_IN.FDATASYNC) !== 0;
    const result = fd < 0 ? fd : dataOnly ? fdatasync(fd) : fsync(fd);
    this.#file.release();
    return result;
  }

  fallocate(request: Request): number {
    const { view } = request.scratch;
    const { body } = request;
    const mode = FallocateIn.mode(view, body);
    if ((mode & ~FALLOCATE_MODES) !== 0) return -EOPNOTSUPP;
    const fd = this.#acquire(request, FallocateIn.offsets.fh, O_RDWR);
    if (fd >= 0) this.#context.privileges.beforeChange(fd, true);
    const at = body + FallocateIn.offsets.offset;
    const [offsetLo, offsetHi] = [view.getInt32(at, true), view.getInt32(at + 4, true)];
    const [lengthLo, lengthHi] = [view.getInt32(at + 8, true), view.getInt32(at + 12, true)];
    const result = fd < 0 ? fd : fallocate(fd, mode, offsetLo, offsetHi, lengthLo, lengthHi);
    this.#file.release();
    return result;
  }

  /**
   * Only for what the host knows better: SEEK_DATA and SEEK_HOLE, and the end. With writeback it knows less: Linux asks
   * without sending what it has collected first (fuse_lseek), and a file with a hole where its data will come is copied
   * as a hole by programs that look for them. After ENOSYS all of a file is data to the guest.
   */
  lseek(request: Request): number {
    const { view, u32 } = request.scratch;
    const { body, reply } = request;
    if ((request.agreed & flags.INIT.WRITEBACK_CACHE) !== 0) return -ENOSYS;
    const whence = LseekIn.whence(view, body);
    if (whence < SEEK_END || whence > SEEK_HOLE) return -EINVAL;
    const fd = this.#acquire(request, LseekIn.offsets.fh, O_RDONLY);
    const offset = (body + LseekIn.offsets.offset) >> 2;
    const result = fd < 0 ? fd : lseek(fd, u32[offset], u32[offset + 1], whence);
    this.#file.release();
    if (result < 0) return result;
    u32[reply >> 2] = seekPosition[0];
    u32[(reply >> 2) + 1] = seekPosition[1];
    return LseekOut.bytes;
  }
}

/** Whether the 64 bits at `at` are an offset with room above it: what the host's off_t takes. */
function isOffset(view: DataView, at: number): boolean {
  const hi = view.getInt32(at + 4, true);
  return hi >= 0 && hi < 0x7fffffff;
}
