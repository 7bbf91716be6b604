import { TWO_32 } from '../core/index.ts';
import { ByteView } from './copy.ts';
import { MemoryError } from './errors.ts';
import type { Segments } from './segments.ts';
import { WindowTable } from './windows.ts';

/**
 * One piece of guest memory and the three names it goes by.
 * All addresses and sizes are bytes, integers, and end at 2^53 or below.
 */
export interface Region {
  /** Where the guest sees it: descriptors hold such addresses. */
  guestAddress: number;
  sizeBytes: number;
  /** Where the front-end has mapped it: vhost-user ring addresses are of this kind. */
  userAddress: number;
  /** Where this process has mapped it; byte 0 of `buffer`. In a browser any number that keeps regions apart. */
  hostAddress: number;
  /**
   * At least `sizeBytes` long. Absent where only the kernel may touch the memory, as it may not be there (a DAX window
   * beyond the end of a file): system calls get its addresses, and nothing is ever copied from or to it.
   */
  buffer?: ArrayBuffer | SharedArrayBuffer;
}

const ADDRESS_END = 2 ** 53;
const WINDOW_BYTES = 2 ** 30;
/** Slots of the scratch in which an address is handed to `#append`. */
const ADDRESS = 0;
const LENGTH = 1;

/**
 * The memory of one guest: regions, translation with every bound checked, and the views to copy through.
 *
 * Views are made when a region is added and dropped when it is removed. The owner of the mapping must detach
 * `buffer` before it unmaps it, and must stop the queues whose rings lie in it first.
 */
export class GuestMemory {
  /** For gather and scatter, in this room only. */
  readonly windows: WindowTable;
  gatherView = new ByteView(new Uint8Array(0));
  scatterView = new ByteView(new Uint8Array(0));
  /** The offset that goes with the last `windowOf`. */
  windowOffset = 0;
  #regions: Region[] = [];
  /** The window of the last search, with its bounds: the next address is most often in the same one. */
  #recent = 0;
  #recentSize = 0;
  #recentLow = 0;
  #recentHigh = 0;
  /** A number above 2^31 passed as an argument may be put on the heap; one in a Float64Array never is. */
  readonly #piece = new Float64Array(2);

  /** `windowBytes` (a multiple of 4, at most 2^30) is for tests: see WindowTable. */
  constructor(windowBytes: number = WINDOW_BYTES) {
    this.windows = new WindowTable(windowBytes);
  }

  /** By rising guest address. */
  get regions(): readonly Region[] {
    return this.#regions;
  }

  /** Throws a MemoryError, with nothing changed, for a region that is malformed or overlaps another. */
  add(region: Region): void {
    checkShape(region);
    for (const other of this.#regions) checkApart(region, other);
    this.windows.add(region.guestAddress, region.hostAddress, region.buffer, region.sizeBytes);
    this.#regions.push(region);
    this.#regions.sort((a, b) => a.guestAddress - b.guestAddress);
  }

  /** Removes the region with exactly this guest address and size, and returns it. */
  remove(guestAddress: number, sizeBytes: number): Region | undefined {
    const at = this.#regions.findIndex((r) => r.guestAddress === guestAddress && r.sizeBytes === sizeBytes);
    if (at === -1) return undefined;
    const [region] = this.#regions.splice(at, 1);
    this.windows.remove(guestAddress, sizeBytes);
    this.#recentSize = 0;
    return region;
  }

  clear(): void {
    for (const region of this.#regions) this.windows.remove(region.guestAddress, region.sizeBytes);
    this.#regions = [];
    this.#recentSize = 0;
  }

  /** The host address of `length` bytes at a guest address if they lie wholly in one region, else -1. */
  hostOfGuest(guestAddress: number, length: number): number {
    for (const region of this.#regions) {
      const offset = guestAddress - region.guestAddress;
      if (fits(offset, length, region.sizeBytes)) return region.hostAddress + offset;
    }
    return -1;
  }

  /** The same for an address of the front-end. */
  hostOfUser(userAddress: number, length: number): number {
    for (const region of this.#regions) {
      const offset = userAddress - region.userAddress;
      if (fits(offset, length, region.sizeBytes)) return region.hostAddress + offset;
    }
    return -1;
  }

  /** The region that wholly holds `length` bytes at a host address. */
  regionOfHost(hostAddress: number, length: number): Region | undefined {
    return this.#regions.find((region) => fits(hostAddress - region.hostAddress, length, region.sizeBytes));
  }

  /**
   * Appends `length` bytes at a guest address to `segments`, in as many pieces as regions make necessary; a
   * piece that continues the last one in host memory is joined to it. Length 0 appends nothing and is true.
   * False, with the list unchanged, when a byte of it lies outside guest memory or when the list is full, which
   * `segments.overflow` then tells.
   */
  append(segments: Segments, guestAddress: number, length: number): boolean {
    this.#piece[ADDRESS] = guestAddress;
    this.#piece[LENGTH] = length;
    return this.#append(segments);
  }

  /**
   * `append` for the words of a descriptor as they are: the bits count, not the sign. Small integers all the way,
   * so that nothing can need a heap number.
   */
  appendWords(segments: Segments, addressLow: number, addressHigh: number, length: number): boolean {
    const slot = this.windowOf(addressLow, addressHigh, length);
    if (slot !== -1 && length !== 0) {
      const offset = this.windowOffset;
      return place(segments, slot, offset, this.windows.hostStarts[slot] + offset, length);
    }
    // Above 2^53 this rounds, but no region reaches up there, so it cannot become a hit.
    this.#piece[ADDRESS] = (addressHigh >>> 0) * TWO_32 + (addressLow >>> 0);
    this.#piece[LENGTH] = length >>> 0;
    return this.#append(segments);
  }

  /**
   * The window that holds all of `length` bytes at an address given in words, with the offset in `windowOffset`;
   * or -1. For the rooms that read structures of the guest where they lie.
   */
  windowOf(addressLow: number, addressHigh: number, length: number): number {
    let offset = (addressLow - this.#recentLow) >>> 0;
    if (addressHigh !== this.#recentHigh || offset >= this.#recentSize) {
      this.#piece[ADDRESS] = (addressHigh >>> 0) * TWO_32 + (addressLow >>> 0);
      if (this.#search() === -1) return -1;
      offset = (addressLow - this.#recentLow) >>> 0;
    }
    // Every window is below 2^30 bytes and inside one high word, so all this fits small integers.
    if (length < 0 || length > this.#recentSize - offset) return -1;
    this.windowOffset = offset;
    return this.#recent;
  }

  #append(segments: Segments): boolean {
    segments.overflow = false;
    const { guestStarts, hostStarts, sizes } = this.windows;
    const { count, bytes, tailRegion, tailOffset } = segments;
    const lastLength = count === 0 ? 0 : segments.lengths[count - 1];
    let left = this.#piece[LENGTH];
    while (left > 0) {
      const address = this.#piece[ADDRESS];
      const slot = this.#search();
      if (slot === -1) break;
      const offset = address - guestStarts[slot];
      const length = Math.min(left, sizes[slot] - offset);
      if (!place(segments, slot, offset | 0, hostStarts[slot] + offset, length | 0)) break;
      this.#piece[ADDRESS] = address + length;
      left -= length;
    }
    if (left === 0) return true;
    segments.count = count;
    segments.bytes = bytes;
    segments.tailRegion = tailRegion;
    segments.tailOffset = tailOffset;
    if (count > 0) segments.lengths[count - 1] = lastLength;
    return false;
  }

  /** The window that holds the address in `#piece`, or -1. What it finds becomes the recent one. */
  #search(): number {
    const { order, guestStarts, sizes } = this.windows;
    const address = this.#piece[ADDRESS];
    let low = 0;
    let high = order.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (guestStarts[order[middle]] <= address) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return -1;
    const slot = order[low - 1];
    if (address - guestStarts[slot] >= sizes[slot]) return -1;
    this.#recent = slot;
    this.#recentSize = sizes[slot] | 0;
    this.#recentLow = (guestStarts[slot] % TWO_32) | 0;
    this.#recentHigh = (guestStarts[slot] / TWO_32) | 0;
    return slot;
  }
}

/** Adds a piece, or lengthens the last one when this continues it. False when the list is full. */
function place(segments: Segments, slot: number, offset: number, host: number, length: number): boolean {
  const at = segments.count;
  if (segments.tailRegion === slot && segments.tailOffset === offset) {
    segments.lengths[at - 1] += length;
  } else {
    segments.overflow = at === segments.capacity;
    if (segments.overflow) return false;
    segments.addresses[at] = host;
    segments.lengths[at] = length;
    segments.regions[at] = slot;
    segments.count = at + 1;
    segments.tailRegion = slot;
  }
  segments.tailOffset = offset + length;
  segments.bytes += length;
  return true;
}

/** Written so that nothing can overflow and NaN is refused. */
function fits(offset: number, length: number, sizeBytes: number): boolean {
  return offset >= 0 && offset < sizeBytes && length >= 0 && length <= sizeBytes - offset;
}

function checkShape(region: Region): void {
  const { sizeBytes } = region;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0) {
    throw new MemoryError('SIZE', `a memory region of ${sizeBytes} bytes`);
  }
  for (const kind of ['guestAddress', 'userAddress', 'hostAddress'] as const) {
    const address = region[kind];
    if (!Number.isSafeInteger(address) || address < 0 || address > ADDRESS_END - sizeBytes) {
      throw new MemoryError('ADDRESS', `a memory region with ${kind} ${address} and ${sizeBytes} bytes`);
    }
  }
  if (region.buffer !== undefined && region.buffer.byteLength < sizeBytes) {
    throw new MemoryError('BUFFER', `${region.buffer.byteLength} bytes mapped for a region of ${sizeBytes}`);
  }
}

function checkApart(region: Region, other: Region): void {
  for (const kind of ['guestAddress', 'userAddress', 'hostAddress'] as const) {
    const apart = region[kind] + region.sizeBytes <= other[kind] || other[kind] + other.sizeBytes <= region[kind];
    if (apart) continue;
    const [at, size, otherAt, otherSize] = [region[kind], region.sizeBytes, other[kind], other.sizeBytes].map(hex);
    throw new MemoryError('OVERLAP', `${kind} ${at} + ${size} overlaps the region at ${otherAt} + ${otherSize}`);
  }
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}
