/** FileHandle: an open file of a share, with the face of node:fs/promises's. */
import { EventEmitter } from 'node:events';
import type { ReadStream, WriteStream } from 'node:fs';
import type { FileHandle as NodeFileHandle } from 'node:fs/promises';
import { createInterface, type Interface } from 'node:readline';
import { ReadableStream } from 'node:stream/web';

import { codedError } from './arguments.ts';
import type { Caller } from './caller.ts';
import * as operations from './handle-operations.ts';
import type { OpenState } from './open-state.ts';
import { readStreamOf, writeStreamOf } from './streams.ts';
import { promised, type Task } from '../task.ts';
import { readOpenFile, writeOpenFile } from './whole-files.ts';

const OPERATIONS = {
  appendFile: writeOpenFile,
  chmod: operations.chmod,
  chown: operations.chown,
  datasync: operations.datasync,
  read: operations.read,
  readFile: readOpenFile,
  readv: operations.readv,
  stat: operations.stat,
  sync: operations.sync,
  truncate: operations.truncate,
  utimes: operations.utimes,
  write: operations.write,
  writeFile: writeOpenFile,
  writev: operations.writev,
} satisfies { readonly [K in keyof NodeFileHandle]?: (state: OpenState, ...args: never[]) => Task<unknown> };

type Operations = Pick<NodeFileHandle, keyof typeof OPERATIONS>;
type Operation = (state: OpenState, ...args: unknown[]) => Task<unknown>;

const states = new WeakMap<object, OpenState>();

/** The open file behind a FileHandle; undefined: it is none of a share. */
export function stateOf(handle: unknown): OpenState | undefined {
  return typeof handle === 'object' && handle !== null ? states.get(handle) : undefined;
}

/** What has no other form than: these arguments, that result. */
class HandleOperations extends EventEmitter {
  static {
    for (const [name, operation] of Object.entries(OPERATIONS)) {
      const value = async function (this: object, ...args: unknown[]): Promise<unknown> {
        const state = states.get(this);
        if (state === undefined) throw new TypeError(`${name}() was not called on a FileHandle`);
        return await promised((operation as Operation)(state, ...args));
      };
      Object.defineProperty(value, 'name', { value: name });
      Object.defineProperty(this.prototype, name, { value, configurable: true, writable: true });
    }
  }
}

/** Its methods are those of the table above, with the types of Node. */
const Base = HandleOperations as unknown as new () => EventEmitter & Operations;

/** As Node's, but for `fd`. Emits `close`. */
export class FileHandle extends Base implements NodeFileHandle {
  readonly #caller: Caller;
  readonly #state: OpenState;
  #closing: Promise<void> | undefined;

  constructor(caller: Caller, state: OpenState) {
    super();
    this.#caller = caller;
    this.#state = state;
    states.set(this, state);
  }

  /** Always -1: a file of a share has no descriptor in this process, and no call of node:fs takes -1 for another. */
  get fd(): number {
    return -1;
  }

  /** Once: who calls again waits for the same end. */
  close(): Promise<void> {
    this.#closing ??= promised(operations.close(this.#state)).finally(() => this.emit('close'));
    return this.#closing;
  }

  createReadStream(options?: Parameters<NodeFileHandle['createReadStream']>[0]): ReadStream {
    return readStreamOf(this.#caller, this.#state, options);
  }

  createWriteStream(options?: Parameters<NodeFileHandle['createWriteStream']>[0]): WriteStream {
    return writeStreamOf(this.#caller, this.#state, options);
  }

  readLines(options?: Parameters<NodeFileHandle['readLines']>[0]): Interface {
    return createInterface({ input: this.createReadStream(options), crlfDelay: Number.POSITIVE_INFINITY });
  }

  /** A stream of bytes, from the position of the file to its end. */
  readableWebStream(options?: { autoClose?: boolean | undefined }): ReadableStream {
    const state = this.#state;
    state.file('readableWebStream');
    const ended = async (): Promise<void> => {
      if (options?.autoClose === true) await this.close();
    };
    return new ReadableStream({
      type: 'bytes',
      autoAllocateChunkSize: 1 << 16,
      async pull(controller) {
        const view = controller.byobRequest!.view!;
        const { bytesRead } = await promised(
          operations.read(state, new Uint8Array(view.buffer, view.byteOffset, view.byteLength)),
        );
        if (bytesRead === 0) {
          controller.close();
          await ended();
        }
        controller.byobRequest!.respond(bytesRead);
      },
      cancel: ended,
    });
  }

  /** Of --experimental-stream-iter. */
  pull(): never {
    throw notHere('pull', 'createReadStream() or readableWebStream()');
  }

  /** Of --experimental-stream-iter. */
  writer(): never {
    throw notHere('writer', 'createWriteStream()');
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function notHere(name: string, instead: string): Error {
  const message = `The ${name}() method is not implemented for files of a share: use ${instead}`;
  return codedError('ERR_METHOD_NOT_IMPLEMENTED', message);
}
