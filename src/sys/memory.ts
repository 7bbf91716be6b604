import { assert, type Fd } from '../core/index.ts';
import {
  AT_EMPTY_PATH,
  AT_STATX_DONT_SYNC,
  F_SEAL_GROW,
  F_SEAL_SEAL,
  F_SEAL_SHRINK,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  MFD_ALLOW_SEALING,
  MFD_CLOEXEC,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
  S_IFMT,
  S_IFREG,
} from './constants.ts';
import { SysError } from './error.ts';
import { bind, bindWide, check, I, lastError, U, viewMemory } from './ffi.ts';
import { addSeals, ftruncate, statx } from './files.ts';

const libcMmap = bindWide('mmap', 6, 'pointer');
const libcMremap = bindWide('mremap', 5, 'pointer');
const libcMunmap = bind('munmap', 2);
const libcMemfd = bind('memfd_create', 2);

/** MAP_FAILED, (void *)-1. */
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

/** mmap(2); the address as a number. Throws SysError. `at`: only with MAP_FIXED. */
export function mmap(length: number, protection: number, flags: number, fd: number, offset: number, at = 0): number {
  const address = libcMmap(U(at), U(length), I(protection), I(flags), I(fd), U(offset));
  if (address === MAP_FAILED) throw new SysError('mmap', lastError(), `${length} bytes of descriptor ${fd}`);
  return Number(address);
}

/** munmap(2). No view of the range may be alive: a JavaScript access to it would end the process. */
export function munmap(address: number, length: number): void {
  SysError.check(check(libcMunmap(U(address), U(length))), 'munmap', `0x${address.toString(16)}`);
}

/** Maps a shared file or memfd for reading and writing. */
export function mapShared(fd: number, length: number, offset: number): number {
  return mmap(length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, offset);
}

/** Maps a shared file or memfd for reading alone: a write to it would end the process. */
export function mapSharedReadOnly(fd: number, length: number, offset: number): number {
  return mmap(length, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, offset);
}

/** Addresses for `mapAt`. There is nothing there until then: SIGBUS or SIGSEGV in JavaScript, EFAULT in the kernel. */
export function reserveAddresses(length: number): number {
  return mmap(length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/**
 * Maps a file at reserved addresses. Throws SysError. It is mapped somewhere else first: with MAP_FIXED the kernel
 * takes out what is there before it asks the file, and another thread may be given the addresses when that fails.
 */
export function mapAt(address: number, fd: number, length: number, offset: number, writable = true): void {
  const protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
  const elsewhere = mmap(length, protection, MAP_SHARED | MAP_NORESERVE, fd, offset);
  const flags = I(MREMAP_MAYMOVE | MREMAP_FIXED);
  if (libcMremap(U(elsewhere), U(length), U(length), flags, U(address)) !== MAP_FAILED) return;
  const error = lastError();
  munmap(elsewhere, length);
  // There is no saying how far it came.
  unmapAt(address, length);
  throw new SysError('mremap', error, `${length} bytes to 0x${address.toString(16)}`);
}

/** Gives up what `mapAt` mapped; the addresses stay reserved. */
export function unmapAt(address: number, length: number): void {
  mmap(length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0, address);
}

/** An anonymous file of `sizeBytes`, for memory that is shared with another process. */
export function memfd(name: string, sizeBytes: number, flags = MFD_CLOEXEC): number {
  const fd = SysError.check(check(libcMemfd(U(coldString(name)), I(flags))), 'memfd_create', name);
  SysError.check(ftruncate(fd, sizeBytes | 0, Math.floor(sizeBytes / 2 ** 32)), 'ftruncate', `${sizeBytes} bytes`);
  return fd;
}

/** The same, of a size that nobody can change: whoever has it mapped need not fear SIGBUS. */
export function sealedMemfd(name: string, sizeBytes: number): Fd {
  const fd = memfd(name, sizeBytes, MFD_CLOEXEC | MFD_ALLOW_SEALING) as Fd;
  SysError.check(addSeals(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 'fcntl', 'F_ADD_SEALS');
  return fd;
}

/** Native memory for what calls read and write: names, stat buffers, vectors. It is never given back. */
export class Arena {
  readonly address: number;
  readonly bytes: number;
  readonly buffer: ArrayBuffer;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly view: DataView;
  #used = 0;

  constructor(bytes: number) {
    this.address = mmap(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    this.bytes = bytes;
    this.buffer = viewMemory(this.address, bytes);
    this.u8 = new Uint8Array(this.buffer);
    this.u32 = new Uint32Array(this.buffer);
    this.view = new DataView(this.buffer);
  }

  /** Sets bytes apart at construction time; the offset in the arena, 64-byte aligned. */
  reserve(bytes: number): number {
    const at = this.#used;
    this.#used = (at + bytes + 63) & ~63;
    assert(this.#used <= this.bytes, 'the arena is too small for what is reserved in it');
    return at;
  }
}

/** Strings of calls made at set-up: two slots, so that a call can take two paths. */
const cold = new Arena(20480);
const encoder = new TextEncoder();

/** Writes a string for the next call and gives its address. `slot` 0 or 1. Throws on NUL and on overlong strings. */
export function coldString(text: string, slot: 0 | 1 = 0): number {
  assert(!text.includes('\0'), 'a path holds a NUL');
  const at = slot * 8192;
  const { read, written } = encoder.encodeInto(text, cold.u8.subarray(at, at + 8191));
  assert(read === text.length, 'a path is longer than 8191 bytes');
  cold.u8[at + written] = 0;
  return cold.address + at;
}

/** Where `fileSize` has the kernel write a struct statx: behind the two strings. */
const STAT_AT = 16384;
const STATX_SIZE = 0x200;
/** The size of an open file. Throws SysError. */
export function fileSize(fd: number): number {
  const result = statx(fd, coldString(''), AT_EMPTY_PATH, STATX_SIZE, cold.address + STAT_AT);
  SysError.check(result, 'statx', `descriptor ${fd}`);
  return Number(cold.view.getBigUint64(STAT_AT + 40, true));
}

const STATX_INO = 0x100;
/**
 * The size of an open file, exact where it is a power of two, and what no other file has at the same time. Whoever
 * serves the file is not asked (AT_STATX_DONT_SYNC), so that this never waits. Throws SysError.
 */
export function fileIdentity(fd: number): { sizeBytes: number; key: string } {
  const flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  const result = statx(fd, coldString(''), flags, STATX_SIZE | STATX_INO, cold.address + STAT_AT);
  SysError.check(result, 'statx', `descriptor ${fd}`);
  const { view } = cold;
  const device = `${view.getUint32(STAT_AT + 136, true)}:${view.getUint32(STAT_AT + 140, true)}`;
  return {
    sizeBytes: Number(view.getBigUint64(STAT_AT + 40, true)),
    key: `${device}:${view.getBigUint64(STAT_AT + 32, true)}`,
  };
}

const STATX_TYPE = 0x1;
/** Whether a descriptor is of a regular file; whoever serves it is not asked. Throws SysError. */
export function isRegularFile(fd: number): boolean {
  const flags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  SysError.check(statx(fd, coldString(''), flags, STATX_TYPE, cold.address + STAT_AT), 'statx', `descriptor ${fd}`);
  return (cold.view.getUint16(STAT_AT + 28, true) & S_IFMT) === S_IFREG;
}
