/** What a file and a share are, in the shape of node:fs's Stats, BigIntStats and StatFs. */
import { constants, type BigIntStats as NodeBigIntStats, type BigIntStatsFs, type StatsFs } from 'node:fs';
import type { Stats as NodeStats } from 'node:fs';

import type { Attributes, FileSystemNumbers } from '../volume.ts';

const NS_PER_MS = 1_000_000n;
/** What statfs(2) gives for FUSE (linux/magic.h). */
const FUSE_SUPER_MAGIC = 0x65735546;

/** The questions that a mode answers. */
abstract class FileKind {
  abstract readonly mode: number | bigint;

  #is(kind: number): boolean {
    return (Number(this.mode) & constants.S_IFMT) === kind;
  }

  isFile(): boolean {
    return this.#is(constants.S_IFREG);
  }

  isDirectory(): boolean {
    return this.#is(constants.S_IFDIR);
  }

  isSymbolicLink(): boolean {
    return this.#is(constants.S_IFLNK);
  }

  isBlockDevice(): boolean {
    return this.#is(constants.S_IFBLK);
  }

  isCharacterDevice(): boolean {
    return this.#is(constants.S_IFCHR);
  }

  isFIFO(): boolean {
    return this.#is(constants.S_IFIFO);
  }

  isSocket(): boolean {
    return this.#is(constants.S_IFSOCK);
  }
}

/** The times of a file in other units. Of a file whose birth is not known it is 1970, as in node:fs. */
abstract class FileTimes extends FileKind {
  readonly #ns: readonly bigint[];

  constructor({ atimeNs, mtimeNs, ctimeNs, btimeNs }: Attributes) {
    super();
    this.#ns = [atimeNs, mtimeNs, ctimeNs, btimeNs ?? 0n];
  }

  #date(index: number): Date {
    // Rounded, as node:fs does: what was set from a Date is that Date again.
    return new Date(Math.round(millisecondsOf(this.#ns[index])));
  }

  get atime(): Date {
    return this.#date(0);
  }

  get mtime(): Date {
    return this.#date(1);
  }

  get ctime(): Date {
    return this.#date(2);
  }

  get birthtime(): Date {
    return this.#date(3);
  }

  get atimeInstant(): NodeStats['atimeInstant'] {
    return instantOf(this.#ns[0]);
  }

  get mtimeInstant(): NodeStats['atimeInstant'] {
    return instantOf(this.#ns[1]);
  }

  get ctimeInstant(): NodeStats['atimeInstant'] {
    return instantOf(this.#ns[2]);
  }

  get birthtimeInstant(): NodeStats['atimeInstant'] {
    return instantOf(this.#ns[3]);
  }
}

/** Numbers, and times in milliseconds with their fraction. `dev` is 0: a share has no device of its own. */
export class Stats extends FileTimes implements NodeStats {
  readonly dev = 0;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly blksize: number;
  readonly ino: number;
  readonly size: number;
  readonly blocks: number;
  readonly atimeMs: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
  readonly birthtimeMs: number;

  constructor(attributes: Attributes) {
    super(attributes);
    this.mode = attributes.mode;
    this.nlink = attributes.nlink;
    this.uid = attributes.uid;
    this.gid = attributes.gid;
    this.rdev = attributes.rdev;
    this.blksize = attributes.blksize;
    this.ino = Number(attributes.ino);
    this.size = Number(attributes.size);
    this.blocks = Number(attributes.blocks);
    this.atimeMs = millisecondsOf(attributes.atimeNs);
    this.mtimeMs = millisecondsOf(attributes.mtimeNs);
    this.ctimeMs = millisecondsOf(attributes.ctimeNs);
    this.birthtimeMs = millisecondsOf(attributes.btimeNs ?? 0n);
  }
}

/** The same in bigints, with times in nanoseconds, too. */
export class BigIntStats extends FileTimes implements NodeBigIntStats {
  readonly dev = 0n;
  readonly mode: bigint;
  readonly nlink: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly rdev: bigint;
  readonly blksize: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly atimeMs: bigint;
  readonly mtimeMs: bigint;
  readonly ctimeMs: bigint;
  readonly birthtimeMs: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthtimeNs: bigint;

  constructor(attributes: Attributes) {
    super(attributes);
    this.mode = BigInt(attributes.mode);
    this.nlink = BigInt(attributes.nlink);
    this.uid = BigInt(attributes.uid);
    this.gid = BigInt(attributes.gid);
    this.rdev = BigInt(attributes.rdev);
    this.blksize = BigInt(attributes.blksize);
    this.ino = attributes.ino;
    this.size = attributes.size;
    this.blocks = attributes.blocks;
    this.atimeNs = attributes.atimeNs;
    this.mtimeNs = attributes.mtimeNs;
    this.ctimeNs = attributes.ctimeNs;
    this.birthtimeNs = attributes.btimeNs ?? 0n;
    this.atimeMs = this.atimeNs / NS_PER_MS;
    this.mtimeMs = this.mtimeNs / NS_PER_MS;
    this.ctimeMs = this.ctimeNs / NS_PER_MS;
    this.birthtimeMs = this.birthtimeNs / NS_PER_MS;
  }
}

/** What a share holds and has free. */
export class StatFs<T extends number | bigint> {
  readonly type: T;
  readonly bsize: T;
  readonly frsize: T;
  readonly blocks: T;
  readonly bfree: T;
  readonly bavail: T;
  readonly files: T;
  readonly ffree: T;

  constructor(numbers: FileSystemNumbers, unit: (value: bigint | number) => T) {
    this.type = unit(FUSE_SUPER_MAGIC);
    this.bsize = unit(numbers.bsize);
    this.frsize = unit(numbers.frsize);
    this.blocks = unit(numbers.blocks);
    this.bfree = unit(numbers.bfree);
    this.bavail = unit(numbers.bavail);
    this.files = unit(numbers.files);
    this.ffree = unit(numbers.ffree);
  }
}

export function statsOf(attributes: Attributes, bigint: boolean | undefined): NodeStats | NodeBigIntStats {
  return bigint === true ? new BigIntStats(attributes) : new Stats(attributes);
}

export function statFsOf(numbers: FileSystemNumbers, bigint: boolean | undefined): StatsFs | BigIntStatsFs {
  return bigint === true ? new StatFs(numbers, BigInt) : new StatFs(numbers, Number);
}

function millisecondsOf(ns: bigint): number {
  const seconds = ns / 1_000_000_000n;
  return Number(seconds) * 1000 + Number(ns - seconds * 1_000_000_000n) / 1e6;
}

function instantOf(ns: bigint): NodeStats['atimeInstant'] {
  return Temporal.Instant.fromEpochNanoseconds(ns);
}
