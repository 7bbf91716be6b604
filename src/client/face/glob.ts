/** glob: patterns walked through a share, segment by segment. */
import { constants, type Dirent, type GlobOptions } from 'node:fs';
import { posix } from 'node:path';

import { pathOf, typeError } from './arguments.ts';
import { type Caller, isCode } from './caller.ts';
import { direntOf, entriesOf } from './directory.ts';
import { textOf } from '../error.ts';
import type { Task } from '../task.ts';
import type { Attributes, DirectoryEntry } from '../volume.ts';

type Excludes = (path: string, entry: Dirent) => boolean;

interface Walk {
  readonly caller: Caller;
  readonly cwd: string;
  readonly followSymlinks: boolean;
  readonly excludes: Excludes;
  /** By path; the order is that in which they were found. */
  readonly found: Map<string, Dirent>;
  /** Folders and the segments that were looked for there. */
  readonly seen: Set<string>;
  readonly listings: Map<string, readonly DirectoryEntry[]>;
}

/** Something of a share, on the way through a pattern. */
interface Place {
  /** As the pattern names it: absolute, or from `cwd`; '' is `cwd`. */
  readonly path: string;
  readonly entry: DirectoryEntry;
}

/** Paths, or Dirents, in the order in which they are found. Relative patterns begin at `cwd`, by default `/`. */
export function* glob(
  caller: Caller,
  pattern: string | readonly string[],
  options?: GlobOptions,
): Task<(string | Dirent)[]> {
  const patterns = typeof pattern === 'string' ? [pattern] : pattern;
  if (!Array.isArray(patterns)) throw typeError('patterns', 'an instance of Array', pattern);
  for (const each of patterns) if (typeof each !== 'string') throw typeError('pattern', 'of type string', each);
  const walk: Walk = {
    caller,
    cwd: posix.resolve('/', textOf(pathOf(options?.cwd ?? '/', 'cwd'))),
    followSymlinks: options?.followSymlinks ?? false,
    excludes: excludesOf(options),
    found: new Map(),
    seen: new Set(),
    listings: new Map(),
  };
  for (const each of patterns.flatMap(alternativesOf)) yield* walked(walk, each);
  return options?.withFileTypes === true ? [...walk.found.values()] : [...walk.found.keys()];
}

function excludesOf(options: GlobOptions | undefined): Excludes {
  const exclude = options?.exclude;
  if (exclude === undefined) return () => false;
  if (typeof exclude === 'function') {
    return options?.withFileTypes === true ? (_path, entry) => exclude(entry) : (path) => exclude(posix.basename(path));
  }
  if (!Array.isArray(exclude))
    throw typeError('options.exclude', 'of type function or an instance of string[]', exclude);
  // What is below a folder and nothing else: the folder, too.
  const patterns = exclude.flatMap((each: string) => (each.endsWith('/**') ? [each, each.slice(0, -3)] : [each]));
  return (path) => patterns.some((each) => posix.matchesGlob(path, each));
}

/** `a{b,c/d}` is `ab` and `ac/d`: what a brace holds may go over several segments. */
function alternativesOf(pattern: string): string[] {
  const open = unescaped(pattern, '{', 0);
  if (open < 0) return [pattern];
  const commas: number[] = [open];
  let depth = 0;
  for (let at = open; at < pattern.length; at += 1) {
    const letter = pattern[at];
    if (letter === '\\') at += 1;
    else if (letter === '{') depth += 1;
    else if (letter === ',' && depth === 1) commas.push(at);
    else if (letter === '}') depth -= 1;
    if (depth > 0) continue;
    if (commas.length === 1) break;
    commas.push(at);
    const [before, after] = [pattern.slice(0, open), pattern.slice(at + 1)];
    return commas.slice(1).flatMap((end, index) => {
      return alternativesOf(before + pattern.slice(commas[index] + 1, end) + after);
    });
  }
  return [pattern];
}

function unescaped(text: string, letter: string, from: number): number {
  for (let at = from; at < text.length; at += 1) {
    if (text[at] === '\\') at += 1;
    else if (text[at] === letter) return at;
  }
  return -1;
}

function* walked(walk: Walk, pattern: string): Task<void> {
  const absolute = pattern.startsWith('/');
  const segments = posix
    .normalize(pattern)
    .split('/')
    .filter((each) => each !== '' && each !== '.');
  const last = segments.at(-1);
  if (last === undefined || last === '..') return;
  const start = absolute ? '/' : '';
  const entry = yield* entryAt(walk, start);
  if (entry !== undefined) yield* matched(walk, { path: start, entry }, segments, pattern.endsWith('/'));
}

/** `bare`: only directories are wanted. */
function* matched(walk: Walk, place: Place, segments: readonly string[], bare: boolean): Task<void> {
  const [segment, ...rest] = segments;
  if (segment === undefined) {
    if (!bare || isDirectory(place.entry)) found(walk, place);
    return;
  }
  const step = `${place.path}\0${segments.join('/')}\0${bare}`;
  if (walk.seen.has(step)) return;
  walk.seen.add(step);
  if (segment === '**') return yield* matchedDeep(walk, place, rest, bare);
  if (!/[*?[\]{}()!+@\\]/.test(segment)) {
    const path = below(place.path, segment);
    const entry = yield* entryAt(walk, path);
    if (entry !== undefined && !walk.excludes(path, direntAt(walk, path, entry))) {
      yield* matched(walk, { path, entry }, rest, bare);
    }
    return;
  }
  if (!(yield* isSearched(walk, place, true))) return;
  for (const entry of yield* listed(walk, place.path)) {
    const name = Buffer.from(entry.name).toString();
    if (!posix.matchesGlob(name, segment)) continue;
    const path = below(place.path, name);
    if (walk.excludes(path, direntAt(walk, path, entry))) continue;
    // Through what a pattern has found a walk goes on only where it is a directory.
    if (rest.length > 0 && !(yield* isSearched(walk, { path, entry }, false))) continue;
    yield* matched(walk, { path, entry }, rest, bare);
  }
}

/** `**`: here, and in each directory below whose name does not begin with a dot. */
function* matchedDeep(walk: Walk, place: Place, rest: readonly string[], bare: boolean): Task<void> {
  yield* matched(walk, place, rest, bare);
  if (!(yield* isSearched(walk, place, true))) return;
  for (const entry of yield* listed(walk, place.path)) {
    const name = Buffer.from(entry.name).toString();
    if (name.startsWith('.')) continue;
    const path = below(place.path, name);
    if (walk.excludes(path, direntAt(walk, path, entry))) continue;
    if (yield* isSearched(walk, { path, entry }, false)) {
      yield* matched(walk, { path, entry }, ['**', ...rest], bare);
    } else if (rest.length === 0) {
      yield* matched(walk, { path, entry }, rest, bare);
    }
  }
}

/** `named`: a pattern says this name, so that a symlink is followed. */
function* isSearched(walk: Walk, place: Place, isNamed: boolean): Task<boolean> {
  if (isDirectory(place.entry)) return true;
  const isLink = place.entry.type << 12 === constants.S_IFLNK;
  if (!isLink || !(isNamed || walk.followSymlinks)) return false;
  const attributes = yield* attributesAt(walk, place.path, true);
  return attributes !== undefined && (attributes.mode & constants.S_IFMT) === constants.S_IFDIR;
}

function isDirectory(entry: DirectoryEntry): boolean {
  return entry.type << 12 === constants.S_IFDIR;
}

function below(folder: string, name: string): string {
  return folder === '' || folder === '/' ? folder + name : `${folder}/${name}`;
}

function absoluteOf(walk: Walk, path: string): string {
  return posix.resolve(walk.cwd, path);
}

function direntAt(walk: Walk, path: string, entry: DirectoryEntry): Dirent {
  return direntOf({ ...entry, name: Buffer.from(posix.basename(path)) }, posix.dirname(absoluteOf(walk, path)), 'utf8');
}

function found(walk: Walk, { path, entry }: Place): void {
  const name = path === '' ? '.' : path;
  if (!walk.found.has(name)) walk.found.set(name, direntAt(walk, name, entry));
}

function* entryAt(walk: Walk, path: string): Task<DirectoryEntry | undefined> {
  const attributes = yield* attributesAt(walk, path, false);
  if (attributes === undefined) return undefined;
  const type = (attributes.mode & constants.S_IFMT) >> 12;
  return { name: Buffer.from(posix.basename(path)), ino: attributes.ino, type, next: 0n };
}

function* attributesAt(walk: Walk, path: string, follow: boolean): Task<Attributes | undefined> {
  try {
    return yield* walk.caller.volume.stat(absoluteOf(walk, path), follow);
  } catch (error) {
    if (isCode(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP', 'ENAMETOOLONG')) return undefined;
    throw error;
  }
}

/** A directory that may not be read has nothing for who searches. */
function* listed(walk: Walk, path: string): Task<readonly DirectoryEntry[]> {
  const absolute = absoluteOf(walk, path);
  let entries = walk.listings.get(absolute);
  if (entries === undefined) {
    try {
      entries = yield* entriesOf(walk.caller, absolute, 'scandir');
    } catch (error) {
      if (!isCode(error, 'ENOENT', 'ENOTDIR', 'EACCES')) throw error;
      entries = [];
    }
    walk.listings.set(absolute, entries);
  }
  return entries;
}
