/** One vhost-user connection: whole messages with their descriptors, in and out. Blocking; both ends use it. */
import { errnoName, type Fd } from '../core/index.ts';
import { close, receiveMessage, sendMessage, waitReadable } from '../sys/index.ts';
import { VhostError } from './error.ts';
import { HEADER_VERSION, MAX_PAYLOAD_BYTES, MAX_TABLE_REGIONS, VhostHeader } from './messages.ts';

/** A received message; its descriptors belong to whoever takes them out of `fds`. */
export interface Message {
  readonly request: number;
  readonly flags: number;
  readonly payload: DataView;
  readonly fds: Fd[];
}

export class Channel {
  readonly fd: Fd;
  readonly #peer: string;
  readonly #limitMs: number;

  /** `limitMs`: how long `receive` waits for a whole message, -1 for ever; `peer`: the other end, for errors. */
  constructor(fd: Fd, peer = 'the VMM', limitMs = -1) {
    this.fd = fd;
    this.#peer = peer;
    this.#limitMs = limitMs;
  }

  /** The next message; undefined when the other end has closed. Throws VhostError. */
  receive(): Message | undefined {
    const fds: Fd[] = [];
    const deadline = this.#limitMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + this.#limitMs;
    try {
      const header = new DataView(new ArrayBuffer(VhostHeader.bytes));
      if (!this.#fill(header, fds, true, deadline)) return undefined;
      const flags = VhostHeader.flags(header, 0);
      const size = VhostHeader.size(header, 0);
      const request = VhostHeader.request(header, 0);
      if ((flags & 3) !== HEADER_VERSION) {
        throw new VhostError('MALFORMED', `vhost-user message ${request} has version ${flags & 3}; 1 is known`);
      }
      if (size > MAX_PAYLOAD_BYTES) {
        throw new VhostError('MALFORMED', `vhost-user message ${request} announces ${size} bytes of payload`);
      }
      const payload = new DataView(new ArrayBuffer(size));
      this.#fill(payload, fds, false, deadline);
      return { request, flags, payload, fds };
    } catch (error) {
      for (const fd of fds) close(fd);
      throw error;
    }
  }

  /** Fills the view; false when the connection ended before its first byte and `mayEnd` allows that. */
  #fill(view: DataView, fds: Fd[], mayEnd: boolean, deadline: number): boolean {
    const target = new Uint8Array(view.buffer);
    for (let at = 0; at < target.length; ) {
      this.#await(deadline);
      const received = receiveMessage(this.fd, target, at, target.length - at, fds);
      if (received < 0) throw new VhostError('CLOSED', `reading from ${this.#peer} failed: ${errnoName(received)}`);
      if (received === 0) {
        if (at === 0 && mayEnd) return false;
        throw new VhostError('CLOSED', `${this.#peer} closed the connection in the middle of a message`);
      }
      at += received;
      // Each byte may bring as many: whoever sends slowly would have all that this process may have.
      if (fds.length > MAX_TABLE_REGIONS) {
        throw new VhostError('MALFORMED', `${this.#peer} sends more descriptors than any message has`);
      }
    }
    return true;
  }

  /** One that answers byte by byte has no more time than others. Signals end a wait early. */
  #await(deadline: number): void {
    if (deadline === Number.POSITIVE_INFINITY) return;
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
    if (result < 0) throw new VhostError('CLOSED', `writing to ${this.#peer} failed: ${errnoName(result)}`);
  }

  close(): void {
    close(this.fd);
  }
}
