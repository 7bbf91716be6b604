/** One end of a vhost-user connection for who must never wait for it: whole messages, as they come. */
import { EAGAIN, errnoName, type Fd } from '../core/index.ts';
import { close, receiveMessage, sendMessage, setNonblocking } from '../sys/index.ts';
import type { Message } from './channel.ts';
import { VhostError } from './error.ts';
import { HEADER_VERSION, VhostHeader } from './messages.ts';

/** What `sendMessage` takes at once. */
const MAX_MESSAGE_BYTES = 4096;
const MAX_FDS = 8;

export class MessagePipe {
  readonly fd: Fd;
  /** Who is at the other end, for errors. */
  readonly #who: string;
  readonly #bytes = new Uint8Array(MAX_MESSAGE_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  #have = 0;
  #fds: Fd[] = [];

  /** `fd` becomes non-blocking, and this one's own. */
  constructor(fd: Fd, who: string) {
    this.fd = fd;
    this.#who = who;
    setNonblocking(fd);
  }

  /**
   * The next message, if all of it is there; 'later' where it is not, 'closed' at the end of the connection. Its
   * descriptors belong to the caller. Throws VhostError.
   */
  receive(): Message | 'later' | 'closed' {
    for (;;) {
      const wanted = this.#wanted();
      if (this.#have === wanted) return this.#take();
      const got = receiveMessage(this.fd, this.#bytes, this.#have, wanted - this.#have, this.#fds);
      if (got === -EAGAIN) return 'later';
      if (got < 0) throw new VhostError('CLOSED', `reading from the ${this.#who} failed: ${errnoName(got)}`);
      if (got === 0) return 'closed';
      if (this.#fds.length > MAX_FDS) throw new VhostError('MALFORMED', `the ${this.#who} sends too many descriptors`);
      this.#have += got;
    }
  }

  /** The length of the message as far as it is known. */
  #wanted(): number {
    if (this.#have < VhostHeader.bytes) return VhostHeader.bytes;
    const size = VhostHeader.size(this.#view, 0);
    const request = VhostHeader.request(this.#view, 0);
    const version = VhostHeader.flags(this.#view, 0) & 3;
    if (version !== HEADER_VERSION || size > MAX_MESSAGE_BYTES - VhostHeader.bytes) {
      const what = `version ${version} and ${size} bytes of payload`;
      throw new VhostError('MALFORMED', `the ${this.#who} sends vhost-user message ${request} with ${what}`);
    }
    return VhostHeader.bytes + size;
  }

  #take(): Message {
    const payload = new DataView(this.#bytes.slice(VhostHeader.bytes, this.#have).buffer);
    const fds = this.#fds;
    const { request, flags } = { request: VhostHeader.request(this.#view, 0), flags: VhostHeader.flags(this.#view, 0) };
    this.#have = 0;
    this.#fds = [];
    return { request, flags, payload, fds };
  }

  /** Sends a message with these descriptors, which stay the caller's. Throws VhostError. */
  send({ request, flags, payload }: Message, fds: readonly number[]): void {
    const message = new Uint8Array(VhostHeader.bytes + payload.byteLength);
    const view = new DataView(message.buffer);
    VhostHeader.set.request(view, 0, request);
    VhostHeader.set.flags(view, 0, flags);
    VhostHeader.set.size(view, 0, payload.byteLength);
    message.set(new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength), VhostHeader.bytes);
    const result = sendMessage(this.fd, message, fds);
    if (result < 0) throw new VhostError('CLOSED', `writing to the ${this.#who} failed: ${errnoName(result)}`);
  }

  close(): void {
    for (const fd of this.#fds.splice(0)) close(fd);
    close(this.fd);
  }
}
