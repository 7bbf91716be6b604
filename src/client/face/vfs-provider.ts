/** A share as a provider of node:vfs, so that it can be mounted in a process: Node 26.4, --experimental-vfs. */
import { type Dirent as NodeDirent, type Mode, type PathLike } from 'node:fs';
import { posix } from 'node:path';
import type { VirtualProvider } from 'node:vfs';

import { codedError } from './arguments.ts';
import type { Caller } from './caller.ts';
import * as handles from './handle-operations.ts';
import type { OpenState } from './open-state.ts';
import { exists, open } from './operations.ts';
import { Share } from './share.ts';
import { ShareSync } from './share-sync.ts';
import { finished, promised, type Task } from '../task.ts';
import type { Volume } from '../volume.ts';
import { readOpenFile, writeOpenFile } from './whole-files.ts';

/** What node:vfs asks of a provider, and has of node:fs. */
const NAMES = [
  'access',
  'appendFile',
  'copyFile',
  'link',
  'lstat',
  'mkdir',
  'readFile',
  'readlink',
  'realpath',
] as const;
const MORE_NAMES = ['rename', 'rmdir', 'stat', 'symlink', 'unlink', 'writeFile'] as const;
const SYNC_NAMES = ['chmodSync', 'chownSync', 'lchmodSync', 'lchownSync', 'lutimesSync', 'utimesSync'] as const;

/**
 * A provider for `new VirtualFileSystem(provider)` or `create(provider)` of node:vfs. Of its calls some are made by
 * blocking, whatever was asked: Node has no others. Throws where Node was not started with --experimental-vfs.
 */
export function shareProvider(volume: Volume): VirtualProvider {
  const vfs = process.getBuiltinModule('node:vfs');
  if (vfs === undefined) {
    const message = 'There is no node:vfs: it takes Node 26.4 or later, started with --experimental-vfs';
    throw codedError('ERR_UNKNOWN_BUILTIN_MODULE', message);
  }
  const Provider = vfs.VirtualProvider as new () => VirtualProvider;
  const [share, sync] = [new Share(volume), new ShareSync(volume)];
  const methods: Record<string, unknown> = { readonly: false, supportsSymlinks: true, supportsWatch: false };
  for (const name of [...NAMES, ...MORE_NAMES]) {
    methods[name] = share[name];
    methods[`${name}Sync`] = sync[`${name}Sync`];
  }
  for (const name of SYNC_NAMES) methods[name] = sync[name];
  for (const name of ['watch', 'watchAsync']) methods[name] = share.watch;
  methods['watchFile'] = share.watchFile;
  return define(new Provider(), { ...methods, ...openings(volume), ...listings(share, sync) });
}

/** As its own: the class behind has the same names, some as getters. */
function define<T extends object>(target: T, values: Readonly<Record<string, unknown>>): T {
  for (const [name, value] of Object.entries(values)) {
    Object.defineProperty(target, name, { value, configurable: true, writable: true });
  }
  return target;
}

type Letters = string | number;

function openings(volume: Volume): Record<string, unknown> {
  const caller: Caller = { volume, blocks: true, opened: () => undefined };
  const opened = (path: PathLike, flags?: Letters, mode?: Mode): Task<OpenState> => open(caller, path, flags, mode);
  const run = <T>(task: Task<T>): T => finished(task, () => volume.idle());
  return {
    open: async (path: string, flags?: Letters, mode?: Mode) =>
      new VirtualHandle(volume, await promised(opened(path, flags, mode)), path, flags, mode),
    openSync: (path: string, flags?: Letters, mode?: Mode) =>
      new VirtualHandle(volume, run(opened(path, flags, mode)), path, flags, mode),
    exists: (path: PathLike) => promised(exists(caller, path)),
    existsSync: (path: PathLike) => run(exists(caller, path)),
  };
}

interface ListOptions {
  readonly withFileTypes?: boolean;
  readonly recursive?: boolean;
}

type Listed = readonly (string | NodeDirent)[];

function listings(share: Share, sync: ShareSync): Record<string, unknown> {
  return {
    readdir: async (path: string, options?: ListOptions) =>
      fromTop(path, options, await share.readdir(path, options as object)),
    readdirSync: (path: string, options?: ListOptions) =>
      fromTop(path, options, sync.readdirSync(path, options as object) as Listed),
  };
}

/** node:vfs takes the whole way from the directory that was asked as the name of an entry, and splits it itself. */
function fromTop(path: string, options: ListOptions | undefined, entries: Listed): Listed {
  if (options?.recursive !== true || options.withFileTypes !== true) return entries;
  for (const entry of entries as NodeDirent[]) {
    entry.name = posix.relative(path, posix.join(entry.parentPath, entry.name));
    entry.parentPath = path;
  }
  return entries;
}

type Operation = (state: OpenState, ...args: never[]) => Task<unknown>;

const HANDLE_OPERATIONS: Readonly<Record<string, Operation>> = {
  chmod: handles.chmod,
  chown: handles.chown,
  datasync: handles.datasync,
  read: handles.read,
  readFile: readOpenFile,
  readv: handles.readv,
  stat: handles.stat,
  sync: handles.sync,
  truncate: handles.truncate,
  utimes: handles.utimes,
  write: handles.write,
  writeFile: writeOpenFile,
  appendFile: writeOpenFile,
  writev: handles.writev,
};

/** Of these the synchronous form gives a number. */
const COUNTS: Readonly<Record<string, string>> = { read: 'bytesRead', write: 'bytesWritten' };

/** An open file, as node:vfs has it: both faces in one. */
class VirtualHandle {
  readonly path: string;
  readonly flags: Letters;
  readonly mode: Mode;
  readonly #volume: Volume;
  readonly #state: OpenState;

  constructor(volume: Volume, state: OpenState, path: string, flags: Letters = 'r', mode: Mode = 0o644) {
    this.path = path;
    this.flags = flags;
    this.mode = mode;
    this.#volume = volume;
    this.#state = state;
    for (const [name, operation] of Object.entries(HANDLE_OPERATIONS)) {
      const count = COUNTS[name];
      const blocking = (...args: never[]): unknown => {
        const result = this.#run(operation(state, ...args));
        return count === undefined ? result : (result as Record<string, unknown>)[count];
      };
      const promising = async (...args: never[]) => await promised(operation(state, ...args));
      define(this, { [name]: promising, [`${name}Sync`]: blocking });
    }
  }

  get closed(): boolean {
    return this.#state.closed;
  }

  #run<T>(task: Task<T>): T {
    return finished(task, () => this.#volume.idle());
  }

  close(): Promise<void> {
    return promised(handles.close(this.#state));
  }

  closeSync(): void {
    this.#run(handles.close(this.#state));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  [Symbol.dispose](): void {
    this.closeSync();
  }
}
