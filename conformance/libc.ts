/** Calls of libc, and the memory that they read and write, for one thread. Not for a hot path: numbers of any kind. */
import { Arena, bind, bindWide, check, lastError, SysError } from '../src/sys/index.ts';
import type { Long, Path } from './face.ts';

type Parameters = 2 | 3 | 4 | 5 | 6;
type Call = (...args: readonly Long[]) => number;

const words = (args: readonly Long[], count: number): bigint[] =>
  Array.from({ length: count }, (_, i) => BigInt.asUintN(64, BigInt(args[i] ?? 0)));

/** A libc function: arguments that are not given are 0. The result, or a SysError. */
export function libc(name: string, parameters: Parameters): Call {
  const native = bind(name, parameters);
  return (...args) => SysError.check(check(native(...words(args, parameters))), name, '');
}

/** As `libc`, for an off_t. */
export function libcWide(name: string, parameters: Parameters): (...args: readonly Long[]) => bigint {
  const native = bindWide(name, parameters, 'i64');
  return (...args) => {
    const result = native(...words(args, parameters));
    if (result < 0n) throw new SysError(name, lastError(), '');
    return result;
  };
}

const rawSyscall = bind('syscall', 6);
/** A call that libc has no function for, or none for one thread alone. At most five arguments. */
export function syscall(name: string, number: number, ...args: readonly Long[]): number {
  return SysError.check(check(rawSyscall(...words([number, ...args], 6))), name, '');
}

const arm64 = process.arch === 'arm64';
export const SYS_SETGROUPS = arm64 ? 159 : 116;
export const SYS_GETTID = arm64 ? 178 : 186;
export const SYS_FACCESSAT2 = 439;

/** What one read or write moves at most. */
export const DATA_BYTES = 2 << 20;
const PATH_SLOT = 16384;
const SMALL_BYTES = 256 * 1024;

/** Native memory: two paths, a large buffer for data, a small one for structs and values. */
export class CallMemory {
  readonly #arena = new Arena(DATA_BYTES + 2 * PATH_SLOT + SMALL_BYTES + 4096);
  readonly #paths = [this.#arena.reserve(PATH_SLOT), this.#arena.reserve(PATH_SLOT)];
  readonly #dataAt = this.#arena.reserve(DATA_BYTES);
  readonly #smallAt = this.#arena.reserve(SMALL_BYTES);
  /** The address of the data, and of the small buffer. */
  readonly data = this.#arena.address + this.#dataAt;
  readonly small = this.#arena.address + this.#smallAt;
  readonly dataBytes = this.#arena.u8.subarray(this.#dataAt, this.#dataAt + DATA_BYTES);
  readonly smallBytes = this.#arena.u8.subarray(this.#smallAt, this.#smallAt + SMALL_BYTES);
  readonly view = new DataView(this.#arena.buffer, this.#smallAt, SMALL_BYTES);

  /** Puts a path below `base` into a slot; its address. */
  path(base: string, path: Path, slot: 0 | 1 = 0): number {
    const bytes = Buffer.from(path);
    const absolute = bytes.length === 0 || bytes[0] === 0x2f;
    return this.text(absolute ? bytes : Buffer.concat([Buffer.from(`${base}/`), bytes]), slot);
  }

  /** Puts a string into a slot as it is; its address. */
  text(text: string | Uint8Array, slot: 0 | 1 = 0): number {
    const bytes = Buffer.from(text);
    const at = this.#paths[slot];
    this.#arena.u8.set(bytes, at);
    this.#arena.u8[at + bytes.length] = 0;
    return this.#arena.address + at;
  }

  /** Puts bytes into the data buffer; how many. */
  put(data: string | Uint8Array): number {
    const bytes = Buffer.from(data);
    this.dataBytes.set(bytes);
    return bytes.length;
  }

  /** A copy of the first bytes of the data buffer. */
  take(length: number): Uint8Array {
    return this.dataBytes.slice(0, length);
  }
}
