/** A folder of the host as a Volume, for tests of what is built on one: each call takes a turn, as a reply would. */
import fs from 'node:fs';
import { constants } from 'node:fs';

import { Latch, ShareError, type Task } from '../src/client/index.ts';
import type {
  Attributes,
  Changes,
  DirectoryEntry,
  FileLock,
  FileSystemNumbers,
  OpenDirectory,
  OpenFile,
  SharePath,
  Volume,
} from '../src/client/index.ts';
import { utimensat } from '../src/sys/index.ts';
import { Arena } from '../src/sys/memory.ts';

const [EXDEV, ENODATA, EEXIST, EOPNOTSUPP] = [-18, -61, -17, -95];
/** As few as leave a directory to be read in several turns. */
const ENTRIES_AT_ONCE = 3;

function attributesOf(stats: fs.BigIntStats): Attributes {
  return {
    ino: stats.ino,
    size: stats.size,
    blocks: stats.blocks,
    atimeNs: stats.atimeNs,
    mtimeNs: stats.mtimeNs,
    ctimeNs: stats.ctimeNs,
    btimeNs: stats.birthtimeNs,
    mode: Number(stats.mode),
    nlink: Number(stats.nlink),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    rdev: Number(stats.rdev),
    blksize: Number(stats.blksize),
  };
}

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const UTIME_NOW = 0x3fffffffn;
const arena = new Arena(8192);
const [PATH, TIMES] = [arena.reserve(4096), arena.reserve(32)];

/** utimensat(2): node:fs has no nanoseconds. */
function setTimes(path: string | Buffer, { atimeNs, mtimeNs }: Changes, follow: boolean): void {
  if (atimeNs === undefined || mtimeNs === undefined) return;
  arena.u8.set(Buffer.concat([Buffer.from(path as string), new Uint8Array(1)]), PATH);
  for (const [index, time] of [atimeNs, mtimeNs].entries()) {
    arena.view.setBigInt64(TIMES + index * 16, time === 'now' ? 0n : time / 1_000_000_000n, true);
    arena.view.setBigInt64(TIMES + index * 16 + 8, time === 'now' ? UTIME_NOW : time % 1_000_000_000n, true);
  }
  const flags = follow ? 0 : AT_SYMLINK_NOFOLLOW;
  const result = utimensat(AT_FDCWD, arena.address + PATH, arena.address + TIMES, flags);
  if (result !== 0) throw new ShareError(result, 'host');
}

export class HostVolume implements Volume {
  readonly #root: string;
  readonly #waiting: Latch[] = [];
  readonly #xattrs = new Map<string, Map<string, Uint8Array>>();
  /** Open files and directories. */
  readonly opened = new Set<object>();
  closed = false;
  /** Whether copy_file_range is there. */
  copies = true;

  constructor(root: string) {
    this.#root = root;
  }

  #at(path: SharePath): string | Buffer {
    if (typeof path === 'string') return `${this.#root}/${path}`;
    return Buffer.concat([Buffer.from(`${this.#root}/`), path]);
  }

  /** A call that takes a turn. The name of the call is nothing that a face may rely on. */
  *call<T>(work: () => T): Task<T> {
    const latch = new Latch();
    this.#waiting.push(latch);
    setImmediate(() => latch.settle());
    yield latch;
    try {
      return work();
    } catch (error) {
      const { errno, code } = error as NodeJS.ErrnoException;
      if (errno === undefined || code?.startsWith('ERR_') === true) throw error;
      throw new ShareError(errno, 'host');
    }
  }

  readonly broken = undefined;

  idle(): void {
    const waiting = this.#waiting.splice(0);
    if (waiting.every((latch) => latch.settled)) throw new Error('nothing is waited for');
    for (const latch of waiting) latch.settle();
  }

  stat(path: SharePath, follow: boolean): Task<Attributes> {
    const stat = follow ? fs.statSync : fs.lstatSync;
    return this.call(() => attributesOf(stat(this.#at(path) as string, { bigint: true })));
  }

  statfs(path: SharePath): Task<FileSystemNumbers> {
    return this.call(() => {
      const { bsize, frsize, ...numbers } = fs.statfsSync(this.#at(path), { bigint: true });
      return { ...numbers, bsize: Number(bsize), frsize: Number(frsize), namelen: 255 };
    });
  }

  access(path: SharePath, mode: number): Task<void> {
    return this.call(() => fs.accessSync(this.#at(path) as string, mode));
  }

  open(path: SharePath, flags: number, mode?: number): Task<OpenFile> {
    return this.call(() => new HostFile(this, fs.openSync(this.#at(path) as string, flags, mode), flags));
  }

  openDirectory(path: SharePath): Task<OpenDirectory> {
    return this.call(() => new HostDirectory(this, fs.readdirSync(this.#at(path) as string, BYTES)));
  }

  mkdir(path: SharePath, mode: number): Task<void> {
    return this.call(() => fs.mkdirSync(this.#at(path) as string, mode));
  }

  mknod(): Task<void> {
    return this.call(() => {
      throw new ShareError(EOPNOTSUPP, 'mknod');
    });
  }

  rmdir(path: SharePath): Task<void> {
    return this.call(() => fs.rmdirSync(this.#at(path) as string));
  }

  unlink(path: SharePath): Task<void> {
    return this.call(() => fs.unlinkSync(this.#at(path) as string));
  }

  rename(from: SharePath, to: SharePath): Task<void> {
    return this.call(() => fs.renameSync(this.#at(from) as string, this.#at(to) as string));
  }

  link(existing: SharePath, path: SharePath): Task<void> {
    return this.call(() => fs.linkSync(this.#at(existing) as string, this.#at(path) as string));
  }

  symlink(target: SharePath, path: SharePath): Task<void> {
    return this.call(() => fs.symlinkSync(target as string, this.#at(path) as string));
  }

  readlink(path: SharePath): Task<Uint8Array> {
    return this.call(() => fs.readlinkSync(this.#at(path) as string, 'buffer'));
  }

  realpath(path: SharePath): Task<Uint8Array> {
    return this.call(() => {
      const real = fs.realpathSync.native(this.#at(path), 'buffer').subarray(this.#root.length);
      return real.length === 0 ? Buffer.from('/') : real;
    });
  }

  change(path: SharePath, changes: Changes, follow: boolean): Task<void> {
    const place = this.#at(path) as string;
    return this.call(() => {
      const stats = (follow ? fs.statSync : fs.lstatSync)(place);
      if (changes.mode !== undefined) fs.chmodSync(place, changes.mode);
      if (changes.uid !== undefined || changes.gid !== undefined) {
        (follow ? fs.chownSync : fs.lchownSync)(place, changes.uid ?? stats.uid, changes.gid ?? stats.gid);
      }
      if (changes.size !== undefined) fs.truncateSync(place, Number(changes.size));
      setTimes(place, changes, follow);
    });
  }

  #xattrsOf(path: SharePath, follow: boolean): Map<string, Uint8Array> {
    const key = (follow ? fs.realpathSync : (each: string) => each)(this.#at(path) as string);
    const xattrs = this.#xattrs.get(key) ?? new Map<string, Uint8Array>();
    this.#xattrs.set(key, xattrs);
    return xattrs;
  }

  getXattr(path: SharePath, name: string, follow: boolean): Task<Uint8Array> {
    return this.call(() => {
      const value = this.#xattrsOf(path, follow).get(name);
      if (value === undefined) throw new ShareError(ENODATA, 'host');
      return value;
    });
  }

  setXattr(path: SharePath, name: string, value: Uint8Array, flags: number, follow: boolean): Task<void> {
    return this.call(() => {
      const xattrs = this.#xattrsOf(path, follow);
      if (flags === 1 && xattrs.has(name)) throw new ShareError(EEXIST, 'host');
      if (flags === 2 && !xattrs.has(name)) throw new ShareError(ENODATA, 'host');
      xattrs.set(name, value);
    });
  }

  listXattrs(path: SharePath, follow: boolean): Task<string[]> {
    return this.call(() => [...this.#xattrsOf(path, follow).keys()]);
  }

  removeXattr(path: SharePath, name: string, follow: boolean): Task<void> {
    return this.call(() => {
      if (!this.#xattrsOf(path, follow).delete(name)) throw new ShareError(ENODATA, 'host');
    });
  }

  syncAll(): Task<void> {
    return this.call(() => undefined);
  }

  close(): Task<void> {
    return this.call(() => {
      this.closed = true;
    });
  }
}

const BYTES = { encoding: 'buffer', withFileTypes: true } as const;

const KINDS = ['FIFO', 'CharacterDevice', 'Directory', 'BlockDevice', 'File', 'SymbolicLink', 'Socket'] as const;
const NUMBERS = [1, 2, 4, 6, 8, 10, 12];

class HostDirectory implements OpenDirectory {
  readonly #volume: HostVolume;
  readonly #entries: readonly DirectoryEntry[];

  constructor(volume: HostVolume, entries: readonly fs.Dirent<Buffer>[]) {
    this.#volume = volume;
    volume.opened.add(this);
    this.#entries = entries.map((entry, index) => {
      const kind = KINDS.findIndex((each) => entry[`is${each}`]());
      return { name: entry.name, ino: 1n, type: NUMBERS[kind] ?? 0, next: BigInt(index + 1) };
    });
  }

  read(position: bigint): Task<readonly DirectoryEntry[]> {
    const from = Number(position);
    return this.#volume.call(() => this.#entries.slice(from, from + ENTRIES_AT_ONCE));
  }

  sync(): Task<void> {
    return this.#volume.call(() => undefined);
  }

  close(): Task<void> {
    this.#volume.opened.delete(this);
    return this.#volume.call(() => undefined);
  }
}

class HostFile implements OpenFile {
  readonly #volume: HostVolume;
  readonly #fd: number;
  readonly flags: number;

  constructor(volume: HostVolume, fd: number, flags: number) {
    this.#volume = volume;
    this.#fd = fd;
    this.flags = flags;
    volume.opened.add(this);
  }

  read(into: Uint8Array, position: number): Task<number> {
    return this.#volume.call(() => fs.readSync(this.#fd, into, 0, into.length, position));
  }

  write(from: Uint8Array, position: number): Task<number> {
    const at = (this.flags & constants.O_APPEND) === 0 ? position : null;
    return this.#volume.call(() => fs.writeSync(this.#fd, from, 0, from.length, at));
  }

  stat(): Task<Attributes> {
    return this.#volume.call(() => attributesOf(fs.fstatSync(this.#fd, { bigint: true })));
  }

  change(changes: Changes): Task<void> {
    return this.#volume.call(() => {
      const stats = fs.fstatSync(this.#fd);
      if (changes.mode !== undefined) fs.fchmodSync(this.#fd, changes.mode);
      if (changes.uid !== undefined || changes.gid !== undefined) {
        fs.fchownSync(this.#fd, changes.uid ?? stats.uid, changes.gid ?? stats.gid);
      }
      if (changes.size !== undefined) fs.ftruncateSync(this.#fd, Number(changes.size));
      setTimes(`/proc/self/fd/${this.#fd}`, changes, true);
    });
  }

  sync(dataOnly: boolean): Task<void> {
    return this.#volume.call(() => (dataOnly ? fs.fdatasyncSync : fs.fsyncSync)(this.#fd));
  }

  *allocate(): Task<void> {
    yield* this.#refused(EOPNOTSUPP);
  }

  *seek(): Task<number> {
    return yield* this.#refused(EOPNOTSUPP);
  }

  *getLock(): Task<FileLock> {
    return yield* this.#refused(EOPNOTSUPP);
  }

  *setLock(): Task<void> {
    yield* this.#refused(EOPNOTSUPP);
  }

  #refused(errno: number): Task<never> {
    return this.#volume.call(() => {
      throw new ShareError(errno, 'host');
    });
  }

  *copyTo(target: OpenFile, fromOffset: number, toOffset: number, length: number): Task<number> {
    if (!this.#volume.copies) yield* this.#refused(EXDEV);
    const bytes = Buffer.alloc(Math.min(length, 1000));
    const count = yield* this.read(bytes, fromOffset);
    return yield* target.write(bytes.subarray(0, count), toOffset);
  }

  close(): Task<void> {
    this.#volume.opened.delete(this);
    return this.#volume.call(() => fs.closeSync(this.#fd));
  }
}
