/** Streams of a share: node:fs's own, which ask a share instead of the kernel. */
import fs, { type PathLike, type ReadStream, type WriteStream } from 'node:fs';
import { callbackify } from 'node:util';

import { codedError, pathOf } from './arguments.ts';
import type { Caller } from './caller.ts';
import { close, read, sync, write, writev } from './handle-operations.ts';
import type { OpenState } from './open-state.ts';
import { open } from './operations.ts';
import { promised, type Task } from '../task.ts';

/** A stream has one file; the number stands for it. Above all that a process has, in case it gets out. */
const FD = 2 ** 30;

type Callback = (error: unknown, ...results: unknown[]) => void;

function called<T>(task: Task<T>, callback: Callback, resultsOf: (value: T) => readonly unknown[]): void {
  const results = async (): Promise<readonly unknown[]> => resultsOf(await promised(task));
  callbackify(results)((error, values) => callback(error, ...(values ?? [])));
}

/** Node's streams close without asking how that went where they are destroyed. */
function ignored(): void {}

type Letters = string | number;

/** What node:fs's streams ask of a file system (the option `fs`). `state`: a file that is open. */
function fileSystemOf(caller: Caller, state?: OpenState) {
  let opened = state;
  let isLeft = false;
  const file = (): OpenState => {
    if (opened === undefined) throw codedError('EBADF', 'file closed');
    return opened;
  };
  function* openFor(path: PathLike, flags: Letters, mode: number): Task<number> {
    opened = yield* open(caller, path, flags, mode);
    if (isLeft) yield* close(opened);
    return FD;
  }
  return {
    /** The stream is closed. One that was aborted before may be opened after that: nobody else would close the file. */
    leave(): void {
      isLeft = true;
    },
    open(path: PathLike, flags: Letters, mode: number, callback: Callback): void {
      called(openFor(path, flags, mode), callback, (fd) => [fd]);
    },
    read(
      _fd: number,
      buffer: Uint8Array,
      offset: number,
      length: number,
      position: number | null | undefined,
      callback: Callback,
    ): void {
      const task = read(file(), buffer, offset, length, position);
      called(task, callback, ({ bytesRead }) => [bytesRead, buffer]);
    },
    write(
      _fd: number,
      buffer: Uint8Array,
      offset: number,
      length: number,
      position: number | null | undefined,
      callback: Callback,
    ): void {
      const task = write(file(), buffer, offset, length, position);
      called(task, callback, ({ bytesWritten }) => [bytesWritten, buffer]);
    },
    writev(_fd: number, buffers: Uint8Array[], position: number | null | undefined, callback: Callback): void {
      called(writev(file(), buffers, position), callback, ({ bytesWritten }) => [bytesWritten, buffers]);
    },
    fsync(_fd: number, callback: Callback): void {
      called(sync(file()), callback, () => []);
    },
    close(_fd: number, callback: Callback = ignored): void {
      called(close(file()), callback, () => []);
    },
  };
}

type ReadOptions = Exclude<Parameters<typeof fs.createReadStream>[1], string | undefined>;
type WriteOptions = Exclude<Parameters<typeof fs.createWriteStream>[1], string | undefined>;

function optionsOf<T extends object>(options: T | string | null | undefined): Partial<T> {
  return (typeof options === 'string' ? { encoding: options } : (options ?? {})) as Partial<T>;
}

export function createReadStream(caller: Caller, path: PathLike, options?: BufferEncoding | ReadOptions): ReadStream {
  const system = fileSystemOf(caller);
  const stream = fs.createReadStream(checked(path), { ...optionsOf(options), fs: system });
  return stream.once('close', () => system.leave());
}

export function createWriteStream(
  caller: Caller,
  path: PathLike,
  options?: BufferEncoding | WriteOptions,
): WriteStream {
  const system = fileSystemOf(caller);
  const stream = fs.createWriteStream(checked(path), { ...optionsOf(options), fs: system });
  return stream.once('close', () => system.leave());
}

/** Of an open file: FileHandle.createReadStream(). */
export function readStreamOf(caller: Caller, state: OpenState, options?: object): ReadStream {
  state.file('createReadStream');
  return fs.createReadStream('', { ...options, fd: FD, fs: fileSystemOf(caller, state) });
}

/** Of an open file: FileHandle.createWriteStream(). */
export function writeStreamOf(caller: Caller, state: OpenState, options?: object): WriteStream {
  state.file('createWriteStream');
  return fs.createWriteStream('', { ...options, fd: FD, fs: fileSystemOf(caller, state) });
}

function checked(path: PathLike): string | Buffer {
  const place = pathOf(path);
  return typeof place === 'string' ? place : Buffer.from(place);
}
