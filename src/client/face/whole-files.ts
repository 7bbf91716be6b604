/** Whole files: readFile, writeFile, appendFile, copyFile and truncate. */
import { constants, type Mode, type OpenMode, type PathLike } from 'node:fs';

import {
  booleanOf,
  bytesOf,
  codedError,
  dataOf,
  encodingOf,
  flagsOf,
  integerOf,
  isView,
  modeOf,
  optionsOf,
  pathOf,
  textOrBytes,
  throwIfAborted,
  typeError,
  valueError,
} from './arguments.ts';
import { type Caller, isCode, named, settled } from './caller.ts';
import { ShareError } from '../error.ts';
import { truncate as truncateOpen } from './handle-operations.ts';
import { OpenState } from './open-state.ts';
import type { Task } from '../task.ts';
import type { Attributes, OpenFile, SharePath } from '../volume.ts';

/** Pieces in which whole files go; between two of them a signal is looked at. */
const PIECE = 1 << 20;
/** How much more is asked for, of a file that does not say how large it is. */
const UNKNOWN_PIECE = 1 << 16;

const { COPYFILE_EXCL, COPYFILE_FICLONE, COPYFILE_FICLONE_FORCE, O_CREAT, O_EXCL, O_WRONLY } = constants;
const { S_IFDIR, S_IFMT, S_IFREG } = constants;

interface ReadOptions {
  readonly encoding?: unknown;
  readonly flag?: OpenMode;
  readonly signal?: AbortSignal;
  readonly buffer?: NodeJS.ArrayBufferView | ((size: number) => NodeJS.ArrayBufferView);
}

interface WriteOptions {
  readonly encoding?: unknown;
  readonly mode?: Mode;
  readonly flag?: OpenMode;
  readonly flush?: boolean;
  readonly signal?: AbortSignal;
}

type Target = PathLike | object | number;
type Given<T> = T | string | null;

/** Opens, works, closes. An error of the work comes before one of close. */
export function* withOpen<T>(
  caller: Caller,
  path: SharePath,
  flags: number,
  mode: number,
  work: (state: OpenState) => Task<T>,
): Task<T> {
  const state = new OpenState(yield* named('open', caller.volume.open(path, flags, mode), path));
  let result: T;
  try {
    result = yield* work(state);
  } catch (error) {
    yield* closeQuietly(state);
    throw error;
  }
  yield* named('close', state.close());
  return result;
}

/** Another error is on its way to the caller, who learns of that one. */
function* closeQuietly(state: OpenState): Task<void> {
  try {
    yield* state.close();
  } catch (error) {
    if (!(error instanceof ShareError)) throw error;
  }
}

export function* readFile(caller: Caller, target: Target, options?: Given<ReadOptions>): Task<unknown> {
  const given = optionsOf<ReadOptions>(options);
  encodingOf(given.encoding);
  const opened = caller.opened(target);
  if (opened !== undefined) return yield* readOpenFile(opened, options);
  const path = pathOf(target as PathLike);
  const flags = flagsOf(given.flag ?? 'r');
  throwIfAborted(given.signal);
  return yield* withOpen(caller, path, flags, 0o666, (state) => readOpenFile(state, options, path));
}

/** From the position of the file to its end. `path`: for errors. */
export function* readOpenFile(state: OpenState, options?: Given<ReadOptions>, path?: SharePath): Task<unknown> {
  const given = optionsOf<ReadOptions>(options);
  const encoding = encodingOf(given.encoding);
  throwIfAborted(given.signal);
  const file = state.file('readFile');
  const { size, mode } = yield* named('fstat', file.stat(), path);
  const known = (mode & S_IFMT) === S_IFREG ? Number(size) : 0;
  throwIfAborted(given.signal);
  if (given.buffer !== undefined) {
    const bytes = yield* readInto(state, file, given.buffer, known, given.signal, path);
    return encoding === undefined ? bytes : textOrBytes(bytes, encoding);
  }
  const pieces: Uint8Array[] = [];
  // Of a file whose size is known the end is not asked for.
  let left = known;
  for (;;) {
    const piece = Buffer.allocUnsafeSlow(known === 0 ? UNKNOWN_PIECE : Math.min(PIECE, left));
    const bytes = yield* readNext(state, file, piece, path);
    throwIfAborted(given.signal);
    pieces.push(piece.subarray(0, bytes));
    left -= bytes;
    if (bytes === 0 || (known > 0 && left <= 0)) break;
  }
  return textOrBytes(pieces.length === 1 ? pieces[0] : Buffer.concat(pieces), encoding);
}

function* readNext(state: OpenState, file: OpenFile, into: Uint8Array, path?: SharePath): Task<number> {
  return yield* state.inTurn(function* (position) {
    const result = yield* named('read', file.read(into, position), path);
    return { result, next: position + result };
  });
}

/** Into a caller's buffer: what was read, as a view of it. */
function* readInto(
  state: OpenState,
  file: OpenFile,
  buffer: NonNullable<ReadOptions['buffer']>,
  size: number,
  signal: AbortSignal | undefined,
  path: SharePath | undefined,
): Task<Uint8Array> {
  const view: unknown = typeof buffer === 'function' ? buffer(size) : buffer;
  if (!isView(view)) {
    throw typeError('options.buffer', 'of type function or an instance of Buffer, TypedArray, or DataView', view);
  }
  if (view.byteLength < size) {
    throw valueError('options.buffer.byteLength', `is smaller than the file size of ${size} bytes`, view.byteLength);
  }
  const into = Buffer.from(view.buffer as ArrayBuffer, view.byteOffset, view.byteLength);
  let length = 0;
  while (length < into.length) {
    const bytes = yield* readNext(state, file, into.subarray(length, length + PIECE), path);
    throwIfAborted(signal);
    if (bytes === 0) break;
    length += bytes;
  }
  return into.subarray(0, length);
}

type Pieces = Iterable<unknown> | AsyncIterable<unknown>;

function isPieces(data: unknown): data is Pieces {
  if (data === null || typeof data !== 'object' || isView(data)) return false;
  return Symbol.asyncIterator in data || Symbol.iterator in data;
}

export function writeFile(caller: Caller, target: Target, data: unknown, options?: Given<WriteOptions>): Task<void> {
  return writeWhole(caller, target, data, options, 'w');
}

export function appendFile(caller: Caller, target: Target, data: unknown, options?: Given<WriteOptions>): Task<void> {
  return writeWhole(caller, target, data, options, 'a');
}

function* writeWhole(
  caller: Caller,
  target: Target,
  data: unknown,
  options: Given<WriteOptions> | undefined,
  letters: string,
): Task<void> {
  const given = optionsOf<WriteOptions>(options);
  const flush = booleanOf(given.flush, 'options.flush', false);
  const encoding = encodingOf(given.encoding, 'utf8') ?? 'utf8';
  const content = isPieces(data) && !caller.blocks ? data : dataOf(data, encoding);
  throwIfAborted(given.signal);
  const work = (state: OpenState) => writeContent(state, content, encoding, given.signal);
  const opened = caller.opened(target);
  if (opened !== undefined) return yield* work(opened);
  const path = pathOf(target as PathLike);
  const [flags, mode] = [flagsOf(given.flag ?? letters), modeOf(given.mode, 0o666)];
  yield* withOpen(caller, path, flags, mode, function* (state) {
    yield* work(state);
    if (flush) yield* named('fsync', state.file('fsync').sync(false));
  });
}

/** FileHandle.writeFile() and appendFile(): from the position of the file on. */
export function* writeOpenFile(state: OpenState, data: unknown, options?: Given<WriteOptions>): Task<void> {
  const given = optionsOf<WriteOptions>(options);
  const encoding = encodingOf(given.encoding, 'utf8') ?? 'utf8';
  const content = isPieces(data) ? data : dataOf(data, encoding);
  throwIfAborted(given.signal);
  yield* writeContent(state, content, encoding, given.signal);
}

function* writeContent(
  state: OpenState,
  content: Uint8Array | Pieces,
  encoding: BufferEncoding,
  signal: AbortSignal | undefined,
): Task<void> {
  const file = state.file('writeFile');
  if (content instanceof Uint8Array) {
    yield* writeBytes(state, file, content, signal);
    return;
  }
  const iterator = Symbol.asyncIterator in content ? content[Symbol.asyncIterator]() : content[Symbol.iterator]();
  let ended = false;
  try {
    for (;;) {
      const step = yield* settled(Promise.resolve(iterator.next()));
      ended = step.done === true;
      if (step.done === true) return;
      throwIfAborted(signal);
      const piece: unknown = yield* settled(Promise.resolve(step.value));
      const bytes = isView(piece) ? bytesOf(piece) : Buffer.from(piece as string, encoding);
      yield* writeBytes(state, file, bytes, signal);
    }
  } catch (error) {
    if (!ended) yield* settled(Promise.resolve(iterator.return?.()));
    throw error;
  }
}

function* writeBytes(state: OpenState, file: OpenFile, bytes: Uint8Array, signal: AbortSignal | undefined): Task<void> {
  for (let at = 0; at < bytes.length; ) {
    throwIfAborted(signal);
    const piece = bytes.subarray(at, at + PIECE);
    at += yield* state.inTurn(function* (position) {
      const result = yield* named('write', file.write(piece, position));
      return { result, next: (file.flags & constants.O_APPEND) === 0 ? position + result : ('end' as const) };
    });
  }
  throwIfAborted(signal);
}

export function* truncate(caller: Caller, target: Target, length?: number | null): Task<void> {
  const size = integerOf(length ?? 0, 'len');
  const path = pathOf(target as PathLike);
  yield* withOpen(caller, path, flagsOf('r+'), 0o666, (state) => truncateOpen(state, size));
}

/** By the daemon where it can (COPY_FILE_RANGE), and by reading and writing where it cannot. */
export function* copyFile(caller: Caller, source: PathLike, target: PathLike, mode = 0): Task<void> {
  const [from, to] = [pathOf(source, 'src'), pathOf(target, 'dest')];
  const how = copyModeOf(mode);
  yield* named('copyfile', copied(caller, from, to, how), from, to);
}

function copyModeOf(mode: unknown): number {
  const highest = COPYFILE_EXCL | COPYFILE_FICLONE | COPYFILE_FICLONE_FORCE;
  if (typeof mode !== 'number') {
    throw codedError('ERR_INVALID_ARG_TYPE', 'mode must be int32 or null/undefined', TypeError);
  }
  if (!Number.isInteger(mode) || mode < 0 || mode > highest) {
    throw codedError('ERR_OUT_OF_RANGE', `mode is out of range: >= 0 && <= ${highest}`, RangeError);
  }
  return mode;
}

const [EISDIR, EOPNOTSUPP] = [-21, -95];

function* copied(caller: Caller, from: SharePath, to: SharePath, how: number): Task<void> {
  yield* withOpen(caller, from, constants.O_RDONLY, 0, function* (source) {
    const file = source.file('copyfile');
    const { mode, size } = yield* file.stat();
    if ((mode & S_IFMT) === S_IFDIR) throw new ShareError(EISDIR, 'copyfile', from, to);
    // A clone of the blocks cannot be asked for in FUSE; to have none is what FICLONE alone allows.
    if ((how & COPYFILE_FICLONE_FORCE) !== 0) throw new ShareError(EOPNOTSUPP, 'copyfile', from, to);
    const exclusive = (how & COPYFILE_EXCL) === 0 ? 0 : O_EXCL;
    const permissions = mode & 0o7777;
    yield* withOpen(caller, to, O_WRONLY | O_CREAT | exclusive, permissions, function* (target) {
      const there = target.file('copyfile');
      const before = yield* there.stat();
      if (isSameFile(before, yield* file.stat())) return;
      try {
        if (before.size > 0n) yield* there.change({ size: 0 });
        yield* copyContent(file, there, Number(size));
        yield* there.change({ mode: permissions });
      } catch (error) {
        // As libuv does: half a copy is none.
        yield* unlinkQuietly(caller, to);
        throw error;
      }
    });
  });
}

/** Without a device, an inode's number alone does not say: there may be file systems mounted in a share. */
export function isSameFile(one: Attributes, other: Attributes): boolean {
  return one.ino === other.ino && one.ctimeNs === other.ctimeNs && one.mode === other.mode && one.size === other.size;
}

function* unlinkQuietly(caller: Caller, path: SharePath): Task<void> {
  try {
    yield* caller.volume.unlink(path);
  } catch (error) {
    if (!(error instanceof ShareError)) throw error;
  }
}

/** The largest length that Linux copies at once. */
const COPY_PIECE = 0x7ffff000;

function* copyContent(from: OpenFile, to: OpenFile, size: number): Task<void> {
  let at = 0;
  try {
    while (at < size) {
      const bytes = yield* from.copyTo(to, at, at, Math.min(size - at, COPY_PIECE));
      if (bytes === 0) break;
      at += bytes;
    }
  } catch (error) {
    if (!isCode(error, 'EXDEV', 'ENOSYS', 'EOPNOTSUPP', 'ENOTSUP', 'EINVAL')) throw error;
  }
  // What is left, and what a file holds that does not say its size.
  const piece = Buffer.allocUnsafeSlow(Math.min(PIECE, Math.max(UNKNOWN_PIECE, size - at)));
  for (;;) {
    const bytes = yield* from.read(piece, at);
    if (bytes === 0) return;
    at += yield* to.write(piece.subarray(0, bytes), at);
  }
}
