/** What the commands need of a share: a part of node:fs/promises, which therefore serves them, too. */
import type { BigIntStats, BigIntStatsFs, Dirent } from 'node:fs';

/** A path: text, or the bytes of one that is not UTF-8. */
export type FacePath = string | Buffer;

export type FileStats = Pick<
  BigIntStats,
  | 'ino'
  | 'mode'
  | 'nlink'
  | 'uid'
  | 'gid'
  | 'rdev'
  | 'size'
  | 'blksize'
  | 'blocks'
  | 'atimeNs'
  | 'mtimeNs'
  | 'ctimeNs'
  | 'birthtimeNs'
>;

export type FileSystemStats = Pick<BigIntStatsFs, 'frsize' | 'blocks' | 'bfree' | 'bavail' | 'files' | 'ffree'>;

export type FileEntry = Pick<Dirent<Buffer>, 'name' | 'isDirectory' | 'isFile' | 'isSymbolicLink'>;

/** Of FileHandle. Positions and lengths in bytes. */
export interface ShareHandle {
  read(buffer: Buffer, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
  write(buffer: Buffer, offset: number, length: number, position: number): Promise<{ readonly bytesWritten: number }>;
  stat(options: { bigint: true }): Promise<FileStats>;
  truncate(length: number): Promise<void>;
  chmod(mode: number): Promise<void>;
  /** Seconds since 1970, with fractions. */
  utimes(atime: number, mtime: number): Promise<void>;
  datasync(): Promise<void>;
  close(): Promise<void>;
}

/** All reject with errors that have `code` and `errno`. */
export interface ShareFiles {
  lstat(path: FacePath, options: { bigint: true }): Promise<FileStats>;
  stat(path: FacePath, options: { bigint: true }): Promise<FileStats>;
  statfs(path: FacePath, options: { bigint: true }): Promise<FileSystemStats>;
  readdir(path: FacePath, options: { withFileTypes: true; encoding: 'buffer' }): Promise<FileEntry[]>;
  readlink(path: FacePath, options: { encoding: 'buffer' }): Promise<Buffer>;
  realpath(path: FacePath, options: { encoding: 'buffer' }): Promise<Buffer>;
  open(path: FacePath, flags: number, mode?: number): Promise<ShareHandle>;
  /** Mode 1: COPYFILE_EXCL. */
  copyFile(from: FacePath, to: FacePath, mode: number): Promise<void>;
  symlink(target: FacePath, path: FacePath): Promise<void>;
  mkdir(path: FacePath, options: { mode: number }): Promise<unknown>;
  rmdir(path: FacePath): Promise<void>;
  unlink(path: FacePath): Promise<void>;
  rename(from: FacePath, to: FacePath): Promise<void>;
  chmod(path: FacePath, mode: number): Promise<void>;
  lchown(path: FacePath, uid: number, gid: number): Promise<void>;
  utimes(path: FacePath, atime: number, mtime: number): Promise<void>;
  lutimes(path: FacePath, atime: number, mtime: number): Promise<void>;
}

/** A share that was opened for a command. */
export interface OpenShare extends ShareFiles, AsyncDisposable {}

/** What the options of a command ask for. */
export interface ShareOptions {
  readonly cache: 'none' | 'auto' | 'always';
  readonly writeback: boolean;
  /** Bytes of the DAX window; absent: none. */
  readonly daxBytes?: number;
  readonly queues: number;
  /** How long a request may take; absent: what the client does by itself. */
  readonly timeoutMs?: number;
}

/** Connects to a daemon. Rejects with a UserError, or one that has `code` and `errno`. */
export type Open = (socketPath: string, options: ShareOptions) => Promise<OpenShare>;
