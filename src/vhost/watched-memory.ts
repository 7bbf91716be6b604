/** Guest memory for who looks on: what the front-end tells the back-end of it, mapped for reading alone. */
import { type Fd, TWO_32 } from '../core/index.ts';
import { GuestMemory, MemoryError } from '../memory/index.ts';
import { close, fileIdentity, SysError, viewMemory } from '../sys/index.ts';
import { VhostError } from './error.ts';
import { LENS_BYTES } from './mapped-files.ts';
import { type MappedRegion, mapRegion, type RegionRequest, unmapRegion } from './mapped-memory.ts';
import { MAX_TABLE_REGIONS, MemoryRegion, MemoryTable, SingleMemoryRegion } from './messages.ts';
import { MAX_MEMORY_SLOTS } from './memory-regions.ts';
import { readRegion } from './payloads.ts';

/** One of the three messages about memory, with descriptors of its own. */
export interface MemoryMessage {
  readonly name: 'SET_MEM_TABLE' | 'ADD_MEM_REG' | 'REM_MEM_REG';
  readonly payload: DataView;
  readonly fds: Fd[];
}

export class WatchedMemory {
  readonly memory = new GuestMemory();
  readonly #warn: (message: string) => void;
  readonly #regions: { readonly mapped: MappedRegion; readonly buffer: ArrayBuffer }[] = [];
  /** Files of guest memory, by identity. */
  readonly #files = new Set<string>();
  #filesAreKnown = false;

  constructor(warn: (message: string) => void) {
    this.#warn = warn;
  }

  /**
   * The device has a window (DAX) and works: what is not of the files known by now is a piece of that. Others may make
   * such a file shorter at any time, and who then reads it here is ended by SIGBUS; so it is left alone.
   */
  knowFiles(): void {
    this.#filesAreKnown = true;
  }

  /** Follows a message; what cannot be is warned of and left out. No ring is looked at meanwhile. */
  apply({ name, payload, fds }: MemoryMessage): void {
    try {
      if (name === 'SET_MEM_TABLE') this.#set(payload, fds);
      else if (payload.byteLength < SingleMemoryRegion.bytes) throw new VhostError('MALFORMED', 'it is too short');
      else if (name === 'ADD_MEM_REG') this.#add(readRegion(payload, SingleMemoryRegion.offsets.region), fds.shift());
      else this.#remove(readRegion(payload, SingleMemoryRegion.offsets.region).guestAddress);
    } catch (error) {
      const isTheirs = error instanceof VhostError || error instanceof SysError || error instanceof MemoryError;
      if (!isTheirs) throw error;
      this.#warn(`${name}: what lies there is not traced: ${error.message}`);
    } finally {
      for (const fd of fds.splice(0)) close(fd);
    }
  }

  #set(payload: DataView, fds: Fd[]): void {
    const count = payload.byteLength < MemoryTable.bytes ? TWO_32 : MemoryTable.nregions(payload, 0);
    if (count > MAX_TABLE_REGIONS || payload.byteLength < MemoryTable.bytes + count * MemoryRegion.bytes) {
      throw new VhostError('MALFORMED', `${payload.byteLength} bytes are no table`);
    }
    this.clear();
    for (let i = 0; i < count; i += 1) {
      this.#add(readRegion(payload, MemoryTable.bytes + i * MemoryRegion.bytes), fds.shift());
    }
  }

  #add(request: RegionRequest, fd: Fd | undefined): void {
    if (fd === undefined) throw new VhostError('MALFORMED', 'no descriptor came along');
    let isMemory = false;
    try {
      isMemory = this.#isMemory(fd);
    } finally {
      if (!isMemory) close(fd);
    }
    if (!isMemory) return;
    const mapped = mapRegion(request, fd, true);
    const buffer = viewMemory(mapped.hostAddress, mapped.sizeBytes);
    try {
      this.memory.add({ ...mapped, buffer });
    } catch (error) {
      buffer.transfer();
      unmapRegion(mapped);
      throw error;
    }
    this.#regions.push({ mapped, buffer });
  }

  #isMemory(fd: Fd): boolean {
    if (this.#regions.length >= MAX_MEMORY_SLOTS) {
      throw new VhostError('MEMORY', `more than ${MAX_MEMORY_SLOTS} regions`);
    }
    const { sizeBytes, key } = fileIdentity(fd);
    if (sizeBytes === LENS_BYTES || (this.#filesAreKnown && !this.#files.has(key))) return false;
    this.#files.add(key);
    return true;
  }

  #remove(guestAddress: number): void {
    const at = this.#regions.findIndex(({ mapped }) => mapped.guestAddress === guestAddress);
    if (at === -1) return;
    const [{ mapped, buffer }] = this.#regions.splice(at, 1);
    this.memory.remove(mapped.guestAddress, mapped.sizeBytes);
    // Detached: a view that somebody still held would be empty, not a way into unmapped memory.
    buffer.transfer();
    unmapRegion(mapped);
  }

  clear(): void {
    for (const { mapped } of [...this.#regions]) this.#remove(mapped.guestAddress);
  }
}
