/** The front-end's end of the channel on which the back-end asks: what a VMM hears and answers. */
import type { Fd } from '../core/index.ts';
import { close } from '../sys/index.ts';
import { Channel, type Message } from './channel.ts';
import { VhostError } from './error.ts';
import { BackendRequest, HEADER_REPLY, Mmap, SHMEM_RW } from './messages.ts';
import { u64 } from './payloads.ts';

/** SHMEM_MAP or SHMEM_UNMAP. */
export interface WindowRequest {
  readonly code: number;
  readonly shmid: number;
  readonly fdOffset: number;
  readonly shmOffset: number;
  readonly length: number;
  readonly writable: boolean;
  /** What to map; whoever has the request closes it. Absent in SHMEM_UNMAP. */
  readonly fd: Fd | undefined;
}

export class BackendRequests {
  readonly #channel: Channel;

  constructor(fd: Fd) {
    this.#channel = new Channel(fd);
  }

  get fd(): Fd {
    return this.#channel.fd;
  }

  /** Waits for the next request; undefined when the back-end has closed. Throws VhostError. */
  receive(): WindowRequest | undefined {
    const message = this.#channel.receive();
    if (message === undefined) return undefined;
    const { request: code, payload, fds } = message;
    const wantedFds = code === BackendRequest.SHMEM_MAP ? 1 : 0;
    const known = code === BackendRequest.SHMEM_MAP || code === BackendRequest.SHMEM_UNMAP;
    if (!known || payload.byteLength !== Mmap.bytes || fds.length !== wantedFds) throw malformed(message);
    return {
      code,
      shmid: Mmap.shmid(payload, 0),
      fdOffset: Mmap.fdOffset(payload, 0),
      shmOffset: Mmap.shmOffset(payload, 0),
      length: Mmap.len(payload, 0),
      writable: (Mmap.flags(payload, 0) & SHMEM_RW) !== 0,
      fd: fds.shift(),
    };
  }

  /** Says whether a request was done. Throws VhostError. */
  reply({ code }: Pick<WindowRequest, 'code'>, ok: boolean): void {
    this.#channel.send(code, HEADER_REPLY, u64(ok ? 0 : 1));
  }

  close(): void {
    this.#channel.close();
  }
}

function malformed({ request, payload, fds }: Message): VhostError {
  for (const fd of fds.splice(0)) close(fd);
  const size = `${payload.byteLength} bytes`;
  return new VhostError('MALFORMED', `the back-end's request ${request} came with ${size} and is not known like that`);
}
