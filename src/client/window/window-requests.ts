/** What a daemon may have done in the window: files mapped and unmapped, each request held against what is there. */
import { type Fd, PAGE_BYTES } from '../../core/index.ts';
import { close, Epoll, isRegularFile, mapAt, SysError, unmapAt } from '../../sys/index.ts';
import { type BackendRequests, VhostError, type WindowRequest } from '../../vhost/index.ts';

/** Addresses that are reserved for a window. */
export interface WindowPlace {
  readonly address: number;
  readonly sizeBytes: number;
}

const isPages = (value: number): boolean => Number.isSafeInteger(value) && value >= 0 && value % PAGE_BYTES === 0;

export class MappedWindow {
  readonly #place: WindowPlace;
  /** Lengths in bytes, by where in the window. */
  readonly #mapped = new Map<number, number>();
  #served = 0;

  constructor(place: WindowPlace) {
    this.#place = place;
  }

  /** Requests so far. */
  get served(): number {
    return this.#served;
  }

  /** Does what is asked and closes the request's descriptor. Why it is refused, or undefined when it is done. */
  serve(request: WindowRequest): string | undefined {
    this.#served += 1;
    try {
      const refusal = this.#refusal(request);
      if (refusal !== undefined) return refusal;
      if (request.fd === undefined) this.#unmap(request);
      else this.#map(request, request.fd);
      return undefined;
    } catch (error) {
      if (error instanceof SysError) return error.message;
      throw error;
    } finally {
      if (request.fd !== undefined) close(request.fd);
    }
  }

  #map({ shmOffset, length, fdOffset, writable }: WindowRequest, fd: Fd): void {
    mapAt(this.#place.address + shmOffset, fd, length, fdOffset, writable);
    this.#mapped.set(shmOffset, length);
  }

  #unmap({ shmOffset, length }: WindowRequest): void {
    unmapAt(this.#place.address + shmOffset, length);
    this.#mapped.delete(shmOffset);
  }

  /** vhost-user.rst, VHOST_USER_BACKEND_SHMEM_MAP and UNMAP: nothing over what is mapped, and only all of it back. */
  #refusal({ shmid, shmOffset, length, fdOffset, fd }: WindowRequest): string | undefined {
    const what = `${length} bytes at ${shmOffset} of window ${shmid}`;
    if (shmid !== 0) return `${what}: there is no such window`;
    if (!isPages(shmOffset) || !isPages(length) || length === 0) return `${what}: that is not made of whole pages`;
    if (shmOffset + length > this.#place.sizeBytes) return `${what}: it has ${this.#place.sizeBytes} bytes`;
    if (fd === undefined)
      return this.#mapped.get(shmOffset) === length ? undefined : `${what}: no such range is mapped`;
    if (!isPages(fdOffset) || !Number.isSafeInteger(fdOffset + length))
      return `${what}: no page of a file: ${fdOffset}`;
    if (this.#overlaps(shmOffset, length)) return `${what}: some of that is mapped`;
    return isRegularFile(fd) ? undefined : `${what}: not a regular file`;
  }

  #overlaps(shmOffset: number, length: number): boolean {
    for (const [start, bytes] of this.#mapped) if (start < shmOffset + length && shmOffset < start + bytes) return true;
    return false;
  }

  /** Unmaps everything. */
  clear(): void {
    unmapAt(this.#place.address, this.#place.sizeBytes);
    this.#mapped.clear();
  }
}

const STOP = 0;
const REQUEST = 1;

/**
 * Serves the channel until it closes or `stopFd` is readable; sleeps meanwhile. Whoever stops it also shuts the channel
 * down: it may be in the middle of a message. `refused` hears why something is not done.
 */
export function serveWindow(
  channel: BackendRequests,
  stopFd: Fd,
  window: MappedWindow,
  refused: (why: string) => void,
): void {
  const epoll = new Epoll();
  try {
    epoll.add(stopFd, STOP);
    epoll.add(channel.fd, REQUEST);
    for (;;) {
      const count = epoll.wait(-1);
      for (let i = 0; i < count; i += 1) if (epoll.key(i) === STOP) return;
      // Not by a signal.
      if (count <= 0) continue;
      const request = channel.receive();
      if (request === undefined) return;
      const refusal = window.serve(request);
      if (refusal !== undefined) refused(refusal);
      channel.reply(request, refusal === undefined);
    }
  } catch (error) {
    if (!(error instanceof VhostError)) throw error;
    refused(error.message);
  } finally {
    epoll.close();
  }
}
