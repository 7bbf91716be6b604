import { closeSync, openSync, writeSync } from 'node:fs';

import { UserError } from '../../core/index.ts';

const STDOUT = 1;
const FLUSH_BYTES = 65_536;
const RETRY_MS = 5;

/** Lines to a file or to stdout, a batch at a time. Who does not read them holds up what is traced. */
export class Output {
  readonly #fd: number;
  readonly #path: string | undefined;
  #text = '';
  /** Nobody reads on. */
  ended = false;

  /** Throws UserError where the file cannot be made. */
  constructor(path: string | undefined) {
    this.#path = path;
    try {
      this.#fd = path === undefined ? STDOUT : openSync(path, 'w');
    } catch (error) {
      throw new UserError(`cannot write to ${path}: ${(error as Error).message}. Choose another -o.`, { cause: error });
    }
  }

  line(text: string): void {
    this.#text += `${text}\n`;
    if (this.#text.length > FLUSH_BYTES) this.flush();
  }

  /** Writes what there is. Throws UserError where that fails for another reason than that nobody reads on. */
  flush(): void {
    const bytes = Buffer.from(this.#text);
    this.#text = '';
    for (let at = 0; at < bytes.length && !this.ended; ) at += this.#write(bytes, at);
  }

  #write(bytes: Buffer, at: number): number {
    try {
      return writeSync(this.#fd, bytes, at);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') {
        this.ended = true;
        return 0;
      }
      if (code !== 'EAGAIN') {
        throw new UserError(`writing the trace to ${this.#path ?? 'stdout'} failed: ${message}.`, { cause: error });
      }
      // A pipe that somebody else has made non-blocking, and that is full.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
      return 0;
    }
  }

  close(): void {
    this.flush();
    if (this.#path !== undefined) closeSync(this.#fd);
  }
}
