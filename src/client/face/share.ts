/** A share with the face of node:fs/promises. */
import { constants, type PathLike, type ReadStream, type WriteStream } from 'node:fs';
import type promises from 'node:fs/promises';

import { codedError } from './arguments.ts';
import type { Caller } from './caller.ts';
import { cp } from './copy-tree.ts';
import { mkdir, mkdtemp, opendir, readdir, rm } from './directories.ts';
import { FileHandle, stateOf } from './file-handle.ts';
import { glob } from './glob.ts';
import * as operations from './operations.ts';
import { createReadStream, createWriteStream } from './streams.ts';
import { promised, type Task } from '../task.ts';
import type { Volume } from '../volume.ts';
import { appendFile, copyFile, readFile, truncate, writeFile } from './whole-files.ts';

type Promises = typeof promises;
type Operation = (caller: Caller, ...args: never[]) => Task<unknown>;

const OPERATIONS = {
  access: operations.access,
  appendFile,
  chmod: operations.chmod,
  chown: operations.chown,
  copyFile,
  cp,
  lchmod: operations.lchmod,
  lchown: operations.lchown,
  link: operations.link,
  lstat: operations.lstat,
  lutimes: operations.lutimes,
  mkdir,
  mkdtemp,
  opendir,
  readFile,
  readdir,
  readlink: operations.readlink,
  realpath: operations.realpath,
  rename: operations.rename,
  rm,
  rmdir: operations.rmdir,
  stat: operations.stat,
  statfs: operations.statfs,
  symlink: operations.symlink,
  truncate,
  unlink: operations.unlink,
  utimes: operations.utimes,
  writeFile,
} satisfies { readonly [K in keyof Promises]?: Operation };

/** Not of Node: what a share can do beyond. */
const XATTRS = {
  getxattr: operations.getxattr,
  listxattr: operations.listxattr,
  removexattr: operations.removexattr,
  setxattr: operations.setxattr,
};

type Promising<F> = F extends (caller: Caller, ...args: infer A) => Task<infer R> ? (...args: A) => Promise<R> : never;
type Face = Pick<Promises, keyof typeof OPERATIONS> & {
  readonly [K in keyof typeof XATTRS]: Promising<(typeof XATTRS)[K]>;
};

/** Each share has them as its own, bound: they may be taken off it, as off node:fs/promises. */
class BoundOperations {
  readonly volume: Volume;

  constructor(volume: Volume) {
    this.volume = volume;
    for (const [name, operation] of Object.entries({ ...OPERATIONS, ...XATTRS })) {
      const value = async (...args: never[]) => await promised((operation as Operation)(callerOf(volume), ...args));
      Object.defineProperty(value, 'name', { value: name });
      Object.defineProperty(this, name, { value, configurable: true, enumerable: true, writable: true });
    }
  }
}

/** The methods of the tables above, with the types of Node. */
const Base = BoundOperations as new (volume: Volume) => { readonly volume: Volume } & Face;

function callerOf(volume: Volume): Caller {
  return { volume, blocks: false, opened: stateOf };
}

/** A share. Paths begin at its root, whether they begin with a slash or not. */
export class Share extends Base {
  readonly constants: typeof constants = constants;
  #closing: Promise<void> | undefined;

  /** What a guest would mount it by, where the daemon says so (`serve --tag`). */
  get tag(): string | undefined {
    return this.volume.tag;
  }

  readonly open: Promises['open'] = async (...args) => {
    const caller = callerOf(this.volume);
    return new FileHandle(caller, await promised(operations.open(caller, ...args)));
  };

  /** All of it is found before the first is given. */
  readonly glob: Promises['glob'] = ((...args: Parameters<Promises['glob']>) => {
    return (async function* (volume) {
      yield* await promised(glob(callerOf(volume), ...args));
    })(this.volume);
  }) as Promises['glob'];

  readonly mkdtempDisposable: Promises['mkdtempDisposable'] = async (prefix, options) => {
    const path = (await promised(mkdtemp(callerOf(this.volume), prefix, options))) as string;
    const remove = () => this.rm(path, { recursive: true, force: true });
    return { path, remove, [Symbol.asyncDispose]: remove };
  };

  readonly createReadStream = (path: PathLike, options?: Parameters<typeof createReadStream>[2]): ReadStream =>
    createReadStream(callerOf(this.volume), path, options);

  readonly createWriteStream = (path: PathLike, options?: Parameters<typeof createWriteStream>[2]): WriteStream =>
    createWriteStream(callerOf(this.volume), path, options);

  /** Throws: see the message. */
  readonly watch: Promises['watch'] = () => {
    throw unwatchable('watch');
  };

  /** Throws: see the message. */
  readonly watchFile = (): never => {
    throw unwatchable('watchFile');
  };

  /** Gives everything back. What is still open is closed with it. */
  close(): Promise<void> {
    this.#closing ??= promised(this.volume.close());
    return this.#closing;
  }

  /** As `close`. Of a connection that was lost before nothing is said: whoever used it has heard. */
  async [Symbol.asyncDispose](): Promise<void> {
    const lost = this.volume.broken;
    try {
      await this.close();
    } catch (error) {
      if (error !== lost) throw error;
    }
  }
}

/** Why a share cannot be watched, and what to do. */
export function unwatchable(name: string): Error {
  const message =
    `The ${name}() method is not implemented for a share: FUSE over virtio has no notifications, so that no daemon ` +
    'tells of a change. Ask stat() for mtimeMs and ctimeMs as often as you want to know, or watch the directory ' +
    'on the host that is shared';
  return codedError('ERR_METHOD_NOT_IMPLEMENTED', message);
}
