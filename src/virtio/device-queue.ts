import { assert } from '../core/index.ts';
import type { GuestMemory } from '../memory/index.ts';
import type { Chain } from './chain.ts';
import { ChainWalker } from './chain-walker.ts';
import { QueueError } from './errors.ts';
import {
  AVAILABLE_ENTRIES,
  AVAILABLE_F_NO_INTERRUPT,
  availEventAt,
  mapRings,
  NO_RINGS,
  passes,
  RING_FLAGS,
  RING_INDEX,
  type RingAddresses,
  USED_ELEMENTS,
  USED_F_NO_NOTIFY,
  usedEventAt,
} from './layout.ts';

/** What `pop` returns. */
export const POP_CHAIN = 1;
export const POP_NOTHING = 0;
export const POP_BAD_CHAIN = -1;
export const POP_BROKEN = -2;

/** How a queue is set up. The three rings are given by their addresses in this process. */
export interface QueueStart extends RingAddresses {
  size: number;
  /** VIRTIO_F_EVENT_IDX is negotiated. */
  eventIdx: boolean;
  /** VIRTIO_F_INDIRECT_DESC is negotiated. */
  indirect: boolean;
  /** The first entry to take: what `stop` returned, or 0 for a new queue. 0 to 65535. */
  nextAvailable: number;
}

const STOPPED = 0;
const RUNNING = 1;
const BROKEN = 2;

/**
 * The device side of a split virtqueue (virtio 2.7).
 *
 * The driver writes the descriptors and the available ring, we write the used ring; either may change its part at
 * any moment, and the driver may be hostile. So: an index is loaded with acquire semantics before what it covers is
 * read (2.7.13.3), every field is read exactly once and checked after that, and our own index is stored last
 * (2.7.8.2). Nothing that the driver writes can make a method throw, run long or reach outside guest memory.
 *
 * A chain popped is ours until it is pushed; chains may be pushed in any order. No method but `start` allocates.
 */
export class DeviceQueue {
  readonly index: number;
  /** Why the last `pop` returned POP_BAD_CHAIN or POP_BROKEN, for the log. */
  lastError = '';
  readonly #memory: GuestMemory;
  #state = STOPPED;
  #size = 0;
  #mask = 0;
  #eventIdx = false;
  #available = NO_RINGS.available;
  #used = NO_RINGS.used;
  #usedElements = NO_RINGS.usedElements;
  /** The next entry to take from the available ring. This and the next three count modulo 2^16. */
  #next = 0;
  /** The driver's index when we last looked: entries before it may be taken without another look. */
  #seen = 0;
  /** The next element to write to the used ring. */
  #usedNext = 0;
  /** The used index that the driver can see. */
  #shown = 0;
  /** The used index at the last decision on an interrupt. */
  #published = 0;
  /** Chains popped and not yet pushed. */
  #inFlight = 0;
  /** Whether an interrupt has been decided on since the start: only then `#published` tells what the driver knows. */
  #signalled = false;
  readonly #walker: ChainWalker;

  constructor(memory: GuestMemory, index: number) {
    this.#memory = memory;
    this.#walker = new ChainWalker(memory);
    this.index = index;
  }

  get started(): boolean {
    return this.#state !== STOPPED;
  }

  /**
   * Starts with the used index that is in the ring, as after a stop, a reboot or a migration. Kicks are on; one may
   * have come before, so `pop` at least once. Throws a QueueError: SIZE, INDEX, ALIGNMENT, OUTSIDE.
   */
  start(options: QueueStart): void {
    assert(this.#state === STOPPED, 'a queue was started twice');
    const { size, eventIdx, nextAvailable } = options;
    if (!Number.isInteger(nextAvailable) || nextAvailable < 0 || nextAvailable > 0xffff) {
      throw new QueueError('INDEX', `next available index ${nextAvailable}: must be 0 to 65535`);
    }
    const rings = mapRings(this.#memory, options, size, eventIdx);
    this.#size = size;
    this.#mask = size - 1;
    this.#eventIdx = eventIdx;
    this.#walker.start(rings.descriptors, size, options.indirect);
    this.#available = rings.available;
    this.#used = rings.used;
    this.#usedElements = rings.usedElements;
    this.#next = nextAvailable;
    this.#seen = nextAvailable;
    this.#usedNext = Atomics.load(rings.used, RING_INDEX);
    this.#shown = this.#usedNext;
    this.#published = this.#usedNext;
    this.#inFlight = 0;
    this.#signalled = false;
    this.#state = RUNNING;
    this.lastError = '';
    // virtio 2.7.10.2: flags are 0 with EVENT_IDX, whatever a stop may have left there.
    Atomics.store(rings.used, RING_FLAGS, 0);
    this.enableNotify();
  }

  /**
   * Stops and returns the next available index. What was pushed must have been published before; chains that are
   * still in flight must not be pushed any more.
   */
  stop(): number {
    assert(this.#published === this.#usedNext, 'a queue was stopped with chains pushed and not published');
    this.#state = STOPPED;
    this.#walker.stop();
    this.#available = NO_RINGS.available;
    this.#used = NO_RINGS.used;
    this.#usedElements = NO_RINGS.usedElements;
    this.#inFlight = 0;
    return this.#next;
  }

  /**
   * Takes the next chain.
   * POP_CHAIN: `chain` is filled. POP_NOTHING: there is none. POP_BAD_CHAIN: this one is malformed; `chain` has its
   * head and no segments, and it must be pushed with length 0. POP_BROKEN: the driver's index or a head makes no
   * sense, nothing can be told about the queue any more and it gives nothing until it is started again.
   */
  pop(chain: Chain): number {
    if (this.#state !== RUNNING) return this.#state === BROKEN ? POP_BROKEN : POP_NOTHING;
    const next = this.#next;
    if (next === this.#seen) {
      // virtio 2.7.13.3: the driver stores idx after the entries and descriptors; our load comes before we read them.
      const seen = Atomics.load(this.#available, RING_INDEX);
      const pending = (seen - next) & 0xffff;
      if (pending === 0) return POP_NOTHING;
      // virtio 2.7: each chain holds a descriptor at least, so there are never more chains than descriptors.
      if (pending > this.#size - this.#inFlight)
        return this.#break('the available index is beyond what the queue can hold');
      this.#seen = seen;
    }
    const head = this.#available[AVAILABLE_ENTRIES + (next & this.#mask)];
    if (head >= this.#size) return this.#break('the available ring names a descriptor outside the table');
    this.#next = (next + 1) & 0xffff;
    this.#inFlight += 1;
    return this.again(chain, head);
  }

  /** Lays out once more the chain at `head`, which was popped and is not pushed yet. POP_CHAIN or POP_BAD_CHAIN. */
  again(chain: Chain, head: number): number {
    const error = this.#walker.walk(chain, head);
    if (error === '') return POP_CHAIN;
    this.lastError = error;
    return POP_BAD_CHAIN;
  }

  /** The next available index. */
  get next(): number {
    return this.#next;
  }

  /** Whether the driver has more for us after the last `pop`. */
  get more(): boolean {
    return this.#next !== this.#seen || Atomics.load(this.#available, RING_INDEX) !== this.#next;
  }

  /**
   * After a start: `count` chains were popped before the stop, are not pushed and are still ours. False, and nothing
   * is, when these are other rings: in the same ones so many entries are taken and not used.
   */
  carry(count: number): boolean {
    if (((this.#next - this.#usedNext) & 0xffff) !== count) return false;
    this.#inFlight = count;
    return true;
  }

  /** Gives a chain back with the number of bytes written to it. The driver sees it after `publish`. */
  push(head: number, length: number): void {
    assert(this.#inFlight > 0, 'a chain was pushed that was not popped');
    assert(head < this.#size, 'a chain was pushed that cannot exist');
    const at = USED_ELEMENTS + 2 * (this.#usedNext & this.#mask);
    this.#usedElements[at] = head;
    this.#usedElements[at + 1] = length;
    this.#usedNext = (this.#usedNext + 1) & 0xffff;
    this.#inFlight -= 1;
  }

  /** Shows the driver everything pushed so far. One that is looking goes on; one that sleeps is told by `publish`. */
  show(): void {
    // virtio 2.7.8.2: ids and lengths before idx.
    if (this.#shown !== this.#usedNext) Atomics.store(this.#used, RING_INDEX, this.#usedNext);
    this.#shown = this.#usedNext;
  }

  /** Shows the driver everything pushed so far. True when it wants an interrupt for what came since the last time. */
  publish(): boolean {
    const next = this.#usedNext;
    const previous = this.#published;
    if (next === previous) return false;
    // The store is sequentially consistent, so that the loads below come after it: a driver that changes its mind in
    // between either sees idx, or we see the change (virtio 2.7.14).
    this.show();
    this.#published = next;
    const first = !this.#signalled;
    this.#signalled = true;
    // virtio 2.7.7.2.
    if (!this.#eventIdx) return (Atomics.load(this.#available, RING_FLAGS) & AVAILABLE_F_NO_INTERRUPT) === 0;
    const event = Atomics.load(this.#available, usedEventAt(this.#size));
    // After a start nobody knows which used entries the driver has been told of; a spurious interrupt is legal.
    return first || passes(event, next, previous);
  }

  /** Asks the driver to hold its kicks. A hint: some may come all the same. */
  disableNotify(): void {
    // virtio 2.7.10.2: with EVENT_IDX flags stay 0, and an avail_event that is left behind asks for nothing.
    if (this.#state === STOPPED || this.#eventIdx) return;
    Atomics.store(this.#used, RING_FLAGS, USED_F_NO_NOTIFY);
  }

  /** Asks the driver for a kick with its next chain. True when chains came meanwhile: then pop, no kick may follow. */
  enableNotify(): boolean {
    if (this.#state !== RUNNING) return false;
    // virtio 2.7.10.2.
    if (this.#eventIdx) Atomics.store(this.#used, availEventAt(this.#size), this.#next);
    else Atomics.store(this.#used, RING_FLAGS, 0);
    // virtio 2.7.13.4.1: the driver stores idx, then looks whether we want a kick; we do the reverse in reverse order.
    return Atomics.load(this.#available, RING_INDEX) !== this.#next;
  }

  #break(error: string): number {
    this.#state = BROKEN;
    this.lastError = error;
    return POP_BROKEN;
  }
}
