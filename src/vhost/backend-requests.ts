/** The front-end's end of the channel on which the back-end asks: what a VMM hears and answers. */
import type { Fd } from '../core/index.ts';
import { close } from '../sys/index.ts';
import { Channel, type Message } from './channel.ts';
import { VhostError } from './error.ts';
import { BackendRequest, HEADER_NEED_REPLY, HEADER_REPLY, Mmap, SHMEM_RW } from './messages.ts';
import { u64 } from './payloads.ts';

/** SHMEM_MAP or SHMEM_UNMAP. */
export interface WindowRequest {
  readonly code: number;
  readonly shmid: number;
  readonly fdOffset: number;
  readonly shmOffset: number;
  readonly length: number;
  readonly writable: boolean;
  /** The back-end waits for the answer. */
  readonly needsReply: boolean;
  /** What to map; whoever has the request closes it. Absent in SHMEM_UNMAP. */
  readonly fd: Fd | undefined;
}

export class BackendRequests {
  readonly #channel: Channel;

  constructor(fd: Fd) {
    this.#channel = new Channel(fd, 'the back-end');
  }

  get fd(): Fd {
    return this.#channel.fd;
  }

  /**
   * Waits for the next request; undefined when the back-end has closed. Requests that are not known are refused, and
   * not told of: ours sends one in place of what it takes back (see BackendChannel). Throws VhostError.
   */
  receive(): WindowRequest | undefined {
    for (;;) {
      const message = this.#channel.receive();
      if (message === undefined) return undefined;
      if (isKnown(message)) return decode(message);
      for (const fd of message.fds.splice(0)) close(fd);
      const { request: code, flags } = message;
      this.reply({ code, needsReply: (flags & HEADER_NEED_REPLY) !== 0 }, false);
    }
  }

  /** Says whether a request was done, where the back-end wants to know. Throws VhostError. */
  reply({ code, needsReply = true }: Pick<WindowRequest, 'code'> & Partial<WindowRequest>, ok: boolean): void {
    if (needsReply) this.#channel.send(code, HEADER_REPLY, u64(ok ? 0 : 1));
  }

  close(): void {
    this.#channel.close();
  }
}

const isKnown = ({ request }: Message): boolean =>
  request === BackendRequest.SHMEM_MAP || request === BackendRequest.SHMEM_UNMAP;

function decode({ request: code, flags, payload, fds }: Message): WindowRequest {
  if (payload.byteLength !== Mmap.bytes || fds.length !== (code === BackendRequest.SHMEM_MAP ? 1 : 0)) {
    const what = `${payload.byteLength} bytes and ${fds.length} descriptors`;
    for (const fd of fds.splice(0)) close(fd);
    throw new VhostError('MALFORMED', `the back-end's request ${code} came with ${what}, and is not known like that`);
  }
  return {
    code,
    shmid: Mmap.shmid(payload, 0),
    fdOffset: Mmap.fdOffset(payload, 0),
    shmOffset: Mmap.shmOffset(payload, 0),
    length: Mmap.len(payload, 0),
    writable: (Mmap.flags(payload, 0) & SHMEM_RW) !== 0,
    needsReply: (flags & HEADER_NEED_REPLY) !== 0,
    fd: fds.shift(),
  };
}
