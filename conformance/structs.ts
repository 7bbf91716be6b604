/** What the kernel writes: struct statx, struct statfs, struct linux_dirent64. */
import type { Entry, Stat, StatFs } from './face.ts';

const STATX_BTIME = 0x800;
const SECOND = 1_000_000_000n;

/** struct statx of 256 bytes at the start of `view`. */
export function statOf(view: DataView): Stat {
  const word = (at: number): number => view.getUint32(at, true);
  const time = (at: number): bigint => view.getBigInt64(at, true) * SECOND + BigInt(word(at + 8));
  return {
    blksize: word(4),
    nlink: word(16),
    uid: word(20),
    gid: word(24),
    mode: view.getUint16(28, true),
    ino: view.getBigUint64(32, true),
    size: Number(view.getBigUint64(40, true)),
    blocks: Number(view.getBigUint64(48, true)),
    atime: time(64),
    btime: (word(0) & STATX_BTIME) === 0 ? undefined : time(80),
    ctime: time(96),
    mtime: time(112),
    rdev: [word(128), word(132)],
    dev: `${word(136)}:${word(140)}`,
  };
}

/** struct statfs of 120 bytes, all in 64-bit words but fsid. */
export function statFsOf(view: DataView): StatFs {
  const long = (i: number): number => Number(view.getBigUint64(i * 8, true));
  return {
    type: long(0),
    bsize: long(1),
    blocks: long(2),
    bfree: long(3),
    bavail: long(4),
    files: long(5),
    ffree: long(6),
    namelen: long(8),
    frsize: long(9),
    flags: long(10),
  };
}

export function entriesOf(bytes: Uint8Array): Entry[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const entries: Entry[] = [];
  for (let at = 0; at < bytes.length; at += view.getUint16(at + 16, true)) {
    const end = bytes.indexOf(0, at + 19);
    entries.push({
      ino: view.getBigUint64(at, true),
      off: view.getBigUint64(at + 8, true),
      type: bytes[at + 18],
      name: Buffer.from(bytes.subarray(at + 19, end)).toString('latin1'),
    });
  }
  return entries;
}
