/** What an open file does, as FileHandle and the calls with a descriptor have it. */
import type { BigIntStats, Mode, ReadPosition, StatOptions, Stats, TimeLike } from 'node:fs';

import {
  bytesOf,
  dataOf,
  integerOf,
  isView,
  modeOf,
  ownerOf,
  rangeError,
  timeOf,
  typeError,
  valueError,
} from './arguments.ts';
import { named } from './caller.ts';
import type { OpenState } from './open-state.ts';
import { statsOf } from './stats.ts';
import type { Task } from '../task.ts';
import type { Changes, OpenFile } from '../volume.ts';

const DEFAULT_BUFFER = 16384;

/** Positions of node:fs: a number or bigint; null and -1: the file's own. */
function positionOf(value: unknown, length: number): number | null {
  if (value === null || value === undefined) return null;
  if (typeof value !== 'number' && typeof value !== 'bigint') {
    throw typeError('position', 'of type bigint or integer', value);
  }
  if (typeof value === 'number' && !Number.isInteger(value)) throw rangeError('position', 'an integer', value);
  const highest = typeof value === 'bigint' ? 2n ** 63n - 1n - BigInt(length) : Number.MAX_SAFE_INTEGER;
  if (value < -1 || value > highest) {
    const unit = typeof value === 'bigint' ? 'n' : '';
    throw rangeError('position', `>= -1${unit} && <= ${highest}${unit}`, value);
  }
  const position = Number(value);
  return position === -1 ? null : position;
}

interface ReadArguments {
  readonly buffer: NodeJS.ArrayBufferView;
  readonly offset: number;
  readonly length: number;
  readonly position: unknown;
}

type ReadOptions = {
  readonly buffer?: NodeJS.ArrayBufferView;
  readonly offset?: number | null;
  readonly length?: number | null;
  readonly position?: ReadPosition | null;
};

/** The three ways to call read(): buffer and numbers, buffer and options, options alone. */
function readArguments(first: unknown, second: unknown, third: unknown, fourth: unknown): ReadArguments {
  let options: ReadOptions = { offset: second as number, length: third as number, position: fourth as ReadPosition };
  if (second !== null && typeof second === 'object') options = second;
  let buffer = first;
  if (!isView(first)) {
    if (first !== undefined && first !== null && typeof first !== 'object') {
      throw typeError('options', 'of type object', first);
    }
    options = first ?? {};
    buffer = options.buffer === undefined ? Buffer.alloc(DEFAULT_BUFFER) : options.buffer;
  }
  if (!isView(buffer)) {
    throw typeError('buffer', 'an instance of Buffer, TypedArray, or DataView', buffer);
  }
  const offset = integerOf(options.offset ?? 0, 'offset', 0);
  const length = options.length ?? buffer.byteLength - offset;
  return { buffer, offset, length, position: options.position };
}

interface BytesRead<T> {
  bytesRead: number;
  buffer: T;
}

/** FileHandle.read(), in its three forms. */
export function* read(
  state: OpenState,
  first?: unknown,
  second?: unknown,
  third?: unknown,
  fourth?: unknown,
): Task<BytesRead<NodeJS.ArrayBufferView>> {
  const file = state.file('read');
  const { buffer, offset, length, position } = readArguments(first, second, third, fourth);
  if (length === 0) return { bytesRead: 0, buffer };
  if (buffer.byteLength === 0) throw valueError('buffer', 'is empty and cannot be written', buffer);
  if (length < 0) throw rangeError('length', '>= 0', length);
  if (offset + length > buffer.byteLength) throw rangeError('length', `<= ${buffer.byteLength - offset}`, length);
  const into = bytesOf(buffer).subarray(offset, offset + length);
  const bytesRead = yield* readAt(state, file, into, positionOf(position, length));
  return { bytesRead, buffer };
}

function* readAt(state: OpenState, file: OpenFile, into: Uint8Array, position: number | null): Task<number> {
  if (position !== null) return yield* named('read', file.read(into, position));
  return yield* state.inTurn(function* (from) {
    const result = yield* named('read', file.read(into, from));
    return { result, next: from + result };
  });
}

function* writeAt(state: OpenState, file: OpenFile, bytes: Uint8Array, position: number | null): Task<number> {
  if (position !== null) return yield* named('write', file.write(bytes, position));
  return yield* state.inTurn(function* (from) {
    const result = yield* named('write', file.write(bytes, from));
    return { result, next: (file.flags & O_APPEND) === 0 ? from + result : 'end' };
  });
}

const O_APPEND = 0o2000;

interface BytesWritten<T> {
  bytesWritten: number;
  buffer: T;
}

/** FileHandle.write(): bytes, with numbers or options; or a string, with position and encoding. */
export function* write(
  state: OpenState,
  data: unknown,
  second?: unknown,
  third?: unknown,
  fourth?: unknown,
): Task<BytesWritten<unknown>> {
  const file = state.file('write');
  if (!isView(data)) {
    // An encoding that is none is UTF-8, here alone.
    const bytes = dataOf(data, Buffer.isEncoding(third as string) ? (third as BufferEncoding) : 'utf8', 'buffer');
    const bytesWritten = yield* writeAt(state, file, bytes, typeof second === 'number' ? second : null);
    return { bytesWritten, buffer: data };
  }
  if (data.byteLength === 0) return { bytesWritten: 0, buffer: data };
  const options = second !== null && typeof second === 'object' ? (second as ReadOptions) : undefined;
  const offset = integerOf((options === undefined ? second : options.offset) ?? 0, 'offset', 0);
  const given: unknown = options === undefined ? third : options.length;
  const length = typeof given === 'number' ? given : data.byteLength - offset;
  const position: unknown = options === undefined ? fourth : options.position;
  if (offset > data.byteLength) throw rangeError('offset', `<= ${data.byteLength}`, offset);
  if (length > data.byteLength - offset) throw rangeError('length', `<= ${data.byteLength - offset}`, length);
  if (length < 0) throw rangeError('length', '>= 0', length);
  integerOf(length, 'length', 0, 2 ** 31 - 1);
  const from = bytesOf(data).subarray(offset, offset + length);
  const at = typeof position === 'number' && position >= 0 ? position : null;
  return { bytesWritten: yield* writeAt(state, file, from, at), buffer: data };
}

function viewsOf(buffers: unknown): readonly NodeJS.ArrayBufferView[] {
  if (!Array.isArray(buffers) || !buffers.every((each) => isView(each))) {
    throw typeError('buffers', 'an ArrayBufferView[]', buffers);
  }
  return buffers;
}

/** One after another; a short read is the last. */
export function* readv<T extends readonly NodeJS.ArrayBufferView[]>(
  state: OpenState,
  buffers: T,
  position?: number | null,
): Task<{ bytesRead: number; buffers: T }> {
  const file = state.file('readv');
  let bytesRead = 0;
  for (const view of viewsOf(buffers)) {
    const at = typeof position === 'number' ? position + bytesRead : null;
    const bytes = view.byteLength === 0 ? 0 : yield* readAt(state, file, bytesOf(view), at);
    bytesRead += bytes;
    if (bytes < view.byteLength) break;
  }
  return { bytesRead, buffers };
}

/** All of them in one write, so that nobody sees a part. */
export function* writev<T extends readonly NodeJS.ArrayBufferView[]>(
  state: OpenState,
  buffers: T,
  position?: number | null,
): Task<{ bytesWritten: number; buffers: T }> {
  const file = state.file('writev');
  const bytes = Buffer.concat(viewsOf(buffers).map(bytesOf));
  if (bytes.length === 0) return { bytesWritten: 0, buffers };
  const at = typeof position === 'number' ? position : null;
  return { bytesWritten: yield* writeAt(state, file, bytes, at), buffers };
}

export function* stat(state: OpenState, options?: StatOptions): Task<Stats | BigIntStats> {
  return statsOf(yield* named('fstat', state.file('fstat').stat()), options?.bigint);
}

function* change(state: OpenState, syscall: string, changes: Changes): Task<void> {
  yield* named(syscall, state.file(syscall).change(changes));
}

export function chmod(state: OpenState, mode: Mode): Task<void> {
  return change(state, 'fchmod', { mode: modeOf(mode) });
}

export function chown(state: OpenState, uid: number, gid: number): Task<void> {
  return change(state, 'fchown', ownersOf(uid, gid));
}

export function utimes(state: OpenState, atime: TimeLike, mtime: TimeLike): Task<void> {
  state.file('futimes');
  return change(state, 'futime', { atimeNs: timeOf(atime, 'atime'), mtimeNs: timeOf(mtime, 'mtime') });
}

export function* truncate(state: OpenState, length: number | null = 0): Task<void> {
  const size = Math.max(0, integerOf(length ?? 0, 'len'));
  yield* change(state, 'ftruncate', { size });
}

export function* sync(state: OpenState): Task<void> {
  yield* named('fsync', state.file('fsync').sync(false));
}

export function* datasync(state: OpenState): Task<void> {
  yield* named('fdatasync', state.file('fdatasync').sync(true));
}

export function* close(state: OpenState): Task<void> {
  yield* named('close', state.close());
}

/** Changes of chown(2); who stays is not among them. */
export function ownersOf(uid: unknown, gid: unknown): Changes {
  const [owner, group] = [ownerOf(uid, 'uid'), ownerOf(gid, 'gid')];
  return { ...(owner === undefined ? {} : { uid: owner }), ...(group === undefined ? {} : { gid: group }) };
}
