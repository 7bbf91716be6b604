import { gather, type GuestMemory, Segments } from '../memory/index.ts';
import { Chain } from './chain.ts';
import { ChainWalker } from './chain-walker.ts';
import { AVAILABLE_ENTRIES, mapRings, NO_RINGS, RING_INDEX, type RingAddresses, USED_ELEMENTS } from './layout.ts';

/** A request that went through a queue, and what was written to it. */
export interface Exchange {
  /** The first bytes that the device could read. */
  readonly request: Uint8Array;
  /** All of them. */
  readonly requestBytes: number;
  /** Bytes that the device could write. */
  readonly roomBytes: number;
  /** When it was seen to be offered, by the clock of the watch. */
  readonly offeredMs: number;
  /** When it was seen to be used; undefined: it never was. */
  readonly usedMs: number | undefined;
  /** It was offered and used between two looks: the times say nothing, and its bytes may have been used again. */
  readonly late: boolean;
  /** The first bytes that the device wrote. */
  readonly reply: Uint8Array;
  /** Bytes that the device says it wrote, at most `roomBytes`. */
  readonly replyBytes: number;
  /** What is wrong with the chain; '' for nothing. */
  readonly error: string;
}

export interface RingWatchOptions {
  /** Milliseconds from any beginning. */
  readonly clock: () => number;
  /** How many bytes of a request to keep. */
  readonly requestBytes: number;
  /** How many bytes of its reply to keep. */
  readonly replyBytes: (request: Uint8Array) => number;
  readonly exchanged: (exchange: Exchange) => void;
  /** So many went by unseen: the driver was ahead by more than a ring. */
  readonly missed: (count: number) => void;
}

/** As for a DeviceQueue. */
export interface RingWatchStart extends RingAddresses {
  readonly size: number;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  readonly nextAvailable: number;
  /** Where to go on in the used ring; default: at its index as it is, as a device does. */
  readonly nextUsed?: number;
}

interface Offered {
  readonly request: Uint8Array;
  readonly requestBytes: number;
  readonly writable: Segments;
  readonly roomBytes: number;
  readonly offeredMs: number;
  /** The number of the look that found it. */
  readonly look: number;
  readonly error: string;
}

const NO_BYTES = new Uint8Array(0);

/**
 * Looks on at a split queue between a driver and a device that both belong to others. It only reads; all that it reads
 * may change at any time and may be nonsense. A request is read when it is seen to be offered, its reply when it is
 * seen to be used. Who looks before a kick and an interrupt are passed on has seen both as they are.
 *
 * Nothing in the rings makes a method throw or reach outside guest memory; a look takes at most the queue's size in
 * chains. The memory under the rings stays until `stop`.
 */
export class RingWatch {
  readonly #memory: GuestMemory;
  readonly #options: RingWatchOptions;
  readonly #walker: ChainWalker;
  readonly #chain = new Chain();
  #rings = NO_RINGS;
  #size = 0;
  #nextAvailable = 0;
  #nextUsed = 0;
  #looks = 0;
  /** Offered and not used yet, by head; more than one of a head where others were used unseen, or by a bad driver. */
  readonly #offered = new Map<number, Offered[]>();
  #inFlight = 0;

  constructor(memory: GuestMemory, options: RingWatchOptions) {
    this.#memory = memory;
    this.#options = options;
    this.#walker = new ChainWalker(memory);
  }

  get started(): boolean {
    return this.#size > 0;
  }

  /** Requests that are offered and not used. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Begins to look, or goes on after a stop where these are the same rings. Throws QueueError. */
  start(options: RingWatchStart): void {
    const rings = mapRings(this.#memory, options, options.size, options.eventIdx);
    this.#walker.start(rings.descriptors, options.size, options.indirect);
    this.#rings = rings;
    this.#size = options.size;
    this.#nextAvailable = options.nextAvailable & 0xffff;
    this.#nextUsed = options.nextUsed ?? Atomics.load(rings.used, RING_INDEX);
    // What a device held over its stop is still there in the same rings, and in others it is not.
    if (((this.#nextAvailable - this.#nextUsed) & 0xffff) !== this.#inFlight) this.abandon();
  }

  /** Looks no more; returns where it was in both rings. Those in flight are kept for the next start. */
  stop(): { nextAvailable: number; nextUsed: number } {
    this.#walker.stop();
    this.#rings = NO_RINGS;
    this.#size = 0;
    return { nextAvailable: this.#nextAvailable, nextUsed: this.#nextUsed };
  }

  /** Reports those in flight as never used, and forgets them. */
  abandon(): void {
    const left = [...this.#offered.values()].flat();
    this.#offered.clear();
    this.#inFlight = 0;
    for (const offered of left.toSorted((a, b) => a.offeredMs - b.offeredMs)) this.#report(offered, undefined);
  }

  /** Looks at both rings; true when there was something new. */
  look(): boolean {
    if (this.#size === 0) return false;
    this.#looks += 1;
    // In this order: what is used by now was offered before, so that it is found among the offered.
    const used = Atomics.load(this.#rings.used, RING_INDEX);
    const available = Atomics.load(this.#rings.available, RING_INDEX);
    const offeredAny = this.#takeOffered(available);
    const usedAny = this.#takeUsed(used);
    this.#dropLost();
    return offeredAny || usedAny;
  }

  /** What is offered and not used is in the indices; what we have beyond that was used unseen, the oldest first. */
  #dropLost(): void {
    const count = this.#inFlight - ((this.#nextAvailable - this.#nextUsed) & 0xffff);
    if (count <= 0) return;
    const oldest = [...this.#offered].flatMap(([head, list]) => list.map((each) => ({ head, look: each.look })));
    oldest.sort((a, b) => a.look - b.look);
    for (const { head } of oldest.slice(0, count)) this.#takeOldest(head);
    this.#options.missed(count);
  }

  /** The first of those offered with a head, which is no longer in flight. */
  #takeOldest(head: number): Offered | undefined {
    const list = this.#offered.get(head);
    const offered = list?.shift();
    if (offered === undefined) return undefined;
    this.#inFlight -= 1;
    if (list?.length === 0) this.#offered.delete(head);
    return offered;
  }

  #takeOffered(available: number): boolean {
    let pending = (available - this.#nextAvailable) & 0xffff;
    if (pending === 0) return false;
    const now = this.#options.clock();
    if (pending > this.#size) {
      this.#options.missed(pending - this.#size);
      this.#nextAvailable = (available - this.#size) & 0xffff;
      pending = this.#size;
    }
    for (; pending > 0; pending -= 1) {
      const head = this.#rings.available[AVAILABLE_ENTRIES + (this.#nextAvailable & (this.#size - 1))];
      this.#nextAvailable = (this.#nextAvailable + 1) & 0xffff;
      this.#takeChain(head, now);
    }
    return true;
  }

  #takeChain(head: number, now: number): void {
    // A device serves no queue with such a head any more.
    if (head >= this.#size) {
      this.#options.missed(1);
      return;
    }
    // A driver that keeps the rules has no more in flight than descriptors.
    if (this.#inFlight >= 2 * this.#size) this.#forgetAll();
    const chain = this.#chain;
    const error = this.#walker.walk(chain, head);
    const { readable, writable } = chain;
    const request = new Uint8Array(Math.min(readable.bytes, this.#options.requestBytes));
    const got = gather(this.#memory, readable, 0, request, 0, request.length);
    const offered = {
      request: request.subarray(0, got),
      requestBytes: readable.bytes,
      writable: copyOf(writable),
      roomBytes: writable.bytes,
      offeredMs: now,
      look: this.#looks,
      error,
    };
    const others = this.#offered.get(head);
    if (others === undefined) this.#offered.set(head, [offered]);
    else others.push(offered);
    this.#inFlight += 1;
  }

  #forgetAll(): void {
    this.#options.missed(this.#inFlight);
    this.#offered.clear();
    this.#inFlight = 0;
  }

  #takeUsed(used: number): boolean {
    let pending = (used - this.#nextUsed) & 0xffff;
    if (pending === 0) return false;
    const now = this.#options.clock();
    if (pending > this.#size) {
      // Of those in between nobody knows which they were; `#dropLost` finds them.
      this.#nextUsed = (used - this.#size) & 0xffff;
      pending = this.#size;
    }
    for (; pending > 0; pending -= 1) {
      const at = USED_ELEMENTS + 2 * (this.#nextUsed & (this.#size - 1));
      const head = this.#rings.usedElements[at];
      const length = this.#rings.usedElements[at + 1];
      this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
      this.#takeUsedHead(head, length, now);
    }
    return true;
  }

  #takeUsedHead(head: number, length: number, now: number): void {
    const offered = this.#takeOldest(head);
    // It was offered before we began, or unseen.
    if (offered === undefined) return;
    const later = this.#offered.get(head)?.[0];
    // Its descriptors were used again before they were read: what was read is the later request, which comes yet.
    if (later?.look === offered.look) this.#options.missed(1);
    else this.#report(offered, { length, now });
  }

  #report(offered: Offered, used: { readonly length: number; readonly now: number } | undefined): void {
    const { request, requestBytes, roomBytes, offeredMs, error, writable } = offered;
    const replyBytes = Math.min(used?.length ?? 0, roomBytes);
    const wanted = Math.min(replyBytes, this.#options.replyBytes(request));
    const reply = wanted === 0 ? NO_BYTES : new Uint8Array(wanted);
    const got = gather(this.#memory, writable, 0, reply, 0, wanted);
    this.#options.exchanged({
      request,
      requestBytes,
      roomBytes,
      offeredMs,
      usedMs: used?.now,
      late: offered.look === this.#looks,
      reply: reply.subarray(0, got),
      replyBytes,
      error,
    });
  }
}

/** A chain is filled again for the next request; this list stays. */
function copyOf(segments: Segments): Segments {
  const copy = new Segments(segments.count);
  for (let i = 0; i < segments.count; i += 1) {
    copy.push(segments.addresses[i], segments.lengths[i], segments.regions[i]);
  }
  return copy;
}
