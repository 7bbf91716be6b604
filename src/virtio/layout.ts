import { assert, MAX_QUEUE_SIZE } from '../core/index.ts';
import type { GuestMemory } from '../memory/index.ts';
import { QueueError } from './errors.ts';

/** struct virtq_desc (virtio 2.7.5): le64 addr, le32 len, le16 flags, le16 next. */
export const DESCRIPTOR_BYTES = 16;
export const DESCRIPTOR_F_NEXT = 1;
export const DESCRIPTOR_F_WRITE = 2;
export const DESCRIPTOR_F_INDIRECT = 4;
/** virtio 2.7.6: the driver wants no interrupts. */
export const AVAILABLE_F_NO_INTERRUPT = 1;
/** virtio 2.7.8: the device wants no kicks. */
export const USED_F_NO_NOTIFY = 1;

/**
 * The longest indirect table that we take. Virtio asks drivers to stay within the queue size (2.7.5.3.1), but
 * Linux may exceed it, and lets a device have a reasonable limit (2.7.4.1).
 */
export const INDIRECT_MAX = 4096;

/** Words of a descriptor. */
export const DESCRIPTOR_WORDS = 4;
/** In le16 units, in both rings (virtio 2.7.6, 2.7.8). */
export const RING_FLAGS = 0;
export const RING_INDEX = 1;
/** ring[0] of the available ring, in le16 units. */
export const AVAILABLE_ENTRIES = 2;
/** ring[0] of the used ring, in le32 units: two for each element, id and len. */
export const USED_ELEMENTS = 1;

/** used_event, the last field of the available ring, in le16 units. */
export function usedEventAt(size: number): number {
  return AVAILABLE_ENTRIES + size;
}

/** avail_event, the last field of the used ring, in le16 units. */
export function availEventAt(size: number): number {
  return 2 + 4 * size;
}

export function descriptorTableBytes(size: number): number {
  return DESCRIPTOR_BYTES * size;
}

/** `eventIdx`: with the event index at its end, which is there only if VIRTIO_F_EVENT_IDX is negotiated. */
export function availableRingBytes(size: number, eventIdx: boolean): number {
  return 4 + 2 * size + (eventIdx ? 2 : 0);
}

/** As `availableRingBytes`. */
export function usedRingBytes(size: number, eventIdx: boolean): number {
  return 4 + 8 * size + (eventIdx ? 2 : 0);
}

/**
 * The rule of VIRTIO_F_EVENT_IDX (virtio 2.7.7.2 and 2.7.10.1): has an index that went from `previous` to `next`
 * passed the entry `event`, which the other side wants to hear of? All modulo 2^16.
 */
export function passes(event: number, next: number, previous: number): boolean {
  return ((next - event - 1) & 0xffff) < ((next - previous) & 0xffff);
}

/** Views of the three parts of a split queue; elements are addressed in the units above. */
export interface Rings {
  descriptors: Uint32Array;
  available: Uint16Array;
  used: Uint16Array;
  /** The same bytes as `used`. */
  usedElements: Uint32Array;
}

export const NO_RINGS: Rings = {
  descriptors: new Uint32Array(0),
  available: new Uint16Array(0),
  used: new Uint16Array(0),
  usedElements: new Uint32Array(0),
};

/** Host addresses of the three parts. */
export interface RingAddresses {
  descriptorTable: number;
  availableRing: number;
  usedRing: number;
}

/**
 * Views of rings in guest memory. They are bounded by the rings, so nothing that the driver writes there can lead
 * an access outside. Throws a QueueError: SIZE, ALIGNMENT, OUTSIDE.
 */
export function mapRings(memory: GuestMemory, at: RingAddresses, size: number, eventIdx: boolean): Rings {
  const descriptors = mapDescriptors(memory, at.descriptorTable, size);
  const availableBytes = availableRingBytes(size, eventIdx);
  const usedBytes = usedRingBytes(size, eventIdx);
  const available = mapPart(memory, 'available ring', at.availableRing, availableBytes, 2);
  const used = mapPart(memory, 'used ring', at.usedRing, usedBytes, 4);
  return {
    descriptors,
    available: new Uint16Array(available.buffer, available.byteOffset, availableBytes / 2),
    used: new Uint16Array(used.buffer, used.byteOffset, usedBytes / 2),
    usedElements: new Uint32Array(used.buffer, used.byteOffset, Math.floor(usedBytes / 4)),
  };
}

/** As `mapRings`, the descriptor table alone. */
export function mapDescriptors(memory: GuestMemory, descriptorTable: number, size: number): Uint32Array {
  // virtio 2.7: a power of two, at most 32768. The alignments are in the table of the same section.
  if (!Number.isInteger(size) || size < 1 || size > MAX_QUEUE_SIZE || (size & (size - 1)) !== 0) {
    throw new QueueError('SIZE', `a queue of ${size} entries: must be a power of two from 1 to ${MAX_QUEUE_SIZE}`);
  }
  const bytes = descriptorTableBytes(size);
  const table = mapPart(memory, 'descriptor table', descriptorTable, bytes, 16);
  return new Uint32Array(table.buffer, table.byteOffset, bytes / 4);
}

function mapPart(memory: GuestMemory, what: string, address: number, bytes: number, alignment: number): Uint8Array {
  const region = memory.regionOfHost(address, bytes);
  if (region?.buffer === undefined) {
    throw new QueueError('OUTSIDE', `the ${what} (${bytes} bytes at host address ${address}) is not in guest memory`);
  }
  const offset = address - region.hostAddress;
  if (offset % alignment !== 0) {
    throw new QueueError(
      'ALIGNMENT',
      `the ${what} lies ${offset} bytes into its region: not a multiple of ${alignment}`,
    );
  }
  return new Uint8Array(region.buffer, offset, bytes);
}

// The views above read the little-endian rings of virtio 1 in the order of this machine.
assert(new Uint8Array(new Uint16Array([1]).buffer)[0] === 1, 'this machine is big-endian');
