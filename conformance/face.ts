/** The calls that behaviours make, on whatever is tested. */
import { O_CREAT, O_DIRECTORY, O_RDONLY, O_WRONLY, O_TRUNC } from '../src/sys/index.ts';
import { DT_DIR, S_IFMT, S_IFDIR } from './constants.ts';
import { NotApplicable } from './verdicts.ts';

/** UTF-8, or the bytes of a name that is none. Relative to the behaviour's own folder; absolute ones as they are. */
export type Path = string | Uint8Array;
/** 64 bits. */
export type Long = number | bigint;
/** Nanoseconds since 1970, or what utimensat(2) has instead. */
export type Time = bigint | 'now' | 'omit';

export interface Stat {
  readonly dev: string;
  readonly ino: bigint;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** Major and minor. */
  readonly rdev: readonly [number, number];
  readonly size: number;
  readonly blocks: number;
  readonly blksize: number;
  /** Nanoseconds. */
  readonly atime: bigint;
  readonly mtime: bigint;
  readonly ctime: bigint;
  /** Where the file system knows when a file was made. */
  readonly btime: bigint | undefined;
}

export interface StatFs {
  readonly type: number;
  readonly bsize: number;
  readonly blocks: number;
  readonly bfree: number;
  readonly bavail: number;
  readonly files: number;
  readonly ffree: number;
  readonly namelen: number;
  readonly frsize: number;
  readonly flags: number;
}

export interface Entry {
  readonly ino: bigint;
  /** The position behind this entry. */
  readonly off: bigint;
  readonly type: number;
  /** As latin1, so that any bytes are told from any other. */
  readonly name: string;
}

export interface Lock {
  readonly type: number;
  readonly whence?: number;
  readonly start?: Long;
  /** 0: to the end of the file, however it grows. */
  readonly length?: Long;
  readonly pid?: number;
}

export interface User {
  readonly uid: number;
  readonly gid: number;
  readonly groups?: readonly number[];
}

export interface Mapping {
  readonly bytes: Uint8Array;
  sync(flags: number): void;
  unmap(): void;
}

/** Another process, as far as locks and descriptors go. */
export interface Other {
  /** Makes a call there and waits for it. */
  call<K extends OtherCall>(name: K, ...args: Parameters<Face[K]>): ReturnType<Face[K]>;
  /** Starts a call that blocks, and returns when it does. */
  start<K extends OtherCall>(name: K, ...args: Parameters<Face[K]>): void;
  /** Waits for the call that was started. */
  finish(): unknown;
}
export type OtherCall = 'open' | 'close' | 'lock' | 'flock' | 'read' | 'write' | 'pwrite' | 'pread' | 'fstat';

/**
 * Linux's calls as methods that throw SysError. What a target has not got throws NotApplicable. Each behaviour starts
 * with umask 0, as root, without open files.
 */
export abstract class Face {
  /** The behaviour's folder: an absolute path in the target. */
  abstract base: string;

  abstract open(path: Path, flags: number, mode?: number): number;
  abstract openat(dirFd: number, path: Path, flags: number, mode?: number): number;
  abstract close(fd: number): void;
  abstract closeAll(): void;
  abstract stat(path: Path): Stat;
  abstract lstat(path: Path): Stat;
  abstract fstat(fd: number): Stat;
  abstract statfs(path: Path): StatFs;
  abstract mkdir(path: Path, mode?: number): void;
  abstract rmdir(path: Path): void;
  abstract unlink(path: Path): void;
  abstract rename(from: Path, to: Path, flags?: number): void;
  /** Without following a symlink at `from`, unless told. */
  abstract link(from: Path, to: Path, follow?: boolean): void;
  /** Gives an open file another name, as through /proc. */
  abstract linkFd(fd: number, to: Path): void;
  abstract symlink(target: Path, path: Path): void;
  abstract readlink(path: Path, size?: number): string;
  abstract mknod(path: Path, mode: number, major?: number, minor?: number): void;

  abstract read(fd: number, length: number): Uint8Array;
  abstract pread(fd: number, length: number, offset: Long): Uint8Array;
  abstract write(fd: number, data: string | Uint8Array): number;
  abstract pwrite(fd: number, data: string | Uint8Array, offset: Long): number;
  abstract lseek(fd: number, offset: Long, whence: number): bigint;
  abstract truncate(path: Path, size: Long): void;
  abstract ftruncate(fd: number, size: Long): void;
  abstract fallocate(fd: number, mode: number, offset: Long, length: Long): void;
  abstract fsync(fd: number): void;
  abstract fdatasync(fd: number): void;
  abstract copyFileRange(from: number, at: Long | null, to: number, toAt: Long | null, length: number): number;

  abstract chmod(path: Path, mode: number): void;
  abstract fchmod(fd: number, mode: number): void;
  abstract chown(path: Path, uid: number, gid: number): void;
  abstract lchown(path: Path, uid: number, gid: number): void;
  abstract utimens(path: Path, atime: Time, mtime: Time, nofollow?: boolean): void;
  abstract futimens(fd: number, atime: Time, mtime: Time): void;
  abstract getdents(fd: number, bytes?: number): Entry[];

  abstract setxattr(path: Path | number, name: string, value: string | Uint8Array, flags?: number): void;
  abstract getxattr(path: Path | number, name: string, size?: number): Uint8Array;
  abstract listxattr(path: Path | number, size?: number): string[];
  abstract removexattr(path: Path | number, name: string): void;

  /** As a user, until `body` returns. */
  abstract as<T>(user: User, body: () => T): T;

  // What follows needs a kernel.

  fchown(_fd: number, _uid: number, _gid: number): void {
    return this.lacks('fchown');
  }

  fstatfs(_fd: number): StatFs {
    return this.lacks('fstatfs');
  }

  /** access(2) with the rights of the user that the call is made as. */
  access(_path: Path, _mode: number): void {
    return this.lacks('access');
  }

  syncfs(_fd: number): void {
    return this.lacks('syncfs');
  }

  readv(_fd: number, _sizes: readonly number[]): Uint8Array[] {
    return this.lacks('readv');
  }

  writev(_fd: number, _parts: readonly string[]): number {
    return this.lacks('writev');
  }

  /** An offset of -1: at the file's position, which moves. */
  preadv2(_fd: number, _length: number, _offset: Long, _flags: number): Uint8Array {
    return this.lacks('preadv2');
  }

  pwritev2(_fd: number, _data: string, _offset: Long, _flags: number): number {
    return this.lacks('pwritev2');
  }

  sendfile(_to: number, _from: number, _offset: number | null, _length: number): number {
    return this.lacks('sendfile');
  }

  umask(_mask: number): number {
    return this.lacks('umask');
  }

  dup(_fd: number): number {
    return this.lacks('dup');
  }

  getFlags(_fd: number): number {
    return this.lacks('fcntl');
  }

  setFlags(_fd: number, _flags: number): void {
    return this.lacks('fcntl');
  }

  /** fcntl with F_GETLK and so on; what it says. */
  lock(_fd: number, _command: number, _lock: Lock): Lock {
    return this.lacks('fcntl locks');
  }

  flock(_fd: number, _operation: number): void {
    return this.lacks('flock');
  }

  mmap(_fd: number, _length: number, _protection: number, _flags: number, _offset?: number): Mapping {
    return this.lacks('mmap');
  }

  /** ioctl(2) with a pointer to a word, which is given back. */
  ioctl(_fd: number, _request: number, _word?: number): number {
    return this.lacks('ioctl');
  }

  /** Binds a socket to a name; its descriptor. */
  bindSocket(_path: Path): number {
    return this.lacks('bind');
  }

  renameat(_fromFd: number, _from: Path, _toFd: number, _to: Path): void {
    return this.lacks('renameat');
  }

  unlinkat(_dirFd: number, _path: Path, _flags: number): void {
    return this.lacks('unlinkat');
  }

  mkdirat(_dirFd: number, _path: Path, _mode: number): void {
    return this.lacks('mkdirat');
  }

  other(): Other {
    return this.lacks('a second process');
  }

  /** Ends what one behaviour left behind in this process. */
  settle(): void {
    this.closeAll();
  }

  protected lacks(call: string): never {
    throw new NotApplicable(`${call} is the kernel's: it needs a mounted file system`);
  }

  // Shorthands.

  /** Makes a file with these contents. */
  file(path: Path, contents: string | Uint8Array = '', mode = 0o644): void {
    const fd = this.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (contents.length > 0) this.write(fd, contents);
    this.close(fd);
  }

  /** The contents of a file, as latin1. */
  contents(path: Path): string {
    const fd = this.open(path, O_RDONLY);
    const text = this.rest(fd);
    this.close(fd);
    return text;
  }

  /** What is left to read, as latin1. */
  rest(fd: number): string {
    let text = '';
    for (;;) {
      const bytes = this.read(fd, 65536);
      if (bytes.length === 0) return text;
      text += Buffer.from(bytes).toString('latin1');
    }
  }

  /** All entries of a directory, those of the two dots too. */
  entries(path: Path): Entry[] {
    const fd = this.open(path, O_RDONLY | O_DIRECTORY);
    const all = this.restOfEntries(fd);
    this.close(fd);
    return all;
  }

  restOfEntries(fd: number, bytes = 32768): Entry[] {
    const all: Entry[] = [];
    for (;;) {
      const some = this.getdents(fd, bytes);
      if (some.length === 0) return all;
      all.push(...some);
    }
  }

  /** The names in a directory, sorted, without the two dots. */
  names(path: Path = '.'): string[] {
    const all = this.entries(path).map(({ name }) => name);
    return all.filter((name) => name !== '.' && name !== '..').toSorted();
  }

  exists(path: Path): boolean {
    try {
      this.lstat(path);
      return true;
    } catch {
      return false;
    }
  }

  /** Long enough for a kernel's clock of file times (at most 10 ms a tick) to move on. */
  tick(): void {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 12);
  }

  /** Removes a tree. */
  removeTree(path: Path): void {
    // For those who are not root, and made a directory that they cannot list.
    this.chmod(path, 0o700);
    for (const { name, type } of this.entries(path)) {
      if (name === '.' || name === '..') continue;
      const inner = Buffer.concat([Buffer.from(path), Buffer.from('/'), Buffer.from(name, 'latin1')]);
      const directory = type === DT_DIR || (type === 0 && (this.lstat(inner).mode & S_IFMT) === S_IFDIR);
      if (directory) this.removeTree(inner);
      else this.unlink(inner);
    }
    this.rmdir(path);
  }
}
