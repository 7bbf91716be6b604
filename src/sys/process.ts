import { bind, I } from './ffi.ts';

const libcExit = bind('_exit', 2);

/** Ends the process at once, without waiting for threads that are blocked in the kernel. */
export const exitNow = (code: number): number => libcExit(I(code), 0n);
