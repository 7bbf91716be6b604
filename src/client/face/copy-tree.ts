/** cp: trees copied within a share, with the rules of node:fs. */
import { constants, type CopyOptions } from 'node:fs';
import { posix } from 'node:path';

import { booleanOf, codedError, pathOf, typeError } from './arguments.ts';
import { type Caller, isCode, named, settled, systemError } from './caller.ts';
import { entriesOf } from './directory.ts';
import { mkdir } from './directories.ts';
import { textOf } from '../error.ts';
import type { Task } from '../task.ts';
import type { Attributes } from '../volume.ts';
import { copyFile, isSameFile } from './whole-files.ts';

const [ENOTDIR, EISDIR, EINVAL, EEXIST] = [20, 21, 22, 17];

interface CopyHow {
  readonly caller: Caller;
  readonly dereference: boolean;
  readonly errorOnExist: boolean;
  readonly force: boolean;
  readonly preserveTimestamps: boolean;
  readonly recursive: boolean;
  readonly verbatimSymlinks: boolean;
  readonly mode: number;
  readonly filter: CopyOptions['filter'];
}

function howOf(caller: Caller, options: CopyOptions | undefined): CopyHow {
  const given = options ?? {};
  if (typeof given !== 'object') throw typeError('options', 'of type object', given);
  if (given.filter !== undefined && typeof given.filter !== 'function') {
    throw typeError('options.filter', 'of type function', given.filter);
  }
  if (given.dereference === true && given.verbatimSymlinks === true) {
    const message = 'Option "dereference" cannot be used in combination with option "verbatimSymlinks"';
    throw codedError('ERR_INCOMPATIBLE_OPTION_PAIR', message, TypeError);
  }
  return {
    caller,
    dereference: booleanOf(given.dereference, 'options.dereference', false),
    errorOnExist: booleanOf(given.errorOnExist, 'options.errorOnExist', false),
    force: booleanOf(given.force, 'options.force', true),
    preserveTimestamps: booleanOf(given.preserveTimestamps, 'options.preserveTimestamps', false),
    recursive: booleanOf(given.recursive, 'options.recursive', false),
    verbatimSymlinks: booleanOf(given.verbatimSymlinks, 'options.verbatimSymlinks', false),
    mode: given.mode ?? 0,
    filter: given.filter,
  };
}

export function* cp(caller: Caller, source: string | URL, target: string | URL, options?: CopyOptions): Task<void> {
  const how = howOf(caller, options);
  const [from, to] = [textOf(pathOf(source, 'src')), textOf(pathOf(target, 'dest'))];
  const pair = yield* checked(how, from, to);
  if (pair === undefined) return;
  yield* refuseInside(how, pair);
  yield* mkdir(caller, posix.dirname(fromRoot(to)), { recursive: true });
  yield* copied(how, pair);
}

/** What is copied, where to, and what is there. */
interface Pair {
  readonly from: string;
  readonly to: string;
  readonly source: Attributes;
  readonly target: Attributes | undefined;
}

function kindOf(attributes: Attributes | undefined): number | undefined {
  return attributes === undefined ? undefined : attributes.mode & constants.S_IFMT;
}

function failure(code: string, prefix: string, errno: readonly [string, number], message: string, path: string): Error {
  return systemError(code, prefix, { message, path, syscall: 'cp', code: errno[0], errno: errno[1] });
}

function invalid(message: string, path: string): Error {
  return failure('ERR_FS_CP_EINVAL', 'Invalid src or dest', ['EINVAL', EINVAL], message, path);
}

/** Undefined: the filter does not want it. */
function* checked(how: CopyHow, from: string, to: string): Task<Pair | undefined> {
  if (!(yield* wanted(how, from, to))) return undefined;
  const source = yield* looked(how, from);
  const target = yield* lookedIfThere(how, to);
  const [isDirectory, overDirectory] = [source, target].map((each) => kindOf(each) === constants.S_IFDIR);
  if (target !== undefined) {
    if (isSameFile(source, target)) throw invalid('src and dest cannot be the same', to);
    if (isDirectory && !overDirectory) {
      const message = `cannot overwrite non-directory ${to} with directory ${from}`;
      const prefix = 'Cannot overwrite non-directory with directory';
      throw failure('ERR_FS_CP_DIR_TO_NON_DIR', prefix, ['EISDIR', EISDIR], message, to);
    }
    if (!isDirectory && overDirectory) {
      const message = `cannot overwrite directory ${to} with non-directory ${from}`;
      const prefix = 'Cannot overwrite directory with non-directory';
      throw failure('ERR_FS_CP_NON_DIR_TO_DIR', prefix, ['ENOTDIR', ENOTDIR], message, to);
    }
  }
  if (isDirectory && isInside(from, to)) {
    throw invalid(`cannot copy ${from} to a subdirectory of self ${to}`, to);
  }
  return { from, to, source, target };
}

function* wanted(how: CopyHow, from: string, to: string): Task<boolean> {
  if (how.filter === undefined) return true;
  const answer = how.filter(from, to);
  if (typeof answer === 'boolean') return answer;
  if (!(answer instanceof Promise)) return Boolean(answer);
  if (!how.caller.blocks) return yield* settled(answer);
  const message = 'Expected boolean to be returned from the "filter" function but got an instance of Promise.';
  throw codedError('ERR_INVALID_RETURN_VALUE', message, TypeError);
}

function looked(how: CopyHow, path: string): Task<Attributes> {
  return named(how.dereference ? 'stat' : 'lstat', how.caller.volume.stat(path, how.dereference), path);
}

function* lookedIfThere(how: CopyHow, path: string): Task<Attributes | undefined> {
  try {
    return yield* looked(how, path);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function fromRoot(path: string): string {
  return posix.resolve('/', path);
}

function isInside(folder: string, path: string): boolean {
  const [outer, inner] = [fromRoot(folder), fromRoot(path)];
  return inner === outer || inner.startsWith(outer === '/' ? outer : `${outer}/`);
}

/** A directory is not copied into itself, whatever symlinks lead there. */
function* refuseInside(how: CopyHow, { from, to, source }: Pair): Task<void> {
  const parentOfSource = posix.dirname(fromRoot(from));
  for (let parent = posix.dirname(fromRoot(to)); parent !== parentOfSource; parent = posix.dirname(parent)) {
    if (parent === '/') return;
    const attributes = yield* attributesOf(how.caller, parent);
    if (attributes !== undefined && isSameFile(attributes, source)) {
      throw invalid(`cannot copy ${from} to a subdirectory of self ${to}`, to);
    }
  }
}

function* attributesOf(caller: Caller, path: string): Task<Attributes | undefined> {
  try {
    return yield* named('stat', caller.volume.stat(path, true), path);
  } catch (error) {
    if (isCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

function* copied(how: CopyHow, pair: Pair): Task<void> {
  const { from, to } = pair;
  switch (pair.source.mode & constants.S_IFMT) {
    case constants.S_IFDIR:
      if (!how.recursive) {
        const message = `${from} is a directory (not copied)`;
        throw failure('ERR_FS_EISDIR', 'Path is a directory', ['EISDIR', EISDIR], message, from);
      }
      return yield* copiedDirectory(how, pair);
    case constants.S_IFREG:
    case constants.S_IFCHR:
    case constants.S_IFBLK:
      return yield* copiedFile(how, pair);
    case constants.S_IFLNK:
      return yield* copiedLink(how, pair);
    case constants.S_IFSOCK: {
      const message = `cannot copy a socket file: ${to}`;
      throw failure('ERR_FS_CP_SOCKET', 'Cannot copy a socket file', ['EINVAL', EINVAL], message, to);
    }
    case constants.S_IFIFO: {
      const message = `cannot copy a FIFO pipe: ${to}`;
      throw failure('ERR_FS_CP_FIFO_PIPE', 'Cannot copy a FIFO pipe', ['EINVAL', EINVAL], message, to);
    }
    default: {
      const message = `cannot copy an unknown file type: ${to}`;
      throw failure('ERR_FS_CP_UNKNOWN', 'Cannot copy an unknown file type', ['EINVAL', EINVAL], message, to);
    }
  }
}

function* copiedDirectory(how: CopyHow, { from, to, source, target }: Pair): Task<void> {
  const { volume } = how.caller;
  if (target === undefined) yield* named('mkdir', volume.mkdir(to, 0o777), to);
  for (const entry of yield* entriesOf(how.caller, from, 'opendir')) {
    const name = Buffer.from(entry.name).toString();
    const pair = yield* checked(how, posix.join(from, name), posix.join(to, name));
    if (pair !== undefined) yield* copied(how, pair);
  }
  if (target === undefined) yield* named('chmod', volume.change(to, { mode: source.mode & 0o7777 }, true), to);
}

function* copiedFile(how: CopyHow, { from, to, source, target }: Pair): Task<void> {
  const { volume } = how.caller;
  if (target !== undefined) {
    if (!how.force) {
      if (!how.errorOnExist) return;
      const message = `${to} already exists`;
      throw failure('ERR_FS_CP_EEXIST', 'Target already exists', ['EEXIST', EEXIST], message, to);
    }
    yield* named('unlink', volume.unlink(to), to);
  }
  yield* copyFile(how.caller, from, to, how.mode);
  if (!how.preserveTimestamps) return;
  // Reading it has changed its atime.
  const { atimeNs, mtimeNs } = yield* named('stat', volume.stat(from, true), from);
  yield* named('utime', volume.change(to, { atimeNs, mtimeNs }, true), to);
  yield* named('chmod', volume.change(to, { mode: source.mode & 0o7777 }, true), to);
}

function* copiedLink(how: CopyHow, { from, to, target }: Pair): Task<void> {
  const { volume } = how.caller;
  const content = yield* linkAt(how, from, how.verbatimSymlinks);
  if (target === undefined) {
    yield* named('symlink', volume.symlink(content, to), content, to);
    return;
  }
  if (kindOf(target) === constants.S_IFLNK) {
    const there = yield* linkAt(how, to, false);
    const absolute = posix.resolve(posix.dirname(fromRoot(from)), content);
    const attributes = yield* attributesOf(how.caller, from);
    if (kindOf(attributes) === constants.S_IFDIR) {
      if (absolute !== there && isInside(absolute, there)) {
        throw invalid(`cannot copy ${content} to a subdirectory of self ${there}`, to);
      }
      if (absolute !== there && isInside(there, absolute)) {
        const prefix = 'Cannot overwrite symlink in subdirectory of self';
        const message = `cannot overwrite ${there} with ${content}`;
        throw failure('ERR_FS_CP_SYMLINK_TO_SUBDIRECTORY', prefix, ['EINVAL', EINVAL], message, to);
      }
    }
    yield* named('unlink', volume.unlink(to), to);
  }
  yield* named('symlink', volume.symlink(content, to), content, to);
}

/** What a symlink says: as it is, or as an absolute path. */
function* linkAt(how: CopyHow, path: string, verbatim: boolean): Task<string> {
  const content = textOf(yield* named('readlink', how.caller.volume.readlink(path), path));
  return verbatim ? content : posix.resolve(posix.dirname(fromRoot(path)), content);
}
