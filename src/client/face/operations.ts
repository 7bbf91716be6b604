/** What paths of a share can be asked, as node:fs has it: arguments to a Volume's calls, its answers to results. */
import type { Mode, OpenMode, PathLike, StatFsOptions, StatOptions, TimeLike } from 'node:fs';

import {
  codedError,
  encodingOf,
  flagsOf,
  modeOf,
  optionsOf,
  pathOf,
  textOrBytes,
  timeOf,
  typeError,
} from './arguments.ts';
import { type Caller, isCode, named } from './caller.ts';
import { ownersOf } from './handle-operations.ts';
import { OpenState } from './open-state.ts';
import { statFsOf, statsOf } from './stats.ts';
import type { Task } from '../task.ts';
import type { Changes } from '../volume.ts';

type EncodingGiven = { readonly encoding?: unknown } | string | null;

/** node:fs/promises knows `throwIfNoEntry` for stat; node:fs for statSync and lstatSync. */
type StatGiven = StatOptions & { readonly throwIfNoEntry?: boolean | undefined };

function* statAs(
  caller: Caller,
  syscall: 'stat' | 'lstat',
  path: PathLike,
  options: StatGiven | undefined,
  quiet: boolean,
): Task<unknown> {
  const place = pathOf(path);
  try {
    const attributes = yield* named(syscall, caller.volume.stat(place, syscall === 'stat'), place);
    return statsOf(attributes, options?.bigint);
  } catch (error) {
    if (quiet && options?.throwIfNoEntry === false && isCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

export function stat(caller: Caller, path: PathLike, options?: StatGiven): Task<unknown> {
  return statAs(caller, 'stat', path, options, true);
}

export function lstat(caller: Caller, path: PathLike, options?: StatGiven): Task<unknown> {
  return statAs(caller, 'lstat', path, options, caller.blocks);
}

export function* statfs(caller: Caller, path: PathLike, options?: StatFsOptions): Task<unknown> {
  const place = pathOf(path);
  return statFsOf(yield* named('statfs', caller.volume.statfs(place), place), options?.bigint);
}

export function* access(caller: Caller, path: PathLike, given?: number | null): Task<void> {
  const place = pathOf(path);
  const mode: unknown = given ?? 0;
  if (typeof mode !== 'number') {
    throw codedError('ERR_INVALID_ARG_TYPE', 'mode must be int32 or null/undefined', TypeError);
  }
  if (!Number.isInteger(mode) || mode < 0 || mode > 7) {
    throw codedError('ERR_OUT_OF_RANGE', 'mode is out of range: >= 0 && <= 7', RangeError);
  }
  yield* named('access', caller.volume.access(place, mode), place);
}

export function* exists(caller: Caller, path: PathLike): Task<boolean> {
  try {
    yield* access(caller, path);
    return true;
  } catch {
    return false;
  }
}

/** Opens with letters or a number; what comes of it has a position of its own. */
export function* open(caller: Caller, path: PathLike, flags?: OpenMode | null, mode?: Mode | null): Task<OpenState> {
  const place = pathOf(path);
  const [how, permissions] = [flagsOf(flags), modeOf(mode, 0o666)];
  return new OpenState(yield* named('open', caller.volume.open(place, how, permissions), place));
}

function* change(caller: Caller, syscall: string, path: PathLike, changes: Changes): Task<void> {
  const place = pathOf(path);
  const follow = !syscall.startsWith('l');
  yield* named(syscall, caller.volume.change(place, changes, follow), place);
}

export function chmod(caller: Caller, path: PathLike, mode: Mode): Task<void> {
  return change(caller, 'chmod', path, { mode: modeOf(mode) });
}

/** Linux has no mode of a symlink to change. */
export function lchmod(_caller: Caller, _path: PathLike, _mode: Mode): Task<void> {
  throw codedError('ERR_METHOD_NOT_IMPLEMENTED', 'The lchmod() method is not implemented');
}

export function chown(caller: Caller, path: PathLike, uid: number, gid: number): Task<void> {
  return change(caller, 'chown', path, ownersOf(uid, gid));
}

export function lchown(caller: Caller, path: PathLike, uid: number, gid: number): Task<void> {
  return change(caller, 'lchown', path, ownersOf(uid, gid));
}

export function utimes(caller: Caller, path: PathLike, atime: TimeLike, mtime: TimeLike): Task<void> {
  return change(caller, 'utime', path, { atimeNs: timeOf(atime), mtimeNs: timeOf(mtime) });
}

export function lutimes(caller: Caller, path: PathLike, atime: TimeLike, mtime: TimeLike): Task<void> {
  return change(caller, 'lutime', path, { atimeNs: timeOf(atime), mtimeNs: timeOf(mtime) });
}

export function* rename(caller: Caller, from: PathLike, to: PathLike): Task<void> {
  const [source, target] = [pathOf(from, 'oldPath'), pathOf(to, 'newPath')];
  yield* named('rename', caller.volume.rename(source, target), source, target);
}

export function* link(caller: Caller, existing: PathLike, path: PathLike): Task<void> {
  const [source, target] = [pathOf(existing, 'existingPath'), pathOf(path, 'newPath')];
  yield* named('link', caller.volume.link(source, target), source, target);
}

/** `type` is for Windows. */
export function* symlink(caller: Caller, target: PathLike, path: PathLike, _type?: string | null): Task<void> {
  const [content, place] = [pathOf(target, 'target'), pathOf(path)];
  yield* named('symlink', caller.volume.symlink(content, place), content, place);
}

export function* readlink(caller: Caller, path: PathLike, options?: EncodingGiven): Task<string | Buffer> {
  const encoding = encodingOrBuffer(options);
  const place = pathOf(path);
  return textOrBytes(yield* named('readlink', caller.volume.readlink(place), place), encoding);
}

export function* realpath(caller: Caller, path: PathLike, options?: EncodingGiven): Task<string | Buffer> {
  const encoding = encodingOrBuffer(options);
  const place = pathOf(path);
  return textOrBytes(yield* named('realpath', caller.volume.realpath(place), place), encoding);
}

/** Of names: UTF-8 unless said otherwise, bytes for `buffer`. */
export function encodingOrBuffer(options: EncodingGiven | undefined): BufferEncoding | undefined {
  const { encoding } = optionsOf<{ encoding?: unknown }>(options);
  return encodingOf(encoding, 'utf8');
}

export function* unlink(caller: Caller, path: PathLike): Task<void> {
  const place = pathOf(path);
  yield* named('unlink', caller.volume.unlink(place), place);
}

export function* rmdir(caller: Caller, path: PathLike, _options?: object): Task<void> {
  const place = pathOf(path);
  yield* named('rmdir', caller.volume.rmdir(place), place);
}

interface XattrOptions {
  /** Of a symlink itself, where false. */
  readonly follow?: boolean;
}

/** getxattr(2). */
export function* getxattr(caller: Caller, path: PathLike, name: string, options?: XattrOptions): Task<Buffer> {
  const place = pathOf(path);
  const follow = options?.follow ?? true;
  return Buffer.from(yield* named('getxattr', caller.volume.getXattr(place, name, follow), place));
}

/** setxattr(2). `create` and `replace`: it must be a new one, or one that is there. */
export function* setxattr(
  caller: Caller,
  path: PathLike,
  name: string,
  value: string | NodeJS.ArrayBufferView,
  options?: XattrOptions & { readonly create?: boolean; readonly replace?: boolean },
): Task<void> {
  const place = pathOf(path);
  const bytes = typeof value === 'string' ? Buffer.from(value) : bytesIn(value);
  const flags = (options?.create === true ? XATTR_CREATE : 0) | (options?.replace === true ? XATTR_REPLACE : 0);
  const follow = options?.follow ?? true;
  yield* named('setxattr', caller.volume.setXattr(place, name, bytes, flags, follow), place);
}

const [XATTR_CREATE, XATTR_REPLACE] = [1, 2];

function bytesIn(value: NodeJS.ArrayBufferView): Uint8Array {
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  throw typeError('value', 'of type string or an instance of Buffer, TypedArray, or DataView', value);
}

/** listxattr(2). */
export function* listxattr(caller: Caller, path: PathLike, options?: XattrOptions): Task<string[]> {
  const place = pathOf(path);
  return yield* named('listxattr', caller.volume.listXattrs(place, options?.follow ?? true), place);
}

/** removexattr(2). */
export function* removexattr(caller: Caller, path: PathLike, name: string, options?: XattrOptions): Task<void> {
  const place = pathOf(path);
  yield* named('removexattr', caller.volume.removeXattr(place, name, options?.follow ?? true), place);
}
