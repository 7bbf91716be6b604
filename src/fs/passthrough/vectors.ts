import type { Arena } from '../../sys/index.ts';
import type { DataSegments } from '../file-system.ts';

/** IOV_MAX: what the kernel takes in one call. */
const MAX_VECTORS = 1024;
const IOVEC_BYTES = 16;

/** A worker's struct iovec array, filled from a request's guest memory: file data moves without a copy of ours. */
export class Vectors {
  readonly address: number;
  readonly #u32: Uint32Array;
  readonly #at: number;
  /** Bytes that the vectors of the last `fill` hold. */
  bytes = 0;

  constructor(arena: Arena) {
    const at = arena.reserve(MAX_VECTORS * IOVEC_BYTES);
    this.address = arena.address + at;
    this.#u32 = arena.u32;
    this.#at = at >> 2;
  }

  /** Describes up to `length` bytes of the list from byte `from` on; the number of vectors, at most 1024. */
  fill(data: DataSegments, from: number, length: number): number {
    const u32 = this.#u32;
    let skip = from;
    let left = length;
    let count = 0;
    for (let i = 0; i < data.count && left > 0 && count < MAX_VECTORS; i += 1) {
      const size = data.lengths[i];
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const bytes = Math.min(size - skip, left);
      const address = data.addresses[i] + skip;
      const at = this.#at + count * 4;
      u32[at] = address;
      u32[at + 1] = address / 0x1_0000_0000;
      u32[at + 2] = bytes;
      u32[at + 3] = bytes / 0x1_0000_0000;
      left -= bytes;
      skip = 0;
      count += 1;
    }
    this.bytes = length - left;
    return count;
  }
}
