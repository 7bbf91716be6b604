import { assert } from '../core/index.ts';
import type { GuestMemory } from '../memory/index.ts';
import {
  AVAILABLE_ENTRIES,
  AVAILABLE_F_NO_INTERRUPT,
  availableRingBytes,
  availEventAt,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_INDIRECT,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  DESCRIPTOR_WORDS,
  descriptorTableBytes,
  mapRings,
  passes,
  RING_FLAGS,
  RING_INDEX,
  USED_ELEMENTS,
  USED_F_NO_NOTIFY,
  usedEventAt,
  usedRingBytes,
} from './layout.ts';

export interface DriverQueueOptions {
  /** A power of two, at most 32768. */
  size: number;
  /** Where the rings are laid: `DriverQueue.bytes` bytes in one region, at a multiple of 16. */
  guestAddress: number;
  eventIdx: boolean;
  /** Entries of the indirect table that each chain has; 0 or absent: no indirect descriptors. */
  indirectEntries?: number;
  /** The ring index to begin with, 0 to 65535: 0 unless a queue is continued. */
  nextIndex?: number;
}

/** A piece of guest memory to be read or written by the device. */
export interface GuestBuffer {
  address: number;
  length: number;
}

export interface AddOptions {
  /** Put the descriptors into an indirect table. */
  indirect: boolean;
  /** So many buffers get a descriptor of their own before the table. Default 0. */
  directFirst?: number;
}

export const DIRECT: AddOptions = { indirect: false };

const COLLECTED_NOTHING = -1;
const COLLECTED_NONSENSE = -2;

/**
 * The driver side of a split virtqueue (virtio 2.7): lays rings in guest memory, offers buffers and collects them.
 * Whether the device keeps to the rules is checked, not trusted: what we have offered is remembered on our side.
 */
export class DriverQueue {
  readonly size: number;
  /** Guest addresses. */
  readonly descriptorTable: number;
  readonly availableRing: number;
  readonly usedRing: number;
  /** Bytes that the device says it has written to the chain last collected. */
  collectedBytes = 0;
  /** Descriptors that are not in a chain. */
  freeDescriptors: number;
  readonly #eventIdx: boolean;
  readonly #indirectEntries: number;
  /** The guest address of the table of head 0; each head has its own. */
  readonly #tables: number;
  readonly #tableWords: Uint32Array;
  readonly #descriptors: Uint32Array;
  readonly #available: Uint16Array;
  readonly #used: Uint16Array;
  readonly #usedElements: Uint32Array;
  /** Free descriptors, and those of a chain, are linked here: what lies in shared memory is not ours alone. */
  readonly #following: Uint16Array;
  #firstFree = 0;
  /** By head: descriptors of the chain that is with the device, 0 when none is. */
  readonly #chainLengths: Uint16Array;
  #availableNext: number;
  #published: number;
  #usedNext: number;

  /** Bytes that a queue takes in guest memory. */
  static bytes(size: number, indirectEntries = 0): number {
    return tablesOffset(size) + size * indirectEntries * DESCRIPTOR_BYTES;
  }

  /** Clears and lays the rings. Throws a QueueError: SIZE, ALIGNMENT, OUTSIDE. */
  constructor(memory: GuestMemory, options: DriverQueueOptions) {
    const { size, guestAddress, eventIdx, indirectEntries = 0, nextIndex = 0 } = options;
    const bytes = DriverQueue.bytes(size, indirectEntries);
    const host = memory.hostOfGuest(guestAddress, bytes);
    const rings = mapRings(memory, ringOffsets(host, size), size, eventIdx);
    const at = ringOffsets(guestAddress, size);
    this.size = size;
    this.descriptorTable = at.descriptorTable;
    this.availableRing = at.availableRing;
    this.usedRing = at.usedRing;
    this.#eventIdx = eventIdx;
    this.#indirectEntries = indirectEntries;
    this.#tables = guestAddress + tablesOffset(size);
    const words = rings.descriptors;
    const tableWords = size * indirectEntries * DESCRIPTOR_WORDS;
    this.#tableWords = new Uint32Array(words.buffer, words.byteOffset + tablesOffset(size), tableWords);
    this.#descriptors = words;
    this.#available = rings.available.fill(0);
    this.#used = rings.used.fill(0);
    this.#usedElements = rings.usedElements;
    this.#following = Uint16Array.from({ length: size }, (_, i) => (i + 1) & (size - 1));
    this.#chainLengths = new Uint16Array(size);
    this.freeDescriptors = size;
    this.#availableNext = nextIndex;
    this.#published = nextIndex;
    this.#usedNext = nextIndex;
    this.#available[RING_INDEX] = nextIndex;
    this.#used[RING_INDEX] = nextIndex;
    if (eventIdx) this.#available[usedEventAt(size)] = nextIndex;
  }

  /** Puts a chain into the available ring; the device sees it after `publish`. Returns its head, -1 for no room. */
  add(readable: readonly GuestBuffer[], writable: readonly GuestBuffer[], options: AddOptions = DIRECT): number {
    const count = readable.length + writable.length;
    assert(count > 0, 'a chain needs a buffer');
    const direct = options.indirect ? (options.directFirst ?? 0) : count;
    const inTable = count - direct;
    assert(!options.indirect || (inTable > 0 && inTable <= this.#indirectEntries), 'no such indirect table');
    const needed = options.indirect ? direct + 1 : direct;
    if (needed > this.freeDescriptors) return -1;
    const head = this.#firstFree;
    let index = head;
    for (let i = 0; i < direct; i += 1) {
      const more = i + 1 < needed;
      const next = this.#following[index];
      const buffer = i < readable.length ? readable[i] : writable[i - readable.length];
      const flags = (i < readable.length ? 0 : DESCRIPTOR_F_WRITE) | (more ? DESCRIPTOR_F_NEXT : 0);
      describe(this.#descriptors, index * DESCRIPTOR_WORDS, buffer.address, buffer.length, flags | (next << 16));
      index = next;
    }
    if (options.indirect) {
      this.#fillTable(head, readable, writable, direct);
      const table = this.#tables + head * this.#indirectEntries * DESCRIPTOR_BYTES;
      const at = index * DESCRIPTOR_WORDS;
      describe(this.#descriptors, at, table, inTable * DESCRIPTOR_BYTES, DESCRIPTOR_F_INDIRECT);
      index = this.#following[index];
    }
    this.#firstFree = index;
    this.freeDescriptors -= needed;
    this.#chainLengths[head] = needed;
    this.#available[AVAILABLE_ENTRIES + (this.#availableNext & (this.size - 1))] = head;
    this.#availableNext = (this.#availableNext + 1) & 0xffff;
    return head;
  }

  /** Shows the device everything added so far. True when it wants a kick for that. */
  publish(): boolean {
    const next = this.#availableNext;
    const previous = this.#published;
    if (next === previous) return false;
    // virtio 2.7.13.3.1 and 2.7.13.4.1: descriptors and entries before idx, idx before the look at suppression.
    Atomics.store(this.#available, RING_INDEX, next);
    this.#published = next;
    if (!this.#eventIdx) return (Atomics.load(this.#used, RING_FLAGS) & USED_F_NO_NOTIFY) === 0;
    return passes(Atomics.load(this.#used, availEventAt(this.size)), next, previous);
  }

  /** Takes back one chain: its head, with `collectedBytes`; -1 when there is none; -2 when the device made it up. */
  collect(): number {
    const used = this.#usedNext;
    // virtio 2.7.8.2: the device stores idx after id and len.
    const ahead = (Atomics.load(this.#used, RING_INDEX) - used) & 0xffff;
    if (ahead === 0) return COLLECTED_NOTHING;
    if (ahead > this.size) return COLLECTED_NONSENSE;
    const at = USED_ELEMENTS + 2 * (used & (this.size - 1));
    const head = this.#usedElements[at];
    const bytes = this.#usedElements[at + 1];
    const length = head < this.size ? this.#chainLengths[head] : 0;
    if (length === 0) return COLLECTED_NONSENSE;
    let last = head;
    for (let i = 1; i < length; i += 1) last = this.#following[last];
    this.#following[last] = this.#firstFree;
    this.#firstFree = head;
    this.#chainLengths[head] = 0;
    this.freeDescriptors += length;
    this.#usedNext = (used + 1) & 0xffff;
    this.collectedBytes = bytes;
    return head;
  }

  /** Asks the device to hold its interrupts. A hint: some may come all the same. */
  disableInterrupts(): void {
    // virtio 2.7.7.1: with EVENT_IDX flags stay 0, and a used_event that is left behind asks for nothing.
    if (!this.#eventIdx) Atomics.store(this.#available, RING_FLAGS, AVAILABLE_F_NO_INTERRUPT);
  }

  /** Asks for an interrupt with the next chain used. True when some came back meanwhile: then collect. */
  enableInterrupts(): boolean {
    if (this.#eventIdx) Atomics.store(this.#available, usedEventAt(this.size), this.#usedNext);
    else Atomics.store(this.#available, RING_FLAGS, 0);
    return Atomics.load(this.#used, RING_INDEX) !== this.#usedNext;
  }

  /** virtio 2.7.5.3: the buffers from `first` on, as one table. */
  #fillTable(head: number, readable: readonly GuestBuffer[], writable: readonly GuestBuffer[], first: number): void {
    const count = readable.length + writable.length;
    const start = head * this.#indirectEntries * DESCRIPTOR_WORDS;
    for (let i = first; i < count; i += 1) {
      const entry = i - first;
      const buffer = i < readable.length ? readable[i] : writable[i - readable.length];
      const flags = (i < readable.length ? 0 : DESCRIPTOR_F_WRITE) | (i + 1 < count ? DESCRIPTOR_F_NEXT : 0);
      const at = start + entry * DESCRIPTOR_WORDS;
      describe(this.#tableWords, at, buffer.address, buffer.length, flags | ((entry + 1) << 16));
    }
  }
}

function ringOffsets(
  start: number,
  size: number,
): { descriptorTable: number; availableRing: number; usedRing: number } {
  const availableRing = start + descriptorTableBytes(size);
  const usedRing = availableRing + roundUp(availableRingBytes(size, true), 4);
  return { descriptorTable: start, availableRing, usedRing };
}

function tablesOffset(size: number): number {
  return roundUp(ringOffsets(0, size).usedRing + usedRingBytes(size, true), 16);
}

function roundUp(bytes: number, to: number): number {
  return Math.ceil(bytes / to) * to;
}

/** Writes one descriptor; a store to a word array keeps the low 32 bits of an address. */
function describe(words: Uint32Array, at: number, address: number, length: number, flagsAndNext: number): void {
  words[at] = address;
  words[at + 1] = address / 2 ** 32;
  words[at + 2] = length;
  words[at + 3] = flagsAndNext;
}
