/** Guest memory as the front-end passes it: files to map. */
import { type Fd, PAGE_BYTES } from '../core/index.ts';
import { close, fileSize, mapShared, mapSharedReadOnly, munmap, SysError } from '../sys/index.ts';
import { VhostError } from './error.ts';

/** A region of guest memory, mapped into this process. */
export interface MappedRegion {
  readonly guestAddress: number;
  readonly sizeBytes: number;
  readonly userAddress: number;
  readonly hostAddress: number;
  /** It is a window, for the kernel alone to touch: not all of it is there. */
  readonly isWindow?: boolean;
}

/** A region as a message describes it. */
export interface RegionRequest {
  readonly guestAddress: number;
  readonly sizeBytes: number;
  readonly userAddress: number;
  readonly mmapOffset: number;
}

const hex = (value: number): string => `0x${value.toString(16)}`;

/**
 * Maps a region and closes its descriptor. Throws VhostError('MEMORY') on what cannot be, with nothing mapped.
 * `readOnly`: for who only looks on.
 */
export function mapRegion(request: RegionRequest, fd: Fd, readOnly = false): MappedRegion {
  try {
    const { guestAddress, sizeBytes, userAddress, mmapOffset } = request;
    const what = `memory region at guest address ${hex(guestAddress)}, ${sizeBytes} bytes`;
    for (const value of [
      guestAddress,
      sizeBytes,
      userAddress,
      mmapOffset,
      guestAddress + sizeBytes,
      mmapOffset + sizeBytes,
    ]) {
      if (!Number.isSafeInteger(value)) throw new VhostError('MEMORY', `${what}: a number beyond 2^53`);
    }
    if (sizeBytes === 0 || mmapOffset % PAGE_BYTES !== 0) {
      throw new VhostError('MEMORY', `${what}: size 0, or file offset ${mmapOffset} not a multiple of ${PAGE_BYTES}`);
    }
    // Memory beyond the end of the file would end this process with SIGBUS at the first access.
    const size = fileSize(fd);
    if (size < mmapOffset + sizeBytes) {
      throw new VhostError('MEMORY', `${what}: its file has ${size} bytes, fewer than ${mmapOffset} + ${sizeBytes}`);
    }
    const hostAddress = (readOnly ? mapSharedReadOnly : mapShared)(fd, sizeBytes, mmapOffset);
    return { guestAddress, sizeBytes, userAddress, hostAddress };
  } catch (error) {
    if (error instanceof SysError) throw new VhostError('MEMORY', `a memory region cannot be mapped: ${error.message}`);
    throw error;
  } finally {
    close(fd);
  }
}

/** Unmaps a region. Every thread has dropped its views of it. */
export function unmapRegion(region: MappedRegion): void {
  munmap(region.hostAddress, region.sizeBytes);
}
