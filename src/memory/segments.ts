/** Enough for 1 MiB in single pages, both ways, several times over. */
const DEFAULT_CAPACITY = 2048;

/**
 * A list of pieces of host memory, in order: one side of a descriptor chain, and nearly an iovec array.
 * It is flat, made once and filled again for every request; nothing in it is allocated later.
 *
 * Only `addresses[0..count)` and its sisters are valid.
 */
export class Segments {
  readonly capacity: number;
  /** Host address of each piece. */
  readonly addresses: Float64Array;
  /** Bytes of each piece, never 0. */
  readonly lengths: Float64Array;
  /** Which window of `GuestMemory` each piece lies in; opaque to everybody else. */
  readonly regions: Int32Array;
  count = 0;
  /** The sum of `lengths`. */
  bytes = 0;
  /** The last piece refused was refused because the list was full. */
  overflow = false;
  /** Where the last piece ends, as a window and an offset in it: a piece that begins there is joined to it. */
  tailRegion = -1;
  tailOffset = 0;

  constructor(capacity: number = DEFAULT_CAPACITY) {
    this.capacity = capacity;
    this.addresses = new Float64Array(capacity);
    this.lengths = new Float64Array(capacity);
    this.regions = new Int32Array(capacity);
  }

  clear(): void {
    this.count = 0;
    this.bytes = 0;
    this.overflow = false;
    this.tailRegion = -1;
  }

  /** Adds one piece as it is. False, with nothing changed, when the list is full. */
  push(address: number, length: number, region: number): boolean {
    const at = this.count;
    this.overflow = at === this.capacity;
    if (this.overflow) return false;
    this.addresses[at] = address;
    this.lengths[at] = length;
    this.regions[at] = region;
    this.count = at + 1;
    this.bytes += length;
    this.tailRegion = -1;
    return true;
  }
}
