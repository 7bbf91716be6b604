/** What FUSE replies say. */
import { Attr, Dirent, Direntplus, EntryOut, Kstatfs, OpenOut, StatxOut } from '../src/fuse/index.ts';
import type { Entry, Stat, StatFs } from './face.ts';

const SECOND = 1_000_000_000n;
const STATX_BTIME = 0x800;

/** fuse_attr at `at`. */
export function statOfAttr(view: DataView, at: number): Stat {
  const { offsets } = Attr;
  const long = (offset: number): bigint => view.getBigUint64(at + offset, true);
  const word = (offset: number): number => view.getUint32(at + offset, true);
  const time = (seconds: number, nanoseconds: number): bigint =>
    view.getBigInt64(at + seconds, true) * SECOND + BigInt(word(nanoseconds));
  const rdev = word(offsets.rdev);
  return {
    dev: '0:0',
    ino: long(offsets.ino),
    mode: word(offsets.mode),
    nlink: word(offsets.nlink),
    uid: word(offsets.uid),
    gid: word(offsets.gid),
    // new_decode_dev, include/linux/kdev_t.h.
    rdev: [(rdev & 0xfff00) >> 8, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)],
    size: Number(long(offsets.size)),
    blocks: Number(long(offsets.blocks)),
    blksize: word(offsets.blksize),
    atime: time(offsets.atime, offsets.atimensec),
    mtime: time(offsets.mtime, offsets.mtimensec),
    ctime: time(offsets.ctime, offsets.ctimensec),
    btime: undefined,
  };
}

/** The time of birth in a fuse_statx_out. */
export function birthOf(view: DataView): bigint | undefined {
  const stat = StatxOut.offsets.stat;
  if ((view.getUint32(stat, true) & STATX_BTIME) === 0) return undefined;
  return view.getBigInt64(stat + 80, true) * SECOND + BigInt(view.getUint32(stat + 88, true));
}

export interface FoundEntry {
  readonly nodeid: bigint;
  readonly stat: Stat;
}

/** fuse_entry_out at the start. */
export function entryOf(view: DataView, at = 0): FoundEntry {
  const { offsets } = EntryOut;
  return { nodeid: view.getBigUint64(at + offsets.nodeid, true), stat: statOfAttr(view, at + offsets.attr) };
}

/** The handle of a fuse_open_out. */
export const handleOf = (view: DataView, at = 0): bigint => view.getBigUint64(at + OpenOut.offsets.fh, true);

export function statFsOfReply(view: DataView): StatFs {
  const { offsets } = Kstatfs;
  const long = (offset: number): number => Number(view.getBigUint64(offset, true));
  const word = (offset: number): number => view.getUint32(offset, true);
  return {
    type: 0,
    bsize: word(offsets.bsize),
    blocks: long(offsets.blocks),
    bfree: long(offsets.bfree),
    bavail: long(offsets.bavail),
    files: long(offsets.files),
    ffree: long(offsets.ffree),
    namelen: word(offsets.namelen),
    frsize: word(offsets.frsize),
    flags: 0,
  };
}

export interface ListedEntry extends Entry {
  /** Of READDIRPLUS: counts as a LOOKUP unless it is 0. */
  readonly nodeid: bigint;
}

/** The entries of a READDIR or READDIRPLUS reply. */
export function listedOf(view: DataView, plus: boolean): ListedEntry[] {
  const listed: ListedEntry[] = [];
  const start = plus ? Direntplus.offsets.dirent : 0;
  let at = 0;
  while (at < view.byteLength) {
    const dirent = at + start;
    const length = Dirent.namelen(view, dirent);
    listed.push({
      nodeid: plus ? view.getBigUint64(at, true) : 0n,
      name: Buffer.from(view.buffer, view.byteOffset + dirent + Dirent.bytes, length).toString('latin1'),
      ino: view.getBigUint64(dirent, true),
      type: Dirent.type(view, dirent),
      off: view.getBigUint64(dirent + Dirent.offsets.off, true),
    });
    at += (start + Dirent.bytes + length + 7) & ~7;
  }
  return listed;
}
