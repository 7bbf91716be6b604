import { bind, I } from './ffi.ts';

const libcExit = bind('_exit', 2);

/** Ends the process at once, without waiting for threads that are blocked in the kernel. */
export const exitNow = (code: number): number => libcExit(I(code), 0n);

const PARK_MS = 1000;

/**
 * What a thread does last, instead of ending at once. V8 14.6 crashes (SIGTRAP or SIGSEGV, seen in 4 of 10 runs) when a
 * worker ends while TurboFan compiles one of its node:ffi calls in the background: the worker's end frees what the
 * compiler still reads. Idle for a while, no compilation is under way any more. The process need not wait: see exitNow.
 */
export function park(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PARK_MS);
}
