/** One vhost-user connection: whole messages with their descriptors, in and out; both ends use it. */
import { EAGAIN, errnoName, type Fd } from '../core/index.ts';
import { close, receiveMessage, sendMessage, setNonblocking, waitReadable } from '../sys/index.ts';
import { VhostError } from './error.ts';
import { HEADER_VERSION, MAX_PAYLOAD_BYTES, MAX_TABLE_REGIONS, VhostHeader } from './messages.ts';

/** A received message; its descriptors belong to whoever takes them out of `fds`. */
export interface Message {
  readonly request: number;
  readonly flags: number;
  readonly payload: DataView;
  readonly fds: Fd[];
}

/** From `poll`: the message, or the rest of it, has not come yet. */
export const PENDING = 'pending';

const NO_LIMIT_MS = 2 ** 31 - 1;

export class Channel {
  readonly fd: Fd;
  readonly #peer: string;
  readonly #limitMs: number;
  /** Of the message that is coming: the header, then what it announces. */
  readonly #header = new DataView(new ArrayBuffer(VhostHeader.bytes));
  #payload: DataView | undefined;
  #have = 0;
  #fds: Fd[] = [];

  /** `limitMs`: how long `receive` waits for a whole message, -1 for ever; `peer`: the other end, for errors. */
  constructor(fd: Fd, peer = 'the VMM', limitMs = -1) {
    this.fd = fd;
    this.#peer = peer;
    this.#limitMs = limitMs;
    // Whoever sends half a message, or reads no replies, holds nobody up.
    setNonblocking(fd);
  }

  /** The next message, which is waited for; undefined when the other end has closed. Throws VhostError. */
  receive(): Message | undefined {
    const deadline = performance.now() + (this.#limitMs < 0 ? NO_LIMIT_MS : this.#limitMs);
    for (;;) {
      const message = this.poll();
      if (message !== PENDING) return message;
      this.#await(deadline);
    }
  }

  /** The next message, if all of it has come; undefined when the other end has closed. Throws VhostError. */
  poll(): Message | typeof PENDING | undefined {
    try {
      return this.#poll();
    } catch (error) {
      this.#drop();
      throw error;
    }
  }

  #poll(): Message | typeof PENDING | undefined {
    if (this.#payload === undefined) {
      const filled = this.#fill(this.#header, true);
      if (filled !== true) return filled;
      this.#payload = new DataView(new ArrayBuffer(this.#announced()));
      this.#have = 0;
    }
    const payload = this.#payload;
    if (this.#fill(payload, false) !== true) return PENDING;
    const fds = this.#fds;
    this.#payload = undefined;
    this.#have = 0;
    this.#fds = [];
    return { request: VhostHeader.request(this.#header, 0), flags: VhostHeader.flags(this.#header, 0), payload, fds };
  }

  /** Bytes of payload that the header announces. */
  #announced(): number {
    const flags = VhostHeader.flags(this.#header, 0);
    const size = VhostHeader.size(this.#header, 0);
    const request = VhostHeader.request(this.#header, 0);
    if ((flags & 3) !== HEADER_VERSION) {
      throw new VhostError('MALFORMED', `vhost-user message ${request} has version ${flags & 3}; 1 is known`);
    }
    if (size > MAX_PAYLOAD_BYTES) {
      throw new VhostError('MALFORMED', `vhost-user message ${request} announces ${size} bytes of payload`);
    }
    return size;
  }

  /** Fills the view; undefined when the connection ended before its first byte and `mayEnd` allows that. */
  #fill(view: DataView, mayEnd: boolean): true | typeof PENDING | undefined {
    const target = new Uint8Array(view.buffer);
    while (this.#have < target.length) {
      const received = receiveMessage(this.fd, target, this.#have, target.length - this.#have, this.#fds);
      if (received === -EAGAIN) return PENDING;
      if (received < 0) throw new VhostError('CLOSED', `reading from ${this.#peer} failed: ${errnoName(received)}`);
      if (received === 0) {
        if (this.#have === 0 && mayEnd) return undefined;
        throw new VhostError('CLOSED', `${this.#peer} closed the connection in the middle of a message`);
      }
      this.#have += received;
      // Each byte may bring as many: whoever sends slowly would have all that this process may have.
      if (this.#fds.length > MAX_TABLE_REGIONS) {
        throw new VhostError('MALFORMED', `${this.#peer} sends more descriptors than any message has`);
      }
    }
    return true;
  }

  /** One that answers byte by byte has no more time than others. Signals end a wait early. */
  #await(deadline: number): void {
    while (!waitReadable(this.fd, Math.max(0, Math.ceil(deadline - performance.now())))) {
      if (performance.now() < deadline) continue;
      throw new VhostError('TIMEOUT', `${this.#peer} has not answered within ${this.#limitMs} ms`);
    }
  }

  /** Sends a message. Throws VhostError when the other end is gone. */
  send(request: number, flags: number, payload: Uint8Array, fds: readonly number[] = []): void {
    const message = new Uint8Array(VhostHeader.bytes + payload.length);
    const view = new DataView(message.buffer);
    VhostHeader.set.request(view, 0, request);
    VhostHeader.set.flags(view, 0, HEADER_VERSION | flags);
    VhostHeader.set.size(view, 0, payload.length);
    message.set(payload, VhostHeader.bytes);
    const result = sendMessage(this.fd, message, fds);
    if (result === -EAGAIN) throw new VhostError('CLOSED', `${this.#peer} does not read what it is sent`);
    if (result < 0) throw new VhostError('CLOSED', `writing to ${this.#peer} failed: ${errnoName(result)}`);
  }

  /** What came of a message without its end. */
  #drop(): void {
    for (const fd of this.#fds) close(fd);
    this.#fds = [];
  }

  close(): void {
    this.#drop();
    close(this.fd);
  }
}
