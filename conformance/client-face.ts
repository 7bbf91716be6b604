/**
 * The face of a share, by the client in TypeScript: it does what a guest's kernel does, and every call ends in requests
 * to the daemon. Descriptors and positions are kept here, as a process has them.
 */
import { EADDRINUSE, EBADF, EEXIST, EINVAL, ENOTDIR, ENXIO, EOPNOTSUPP, EXDEV } from '../src/core/index.ts';
import {
  type Changes,
  finished,
  type MountedDirectory,
  type MountedVolume,
  type OpenFile,
  ShareError,
  type Task,
} from '../src/client/index.ts';
import { O_ACCMODE, O_APPEND, O_CREAT, O_PATH, O_TMPFILE, SysError } from '../src/sys/index.ts';
import { S_IFDIR, S_IFMT, S_IFSOCK, SEEK_CUR, SEEK_END, SEEK_SET, XATTR_SIZE_MAX } from './constants.ts';
import { commandOf, ownersOf, rangeOf, shownLock, statOf, timesOf } from './client-values.ts';
import {
  type Entry,
  Face,
  type Lock,
  type Long,
  type Other,
  type Path,
  type Stat,
  type StatFs,
  type Time,
  type User,
} from './face.ts';
import { failure, NotApplicable } from './verdicts.ts';

/** statfs(2) of a virtio-fs mount: FUSE_SUPER_MAGIC. */
const FUSE_MAGIC = 0x65735546;
const LIST_BYTES = 32768;

/** What open(2) makes, and dup(2) shares. */
interface Description {
  readonly file: OpenFile;
  /** For getdents(2), where it is a directory. */
  readonly directory: MountedDirectory | undefined;
  descriptors: number;
  /** In bytes, or a directory's cookie. */
  position: bigint;
}

/** What SEEK_DATA and its like take, and file data: positions of up to 2^53 bytes. */
function positionOf(offset: Long): number {
  if (BigInt(offset) > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new NotApplicable('the client has positions of up to 2^53 bytes');
  }
  return Number(offset);
}

export class ClientFace extends Face {
  base = '/';
  readonly #volume: MountedVolume;
  readonly #second: () => Other;
  readonly #files = new Map<number, Description>();
  #next = 100;

  /** `second`: what `other` gives. */
  constructor(volume: MountedVolume, second: () => Other) {
    super();
    this.#volume = volume;
    this.#second = second;
  }

  #run<T>(task: Task<T>): T {
    try {
      return finished(task, () => this.#volume.idle());
    } catch (error) {
      throw error instanceof ShareError ? failure(error.syscall, -error.errno, error.path ?? '') : error;
    }
  }

  #full(path: Path): Uint8Array {
    const bytes = Buffer.from(path);
    if (bytes.subarray(0, 6).toString('latin1') === '/proc/') return this.#without('/proc: it has no descriptors');
    return bytes.length === 0 || bytes[0] === 0x2f ? bytes : Buffer.concat([Buffer.from(`${this.base}/`), bytes]);
  }

  #without(what: string): never {
    throw new NotApplicable(`the client has no ${what}`);
  }

  #of(fd: number): Description {
    const found = this.#files.get(fd);
    if (found === undefined) throw failure('descriptor', EBADF, String(fd));
    return found;
  }

  #file(fd: number): OpenFile {
    return this.#of(fd).file;
  }

  #add(description: Description): number {
    const fd = this.#next;
    this.#next += 1;
    this.#files.set(fd, description);
    return fd;
  }

  open(path: Path, flags: number, mode = 0): number {
    const full = this.#full(path);
    if ((flags & O_PATH) !== 0) return this.#without('O_PATH');
    if ((flags & O_TMPFILE) === O_TMPFILE) return this.#without('O_TMPFILE');
    const file = this.#opened(full, flags, mode);
    const isDirectory = (flags & (O_ACCMODE | O_CREAT)) === 0 && this.#isDirectory(file);
    const directory = isDirectory ? this.#run(this.#volume.openDirectory(full)) : undefined;
    return this.#add({ file, directory, descriptors: 1, position: 0n });
  }

  #opened(full: Uint8Array, flags: number, mode: number): OpenFile {
    try {
      return this.#run(this.#volume.open(full, flags, mode));
    } catch (error) {
      const { errno } = error as { errno?: number };
      if (errno === ENXIO) throw new NotApplicable('pipes, sockets and devices are not opened through a share');
      throw error;
    }
  }

  #isDirectory(file: OpenFile): boolean {
    return (this.#run(file.stat()).mode & S_IFMT) === S_IFDIR;
  }

  openat(): number {
    return this.#without('calls relative to a descriptor');
  }

  override mkdirat(): void {
    this.#without('calls relative to a descriptor');
  }

  override unlinkat(): void {
    this.#without('calls relative to a descriptor');
  }

  override renameat(): void {
    this.#without('calls relative to a descriptor');
  }

  linkFd(): void {
    this.#without('calls relative to a descriptor');
  }

  close(fd: number): void {
    const description = this.#of(fd);
    this.#files.delete(fd);
    description.descriptors -= 1;
    if (description.descriptors > 0) return;
    if (description.directory !== undefined) this.#run(description.directory.close());
    this.#run(description.file.close());
  }

  closeAll(): void {
    for (const fd of [...this.#files.keys()]) this.close(fd);
  }

  override settle(): void {
    this.umask(0);
    this.closeAll();
  }

  override dup(fd: number): number {
    const description = this.#of(fd);
    description.descriptors += 1;
    return this.#add(description);
  }

  override getFlags(fd: number): number {
    return this.#file(fd).flags;
  }

  override setFlags(): void {
    this.#without('F_SETFL');
  }

  stat(path: Path): Stat {
    return statOf(this.#run(this.#volume.stat(this.#full(path), true)));
  }

  lstat(path: Path): Stat {
    return statOf(this.#run(this.#volume.stat(this.#full(path), false)));
  }

  fstat(fd: number): Stat {
    return statOf(this.#run(this.#file(fd).stat()));
  }

  statfs(path: Path): StatFs {
    const numbers = this.#run(this.#volume.statfs(this.#full(path)));
    const { bsize, frsize, namelen } = numbers;
    const [blocks, bfree, bavail] = [numbers.blocks, numbers.bfree, numbers.bavail].map(Number);
    const [files, ffree] = [numbers.files, numbers.ffree].map(Number);
    return { type: FUSE_MAGIC, bsize, frsize, namelen, blocks, bfree, bavail, files, ffree, flags: 0 };
  }

  mkdir(path: Path, mode = 0o755): void {
    this.#run(this.#volume.mkdir(this.#full(path), mode));
  }

  rmdir(path: Path): void {
    this.#run(this.#volume.rmdir(this.#full(path)));
  }

  unlink(path: Path): void {
    this.#run(this.#volume.unlink(this.#full(path)));
  }

  rename(from: Path, to: Path, flags = 0): void {
    this.#run(this.#volume.rename(this.#full(from), this.#full(to), flags));
  }

  link(from: Path, to: Path, follow = false): void {
    if (follow) this.#without('link that follows a symlink');
    this.#run(this.#volume.link(this.#full(from), this.#full(to)));
  }

  symlink(target: Path, path: Path): void {
    this.#run(this.#volume.symlink(target, this.#full(path)));
  }

  readlink(path: Path, size = 4096): string {
    const target = this.#run(this.#volume.readlink(this.#full(path)));
    return Buffer.from(target.subarray(0, size)).toString('latin1');
  }

  mknod(path: Path, mode: number, major = 0, minor = 0): void {
    const rdev = ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
    this.#run(this.#volume.mknod(this.#full(path), mode, rdev));
  }

  /** What bind(2) does to a file system; nobody can connect. */
  override bindSocket(path: Path): number {
    try {
      this.mknod(path, S_IFSOCK | 0o777);
    } catch (error) {
      throw error instanceof SysError && error.errno === EEXIST ? failure('bind', EADDRINUSE, '') : error;
    }
    return -1;
  }

  read(fd: number, length: number): Uint8Array {
    const description = this.#of(fd);
    const bytes = this.pread(fd, length, description.position);
    description.position += BigInt(bytes.length);
    return bytes;
  }

  pread(fd: number, length: number, offset: Long): Uint8Array {
    const into = new Uint8Array(length);
    return into.subarray(0, this.#run(this.#file(fd).read(into, positionOf(offset))));
  }

  override readv(fd: number, sizes: readonly number[]): Uint8Array[] {
    const all = this.read(
      fd,
      sizes.reduce((sum, size) => sum + size, 0),
    );
    let at = 0;
    return sizes.map((size) => all.slice(at, (at += size)));
  }

  write(fd: number, data: string | Uint8Array): number {
    const description = this.#of(fd);
    const written = this.pwrite(fd, data, description.position);
    const appended = (description.file.flags & O_APPEND) !== 0 && written > 0;
    description.position = appended ? BigInt(this.fstat(fd).size) : description.position + BigInt(written);
    return written;
  }

  pwrite(fd: number, data: string | Uint8Array, offset: Long): number {
    return this.#run(this.#file(fd).write(Buffer.from(data), positionOf(offset)));
  }

  override writev(fd: number, parts: readonly string[]): number {
    return this.write(fd, parts.join(''));
  }

  lseek(fd: number, offset: Long, whence: number): bigint {
    const description = this.#of(fd);
    const base = new Map<number, () => bigint>([
      [SEEK_SET, () => 0n],
      [SEEK_CUR, () => description.position],
      [SEEK_END, () => BigInt(this.fstat(fd).size)],
    ]).get(whence);
    const position =
      base === undefined
        ? BigInt(this.#run(description.file.seek(positionOf(offset), whence)))
        : base() + BigInt(offset);
    if (position < 0n) throw failure('lseek', EINVAL, String(offset));
    description.position = position;
    return position;
  }

  truncate(path: Path, size: Long): void {
    this.#run(this.#volume.change(this.#full(path), { size: BigInt(size) }, true));
  }

  ftruncate(fd: number, size: Long): void {
    this.#run(this.#file(fd).change({ size: BigInt(size) }));
  }

  fallocate(fd: number, mode: number, offset: Long, length: Long): void {
    this.#run(this.#file(fd).allocate(mode, positionOf(offset), positionOf(length)));
  }

  fsync(fd: number): void {
    this.#run(this.#file(fd).sync(false));
  }

  fdatasync(fd: number): void {
    this.#run(this.#file(fd).sync(true));
  }

  override syncfs(fd: number): void {
    this.#of(fd);
    this.#run(this.#volume.syncAll());
  }

  /** fs/fuse/file.c, fuse_copy_file_range: what the daemon does not copy the kernel reads and writes. */
  copyFileRange(from: number, at: Long | null, to: number, toAt: Long | null, length: number): number {
    const [source, target] = [this.#of(from), this.#of(to)];
    const [start, end] = [positionOf(at ?? source.position), positionOf(toAt ?? target.position)];
    let copied: number;
    try {
      copied = this.#run(source.file.copyTo(target.file, start, end, length));
    } catch (error) {
      const { errno } = error as { errno?: number };
      if (errno !== EOPNOTSUPP && errno !== EXDEV) throw error;
      copied = this.pwrite(to, this.pread(from, length, start), end);
    }
    if (at === null) source.position += BigInt(copied);
    if (toAt === null) target.position += BigInt(copied);
    return copied;
  }

  #change(path: Path, changes: Changes, follow: boolean): void {
    this.#run(this.#volume.change(this.#full(path), changes, follow));
  }

  chmod(path: Path, mode: number): void {
    this.#change(path, { mode }, true);
  }

  fchmod(fd: number, mode: number): void {
    this.#run(this.#file(fd).change({ mode }));
  }

  chown(path: Path, uid: number, gid: number): void {
    this.#change(path, ownersOf(uid, gid), true);
  }

  lchown(path: Path, uid: number, gid: number): void {
    this.#change(path, ownersOf(uid, gid), false);
  }

  override fchown(fd: number, uid: number, gid: number): void {
    this.#run(this.#file(fd).change(ownersOf(uid, gid)));
  }

  utimens(path: Path, atime: Time, mtime: Time, nofollow = false): void {
    // do_utimes, fs/utimes.c: nothing to do.
    if (atime === 'omit' && mtime === 'omit') return;
    this.#change(path, timesOf(atime, mtime), !nofollow);
  }

  futimens(fd: number, atime: Time, mtime: Time): void {
    const file = this.#file(fd);
    if (atime === 'omit' && mtime === 'omit') return;
    this.#run(file.change(timesOf(atime, mtime)));
  }

  override access(path: Path, mode: number): void {
    this.#run(this.#volume.access(this.#full(path), mode));
  }

  /** What struct linux_dirent64 would have room for. */
  getdents(fd: number, bytes = LIST_BYTES): Entry[] {
    const description = this.#of(fd);
    if (description.directory === undefined) throw failure('getdents', ENOTDIR, String(fd));
    const listed = this.#run(description.directory.list(description.position));
    let room = bytes;
    const fitting = listed.filter(({ name }) => (room -= (19 + name.length + 1 + 7) & ~7) >= 0);
    if (fitting.length === 0 && listed.length > 0) throw failure('getdents', EINVAL, `${bytes} bytes`);
    description.position = fitting.at(-1)?.next ?? description.position;
    return fitting.map(({ name, ino, type, next }) => {
      return { ino, off: next, type, name: Buffer.from(name).toString('latin1') };
    });
  }

  /** The path of an attribute's file. */
  #attributed(path: Path | number): Uint8Array {
    return typeof path === 'number' ? this.#without('attributes by descriptor') : this.#full(path);
  }

  #checkBuffer(bytes: number): void {
    if (bytes !== XATTR_SIZE_MAX) this.#without('buffer of the caller for attributes');
  }

  setxattr(path: Path | number, name: string, value: string | Uint8Array, flags = 0): void {
    this.#run(this.#volume.setXattr(this.#attributed(path), name, Buffer.from(value), flags, false));
  }

  getxattr(path: Path | number, name: string, size = XATTR_SIZE_MAX): Uint8Array {
    this.#checkBuffer(size);
    return this.#run(this.#volume.getXattr(this.#attributed(path), name, false));
  }

  listxattr(path: Path | number, size = XATTR_SIZE_MAX): string[] {
    this.#checkBuffer(size);
    return this.#run(this.#volume.listXattrs(this.#attributed(path), false)).toSorted();
  }

  removexattr(path: Path | number, name: string): void {
    this.#run(this.#volume.removeXattr(this.#attributed(path), name, false));
  }

  as<T>({ uid, gid, groups = [] }: User, body: () => T): T {
    const before = this.#volume.credentials;
    this.#volume.credentials = { uid, gid, groups };
    try {
      return body();
    } finally {
      this.#volume.credentials = before;
    }
  }

  override umask(mask: number): number {
    const before = this.#volume.umask;
    this.#volume.umask = mask & 0o777;
    return before;
  }

  override lock(fd: number, command: number, lock: Lock): Lock {
    const { position, file } = this.#of(fd);
    const how = commandOf(command);
    const range = rangeOf(lock, position, () => BigInt(this.fstat(fd).size));
    if (how === 'get') return shownLock(this.#run(file.getLock(range)), lock);
    this.#run(file.setLock(range, how === 'wait'));
    return lock;
  }

  /** F_SETLKW, to be waited for. */
  lockLater(fd: number, lock: Lock): Task<void> {
    const { position, file } = this.#of(fd);
    return file.setLock(
      rangeOf(lock, position, () => BigInt(this.fstat(fd).size)),
      true,
    );
  }

  override other(): Other {
    return this.#second();
  }

  protected override lacks(call: string): never {
    return this.#without(call);
  }
}
