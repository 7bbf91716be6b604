/**
 * A driver beside the device, in one thread: lays a request in memory of its own, has a QueueRunner serve it as it
 * serves a guest's, and takes the reply.
 */
import { assert, type Fd } from '../core/index.ts';
import type { ScratchFileSystem } from '../fs/file-system.ts';
import { InHeader, type InitOffer, type Opcode, OutHeader } from '../fuse/index.ts';
import { GuestMemory } from '../memory/index.ts';
import { Arena, close, Epoll, eventfd, signalEventfd } from '../sys/index.ts';
import { DriverQueue, type GuestBuffer } from '../virtio/index.ts';
import { Counters, COUNTERS_BYTES } from './counters.ts';
import { Gate } from './gate.ts';
import { createPool, createPoolSession, PoolClient } from './pool.ts';
import { QueueRunner } from './queue-runner.ts';
import { SESSION_WORDS } from './session-state.ts';
import { QueueWaits, Waits, Wakers } from './waits.ts';

const QUEUE = 1;
/** More than a thread serves in one go. */
const QUEUE_SIZE = 128;
/** The most buffers that a request has here. */
const BUFFERS = 5;
// Guest memory, in two regions as a large guest has it: rings and requests in one, replies and data in the other.
const BODY_AT = 0x5000;
const LOW_BYTES = 0x6000;
const HIGH = 2 ** 32;
// From there on.
const REPLY_AT = 0x1000;
const ROOM_BYTES = 0x4000;
const DATA_AT = 0x5000;
export const DATA_BYTES = 4096;
const HIGH_BYTES = DATA_AT + DATA_BYTES;
// A header lies just before what it belongs to, or apart: buffers that follow one another become one piece.
const HEADERS = [BODY_AT - InHeader.bytes, BODY_AT - 0x800] as const;
const OUT_HEADERS = [REPLY_AT - OutHeader.bytes, REPLY_AT - 0x800] as const;
const encoder = new TextEncoder();

export class WarmUpDriver {
  /** What the gate counted. */
  readonly counters = new SharedArrayBuffer(COUNTERS_BYTES);
  /** What follows the header of the last reply. */
  readonly reply: DataView;
  readonly #low = new Arena(LOW_BYTES);
  readonly #high = new Arena(HIGH_BYTES);
  readonly #scratch: ScratchFileSystem;
  readonly #runner: QueueRunner;
  readonly #driver: DriverQueue;
  readonly #epoll = new Epoll();
  readonly #eventFd: Fd = eventfd();
  readonly #readable: GuestBuffer[] = [];
  readonly #writable: GuestBuffer[] = [];
  readonly #uid = process.geteuid?.() ?? 0;
  readonly #gid = process.getegid?.() ?? 0;
  #unique = 0;

  /** `poolSize`: as that of the session. */
  constructor(scratch: ScratchFileSystem, offer: InitOffer, poolSize: number) {
    this.#scratch = scratch;
    const { address } = this.#low;
    this.reply = new DataView(this.#high.buffer, REPLY_AT, ROOM_BYTES);
    const memory = new GuestMemory();
    add(memory, 0, this.#low);
    add(memory, HIGH, this.#high);
    const waits = new Waits(Waits.create());
    const gate = new Gate({
      memory,
      fileSystem: scratch.fileSystem,
      session: new Int32Array(new SharedArrayBuffer(SESSION_WORDS * 4)),
      counters: new Counters(this.counters),
      offer,
      warn: () => undefined,
      waits,
    });
    const wakeFd = this.#eventFd;
    this.#runner = new QueueRunner(memory, QUEUE, gate, () => undefined, {
      pool: new PoolClient(createPool(poolSize), createPoolSession(0), QUEUE, wakeFd, () => undefined),
      waits: new QueueWaits(waits, QUEUE, wakeFd),
      wakers: new Wakers(Wakers.create()),
      wakeFd,
    });
    const [size, eventIdx] = [QUEUE_SIZE, true];
    assert(DriverQueue.bytes(size, BUFFERS) <= HEADERS[1], 'the rings do not fit');
    this.#driver = new DriverQueue(memory, { size, guestAddress: 0, eventIdx, indirectEntries: BUFFERS });
    this.#runner.start({
      size,
      descriptorTable: address + this.#driver.descriptorTable,
      availableRing: address + this.#driver.availableRing,
      usedRing: address + this.#driver.usedRing,
      nextAvailable: 0,
      eventIdx,
      indirect: true,
      kickFd: this.#eventFd,
      callFd: this.#eventFd,
    });
    this.#epoll.add(this.#eventFd, 0);
  }

  /** Nothing that is asked for can take as long as a disk does. */
  get isMemory(): boolean {
    return this.#scratch.isMemory;
  }

  /**
   * Sends a request, or several that are the same: the words of its fixed part, names, then so many bytes of data.
   * 0, or the negative errno.
   */
  ask(record: Opcode, nodeid: NodeId, { words = [], names = [], dataBytes = 0, times = 1 }: Content): number {
    this.#unique += 1;
    const apart = this.#unique & 1;
    const bodyBytes = this.#layBody(words, names);
    this.#layHeader(record, nodeid, HEADERS[apart], bodyBytes + dataBytes);
    const isData = record.reply === 'payload';
    const room = record.reply === 'bytes' ? ROOM_BYTES : record.outBytes;
    const answered = record.reply !== 'none';
    const outAt = OUT_HEADERS[apart];
    put(this.#readable, [HEADERS[apart], InHeader.bytes], [BODY_AT, bodyBytes], [HIGH + DATA_AT, dataBytes]);
    if (answered)
      put(
        this.#writable,
        [HIGH + outAt, OutHeader.bytes],
        [HIGH + REPLY_AT, room],
        [HIGH + DATA_AT, isData ? DATA_BYTES : 0],
      );
    else this.#writable.length = 0;
    this.#exchange(times);
    return answered ? OutHeader.error(this.#high.view, outAt) : 0;
  }

  #layBody(words: readonly number[], names: readonly string[]): number {
    const { view, u8 } = this.#low;
    let at = BODY_AT;
    for (const word of words) {
      view.setUint32(at, word, true);
      at += 4;
    }
    for (const name of names) {
      at += encoder.encodeInto(name, u8.subarray(at, at + 256)).written;
      u8[at] = 0;
      at += 1;
    }
    return at - BODY_AT;
  }

  #layHeader(record: Opcode, nodeid: NodeId, at: number, bytes: number): void {
    const { view } = this.#low;
    InHeader.set.len(view, at, InHeader.bytes + bytes);
    InHeader.set.opcode(view, at, record.code);
    view.setUint32(at + InHeader.offsets.unique, this.#unique, true);
    view.setUint32(at + InHeader.offsets.nodeid, nodeid.lo, true);
    view.setUint32(at + InHeader.offsets.nodeid + 4, nodeid.hi, true);
    InHeader.set.uid(view, at, this.#uid);
    InHeader.set.gid(view, at, this.#gid);
  }

  /** Descriptors of their own and in a table by turns; so is what a driver does that sleeps, or looks by itself. */
  #exchange(times: number): void {
    const driver = this.#driver;
    const runner = this.#runner;
    const isOdd = (this.#unique & 2) !== 0;
    if (isOdd) driver.enableInterrupts();
    for (let i = 0; i < times; i += 1) driver.add(this.#readable, this.#writable, { indirect: isOdd || times > 1 });
    if (driver.publish()) signalEventfd(this.#eventFd);
    let collected = 0;
    for (let more = true; more; ) {
      if (this.#epoll.wait(0) > 0 && this.#epoll.key(0) === 0) runner.acknowledge();
      runner.attend(isOdd);
      more = runner.run();
      while (driver.collect() >= 0) collected += 1;
    }
    assert(collected === times && runner.patienceMs === -1, 'a made-up request is not answered');
  }

  close(): void {
    this.#runner.stop();
    this.#runner.end();
    this.#scratch.close();
    this.#epoll.close();
    close(this.#eventFd);
  }
}

/** In two words, unsigned. */
export interface NodeId {
  readonly lo: number;
  readonly hi: number;
}

/** What a request has behind its header. */
export interface Content {
  readonly words?: readonly number[];
  readonly names?: readonly string[];
  readonly dataBytes?: number;
  readonly times?: number;
}

function add(memory: GuestMemory, guestAddress: number, { bytes, address, buffer }: Arena): void {
  memory.add({ guestAddress, sizeBytes: bytes, userAddress: guestAddress, hostAddress: address, buffer });
}

/** Guest address and length of each. */
function put(buffers: GuestBuffer[], ...parts: readonly (readonly [number, number])[]): void {
  buffers.length = 0;
  for (const [address, length] of parts) if (length > 0) buffers.push({ address, length });
}
