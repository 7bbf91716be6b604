/** The names of descriptors in /proc, for calls that take no descriptor, or none that is O_PATH. */
import type { Arena } from '../../sys/index.ts';

const PROC_FD = new TextEncoder().encode('/proc/self/fd/');
const DIGITS_BYTES = 16;

export class ProcNames {
  readonly #arena: Arena;
  readonly #digitsAt: number;
  readonly #pathAt: number;
  /** The address of the path that `writePath` writes. */
  readonly path: number;

  constructor(arena: Arena) {
    this.#arena = arena;
    this.#digitsAt = arena.reserve(DIGITS_BYTES);
    this.#pathAt = arena.reserve(PROC_FD.length + DIGITS_BYTES);
    arena.u8.set(PROC_FD, this.#pathAt);
    this.path = arena.address + this.#pathAt;
  }

  /** The address of a descriptor's number in digits: its name in /proc/self/fd. Valid until the next call. */
  name(fd: number): number {
    return this.#arena.address + this.#writeDigits(fd);
  }

  /** Writes a descriptor's path to `path`. */
  writePath(fd: number): void {
    const { u8 } = this.#arena;
    let to = this.#pathAt + PROC_FD.length;
    for (let from = this.#writeDigits(fd); ; from += 1) {
      u8[to] = u8[from];
      if (u8[to] === 0) return;
      to += 1;
    }
  }

  /** The offset of the first digit. */
  #writeDigits(fd: number): number {
    const { u8 } = this.#arena;
    let at = this.#digitsAt + DIGITS_BYTES - 1;
    u8[at] = 0;
    let rest = fd;
    do {
      at -= 1;
      const next = (rest / 10) | 0;
      u8[at] = 48 + rest - next * 10;
      rest = next;
    } while (rest !== 0);
    return at;
  }
}
