/** The FUSE server behind the lens: answers what the kernel asks on /dev/fuse about the files of lens.ts. */
import {
  EACCES,
  EAGAIN,
  EBADF,
  EINTR,
  EINVAL,
  ENODEV,
  ENOENT,
  ENOSYS,
  EOPNOTSUPP,
  EPERM,
  ETIMEDOUT,
  PAGE_BYTES,
} from '../core/index.ts';
import {
  Attr,
  AttrOut,
  BackingMap,
  BatchForgetIn,
  EntryOut,
  encodeInit,
  ForgetOne,
  flags,
  InHeader,
  type InitOffer,
  InitOut,
  negotiate,
  OPCODES,
  OpenOut,
  OutHeader,
  opcodes,
  ReleaseIn,
  Statx,
} from '../fuse/index.ts';
import {
  Arena,
  AT_EMPTY_PATH,
  backingClose,
  backingOpen,
  close,
  coldString,
  Epoll,
  O_ACCMODE,
  O_APPEND,
  O_PATH,
  O_RDWR,
  read,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  STATX_ATTR_APPEND,
  STATX_ATTR_IMMUTABLE,
  STATX_BASIC_STATS,
  SysError,
  statusFlags,
  statx,
  waitReadable,
  write,
} from '../sys/index.ts';

/** What every lens says its file has. */
export const LENS_SIZE_BYTES = 2 ** 62;

/** The least that the kernel reads into (fs/fuse/dev.c): 8192, and a header and struct fuse_write_in and a WRITE. */
const REQUEST_BYTES = 3 * PAGE_BYTES;
/** Files on overlayfs can be behind the lens too: FILESYSTEM_MAX_STACK_DEPTH of include/linux/fs.h. */
const STACK_DEPTH = 2;
const OFFER: InitOffer = {
  flags: 0,
  flags2: flags.INIT2.PASSTHROUGH,
  maxReadaheadBytes: 0,
  maxWriteBytes: PAGE_BYTES,
  maxPages: 1,
  maxBackground: 64,
  congestionThreshold: 48,
  timeGranNs: 1,
};
/** The kernel has sent INIT when the mount is there. */
const INIT_MS = 5000;
/** Nothing about a lens changes, so the kernel need not ask again. */
const ATTRIBUTES_VALID_SECONDS = 1_000_000_000;
const MODE = 0o666;

const KEY_DEVICE = 0;
const KEY_STOP = 1;
const STRUCT_STATX_BYTES = 256;

/** One mount's end of /dev/fuse, in the thread that reads it. */
export class LensServer {
  readonly #fd: number;
  readonly #arena = new Arena(2 * REQUEST_BYTES);
  readonly #view = this.#arena.view;
  readonly #inAt = this.#arena.reserve(REQUEST_BYTES);
  readonly #bodyAt = this.#inAt + InHeader.bytes;
  readonly #outAt = this.#arena.reserve(OutHeader.bytes + EntryOut.bytes);
  readonly #replyAt = this.#outAt + OutHeader.bytes;
  readonly #mapAt = this.#arena.reserve(BackingMap.bytes);
  readonly #statAt = this.#arena.reserve(STRUCT_STATX_BYTES);
  /**
   * The descriptors behind nodes that were looked up and not opened yet. A node is opened once, by the `openLens` that
   * made it: who was handed the lens can have the kernel open it again (/proc/self/fd), when the number may stand for
   * a file that is none of theirs.
   */
  readonly #awaited = new Map<number, number>();
  #lastNode = flags.ROOT_ID;

  constructor(deviceFd: number) {
    this.#fd = deviceFd;
  }

  /** Answers INIT, once for a mount. Throws SysError, of the call FUSE_INIT where the kernel has no passthrough. */
  start(): void {
    if (!waitReadable(this.#fd, INIT_MS)) throw new SysError('FUSE_INIT', ETIMEDOUT, 'the kernel sends none');
    const length = SysError.check(this.#read(), 'read', '/dev/fuse');
    const agreement = negotiate(this.#view, this.#bodyAt, length - InHeader.bytes, OFFER);
    if (agreement.status !== 'agreed' || (agreement.flags2 & flags.INIT2.PASSTHROUGH) === 0) {
      throw new SysError('FUSE_INIT', EOPNOTSUPP, 'FUSE_PASSTHROUGH');
    }
    const bytes = encodeInit(this.#view, this.#replyAt, agreement);
    InitOut.set.maxStackDepth(this.#view, this.#replyAt, STACK_DEPTH);
    SysError.check(this.#reply(bytes), 'write', '/dev/fuse');
  }

  /** Answers all that is waiting; false when the mount is gone. Throws SysError. */
  serve(): boolean {
    for (;;) {
      const length = this.#read();
      if (length === -EAGAIN) return true;
      if (length === -ENODEV) return false;
      // ENOENT: who asked has given up meanwhile.
      if (length === -EINTR || length === -ENOENT) continue;
      SysError.check(length, 'read', '/dev/fuse');
      this.#answer(length);
    }
  }

  /** The kernel's id of a descriptor's file, to be given back by `closeBacking`; a negative errno. */
  openBacking(fd: number): number {
    const { set } = BackingMap;
    this.#arena.u8.fill(0, this.#mapAt, this.#mapAt + BackingMap.bytes);
    set.fd(this.#view, this.#mapAt, fd);
    return backingOpen(this.#fd, this.#arena.address + this.#mapAt);
  }

  closeBacking(id: number): void {
    this.#view.setInt32(this.#mapAt, id, true);
    backingClose(this.#fd, this.#arena.address + this.#mapAt);
  }

  #read(): number {
    return read(this.#fd, this.#arena.address + this.#inAt, REQUEST_BYTES);
  }

  /** Sends the reply to the request that was read: `result` bytes at `#replyAt`, or a negative errno. */
  #reply(result: number): number {
    const view = this.#view;
    const length = OutHeader.bytes + Math.max(result, 0);
    OutHeader.set.len(view, this.#outAt, length);
    OutHeader.set.error(view, this.#outAt, Math.min(result, 0));
    const [from, to] = [this.#inAt + InHeader.offsets.unique, this.#outAt + OutHeader.offsets.unique];
    this.#arena.u8.copyWithin(to, from, from + 8);
    return write(this.#fd, this.#arena.address + this.#outAt, length);
  }

  #answer(length: number): void {
    const view = this.#view;
    const opcode = InHeader.opcode(view, this.#inAt);
    const node = InHeader.nodeid(view, this.#inAt);
    this.#arena.u8.fill(0, this.#replyAt, this.#replyAt + EntryOut.bytes);
    switch (opcode) {
      case opcodes.LOOKUP.code:
        this.#reply(this.#lookUp(length));
        break;
      case opcodes.GETATTR.code:
        this.#reply(this.#attributes(node));
        break;
      case opcodes.OPEN.code:
        this.#open(node);
        break;
      case opcodes.RELEASE.code:
        this.closeBacking(ReleaseIn.fh(view, this.#bodyAt));
        this.#reply(0);
        break;
      case opcodes.FORGET.code:
        this.#awaited.delete(node);
        break;
      case opcodes.BATCH_FORGET.code:
        this.#forgetAll();
        break;
      // The file behind the lens is not to be changed through it, other than by stores.
      case opcodes.SETATTR.code:
        this.#reply(-EPERM);
        break;
      // After ENOSYS the kernel would take every fsync for done.
      case opcodes.FSYNC.code:
        this.#reply(-EINVAL);
        break;
      default:
        if (OPCODES[opcode]?.reply !== 'none') this.#reply(-ENOSYS);
    }
  }

  /** A name is the number of a descriptor, and one that differs from time to time: see `openLens`. */
  #lookUp(length: number): number {
    const name = Buffer.from(this.#arena.buffer, this.#bodyAt, length - InHeader.bytes).toString('latin1');
    const fd = /^(\d+)-\d+\0/.exec(name)?.[1];
    if (fd === undefined) return -ENOENT;
    // Never the node of another file, whatever the kernel remembers.
    this.#lastNode += 1;
    this.#awaited.set(this.#lastNode, Number(fd));
    const { set, offsets, bytes } = EntryOut;
    set.nodeid(this.#view, this.#replyAt, this.#lastNode);
    set.attrValid(this.#view, this.#replyAt, ATTRIBUTES_VALID_SECONDS);
    this.#putAttr(this.#replyAt + offsets.attr, this.#lastNode);
    return bytes;
  }

  #attributes(node: number): number {
    AttrOut.set.attrValid(this.#view, this.#replyAt, ATTRIBUTES_VALID_SECONDS);
    this.#putAttr(this.#replyAt + AttrOut.offsets.attr, node);
    return AttrOut.bytes;
  }

  #putAttr(at: number, node: number): void {
    const { set } = Attr;
    const root = node === flags.ROOT_ID;
    set.ino(this.#view, at, node);
    set.size(this.#view, at, root ? 0 : LENS_SIZE_BYTES);
    set.mode(this.#view, at, root ? S_IFDIR | 0o700 : S_IFREG | MODE);
    set.nlink(this.#view, at, 1);
    set.blksize(this.#view, at, PAGE_BYTES);
  }

  #open(node: number): void {
    const fd = this.#awaited.get(node);
    this.#awaited.delete(node);
    const refusal = fd === undefined ? -EACCES : this.#refusal(fd);
    const id = fd === undefined || refusal < 0 ? refusal : this.openBacking(fd);
    if (id < 0) {
      this.#reply(id);
      return;
    }
    OpenOut.set.fh(this.#view, this.#replyAt, id);
    OpenOut.set.openFlags(this.#view, this.#replyAt, flags.FOPEN.PASSTHROUGH | flags.FOPEN.NOFLUSH);
    OpenOut.set.backingId(this.#view, this.#replyAt, id);
    // Who asked has given up: no RELEASE will come.
    if (this.#reply(OpenOut.bytes) < 0) this.closeBacking(id);
  }

  /**
   * 0, or why a descriptor's file must not be behind a lens. The kernel opens the file again with the flags of the
   * lens, O_RDWR, and asks nobody whether that is allowed (fs/fuse/passthrough.c): so only what was opened for reading
   * and writing may be. Stores would also get around append-only, and end the VMM where a file is immutable.
   */
  #refusal(fd: number): number {
    const result = statx(fd, coldString(''), AT_EMPTY_PATH, STATX_BASIC_STATS, this.#arena.address + this.#statAt);
    if (result < 0) return result;
    if ((Statx.mode(this.#view, this.#statAt) & S_IFMT) !== S_IFREG) return -EINVAL;
    const open = statusFlags(fd);
    if (open < 0) return -EBADF;
    if ((open & O_ACCMODE) !== O_RDWR || (open & (O_PATH | O_APPEND)) !== 0) return -EACCES;
    const attributes = Statx.attributes(this.#view, this.#statAt);
    return (attributes & (STATX_ATTR_APPEND | STATX_ATTR_IMMUTABLE)) === 0 ? 0 : -EACCES;
  }

  #forgetAll(): void {
    const count = BatchForgetIn.count(this.#view, this.#bodyAt);
    const first = this.#bodyAt + BatchForgetIn.bytes;
    for (let i = 0; i < count; i += 1) this.#awaited.delete(ForgetOne.nodeid(this.#view, first + i * ForgetOne.bytes));
  }
}

/**
 * Serves the mount of `deviceFd` until `stopFd` is readable or the mount is gone, and closes `deviceFd`: whoever is in
 * `openLens` then, or comes later, gets an error instead of waiting for ever. Mappings stay. Throws SysError.
 */
export function serveLens(deviceFd: number, stopFd: number): void {
  const epoll = new Epoll();
  try {
    const server = new LensServer(deviceFd);
    epoll.add(deviceFd, KEY_DEVICE);
    epoll.add(stopFd, KEY_STOP);
    for (;;) {
      const ready = epoll.wait(-1);
      for (let i = 0; i < ready; i += 1) if (epoll.key(i) === KEY_STOP) return;
      if (ready > 0 && !server.serve()) return;
    }
  } finally {
    epoll.close();
    close(deviceFd);
  }
}
