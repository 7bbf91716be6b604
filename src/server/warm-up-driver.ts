/**
 * A driver and a session beside the device, in one thread: has a queue served by a loop of its own, as a guest's is,
 * from the kick to the interrupt, tells it what a session tells, and takes the replies.
 */
import { MessageChannel, type MessagePort } from 'node:worker_threads';

import { assert, type Fd } from '../core/index.ts';
import type { ScratchFileSystem } from '../fs/file-system.ts';
import { InHeader, type InitOffer, type Opcode, OutHeader } from '../fuse/index.ts';
import { Arena, close, eventfd, signalEventfd } from '../sys/index.ts';
import type { MappedRegion } from '../vhost/index.ts';
import { DriverQueue, type GuestBuffer } from '../virtio/index.ts';
import { Counters, COUNTERS_BYTES } from './counters.ts';
import { Gate } from './gate.ts';
import { MemoryMirror } from './memory-mirror.ts';
import { createPool, createPoolSession, PoolClient } from './pool.ts';
import { QueueLoop } from './queue-loop.ts';
import { ServedQueue } from './served-queue.ts';
import { SESSION_WORDS } from './session-state.ts';
import { ANSWER_COUNT, ANSWER_FAILED, ANSWER_RESULT, ANSWERS_WORDS, type QueueCommand } from './threads.ts';
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
/** A request takes one, or two where there are more than are served in one go. */
const MOST_TURNS = 10;
const encoder = new TextEncoder();

export class WarmUpDriver {
  /** What the gate counted. */
  readonly counters = new SharedArrayBuffer(COUNTERS_BYTES);
  /** What follows the header of the last reply. */
  readonly reply: DataView;
  readonly #low = new Arena(LOW_BYTES);
  readonly #high = new Arena(HIGH_BYTES);
  readonly #scratch: ScratchFileSystem;
  readonly #driver: DriverQueue;
  readonly #kickFd: Fd;
  readonly #callFd: Fd;
  readonly #commandFd: Fd;
  readonly #loop: QueueLoop;
  readonly #commands: MessagePort;
  readonly #answers = new Int32Array(new SharedArrayBuffer(ANSWERS_WORDS * 4));
  #told = 0;
  readonly #readable: GuestBuffer[] = [];
  readonly #writable: GuestBuffer[] = [];
  readonly #uid = process.geteuid?.() ?? 0;
  readonly #gid = process.getegid?.() ?? 0;
  #unique = 0;

  /**
   * `poolSize`: as that of the session. `resources`: what is to be let go at the end, also when this throws, as it does
   * where a limit of descriptors is reached.
   */
  constructor(scratch: ScratchFileSystem, offer: InitOffer, poolSize: number, resources: DisposableStack) {
    this.#scratch = scratch;
    this.reply = new DataView(this.#high.buffer, REPLY_AT, ROOM_BYTES);
    const event = (): Fd => resources.adopt(eventfd(), close);
    this.#kickFd = event();
    this.#callFd = event();
    this.#commandFd = event();
    this.#loop = resources.adopt(new QueueLoop(event()), (loop) => loop.end());
    const { port1, port2 } = new MessageChannel();
    this.#commands = resources.adopt(port1, (port) => port.close());
    const mirror = new MemoryMirror();
    const warn = (): void => undefined;
    const waits = new Waits(Waits.create());
    const gate = new Gate({
      memory: mirror.memory,
      fileSystem: scratch.fileSystem,
      session: new Int32Array(new SharedArrayBuffer(SESSION_WORDS * 4)),
      counters: new Counters(this.counters),
      offer,
      warn,
      waits,
    });
    const commandFd = this.#commandFd;
    const told = { queue: QUEUE, commands: port2, commandFd, answers: this.#answers.buffer };
    const waiting = {
      pool: new PoolClient(createPool(poolSize), createPoolSession(0), QUEUE, commandFd, () => undefined),
      waits: new QueueWaits(waits, QUEUE, commandFd),
      wakers: new Wakers(Wakers.create()),
    };
    this.#loop.add(new ServedQueue(told, { mirror, gate, warn }, waiting));
    this.#tell({ kind: 'memory', regions: [region(0, this.#low), region(HIGH, this.#high)] });
    assert(DriverQueue.bytes(QUEUE_SIZE, BUFFERS) <= HEADERS[1], 'the rings do not fit');
    const shape = { size: QUEUE_SIZE, guestAddress: 0, eventIdx: true, indirectEntries: BUFFERS };
    this.#driver = new DriverQueue(mirror.memory, shape);
    this.#start(0);
  }

  #start(nextAvailable: number): void {
    const { descriptorTable, availableRing, usedRing, size } = this.#driver;
    const { address } = this.#low;
    const ring = {
      size,
      descriptorTable: address + descriptorTable,
      availableRing: address + availableRing,
      usedRing: address + usedRing,
      nextAvailable,
      eventIdx: true,
      indirect: true,
      kickFd: this.#kickFd,
      callFd: this.#callFd,
    };
    this.#tell({ kind: 'start', ring });
  }

  /** Stops the queue and starts it, as when a guest boots again. */
  restart(): void {
    this.#start(this.#tell({ kind: 'stop' }));
  }

  #tell(command: QueueCommand): number {
    const answers = this.#answers;
    this.#told += 1;
    this.#commands.postMessage(command);
    signalEventfd(this.#commandFd);
    this.#turnUntil(() => answers[ANSWER_COUNT] === this.#told);
    assert(answers[ANSWER_FAILED] === 0, 'a made-up command failed');
    return answers[ANSWER_RESULT];
  }

  #turnUntil(isDone: () => boolean): void {
    for (let turns = 0; !isDone(); turns += 1) {
      assert(turns < MOST_TURNS && this.#loop.patienceMs <= 0, 'a made-up request is not answered');
      this.#loop.turn(0);
    }
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
    const isOdd = (this.#unique & 2) !== 0;
    if (isOdd) driver.enableInterrupts();
    for (let i = 0; i < times; i += 1) driver.add(this.#readable, this.#writable, { indirect: isOdd || times > 1 });
    if (driver.publish()) signalEventfd(this.#kickFd);
    let collected = 0;
    this.#turnUntil(() => {
      while (driver.collect() >= 0) collected += 1;
      return collected === times;
    });
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

function region(guestAddress: number, { bytes, address }: Arena): MappedRegion {
  return { guestAddress, sizeBytes: bytes, userAddress: guestAddress, hostAddress: address };
}

/** Guest address and length of each. */
function put(buffers: GuestBuffer[], ...parts: readonly (readonly [number, number])[]): void {
  buffers.length = 0;
  for (const [address, length] of parts) if (length > 0) buffers.push({ address, length });
}
