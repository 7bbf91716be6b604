/** For the tests of this room: rings laid by hand, so that they can be laid wrongly. */
import { GuestMemory } from '../memory/index.ts';
import { DeviceQueue, type QueueStart } from './index.ts';

/** What a descriptor holds; absent fields are 0. */
export interface RawDescriptor {
  address?: number | bigint;
  length?: number;
  flags?: number;
  next?: number;
}

const GUEST_BASE = 0x10_0000;
const HOST_BASE = 0x7000_0000_0000;
/** Of the guest: two regions side by side, elsewhere on the host, then nothing. */
const REGION_BYTES = 0x1_0000;

export const TABLE = GUEST_BASE;
export const AVAILABLE = GUEST_BASE + 0x4000;
export const USED = GUEST_BASE + 0x5000;
/** 32 KiB for indirect tables and buffers, and then as much in the next region. */
export const DATA = GUEST_BASE + 0x8000;
export const BORDER = GUEST_BASE + REGION_BYTES;
export const END = BORDER + REGION_BYTES;

export class RawRings {
  readonly size: number;
  readonly eventIdx: boolean;
  readonly memory = new GuestMemory();
  readonly device: DeviceQueue;
  readonly #bytes: DataView[] = [];

  constructor(size = 8, eventIdx = false) {
    this.size = size;
    this.eventIdx = eventIdx;
    for (let i = 0; i < 2; i += 1) {
      const buffer = new ArrayBuffer(REGION_BYTES);
      const guestAddress = GUEST_BASE + i * REGION_BYTES;
      const hostAddress = HOST_BASE + i * 0x100_0000;
      this.memory.add({ guestAddress, sizeBytes: REGION_BYTES, userAddress: hostAddress, hostAddress, buffer });
      this.#bytes.push(new DataView(buffer));
    }
    this.device = new DeviceQueue(this.memory, 1);
  }

  /** The options under which the device finds these rings. */
  options(over: Partial<QueueStart> = {}): QueueStart {
    return {
      size: this.size,
      descriptorTable: this.host(TABLE),
      availableRing: this.host(AVAILABLE),
      usedRing: this.host(USED),
      eventIdx: this.eventIdx,
      indirect: true,
      nextAvailable: 0,
      ...over,
    };
  }

  start(over: Partial<QueueStart> = {}): this {
    this.device.start(this.options(over));
    return this;
  }

  host(guestAddress: number): number {
    return this.memory.hostOfGuest(guestAddress, 1);
  }

  u8(address: number, value: number): void {
    const at = address - GUEST_BASE;
    this.#bytes[Math.floor(at / REGION_BYTES)].setUint8(at % REGION_BYTES, value);
  }

  u16(address: number, value: number): void {
    this.u8(address, value & 0xff);
    this.u8(address + 1, (value >> 8) & 0xff);
  }

  u32(address: number, value: number): void {
    this.u16(address, value & 0xffff);
    this.u16(address + 2, value >>> 16);
  }

  read8(address: number): number {
    const at = address - GUEST_BASE;
    return this.#bytes[Math.floor(at / REGION_BYTES)].getUint8(at % REGION_BYTES);
  }

  read16(address: number): number {
    return this.read8(address) | (this.read8(address + 1) << 8);
  }

  read32(address: number): number {
    return (this.read16(address) | (this.read16(address + 2) << 16)) >>> 0;
  }

  /** Writes descriptor `index` of the table at `table`. */
  describe(index: number, descriptor: RawDescriptor, table: number = TABLE): void {
    const { address = 0, length = 0, flags = 0, next = 0 } = descriptor;
    const at = table + index * 16;
    this.u32(at, Number(BigInt(address) & 0xffff_ffffn));
    this.u32(at + 4, Number(BigInt(address) >> 32n));
    this.u32(at + 8, length);
    this.u16(at + 12, flags);
    this.u16(at + 14, next);
  }

  /** Writes an entry of the available ring and nothing else. */
  entry(index: number, head: number): void {
    this.u16(AVAILABLE + 4 + 2 * (index % this.size), head);
  }

  /** Offers heads: the entries, then the index. */
  offer(...heads: number[]): void {
    const index = this.read16(AVAILABLE + 2);
    heads.forEach((head, i) => {
      this.entry(index + i, head);
    });
    this.availableIndex = index + heads.length;
  }

  set availableIndex(index: number) {
    this.u16(AVAILABLE + 2, index & 0xffff);
  }

  set availableFlags(flags: number) {
    this.u16(AVAILABLE, flags);
  }

  set usedEvent(index: number) {
    this.u16(AVAILABLE + 4 + 2 * this.size, index & 0xffff);
  }

  get availEvent(): number {
    return this.read16(USED + 4 + 8 * this.size);
  }

  get usedFlags(): number {
    return this.read16(USED);
  }

  get usedIndex(): number {
    return this.read16(USED + 2);
  }

  set usedIndex(index: number) {
    this.u16(USED + 2, index);
  }

  /** id and len of a used element. */
  used(index: number): [number, number] {
    const at = USED + 4 + 8 * (index % this.size);
    return [this.read32(at), this.read32(at + 4)];
  }
}
