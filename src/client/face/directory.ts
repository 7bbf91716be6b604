/** Directories as node:fs shows them: Dirent and Dir. */
import { constants, type Dir as NodeDir, type Dirent as NodeDirent } from 'node:fs';
import { callbackify } from 'node:util';

import { codedError, type Encoding, joined, textOrBytes } from './arguments.ts';
import { type Caller, named } from './caller.ts';
import { finished, promised, type Task } from '../task.ts';
import type { DirectoryEntry, OpenDirectory, SharePath } from '../volume.ts';

/** An entry of a directory. */
export class Dirent<Name extends string | Buffer = string> implements NodeDirent<Name> {
  readonly name: Name;
  /** The directory, as it was named by who asked. */
  readonly parentPath: string;
  readonly #type: number;

  /** `type`: DT_*. */
  constructor(name: Name, parentPath: string, type: number) {
    this.name = name;
    this.parentPath = parentPath;
    this.#type = type << 12;
  }

  isFile(): boolean {
    return this.#type === constants.S_IFREG;
  }

  isDirectory(): boolean {
    return this.#type === constants.S_IFDIR;
  }

  isSymbolicLink(): boolean {
    return this.#type === constants.S_IFLNK;
  }

  isBlockDevice(): boolean {
    return this.#type === constants.S_IFBLK;
  }

  isCharacterDevice(): boolean {
    return this.#type === constants.S_IFCHR;
  }

  isFIFO(): boolean {
    return this.#type === constants.S_IFIFO;
  }

  isSocket(): boolean {
    return this.#type === constants.S_IFSOCK;
  }
}

/** What is in a directory, in order, one after another. It is closed in the end. */
export function* entriesOf(caller: Caller, path: SharePath, syscall: string): Task<DirectoryEntry[]> {
  const directory = yield* named(syscall, caller.volume.openDirectory(path), path);
  const entries: DirectoryEntry[] = [];
  try {
    for (let position = 0n; ; ) {
      const some = yield* named(syscall, directory.read(position), path);
      if (some.length === 0) return yield* typed(caller, path, entries);
      entries.push(...some);
      position = some.at(-1)!.next;
    }
  } finally {
    yield* directory.close();
  }
}

/** Entries of which the daemon did not say the type are looked at, one by one. */
function* typed(caller: Caller, path: SharePath, entries: readonly DirectoryEntry[]): Task<DirectoryEntry[]> {
  const known: DirectoryEntry[] = [];
  for (const entry of entries) known.push(yield* withType(caller, path, entry));
  return known;
}

function* withType(caller: Caller, path: SharePath, entry: DirectoryEntry): Task<DirectoryEntry> {
  if (entry.type !== 0) return entry;
  const there = joined(path, Buffer.from(entry.name));
  const { mode } = yield* named('lstat', caller.volume.stat(there, false), there);
  return { ...entry, type: (mode & constants.S_IFMT) >> 12 };
}

/** Whether a name stands for an entry of its own. */
export function direntOf(entry: DirectoryEntry, parentPath: string, encoding: Encoding): NodeDirent {
  return new Dirent(textOrBytes(entry.name, encoding) as string, parentPath, entry.type);
}

interface Level {
  readonly path: SharePath;
  readonly directory: OpenDirectory;
  position: bigint;
  readonly waiting: DirectoryEntry[];
}

type ReadCallback = (error: NodeJS.ErrnoException | null, entry: NodeDirent | null) => void;
type CloseCallback = (error: NodeJS.ErrnoException | null) => void;

/** An open directory, read entry by entry. */
export class Dir implements NodeDir {
  readonly #caller: Caller;
  readonly #path: SharePath;
  readonly #encoding: Encoding;
  readonly #recursive: boolean;
  /** Open ones; the last is read. Only a recursive Dir has more than one. */
  readonly #levels: Level[] = [];
  #closed = false;
  /** Reads of one Dir follow each other. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(caller: Caller, path: SharePath, directory: OpenDirectory, encoding: Encoding, recursive: boolean) {
    this.#caller = caller;
    this.#path = path;
    this.#encoding = encoding;
    this.#recursive = recursive;
    this.#levels.push({ path, directory, position: 0n, waiting: [] });
  }

  get path(): string {
    return typeof this.#path === 'string' ? this.#path : Buffer.from(this.#path).toString();
  }

  *#next(): Task<NodeDirent | null> {
    this.#throwIfClosed();
    for (;;) {
      const level = this.#levels.at(-1);
      if (level === undefined) return null;
      const entry = level.waiting.shift() ?? (yield* this.#refilled(level));
      if (entry === undefined) {
        // The first stays open until close(), so that a further read finds the end again.
        if (this.#levels.length === 1) return null;
        this.#levels.pop();
        yield* level.directory.close();
        continue;
      }
      const known = yield* withType(this.#caller, level.path, entry);
      if (this.#recursive && known.type << 12 === constants.S_IFDIR) yield* this.#descend(level, known);
      return direntOf(known, Buffer.from(level.path as string).toString(), this.#encoding);
    }
  }

  *#refilled(level: Level): Task<DirectoryEntry | undefined> {
    const some = yield* named('scandir', level.directory.read(level.position), level.path);
    if (some.length > 0) level.position = some.at(-1)!.next;
    level.waiting.push(...some);
    return level.waiting.shift();
  }

  *#descend(level: Level, entry: DirectoryEntry): Task<void> {
    const path = joined(level.path, nameOf(entry));
    const directory = yield* named('opendir', this.#caller.volume.openDirectory(path), path);
    this.#levels.push({ path, directory, position: 0n, waiting: [] });
  }

  *#end(): Task<void> {
    this.#throwIfClosed();
    this.#closed = true;
    for (const level of this.#levels.splice(0)) yield* level.directory.close();
  }

  #throwIfClosed(): void {
    if (this.#closed) throw codedError('ERR_DIR_CLOSED', 'Directory handle was closed');
  }

  #inTurn<T>(task: () => Task<T>): Promise<T> {
    const result = this.#turn.then(() => promised(task()));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  read(): Promise<NodeDirent | null>;
  read(callback: ReadCallback): void;
  read(callback?: ReadCallback): Promise<NodeDirent | null> | void {
    const result = this.#inTurn(() => this.#next());
    if (callback === undefined) return result;
    callbackify(() => result)(callback);
  }

  readSync(): NodeDirent | null {
    return finished(this.#next(), () => this.#caller.volume.idle());
  }

  close(): Promise<void>;
  close(callback: CloseCallback): void;
  close(callback?: CloseCallback): Promise<void> | void {
    const result = this.#inTurn(() => this.#end());
    if (callback === undefined) return result;
    callbackify(() => result)(callback);
  }

  closeSync(): void {
    finished(this.#end(), () => this.#caller.volume.idle());
  }

  async *entries(): NodeJS.AsyncIterator<NodeDirent> {
    try {
      for (;;) {
        const entry = await this.read();
        if (entry === null) return;
        yield entry;
      }
    } finally {
      if (!this.#closed) await this.close();
    }
  }

  [Symbol.asyncIterator](): NodeJS.AsyncIterator<NodeDirent> {
    return this.entries();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) await this.close();
  }

  [Symbol.dispose](): void {
    if (!this.#closed) this.closeSync();
  }
}

/** As text where it is UTF-8, so that joined paths stay text. */
export function nameOf(entry: DirectoryEntry): SharePath {
  const bytes = Buffer.from(entry.name);
  const text = bytes.toString();
  return Buffer.from(text).equals(bytes) ? text : bytes;
}
