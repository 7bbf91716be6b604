/** The face of a mounted directory: every call goes to this machine's kernel. */
import {
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  AT_SYMLINK_NOFOLLOW,
  AF_UNIX,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  STATX_ALL,
  UTIME_NOW,
  UTIME_OMIT,
} from '../src/sys/index.ts';
import { F_GETFL, F_SETFL, SEEK_SET } from './constants.ts';
import { type Entry, Face, type Lock, type Long, type Mapping, type Other, type Path } from './face.ts';
import type { Stat, StatFs, Time, User } from './face.ts';
import { CallMemory, libc, libcWide, SYS_FACCESSAT2, syscall } from './libc.ts';
import { map } from './mapping.ts';
import { SecondProcess } from './second-process.ts';
import { asUser } from './users.ts';
import { entriesOf, statFsOf, statOf } from './structs.ts';

const AT_EACCESS = 0x200;
const FD_CLOEXEC_DUP = 1030;

const c = {
  openat: libc('openat', 4),
  close: libc('close', 2),
  statx: libc('statx', 5),
  statfs: libc('statfs', 2),
  fstatfs: libc('fstatfs', 2),
  mkdirat: libc('mkdirat', 3),
  unlinkat: libc('unlinkat', 3),
  rmdir: libc('rmdir', 2),
  renameat2: libc('renameat2', 5),
  linkat: libc('linkat', 5),
  symlinkat: libc('symlinkat', 3),
  readlink: libc('readlink', 3),
  mknodat: libc('mknodat', 4),
  read: libc('read', 3),
  pread: libc('pread', 4),
  write: libc('write', 3),
  pwrite: libc('pwrite', 4),
  readv: libc('readv', 3),
  writev: libc('writev', 3),
  preadv2: libc('preadv2', 5),
  pwritev2: libc('pwritev2', 5),
  lseek: libcWide('lseek', 3),
  truncate: libc('truncate', 2),
  ftruncate: libc('ftruncate', 2),
  fallocate: libc('fallocate', 4),
  fsync: libc('fsync', 2),
  fdatasync: libc('fdatasync', 2),
  syncfs: libc('syncfs', 2),
  copy_file_range: libc('copy_file_range', 6),
  sendfile: libc('sendfile', 4),
  chmod: libc('chmod', 2),
  fchmod: libc('fchmod', 2),
  fchownat: libc('fchownat', 5),
  fchown: libc('fchown', 3),
  utimensat: libc('utimensat', 4),
  futimens: libc('futimens', 2),
  getdents64: libc('getdents64', 3),
  setxattr: libc('lsetxattr', 5),
  getxattr: libc('lgetxattr', 4),
  listxattr: libc('llistxattr', 3),
  removexattr: libc('lremovexattr', 2),
  fsetxattr: libc('fsetxattr', 5),
  fgetxattr: libc('fgetxattr', 4),
  flistxattr: libc('flistxattr', 3),
  fremovexattr: libc('fremovexattr', 2),
  umask: libc('umask', 2),
  fcntl: libc('fcntl', 3),
  flock: libc('flock', 2),
  ioctl: libc('ioctl', 3),
  socket: libc('socket', 3),
  bind: libc('bind', 3),
};

export class KernelFace extends Face {
  base: string;
  readonly #memory = new CallMemory();
  readonly #fds = new Set<number>();
  readonly #mappings = new Set<Mapping>();

  constructor(base: string) {
    super();
    this.base = base;
  }

  #path(path: Path, slot: 0 | 1 = 0): number {
    return this.#memory.path(this.base, path, slot);
  }

  #opened(fd: number): number {
    this.#fds.add(fd);
    return fd;
  }

  open(path: Path, flags: number, mode = 0): number {
    return this.#opened(c.openat(AT_FDCWD, this.#path(path), flags, mode));
  }

  openat(dirFd: number, path: Path, flags: number, mode = 0): number {
    return this.#opened(c.openat(dirFd, this.#memory.text(path), flags, mode));
  }

  close(fd: number): void {
    this.#fds.delete(fd);
    c.close(fd);
  }

  closeAll(): void {
    for (const mapping of [...this.#mappings]) mapping.unmap();
    for (const fd of [...this.#fds]) this.close(fd);
  }

  override settle(): void {
    this.umask(0);
    this.closeAll();
  }

  #stat(dirFd: number, path: number, flags: number): Stat {
    c.statx(dirFd, path, flags, STATX_ALL, this.#memory.small);
    return statOf(this.#memory.view);
  }

  stat(path: Path): Stat {
    return this.#stat(AT_FDCWD, this.#path(path), 0);
  }

  lstat(path: Path): Stat {
    return this.#stat(AT_FDCWD, this.#path(path), AT_SYMLINK_NOFOLLOW);
  }

  fstat(fd: number): Stat {
    return this.#stat(fd, this.#memory.text(''), 0x1000);
  }

  statfs(path: Path): StatFs {
    c.statfs(this.#path(path), this.#memory.small);
    return statFsOf(this.#memory.view);
  }

  override fstatfs(fd: number): StatFs {
    c.fstatfs(fd, this.#memory.small);
    return statFsOf(this.#memory.view);
  }

  mkdir(path: Path, mode = 0o755): void {
    c.mkdirat(AT_FDCWD, this.#path(path), mode);
  }

  override mkdirat(dirFd: number, path: Path, mode: number): void {
    c.mkdirat(dirFd, this.#memory.text(path), mode);
  }

  rmdir(path: Path): void {
    c.rmdir(this.#path(path));
  }

  unlink(path: Path): void {
    c.unlinkat(AT_FDCWD, this.#path(path), 0);
  }

  override unlinkat(dirFd: number, path: Path, flags: number): void {
    c.unlinkat(dirFd, this.#memory.text(path), flags);
  }

  rename(from: Path, to: Path, flags = 0): void {
    c.renameat2(AT_FDCWD, this.#path(from), AT_FDCWD, this.#path(to, 1), flags);
  }

  override renameat(fromFd: number, from: Path, toFd: number, to: Path): void {
    c.renameat2(fromFd, this.#memory.text(from), toFd, this.#memory.text(to, 1), 0);
  }

  link(from: Path, to: Path, follow = false): void {
    c.linkat(AT_FDCWD, this.#path(from), AT_FDCWD, this.#path(to, 1), follow ? AT_SYMLINK_FOLLOW : 0);
  }

  linkFd(fd: number, to: Path): void {
    this.link(`/proc/self/fd/${fd}`, to, true);
  }

  symlink(target: Path, path: Path): void {
    c.symlinkat(this.#memory.text(target), AT_FDCWD, this.#path(path, 1));
  }

  readlink(path: Path, size = 4096): string {
    const length = c.readlink(this.#path(path), this.#memory.data, size);
    return Buffer.from(this.#memory.take(length)).toString('latin1');
  }

  mknod(path: Path, mode: number, major = 0, minor = 0): void {
    const device = ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
    c.mknodat(AT_FDCWD, this.#path(path), mode, device);
  }

  read(fd: number, length: number): Uint8Array {
    return this.#memory.take(c.read(fd, this.#memory.data, length));
  }

  pread(fd: number, length: number, offset: Long): Uint8Array {
    return this.#memory.take(c.pread(fd, this.#memory.data, length, offset));
  }

  write(fd: number, data: string | Uint8Array): number {
    return c.write(fd, this.#memory.data, this.#memory.put(data));
  }

  pwrite(fd: number, data: string | Uint8Array, offset: Long): number {
    return c.pwrite(fd, this.#memory.data, this.#memory.put(data), offset);
  }

  /** iovecs in the small buffer over consecutive pieces of the data. */
  #vectors(sizes: readonly number[]): number {
    let at = 0;
    for (const [i, size] of sizes.entries()) {
      this.#memory.view.setBigUint64(i * 16, BigInt(this.#memory.data + at), true);
      this.#memory.view.setBigUint64(i * 16 + 8, BigInt(size), true);
      at += size;
    }
    return this.#memory.small;
  }

  override readv(fd: number, sizes: readonly number[]): Uint8Array[] {
    const all = this.#memory.take(c.readv(fd, this.#vectors(sizes), sizes.length));
    let at = 0;
    return sizes.map((size) => all.slice(at, (at += size)));
  }

  override writev(fd: number, parts: readonly string[]): number {
    this.#memory.put(parts.join(''));
    const sizes = parts.map((part) => part.length);
    return c.writev(fd, this.#vectors(sizes), sizes.length);
  }

  override preadv2(fd: number, length: number, offset: Long, flags: number): Uint8Array {
    return this.#memory.take(c.preadv2(fd, this.#vectors([length]), 1, offset, flags));
  }

  override pwritev2(fd: number, data: string, offset: Long, flags: number): number {
    return c.pwritev2(fd, this.#vectors([this.#memory.put(data)]), 1, offset, flags);
  }

  lseek(fd: number, offset: Long, whence: number): bigint {
    return c.lseek(fd, offset, whence);
  }

  truncate(path: Path, size: Long): void {
    c.truncate(this.#path(path), size);
  }

  ftruncate(fd: number, size: Long): void {
    c.ftruncate(fd, size);
  }

  fallocate(fd: number, mode: number, offset: Long, length: Long): void {
    c.fallocate(fd, mode, offset, length);
  }

  fsync(fd: number): void {
    c.fsync(fd);
  }

  fdatasync(fd: number): void {
    c.fdatasync(fd);
  }

  override syncfs(fd: number): void {
    c.syncfs(fd);
  }

  copyFileRange(from: number, at: Long | null, to: number, toAt: Long | null, length: number): number {
    const { view, small } = this.#memory;
    if (at !== null) view.setBigInt64(0, BigInt(at), true);
    if (toAt !== null) view.setBigInt64(8, BigInt(toAt), true);
    return c.copy_file_range(from, at === null ? 0 : small, to, toAt === null ? 0 : small + 8, length, 0);
  }

  override sendfile(to: number, from: number, offset: number | null, length: number): number {
    const { view, small } = this.#memory;
    if (offset !== null) view.setBigInt64(0, BigInt(offset), true);
    return c.sendfile(to, from, offset === null ? 0 : small, length);
  }

  chmod(path: Path, mode: number): void {
    c.chmod(this.#path(path), mode);
  }

  fchmod(fd: number, mode: number): void {
    c.fchmod(fd, mode);
  }

  chown(path: Path, uid: number, gid: number): void {
    c.fchownat(AT_FDCWD, this.#path(path), uid, gid, 0);
  }

  lchown(path: Path, uid: number, gid: number): void {
    c.fchownat(AT_FDCWD, this.#path(path), uid, gid, AT_SYMLINK_NOFOLLOW);
  }

  override fchown(fd: number, uid: number, gid: number): void {
    c.fchown(fd, uid, gid);
  }

  #times(...times: readonly Time[]): number {
    const { view, small } = this.#memory;
    for (const [i, time] of times.entries()) {
      const second = 1_000_000_000n;
      const of = typeof time === 'bigint' ? ((time % second) + second) % second : 0n;
      view.setBigInt64(i * 16, typeof time === 'bigint' ? (time - of) / second : 0n, true);
      view.setBigInt64(
        i * 16 + 8,
        time === 'now' ? BigInt(UTIME_NOW) : time === 'omit' ? BigInt(UTIME_OMIT) : of,
        true,
      );
    }
    return small;
  }

  utimens(path: Path, atime: Time, mtime: Time, nofollow = false): void {
    c.utimensat(AT_FDCWD, this.#path(path), this.#times(atime, mtime), nofollow ? AT_SYMLINK_NOFOLLOW : 0);
  }

  futimens(fd: number, atime: Time, mtime: Time): void {
    c.futimens(fd, this.#times(atime, mtime));
  }

  override access(path: Path, mode: number): void {
    syscall('faccessat2', SYS_FACCESSAT2, AT_FDCWD, this.#path(path), mode, AT_EACCESS);
  }

  getdents(fd: number, bytes = 32768): Entry[] {
    return entriesOf(this.#memory.take(c.getdents64(fd, this.#memory.data, bytes)));
  }

  setxattr(path: Path | number, name: string, value: string | Uint8Array, flags = 0): void {
    const length = this.#memory.put(value);
    const { data } = this.#memory;
    const key = this.#memory.text(name, 1);
    if (typeof path === 'number') c.fsetxattr(path, key, data, length, flags);
    else c.setxattr(this.#path(path), key, data, length, flags);
  }

  getxattr(path: Path | number, name: string, size = 65536): Uint8Array {
    const { data } = this.#memory;
    const key = this.#memory.text(name, 1);
    const length =
      typeof path === 'number' ? c.fgetxattr(path, key, data, size) : c.getxattr(this.#path(path), key, data, size);
    return size === 0 ? new Uint8Array(length) : this.#memory.take(length);
  }

  listxattr(path: Path | number, size = 65536): string[] {
    const { data } = this.#memory;
    const length =
      typeof path === 'number' ? c.flistxattr(path, data, size) : c.listxattr(this.#path(path), data, size);
    const text = Buffer.from(this.#memory.take(length)).toString('latin1');
    return text.split('\0').slice(0, -1).toSorted();
  }

  removexattr(path: Path | number, name: string): void {
    const key = this.#memory.text(name, 1);
    if (typeof path === 'number') c.fremovexattr(path, key);
    else c.removexattr(this.#path(path), key);
  }

  as<T>(user: User, body: () => T): T {
    return asUser(user, this.#memory, body);
  }

  override umask(mask: number): number {
    return c.umask(mask);
  }

  override dup(fd: number): number {
    return this.#opened(c.fcntl(fd, FD_CLOEXEC_DUP, 0));
  }

  override getFlags(fd: number): number {
    return c.fcntl(fd, F_GETFL, 0);
  }

  override setFlags(fd: number, flags: number): void {
    c.fcntl(fd, F_SETFL, flags);
  }

  /** struct flock of 64-bit machines: type, whence (16 bits each), start, length (64), pid. */
  override lock(fd: number, command: number, lock: Lock): Lock {
    const { view, small } = this.#memory;
    for (let i = 0; i < 32; i += 8) view.setBigUint64(i, 0n, true);
    view.setInt16(0, lock.type, true);
    view.setInt16(2, lock.whence ?? SEEK_SET, true);
    view.setBigInt64(8, BigInt(lock.start ?? 0), true);
    view.setBigInt64(16, BigInt(lock.length ?? 0), true);
    c.fcntl(fd, command, small);
    return {
      type: view.getInt16(0, true),
      whence: view.getInt16(2, true),
      start: Number(view.getBigInt64(8, true)),
      length: Number(view.getBigInt64(16, true)),
      pid: view.getInt32(24, true),
    };
  }

  override flock(fd: number, operation: number): void {
    c.flock(fd, operation);
  }

  override mmap(fd: number, length: number, protection: number, flags: number, offset = 0): Mapping {
    const mapping = map(fd, length, protection, flags, offset, () => this.#mappings.delete(mapping));
    this.#mappings.add(mapping);
    return mapping;
  }

  override ioctl(fd: number, request: number, word = 0): number {
    const { view, small } = this.#memory;
    view.setBigUint64(0, BigInt(word), true);
    c.ioctl(fd, request, small);
    return view.getUint32(0, true);
  }

  override bindSocket(path: Path): number {
    const fd = this.#opened(c.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const { view, small, smallBytes } = this.#memory;
    const bytes = Buffer.from(typeof path === 'string' && !path.startsWith('/') ? `${this.base}/${path}` : path);
    view.setUint16(0, AF_UNIX, true);
    smallBytes.set(bytes, 2);
    c.bind(fd, small, 2 + bytes.length);
    return fd;
  }

  override other(): Other {
    return SecondProcess.at(this.base);
  }
}
