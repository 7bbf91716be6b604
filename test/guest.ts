/**
 * A guest without a VM, for tests: the driver side of virtio over a real vhost-user connection, speaking FUSE byte by
 * byte. It does whatever it is told to, so it can be a polite guest or a hostile one.
 */
import assert from 'node:assert/strict';

import { errnoName } from '../src/core/index.ts';
import { InHeader, InitIn, OPCODES, OutHeader, opcodeName, opcodes } from '../src/fuse/index.ts';
import { gather, Segments, scatter } from '../src/memory/index.ts';
import { drainEventfd, signalEventfd, waitReadable } from '../src/sys/index.ts';
import { FrontEnd, type FrontEndQueue } from '../src/vhost/index.ts';
import { type AddOptions, DIRECT, DriverQueue, type GuestBuffer } from '../src/virtio/index.ts';
import { body } from './fuse.ts';

export const HIPRIO = 0;
const MEMORY_BYTES = 16 * 1024 * 1024;
const RING_ROOM = 512 * 1024;
/** Room for a posted request and its reply, a page each. */
const POSTED_BYTES = 8192;
const ANSWER_LIMIT_MS = 10_000;
/** What stands where the device has not written. */
const UNTOUCHED = 0xa5;

export interface FuseRequest {
  readonly opcode: number;
  readonly nodeid?: number | bigint;
  readonly uid?: number;
  readonly gid?: number;
  /** What follows the header. */
  readonly body?: Uint8Array;
  /** At the end, a multiple of 8 bytes. */
  readonly extensions?: Uint8Array;
  /** Room for the reply after its header; -1 for no writable descriptors at all, -16 to -2 for a part of the header. */
  readonly room?: number;
  /** Instead of the true length in the header. */
  readonly length?: number;
  readonly unique?: bigint;
}

export interface FuseReply {
  /** Bytes that the device says it wrote. */
  readonly used: number;
  readonly length: number;
  /** 0 or a negative errno. */
  readonly error: number;
  readonly unique: bigint;
  readonly body: DataView;
  /** The device wrote more than it says. */
  readonly spilled: boolean;
}

/** How a request is cut into descriptors: the sizes of the pieces; what is left goes into the last. */
export interface Cut extends AddOptions {
  readonly readable?: readonly number[];
  readonly writable?: readonly number[];
}

export interface GuestOptions {
  readonly requestQueues?: number;
  readonly queueSize?: number;
  readonly indirectEntries?: number;
  /** The protocol features of vhost-user that it may use; absent: all that there are. */
  readonly protocolFeatures?: bigint;
  /** It looks into the used ring only when it was interrupted, as Linux does where little happens. Default false. */
  readonly patient?: boolean;
}

/** One request on its way. */
interface Sent {
  readonly head: number;
  readonly writableAt: number;
  readonly room: number;
}

/** A request that was sent and whose reply is waited for later. */
export interface Posted extends Sent {
  readonly queue: number;
  readonly opcode: number;
  readonly unique: bigint;
}

export class TestGuest {
  readonly frontEnd: FrontEnd;
  readonly drivers: DriverQueue[] = [];
  readonly #options: Required<Omit<GuestOptions, 'protocolFeatures'>>;
  readonly #queues: FrontEndQueue[] = [];
  /** Where requests are laid, behind the rings. */
  readonly dataAt: number;
  #unique = 0n;
  readonly #segments = new Segments();
  /** Used chains that were collected while another was waited for: bytes by head, by queue. */
  readonly #strays = new Map<number, Map<number, number>>();
  #posted = 0;

  constructor(socketPath: string, options: GuestOptions = {}) {
    this.#options = { requestQueues: 1, queueSize: 128, indirectEntries: 64, patient: false, ...options };
    this.frontEnd = FrontEnd.connect(socketPath, -1, options.protocolFeatures);
    this.frontEnd.addMemory(0, MEMORY_BYTES);
    this.dataAt = (1 + this.#options.requestQueues) * RING_ROOM;
    for (let index = 0; index <= this.#options.requestQueues; index += 1) this.startQueue(index);
  }

  get memoryBytes(): number {
    return MEMORY_BYTES;
  }

  /** The guest address of a queue's rings; nothing else lies in the RING_ROOM from there on. */
  ringsAt(index: number): number {
    return index * RING_ROOM;
  }

  kickFd(index: number): number {
    return this.#queues[index].kickFd;
  }

  callFd(index: number): number {
    return this.#queues[index].callFd;
  }

  /** Lays new rings and starts the queue on them. */
  startQueue(index: number): void {
    this.drivers[index] = new DriverQueue(this.frontEnd.memory, {
      size: this.#options.queueSize,
      guestAddress: this.ringsAt(index),
      eventIdx: this.frontEnd.eventIdx,
      indirectEntries: this.#options.indirectEntries,
    });
    this.resumeQueue(index, 0);
  }

  /** Goes on with the rings as they are, after `stopQueue`. */
  resumeQueue(index: number, base: number): void {
    this.#queues[index] = this.frontEnd.startQueue(index, this.drivers[index], base);
    // The device interrupts once when a queue starts.
    if (this.#options.patient) this.awaitInterrupt(index);
  }

  /** The queue's next available index. */
  stopQueue(index: number): number {
    return this.frontEnd.stopQueue(index);
  }

  /** What a driver does with a queue that the device has given up. */
  restartQueue(index: number): void {
    this.stopQueue(index);
    this.startQueue(index);
  }

  /** Rings the bell of a queue, whether the device asked for it or not. */
  kick(queue: number): void {
    signalEventfd(this.#queues[queue].kickFd);
  }

  /** Waits until `virtiofs trace` has heard the kick. The daemon reads none: it serves before a `stopQueue`. */
  awaitHeard(queue: number): void {
    const deadline = performance.now() + ANSWER_LIMIT_MS;
    while (waitReadable(this.#queues[queue].kickFd, 0)) {
      if (performance.now() > deadline) throw new Error(`queue ${queue} does not hear its kicks`);
    }
  }

  /** Waits for the device's interrupt; false when none comes in time. */
  awaitInterrupt(queue: number, limitMs = ANSWER_LIMIT_MS): boolean {
    const deadline = performance.now() + limitMs;
    // Signals end a wait early.
    while (!waitReadable(this.#queues[queue].callFd, Math.max(0, Math.ceil(deadline - performance.now())))) {
      if (performance.now() >= deadline) return false;
    }
    drainEventfd(this.#queues[queue].callFd);
    return true;
  }

  write(address: number, bytes: Uint8Array): void {
    const segments = this.#at(address, bytes.length);
    scatter(this.frontEnd.memory, segments, 0, bytes, 0, bytes.length);
  }

  read(address: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    gather(this.frontEnd.memory, this.#at(address, length), 0, bytes, 0, length);
    return bytes;
  }

  #at(address: number, length: number): Segments {
    this.#segments.clear();
    if (this.frontEnd.memory.append(this.#segments, address, length)) return this.#segments;
    throw new RangeError(`no memory at ${address}`);
  }

  /** Sends one request and waits for its reply. */
  send(request: FuseRequest, queue = 1, cut: Cut = DIRECT): FuseReply {
    return this.sendBytes(this.encode(request), OutHeader.bytes + roomOf(request), queue, cut);
  }

  /** Sends any bytes, with so many writable ones behind them. */
  sendBytes(message: Uint8Array, writableBytes: number, queue = 1, cut: Cut = DIRECT): FuseReply {
    const sent = this.#lay(message, writableBytes, this.dataAt, queue, cut);
    assert.ok(sent, 'the queue is full');
    if (this.drivers[queue].publish()) this.kick(queue);
    return this.#receive(sent, this.#collectHead(queue, sent.head));
  }

  /**
   * Sends one request and does not wait for its reply. It lies where no other does, so that others may be sent
   * meanwhile; there is room for a thousand of them.
   */
  post(request: FuseRequest, queue = 1): Posted {
    return this.postAll([request], queue)[0];
  }

  /** As `post`: the device sees all of them at once. */
  postAll(requests: readonly FuseRequest[], queue = 1): Posted[] {
    const posted = requests.map((request) => this.#layPosted(request, queue));
    if (this.drivers[queue].publish()) this.kick(queue);
    return posted;
  }

  #layPosted(request: FuseRequest, queue: number): Posted {
    const at = MEMORY_BYTES / 2 + POSTED_BYTES * this.#posted;
    this.#posted += 1;
    assert.ok(at + POSTED_BYTES <= MEMORY_BYTES, 'too many requests were posted');
    const message = this.encode(request);
    const unique = new DataView(message.buffer).getBigUint64(InHeader.offsets.unique, true);
    const sent = this.#lay(message, OutHeader.bytes + roomOf(request), at, queue, DIRECT);
    assert.ok(sent, 'the queue is full');
    return { ...sent, queue, opcode: request.opcode, unique };
  }

  /** Waits for the reply to a posted request and holds it against the errno that is expected, as `ask`. */
  answer(posted: Posted, errno = 0): DataView {
    const reply = this.#receive(posted, this.#collectHead(posted.queue, posted.head));
    checkReply(posted.opcode, reply, posted.unique);
    assert.equal(errnoName(reply.error), errnoName(errno), opcodeName(posted.opcode));
    return reply.body;
  }

  /** Whether the device has given a posted request back. */
  isAnswered(posted: Posted): boolean {
    const strays = this.#straysOf(posted.queue);
    const driver = this.drivers[posted.queue];
    for (let head = driver.collect(); head >= 0; head = driver.collect()) strays.set(head, driver.collectedBytes);
    return strays.has(posted.head);
  }

  /** The room for the reply to a posted request, as it is now. */
  roomFor(posted: Posted): Uint8Array {
    return this.read(posted.writableAt, posted.room);
  }

  #straysOf(queue: number): Map<number, number> {
    const strays = this.#strays.get(queue) ?? new Map<number, number>();
    this.#strays.set(queue, strays);
    return strays;
  }

  /** Waits until the device has given a chain back; the bytes that it says it wrote. */
  #collectHead(queue: number, wanted: number): number {
    const strays = this.#straysOf(queue);
    for (;;) {
      const stray = strays.get(wanted);
      if (stray !== undefined) {
        strays.delete(wanted);
        return stray;
      }
      const { head, bytes } = this.collect(queue);
      strays.set(head, bytes);
    }
  }

  /** Sends many requests with as few kicks as the queue and the memory allow. The replies, in order. */
  sendAll(requests: readonly FuseRequest[], queue = 1): FuseReply[] {
    return this.sendAllBytes(
      requests.map((request) => ({ message: this.encode(request), writableBytes: OutHeader.bytes + roomOf(request) })),
      queue,
    );
  }

  sendAllBytes(messages: readonly { message: Uint8Array; writableBytes: number; cut?: Cut }[], queue = 1): FuseReply[] {
    const replies: FuseReply[] = [];
    for (let next = 0; next < messages.length; ) {
      const round = new Map<number, Sent & { index: number }>();
      let at = this.dataAt;
      for (; next < messages.length; next += 1) {
        const { message, writableBytes, cut = DIRECT } = messages[next];
        if (at + pages(message.length) + pages(writableBytes) > MEMORY_BYTES) break;
        const sent = this.#lay(message, writableBytes, at, queue, cut);
        if (sent === undefined) break;
        round.set(sent.head, { ...sent, index: next });
        at += pages(message.length) + pages(writableBytes);
      }
      assert.ok(round.size > 0, 'a request does not fit');
      if (this.drivers[queue].publish()) this.kick(queue);
      for (let left = round.size; left > 0; left -= 1) {
        const { head, bytes } = this.collect(queue);
        const sent = round.get(head);
        assert.ok(sent, 'a chain came back that was not sent');
        replies[sent.index] = this.#receive(sent, bytes);
      }
    }
    return replies;
  }

  /** Writes a request to memory and adds its chain; undefined when the queue is full. */
  #lay(message: Uint8Array, writableBytes: number, at: number, queue: number, cut: Cut): Sent | undefined {
    const room = Math.max(0, writableBytes);
    const writableAt = at + pages(message.length);
    this.write(at, message);
    this.write(writableAt, new Uint8Array(room).fill(UNTOUCHED));
    const readable = message.length === 0 ? [] : split(at, message.length, cut.readable ?? []);
    const writable = room === 0 ? [] : split(writableAt, room, cut.writable ?? []);
    const head = this.drivers[queue].add(readable, writable, cut);
    return head < 0 ? undefined : { head, writableAt, room };
  }

  #receive(sent: Sent, used: number): FuseReply {
    assert.ok(used <= sent.room, `the device says that it wrote ${used} bytes into ${sent.room}`);
    const bytes = this.read(sent.writableAt, sent.room);
    const spilled = bytes.subarray(used).some((byte) => byte !== UNTOUCHED);
    return decodeReply(used, bytes.slice(0, used), spilled);
  }

  /** Waits for one used chain. */
  collect(queue: number): { head: number; bytes: number } {
    const driver = this.drivers[queue];
    const { patient } = this.#options;
    let waits = patient;
    for (;;) {
      if (waits && !this.awaitInterrupt(queue)) throw new Error(`no interrupt of queue ${queue}`);
      const head = driver.collect();
      // What came before it was asked for comes without an interrupt.
      if (patient) waits = !driver.enableInterrupts();
      if (head >= 0) return { head, bytes: driver.collectedBytes };
      if (head === -2) throw new Error('the device returned a chain that it was not given');
      if (patient || driver.enableInterrupts()) continue;
      if (!this.awaitInterrupt(queue)) throw new Error(`no answer on queue ${queue} within ${ANSWER_LIMIT_MS} ms`);
    }
  }

  encode(request: FuseRequest): Uint8Array {
    const rest = request.body ?? new Uint8Array(0);
    const extensions = request.extensions ?? new Uint8Array(0);
    const message = new Uint8Array(InHeader.bytes + rest.length + extensions.length);
    const view = new DataView(message.buffer);
    this.#unique += 1n;
    InHeader.set.len(view, 0, request.length ?? message.length);
    InHeader.set.opcode(view, 0, request.opcode);
    view.setBigUint64(InHeader.offsets.unique, request.unique ?? this.#unique, true);
    view.setBigUint64(InHeader.offsets.nodeid, BigInt(request.nodeid ?? 1), true);
    InHeader.set.uid(view, 0, request.uid ?? process.getuid?.() ?? 0);
    InHeader.set.gid(view, 0, request.gid ?? process.getgid?.() ?? 0);
    InHeader.set.totalExtlen(view, 0, extensions.length / 8);
    message.set(rest, InHeader.bytes);
    message.set(extensions, InHeader.bytes + rest.length);
    return message;
  }

  /**
   * Sends a request and holds the reply against what Linux 7.1 and newer demand (virtio_fs_verify_response), and
   * against the result that is expected: 0 or a positive errno. The body of the reply.
   */
  ask(request: FuseRequest, errno = 0, queue = 1, cut: Cut = DIRECT): DataView {
    const unique = request.unique ?? this.#unique + 1n;
    const reply = this.send(request, queue, cut);
    checkReply(request.opcode, reply, unique);
    const expected = errno === 0 ? 'success' : errnoName(errno);
    const got = reply.error === 0 ? 'success' : errnoName(reply.error);
    assert.equal(got, expected, `${opcodeName(request.opcode)} of node ${request.nodeid ?? 1}`);
    return reply.body;
  }

  /** FUSE_INIT as Linux 6.12 sends it. */
  init(): FuseReply {
    const fields = { major: 7, minor: 41, maxReadahead: 131072, flags: 0x7bfffffb, flags2: 0x1fd };
    return this.send({ opcode: opcodes.INIT.code, nodeid: 0, body: body(InitIn, fields) });
  }

  /** Ends as a killed VM does. */
  close(): void {
    this.frontEnd.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** What Linux holds a reply against before it looks at what it says. */
export function checkReply(opcode: number, reply: FuseReply, unique: bigint): void {
  const what = opcodeName(opcode);
  const record = OPCODES[opcode];
  if (record?.reply === 'none') {
    assert.equal(reply.used, 0, `${what} is not answered`);
    return;
  }
  assert.equal(reply.used, reply.length, `${what}: used length and fuse_out_header.len`);
  assert.equal(reply.unique, unique, `${what}: unique`);
  assert.equal(reply.spilled, false, `${what}: bytes were written beyond the used length`);
  assert.ok(reply.error <= 0 && reply.error > -512, `${what}: error ${reply.error}`);
  if (reply.error !== 0) assert.equal(reply.used, OutHeader.bytes, `${what}: an error is a header alone`);
  else if (record?.reply === 'struct') assert.equal(reply.used, OutHeader.bytes + record.outBytes, `${what}: length`);
  else if (record?.reply === 'empty') assert.equal(reply.used, OutHeader.bytes, `${what}: length`);
}

/** As much room as the opcode's reply needs, or a page for replies of variable length. */
function roomOf(request: FuseRequest): number {
  if (request.room !== undefined) return request.room === -1 ? -OutHeader.bytes : request.room;
  const record = OPCODES[request.opcode];
  if (record === undefined || record.reply === 'empty') return 0;
  if (record.reply === 'none') return -OutHeader.bytes;
  return record.reply === 'struct' ? record.outBytes : 4096;
}

function pages(bytes: number): number {
  return (Math.max(0, bytes) + 4095) & ~4095;
}

function split(address: number, length: number, sizes: readonly number[]): GuestBuffer[] {
  const pieces: GuestBuffer[] = [];
  let at = 0;
  for (const size of sizes) {
    if (at + size >= length) break;
    pieces.push({ address: address + at, length: size });
    at += size;
  }
  pieces.push({ address: address + at, length: length - at });
  return pieces;
}

function decodeReply(used: number, bytes: Uint8Array<ArrayBuffer>, spilled: boolean): FuseReply {
  if (bytes.length < OutHeader.bytes) {
    return { used, length: 0, error: 0, unique: 0n, body: new DataView(new ArrayBuffer(0)), spilled };
  }
  const view = new DataView(bytes.buffer);
  return {
    used,
    length: OutHeader.len(view, 0),
    error: OutHeader.error(view, 0),
    unique: view.getBigUint64(OutHeader.offsets.unique, true),
    body: new DataView(bytes.buffer, OutHeader.bytes),
    spilled,
  };
}
