import { GuestMemory } from '../memory/index.ts';
import { viewMemory } from '../sys/index.ts';
import type { MappedRegion } from '../vhost/index.ts';

/** One thread's view of the guest memory that the process has mapped. */
export class MemoryMirror {
  readonly memory = new GuestMemory();
  readonly #buffers = new Map<number, ArrayBuffer | undefined>();

  /** Follows the process's mappings: what is missing from the list may be unmapped once every thread has been here. */
  set(regions: readonly MappedRegion[]): void {
    const kept = new Set(regions.map((region) => region.hostAddress));
    const gone = this.memory.regions.filter((region) => !kept.has(region.hostAddress));
    for (const region of gone) this.#drop(region.guestAddress, region.sizeBytes, region.hostAddress);
    for (const region of regions) {
      if (this.#buffers.has(region.hostAddress)) continue;
      const buffer = region.isWindow === true ? undefined : viewMemory(region.hostAddress, region.sizeBytes);
      this.memory.add({ ...region, buffer });
      this.#buffers.set(region.hostAddress, buffer);
    }
  }

  #drop(guestAddress: number, sizeBytes: number, hostAddress: number): void {
    this.memory.remove(guestAddress, sizeBytes);
    // Detached: a view that somebody still held would be empty, not a way into unmapped memory.
    this.#buffers.get(hostAddress)?.transfer();
    this.#buffers.delete(hostAddress);
  }
}
