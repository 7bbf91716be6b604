/** System calls that only tests make. */
import { SysError } from '../src/sys/index.ts';
import { bind, check, I } from '../src/sys/ffi.ts';

const libcFcntl = bind('fcntl', 3);
const F_SETFL = 4;
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
