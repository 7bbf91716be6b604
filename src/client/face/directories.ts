/** Directories of a share: mkdir, mkdtemp, readdir, opendir and rm. */
import { randomBytes } from 'node:crypto';
import { constants, type MakeDirectoryOptions, type Mode, type PathLike, type RmOptions } from 'node:fs';

import {
  booleanOf,
  integerOf,
  joined,
  modeOf,
  optionsOf,
  pathOf,
  textOrBytes,
  typeError,
  type Encoding,
} from './arguments.ts';
import { type Caller, isCode, named, parentOf, pause, systemError } from './caller.ts';
import { Dir, direntOf, entriesOf, nameOf } from './directory.ts';
import { ShareError, textOf } from '../error.ts';
import { encodingOrBuffer } from './operations.ts';
import type { Task } from '../task.ts';
import type { DirectoryEntry, SharePath } from '../volume.ts';

const ENOTDIR = -20;
const EISDIR = 21;

interface MadeHow {
  readonly mode?: Mode | null;
  readonly recursive?: boolean;
}

export function* mkdir(
  caller: Caller,
  path: PathLike,
  options?: Mode | MakeDirectoryOptions | null,
): Task<string | undefined> {
  const given: MadeHow = typeof options === 'object' && options !== null ? options : { mode: options ?? null };
  const recursive = booleanOf(given.recursive, 'options.recursive', false);
  const place = pathOf(path);
  const mode = modeOf(given.mode, 0o777);
  if (recursive) return yield* mkdirs(caller, place, mode);
  yield* named('mkdir', caller.volume.mkdir(place, mode), place);
  return undefined;
}

/** Makes what is missing on the way. Returns the first that was made. */
function* mkdirs(caller: Caller, place: SharePath, mode: number): Task<string | undefined> {
  const missing = [place];
  let first: SharePath | undefined;
  for (let path = missing.pop(); path !== undefined; path = missing.pop()) {
    try {
      yield* named('mkdir', caller.volume.mkdir(path, mode), place);
      first ??= path;
    } catch (error) {
      const parent = parentOf(path);
      if (isCode(error, 'ENOENT') && textOf(parent) !== textOf(path)) missing.push(path, parent);
      else yield* mustBeDirectory(caller, path, error, place, missing.length > 0);
    }
  }
  return first === undefined ? undefined : textOf(first);
}

/** `whole`: the path that was to be made; `isOnTheWay`: this one is on the way to it. */
function* mustBeDirectory(
  caller: Caller,
  path: SharePath,
  error: unknown,
  whole: SharePath,
  isOnTheWay: boolean,
): Task<void> {
  if (isCode(error, 'EACCES', 'ENOTDIR', 'EPERM', 'ENOENT')) throw error;
  try {
    const { mode } = yield* named('mkdir', caller.volume.stat(path, true), whole);
    if (isDirectory(mode)) return;
  } catch (other) {
    if (isOnTheWay && isCode(other, 'ENOENT')) throw new ShareError(ENOTDIR, 'mkdir', path);
    throw other;
  }
  throw error;
}

function isDirectory(mode: number): boolean {
  return (mode & constants.S_IFMT) === constants.S_IFDIR;
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';
/** As many names as glibc's mkdtemp tries are not needed: by then something is wrong. */
const NAMES_TRIED = 100;

function suffix(): string {
  return Array.from(randomBytes(6), (byte) => LETTERS[byte % LETTERS.length]).join('');
}

export function* mkdtemp(
  caller: Caller,
  prefix: PathLike,
  options?: Parameters<typeof encodingOrBuffer>[0],
): Task<string | Buffer> {
  const encoding = encodingOrBuffer(options);
  return textOrBytes(Buffer.from((yield* makeTemporary(caller, prefix)) as string), encoding);
}

function* makeTemporary(caller: Caller, prefix: PathLike): Task<SharePath> {
  const front = pathOf(prefix, 'prefix');
  for (let tried = 1; ; tried += 1) {
    const path = typeof front === 'string' ? front + suffix() : Buffer.concat([front, Buffer.from(suffix())]);
    try {
      yield* named('mkdtemp', caller.volume.mkdir(path, 0o700), path);
      return path;
    } catch (error) {
      if (!isCode(error, 'EEXIST') || tried === NAMES_TRIED) throw error;
    }
  }
}

interface ListOptions {
  readonly encoding?: unknown;
  readonly withFileTypes?: boolean;
  readonly recursive?: boolean;
  readonly bufferSize?: number;
}

/** A directory of a listing that goes down. */
interface Folder {
  /** From where the listing began; '' there. */
  readonly name: SharePath;
  /** Where symlinks were that led here: real paths. */
  readonly origins: readonly string[];
}

export function* readdir(caller: Caller, path: PathLike, options?: ListOptions | string | null): Task<unknown[]> {
  const given = optionsOf<ListOptions>(options);
  const encoding = encodingOrBuffer(options);
  const recursive = booleanOf(given.recursive, 'options.recursive', false);
  const root = pathOf(path);
  const found: unknown[] = [];
  const folders: Folder[] = [{ name: '', origins: [] }];
  for (let folder = folders.shift(); folder !== undefined; folder = folders.shift()) {
    const there = folder.name.length === 0 ? root : joined(root, folder.name);
    for (const entry of yield* entriesOf(caller, there, 'scandir')) {
      const name = joined(folder.name, nameOf(entry));
      if (recursive) folders.push(...(yield* foldersOf(caller, there, folder, name, entry)));
      if (given.withFileTypes === true) found.push(direntOf(entry, textOf(there), encoding));
      else found.push(nameIn(name, encoding));
    }
  }
  return found;
}

/** The entry, if it is a directory or leads to one. Node follows symlinks here, and round in circles; this does not. */
function* foldersOf(
  caller: Caller,
  there: SharePath,
  { origins }: Folder,
  name: SharePath,
  entry: DirectoryEntry,
): Task<Folder[]> {
  if (entry.type << 12 === constants.S_IFDIR) return [{ name, origins }];
  if (entry.type << 12 !== constants.S_IFLNK) return [];
  const path = joined(there, nameOf(entry));
  try {
    const { mode } = yield* caller.volume.stat(path, true);
    if (!isDirectory(mode)) return [];
    const target = yield* realPath(caller, path);
    const ways = [...origins, yield* realPath(caller, there)];
    const isCircle = ways.some((way) => way === target || target === '/' || way.startsWith(`${target}/`));
    return isCircle ? [] : [{ name, origins: ways }];
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR', 'ELOOP', 'EACCES')) return [];
    throw error;
  }
}

function* realPath(caller: Caller, path: SharePath): Task<string> {
  return Buffer.from(yield* caller.volume.realpath(path)).toString('latin1');
}

function nameIn(name: SharePath, encoding: Encoding): string | Buffer {
  return textOrBytes(Buffer.from(name as string), encoding);
}

export function* opendir(caller: Caller, path: PathLike, options?: ListOptions | string | null): Task<Dir> {
  const given = optionsOf<ListOptions>(options);
  const encoding = encodingOrBuffer(options);
  if (given.bufferSize !== undefined) integerOf(given.bufferSize, 'options.bufferSize', 1, 2 ** 32 - 1);
  const place = pathOf(path);
  const directory = yield* named('opendir', caller.volume.openDirectory(place), place);
  return new Dir(caller, place, directory, encoding, booleanOf(given.recursive, 'options.recursive', false));
}

interface Removal {
  readonly recursive: boolean;
  readonly force: boolean;
  readonly maxRetries: number;
  readonly retryDelayMs: number;
}

function removalOf(options: RmOptions | undefined): Removal {
  if (options !== undefined && (options === null || typeof options !== 'object')) {
    throw typeError('options', 'of type object', options);
  }
  return {
    recursive: booleanOf(options?.recursive, 'options.recursive', false),
    force: booleanOf(options?.force, 'options.force', false),
    maxRetries: integerOf(options?.maxRetries ?? 0, 'options.maxRetries', 0, 2 ** 32 - 1),
    retryDelayMs: integerOf(options?.retryDelay ?? 100, 'options.retryDelay', 0, 2 ** 31 - 1),
  };
}

export function* rm(caller: Caller, path: PathLike, options?: RmOptions): Task<void> {
  const place = pathOf(path);
  const removal = removalOf(options);
  try {
    const { mode } = yield* named('lstat', caller.volume.stat(place, false), place);
    if (isDirectory(mode) && !removal.recursive) {
      const context = { code: 'EISDIR', message: 'is a directory', path: place, syscall: 'rm', errno: EISDIR };
      throw systemError('ERR_FS_EISDIR', 'Path is a directory', context);
    }
    yield* remove(caller, place, mode, removal);
  } catch (error) {
    if (removal.force && isCode(error, 'ENOENT')) return;
    throw error;
  }
}

function* remove(caller: Caller, path: SharePath, mode: number, removal: Removal): Task<void> {
  if (!isDirectory(mode)) {
    yield* again(caller, removal, () => named('unlink', caller.volume.unlink(path), path));
    return;
  }
  yield* again(caller, removal, function* () {
    for (const entry of yield* entriesOf(caller, path, 'scandir')) {
      yield* removeEntry(caller, joined(path, nameOf(entry)), entry.type << 12, removal);
    }
    yield* named('rmdir', caller.volume.rmdir(path), path);
  });
}

/** An entry that is gone meanwhile is what was wanted. */
function* removeEntry(caller: Caller, path: SharePath, mode: number, removal: Removal): Task<void> {
  try {
    yield* remove(caller, path, mode, removal);
  } catch (error) {
    if (!isCode(error, 'ENOENT')) throw error;
  }
}

/** Tries again what another user of the tree was in the way of; each wait is longer than the one before. */
function* again(caller: Caller, removal: Removal, work: () => Task<void>): Task<void> {
  for (let retry = 1; ; retry += 1) {
    try {
      return yield* work();
    } catch (error) {
      if (retry > removal.maxRetries || !isCode(error, 'EBUSY', 'EMFILE', 'ENFILE', 'ENOTEMPTY', 'EPERM')) throw error;
    }
    yield* pause(caller, retry * removal.retryDelayMs);
  }
}
