/** Operations on names: what a directory says. */
import { EINVAL, ENOENT } from '../../core/index.ts';
import {
  BatchForgetIn,
  ForgetIn,
  ForgetOne,
  LinkIn,
  MkdirIn,
  MknodIn,
  opcodes,
  Rename2In,
  RenameIn,
} from '../../fuse/index.ts';
import {
  AT_REMOVEDIR,
  AT_SYMLINK_FOLLOW,
  linkat,
  mkdirat,
  mknodat,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  readlinkat,
  renameat2,
  symlinkat,
  unlinkat,
} from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';
import { NO_UMASK } from './credentials.ts';

const ENTRY_OUT_BYTES = 128;
const RENAME_FLAGS = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;

export class Names {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  lookup(request: Request): number {
    const { lookups, inodes } = this.#context;
    const dir = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (dir === 0) return -ENOENT;
    const dirFd = inodes.fd(dir);
    const result = dirFd < 0 ? dirFd : this.#replyEntry(request, dirFd, dir);
    inodes.unpin(dir);
    if (result !== -ENOENT || this.#context.policy.negativeTtlMs === 0) return result;
    this.#context.writeNegativeEntry(request.scratch, request.reply);
    return ENTRY_OUT_BYTES;
  }

  /** Looks the request's name up in a directory and replies with its entry, which then counts as given. */
  #replyEntry(request: Request, dirFd: number, dir: number, isNew?: boolean): number {
    const context = this.#context;
    const slot = context.lookUp(dirFd, dir, request.scratch, request.name, isNew);
    if (slot < 0) return slot;
    context.writeEntryOut(request, request.reply, slot, dir);
    context.lookups.add(slot);
    return ENTRY_OUT_BYTES;
  }

  forget(request: Request): number {
    const count = ForgetIn.nlookup(request.scratch.view, request.body);
    this.#context.lookups.forget(request.nodeidLo, request.nodeidHi, count);
    return 0;
  }

  /** The gate has brought the list into scratch, behind the fixed part. */
  batchForget(request: Request): number {
    const { view } = request.scratch;
    const count = BatchForgetIn.count(view, request.body);
    const first = request.body + BatchForgetIn.bytes;
    if (count > request.dataBytes / ForgetOne.bytes) return -EINVAL;
    for (let i = 0; i < count; i += 1) {
      const at = first + i * ForgetOne.bytes;
      const lo = view.getInt32(at, true);
      const hi = view.getInt32(at + 4, true);
      this.#context.lookups.forget(lo, hi, ForgetOne.nlookup(view, at));
    }
    return 0;
  }

  readlink(request: Request): number {
    const { lookups, inodes, empty } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const fd = inodes.fd(slot);
    const room = Math.min(request.replyRoom, 4096);
    const target = request.scratch.address + request.reply;
    const result = fd < 0 ? fd : readlinkat(fd, empty, target, room);
    inodes.unpin(slot);
    // On an inode that is no symlink the empty path is not found.
    return result === -ENOENT ? -EINVAL : result;
  }

  /** MKNOD, MKDIR, SYMLINK: creates a name as the guest's user, then replies with its entry. */
  make(request: Request): number {
    const context = this.#context;
    const dir = context.lookups.pin(request.nodeidLo, request.nodeidHi);
    if (dir === 0) return -ENOENT;
    const dirFd = context.inodes.fd(dir);
    let result = dirFd;
    if (dirFd >= 0) result = this.#make(request, dirFd);
    if (dirFd >= 0 && result >= 0) result = this.#replyMade(request, dirFd, dir);
    context.inodes.unpin(dir);
    return result;
  }

  #make(request: Request, dirFd: number): number {
    const { creation } = this.#context;
    const begun = creation.begin(request, modeOf(request), maskOf(request));
    if (begun < 0) return begun;
    const result = makeIn(dirFd, request);
    creation.end();
    return result;
  }

  /** Labels what was made just now and replies with its entry; what cannot be labelled is taken away again. */
  #replyMade(request: Request, dirFd: number, dir: number): number {
    if (request.contextCount === 0) return this.#replyEntry(request, dirFd, dir, true);
    const context = this.#context;
    const slot = context.lookUp(dirFd, dir, request.scratch, request.name, true);
    if (slot < 0) return slot;
    const fd = context.inodes.fd(slot);
    const labelled = fd < 0 ? fd : context.creation.label(request, fd);
    if (labelled < 0) {
      const name = request.scratch.address + request.name;
      unlinkat(dirFd, name, request.opcode === opcodes.MKDIR.code ? AT_REMOVEDIR : 0);
      context.inodes.unpin(slot);
      return labelled;
    }
    context.writeEntryOut(request, request.reply, slot, dir);
    context.lookups.add(slot);
    return ENTRY_OUT_BYTES;
  }

  unlink(request: Request): number {
    return this.#remove(request, 0);
  }

  rmdir(request: Request): number {
    return this.#remove(request, AT_REMOVEDIR);
  }

  #remove(request: Request, flags: number): number {
    const { lookups, inodes } = this.#context;
    const dir = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (dir === 0) return -ENOENT;
    const dirFd = inodes.fd(dir);
    const held = dirFd < 0 ? 0 : this.#context.holdNamed(dirFd, dir, request.scratch, request.name);
    const result = dirFd < 0 ? dirFd : unlinkat(dirFd, request.scratch.address + request.name, flags);
    if (held !== 0) inodes.unpin(held);
    inodes.unpin(dir);
    return result;
  }

  rename(request: Request): number {
    return this.#rename(request, RenameIn.offsets.newdir, 0);
  }

  rename2(request: Request): number {
    const { view } = request.scratch;
    const flags = Rename2In.flags(view, request.body);
    if ((flags & ~RENAME_FLAGS) !== 0) return -EINVAL;
    return this.#rename(request, Rename2In.offsets.newdir, flags);
  }

  #rename(request: Request, newdirOffset: number, flags: number): number {
    const { lookups, inodes, credentials } = this.#context;
    const oldDir = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (oldDir === 0) return -ENOENT;
    const newDir = this.#pinAt(request, newdirOffset);
    let result = -ENOENT;
    if (newDir !== 0) {
      const { address } = request.scratch;
      const oldFd = inodes.fd(oldDir);
      const newFd = inodes.fd(newDir);
      // A whiteout is a new inode, and its user's.
      const whiteout = (flags & RENAME_WHITEOUT) !== 0;
      const begun = whiteout ? credentials.enter(request, 0, 0) : 0;
      if (!whiteout) credentials.settle();
      const held = newFd < 0 ? 0 : this.#context.holdNamed(newFd, newDir, request.scratch, request.name2);
      if (oldFd < 0 || newFd < 0 || begun < 0) result = Math.min(oldFd, newFd, begun);
      else result = renameat2(oldFd, address + request.name, newFd, address + request.name2, flags);
      if (held !== 0) inodes.unpin(held);
      if (whiteout) credentials.leave();
      inodes.unpin(newDir);
    }
    inodes.unpin(oldDir);
    return result;
  }

  /** Pins the inode of a node id in the fixed part. */
  #pinAt(request: Request, offset: number): number {
    const { view } = request.scratch;
    const at = request.body + offset;
    return this.#context.lookups.pin(view.getInt32(at, true), view.getInt32(at + 4, true));
  }

  link(request: Request): number {
    const { lookups, inodes } = this.#context;
    const slot = this.#pinAt(request, LinkIn.offsets.oldnodeid);
    if (slot === 0) return -ENOENT;
    const dir = lookups.pin(request.nodeidLo, request.nodeidHi);
    let result = -ENOENT;
    if (dir !== 0) {
      result = this.#link(request, slot, dir);
      inodes.unpin(dir);
    }
    inodes.unpin(slot);
    return result;
  }

  #link(request: Request, slot: number, dir: number): number {
    const context = this.#context;
    const fd = context.inodes.fd(slot);
    const dirFd = context.inodes.fd(dir);
    if (fd < 0 || dirFd < 0) return Math.min(fd, dirFd);
    const name = request.scratch.address + request.name;
    // Through /proc, as linking an empty path takes a capability; a symlink is linked itself, not followed further.
    const result = linkat(context.procFd, context.procName(fd), dirFd, name, AT_SYMLINK_FOLLOW);
    return result < 0 ? result : this.#replyEntry(request, dirFd, dir);
  }
}

function modeOf(request: Request): number {
  const { view } = request.scratch;
  if (request.opcode === opcodes.MKNOD.code) return MknodIn.mode(view, request.body);
  // A directory gets the set-group-id bit from its parent, and a symlink has none.
  return 0;
}

function maskOf(request: Request): number {
  const { view } = request.scratch;
  switch (request.opcode) {
    case opcodes.MKNOD.code:
      return MknodIn.umask(view, request.body);
    case opcodes.MKDIR.code:
      return MkdirIn.umask(view, request.body);
    default:
      return NO_UMASK;
  }
}

function makeIn(dirFd: number, request: Request): number {
  const { view, address } = request.scratch;
  const name = address + request.name;
  switch (request.opcode) {
    case opcodes.MKNOD.code:
      return mknodat(dirFd, name, MknodIn.mode(view, request.body), MknodIn.rdev(view, request.body));
    case opcodes.MKDIR.code:
      return mkdirat(dirFd, name, MkdirIn.mode(view, request.body));
    default:
      // A symlink's target is any string, for the guest alone to follow.
      return symlinkat(address + request.name2, dirFd, name);
  }
}
