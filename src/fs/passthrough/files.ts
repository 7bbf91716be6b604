/** Operations on files: open, read, write and their kin. */
import { EBADF, EEXIST, EINVAL, EISDIR, EMFILE, ENFILE, ENOENT, EOPNOTSUPP, EROFS } from '../../core/index.ts';
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
  pwritev,
  pwritev2,
  RWF_APPEND,
  S_IFDIR,
  S_IFREG,
  seekPosition,
} from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';
import { HANDLE_APPEND, HANDLE_DIRECTORY } from './handles.ts';
import { Vectors } from './vectors.ts';

const OPEN_OUT_BYTES = 16;
const ENTRY_OUT_BYTES = 128;
/** Flags of a guest's open that mean something to the host. O_APPEND is kept by us: see `write`. */
const OPEN_FLAGS = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC;
/** linux/falloc.h: every mode up to UNSHARE_RANGE. */
const FALLOCATE_MODES = 0x7f;
/** MAX_RW_COUNT: as much as one call of the host copies. */
const MAX_COPY_BYTES = 0x7ffff000;
const SEEK_END = 2;
const SEEK_HOLE = 4;

// What #transfer does.
const READ = 0;
const WRITE = 1;
const APPEND = 2;

export class Files {
  readonly #context: Context;
  readonly #vectors: Vectors;
  readonly #readonly: boolean;

  constructor(context: Context, readonly: boolean) {
    this.#context = context;
    this.#vectors = new Vectors(context.arena);
    this.#readonly = readonly;
  }

  open(request: Request): number {
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const result = this.#open(request, slot, OpenIn.flags(request.scratch.view, request.body), request.reply);
    inodes.unpin(slot);
    return result;
  }

  /** Opens a pinned inode and writes fuse_open_out at `out`. */
  #open(request: Request, slot: number, guestFlags: number, out: number): number {
    const context = this.#context;
    const type = context.inodes.type(slot);
    // A guest opens its own FIFOs and devices; one that asks us wants a worker to block.
    if (type !== S_IFREG >> 12) return type === S_IFDIR >> 12 ? -EISDIR : -EINVAL;
    if (this.#readonly && (guestFlags & (O_ACCMODE | O_TRUNC)) !== O_RDONLY) return -EROFS;
    const inodeFd = context.inodes.fd(slot);
    if (inodeFd < 0) return inodeFd;
    const fd = context.reopen(inodeFd, this.#hostFlags(guestFlags));
    return fd < 0 ? fd : this.#replyOpen(request, fd, guestFlags, out);
  }

  /** How the host opens what the guest opens. A page that is written in part is read first, in writeback. */
  #hostFlags(guestFlags: number): number {
    const both = this.#context.policy.writeback && (guestFlags & O_ACCMODE) === O_WRONLY;
    return both ? (guestFlags & OPEN_FLAGS & ~O_ACCMODE) | O_RDWR : guestFlags & OPEN_FLAGS;
  }

  #replyOpen(request: Request, fd: number, guestFlags: number, out: number): number {
    const { handles, policy } = this.#context;
    const handle = handles.add(fd, (guestFlags & O_APPEND) !== 0 ? HANDLE_APPEND : 0);
    if (handle === 0) return -ENFILE;
    this.#context.writeOpenOut(request.scratch, out, handle, policy.fileFlags);
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
    context.actAsGuest(request.uid, request.gid);
    const fd = openat(dirFd, name, hostFlags, mode);
    context.actAsSelf(request.uid, request.gid);
    // Somebody else created it meanwhile. It may be anything, so it is opened as any known inode is.
    const exists = fd === -EEXIST && (guestFlags & O_EXCL) === 0;
    if (fd < 0 && !exists) return fd === -EMFILE ? -ENFILE : fd;
    if (!exists) return this.#replyCreated(request, fd, dir, guestFlags);
    const slot = context.lookUp(dirFd, dir, request.scratch, request.name);
    if (slot < 0) return slot;
    context.writeEntryOut(request.scratch, request.reply, slot);
    return this.#replyOpened(slot, this.#open(request, slot, guestFlags, request.reply + ENTRY_OUT_BYTES));
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
    context.actAsGuest(request.uid, request.gid);
    const fd = openat(dirFd, context.dot, hostFlags, CreateIn.mode(view, request.body) & 0o7777);
    context.actAsSelf(request.uid, request.gid);
    return fd < 0 ? fd : this.#replyCreated(request, fd, dir, guestFlags);
  }

  /** The entry and the handle of a file that was created just now as `fd`. */
  #replyCreated(request: Request, fd: number, dir: number, guestFlags: number): number {
    const context = this.#context;
    const slot = context.lookUpOpen(fd, dir);
    if (slot < 0) {
      close(fd);
      return slot;
    }
    context.writeEntryOut(request.scratch, request.reply, slot);
    return this.#replyOpened(slot, this.#replyOpen(request, fd, guestFlags, request.reply + ENTRY_OUT_BYTES));
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
    const from = this.#pinFile(request, offsets.fhIn);
    if (from === 0) return -EBADF;
    const to = this.#pinFile(request, offsets.fhOut);
    let result = -EBADF;
    if (to !== 0) {
      const { handles } = this.#context;
      const length = Math.min(CopyFileRangeIn.len(view, body), MAX_COPY_BYTES);
      // The kernel moves the offsets on, in scratch, where nobody needs them any more.
      const base = request.scratch.address + body;
      const [fromFd, toFd] = [handles.fd(from), handles.fd(to)];
      result = copyFileRange(fromFd, base + offsets.offIn, toFd, base + offsets.offOut, length);
      handles.unpin(to);
    }
    this.#context.handles.unpin(from);
    if (result < 0) return result;
    // fuse_write_out and fuse_copy_file_range_out: the count is the first word of both.
    view.setUint32(reply, result, true);
    view.setUint32(reply + 4, 0, true);
    return WriteOut.bytes;
  }

  /** The pinned handle of a file, from an offset of the fixed part, or 0. */
  #pinFile(request: Request, offset: number): number {
    const { handles } = this.#context;
    const handle = this.#context.pinHandle(request, offset);
    if (handle === 0 || (handles.flags(handle) & HANDLE_DIRECTORY) === 0) return handle;
    handles.unpin(handle);
    return 0;
  }

  read(request: Request): number {
    const { view } = request.scratch;
    const size = Math.min(ReadIn.size(view, request.body), request.dataBytes);
    if (!isOffset(view, request.body + ReadIn.offsets.offset)) return -EINVAL;
    const { handles } = this.#context;
    const handle = this.#pinFile(request, ReadIn.offsets.fh);
    if (handle === 0) return -EBADF;
    const result = this.#transfer(request, handles.fd(handle), size, READ);
    handles.unpin(handle);
    return result;
  }

  write(request: Request): number {
    const { view } = request.scratch;
    const { body } = request;
    if (WriteIn.size(view, body) !== request.dataBytes) return -EINVAL;
    if (!isOffset(view, body + WriteIn.offsets.offset)) return -EINVAL;
    const { handles } = this.#context;
    const handle = this.#pinFile(request, WriteIn.offsets.fh);
    if (handle === 0) return -EBADF;
    // The descriptor itself never appends: pages that the guest's cache writes back belong where they came from, even
    // when the handle that it uses for them was opened with O_APPEND. A program's own write goes to the host's end.
    const appends = (handles.flags(handle) & HANDLE_APPEND) !== 0;
    const cached = (WriteIn.writeFlags(view, body) & flags.WRITE_IN.CACHE) !== 0;
    const done = this.#transfer(request, handles.fd(handle), request.dataBytes, appends && !cached ? APPEND : WRITE);
    handles.unpin(handle);
    if (done < 0) return done;
    WriteOut.set.size(view, request.reply, done);
    view.setUint32(request.reply + 4, 0, true);
    return WriteOut.bytes;
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
          : direction === WRITE
            ? pwritev(fd, vectors.address, count, lo, hi)
            : pwritev2(fd, vectors.address, count, lo, hi, RWF_APPEND);
      if (result < 0) return done > 0 ? done : result;
      done += result;
      if (result < vectors.bytes) break;
      const carry = (lo >>> 0) + result > 0xffffffff;
      lo = (lo + result) | 0;
      if (carry) hi += 1;
    }
    return done;
  }

  release(request: Request): number {
    const { view } = request.scratch;
    const at = request.body + ReleaseIn.offsets.fh;
    return this.#context.handles.release(view.getInt32(at, true), view.getInt32(at + 4, true)) ? 0 : -EBADF;
  }

  /** As close(2) of one of several descriptors: a file system that reports write errors on close reports them here. */
  flush(request: Request): number {
    const { handles } = this.#context;
    const handle = this.#pinFile(request, FlushIn.offsets.fh);
    if (handle === 0) return -EBADF;
    const copy = duplicate(handles.fd(handle));
    const result = copy < 0 ? copy : close(copy);
    handles.unpin(handle);
    return result;
  }

  /** FSYNC and FSYNCDIR. */
  fsync(request: Request): number {
    const { handles } = this.#context;
    const { view } = request.scratch;
    const handle = this.#context.pinHandle(request, FsyncIn.offsets.fh);
    if (handle === 0) return -EBADF;
    const dataOnly = (FsyncIn.fsyncFlags(view, request.body) & flags.FSYNC_IN.FDATASYNC) !== 0;
    const result = dataOnly ? fdatasync(handles.fd(handle)) : fsync(handles.fd(handle));
    handles.unpin(handle);
    return result;
  }

  fallocate(request: Request): number {
    const { view } = request.scratch;
    const { body } = request;
    const mode = FallocateIn.mode(view, body);
    const offset = FallocateIn.offset(view, body);
    const length = FallocateIn.length(view, body);
    if ((mode & ~FALLOCATE_MODES) !== 0) return -EOPNOTSUPP;
    if (!Number.isSafeInteger(offset + length)) return -EINVAL;
    const { handles } = this.#context;
    const handle = this.#pinFile(request, FallocateIn.offsets.fh);
    if (handle === 0) return -EBADF;
    const result = fallocate(handles.fd(handle), mode, offset, length);
    handles.unpin(handle);
    return result;
  }

  /** Only for what the host knows better: SEEK_DATA and SEEK_HOLE, and the end. */
  lseek(request: Request): number {
    const { view, u32 } = request.scratch;
    const { body, reply } = request;
    const whence = LseekIn.whence(view, body);
    if (whence < SEEK_END || whence > SEEK_HOLE) return -EINVAL;
    const { handles } = this.#context;
    const handle = this.#pinFile(request, LseekIn.offsets.fh);
    if (handle === 0) return -EBADF;
    const offset = (body + LseekIn.offsets.offset) >> 2;
    const result = lseek(handles.fd(handle), u32[offset], u32[offset + 1], whence);
    handles.unpin(handle);
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
