/**
 * The front-end's side of vhost-user: what a VMM does, for programs that are a guest without a VM, and for tests. It
 * makes guest memory, shares it, and starts rings that a DriverQueue drives.
 *
 * Whoever calls in this order says what QEMU says in its order (hw/virtio/vhost-user.c, vhost.c): connect, queueCount,
 * openBackendChannel, prepareQueue for all, sharedMemory, config, addMemory, layQueue for all, enableQueue for all; and
 * at the end enableQueue, stopQueue for all, resetDevice. SET_OWNER and SET_FEATURES go out where QEMU has them: before
 * the first that is about the device, and before memory.
 */
import { assert, type Fd, PAGE_BYTES } from '../core/index.ts';
import { GuestMemory } from '../memory/index.ts';
import {
  close,
  connectUnix,
  eventfd,
  mapShared,
  munmap,
  sealedMemfd,
  socketPair,
  viewMemory,
  waitReadable,
} from '../sys/index.ts';
import type { DriverQueue } from '../virtio/index.ts';
import { BackendRequests } from './backend-requests.ts';
import { Channel } from './channel.ts';
import { VhostError } from './error.ts';
import type { RegionRequest } from './mapped-memory.ts';
import {
  codeOf,
  Config,
  Feature,
  type FrontEndName,
  HEADER_NEED_REPLY,
  HEADER_REPLY,
  MAX_SHMEM_REGIONS,
  ProtocolFeature,
  ShmemConfig,
  U64,
  VringAddr,
  VringState,
} from './messages.ts';
import { bigU64, memoryTable, singleRegion, u64, vringState } from './payloads.ts';

const bit = (index: bigint): bigint => 1n << index;

/** What this side can do. */
const FEATURES =
  bit(Feature.VERSION_1) |
  bit(Feature.RING_INDIRECT_DESC) |
  bit(Feature.RING_EVENT_IDX) |
  bit(Feature.PROTOCOL_FEATURES);
/** What a front-end may use of vhost-user. */
export const PROTOCOL_FEATURES =
  bit(ProtocolFeature.MQ) |
  bit(ProtocolFeature.REPLY_ACK) |
  bit(ProtocolFeature.BACKEND_REQ) |
  bit(ProtocolFeature.CONFIG) |
  bit(ProtocolFeature.BACKEND_SEND_FD) |
  bit(ProtocolFeature.RESET_DEVICE) |
  bit(ProtocolFeature.CONFIGURE_MEM_SLOTS) |
  bit(ProtocolFeature.STATUS) |
  bit(ProtocolFeature.SHMEM);

/** virtio 2.1: the driver and the device agree on features. */
const STATUS_FEATURES_OK = 8;
/** Half of the addresses that a process has. */
const MAX_SHMEM_BYTES = 2 ** 46;

export interface FrontEndQueue {
  readonly kickFd: Fd;
  readonly callFd: Fd;
}

interface OwnQueue {
  readonly callFd: Fd;
  readonly ownsCallFd: boolean;
  kickFd: Fd | -1;
}

interface OwnRegion {
  readonly fd: Fd;
  readonly sizeBytes: number;
  readonly guestAddress: number;
  readonly hostAddress: number;
}

export class FrontEnd {
  readonly memory = new GuestMemory();
  readonly #channel: Channel;
  readonly #queues = new Map<number, OwnQueue>();
  readonly #regions: OwnRegion[] = [];
  #features = 0n;
  #protocolFeatures = 0n;
  #owned = false;
  #agreed = false;
  /** Where the back-end tells that a ring is broken; -1: no ring is prepared yet. */
  #errorFd: Fd | -1 = -1;

  private constructor(channel: Channel) {
    this.#channel = channel;
  }

  /**
   * Connects to a back-end's socket and agrees on features. `limitMs`: how long it may take to answer a message, -1
   * for as long as it likes; `wanted`: the protocol features that this side may use. Throws SysError, VhostError.
   */
  static connect(path: string, limitMs = -1, wanted = PROTOCOL_FEATURES): FrontEnd {
    const frontEnd = new FrontEnd(new Channel(connectUnix(path), 'the back-end', limitMs));
    try {
      frontEnd.#negotiate(wanted);
    } catch (error) {
      frontEnd.close();
      throw error;
    }
    return frontEnd;
  }

  /** Whether the back-end has gone, or says what nobody asked for. */
  get isOver(): boolean {
    return waitReadable(this.#channel.fd, 0);
  }

  /** Whether the back-end has told that it cannot go on with a ring. */
  get isRingBroken(): boolean {
    return this.#errorFd >= 0 && waitReadable(this.#errorFd, 0);
  }

  get indirectDescriptors(): boolean {
    return this.#has(Feature.RING_INDIRECT_DESC);
  }

  get eventIdx(): boolean {
    return this.#has(Feature.RING_EVENT_IDX);
  }

  #has(feature: bigint): boolean {
    return (this.#features & bit(feature)) !== 0n;
  }

  #hasProtocol(feature: bigint): boolean {
    return (this.#protocolFeatures & bit(feature)) !== 0n;
  }

  #negotiate(wanted: bigint): void {
    this.#features = this.#ask('GET_FEATURES').getBigUint64(0, true) & FEATURES;
    if (!this.#has(Feature.VERSION_1)) {
      throw new VhostError('UNSUPPORTED', 'the back-end does not offer VIRTIO_F_VERSION_1: it is of a legacy device');
    }
    if (this.#has(Feature.PROTOCOL_FEATURES)) {
      const offered = this.#ask('GET_PROTOCOL_FEATURES').getBigUint64(0, true);
      this.#protocolFeatures = offered & wanted;
      this.request('SET_PROTOCOL_FEATURES', bigU64(this.#protocolFeatures));
    }
  }

  #own(): void {
    if (this.#owned) return;
    this.#owned = true;
    this.request('SET_OWNER');
  }

  /** The driver has its features, and the device is about to start. */
  #agree(): void {
    if (this.#agreed) return;
    this.#own();
    this.#agreed = true;
    this.request('SET_FEATURES', bigU64(this.#features));
    if (!this.#hasProtocol(ProtocolFeature.STATUS)) return;
    const status = U64.value(this.#ask('GET_STATUS'), 0);
    this.request('SET_STATUS', u64((status & 0xff) | STATUS_FEATURES_OK));
  }

  /** How many queues the device has, hiprio included; undefined where the back-end does not say. */
  queueCount(): number | undefined {
    return this.#hasProtocol(ProtocolFeature.MQ) ? U64.value(this.#ask('GET_QUEUE_NUM'), 0) : undefined;
  }

  /** Bytes of the device's configuration space; undefined where the back-end does not offer it. */
  config(offset: number, size: number): Uint8Array | undefined {
    if (!this.#hasProtocol(ProtocolFeature.CONFIG)) return undefined;
    this.#own();
    const payload = new DataView(new ArrayBuffer(Config.bytes + size));
    Config.set.offset(payload, 0, offset);
    Config.set.size(payload, 0, size);
    const answer = this.#ask('GET_CONFIG', new Uint8Array(payload.buffer), payload.byteLength);
    const [from, bytes] = [Config.offset(answer, 0), Config.size(answer, 0)];
    if (from !== offset || bytes !== size) {
      const asked = `${size} from ${offset} on`;
      throw new VhostError('MALFORMED', `GET_CONFIG was answered with ${bytes} bytes from ${from} on, not ${asked}`);
    }
    return new Uint8Array(answer.buffer, Config.bytes);
  }

  /** Sizes in bytes of the device's shared memory regions, by shmid; none where the back-end does not offer them. */
  sharedMemory(): number[] {
    if (!this.#hasProtocol(ProtocolFeature.SHMEM)) return [];
    this.#own();
    const answer = this.#ask('GET_SHMEM_CONFIG', undefined, ShmemConfig.bytes);
    const sizeAt = (shmid: number): number => U64.value(answer, ShmemConfig.offsets.memorySizes + shmid * U64.bytes);
    const sizes = Array.from({ length: MAX_SHMEM_REGIONS }, (_, shmid) => sizeAt(shmid));
    const odd = sizes.find((size) => size % PAGE_BYTES !== 0 || size > MAX_SHMEM_BYTES);
    if (odd !== undefined) throw new VhostError('MALFORMED', `the back-end has a shared memory region of ${odd} bytes`);
    return sizes.slice(0, sizes.findLastIndex((size) => size > 0) + 1);
  }

  /** Whether the back-end may ask for something to be mapped. */
  get hasBackendChannel(): boolean {
    return this.#hasProtocol(ProtocolFeature.BACKEND_REQ) && this.#hasProtocol(ProtocolFeature.SHMEM);
  }

  /** Opens the channel for what the back-end asks. The caller closes it. */
  openBackendChannel(): BackendRequests {
    const [ours, theirs] = socketPair();
    try {
      this.#acknowledged('SET_BACKEND_REQ_FD', new Uint8Array(0), [theirs]);
    } catch (error) {
      close(ours);
      throw error;
    } finally {
      close(theirs);
    }
    return new BackendRequests(ours);
  }

  /** Makes guest memory and shares it. Throws VhostError('MEMORY') when the back-end refuses it. */
  addMemory(guestAddress: number, sizeBytes: number): void {
    this.#agree();
    const fd = sealedMemfd('guest-memory', sizeBytes);
    let hostAddress: number;
    try {
      hostAddress = mapShared(fd, sizeBytes, 0);
    } catch (error) {
      close(fd);
      throw error;
    }
    this.#regions.push({ fd, sizeBytes, guestAddress, hostAddress });
    this.memory.add({
      guestAddress,
      sizeBytes,
      userAddress: hostAddress,
      hostAddress,
      buffer: viewMemory(hostAddress, sizeBytes),
    });
    if (this.#hasProtocol(ProtocolFeature.CONFIGURE_MEM_SLOTS)) {
      this.#acknowledged('ADD_MEM_REG', singleRegion(described(this.#regions[this.#regions.length - 1])), [fd]);
    } else {
      this.#setTable();
    }
  }

  /** Takes memory away again, here as well: its rings must be stopped. */
  removeMemory(guestAddress: number): void {
    const at = this.#regions.findIndex((region) => region.guestAddress === guestAddress);
    assert(at >= 0, 'no such region');
    const [region] = this.#regions.splice(at, 1);
    if (this.#hasProtocol(ProtocolFeature.CONFIGURE_MEM_SLOTS)) {
      this.#acknowledged('REM_MEM_REG', singleRegion(described(region)));
    } else {
      this.#setTable();
    }
    this.#unmap(region);
  }

  /** For back-ends that take regions only all at once. */
  #setTable(): void {
    const fds = this.#regions.map(({ fd }) => fd);
    this.#acknowledged('SET_MEM_TABLE', memoryTable(this.#regions.map(described)), fds);
  }

  #unmap(region: OwnRegion): void {
    const removed = this.memory.remove(region.guestAddress, region.sizeBytes);
    (removed?.buffer as ArrayBuffer | undefined)?.transfer();
    munmap(region.hostAddress, region.sizeBytes);
    close(region.fd);
  }

  /**
   * Says where a queue's interrupts go, and its errors. `callFd`: where the back-end writes 8 bytes for an interrupt,
   * and the caller's to close; absent: an eventfd. Throws VhostError when the back-end refuses.
   */
  prepareQueue(index: number, callFd?: Fd): void {
    this.#own();
    if (this.#errorFd < 0) this.#errorFd = eventfd();
    const queue = { callFd: callFd ?? eventfd(), ownsCallFd: callFd === undefined, kickFd: -1 as const };
    this.#queues.set(index, queue);
    this.#acknowledged('SET_VRING_CALL', u64(index), [queue.callFd]);
    this.#acknowledged('SET_VRING_ERR', u64(index), [this.#errorFd]);
  }

  /** Hands over the rings of a prepared queue, which `driver` has laid in guest memory. Throws VhostError. */
  layQueue(index: number, driver: DriverQueue, base = 0): FrontEndQueue {
    const queue = this.#queues.get(index);
    assert(queue !== undefined && queue.kickFd < 0, `queue ${index} is not prepared, or has rings`);
    const { callFd } = queue;
    const kickFd = eventfd();
    queue.kickFd = kickFd;
    this.#acknowledged('SET_VRING_NUM', vringState(index, driver.size));
    this.#acknowledged('SET_VRING_BASE', vringState(index, base));
    this.#acknowledged('SET_VRING_ADDR', this.#ringPayload(index, driver));
    this.#acknowledged('SET_VRING_KICK', u64(index), [kickFd]);
    return { kickFd, callFd };
  }

  /** A queue works, or waits. Without protocol features it works from the kick descriptor on. */
  enableQueue(index: number, enabled: boolean): void {
    if (this.#has(Feature.PROTOCOL_FEATURES)) {
      this.#acknowledged('SET_VRING_ENABLE', vringState(index, enabled ? 1 : 0));
    }
  }

  /** Starts one queue, from nothing. Throws VhostError when the back-end refuses. */
  startQueue(index: number, driver: DriverQueue, base = 0): FrontEndQueue {
    this.prepareQueue(index);
    const queue = this.layQueue(index, driver, base);
    this.enableQueue(index, true);
    return queue;
  }

  #ringPayload(index: number, driver: DriverQueue): Uint8Array {
    const payload = new DataView(new ArrayBuffer(VringAddr.bytes));
    VringAddr.set.index(payload, 0, index);
    VringAddr.set.descUserAddr(payload, 0, this.memory.hostOfGuest(driver.descriptorTable, 1));
    VringAddr.set.availUserAddr(payload, 0, this.memory.hostOfGuest(driver.availableRing, 1));
    VringAddr.set.usedUserAddr(payload, 0, this.memory.hostOfGuest(driver.usedRing, 1));
    return new Uint8Array(payload.buffer);
  }

  /** Stops a queue; its next available index. */
  stopQueue(index: number): number {
    const answer = this.#ask('GET_VRING_BASE', vringState(index, 0), VringState.bytes);
    this.#closeQueue(index);
    return VringState.num(answer, 0);
  }

  #closeQueue(index: number): void {
    const queue = this.#queues.get(index);
    if (queue === undefined) return;
    if (queue.kickFd >= 0) close(queue.kickFd);
    if (queue.ownsCallFd) close(queue.callFd);
    this.#queues.delete(index);
  }

  /** Where the back-end knows of it. */
  resetDevice(): void {
    if (this.#hasProtocol(ProtocolFeature.RESET_DEVICE)) this.request('RESET_DEVICE');
  }

  /** Sends a message that needs no answer. */
  request(name: FrontEndName, payload: Uint8Array = new Uint8Array(0), fds: readonly number[] = []): void {
    this.#channel.send(codeOf(name), 0, payload, fds);
  }

  /** Sends a message and waits until it is done. Throws VhostError when the back-end refuses it. */
  #acknowledged(name: FrontEndName, payload: Uint8Array, fds: readonly number[] = []): void {
    if (!this.#hasProtocol(ProtocolFeature.REPLY_ACK)) {
      this.request(name, payload, fds);
      return;
    }
    this.#channel.send(codeOf(name), HEADER_NEED_REPLY, payload, fds);
    if (U64.value(this.#answer(name, U64.bytes), 0) !== 0)
      throw new VhostError('UNSUPPORTED', `the back-end refuses ${name}`);
  }

  /** Sends a message that has an answer of its own, of so many bytes. */
  #ask(name: FrontEndName, payload: Uint8Array = new Uint8Array(0), answerBytes: number = U64.bytes): DataView {
    this.request(name, payload);
    return this.#answer(name, answerBytes);
  }

  #answer(name: FrontEndName, bytes: number): DataView {
    const message = this.#channel.receive();
    if (message === undefined) throw new VhostError('CLOSED', `the back-end closed the connection at ${name}`);
    const { request, flags, payload, fds } = message;
    for (const fd of fds) close(fd);
    const said = (what: string): VhostError => new VhostError('MALFORMED', `${name} was answered with ${what}`);
    if (request !== codeOf(name)) throw said(`message ${request}`);
    if ((flags & HEADER_REPLY) === 0) throw said('a message that is no reply');
    if (fds.length > 0) throw said(`${fds.length} descriptors`);
    if (payload.byteLength !== bytes) throw said(`${payload.byteLength} bytes, not ${bytes}`);
    return payload;
  }

  /** Goes, as a VMM that ends or is killed does. */
  close(): void {
    this.#channel.close();
    for (const index of this.#queues.keys()) this.#closeQueue(index);
    if (this.#errorFd >= 0) close(this.#errorFd);
    this.#errorFd = -1;
    for (const region of this.#regions.splice(0)) this.#unmap(region);
  }
}

function described({ guestAddress, sizeBytes, hostAddress }: OwnRegion): RegionRequest {
  return { guestAddress, sizeBytes, userAddress: hostAddress, mmapOffset: 0 };
}
