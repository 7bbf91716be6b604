/** A share with the synchronous face of node:fs. */
import type fs from 'node:fs';
import { constants } from 'node:fs';

import { integerOf } from './arguments.ts';
import type { Caller } from './caller.ts';
import { cp } from './copy-tree.ts';
import { mkdir, mkdtemp, opendir, readdir, rm } from './directories.ts';
import { ShareError } from '../error.ts';
import { glob } from './glob.ts';
import * as handles from './handle-operations.ts';
import type { OpenState } from './open-state.ts';
import * as operations from './operations.ts';
import { unwatchable } from './share.ts';
import { finished, type Task } from '../task.ts';
import type { Volume } from '../volume.ts';
import { appendFile, copyFile, readFile, truncate, writeFile } from './whole-files.ts';

type Fs = typeof fs;
type Operation = (caller: Caller, ...args: never[]) => Task<unknown>;
type HandleOperation = (state: OpenState, ...args: never[]) => Task<unknown>;

const OPERATIONS = {
  accessSync: operations.access,
  appendFileSync: appendFile,
  chmodSync: operations.chmod,
  chownSync: operations.chown,
  copyFileSync: copyFile,
  cpSync: cp,
  existsSync: operations.exists,
  globSync: glob,
  lchmodSync: operations.lchmod,
  lchownSync: operations.lchown,
  linkSync: operations.link,
  lstatSync: operations.lstat,
  lutimesSync: operations.lutimes,
  mkdirSync: mkdir,
  mkdtempSync: mkdtemp,
  opendirSync: opendir,
  readFileSync: readFile,
  readdirSync: readdir,
  readlinkSync: operations.readlink,
  realpathSync: operations.realpath,
  renameSync: operations.rename,
  rmSync: rm,
  rmdirSync: operations.rmdir,
  statSync: operations.stat,
  statfsSync: operations.statfs,
  symlinkSync: operations.symlink,
  truncateSync: truncate,
  unlinkSync: operations.unlink,
  utimesSync: operations.utimes,
  writeFileSync: writeFile,
} satisfies { readonly [K in keyof Fs]?: Operation };

/** Their first argument is a descriptor of openSync(). */
const HANDLE_OPERATIONS = {
  fchmodSync: [handles.chmod, 'fchmod'],
  fchownSync: [handles.chown, 'fchown'],
  fdatasyncSync: [handles.datasync, 'fdatasync'],
  fstatSync: [handles.stat, 'fstat'],
  fsyncSync: [handles.sync, 'fsync'],
  ftruncateSync: [handles.truncate, 'ftruncate'],
  futimesSync: [handles.utimes, 'futime'],
  readSync: [bytesRead, 'read'],
  readvSync: [bytesReadTo, 'read'],
  writeSync: [bytesWritten, 'write'],
  writevSync: [bytesWrittenFrom, 'write'],
} satisfies { readonly [K in keyof Fs]?: readonly [HandleOperation, string] };

function* bytesRead(state: OpenState, ...args: [unknown, unknown?, unknown?, unknown?]): Task<number> {
  return (yield* handles.read(state, ...args)).bytesRead;
}

function* bytesWritten(state: OpenState, ...args: [unknown, unknown?, unknown?, unknown?]): Task<number> {
  return (yield* handles.write(state, ...args)).bytesWritten;
}

type Views = readonly NodeJS.ArrayBufferView[];

function* bytesReadTo(state: OpenState, buffers: Views, position?: number | null): Task<number> {
  return (yield* handles.readv(state, buffers, position)).bytesRead;
}

function* bytesWrittenFrom(state: OpenState, buffers: Views, position?: number | null): Task<number> {
  return (yield* handles.writev(state, buffers, position)).bytesWritten;
}

const XATTRS = {
  getxattrSync: operations.getxattr,
  listxattrSync: operations.listxattr,
  removexattrSync: operations.removexattr,
  setxattrSync: operations.setxattr,
};

type Blocking<F> = F extends (caller: Caller, ...args: infer A) => Task<infer R> ? (...args: A) => R : never;
type Face = Pick<Fs, keyof typeof OPERATIONS | keyof typeof HANDLE_OPERATIONS> & {
  readonly [K in keyof typeof XATTRS]: Blocking<(typeof XATTRS)[K]>;
};

/** Above all descriptors of a process: one that is mistaken for the kernel's is refused, not another file's. */
const FIRST_FD = 2 ** 30;
const EBADF = -9;

/** The descriptors of a share, and its methods. */
class BoundOperations {
  readonly volume: Volume;
  protected readonly caller: Caller;
  readonly #open = new Map<number, OpenState>();
  #next = FIRST_FD;

  constructor(volume: Volume) {
    this.volume = volume;
    const opened = (target: unknown) => (typeof target === 'number' ? this.#stateOf(target, 'read') : undefined);
    this.caller = { volume, blocks: true, opened };
    for (const [name, operation] of Object.entries({ ...OPERATIONS, ...XATTRS })) {
      this.#define(name, (...args) => this.run((operation as Operation)(this.caller, ...args)));
    }
    for (const [name, [operation, syscall]] of Object.entries(HANDLE_OPERATIONS)) {
      this.#define(name, (fd: never, ...args) => {
        return this.run((operation as HandleOperation)(this.#stateOf(fd, syscall), ...args));
      });
    }
  }

  #define(name: string, value: (...args: never[]) => unknown): void {
    Object.defineProperty(value, 'name', { value: name });
    Object.defineProperty(this, name, { value, configurable: true, enumerable: true, writable: true });
  }

  #stateOf(fd: unknown, syscall: string): OpenState {
    const state = this.#open.get(integerOf(fd, 'fd', 0, 2 ** 31 - 1));
    if (state === undefined) throw new ShareError(EBADF, syscall);
    return state;
  }

  protected run<T>(task: Task<T>): T {
    return finished(task, () => this.volume.idle());
  }

  readonly openSync: Fs['openSync'] = (...args) => {
    const state = this.run(operations.open(this.caller, ...args));
    const fd = this.#next;
    this.#next += 1;
    this.#open.set(fd, state);
    return fd;
  };

  readonly closeSync: Fs['closeSync'] = (fd) => {
    const state = this.#stateOf(fd, 'close');
    this.#open.delete(fd);
    this.run(handles.close(state));
  };
}

const Base = BoundOperations as unknown as new (volume: Volume) => Pick<BoundOperations, keyof BoundOperations> & Face;

/** A share whose calls return when they are done. Paths begin at its root; descriptors are the share's own. */
export class ShareSync extends Base {
  readonly constants: typeof constants = constants;

  /** What a guest would mount it by, where the daemon says so (`serve --tag`). */
  get tag(): string | undefined {
    return this.volume.tag;
  }
  #closed = false;

  readonly mkdtempDisposableSync: Fs['mkdtempDisposableSync'] = (prefix, options) => {
    const path = this.mkdtempSync(prefix, options);
    const remove = () => this.rmSync(path, { recursive: true, force: true });
    return { path, remove, [Symbol.dispose]: remove };
  };

  /** Throws: see the message. */
  readonly watch = (): never => {
    throw unwatchable('watch');
  };

  /** Throws: see the message. */
  readonly watchFile = (): never => {
    throw unwatchable('watchFile');
  };

  /** Gives everything back. What is still open is closed with it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    finished(this.volume.close(), () => this.volume.idle());
  }

  /** As `close`. Of a connection that was lost before nothing is said: whoever used it has heard. */
  [Symbol.dispose](): void {
    const lost = this.volume.broken;
    try {
      this.close();
    } catch (error) {
      if (error !== lost) throw error;
    }
  }
}
