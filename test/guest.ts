/**
 * A guest without a VM, for tests: the driver side of virtio over a real vhost-user connection, speaking FUSE byte by
 * byte. It does whatever it is told to, so it can be a polite guest or a hostile one.
 */
import { InHeader, OPCODES, OutHeader, opcodes } from '../src/fuse/index.ts';
import { gather, Segments, scatter } from '../src/memory/index.ts';
import { signalEventfd, waitReadable, drainEventfd } from '../src/sys/index.ts';
import { FrontEnd, type FrontEndQueue } from '../src/vhost/index.ts';
import { type AddOptions, DIRECT, DriverQueue, type GuestBuffer } from '../src/virtio/index.ts';

export const HIPRIO = 0;
const MEMORY_BYTES = 16 * 1024 * 1024;
const RING_ROOM = 256 * 1024;
const ANSWER_LIMIT_MS = 10_000;

export interface FuseRequest {
  readonly opcode: number;
  readonly nodeid?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** What follows the header. */
  readonly body?: Uint8Array;
  /** Room for the reply after its header; -1 for no writable descriptors at all. */
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
}

/** How a request is cut into descriptors: the sizes of the pieces; what is left goes into the last. */
export interface Cut extends AddOptions {
  readonly readable?: readonly number[];
  readonly writable?: readonly number[];
}

export class TestGuest {
  readonly frontEnd: FrontEnd;
  readonly drivers: DriverQueue[] = [];
  readonly #queues: FrontEndQueue[] = [];
  /** Where requests are laid, by queue: nothing is reused while the device may hold it. */
  #dataAt: number;
  #unique = 0n;

  constructor(
    socketPath: string,
    options: { requestQueues?: number; queueSize?: number; indirectEntries?: number } = {},
  ) {
    const { requestQueues = 1, queueSize = 128, indirectEntries = 64 } = options;
    this.frontEnd = FrontEnd.connect(socketPath);
    this.frontEnd.addMemory(0, MEMORY_BYTES);
    this.#dataAt = (1 + requestQueues) * RING_ROOM;
    for (let index = 0; index <= requestQueues; index += 1) {
      const driver = new DriverQueue(this.frontEnd.memory, {
        size: queueSize,
        guestAddress: index * RING_ROOM,
        eventIdx: this.frontEnd.eventIdx,
        indirectEntries,
      });
      this.drivers.push(driver);
      this.#queues.push(this.frontEnd.startQueue(index, driver));
    }
  }

  get memoryBytes(): number {
    return MEMORY_BYTES;
  }

  /** Rings the bell of a queue, whether the device asked for it or not. */
  kick(queue: number): void {
    signalEventfd(this.#queues[queue].kickFd);
  }

  /** Waits for the device's interrupt; false when none comes in time. */
  awaitInterrupt(queue: number, limitMs = ANSWER_LIMIT_MS): boolean {
    if (!waitReadable(this.#queues[queue].callFd, limitMs)) return false;
    drainEventfd(this.#queues[queue].callFd);
    return true;
  }

  write(address: number, bytes: Uint8Array): void {
    const segments = new Segments();
    if (!this.frontEnd.memory.append(segments, address, bytes.length)) throw new RangeError(`no memory at ${address}`);
    scatter(this.frontEnd.memory, segments, 0, bytes, 0, bytes.length);
  }

  read(address: number, length: number): Uint8Array {
    const segments = new Segments();
    if (!this.frontEnd.memory.append(segments, address, length)) throw new RangeError(`no memory at ${address}`);
    const bytes = new Uint8Array(length);
    gather(this.frontEnd.memory, segments, 0, bytes, 0, length);
    return bytes;
  }

  /** Sends one request and waits for its reply. */
  send(request: FuseRequest, queue = 1, cut: Cut = DIRECT): FuseReply {
    const message = this.encode(request);
    const room = roomOf(request);
    const readableAt = this.#dataAt;
    const writableAt = readableAt + ((message.length + 4095) & ~4095);
    this.write(readableAt, message);
    const readable = split(readableAt, message.length, cut.readable ?? []);
    const writable = room < 0 ? [] : split(writableAt, OutHeader.bytes + room, cut.writable ?? []);
    const driver = this.drivers[queue];
    if (driver.add(readable, writable, cut) < 0) throw new Error('the queue is full');
    if (driver.publish()) this.kick(queue);
    const used = this.collect(queue);
    const bytes = used > 0 ? this.read(writableAt, used) : new Uint8Array(0);
    return decodeReply(used, bytes);
  }

  /** Waits for one used chain; the bytes written to it. */
  collect(queue: number): number {
    const driver = this.drivers[queue];
    for (;;) {
      const head = driver.collect();
      if (head >= 0) return driver.collectedBytes;
      if (head === -2) throw new Error('the device returned a chain that it was not given');
      if (driver.enableInterrupts()) continue;
      if (!this.awaitInterrupt(queue)) throw new Error(`no answer on queue ${queue} within ${ANSWER_LIMIT_MS} ms`);
    }
  }

  encode(request: FuseRequest): Uint8Array {
    const body = request.body ?? new Uint8Array(0);
    const message = new Uint8Array(InHeader.bytes + body.length);
    const view = new DataView(message.buffer);
    this.#unique += 1n;
    InHeader.set.len(view, 0, request.length ?? message.length);
    InHeader.set.opcode(view, 0, request.opcode);
    view.setBigUint64(InHeader.offsets.unique, request.unique ?? this.#unique, true);
    InHeader.set.nodeid(view, 0, request.nodeid ?? 1);
    InHeader.set.uid(view, 0, request.uid ?? 0);
    InHeader.set.gid(view, 0, request.gid ?? 0);
    message.set(body, InHeader.bytes);
    return message;
  }

  /** FUSE_INIT as Linux 6.12 sends it. */
  init(): FuseReply {
    return this.send({
      opcode: opcodes.INIT.code,
      nodeid: 0,
      body: words(7, 41, 131072, 0x7bfffffb, 0x1fd, ...Array(11).fill(0)),
    });
  }

  /** Ends as a killed VM does. */
  close(): void {
    this.frontEnd.close();
  }
}

/** As much room as the opcode's reply needs, or a page for replies of variable length. */
function roomOf(request: FuseRequest): number {
  if (request.room !== undefined) return request.room;
  const record = OPCODES[request.opcode];
  if (record === undefined || record.reply === 'empty') return 0;
  if (record.reply === 'none') return -1;
  return record.reply === 'struct' ? record.outBytes : 4096;
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

function decodeReply(used: number, bytes: Uint8Array): FuseReply {
  if (bytes.length < OutHeader.bytes)
    return { used, length: 0, error: 0, unique: 0n, body: new DataView(new ArrayBuffer(0)) };
  const view = new DataView(bytes.buffer);
  return {
    used,
    length: OutHeader.len(view, 0),
    error: OutHeader.error(view, 0),
    unique: view.getBigUint64(OutHeader.offsets.unique, true),
    body: new DataView(bytes.buffer, OutHeader.bytes),
  };
}

/** Little-endian 32-bit words. */
export function words(...values: number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  for (const [i, value] of values.entries()) view.setUint32(i * 4, value >>> 0, true);
  return new Uint8Array(view.buffer);
}

/** A NUL-terminated name. */
export function name(text: string | Uint8Array): Uint8Array {
  const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : text;
  return concat(bytes, new Uint8Array(1));
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
