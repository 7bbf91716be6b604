/**
 * IOCTL: the attributes of a file that chattr(1) and project quotas are made of, and fs-verity. Nothing else: what an
 * ioctl does with its argument is known to its driver alone.
 */
import { assert, EBADF, EINVAL, ENOTTY, EPERM, EROFS } from '../../core/index.ts';
import { flags, IoctlIn, IoctlOut } from '../../fuse/index.ts';
import { close, ioctl, O_NONBLOCK, O_RDONLY, S_IFDIR, S_IFREG } from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';

// include/uapi/linux/fs.h. The argument of the flags' commands is an int, although their numbers say long.
const FS_IOC_GETFLAGS = 0x80086601;
const FS_IOC_SETFLAGS = 0x40086602;
const FS_IOC32_GETFLAGS = 0x80046601;
const FS_IOC32_SETFLAGS = 0x40046602;
const FS_IOC_FSGETXATTR = 0x801c581f;
const FS_IOC_FSSETXATTR = 0x401c5820;
// include/uapi/linux/fsverity.h. FS_IOC_READ_VERITY_METADATA fills a buffer that only the guest's kernel could reach.
const FS_IOC_ENABLE_VERITY = 0x40806685;
const FS_IOC_MEASURE_VERITY = 0xc0046686;

const FLAGS_BYTES = 4;
/** FS_IMMUTABLE_FL and FS_APPEND_FL: not the owner's to change. */
const PRIVILEGED_FLAGS = 0x30;
/** struct fsxattr. */
const FSXATTR_BYTES = 28;
/** FS_XFLAG_IMMUTABLE and FS_XFLAG_APPEND. */
const PRIVILEGED_XFLAGS = 0x18;
/** struct fsverity_digest up to its bytes. */
const DIGEST_BYTES = 4;
const DIGEST_SIZE = 2;
/** struct fsverity_enable_arg. */
const ENABLE_BYTES = 128;
const SALT_SIZE = 12;
const SALT_PTR = 16;
const SIG_SIZE = 24;
const SIG_PTR = 32;
const { UNRESTRICTED } = flags.IOCTL_IN;
/** As a signed word, like the ids of a request. */
const NO_ID = flags.INVALID_UIDGID | 0;

export class Ioctls {
  readonly #context: Context;
  readonly #readonly: boolean;
  /** Room for the attributes of a file as they are, when somebody wants to change them. */
  readonly #now: number;

  constructor(context: Context, readonly: boolean) {
    this.#context = context;
    this.#readonly = readonly;
    this.#now = context.arena.reserve(FSXATTR_BYTES);
  }

  ioctl(request: Request): number {
    const { view } = request.scratch;
    const { body } = request;
    // CUSE's way, where the server says which memory of the caller it wants.
    if ((IoctlIn.flags(view, body) & UNRESTRICTED) !== 0) return -ENOTTY;
    if (IoctlIn.inSize(view, body) !== request.dataBytes) return -EINVAL;
    if (IoctlOut.bytes + IoctlIn.outSize(view, body) > request.replyRoom) return -EINVAL;
    const command = IoctlIn.cmd(view, body);
    if (!isServed(command)) return -ENOTTY;
    if (this.#readonly && changes(command)) return -EROFS;
    const fd = this.#open(request);
    if (fd < 0) return fd;
    const result = this.#execute(request, command, fd);
    this.#close(request, fd);
    if (result < 0) return result;
    // The result, no flags, and nothing to retry: the data comes right behind.
    for (let at = 0; at < IoctlOut.bytes; at += 4) view.setUint32(request.reply + at, 0, true);
    return IoctlOut.bytes + result;
  }

  /** The descriptor of the request's handle, which it pins; without one (handle 0) of its node, opened for this. */
  #open(request: Request): number {
    const context = this.#context;
    const handle = context.pinHandle(request, IoctlIn.offsets.fh);
    if (handle !== 0) return context.handles.fd(handle);
    if (!isWithoutHandle(request)) return -EBADF;
    const slot = context.lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -EBADF;
    const type = context.inodes.type(slot) << 12;
    const inodeFd = type === S_IFREG || type === S_IFDIR ? context.inodes.fd(slot) : -ENOTTY;
    const fd = inodeFd < 0 ? inodeFd : context.reopen(inodeFd, O_RDONLY | O_NONBLOCK);
    context.inodes.unpin(slot);
    return fd;
  }

  #close(request: Request, fd: number): void {
    if (isWithoutHandle(request)) close(fd);
    else this.#context.handles.unpin(request.scratch.u32[(request.body + IoctlIn.offsets.fh) >> 2]);
  }

  /** Bytes of data behind fuse_ioctl_out, or a negative errno. */
  #execute(request: Request, command: number, fd: number): number {
    switch (command) {
      case FS_IOC_GETFLAGS:
      case FS_IOC32_GETFLAGS:
        return get(request, FS_IOC_GETFLAGS, fd, FLAGS_BYTES);
      case FS_IOC_FSGETXATTR:
        return get(request, FS_IOC_FSGETXATTR, fd, FSXATTR_BYTES);
      case FS_IOC_SETFLAGS:
      case FS_IOC32_SETFLAGS:
        return this.#set(request, FS_IOC_SETFLAGS, fd, FLAGS_BYTES);
      case FS_IOC_FSSETXATTR:
        return this.#set(request, FS_IOC_FSSETXATTR, fd, FSXATTR_BYTES);
      case FS_IOC_MEASURE_VERITY:
        return measureVerity(request, fd);
      default:
        assert(command === FS_IOC_ENABLE_VERITY, 'a command is served that is not');
        return this.#enableVerity(request, fd);
    }
  }

  #set(request: Request, command: number, fd: number, bytes: number): number {
    if (request.dataBytes < bytes) return -EINVAL;
    const allowed = this.#mayChange(request, command, fd);
    return allowed < 0 ? allowed : ioctl(fd, command, request.scratch.address + payload(request));
  }

  /**
   * Whether the guest's user may change these attributes. Kernels since 5.13 have decided that before they ask, older
   * ones leave it to the server. Without an identity it is a newer one.
   */
  #mayChange(request: Request, command: number, fd: number): number {
    const { uid } = request;
    if (uid === 0 || uid === NO_ID) return 0;
    const context = this.#context;
    const looked = context.statFd(fd);
    if (looked < 0) return looked;
    if (context.ownerUid !== uid) return -EPERM;
    const { arena } = context;
    const [current, privileged] =
      command === FS_IOC_SETFLAGS ? [FS_IOC_GETFLAGS, PRIVILEGED_FLAGS] : [FS_IOC_FSGETXATTR, PRIVILEGED_XFLAGS];
    const got = ioctl(fd, current, arena.address + this.#now);
    if (got < 0) return got;
    // The flags are the first word of both.
    const wanted = request.scratch.view.getUint32(payload(request), true);
    return ((arena.u32[this.#now >> 2] ^ wanted) & privileged) === 0 ? 0 : -EPERM;
  }

  /** Makes a file's content final. Whoever may write to it may do that, and no guest's kernel has checked it. */
  #enableVerity(request: Request, fd: number): number {
    const context = this.#context;
    const looked = context.statFd(fd);
    if (looked < 0) return looked;
    const { uid, gid } = request;
    const { mode, ownerUid, ownerGid } = context;
    const shift = uid === ownerUid ? 6 : gid === ownerGid ? 3 : 0;
    if (uid !== 0 && (uid === NO_ID || ((mode >> shift) & 2) === 0)) return -EPERM;

    const { view, address } = request.scratch;
    const at = payload(request);
    if (request.dataBytes < ENABLE_BYTES) return -EINVAL;
    const saltBytes = view.getUint32(at + SALT_SIZE, true);
    const sigBytes = view.getUint32(at + SIG_SIZE, true);
    if (request.dataBytes !== ENABLE_BYTES + saltBytes + sigBytes) return -EINVAL;
    // The guest's kernel has put what its pointers point to behind the struct.
    const salt = address + at + ENABLE_BYTES;
    view.setBigUint64(at + SALT_PTR, saltBytes === 0 ? 0n : BigInt(salt), true);
    view.setBigUint64(at + SIG_PTR, sigBytes === 0 ? 0n : BigInt(salt + saltBytes), true);
    return ioctl(fd, FS_IOC_ENABLE_VERITY, address + at);
  }
}

function isServed(command: number): boolean {
  switch (command) {
    case FS_IOC_GETFLAGS:
    case FS_IOC32_GETFLAGS:
    case FS_IOC_FSGETXATTR:
    case FS_IOC_MEASURE_VERITY:
      return true;
    default:
      return changes(command);
  }
}

function changes(command: number): boolean {
  switch (command) {
    case FS_IOC_SETFLAGS:
    case FS_IOC32_SETFLAGS:
    case FS_IOC_FSSETXATTR:
    case FS_IOC_ENABLE_VERITY:
      return true;
    default:
      return false;
  }
}

function isWithoutHandle(request: Request): boolean {
  const at = (request.body + IoctlIn.offsets.fh) >> 2;
  return request.scratch.u32[at] === 0 && request.scratch.u32[at + 1] === 0;
}

/** Where the command's data starts in scratch. */
function payload(request: Request): number {
  return request.body + IoctlIn.bytes;
}

/** A command that fills `bytes` bytes: exactly as many are given, however many more there is room for. */
function get(request: Request, command: number, fd: number, bytes: number): number {
  const { view, address } = request.scratch;
  if (IoctlIn.outSize(view, request.body) < bytes) return -EINVAL;
  const data = request.reply + IoctlOut.bytes;
  for (let at = 0; at < bytes; at += 4) view.setUint32(data + at, 0, true);
  const result = ioctl(fd, command, address + data);
  return result < 0 ? result : bytes;
}

/** The caller says how long a digest it has room for, and is told how long it is. */
function measureVerity(request: Request, fd: number): number {
  const { view, address } = request.scratch;
  const from = payload(request);
  if (request.dataBytes < DIGEST_BYTES) return -EINVAL;
  const room = DIGEST_BYTES + view.getUint16(from + DIGEST_SIZE, true);
  if (room > IoctlIn.outSize(view, request.body)) return -EINVAL;
  const data = request.reply + IoctlOut.bytes;
  view.setUint32(data, view.getUint32(from, true), true);
  const result = ioctl(fd, FS_IOC_MEASURE_VERITY, address + data);
  return result < 0 ? result : DIGEST_BYTES + view.getUint16(data + DIGEST_SIZE, true);
}
