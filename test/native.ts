/** System calls that only tests make. */
import { closeSync, fsyncSync, openSync, readSync } from 'node:fs';

import { EAGAIN } from '../src/core/index.ts';
import { FLOCK_BYTES, flock, LOCK_NB, SysError } from '../src/sys/index.ts';
import { bind, check, I, U } from '../src/sys/ffi.ts';
import { Arena } from '../src/sys/memory.ts';

const libcFcntl = bind('fcntl', 3);
const F_SETFL = 4;
const F_SETLK = 6;
const F_SETLEASE = 1024;
const F_WRLCK = 1;

/** Takes O_NONBLOCK from a descriptor. */
export function setBlocking(fd: number): void {
  SysError.check(check(libcFcntl(I(fd), I(F_SETFL), 0n)), 'fcntl', `F_SETFL of ${fd}`);
}

/**
 * Takes a lease on an open file: whoever opens it sleeps in the kernel until the lease is gone, or for 45 seconds.
 * False where the file system has none.
 */
export function takeLease(fd: number): boolean {
  return check(libcFcntl(I(fd), I(F_SETLEASE), I(F_WRLCK))) === 0;
}

/**
 * Takes or gives up a lock as any process of the host does, by fcntl(F_SETLK) on `length` bytes (0: to the end).
 * False when somebody else has it.
 */
export function setProcessLock(fd: number, type: number, start: number, length: number): boolean {
  const arena = new Arena(4096);
  const at = arena.reserve(FLOCK_BYTES);
  arena.view.setUint16(at, type, true);
  arena.view.setBigUint64(at + 8, BigInt(start), true);
  arena.view.setBigUint64(at + 16, BigInt(length), true);
  return taken(check(libcFcntl(I(fd), I(F_SETLK), U(arena.address + at))));
}

/** flock(2) without waiting: false when somebody else has it. */
export const tryFlock = (fd: number, operation: number): boolean => taken(flock(fd, operation | LOCK_NB));

function taken(result: number): boolean {
  if (result !== 0 && result !== -EAGAIN) throw new SysError('fcntl', result, 'a lock');
  return result === 0;
}

const libcFadvise = bind('posix_fadvise', 4);
const POSIX_FADV_RANDOM = 1;
const POSIX_FADV_DONTNEED = 4;

/** Has the host forget what it has of a file in its page cache, as far as it likes to. */
export function dropCached(path: string): void {
  const fd = openSync(path, 'r');
  fsyncSync(fd);
  libcFadvise(I(fd), 0n, 0n, I(POSIX_FADV_DONTNEED));
  closeSync(fd);
}

/** Has the host bring in the page at an offset of a file, and no other. */
export function bringIn(path: string, offset: number): void {
  const fd = openSync(path, 'r');
  libcFadvise(I(fd), 0n, 0n, I(POSIX_FADV_RANDOM));
  readSync(fd, new Uint8Array(1), 0, 1, offset);
  closeSync(fd);
}
