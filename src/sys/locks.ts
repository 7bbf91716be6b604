/** Locks on files: those of an open file description (OFD) on ranges, and flock(2). Nothing here waits. */
import { readFileSync } from 'node:fs';

import { bind, check, I, U } from './ffi.ts';

// asm-generic/fcntl.h; the same on x86-64 and arm64.
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;
/** struct flock with 64-bit offsets: le16 type and whence, then start at 8, length at 16 (0: to the end), pid at 24. */
export const FLOCK_BYTES = 32;

// asm-generic/fcntl.h, flock(2).
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const LOCK_UN = 8;

const F_GETFL = 3n;
const F_OFD_GETLK = 36n;
const F_OFD_SETLK = 37n;
const libcFcntl = bind('fcntl', 3);

/** fcntl(F_OFD_SETLK): takes, changes or gives up the lock that struct flock describes; -EAGAIN when it is taken. */
export const setOfdLock = (fd: number, flock: number): number => check(libcFcntl(I(fd), F_OFD_SETLK, U(flock)));

/** fcntl(F_OFD_GETLK): struct flock becomes the first lock that is in the way, or has the type F_UNLCK. */
export const getOfdLock = (fd: number, flock: number): number => check(libcFcntl(I(fd), F_OFD_GETLK, U(flock)));

/** fcntl(F_GETFL): the flags that a file is open with. */
export const openFlags = (fd: number): number => check(libcFcntl(I(fd), F_GETFL, 0n));

const libcFlock = bind('flock', 2);
/** flock(2). With LOCK_NB: -EAGAIN when the lock is taken. */
export const flock = (fd: number, operation: number): number => check(libcFlock(I(fd), I(operation)));

/** A lock as the kernel lists it. */
export interface HeldLock {
  readonly type: number;
  readonly start: bigint;
  /** The last byte, undefined for the end of the file. */
  readonly end: bigint | undefined;
}

/** The OFD locks of a descriptor's open file (proc_pid_fdinfo(5)); cold. Throws when the descriptor is not open. */
export function heldLocks(fd: number): HeldLock[] {
  const lines = readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1').matchAll(
    /^lock:\s+\d+: OFDLCK\s+\S+\s+(READ|WRITE)\s+\S+\s+\S+\s+(\d+) (\d+|EOF)$/gm,
  );
  return Array.from(lines, ([, type, start, end]) => ({
    type: type === 'READ' ? F_RDLCK : F_WRLCK,
    start: BigInt(start),
    end: end === 'EOF' ? undefined : BigInt(end),
  }));
}
