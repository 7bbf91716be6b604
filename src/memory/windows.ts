import { TWO_32 } from '../core/index.ts';
import { ByteView } from './copy.ts';

const NOTHING = new ByteView(new Uint8Array(0));

/**
 * Regions cut into windows of at most `windowBytes`, so that every offset inside one is a small integer:
 * V8 keeps those in registers and passes them to functions without a heap number, which an offset into a
 * region of many GiB would need. No window crosses a multiple of 4 GiB of guest addresses either, so the high word
 * of an address decides which windows can hold it, and the low word the offset.
 *
 * A window keeps its slot as long as its region lives, whatever is added or removed beside it: segment lists
 * in flight refer to slots. A slot that is given up has size 0, so a stale list finds nothing there.
 */
export class WindowTable {
  readonly windowBytes: number;
  /** All by slot. */
  guestStarts = new Float64Array(1);
  hostStarts = new Float64Array(1);
  sizes = new Float64Array(1);
  readonly views: ByteView[] = [NOTHING];
  /** The slots in use, by rising guest address. */
  order: Int32Array = new Int32Array(0);

  constructor(windowBytes: number) {
    this.windowBytes = windowBytes;
  }

  /** Without a `buffer` there is nothing to copy through. */
  add(guestAddress: number, hostAddress: number, buffer: ArrayBufferLike | undefined, sizeBytes: number): void {
    let size = 0;
    for (let offset = 0; offset < sizeBytes; offset += size) {
      const slot = this.#freeSlot();
      const toBoundary = TWO_32 - ((guestAddress + offset) % TWO_32);
      size = Math.min(this.windowBytes, sizeBytes - offset, toBoundary);
      this.guestStarts[slot] = guestAddress + offset;
      this.hostStarts[slot] = hostAddress + offset;
      this.sizes[slot] = size;
      this.views[slot] = buffer === undefined ? NOTHING : new ByteView(new Uint8Array(buffer, offset, size));
    }
    this.#sort();
  }

  /** Whether what a slot stands for can be copied. */
  isThere(slot: number): boolean {
    return this.views[slot] !== NOTHING;
  }

  /** Gives up every window in a range of guest addresses. */
  remove(guestAddress: number, sizeBytes: number): void {
    for (let slot = 0; slot < this.sizes.length; slot += 1) {
      const offset = this.guestStarts[slot] - guestAddress;
      if (this.sizes[slot] === 0 || offset < 0 || offset >= sizeBytes) continue;
      this.sizes[slot] = 0;
      this.views[slot] = NOTHING;
    }
    this.#sort();
  }

  #freeSlot(): number {
    const free = this.sizes.indexOf(0);
    if (free !== -1) return free;
    const slot = this.sizes.length;
    this.guestStarts = grown(this.guestStarts);
    this.hostStarts = grown(this.hostStarts);
    this.sizes = grown(this.sizes);
    while (this.views.length < this.sizes.length) this.views.push(NOTHING);
    return slot;
  }

  #sort(): void {
    const used: number[] = [];
    for (let slot = 0; slot < this.sizes.length; slot += 1) if (this.sizes[slot] > 0) used.push(slot);
    used.sort((a, b) => this.guestStarts[a] - this.guestStarts[b]);
    this.order = Int32Array.from(used);
  }
}

function grown(array: Float64Array): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}
