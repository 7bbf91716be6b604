/** A queue whose rings are written by hand, so that they can be written wrongly; and an oracle of what is wrong. */
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_INDIRECT,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  usedEventAt,
} from '../src/virtio/layout.ts';
import type { TestGuest } from './guest.ts';

const ANSWER_LIMIT_MS = 10_000;

export const NEXT = DESCRIPTOR_F_NEXT;
export const WRITE = DESCRIPTOR_F_WRITE;
export const INDIRECT = DESCRIPTOR_F_INDIRECT;

/** What a descriptor holds; absent fields are 0. */
export interface RawDescriptor {
  readonly address?: number | bigint;
  readonly length?: number;
  readonly flags?: number;
  readonly next?: number;
}

/** What the device should make of a chain. */
export interface Verdict {
  /** The chain breaks a rule of virtio: nothing of it may be used. */
  readonly bad: boolean;
  readonly readableBytes: number;
  readonly writableBytes: number;
}

const BAD: Verdict = { bad: true, readableBytes: 0, writableBytes: 0 };

export class RawRing {
  readonly guest: TestGuest;
  readonly queue: number;
  #available = 0;
  #used = 0;

  constructor(guest: TestGuest, queue = 1) {
    this.guest = guest;
    this.queue = queue;
    this.restart();
  }

  get size(): number {
    return this.guest.drivers[this.queue].size;
  }

  /** New, empty rings. */
  restart(): void {
    this.guest.restartQueue(this.queue);
    this.#available = 0;
    this.#used = 0;
  }

  /** Writes a descriptor, of the queue's table or of one at a guest address. */
  describe(index: number, descriptor: RawDescriptor, table = this.guest.drivers[this.queue].descriptorTable): void {
    const view = new DataView(new ArrayBuffer(DESCRIPTOR_BYTES));
    view.setBigUint64(0, BigInt.asUintN(64, BigInt(descriptor.address ?? 0)), true);
    view.setUint32(8, descriptor.length ?? 0, true);
    view.setUint16(12, descriptor.flags ?? 0, true);
    view.setUint16(14, descriptor.next ?? 0, true);
    this.guest.write(table + index * DESCRIPTOR_BYTES, new Uint8Array(view.buffer));
  }

  /** A chain of descriptors from `first` on, one after the other. */
  describeAll(first: number, descriptors: readonly RawDescriptor[], table?: number): void {
    for (const [i, each] of descriptors.entries()) {
      const more = i + 1 < descriptors.length ? NEXT : 0;
      this.describe(first + i, { next: first + i + 1, ...each, flags: (each.flags ?? 0) | more }, table);
    }
  }

  /** Puts heads into the available ring. */
  offer(...heads: number[]): void {
    const { availableRing } = this.guest.drivers[this.queue];
    for (const head of heads) {
      this.#put16(availableRing + 4 + 2 * (this.#available & (this.size - 1)), head);
      this.#available = (this.#available + 1) & 0xffff;
    }
    this.availableIndex = this.#available;
  }

  set availableIndex(index: number) {
    this.#put16(this.guest.drivers[this.queue].availableRing + 2, index & 0xffff);
  }

  #put16(address: number, value: number): void {
    this.guest.write(address, new Uint8Array(new Uint16Array([value]).buffer));
  }

  get usedIndex(): number {
    return this.#get(this.guest.drivers[this.queue].usedRing + 2, 2).getUint16(0, true);
  }

  #get(address: number, length: number): DataView {
    return new DataView(this.guest.read(address, length).buffer);
  }

  /** Kicks, and waits until so many chains have come back: head and length of each. */
  run(count: number): { head: number; length: number }[] {
    const { availableRing, usedRing } = this.guest.drivers[this.queue];
    const end = (this.#used + count) & 0xffff;
    this.#put16(availableRing + 2 * usedEventAt(this.size), end - 1);
    this.guest.kick(this.queue);
    const deadline = performance.now() + ANSWER_LIMIT_MS;
    while (((end - this.usedIndex) & 0xffff) !== 0) {
      // What was published before the device saw how far we wait comes without an interrupt.
      this.guest.awaitInterrupt(this.queue, 5);
      if (performance.now() > deadline) throw new Error(`used index ${this.usedIndex}, not ${end}`);
    }
    const back = [];
    for (; this.#used !== end; this.#used = (this.#used + 1) & 0xffff) {
      const element = this.#get(usedRing + 4 + 8 * (this.#used & (this.size - 1)), 8);
      back.push({ head: element.getUint32(0, true), length: element.getUint32(4, true) });
    }
    return back;
  }

  /** Kicks, waits until the device is done with it whatever there is, and stops: chains that were taken. */
  settle(): number {
    this.guest.kick(this.queue);
    const taken = this.guest.stopQueue(this.queue);
    this.guest.startQueue(this.queue);
    this.#available = 0;
    this.#used = 0;
    return taken;
  }

  /** What virtio 2.7 says of the chain that starts at `head`. Written for being read, not for speed. */
  judge(head: number): Verdict {
    let table = this.guest.drivers[this.queue].descriptorTable;
    let entries = this.size;
    let index = head;
    let [readable, writable] = [0n, 0n];
    let inTable = false;
    let sawWritable = false;
    let outside = false;
    for (let hops = 0; hops < entries; hops += 1) {
      const at = this.#get(table + index * DESCRIPTOR_BYTES, DESCRIPTOR_BYTES);
      const [address, length] = [at.getBigUint64(0, true), BigInt(at.getUint32(8, true))];
      const [flags, next] = [at.getUint16(12, true), at.getUint16(14, true)];
      const inside = length === 0n || address + length <= BigInt(this.guest.memoryBytes);
      if ((flags & INDIRECT) !== 0) {
        if (inTable || (flags & NEXT) !== 0 || length === 0n || length % 16n !== 0n || !inside) return BAD;
        if (length > 4096n * 16n) return BAD;
        [table, entries, index, inTable, hops] = [Number(address), Number(length / 16n), 0, true, -1];
        continue;
      }
      const isWritable = (flags & WRITE) !== 0;
      if (sawWritable && !isWritable) return BAD;
      sawWritable = isWritable;
      // What comes first in either half is a header.
      if (!inside && (isWritable ? writable : readable) === 0n) return BAD;
      if (!inside) outside = true;
      else if (isWritable) writable += length;
      else readable += length;
      if ((flags & NEXT) === 0) {
        if (!outside && readable + writable > 2n ** 32n) return BAD;
        return { bad: outside, readableBytes: Number(readable), writableBytes: Number(writable) };
      }
      index = next;
      if (index >= entries) return BAD;
    }
    return BAD;
  }
}
