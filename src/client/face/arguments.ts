/** Arguments as node:fs takes them: checked as it checks them, refused with its codes and words. */
import type { Mode, OpenMode, PathLike, TimeLike } from 'node:fs';
import { constants } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';

import type { SharePath } from '../volume.ts';

const { O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY } = constants;

const INT32_MAX = 2 ** 31 - 1;
const UINT32_MAX = 2 ** 32 - 1;

/** The letters of fopen(3), and Node's. Each may have its letters in another order where Node takes that, too. */
const FLAGS = new Map<string, number>(
  [
    [['r'], O_RDONLY],
    [['rs', 'sr'], O_RDONLY | O_SYNC],
    [['r+'], O_RDWR],
    [['rs+', 'sr+'], O_RDWR | O_SYNC],
    [['w'], O_TRUNC | O_CREAT | O_WRONLY],
    [['wx', 'xw'], O_TRUNC | O_CREAT | O_WRONLY | O_EXCL],
    [['w+'], O_TRUNC | O_CREAT | O_RDWR],
    [['wx+', 'xw+'], O_TRUNC | O_CREAT | O_RDWR | O_EXCL],
    [['a'], O_APPEND | O_CREAT | O_WRONLY],
    [['ax', 'xa'], O_APPEND | O_CREAT | O_WRONLY | O_EXCL],
    [['as', 'sa'], O_APPEND | O_CREAT | O_WRONLY | O_SYNC],
    [['a+'], O_APPEND | O_CREAT | O_RDWR],
    [['ax+', 'xa+'], O_APPEND | O_CREAT | O_RDWR | O_EXCL],
    [['as+', 'sa+'], O_APPEND | O_CREAT | O_RDWR | O_SYNC],
  ].flatMap(([names, flags]) => (names as string[]).map((name) => [name, flags as number] as const)),
);

type ErrorClass = new (message: string) => Error;

/** An error with a code of Node's, such as `ERR_INVALID_ARG_VALUE`. */
export function codedError(code: string, message: string, kind: ErrorClass = Error): NodeJS.ErrnoException {
  return Object.assign(new kind(message), { code });
}

/** The `cause` is the signal's reason. */
export function abortError(signal: AbortSignal): Error {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  return Object.assign(error, { code: 'ABORT_ERR', name: 'AbortError' });
}

export function throwIfAborted(signal: AbortSignal | null | undefined): void {
  if (signal?.aborted === true) throw abortError(signal);
}

function received(value: unknown): string {
  if (value === null || value === undefined) return `Received ${value}`;
  if (typeof value === 'function') return `Received function ${value.name}`;
  if (typeof value === 'object') {
    const name = (value as { constructor?: { name?: string } }).constructor?.name;
    return name ? `Received an instance of ${name}` : `Received ${inspect(value, { depth: -1 })}`;
  }
  const text = inspect(value, { colors: false });
  return `Received type ${typeof value} (${text.length > 28 ? `${text.slice(0, 25)}...` : text})`;
}

/** `expected`: such as `of type number`. */
export function typeError(name: string, expected: string, value: unknown): Error {
  const what = name.includes('.') ? 'property' : 'argument';
  return codedError('ERR_INVALID_ARG_TYPE', `The "${name}" ${what} must be ${expected}. ${received(value)}`, TypeError);
}

export function valueError(name: string, reason: string, value: unknown): Error {
  const what = name.includes('.') ? 'property' : 'argument';
  const text = inspect(value);
  const short = text.length > 128 ? `${text.slice(0, 128)}...` : text;
  return codedError('ERR_INVALID_ARG_VALUE', `The ${what} '${name}' ${reason}. Received ${short}`, TypeError);
}

export function rangeError(name: string, range: string, value: unknown): Error {
  const message = `The value of "${name}" is out of range. It must be ${range}. Received ${digits(value)}`;
  return codedError('ERR_OUT_OF_RANGE', message, RangeError);
}

/** Node puts `_` between thousands of what is above 2^32. */
function digits(value: unknown): string {
  const large = (typeof value === 'number' && Number.isInteger(value)) || typeof value === 'bigint';
  if (!large || (value <= 2 ** 32 && value >= -(2 ** 32))) return inspect(value);
  const text = String(value).replaceAll(/\B(?=(\d{3})+$)/g, '_');
  return typeof value === 'bigint' ? `${text}n` : text;
}

export function integerOf(
  value: unknown,
  name: string,
  low = Number.MIN_SAFE_INTEGER,
  high = Number.MAX_SAFE_INTEGER,
): number {
  if (typeof value !== 'number') throw typeError(name, 'of type number', value);
  if (!Number.isInteger(value)) throw rangeError(name, 'an integer', value);
  if (value < low || value > high) throw rangeError(name, `>= ${low} && <= ${high}`, value);
  return value;
}

export function booleanOf(value: unknown, name: string, otherwise: boolean): boolean {
  if (value === undefined || value === null) return otherwise;
  if (typeof value !== 'boolean') throw typeError(name, 'of type boolean', value);
  return value;
}

/** A path from the share's root: a string, bytes, or a file: URL. */
export function pathOf(value: PathLike | Uint8Array, name = 'path'): SharePath {
  const path: unknown = value instanceof URL ? fileURLToPath(value) : value;
  if (typeof path !== 'string' && !(path instanceof Uint8Array)) {
    throw typeError(name, 'of type string or an instance of Buffer or URL', path);
  }
  if (path.includes('\0' as never) || (path instanceof Uint8Array && path.includes(0))) {
    throw valueError(name, 'must be a string, Uint8Array, or URL without null bytes', path);
  }
  return path;
}

/** The mode of a file that is made or changed: a number, or octal digits. */
export function modeOf(value: Mode | null | undefined, otherwise?: number, name = 'mode'): number {
  let mode: unknown = value ?? otherwise;
  if (typeof mode === 'string') {
    if (!/^[0-7]+$/.test(mode)) {
      throw valueError(name, 'must be a 32-bit unsigned integer or an octal string', mode);
    }
    mode = Number.parseInt(mode, 8);
  }
  return integerOf(mode, name, 0, UINT32_MAX);
}

/** Of open(2), from a number or letters such as `wx+`. */
export function flagsOf(value: OpenMode | null | undefined, name = 'flags'): number {
  if (value === null || value === undefined) return O_RDONLY;
  if (typeof value === 'number') return integerOf(value, name, -(2 ** 31), INT32_MAX);
  const flags = FLAGS.get(value);
  if (flags === undefined) throw valueError(name, 'is invalid', value);
  return flags;
}

/** Of chown(2); -1: stays. */
export function ownerOf(value: unknown, name: 'uid' | 'gid'): number | undefined {
  const id = integerOf(value, name, -1, UINT32_MAX);
  return id === -1 || id === UINT32_MAX ? undefined : id;
}

/** Nanoseconds since 1970. A number is seconds, as everywhere in node:fs; a negative one is now, as there. */
export function timeOf(value: TimeLike, name = 'time'): bigint {
  return nanosecondsOf(secondsOf(value, name));
}

function secondsOf(value: TimeLike, name: string): number {
  if (typeof value === 'string' && value.trim() !== '' && !Number.isNaN(Number(value))) return Number(value);
  if (typeof value === 'number' && Number.isFinite(value)) return value < 0 ? Date.now() / 1000 : value;
  if (value instanceof Date) return value.getTime() / 1000;
  throw typeError(name, 'an instance of Date or an Time in seconds', value);
}

/** As libuv has it: whole seconds down, and the rest cut to nanoseconds. */
function nanosecondsOf(seconds: number): bigint {
  if (Number.isNaN(seconds)) return 0n;
  const whole = Math.floor(seconds);
  return BigInt(whole) * 1_000_000_000n + BigInt(Math.trunc((seconds - whole) * 1e9));
}

/** Undefined: bytes are asked for. */
export type Encoding = BufferEncoding | undefined;

/** `null`, nothing and `buffer` give undefined, unless there is another default. */
export function encodingOf(value: unknown, otherwise?: BufferEncoding): Encoding {
  if (value === undefined || value === null || value === '') return otherwise;
  if (value === 'buffer') return undefined;
  if (typeof value !== 'string' || !Buffer.isEncoding(value)) {
    throw valueError('encoding', 'is invalid encoding', value);
  }
  return value;
}

/** Options, which may be the name of an encoding alone. */
export function optionsOf<T extends object>(value: T | string | null | undefined): Partial<T> & { encoding?: unknown } {
  if (value === null || value === undefined || typeof value === 'function') return {};
  if (typeof value === 'string') return { encoding: value } as Partial<T> & { encoding?: unknown };
  if (typeof value !== 'object') throw typeError('options', 'one of type string or object', value);
  return value;
}

/** What bytes are called for who asked in an encoding. */
export function textOrBytes(bytes: Uint8Array, encoding: Encoding): string | Buffer<ArrayBuffer> {
  const buffer = Buffer.from(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
  return encoding === undefined ? buffer : buffer.toString(encoding);
}

export function isView(value: unknown): value is NodeJS.ArrayBufferView {
  return ArrayBuffer.isView(value);
}

/** The same bytes as a Uint8Array. */
export function bytesOf(view: NodeJS.ArrayBufferView): Uint8Array {
  return view instanceof Uint8Array ? view : new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** What is to be written: bytes, or text in an encoding. */
export function dataOf(data: unknown, encoding: BufferEncoding, name = 'data'): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data, encoding);
  if (isView(data)) return bytesOf(data);
  throw typeError(name, 'of type string or an instance of Buffer, TypedArray, or DataView', data);
}

/** The name behind a directory, in bytes where one of them is. */
export function joined(directory: SharePath, name: SharePath): SharePath {
  if (typeof directory === 'string' && typeof name === 'string') {
    return directory.endsWith('/') || directory === '' ? `${directory}${name}` : `${directory}/${name}`;
  }
  const [front, back] = [Buffer.from(directory as string), Buffer.from(name as string)];
  return front.at(-1) === 0x2f || front.length === 0
    ? Buffer.concat([front, back])
    : Buffer.concat([front, Buffer.from('/'), back]);
}
