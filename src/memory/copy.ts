import { assert } from '../core/index.ts';
import type { GuestMemory } from './guest-memory.ts';
import type { Segments } from './segments.ts';

/**
 * Some bytes together with the words over them. A word loop copies four times as fast as a byte loop, and a
 * view made for one copy would cost more than the copy.
 */
export class ByteView {
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  /** Bytes between the start of `words` and the start of `bytes`: 0 to 3. */
  readonly phase: number;

  constructor(bytes: Uint8Array) {
    const phase = bytes.byteOffset & 3;
    this.bytes = bytes;
    this.phase = phase;
    this.words = new Uint32Array(bytes.buffer, bytes.byteOffset - phase, Math.floor((phase + bytes.length) / 4));
  }
}

/**
 * Copies `length` bytes, from byte `from` of the segment list on, out of guest memory to `target` at `at`.
 * Returns the bytes copied: fewer when the list is shorter, or when a region of it has gone or cannot be copied.
 * Throws an AssertionError when `target` is too small.
 *
 * Fast for the same `target` again and again; who has several in turns keeps a ByteView of each and uses
 * `gatherInto`.
 */
export function gather(
  memory: GuestMemory,
  segments: Segments,
  from: number,
  target: Uint8Array,
  at: number,
  length: number,
): number {
  if (memory.gatherView.bytes !== target) memory.gatherView = new ByteView(target);
  return transfer(memory, segments, from, memory.gatherView, at, length, false);
}

/** `gather` with a target whose views exist already. */
export function gatherInto(
  memory: GuestMemory,
  segments: Segments,
  from: number,
  target: ByteView,
  at: number,
  length: number,
): number {
  return transfer(memory, segments, from, target, at, length, false);
}

/**
 * The other way: copies `length` bytes of `source` from `at` on into guest memory, from byte `from` of the
 * segment list on. Returns the bytes copied, as `gather` does; the same remark on speed holds.
 */
export function scatter(
  memory: GuestMemory,
  segments: Segments,
  from: number,
  source: Uint8Array,
  at: number,
  length: number,
): number {
  if (memory.scatterView.bytes !== source) memory.scatterView = new ByteView(source);
  return transfer(memory, segments, from, memory.scatterView, at, length, true);
}

/** `scatter` with a source whose views exist already. */
export function scatterFrom(
  memory: GuestMemory,
  segments: Segments,
  from: number,
  source: ByteView,
  at: number,
  length: number,
): number {
  return transfer(memory, segments, from, source, at, length, true);
}

function transfer(
  memory: GuestMemory,
  segments: Segments,
  from: number,
  own: ByteView,
  at: number,
  length: number,
  toGuest: boolean,
): number {
  assert(from >= 0 && at >= 0 && length >= 0 && at + length <= own.bytes.length, 'copy outside our own buffer');
  const { windows } = memory;
  const { hostStarts, sizes, views } = windows;
  let skip = from;
  let done = 0;
  for (let i = 0; i < segments.count && done < length; i += 1) {
    // `| 0` only tells the compiler: a piece lies in one window, so lengths and offsets are small.
    const size = segments.lengths[i] | 0;
    if (skip >= size) {
      skip -= size;
      continue;
    }
    const slot = segments.regions[i];
    const start = segments.addresses[i] - hostStarts[slot];
    // The region may have gone since the list was made; its slot is then empty or another's.
    if (!(start >= 0 && start + size <= sizes[slot]) || !windows.isThere(slot)) break;
    const count = Math.min(length - done, size - skip);
    if (toGuest) copy(own, at + done, views[slot], (start | 0) + skip, count);
    else copy(views[slot], (start | 0) + skip, own, at + done, count);
    done += count;
    skip = 0;
  }
  return done;
}

/** From here on memmove's speed is worth more than the view that it takes (some 100 bytes of garbage). */
const BULK_BYTES = 4096;

/** Words where both sides have the same alignment, bytes at the ragged ends and everywhere else. */
function copy(from: ByteView, fromAt: number, to: ByteView, toAt: number, count: number): void {
  const source = from.bytes;
  const target = to.bytes;
  if (count >= BULK_BYTES) {
    target.set(source.subarray(fromAt, fromAt + count), toAt);
    return;
  }
  const fromByte = fromAt + from.phase;
  const toByte = toAt + to.phase;
  let i = 0;
  if (((fromByte ^ toByte) & 3) === 0) {
    const head = Math.min(-fromByte & 3, count);
    for (; i < head; i += 1) target[toAt + i] = source[fromAt + i];
    const fromWords = from.words;
    const toWords = to.words;
    const words = (count - i) >> 2;
    const fromWord = (fromByte + i) >> 2;
    const toWord = (toByte + i) >> 2;
    for (let word = 0; word < words; word += 1) toWords[toWord + word] = fromWords[fromWord + word];
    i += words << 2;
  }
  for (; i < count; i += 1) target[toAt + i] = source[fromAt + i];
}
