/** An open file of a caller, with a position of its own. */
import { codedError } from './arguments.ts';
import { Latch, type Task } from '../task.ts';
import type { OpenFile } from '../volume.ts';

/** An open file with a position of its own. */
export class OpenState {
  #file: OpenFile | undefined;
  /** Where the next one goes on that does not say. `end`: behind what was appended. */
  #position: number | 'end' = 0;
  #turn: Latch | undefined;

  constructor(file: OpenFile) {
    this.#file = file;
  }

  get closed(): boolean {
    return this.#file === undefined;
  }

  /** `syscall`: for the error, where it is closed. */
  file(syscall: string): OpenFile {
    if (this.#file === undefined) throw Object.assign(codedError('EBADF', 'file closed'), { syscall });
    return this.#file;
  }

  *close(): Task<void> {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    yield* file.close();
  }

  /** Work with the file's own position: one at a time, as in a kernel. */
  *inTurn<T>(work: (position: number) => Task<{ readonly result: T; readonly next: number | 'end' }>): Task<T> {
    while (this.#turn !== undefined) yield this.#turn;
    const turn = new Latch();
    this.#turn = turn;
    try {
      const position = this.#position === 'end' ? yield* this.#end() : this.#position;
      const { result, next } = yield* work(position);
      this.#position = next;
      return result;
    } finally {
      this.#turn = undefined;
      turn.settle();
    }
  }

  *#end(): Task<number> {
    const { size } = yield* this.file('read').stat();
    return Number(size);
  }
}
