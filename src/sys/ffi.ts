/**
 * The one door to node:ffi. Every parameter is declared 'pointer', because only such functions are called without a
 * JavaScript wrapper (3.7 ns a call). Numbers become BigInts at the call itself, where TurboFan keeps them in
 * registers.
 */
import type * as FfiModule from 'node:ffi';

import { UserError } from '../core/index.ts';

function load(): typeof FfiModule {
  // The module announces itself as experimental on stderr, once a thread. We pin the Node version instead.
  const announce = Object.getOwnPropertyDescriptor(process, 'emitWarning') ?? {};
  Object.defineProperty(process, 'emitWarning', { ...announce, value: () => undefined });
  try {
    const module = process.getBuiltinModule('node:ffi') as typeof FfiModule | undefined;
    if (module !== undefined) return module;
  } finally {
    Object.defineProperty(process, 'emitWarning', announce);
  }
  throw new UserError(
    `Node.js ${process.versions.node} has no node:ffi. virtiofs needs Node.js 26.10 or newer: ` +
      'start it through its own command (bin/virtiofs.js), which brings that Node, or install it.',
  );
}

const ffi = load();

/** A libc function: integers and addresses as BigInts in, a 32-bit result out. */
export type Native = (...args: bigint[]) => number;
/** A libc function with a 64-bit or pointer result. */
export type NativeWide = (...args: bigint[]) => bigint;

/** Whether every function bound so far takes the fast path. `virtiofs doctor` reports it. */
export let fastPath = true;

function lookUp(name: string, parameters: number, result: 'i32' | 'i64' | 'pointer'): unknown {
  // One library object a function: a symbol may be asked for with one signature only.
  const library = new ffi.DynamicLibrary(null);
  const found = library.getFunction(name, {
    arguments: Array.from({ length: parameters }, () => 'pointer' as const),
    return: result,
  });
  if (!Function.prototype.toString.call(found).includes('[native code]')) fastPath = false;
  return found;
}

/**
 * Binds a libc function with 0 or 2 to 6 parameters and a result that fits 32 bits.
 * A function of one parameter is bound with two: one-parameter calls go through a wrapper.
 */
export function bind(name: string, parameters: 0 | 2 | 3 | 4 | 5 | 6): Native {
  return lookUp(name, parameters, 'i32') as Native;
}

/** As `bind`, with a result of 64 bits: 'i64' for off_t, 'pointer' for addresses. */
export function bindWide(name: string, parameters: 0 | 2 | 3 | 4 | 5 | 6, result: 'i64' | 'pointer'): NativeWide {
  return lookUp(name, parameters, result) as NativeWide;
}

/** A C int, unsigned or mode argument; -1 and AT_FDCWD as their 32-bit patterns. */
export const I = (value: number): bigint => BigInt(value >>> 0);

/** A C long, size_t, off_t or pointer argument from a number in 0..2^53-1. */
export const U = (value: number): bigint =>
  BigInt.asUintN(64, (BigInt((value / 4294967296) | 0) << 32n) | BigInt(value >>> 0));

/** A 64-bit argument from its two words. */
export const U2 = (lo: number, hi: number): bigint => BigInt.asUintN(64, (BigInt(hi | 0) << 32n) | BigInt(lo >>> 0));

const errnoAddress = bindWide('__errno_location', 0, 'pointer')();
/** errno of this thread: glibc keeps one a thread, so the view is made in every worker. */
const errnoView = new Int32Array(ffi.toArrayBuffer(errnoAddress, 4, false));

/** The result of a call, or the negative errno. */
export const check = (result: number): number => (result < 0 ? -errnoView[0] : result);

/** The negative errno of the call just made. */
export const lastError = (): number => -errnoView[0];

/** Memory of this process as an ArrayBuffer: no copy; the caller keeps it mapped while the buffer lives. */
export function viewMemory(address: number, length: number): ArrayBuffer {
  return ffi.toArrayBuffer(BigInt(address), length, false);
}

/** Where the bytes of a view are. They stay there while it lives, if it is not detached. */
export function addressOf(view: Uint8Array): number {
  return Number(ffi.getRawPointer(view));
}
