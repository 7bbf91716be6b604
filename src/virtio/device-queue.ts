import { assert } from '../core/index.ts';
import { ByteView, type GuestMemory, gatherInto, Segments } from '../memory/index.ts';
import type { Chain } from './chain.ts';
import { QueueError } from './errors.ts';
import {
  AVAILABLE_ENTRIES,
  AVAILABLE_F_NO_INTERRUPT,
  availEventAt,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_INDIRECT,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  DESCRIPTOR_WORDS,
  INDIRECT_MAX,
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

/** Pieces that the table of one chain may lie in: as many as a front-end may have regions. */
const TABLE_PIECES = 512;
/** virtio 2.7.5.2: no chain is longer than 2^32 bytes. */
const CHAIN_MAX_BYTES = 2 ** 32;

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
  #indirect = false;
  #descriptors = NO_RINGS.descriptors;
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
  #published = 0;
  /** Chains popped and not yet pushed. */
  #inFlight = 0;
  /** Whether an interrupt has been decided on since the start: only then `#published` tells what the driver knows. */
  #signalled = false;
  /** The indirect table of the chain at hand: `#table[#tableAt]` is its first word. */
  #table: Uint32Array = NO_RINGS.descriptors;
  #tableAt = 0;
  readonly #tablePieces = new Segments(TABLE_PIECES);
  /** For tables that lie across regions or at odd addresses. */
  readonly #tableCopy = new ByteView(new Uint8Array(INDIRECT_MAX * DESCRIPTOR_BYTES));

  constructor(memory: GuestMemory, index: number) {
    this.#memory = memory;
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
    this.#indirect = options.indirect;
    this.#descriptors = rings.descriptors;
    this.#available = rings.available;
    this.#used = rings.used;
    this.#usedElements = rings.usedElements;
    this.#next = nextAvailable;
    this.#seen = nextAvailable;
    this.#usedNext = Atomics.load(rings.used, RING_INDEX);
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
    this.#descriptors = NO_RINGS.descriptors;
    this.#available = NO_RINGS.available;
    this.#used = NO_RINGS.used;
    this.#usedElements = NO_RINGS.usedElements;
    this.#table = NO_RINGS.descriptors;
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
    chain.head = head;
    chain.clear();
    const error = this.#walk(chain, head);
    if (error === '') return POP_CHAIN;
    chain.clear();
    this.lastError = error;
    return POP_BAD_CHAIN;
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

  /** Shows the driver everything pushed so far. True when it wants an interrupt for that. */
  publish(): boolean {
    const next = this.#usedNext;
    const previous = this.#published;
    if (next === previous) return false;
    // virtio 2.7.8.2: ids and lengths before idx. The store is sequentially consistent, so that the loads below
    // come after it: a driver that changes its mind in between either sees idx, or we see the change (2.7.14).
    Atomics.store(this.#used, RING_INDEX, next);
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

  /** Fills `chain` from the descriptors that begin at `head`. Returns what is wrong, or ''. */
  #walk(chain: Chain, head: number): string {
    let table = this.#descriptors;
    let tableAt = 0;
    let entries = this.#size;
    let inTable = false;
    let index = head;
    let sawWritable = false;
    for (let hops = 0; ; hops += 1) {
      // Whoever goes through more entries than there are meets one twice (virtio 2.7.5.2: loops are forbidden).
      if (hops === entries) return 'a chain of descriptors is a loop';
      const at = tableAt + index * DESCRIPTOR_WORDS;
      const low = table[at];
      const high = table[at + 1];
      const length = table[at + 2];
      const word = table[at + 3];
      if ((word & DESCRIPTOR_F_INDIRECT) !== 0) {
        // virtio 2.7.5.3.1 and .2: only if negotiated, one table, at the end of the chain; F_WRITE is ignored here.
        if (!this.#indirect) return 'an indirect descriptor, which was not negotiated';
        if (inTable) return 'an indirect descriptor inside an indirect table';
        if ((word & DESCRIPTOR_F_NEXT) !== 0) return 'a descriptor after an indirect one';
        if (length === 0 || (length & (DESCRIPTOR_BYTES - 1)) !== 0)
          return 'an indirect table with a length not a multiple of 16';
        if (length > INDIRECT_MAX * DESCRIPTOR_BYTES) return 'an indirect table with too many entries';
        if (!this.#openTable(low | 0, high | 0, length | 0)) return 'an indirect table outside guest memory';
        table = this.#table;
        tableAt = this.#tableAt;
        entries = length >>> 4;
        inTable = true;
        index = 0;
        hops = -1;
        continue;
      }
      const writable = (word & DESCRIPTOR_F_WRITE) !== 0;
      // virtio 2.7.4.2: everything readable comes first.
      if (sawWritable && !writable) return 'a readable descriptor after a writable one';
      sawWritable = writable;
      const segments = writable ? chain.writable : chain.readable;
      if (!this.#memory.appendWords(segments, low | 0, high | 0, length | 0)) {
        return segments.overflow ? 'a chain in too many pieces' : 'a descriptor outside guest memory';
      }
      chain.descriptors += 1;
      if ((word & DESCRIPTOR_F_NEXT) === 0) break;
      index = word >>> 16;
      if (index >= entries) return 'a next field outside the table';
    }
    return chain.readable.bytes + chain.writable.bytes > CHAIN_MAX_BYTES ? 'a chain of more than 2^32 bytes' : '';
  }

  /** Points `#table` at an indirect table, or at a copy of it when it cannot be read by words where it lies. */
  #openTable(low: number, high: number, length: number): boolean {
    const slot = this.#memory.windowOf(low, high, length);
    if (slot !== -1 && (this.#memory.windowOffset & 3) === 0) {
      this.#table = this.#memory.windows.views[slot].words;
      this.#tableAt = this.#memory.windowOffset >> 2;
      return true;
    }
    const pieces = this.#tablePieces;
    pieces.clear();
    if (!this.#memory.appendWords(pieces, low, high, length)) return false;
    this.#table = this.#tableCopy.words;
    this.#tableAt = 0;
    return gatherInto(this.#memory, pieces, 0, this.#tableCopy, 0, length) === length;
  }

  #break(error: string): number {
    this.#state = BROKEN;
    this.lastError = error;
    return POP_BROKEN;
  }
}
