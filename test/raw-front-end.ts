/** A VMM that says over vhost-user whatever it is told to, right or wrong. Every wait has a limit. */
import assert from 'node:assert/strict';

import { GetattrIn, InHeader, InitIn, OutHeader, opcodes } from '../src/fuse/index.ts';
import { GuestMemory, gather, Segments, scatter } from '../src/memory/index.ts';
import {
  close,
  connectUnix,
  drainEventfd,
  eventfd,
  mapShared,
  memfd,
  munmap,
  receiveMessage,
  sendMessage,
  signalEventfd,
  viewMemory,
  waitReadable,
} from '../src/sys/index.ts';
import {
  codeOf,
  type FrontEndName,
  HEADER_NEED_REPLY,
  HEADER_REPLY,
  HEADER_VERSION,
  SingleMemoryRegion,
  VhostHeader,
  VringAddr,
  VringState,
} from '../src/vhost/index.ts';
import { DriverQueue } from '../src/virtio/index.ts';
import { body, concat, type Fields } from './fuse.ts';

const LIMIT_MS = 10_000;

export interface RawRegion {
  readonly fd: number;
  readonly guestAddress: number;
  readonly userAddress: number;
  readonly hostAddress: number;
  readonly sizeBytes: number;
}

export interface RawQueue {
  readonly index: number;
  readonly driver: DriverQueue;
  readonly kickFd: number;
  readonly callFd: number;
}

/** A number of 64 bits. */
export function u64(value: number | bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt.asUintN(64, BigInt(value)), true);
  return new Uint8Array(view.buffer);
}

/** vhost_vring_state. */
export function state(index: number, num: number): Uint8Array {
  return body(VringState, { index, num });
}

/** The payload of ADD_MEM_REG and REM_MEM_REG. */
export function regionPayload(region: {
  guestAddress: number | bigint;
  sizeBytes: number | bigint;
  userAddress: number | bigint;
  mmapOffset?: number | bigint;
}): Uint8Array {
  const { guestAddress, sizeBytes, userAddress, mmapOffset = 0 } = region;
  const payload = concat(u64(0), u64(guestAddress), u64(sizeBytes), u64(userAddress), u64(mmapOffset));
  assert.equal(payload.length, SingleMemoryRegion.bytes);
  return payload;
}

export class RawFrontEnd {
  readonly fd: number;
  /** What the rings are laid in. */
  readonly memory = new GuestMemory();
  readonly #regions: RawRegion[] = [];
  readonly #fds: number[] = [];
  #unique = 0n;

  constructor(socketPath: string) {
    this.fd = connectUnix(socketPath);
  }

  sendBytes(bytes: Uint8Array, fds: readonly number[] = []): number {
    return sendMessage(this.fd, bytes, fds);
  }

  /** The bytes of a message. */
  static message(
    request: number,
    payload: Uint8Array = new Uint8Array(0),
    flags = 0,
    size = payload.length,
  ): Uint8Array {
    return concat(body(VhostHeader, { request, flags: HEADER_VERSION | flags, size }), payload);
  }

  send(name: FrontEndName | number, payload?: Uint8Array, flags = 0, fds: readonly number[] = []): void {
    const code = typeof name === 'number' ? name : codeOf(name);
    assert.equal(this.sendBytes(RawFrontEnd.message(code, payload, flags), fds), 0, `sending ${name}`);
  }

  /** The payload of the next message, which answers `name`; undefined when the daemon has closed. */
  receive(name: FrontEndName | number): DataView | undefined {
    const header = this.#fill(VhostHeader.bytes);
    if (header === undefined) return undefined;
    assert.equal(VhostHeader.request(header, 0), typeof name === 'number' ? name : codeOf(name));
    assert.equal(VhostHeader.flags(header, 0), HEADER_VERSION | HEADER_REPLY);
    const payload = this.#fill(VhostHeader.size(header, 0));
    assert.ok(payload, 'an answer without its end');
    return payload;
  }

  #fill(length: number): DataView | undefined {
    const bytes = new Uint8Array(length);
    for (let at = 0; at < length; ) {
      assert.ok(waitReadable(this.fd, LIMIT_MS), 'no answer in time');
      const got = receiveMessage(this.fd, bytes, at, length - at, []);
      // ECONNRESET: the daemon has closed with something of ours unread.
      if (got === 0 || got === -104) return undefined;
      assert.ok(got > 0, `receiving: ${got}`);
      at += got;
    }
    return new DataView(bytes.buffer);
  }

  /** Whether the daemon has closed the connection, waiting for what it does. */
  isClosed(): boolean {
    return this.#fill(1) === undefined;
  }

  /** Sends a message that has an answer of its own. */
  ask(name: FrontEndName, payload?: Uint8Array, flags = 0): DataView {
    this.send(name, payload, flags);
    const answer = this.receive(name);
    assert.ok(answer, `the daemon closed at ${name}`);
    return answer;
  }

  askNumber(name: FrontEndName): bigint {
    return this.ask(name).getBigUint64(0, true);
  }

  /** Sends a message with need_reply: true when it was done, false when it was refused. */
  does(name: FrontEndName | number, payload?: Uint8Array, fds: readonly number[] = []): boolean {
    this.send(name, payload, HEADER_NEED_REPLY, fds);
    const answer = this.receive(name);
    assert.ok(answer, `the daemon closed at ${name}`);
    assert.equal(answer.byteLength, 8);
    return answer.getBigUint64(0, true) === 0n;
  }

  /** Features as QEMU agrees on them: all that is offered, of the protocol's all but CONFIG. */
  negotiate(protocol = ~(1n << 9n)): void {
    const features = this.askNumber('GET_FEATURES');
    const offered = this.askNumber('GET_PROTOCOL_FEATURES');
    this.send('SET_PROTOCOL_FEATURES', u64(offered & protocol));
    this.send('SET_OWNER');
    this.send('SET_FEATURES', u64(features));
  }

  /** Memory of ours that the daemon has not been told of. */
  makeRegion(guestAddress: number, sizeBytes: number, userAddress = 0x7f00_0000_0000 + guestAddress): RawRegion {
    const fd = memfd('guest', sizeBytes);
    const hostAddress = mapShared(fd, sizeBytes, 0);
    const buffer = viewMemory(hostAddress, sizeBytes);
    this.memory.add({ guestAddress, sizeBytes, userAddress, hostAddress, buffer });
    const region = { fd, guestAddress, userAddress, hostAddress, sizeBytes };
    this.#regions.push(region);
    return region;
  }

  addRegion(guestAddress: number, sizeBytes: number): RawRegion {
    const region = this.makeRegion(guestAddress, sizeBytes);
    assert.ok(this.does('ADD_MEM_REG', regionPayload(region), [region.fd]), 'ADD_MEM_REG');
    return region;
  }

  eventfd(): number {
    const fd = eventfd();
    this.#fds.push(fd);
    return fd;
  }

  /** Lays rings at a guest address; nothing is said to the daemon. */
  makeQueue(index: number, guestAddress: number, size = 128): RawQueue {
    const driver = new DriverQueue(this.memory, { size, guestAddress, eventIdx: true });
    return { index, driver, kickFd: this.eventfd(), callFd: this.eventfd() };
  }

  /** vhost_vring_addr of a queue, in addresses of the front-end. */
  addresses({ index, driver }: Pick<RawQueue, 'index' | 'driver'>, over: Fields = {}): Uint8Array {
    return body(VringAddr, {
      index,
      descUserAddr: this.#toUser(driver.descriptorTable),
      availUserAddr: this.#toUser(driver.availableRing),
      usedUserAddr: this.#toUser(driver.usedRing),
      ...over,
    });
  }

  #toUser(guestAddress: number): number {
    const region = this.memory.regions.find(
      (each) => guestAddress >= each.guestAddress && guestAddress < each.guestAddress + each.sizeBytes,
    );
    assert.ok(region);
    return region.userAddress + guestAddress - region.guestAddress;
  }

  /** Starts a queue as QEMU does when the driver is ready. */
  startQueue(queue: RawQueue, base = 0): void {
    const { index } = queue;
    assert.ok(this.does('SET_VRING_NUM', state(index, queue.driver.size)));
    assert.ok(this.does('SET_VRING_BASE', state(index, base)));
    assert.ok(this.does('SET_VRING_ADDR', this.addresses(queue)));
    assert.ok(this.does('SET_VRING_KICK', u64(index), [queue.kickFd]));
    assert.ok(this.does('SET_VRING_CALL', u64(index), [queue.callFd]));
    assert.ok(this.does('SET_VRING_ENABLE', state(index, 1)));
  }

  /** The next available index. */
  stopQueue({ index }: Pick<RawQueue, 'index'>): number {
    this.send('SET_VRING_ENABLE', state(index, 0));
    const answer = this.ask('GET_VRING_BASE', state(index, 0));
    assert.equal(VringState.index(answer, 0), index);
    return VringState.num(answer, 0);
  }

  /** A FUSE message on a queue, its buffers from `at` on. The reply, header included; empty when there is none. */
  exchange(queue: RawQueue, message: Uint8Array, room: number, at: number): DataView {
    this.lay(queue, message, room, at);
    queue.driver.publish();
    signalEventfd(queue.kickFd);
    const used = this.collect(queue);
    const bytes = new Uint8Array(used);
    gather(this.memory, this.#segments(at + 4096, used), 0, bytes, 0, used);
    return new DataView(bytes.buffer);
  }

  /** Adds a chain to a queue without showing it. */
  lay(queue: RawQueue, message: Uint8Array, room: number, at: number): void {
    scatter(this.memory, this.#segments(at, message.length), 0, message, 0, message.length);
    const added = queue.driver.add([{ address: at, length: message.length }], [{ address: at + 4096, length: room }]);
    assert.ok(added >= 0);
  }

  /** Waits for one used chain: the bytes written to it. */
  collect({ driver, callFd, index }: RawQueue): number {
    for (;;) {
      const head = driver.collect();
      assert.notEqual(head, -2, 'a chain came back that was not given');
      if (head >= 0) return driver.collectedBytes;
      if (driver.enableInterrupts()) continue;
      assert.ok(waitReadable(callFd, LIMIT_MS), `no answer on queue ${index} in time`);
      drainEventfd(callFd);
    }
  }

  #segments(address: number, length: number): Segments {
    const segments = new Segments();
    assert.ok(this.memory.append(segments, address, length), `no memory at ${address}`);
    return segments;
  }

  /** The bytes of a FUSE request. */
  encode(opcode: number, rest: Uint8Array): Uint8Array {
    this.#unique += 1n;
    const len = InHeader.bytes + rest.length;
    return concat(
      body(InHeader, { len, opcode, nodeid: opcode === opcodes.INIT.code ? 0 : 1, unique: this.#unique }),
      rest,
    );
  }

  /** FUSE_INIT; its error. */
  init(queue: RawQueue, at: number): number {
    const fields = { major: 7, minor: 41, maxReadahead: 131072, flags: 0x7bfffffb };
    const reply = this.exchange(queue, this.encode(opcodes.INIT.code, body(InitIn, fields)), 80, at);
    return reply.byteLength < OutHeader.bytes ? 1 : OutHeader.error(reply, 0);
  }

  /** Asks for the root's attributes: 0, a negative errno, or 1 for no reply. */
  getattr(queue: RawQueue, at: number): number {
    const reply = this.exchange(queue, this.encode(opcodes.GETATTR.code, body(GetattrIn)), 120, at);
    if (reply.byteLength === 0) return 1;
    assert.equal(OutHeader.len(reply, 0), reply.byteLength);
    return OutHeader.error(reply, 0);
  }

  close(): void {
    close(this.fd);
    for (const fd of this.#fds.splice(0)) close(fd);
    for (const region of this.#regions.splice(0)) {
      const removed = this.memory.remove(region.guestAddress, region.sizeBytes);
      (removed?.buffer as ArrayBuffer | undefined)?.transfer();
      munmap(region.hostAddress, region.sizeBytes);
      close(region.fd);
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
