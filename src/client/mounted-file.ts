/** An open file of a share: reads and writes by pages, by the window or straight, as its handle allows. */
import { EBADF, EINVAL, EIO, EISDIR, ENOSYS, ENXIO, EOPNOTSUPP, EOVERFLOW } from '../core/index.ts';
import {
  FallocateIn,
  FlushIn,
  FsyncIn,
  flags as fuse,
  LkIn,
  LkOut,
  LseekIn,
  LseekOut,
  type Opcode,
  opcodes,
  ReadIn,
  ReleaseIn,
  WriteIn,
  WriteOut,
  CopyFileRangeIn,
} from '../fuse/index.ts';
import {
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  FALLOC_FL_KEEP_SIZE,
  O_ACCMODE,
  O_APPEND,
  O_RDONLY,
  O_WRONLY,
  SEEK_HOLE,
} from '../sys/index.ts';
import { bodyOf } from './body.ts';
import type { DaxFile } from './window/dax.ts';
import type { Mount } from './mount.ts';
import type { Handle } from './opening.ts';
import type { Backing } from './cache/page-cache.ts';
import { Refusal } from './refusal.ts';
import { losesSetIds } from './rights.ts';
import type { Task } from './task.ts';
import type { Node } from './tree.ts';
import type { Attributes, Changes, FileLock, OpenFile } from './volume.ts';

const SEEK_DATA = 3;
const OFFSET_MAX = 2n ** 63n - 1n;
/** One for all that this client opens: as one process's. */
const LOCK_OWNER = 1n;

export class MountedFile implements OpenFile {
  readonly flags: number;
  readonly node: Node;
  readonly fh: bigint;
  readonly #mount: Mount;
  /** FOPEN flags. */
  readonly #openFlags: number;
  /** The daemon knows of the handle. */
  readonly #opened: boolean;
  /** For the page cache. */
  readonly #backing: Backing = {
    read: (into, position) => this.readThrough(into, position),
    write: (from, position) => this.writeThrough(from, position, this.#mount.writeback),
  };
  #closed = false;
  /** How often the daemon was asked for data. */
  #reads = 0;

  constructor(mount: Mount, handle: Handle, flags: number) {
    this.#mount = mount;
    this.node = handle.node;
    this.fh = handle.fh;
    this.#openFlags = handle.openFlags;
    this.#opened = handle.opened;
    this.flags = flags;
  }

  get #isDirect(): boolean {
    return this.#mount.mode === 'none' || (this.#openFlags & fuse.FOPEN.DIRECT_IO) !== 0;
  }

  #check(forbidden: number): void {
    if (this.#closed || (this.flags & O_ACCMODE) === forbidden) throw new Refusal(EBADF);
    this.node.check();
    if (this.node.isDirectory) throw new Refusal(EISDIR);
  }

  read(into: Uint8Array, position: number): Task<number> {
    return this.#mount.named('read', this.#read(into, position));
  }

  *#read(into: Uint8Array, position: number): Task<number> {
    this.#check(O_WRONLY);
    const before = this.#reads;
    try {
      return yield* this.#readAny(into, position);
    } finally {
      // What is read because a part of its page is written counts as little as for Linux.
      if (this.#reads !== before) this.node.atimeStale = true;
    }
  }

  *#readAny(into: Uint8Array, position: number): Task<number> {
    checkPosition(position);
    if (into.length === 0) return 0;
    if (this.#isDirect) return yield* this.readThrough(into, position);
    // FUSE_AUTO_INVAL_DATA (fs/fuse/file.c, fuse_cache_read_iter): what others wrote is seen when attributes expire.
    yield* this.#mount.refresh(this.node, this);
    const dax = this.#mount.daxOf(this.node);
    if (dax !== undefined) return yield* this.#readByWindow(dax, into, position);
    return yield* this.#mount.pagesOf(this.node).read(this.#backing, into, position);
  }

  *#readByWindow(dax: DaxFile, into: Uint8Array, position: number): Task<number> {
    const { node } = this;
    if (position >= node.size) return 0;
    const wanted = into.subarray(0, node.size - position);
    const done = yield* dax.read(this.fh, wanted, position, node.size);
    if (done === wanted.length) return done;
    // The file is shorter than we know: the daemon knows better.
    yield* this.#mount.refresh(node, this, true);
    const left = Math.max(0, Math.min(wanted.length, node.size - position));
    if (left <= done) return left;
    return done + (yield* this.readThrough(wanted.subarray(done, left), position + done));
  }

  /** READ, in pieces; fewer bytes than wanted only at the end of the file. */
  *readThrough(into: Uint8Array, position: number): Task<number> {
    const { session } = this.#mount;
    const most = session.agreed.maxReadBytes;
    this.#reads += 1;
    for (let done = 0; ; ) {
      const size = Math.min(most, into.length - done);
      const body = bodyOf(ReadIn, { fh: this.fh, offset: position + done, size, flags: this.flags });
      const call = { opcode: opcodes.READ, nodeid: this.node.nodeid, body, room: size };
      const got = yield* session.transfer(call, into.subarray(done));
      done += got;
      if (got < size || done === into.length) return done;
    }
  }

  write(from: Uint8Array, position: number): Task<number> {
    return this.#mount.named('write', this.#write(from, position));
  }

  *#write(from: Uint8Array, position: number): Task<number> {
    this.#check(O_RDONLY);
    if (from.length === 0) return 0;
    const { node } = this;
    const { session, writeback } = this.#mount;
    const appends = (this.flags & O_APPEND) !== 0;
    const killsIds = session.has(fuse.INIT.HANDLE_KILLPRIV_V2);
    if (!killsIds) yield* this.#mount.dropSetIds(node, this);
    const mapped = this.#isDirect ? undefined : this.#mount.daxOf(node);
    const isLate = writeback || mapped !== undefined;
    // Set-id bits go with a WRITE that tells of it, now (fs/fuse/file.c, fuse_cache_write_iter).
    const isDirect = this.#isDirect || (isLate && killsIds && losesSetIds(node.attributes, session.credentials));
    if (isDirect) yield* this.#mount.flush(node);
    // With write-back the client's size is the right one.
    if (appends && (isDirect || !writeback)) yield* this.#mount.refresh(node, this, true);
    const dax = isDirect ? undefined : mapped;
    if (dax === undefined && !isDirect) {
      if (!appends) checkPosition(position);
      yield* this.#mount.pagesOf(node).write(this.#backing, from, appends ? undefined : position);
    } else {
      const straight = this.#writeStraight(dax, from, appends ? undefined : position);
      yield* this.#mount.pagesOf(node).exclusive(straight);
    }
    this.#mount.wrote(node);
    return from.length;
  }

  /** Past the page cache; at the end of the file where no position is given. */
  *#writeStraight(dax: DaxFile | undefined, from: Uint8Array, position: number | undefined): Task<void> {
    const { node } = this;
    const at = position ?? node.size;
    checkPosition(at);
    if (dax === undefined) yield* this.writeThrough(from, at);
    else yield* this.#writeByWindow(dax, from, at);
    node.pages?.invalidate(at, at + from.length);
    node.grow(at + from.length);
  }

  /** What makes a file longer goes through the daemon; the rest into the window, as far as that shows it. */
  *#writeByWindow(dax: DaxFile, from: Uint8Array, at: number): Task<void> {
    const { node } = this;
    const inside = Math.max(0, Math.min(from.length, node.size - at));
    const done = inside === 0 ? 0 : yield* dax.write(this.fh, from.subarray(0, inside), at, node.size);
    if (done < from.length) yield* this.writeThrough(from.subarray(done), at + done);
  }

  /** WRITE, in pieces. */
  *writeThrough(from: Uint8Array, position: number, cached = false): Task<void> {
    const { session } = this.#mount;
    const most = session.agreed.maxWriteBytes;
    for (let done = 0; done < from.length; ) {
      const data = from.subarray(done, done + most);
      const fields = { fh: this.fh, offset: position + done, size: data.length, flags: this.flags };
      const kills = session.credentials.uid !== 0 && session.has(fuse.INIT.HANDLE_KILLPRIV_V2);
      const writeFlags = cached ? fuse.WRITE_IN.CACHE : kills ? fuse.WRITE_IN.KILL_SUIDGID : 0;
      const body = bodyOf(WriteIn, { ...fields, writeFlags });
      const reply = yield* session.call({ opcode: opcodes.WRITE, nodeid: this.node.nodeid, body, data });
      const written = WriteOut.size(reply, 0);
      if (written === 0 || written > data.length) throw new Refusal(EIO);
      done += written;
    }
  }

  stat(): Task<Attributes> {
    return this.#mount.named('fstat', this.#stat());
  }

  *#stat(): Task<Attributes> {
    this.#checkOpen();
    return yield* this.#mount.stat(this.node, this);
  }

  #checkOpen(): void {
    if (this.#closed) throw new Refusal(EBADF);
    this.node.check();
  }

  change(changes: Changes): Task<void> {
    return this.#mount.named(nameOf(changes), this.#change(changes));
  }

  *#change(changes: Changes): Task<void> {
    this.#checkOpen();
    if (changes.size !== undefined && (this.flags & O_ACCMODE) === O_RDONLY) throw new Refusal(EINVAL);
    yield* this.#mount.setattr(this.node, changes, this);
  }

  sync(dataOnly: boolean): Task<void> {
    return this.#mount.named(dataOnly ? 'fdatasync' : 'fsync', this.#sync(dataOnly));
  }

  *#sync(dataOnly: boolean): Task<void> {
    this.#checkOpen();
    yield* this.#mount.flush(this.node);
    const fsyncFlags = dataOnly ? fuse.FSYNC_IN.FDATASYNC : 0;
    const opcode = this.node.isDirectory ? opcodes.FSYNCDIR : opcodes.FSYNC;
    yield* this.#optional(opcode, bodyOf(FsyncIn, { fh: this.fh, fsyncFlags }));
  }

  /** A request that a daemon may not know: then there is nothing to be done. */
  *#optional(opcode: Opcode, body: Uint8Array): Task<void> {
    yield* this.#mount.optional({ opcode, nodeid: this.node.nodeid, body });
  }

  allocate(mode: number, offset: number, length: number): Task<void> {
    return this.#mount.named('fallocate', this.#allocate(mode, offset, length));
  }

  *#allocate(mode: number, offset: number, length: number): Task<void> {
    this.#check(O_RDONLY);
    const { node } = this;
    yield* this.#mount.flush(node);
    yield* this.#mount.dropSetIds(node, this);
    const body = bodyOf(FallocateIn, { fh: this.fh, offset, length, mode });
    yield* this.#mount.asked({ opcode: opcodes.FALLOCATE, nodeid: node.nodeid, body }, EOPNOTSUPP);
    node.pages?.invalidate();
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0) node.grow(offset + length);
    this.#mount.expire(node);
  }

  seek(offset: number, whence: number): Task<number> {
    return this.#mount.named('lseek', this.#seek(offset, whence));
  }

  *#seek(offset: number, whence: number): Task<number> {
    this.#checkOpen();
    yield* this.#mount.flush(this.node);
    const body = bodyOf(LseekIn, { fh: this.fh, offset, whence });
    const call = { opcode: opcodes.LSEEK, nodeid: this.node.nodeid, body };
    try {
      const found = LseekOut.offset(yield* this.#mount.asked(call, ENOSYS), 0);
      if (!Number.isSafeInteger(found)) throw new Refusal(EOVERFLOW);
      return found;
    } catch (error) {
      if (!(error instanceof Refusal) || error.errno !== ENOSYS) throw error;
      return yield* this.#seekWithoutHoles(offset, whence);
    }
  }

  /** generic_file_llseek: all of the file is data, and there is a hole at its end. */
  *#seekWithoutHoles(offset: number, whence: number): Task<number> {
    yield* this.#mount.refresh(this.node, this);
    const { size } = this.node;
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new Refusal(EINVAL);
    if (offset < 0 || offset >= size) throw new Refusal(ENXIO);
    return whence === SEEK_HOLE ? size : offset;
  }

  copyTo(target: OpenFile, fromOffset: number, toOffset: number, length: number): Task<number> {
    return this.#mount.named('copy_file_range', this.#copyTo(target, fromOffset, toOffset, length));
  }

  *#copyTo(target: OpenFile, fromOffset: number, toOffset: number, length: number): Task<number> {
    this.#check(O_WRONLY);
    if (!(target instanceof MountedFile) || target.#mount !== this.#mount) throw new Refusal(EINVAL);
    target.#check(O_RDONLY);
    if ((target.flags & O_APPEND) !== 0) throw new Refusal(EBADF);
    yield* this.#mount.flush(this.node);
    yield* this.#mount.flush(target.node);
    yield* this.#mount.dropSetIds(target.node, target);
    const most = Math.min(length, 0x7fff_f000);
    const body = bodyOf(CopyFileRangeIn, {
      fhIn: this.fh,
      offIn: fromOffset,
      nodeidOut: target.node.nodeid,
      fhOut: target.fh,
      offOut: toOffset,
      len: most,
    });
    const call = { opcode: opcodes.COPY_FILE_RANGE, nodeid: this.node.nodeid, body };
    const copied = WriteOut.size(yield* this.#mount.asked(call, EOPNOTSUPP), 0);
    if (copied > most) throw new Refusal(EIO);
    target.node.pages?.invalidate(toOffset, toOffset + copied);
    target.node.grow(toOffset + copied);
    this.#mount.expire(target.node);
    return copied;
  }

  getLock(lock: FileLock): Task<FileLock> {
    return this.#mount.named('fcntl', this.#getLock(lock));
  }

  *#getLock(lock: FileLock): Task<FileLock> {
    this.#checkOpen();
    // Locks of one process are never in each other's way.
    if (!this.#mount.session.has(fuse.INIT.POSIX_LOCKS)) return { ...lock, type: F_UNLCK };
    const call = { opcode: opcodes.GETLK, nodeid: this.node.nodeid, body: this.#lockBody(lock) };
    const reply = yield* this.#mount.session.call(call);
    const at = LkOut.offsets.lk;
    const found = {
      start: reply.getBigUint64(at, true),
      end: reply.getBigUint64(at + 8, true),
      type: reply.getUint32(at + 16, true),
      pid: reply.getUint32(at + 20, true),
    };
    // fs/fuse/file.c, convert_fuse_file_lock
    const isRange = found.start <= found.end && found.end <= OFFSET_MAX;
    if (found.type > F_UNLCK || (found.type !== F_UNLCK && !isRange)) throw new Refusal(EIO);
    return found;
  }

  #lockBody({ type, start, end, pid }: FileLock): Uint8Array {
    const body = bodyOf(LkIn, { fh: this.fh });
    const view = new DataView(body.buffer);
    const at = LkIn.offsets.lk;
    view.setBigUint64(LkIn.offsets.owner, LOCK_OWNER, true);
    view.setBigUint64(at, start, true);
    view.setBigUint64(at + 8, end, true);
    view.setUint32(at + 16, type, true);
    view.setUint32(at + 20, pid, true);
    return body;
  }

  setLock(lock: FileLock, wait: boolean): Task<void> {
    return this.#mount.named('fcntl', this.#setLock(lock, wait));
  }

  *#setLock(lock: FileLock, wait: boolean): Task<void> {
    this.#checkOpen();
    const lacking = lock.type === F_RDLCK ? O_WRONLY : lock.type === F_WRLCK ? O_RDONLY : undefined;
    if ((this.flags & O_ACCMODE) === lacking) throw new Refusal(EBADF);
    if (!this.#mount.session.has(fuse.INIT.POSIX_LOCKS)) return;
    const opcode = wait ? opcodes.SETLKW : opcodes.SETLK;
    yield* this.#mount.session.call({
      opcode,
      nodeid: this.node.nodeid,
      body: this.#lockBody(lock),
      patient: wait,
    });
  }

  close(): Task<void> {
    return this.#mount.named('close', this.#close());
  }

  *#close(): Task<void> {
    if (this.#closed) throw new Refusal(EBADF);
    this.#closed = true;
    this.#mount.files.delete(this);
    try {
      if (!this.node.isDirectory) yield* this.#flush();
    } finally {
      yield* this.#release();
    }
  }

  *#flush(): Task<void> {
    yield* this.#mount.flush(this.node);
    if ((this.#openFlags & fuse.FOPEN.NOFLUSH) !== 0 || !this.#opened) return;
    const body = bodyOf(FlushIn, { fh: this.fh });
    new DataView(body.buffer).setBigUint64(FlushIn.offsets.lockOwner, LOCK_OWNER, true);
    yield* this.#optional(opcodes.FLUSH, body);
  }

  *#release(): Task<void> {
    try {
      if (!this.#opened) return;
      const opcode = this.node.isDirectory ? opcodes.RELEASEDIR : opcodes.RELEASE;
      yield* this.#optional(opcode, bodyOf(ReleaseIn, { fh: this.fh, flags: this.flags }));
    } finally {
      this.#mount.tree.release(this.node);
    }
  }
}

function checkPosition(position: number): void {
  if (!Number.isSafeInteger(position) || position < 0) throw new Refusal(EINVAL);
}

/** The call that makes such changes to an open file. */
function nameOf({ size, mode, uid, gid }: Changes): string {
  if (size !== undefined) return 'ftruncate';
  if (mode !== undefined) return 'fchmod';
  return uid === undefined && gid === undefined ? 'futime' : 'fchown';
}
