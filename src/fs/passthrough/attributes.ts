/** Operations on attributes: of an inode, and of the file system as a whole. */
import { EACCES, EINVAL, ENOENT, EPERM, EROFS } from '../../core/index.ts';
import { AccessIn, flags, GetattrIn, SetattrIn, StatxIn, StatxOut } from '../../fuse/index.ts';
import {
  AT_EMPTY_PATH,
  close,
  fchmodat,
  fchownat,
  fstatfs,
  ftruncate,
  O_RDWR,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  STATX_ALL,
  STATX_BASIC_STATS,
  syncfs,
  UTIME_NOW,
  UTIME_OMIT,
  utimensat,
} from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';

const ATTR_OUT_BYTES = 104;
const STATFS_OUT_BYTES = 80;
/** uid and gid that leave the owner as it is. */
const UNCHANGED = -1;
const { FATTR, GETATTR_IN } = flags;
const TIMES = FATTR.ATIME | FATTR.MTIME;
const SETS = TIMES | FATTR.MODE | FATTR.UID | FATTR.GID | FATTR.SIZE;

export class Attributes {
  readonly #context: Context;
  /** struct timespec times[2]. */
  readonly #times: number;
  readonly #statfs: number;
  readonly #readonly: boolean;

  constructor(context: Context, readonly: boolean) {
    this.#context = context;
    this.#times = context.arena.reserve(32);
    this.#statfs = context.arena.reserve(120);
    this.#readonly = readonly;
  }

  getattr(request: Request): number {
    const { lookups, handles, inodes } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const { view } = request.scratch;
    let handle = 0;
    if ((GetattrIn.getattrFlags(view, request.body) & GETATTR_IN.FH) !== 0) {
      handle = this.#context.pinHandle(request, GetattrIn.offsets.fh);
    }
    const result = handle !== 0 ? this.#context.statFd(handles.fd(handle)) : this.#context.statInode(slot);
    if (result >= 0) this.#context.writeAttrOut(request, slot);
    if (handle !== 0) handles.unpin(handle);
    inodes.unpin(slot);
    return result < 0 ? result : ATTR_OUT_BYTES;
  }

  /** As GETATTR, with what struct stat has no room for: the time of birth, attributes of the file. */
  statx(request: Request): number {
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const fd = inodes.fd(slot);
    const mask = StatxIn.sxMask(request.scratch.view, request.body) & STATX_ALL;
    const result = fd < 0 ? fd : this.#context.statFdFor(fd, mask | STATX_BASIC_STATS);
    if (result >= 0) this.#context.writeStatxOut(request, slot);
    inodes.unpin(slot);
    return result < 0 ? result : StatxOut.bytes;
  }

  setattr(request: Request): number {
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const fd = inodes.fd(slot);
    let result = fd < 0 ? fd : this.#apply(request, slot, fd);
    if (result >= 0) result = this.#context.statFd(fd);
    if (result >= 0) this.#context.writeAttrOut(request, slot);
    inodes.unpin(slot);
    return result < 0 ? result : ATTR_OUT_BYTES;
  }

  /** In this order: a change of owner clears the set-id bits, which the mode may then set; times come last. */
  #apply(request: Request, slot: number, fd: number): number {
    const { view } = request.scratch;
    const { body } = request;
    const context = this.#context;
    const valid = SetattrIn.valid(view, body);
    // What the guest's process may not set, its kernel has left out already.
    context.credentials.keepSetIds(true);
    let result = 0;
    if ((valid & (FATTR.UID | FATTR.GID)) !== 0) result = this.#setOwner(request, fd, valid);
    else if ((valid & SETS) === 0) result = this.#takePrivileges(slot, fd);
    if (result >= 0 && (valid & FATTR.MODE) !== 0) {
      result = fchmodat(context.procFd, context.procName(fd), SetattrIn.mode(view, body) & 0o7777);
    }
    if (result >= 0 && (valid & FATTR.SIZE) !== 0) result = this.#truncate(request, slot, fd, valid);
    if (result >= 0 && (valid & TIMES) !== 0) result = this.#setTimes(request, fd, valid);
    return result;
  }

  /**
   * A SETATTR that sets nothing is how Linux says that a process without CAP_FSETID is about to change a file by
   * fallocate(2) and the like (file_remove_privs), and how chown(-1, -1) arrives, which on the host does the same.
   */
  #takePrivileges(slot: number, fd: number): number {
    const { inodes, empty, privileges } = this.#context;
    const result = fchownat(fd, empty, UNCHANGED, UNCHANGED, AT_EMPTY_PATH);
    if (result < 0 || inodes.type(slot) === S_IFDIR >> 12) return result;
    privileges.dropCapability(fd);
    // chown(2) by us leaves the bit where the group may not execute; the guest would not have asked in that case.
    return privileges.dropSetGroupId(fd);
  }

  /** As chown(2), which takes set-id bits and capabilities of all but directories. */
  #setOwner(request: Request, fd: number, valid: number): number {
    const { view } = request.scratch;
    const { uids, gids, empty, privileges } = this.#context;
    const uid = view.getInt32(request.body + SetattrIn.offsets.uid, true);
    const gid = view.getInt32(request.body + SetattrIn.offsets.gid, true);
    const setsUid = (valid & FATTR.UID) !== 0;
    const setsGid = (valid & FATTR.GID) !== 0;
    // -1 would leave the owner alone, which is not what was asked for.
    if ((setsUid && uid === UNCHANGED) || (setsGid && gid === UNCHANGED)) return -EINVAL;
    if ((setsUid && uids.forbids(uid)) || (setsGid && gids.forbids(gid))) return -EPERM;
    const hostUid = setsUid ? uids.toHost(uid) : UNCHANGED;
    const hostGid = setsGid ? gids.toHost(gid) : UNCHANGED;
    const result = fchownat(fd, empty, hostUid, hostGid, AT_EMPTY_PATH);
    if (result >= 0) privileges.dropCapability(fd);
    return result;
  }

  #truncate(request: Request, slot: number, fd: number, valid: number): number {
    const { view } = request.scratch;
    const context = this.#context;
    const at = request.body + SetattrIn.offsets.size;
    const [lo, hi] = [view.getInt32(at, true), view.getInt32(at + 4, true)];
    if (context.inodes.type(slot) !== S_IFREG >> 12) return -EINVAL;
    const handle = (valid & FATTR.FH) !== 0 ? context.pinHandle(request, SetattrIn.offsets.fh) : 0;
    const keep = (valid & FATTR.KILL_SUIDGID) === 0;
    const file = handle === 0 ? context.reopen(fd, O_RDWR) : context.handles.fd(handle);
    if (file < 0) return file;
    context.privileges.beforeTruncation(file, keep);
    const result = ftruncate(file, lo, hi);
    if (result === 0) context.privileges.afterTruncation(file, keep);
    if (handle === 0) close(file);
    else context.handles.unpin(handle);
    return result;
  }

  #setTimes(request: Request, fd: number, valid: number): number {
    const { u32 } = this.#context.arena;
    const from = request.scratch.u32;
    const at = this.#times >> 2;
    const body = request.body >> 2;
    const { offsets } = SetattrIn;
    // With writeback mtime and ctime are of the guest's clock (FATTR_CTIME tells): so is what it calls now.
    const clocked = (valid & FATTR.CTIME) === 0 ? valid : valid & ~(FATTR.ATIME_NOW | FATTR.MTIME_NOW);
    for (let i = 0; i < 2; i += 1) {
      const seconds = body + ((i === 0 ? offsets.atime : offsets.mtime) >> 2);
      const nanoseconds = from[body + ((i === 0 ? offsets.atimensec : offsets.mtimensec) >> 2)];
      const now = (clocked & (i === 0 ? FATTR.ATIME_NOW : FATTR.MTIME_NOW)) !== 0;
      const set = (valid & (i === 0 ? FATTR.ATIME : FATTR.MTIME)) !== 0;
      // The values that mean 'now' and 'as it was' are the flags' to give, not the guest's numbers'.
      if (set && !now && nanoseconds >= 1e9) return -EINVAL;
      u32[at + i * 4] = from[seconds];
      u32[at + i * 4 + 1] = from[seconds + 1];
      u32[at + i * 4 + 2] = set ? (now ? UTIME_NOW : nanoseconds) : UTIME_OMIT;
      u32[at + i * 4 + 3] = 0;
    }
    const context = this.#context;
    return utimensat(fd, context.empty, context.arena.address + this.#times, AT_EMPTY_PATH);
  }

  statfs(request: Request): number {
    const context = this.#context;
    const slot = context.lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const fd = context.inodes.fd(slot);
    const result = fd < 0 ? fd : fstatfs(fd, context.arena.address + this.#statfs);
    context.inodes.unpin(slot);
    if (result < 0) return result;
    this.#writeStatfs(request.scratch.u32, request.reply >> 2);
    return STATFS_OUT_BYTES;
  }

  /** struct statfs (64-bit words: type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags). */
  #writeStatfs(to: Uint32Array, w: number): void {
    const from = this.#context.arena.u32;
    const s = this.#statfs >> 2;
    for (let i = 0; i < 20; i += 1) to[w + i] = 0;
    for (let i = 0; i < 10; i += 1) to[w + i] = from[s + 4 + i];
    to[w + 10] = from[s + 2];
    to[w + 11] = from[s + 16];
    to[w + 12] = from[s + 18];
  }

  /** A guest with default_permissions (Linux has it on virtio-fs, always) decides by itself and does not ask. */
  access(request: Request): number {
    const context = this.#context;
    const slot = context.lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const result = context.statInode(slot);
    context.inodes.unpin(slot);
    if (result < 0) return result;
    const mask = AccessIn.mask(request.scratch.view, request.body);
    if ((mask & ~7) !== 0) return -EINVAL;
    if ((mask & 2) !== 0 && this.#readonly) return -EROFS;
    return this.#permits(request, mask) ? 0 : -EACCES;
  }

  #permits(request: Request, mask: number): boolean {
    const { mode, ownerUid, ownerGid } = this.#context;
    if (request.uid === 0) return (mask & 1) === 0 || (mode & S_IFMT) === S_IFDIR || (mode & 0o111) !== 0;
    const shift = request.uid === ownerUid ? 6 : request.gid === ownerGid ? 3 : 0;
    return ((mode >> shift) & mask) === mask;
  }

  /**
   * Everything that the guest has written reaches the disk: of the file system that the inode is on, or, when the guest
   * takes all of them for one, of each that it may have written to.
   */
  syncfs(request: Request): number {
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const fd = inodes.mounts.fd(inodes.mount(slot));
    const one = this.#context.announces(request) && fd >= 0;
    const result = one ? syncfs(fd) : inodes.mounts.forEachFd(syncfs);
    inodes.unpin(slot);
    return result;
  }
}
