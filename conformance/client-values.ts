/** What the client's calls take and give, from what the face has, and back. */
import type { Attributes, Changes, FileLock } from '../src/client/index.ts';
import { EINVAL } from '../src/core/index.ts';
import { F_GETLK, F_SETLK, F_SETLKW, F_UNLCK, SEEK_CUR, SEEK_END } from './constants.ts';
import type { Lock, Stat, Time } from './face.ts';
import { failure, NotApplicable } from './verdicts.ts';

/** The end of a lock without one. */
const FOREVER = 2n ** 63n - 1n;

export function statOf(attributes: Attributes): Stat {
  const { ino, mode, nlink, uid, gid, rdev, blksize, size, blocks, atimeNs, mtimeNs, ctimeNs, btimeNs } = attributes;
  return {
    dev: '0:0',
    ino,
    mode,
    nlink,
    uid,
    gid,
    // new_decode_dev, include/linux/kdev_t.h.
    rdev: [(rdev & 0xfff00) >> 8, (rdev & 0xff) | ((rdev >>> 12) & 0xfff00)],
    size: Number(size),
    blocks: Number(blocks),
    blksize,
    atime: atimeNs,
    mtime: mtimeNs,
    ctime: ctimeNs,
    btime: btimeNs,
  };
}

/** chown(2): -1 leaves an owner. */
export function ownersOf(uid: number, gid: number): Changes {
  return { ...(uid !== -1 && { uid }), ...(gid !== -1 && { gid }) };
}

export function timesOf(atime: Time, mtime: Time): Changes {
  return { ...(atime !== 'omit' && { atimeNs: atime }), ...(mtime !== 'omit' && { mtimeNs: mtime }) };
}

/** What fcntl(2) does. */
export function commandOf(command: number): 'get' | 'try' | 'wait' {
  if (command === F_GETLK) return 'get';
  if (command === F_SETLK) return 'try';
  if (command === F_SETLKW) return 'wait';
  throw new NotApplicable('the client has no locks of an open file description');
}

/** flock_to_posix_lock, fs/locks.c. */
export function rangeOf(lock: Lock, position: bigint, size: () => bigint): FileLock {
  const { type, whence, start = 0, length = 0, pid = 0 } = lock;
  const base = whence === SEEK_CUR ? position : whence === SEEK_END ? size() : 0n;
  const from = base + BigInt(start);
  const bytes = BigInt(length);
  const first = bytes < 0n ? from + bytes : from;
  if (first < 0n) throw failure('fcntl', EINVAL, `a lock from ${first} on`);
  const end = bytes === 0n ? FOREVER : bytes < 0n ? from - 1n : from + bytes - 1n;
  return { type, start: first, end, pid };
}

/** What F_GETLK says of a lock. */
export function shownLock({ type, start, end, pid }: FileLock, asked: Lock): Lock {
  if (type === F_UNLCK) return { ...asked, type };
  return {
    type,
    whence: 0,
    start: Number(start),
    length: end >= FOREVER ? 0 : Number(end - start + 1n),
    get pid() {
      if (pid === 0) throw new NotApplicable('the daemon names no process of another guest');
      return pid;
    },
  };
}
