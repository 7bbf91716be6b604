/**
 * The face of a file system's handlers, in this process and without a kernel. It does what a kernel does between a
 * system call and a FUSE request: it walks paths, keeps counts, handles and positions. What a kernel decides by itself
 * (rights, locks, mappings) is not there.
 */
import { EBADF, EINVAL, EISDIR, ENOENT, ENOSYS, ENOTDIR, ENXIO } from '../src/core/index.ts';
import { flags } from '../src/fuse/index.ts';
import {
  SysError,
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_TMPFILE,
  O_TRUNC,
  RENAME_EXCHANGE,
} from '../src/sys/index.ts';
import { S_IFDIR, S_IFMT, SEEK_CUR, SEEK_END, SEEK_HOLE, SEEK_SET } from './constants.ts';
import { type Entry, Face, type Long, type Path, type Stat, type StatFs, type Time, type User } from './face.ts';
import type { Fields, FuseClient } from './fuse-client.ts';
import { birthOf, entryOf, handleOf, listedOf, statFsOfReply, statOfAttr } from './replies.ts';
import { type Place, type Spot, Walker } from './walker.ts';
import { failure } from './verdicts.ts';

const { FATTR } = flags;
const ATTR_AT = 16;
const CREATED_HANDLE_AT = 128;
const STATX_BTIME = 0x800;
/** Never sent to a server (fs/fuse/file.c). */
const OWN_FLAGS = O_CREAT | O_EXCL;

interface OpenFile {
  readonly place: Place;
  /** What requests carry. */
  readonly handle: bigint;
  /** False where the file system keeps no handle: it answers ENOSYS to OPEN, and requests carry 0. */
  readonly kept: boolean;
  readonly flags: number;
  readonly directory: boolean;
  /** Counts that are given back at close. */
  readonly given: readonly bigint[];
  /** In bytes, or a directory's cookie. */
  position: bigint;
}

/** What a kernel does instead where the file system answers ENOSYS. */
function orWithout<T>(call: () => T, instead: () => T): T {
  try {
    return call();
  } catch (error) {
    if (!(error instanceof SysError) || error.errno !== ENOSYS) throw error;
    return instead();
  }
}
const nothing = (): void => {};

export class FileSystemFace extends Face {
  base = '/';
  readonly #client: FuseClient;
  readonly #walker: Walker;
  readonly #files = new Map<number, OpenFile>();
  #next = 100;

  constructor(client: FuseClient) {
    super();
    this.#client = client;
    this.#walker = new Walker(client);
  }

  #full(path: Path): Uint8Array {
    const bytes = Buffer.from(path);
    if (bytes.length === 0) throw failure('walk', ENOENT, "''");
    return bytes[0] === 0x2f ? bytes : Buffer.concat([Buffer.from(`${this.base}/`), bytes]);
  }

  /** Makes a call on the place of a path. */
  #at<T>(path: Path, follow: boolean, body: (place: Place) => T): T {
    return this.#walker.call(() => body(this.#walker.walk(this.#full(path), follow)));
  }

  /** Makes a call on the directory and the last name of a path. */
  #in<T>(path: Path, body: (spot: Spot) => T): T {
    return this.#walker.call(() => body(this.#walker.spot(this.#full(path), false)));
  }

  #file(fd: number): OpenFile {
    const file = this.#files.get(fd);
    if (file === undefined) throw failure('descriptor', EBADF, String(fd));
    return file;
  }

  open(path: Path, how: number, mode = 0): number {
    return this.#open(this.#full(path), how, mode);
  }

  openat(dirFd: number, path: Path, how: number, mode = 0): number {
    return this.#open(Buffer.from(path), how, mode, this.#file(dirFd).place);
  }

  #open(path: Uint8Array, how: number, mode: number, from?: Place): number {
    return this.#walker.call(() => {
      if ((how & O_TMPFILE) === O_TMPFILE) return this.#tmpfile(path, how, mode, from);
      const exclusive = (how & O_EXCL) !== 0 && (how & O_CREAT) !== 0;
      const { directory, name } = this.#walker.spot(path, (how & O_NOFOLLOW) === 0 && !exclusive, from);
      if (name.length === 0) return this.#openPlace(directory, how);
      let found: Place;
      try {
        found = this.#walker.lookup(directory, name);
      } catch (error) {
        if (!(error instanceof SysError) || error.errno !== ENOENT || (how & O_CREAT) === 0) throw error;
        return this.#create(directory, name, how, mode);
      }
      return exclusive ? this.#create(directory, name, how, mode) : this.#openPlace(found, how);
    });
  }

  #create(directory: Place, name: Uint8Array, how: number, mode: number): number {
    const fields = { flags: how, mode: 0o100000 | mode };
    return orWithout(
      () => this.#created(this.#client.ask('CREATE', directory.nodeid, { fields, names: [name] }), directory, how),
      () => {
        this.#made(this.#client.ask('MKNOD', directory.nodeid, { fields: { mode: fields.mode }, names: [name] }));
        return this.#openPlace(this.#walker.lookup(directory, name), how & ~OWN_FLAGS);
      },
    );
  }

  #tmpfile(path: Uint8Array, how: number, mode: number, from?: Place): number {
    const directory = this.#walker.walk(path, true, from);
    const fields = { flags: how & ~O_CREAT, mode: 0o100000 | mode };
    // The name is '/' and means nothing.
    const reply = this.#client.ask('TMPFILE', directory.nodeid, { fields, names: [Buffer.from('/')] });
    return this.#created(reply, directory, how);
  }

  #created(reply: DataView, directory: Place, how: number): number {
    const { nodeid, stat } = entryOf(reply);
    this.#walker.count(nodeid);
    const place = { nodeid, mode: stat.mode, parent: directory };
    return this.#add(place, handleOf(reply, CREATED_HANDLE_AT), how);
  }

  #openPlace(place: Place, how: number): number {
    const directory = (place.mode & S_IFMT) === S_IFDIR;
    if (!directory && (how & O_DIRECTORY) !== 0) throw failure('open', ENOTDIR, '');
    if (directory && ((how & 3) !== 0 || (how & O_CREAT) !== 0)) throw failure('open', EISDIR, '');
    const fields = { flags: how & ~OWN_FLAGS };
    const opening = directory ? 'OPENDIR' : 'OPEN';
    const handle = orWithout<bigint | undefined>(
      () => handleOf(this.#client.ask(opening, place.nodeid, { fields })),
      () => {
        // Nobody but OPEN is told of O_TRUNC.
        if ((how & O_TRUNC) !== 0) this.#setattr(place.nodeid, { valid: FATTR.SIZE, size: 0 });
        return undefined;
      },
    );
    return this.#add(place, handle, how);
  }

  #add(place: Place, handle: bigint | undefined, how: number): number {
    const fd = this.#next;
    this.#next += 1;
    const directory = (place.mode & S_IFMT) === S_IFDIR;
    const kept = handle !== undefined;
    this.#files.set(fd, {
      place,
      handle: handle ?? 0n,
      kept,
      flags: how,
      directory,
      given: this.#walker.keep(),
      position: 0n,
    });
    return fd;
  }

  close(fd: number): void {
    const { place, handle, kept, directory, given, flags: how } = this.#file(fd);
    this.#files.delete(fd);
    if (kept) {
      const fields = { fh: handle };
      if (!directory) orWithout(() => void this.#client.ask('FLUSH', place.nodeid, { fields }), nothing);
      const name = directory ? 'RELEASEDIR' : 'RELEASE';
      this.#client.ask(name, place.nodeid, { fields: { fh: handle, flags: how & ~OWN_FLAGS } });
    }
    this.#walker.forget(given);
  }

  closeAll(): void {
    for (const fd of [...this.#files.keys()]) this.close(fd);
  }

  #stat(nodeid: bigint, handle?: bigint): Stat {
    const fields: Fields = handle === undefined ? {} : { getattrFlags: 1, fh: handle };
    const stat = statOfAttr(this.#client.ask('GETATTR', nodeid, { fields }), ATTR_AT);
    if (!this.#client.has('STATX')) return stat;
    const btime = birthOf(this.#client.ask('STATX', nodeid, { fields: { sxMask: STATX_BTIME } }));
    return { ...stat, btime };
  }

  stat(path: Path): Stat {
    return this.#at(path, true, ({ nodeid }) => this.#stat(nodeid));
  }

  lstat(path: Path): Stat {
    return this.#at(path, false, ({ nodeid }) => this.#stat(nodeid));
  }

  fstat(fd: number): Stat {
    const { place, handle, kept, directory } = this.#file(fd);
    return this.#stat(place.nodeid, kept && !directory ? handle : undefined);
  }

  statfs(path: Path): StatFs {
    return this.#at(path, true, ({ nodeid }) => statFsOfReply(this.#client.ask('STATFS', nodeid)));
  }

  /** A request that makes a name replies with its entry, which counts. */
  #made(reply: DataView): void {
    this.#walker.count(entryOf(reply).nodeid);
  }

  mkdir(path: Path, mode = 0o755): void {
    this.#in(path, ({ directory, name }) => {
      this.#made(this.#client.ask('MKDIR', directory.nodeid, { fields: { mode }, names: [name] }));
    });
  }

  rmdir(path: Path): void {
    this.#in(path, ({ directory, name }) => this.#client.ask('RMDIR', directory.nodeid, { names: [name] }));
  }

  unlink(path: Path): void {
    this.#in(path, ({ directory, name }) => this.#client.ask('UNLINK', directory.nodeid, { names: [name] }));
  }

  rename(from: Path, to: Path, how = 0): void {
    this.#walker.call(() => {
      const old = this.#walker.spot(this.#full(from), false);
      // A kernel looks both names up before it asks.
      this.#walker.lookup(old.directory, old.name);
      const next = this.#walker.spot(this.#full(to), false);
      if ((how & RENAME_EXCHANGE) !== 0) this.#walker.lookup(next.directory, next.name);
      const newdir = next.directory.nodeid;
      const fields: Fields = how === 0 ? { newdir } : { newdir, flags: how };
      const name = how === 0 ? 'RENAME' : 'RENAME2';
      orWithout(
        () => void this.#client.ask(name, old.directory.nodeid, { fields, names: [old.name, next.name] }),
        () => {
          throw failure(name, EINVAL, 'no flags');
        },
      );
    });
  }

  link(from: Path, to: Path, follow = false): void {
    this.#walker.call(() => this.#link(this.#walker.walk(this.#full(from), follow).nodeid, to));
  }

  linkFd(fd: number, to: Path): void {
    this.#walker.call(() => this.#link(this.#file(fd).place.nodeid, to));
  }

  #link(oldnodeid: bigint, to: Path): void {
    const { directory, name } = this.#walker.spot(this.#full(to), false);
    this.#made(this.#client.ask('LINK', directory.nodeid, { fields: { oldnodeid }, names: [name] }));
  }

  symlink(target: Path, path: Path): void {
    this.#in(path, ({ directory, name }) => {
      this.#made(this.#client.ask('SYMLINK', directory.nodeid, { names: [name, Buffer.from(target)] }));
    });
  }

  readlink(path: Path): string {
    return this.#at(path, false, ({ nodeid }) => Buffer.from(this.#walker.readlink(nodeid)).toString('latin1'));
  }

  mknod(path: Path, mode: number, major = 0, minor = 0): void {
    const rdev = ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
    this.#in(path, ({ directory, name }) => {
      this.#made(this.#client.ask('MKNOD', directory.nodeid, { fields: { mode, rdev }, names: [name] }));
    });
  }

  read(fd: number, length: number): Uint8Array {
    const file = this.#file(fd);
    const bytes = this.pread(fd, length, file.position);
    file.position += BigInt(bytes.length);
    return bytes;
  }

  pread(fd: number, length: number, offset: Long): Uint8Array {
    const { place, handle, flags: how } = this.#file(fd);
    const fields = { fh: handle, offset, size: length, flags: how & ~OWN_FLAGS };
    return new Uint8Array(this.#client.ask('READ', place.nodeid, { fields, room: length }).buffer);
  }

  write(fd: number, data: string | Uint8Array): number {
    const file = this.#file(fd);
    const done = this.pwrite(fd, data, file.position);
    file.position = (file.flags & O_APPEND) === 0 ? file.position + BigInt(done) : BigInt(this.fstat(fd).size);
    return done;
  }

  pwrite(fd: number, data: string | Uint8Array, at: Long): number {
    const { place, handle, flags: how } = this.#file(fd);
    const payload = Buffer.from(data);
    if (payload.length === 0) return 0;
    const offset = (how & O_APPEND) === 0 ? at : this.fstat(fd).size;
    const fields = { fh: handle, offset, size: payload.length, flags: how & ~OWN_FLAGS };
    return this.#client.ask('WRITE', place.nodeid, { fields, payload }).getUint32(0, true);
  }

  lseek(fd: number, offset: Long, whence: number): bigint {
    const file = this.#file(fd);
    if (whence === SEEK_SET) file.position = BigInt(offset);
    else if (whence === SEEK_CUR) file.position += BigInt(offset);
    else if (whence === SEEK_END) file.position = BigInt(this.fstat(fd).size) + BigInt(offset);
    else {
      const fields = { fh: file.handle, offset, whence };
      file.position = orWithout(
        () => this.#client.ask('LSEEK', file.place.nodeid, { fields }).getBigUint64(0, true),
        () => this.#seekWithoutHoles(fd, BigInt(offset), whence),
      );
    }
    return file.position;
  }

  /** All of the file is data, and there is a hole at its end. */
  #seekWithoutHoles(fd: number, offset: bigint, whence: number): bigint {
    const size = BigInt(this.fstat(fd).size);
    if (offset >= size) throw failure('lseek', ENXIO, '');
    return whence === SEEK_HOLE ? size : offset;
  }

  #setattr(nodeid: bigint, fields: Fields): void {
    this.#client.ask('SETATTR', nodeid, { fields });
  }

  truncate(path: Path, size: Long): void {
    this.#at(path, true, ({ nodeid }) => this.#setattr(nodeid, { valid: FATTR.SIZE, size }));
  }

  ftruncate(fd: number, size: Long): void {
    const { place, handle, kept } = this.#file(fd);
    const byHandle: Fields = kept ? { valid: FATTR.SIZE | FATTR.FH, fh: handle } : { valid: FATTR.SIZE };
    this.#setattr(place.nodeid, { ...byHandle, size });
  }

  fallocate(fd: number, mode: number, offset: Long, length: Long): void {
    const { place, handle } = this.#file(fd);
    this.#client.ask('FALLOCATE', place.nodeid, { fields: { fh: handle, mode, offset, length } });
  }

  #sync(fd: number, fsyncFlags: number): void {
    const { place, handle, directory } = this.#file(fd);
    const fields = { fh: handle, fsyncFlags };
    orWithout(() => void this.#client.ask(directory ? 'FSYNCDIR' : 'FSYNC', place.nodeid, { fields }), nothing);
  }

  fsync(fd: number): void {
    this.#sync(fd, 0);
  }

  fdatasync(fd: number): void {
    this.#sync(fd, 1);
  }

  copyFileRange(from: number, at: Long | null, to: number, toAt: Long | null, length: number): number {
    const [source, target] = [this.#file(from), this.#file(to)];
    const fields = {
      fhIn: source.handle,
      offIn: at ?? source.position,
      nodeidOut: target.place.nodeid,
      fhOut: target.handle,
      offOut: toAt ?? target.position,
      len: length,
    };
    return orWithout(
      () => this.#client.ask('COPY_FILE_RANGE', source.place.nodeid, { fields }).getUint32(0, true),
      () => this.pwrite(to, this.pread(from, length, fields.offIn), fields.offOut),
    );
  }

  chmod(path: Path, mode: number): void {
    this.#at(path, true, ({ nodeid }) => this.#setattr(nodeid, { valid: FATTR.MODE, mode }));
  }

  fchmod(fd: number, mode: number): void {
    this.#setattr(this.#file(fd).place.nodeid, { valid: FATTR.MODE, mode });
  }

  #chown(path: Path, uid: number, gid: number, follow: boolean): void {
    const valid = (uid === -1 ? 0 : FATTR.UID) | (gid === -1 ? 0 : FATTR.GID);
    this.#at(path, follow, ({ nodeid }) => this.#setattr(nodeid, { valid, uid, gid }));
  }

  chown(path: Path, uid: number, gid: number): void {
    this.#chown(path, uid, gid, true);
  }

  lchown(path: Path, uid: number, gid: number): void {
    this.#chown(path, uid, gid, false);
  }

  #utimens(nodeid: bigint, atime: Time, mtime: Time): void {
    // do_utimes, fs/utimes.c: nothing to do. As a SETATTR it would be a chown(-1, -1).
    if (atime === 'omit' && mtime === 'omit') return;
    const second = 1_000_000_000n;
    const parts = (time: Time): [bigint, bigint] => {
      if (typeof time !== 'bigint') return [0n, 0n];
      const rest = ((time % second) + second) % second;
      return [(time - rest) / second, rest];
    };
    const bits = (time: Time, set: number, now: number): number =>
      time === 'omit' ? 0 : time === 'now' ? set | now : set;
    const [a, an] = parts(atime);
    const [m, mn] = parts(mtime);
    const valid = bits(atime, FATTR.ATIME, FATTR.ATIME_NOW) | bits(mtime, FATTR.MTIME, FATTR.MTIME_NOW);
    // Not even a kernel has anything to ask then.
    if (valid === 0) return;
    this.#setattr(nodeid, { valid, atime: a, atimensec: an, mtime: m, mtimensec: mn });
  }

  utimens(path: Path, atime: Time, mtime: Time, nofollow = false): void {
    this.#at(path, !nofollow, ({ nodeid }) => this.#utimens(nodeid, atime, mtime));
  }

  futimens(fd: number, atime: Time, mtime: Time): void {
    this.#utimens(this.#file(fd).place.nodeid, atime, mtime);
  }

  /** Asks for a page at least, as a kernel does, and gives what struct linux_dirent64 would have room for. */
  getdents(fd: number, bytes = 32768): Entry[] {
    const file = this.#file(fd);
    const plus = this.#client.has('READDIRPLUS');
    const size = Math.max(4096, bytes);
    const fields = { fh: file.handle, offset: file.position, size };
    const reply = this.#client.ask(plus ? 'READDIRPLUS' : 'READDIR', file.place.nodeid, { fields, room: size });
    const listed = listedOf(reply, plus);
    this.#walker.forget(listed.map(({ nodeid }) => nodeid).filter((nodeid) => nodeid > 1n));
    let room = bytes;
    const given = listed.filter(({ name }) => (room -= (19 + name.length + 1 + 7) & ~7) >= 0);
    file.position = given.at(-1)?.off ?? file.position;
    return given;
  }

  #attribute<T>(path: Path | number, body: (nodeid: bigint) => T): T {
    if (typeof path === 'number') return body(this.#file(path).place.nodeid);
    return this.#at(path, false, ({ nodeid }) => body(nodeid));
  }

  setxattr(path: Path | number, name: string, value: string | Uint8Array, how = 0): void {
    const payload = Buffer.from(value);
    this.#attribute(path, (nodeid) => {
      const fields = { size: payload.length, flags: how };
      this.#client.ask('SETXATTR', nodeid, { fields, names: [Buffer.from(name)], payload });
    });
  }

  getxattr(path: Path | number, name: string, size = 65536): Uint8Array {
    const ask = { fields: { size }, names: [Buffer.from(name)], room: Math.max(8, size) };
    const reply = this.#attribute(path, (nodeid) => this.#client.ask('GETXATTR', nodeid, ask));
    return size === 0 ? new Uint8Array(reply.getUint32(0, true)) : new Uint8Array(reply.buffer);
  }

  listxattr(path: Path | number, size = 65536): string[] {
    const ask = { fields: { size }, room: Math.max(8, size) };
    const reply = this.#attribute(path, (nodeid) => this.#client.ask('LISTXATTR', nodeid, ask));
    return Buffer.from(reply.buffer).toString('latin1').split('\0').slice(0, -1).toSorted();
  }

  removexattr(path: Path | number, name: string): void {
    this.#attribute(path, (nodeid) => this.#client.ask('REMOVEXATTR', nodeid, { names: [Buffer.from(name)] }));
  }

  as<T>(user: User, body: () => T): T {
    const before = this.#client.user;
    this.#client.user = user;
    try {
      return body();
    } finally {
      this.#client.user = before;
    }
  }
}
