/**
 * The memory of one connection. The front-end speaks of all that is RAM in its VM: guest memory, which is mapped here,
 * and the ranges of windows (DAX) that some back-end has had it map, which are never touched here.
 */
import type { Fd } from '../core/index.ts';
import { close, fileIdentity, SysError } from '../sys/index.ts';
import type { Message } from './channel.ts';
import { VhostError } from './error.ts';
import { LENS_BYTES, type MappedFiles } from './mapped-files.ts';
import { type MappedRegion, mapRegion, type RegionRequest, unmapRegion } from './mapped-memory.ts';
import { MAX_TABLE_REGIONS, MemoryRegion, MemoryTable, SingleMemoryRegion } from './messages.ts';
import { readRegion } from './payloads.ts';

/** As virtiofsd: what a front-end can have besides its own slots. */
export const MAX_MEMORY_SLOTS = 509;
/** QEMU has no more regions than this; of what it says twice, the oldest is forgotten. */
const MAX_WINDOW_RANGES = 512;

/** What the memory needs of those who use it. */
export interface MemoryUser {
  /** Whether a ring runs. */
  isRunning(): boolean;
  /** Stops all rings; those that ran. */
  stopAll(): readonly number[];
  /** Lets rings go on where they were, where their memory is still there. */
  restart(indices: readonly number[]): void;
  /** The memory as it is from now on. No ring runs meanwhile. Throws where it cannot be. */
  setMemory(regions: readonly MappedRegion[]): void;
  /** Where this process has the device's window, if it has one. */
  readonly window: HostWindow | undefined;
}

/** A window as this process has it: reserved addresses, at which the device maps what it has the front-end map. */
export interface HostWindow {
  readonly hostAddress: number;
  readonly sizeBytes: number;
}

/** The front-end may put no ring into a window: it has no address that it could name. */
const NO_USER_ADDRESS = 2 ** 52;

export class MemoryRegions {
  readonly #user: MemoryUser;
  readonly #files: MappedFiles;
  #regions: readonly MappedRegion[] = [];
  #window: MappedRegion | undefined;
  /** Guest addresses of ranges of windows, accepted or refused. */
  readonly #windowRanges = new Set<number>();

  constructor(user: MemoryUser, files: MappedFiles) {
    this.#user = user;
    this.#files = files;
  }

  /** How many regions of guest memory are mapped. */
  get count(): number {
    return this.#regions.length;
  }

  /** Where an address of the front-end's is here; undefined where it gave us no memory. */
  hostAddress(userAddress: number): number | undefined {
    for (const region of this.#regions) {
      const offset = userAddress - region.userAddress;
      if (offset >= 0 && offset < region.sizeBytes) return region.hostAddress + offset;
    }
    return undefined;
  }

  /** SET_MEM_TABLE. */
  set({ payload, fds }: Message): undefined {
    const count = MemoryTable.nregions(payload, 0);
    const needed = MemoryTable.bytes + count * MemoryRegion.bytes;
    if (count > MAX_TABLE_REGIONS || payload.byteLength < needed || fds.length !== count) {
      throw new VhostError('MALFORMED', `SET_MEM_TABLE: ${count} regions, ${fds.length} descriptors`);
    }
    const mapped: MappedRegion[] = [];
    try {
      for (let i = 0; i < count; i += 1) {
        const fd = fds.shift() as Fd;
        if (this.#windowKey(fd) !== undefined) close(fd);
        else mapped.push(mapRegion(readRegion(payload, MemoryTable.bytes + i * MemoryRegion.bytes), fd));
      }
    } catch (error) {
      for (const region of mapped) unmapRegion(region);
      throw error;
    }
    this.#replace(mapped);
    return undefined;
  }

  /**
   * ADD_MEM_REG. Throws VhostError('WINDOW') for a range of a window while rings run. QEMU 11.1 maps it nevertheless;
   * once it believes that the back-end knows the range, every further change takes it longer, and a reboot of the guest
   * ends it by SIGSEGV. While it starts the device, a refusal would be the end of the device.
   */
  add({ payload, fds }: Message): undefined {
    const fd = fds.shift();
    if (fd === undefined) throw new VhostError('MALFORMED', 'ADD_MEM_REG: no descriptor came along');
    const request = readRegion(payload, SingleMemoryRegion.offsets.region);
    const key = this.#windowKey(fd);
    if (key !== undefined) {
      close(fd);
      this.#rememberWindowRange(request.guestAddress);
      this.#hearCommit(key, request);
      if (this.#user.isRunning()) throw new VhostError('WINDOW', 'ADD_MEM_REG: a range of a window');
      return undefined;
    }
    if (this.#regions.length >= MAX_MEMORY_SLOTS) {
      close(fd);
      throw new VhostError('MEMORY', `the VMM has more than ${MAX_MEMORY_SLOTS} memory regions`);
    }
    this.#replace([...this.#regions, mapRegion(request, fd)]);
    this.#windowRanges.delete(request.guestAddress);
    return undefined;
  }

  /** REM_MEM_REG. */
  remove({ payload }: Message): undefined {
    const { guestAddress } = readRegion(payload, SingleMemoryRegion.offsets.region);
    const rest = this.#regions.filter((region) => region.guestAddress !== guestAddress);
    if (rest.length < this.#regions.length) this.#replace(rest);
    else if (!this.#windowRanges.delete(guestAddress)) {
      throw new VhostError('MEMORY', `REM_MEM_REG: no region at guest address 0x${guestAddress.toString(16)}`);
    }
    return undefined;
  }

  /** All memory goes: rings stop. */
  clear(): void {
    this.#window = undefined;
    this.#replace([]);
    this.#windowRanges.clear();
  }

  /** A range is mapped: so we learn where the guest has the window. Requests may speak of it from then on. */
  #hearCommit(key: string, { guestAddress, mmapOffset, sizeBytes }: RegionRequest): void {
    const { commits } = this.#files;
    const offset = commits?.offsetOf(key, mmapOffset, sizeBytes) ?? -1;
    if (offset >= 0) this.#placeWindow(guestAddress - offset);
    commits?.commit();
  }

  #placeWindow(guestAddress: number): void {
    const { window } = this.#user;
    if (window === undefined || this.#window?.guestAddress === guestAddress) return;
    const before = this.#window;
    this.#window = { ...window, guestAddress, userAddress: NO_USER_ADDRESS, isWindow: true };
    try {
      this.#replace(this.#regions);
    } catch (error) {
      if (!(error instanceof VhostError)) throw error;
      // Where guest memory is there is no window.
      this.#window = before;
    }
  }

  /** The file of a region, if a back-end of this VM had it mapped into a window: a lens, or a file of this one. */
  #windowKey(fd: Fd): string | undefined {
    try {
      const { sizeBytes, key } = fileIdentity(fd);
      return sizeBytes === LENS_BYTES || this.#files.has(key) ? key : undefined;
    } catch (error) {
      close(fd);
      if (error instanceof SysError) throw new VhostError('MEMORY', `a memory region is unknown: ${error.message}`);
      throw error;
    }
  }

  #rememberWindowRange(guestAddress: number): void {
    const ranges = this.#windowRanges;
    ranges.delete(guestAddress);
    ranges.add(guestAddress);
    if (ranges.size > MAX_WINDOW_RANGES) ranges.delete(ranges.values().next().value as number);
  }

  #withWindow(regions: readonly MappedRegion[]): readonly MappedRegion[] {
    return this.#window === undefined ? regions : [...regions, this.#window];
  }

  /** Rings that run are stopped for the change and go on where they were. */
  #replace(regions: readonly MappedRegion[]): void {
    const gone = this.#regions.filter((region) => !regions.includes(region));
    const added = regions.filter((region) => !this.#regions.includes(region));
    const running = this.#user.stopAll();
    try {
      this.#user.setMemory(this.#withWindow(regions));
    } catch (error) {
      this.#user.setMemory(this.#regions);
      for (const region of added) unmapRegion(region);
      this.#user.restart(running);
      throw new VhostError('MEMORY', (error as Error).message);
    }
    this.#regions = regions;
    for (const region of gone) unmapRegion(region);
    this.#user.restart(running);
  }
}
