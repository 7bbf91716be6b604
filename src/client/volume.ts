/** What a share can do, by paths and open files: the system calls of a guest, as tasks. Faces are built on it. */
import type { Task } from './task.ts';

/** A path from the share's root: UTF-8, or the bytes of one that is not. Relative ones begin there, too. */
export type SharePath = string | Uint8Array;

/** statx(2), as far as FUSE tells. Times in nanoseconds since 1970. */
export interface Attributes {
  readonly ino: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  /** Where the daemon knows when the file was made (STATX). */
  readonly btimeNs: bigint | undefined;
  /** With the file's type. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** As makedev(3) has it. */
  readonly rdev: number;
  readonly blksize: number;
}

/** What is to change; what is absent stays. */
export interface Changes {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: bigint | number;
  readonly atimeNs?: bigint | 'now';
  readonly mtimeNs?: bigint | 'now';
}

/** statfs(2). */
export interface FileSystemNumbers {
  readonly bsize: number;
  readonly frsize: number;
  readonly blocks: bigint;
  readonly bfree: bigint;
  readonly bavail: bigint;
  readonly files: bigint;
  readonly ffree: bigint;
  readonly namelen: number;
}

export interface DirectoryEntry {
  readonly name: Uint8Array;
  readonly ino: bigint;
  /** DT_*: S_IFMT of the mode, shifted right by 12; 0 where the daemon does not say. */
  readonly type: number;
  /** The position behind this entry. */
  readonly next: bigint;
}

/** As struct flock has it. */
export interface FileLock {
  /** F_RDLCK 0, F_WRLCK 1, F_UNLCK 2. */
  readonly type: number;
  readonly start: bigint;
  /** The last byte; 2^63-1: to the end, however the file grows. */
  readonly end: bigint;
  readonly pid: number;
}

/** An open file. All throw ShareError. */
export interface OpenFile {
  /** Of open(2). */
  readonly flags: number;
  /** Bytes read; 0 at the end. */
  read(into: Uint8Array, position: number): Task<number>;
  /** Writes all of it. With O_APPEND the position does not count. */
  write(from: Uint8Array, position: number): Task<number>;
  stat(): Task<Attributes>;
  change(changes: Changes): Task<void>;
  sync(dataOnly: boolean): Task<void>;
  allocate(mode: number, offset: number, length: number): Task<void>;
  /** SEEK_DATA and SEEK_HOLE. */
  seek(offset: number, whence: number): Task<number>;
  /** copy_file_range(2): bytes copied, by the daemon. EXDEV where it cannot. */
  copyTo(target: OpenFile, fromOffset: number, toOffset: number, length: number): Task<number>;
  /** F_GETLK: the lock that is in the way, or F_UNLCK. */
  getLock(lock: FileLock): Task<FileLock>;
  /** F_SETLK, or F_SETLKW. */
  setLock(lock: FileLock, wait: boolean): Task<void>;
  /** As close(2): what was written and not sent yet is sent, and its error thrown. It is closed in any case. */
  close(): Task<void>;
}

/** An open directory. */
export interface OpenDirectory {
  /** Some entries from a position (0: the beginning), without `.` and `..`; none at the end. */
  read(position: bigint): Task<readonly DirectoryEntry[]>;
  sync(): Task<void>;
  close(): Task<void>;
}

/** A share. All throw ShareError. Flags, modes and whences are Linux's. */
export interface Volume {
  /** What a guest would mount it by, where the daemon says so: QEMU knows by itself, others ask the daemon. */
  readonly tag?: string | undefined;
  stat(path: SharePath, follow: boolean): Task<Attributes>;
  statfs(path: SharePath): Task<FileSystemNumbers>;
  /** access(2) with R_OK 4, W_OK 2, X_OK 1. */
  access(path: SharePath, mode: number): Task<void>;
  /** open(2): with O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DIRECTORY, O_NOFOLLOW. */
  open(path: SharePath, flags: number, mode?: number): Task<OpenFile>;
  openDirectory(path: SharePath): Task<OpenDirectory>;
  mkdir(path: SharePath, mode: number): Task<void>;
  mknod(path: SharePath, mode: number, rdev: number): Task<void>;
  rmdir(path: SharePath): Task<void>;
  unlink(path: SharePath): Task<void>;
  /** renameat2(2). */
  rename(from: SharePath, to: SharePath, flags?: number): Task<void>;
  /** Without following a symlink at `existing`. */
  link(existing: SharePath, path: SharePath): Task<void>;
  symlink(target: SharePath, path: SharePath): Task<void>;
  readlink(path: SharePath): Task<Uint8Array>;
  /** The absolute path without symlinks. */
  realpath(path: SharePath): Task<Uint8Array>;
  change(path: SharePath, changes: Changes, follow: boolean): Task<void>;
  getXattr(path: SharePath, name: string, follow: boolean): Task<Uint8Array>;
  setXattr(path: SharePath, name: string, value: Uint8Array, flags: number, follow: boolean): Task<void>;
  listXattrs(path: SharePath, follow: boolean): Task<string[]>;
  removeXattr(path: SharePath, name: string, follow: boolean): Task<void>;
  /** Writes back all that was written and not sent yet (SYNCFS where the daemon has it). */
  syncAll(): Task<void>;
  /** Gives everything back and says good-bye (DESTROY). */
  close(): Task<void>;
  /** Why nothing can be asked any more: the connection is over. */
  readonly broken: Error | undefined;
  /** For a caller who blocks: waits for the next reply. */
  idle(): void;
}
