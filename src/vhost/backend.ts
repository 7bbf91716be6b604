/**
 * The back-end's side of vhost-user: what the front-end asks, done to a device. One message at a time, in order. The
 * device itself (queues, threads, file system) stands behind `VhostDevice` and knows no message.
 */
import type { Fd } from '../core/index.ts';
import { close, setNonblocking, signalEventfd } from '../sys/index.ts';
import { BackendChannel } from './backend-channel.ts';
import { type Channel, type Message, PENDING } from './channel.ts';
import { VhostError } from './error.ts';
import { MappedFiles } from './mapped-files.ts';
import type { MappedRegion } from './mapped-memory.ts';
import { type HostWindow, MAX_MEMORY_SLOTS, MemoryRegions } from './memory-regions.ts';
import {
  Config,
  Feature,
  FRONT_END_BY_CODE,
  type FrontEndName,
  type FrontEndRequest,
  HEADER_NEED_REPLY,
  HEADER_REPLY,
  ProtocolFeature,
  U64,
  VRING_NO_FD,
  VringAddr,
  VringState,
} from './messages.ts';
import { bigU64, shmemConfig, u64, vringState } from './payloads.ts';

/** Where a ring is and how it is spoken to. Addresses are host addresses. */
export interface RingSetup {
  readonly size: number;
  readonly descriptorTable: number;
  readonly availableRing: number;
  readonly usedRing: number;
  readonly nextAvailable: number;
  readonly eventIdx: boolean;
  readonly indirect: boolean;
  readonly kickFd: Fd;
  /** -1: the driver wants no interrupts. */
  readonly callFd: Fd | -1;
}

/** What the back-end drives. */
export interface VhostDevice {
  readonly queueCount: number;
  /** Served by GET_CONFIG; absent where the front-end has a configuration space of its own. */
  readonly config?: Uint8Array;
  /** Sizes in bytes of its shared memory regions (windows), by shmid; absent: it has none. */
  readonly sharedMemory?: readonly number[];
  /** Where it has mapped in this process what it had mapped into the first of them. */
  readonly window?: HostWindow;
  /** The memory as it is from now on. No ring runs meanwhile; regions that are missing are unmapped afterwards. */
  setMemory(regions: readonly MappedRegion[]): void;
  /** Throws VhostError('RING') where the ring cannot work. */
  startQueue(index: number, ring: RingSetup): void;
  /** Returns when the queue works on nothing any more: its next available index. */
  stopQueue(index: number): number;
  /**
   * How to map files into `sharedMemory` from now on; undefined when that is over (the channel is closed right
   * afterwards). Called only where the front-end has agreed to all that it takes.
   */
  setBackendChannel?(channel: BackendChannel | undefined): void;
  /** The guest has reset the device: its session is void. */
  reset(): void;
  /** A refused request or another remark for the user. */
  warn(message: string): void;
}

interface Vring {
  size: number;
  base: number;
  addresses: { descriptor: number; available: number; used: number } | undefined;
  kickFd: Fd | -1;
  callFd: Fd | -1;
  enabled: boolean;
  running: boolean;
}

/** virtio-fs rings are started by a kick descriptor and SET_VRING_ENABLE, in any order. */
const newVring = (enabled: boolean): Vring => ({
  size: 0,
  base: 0,
  addresses: undefined,
  kickFd: -1,
  callFd: -1,
  enabled,
  running: false,
});

const SHARE_HINT =
  'Is the guest memory shared? QEMU needs share=on: ' +
  '`-object memory-backend-memfd,id=mem,size=SIZE,share=on -numa node,memdev=mem`; libvirt' +
  '  <memoryBacking><access mode="shared"/></memoryBacking>.';

/** Without one of them nothing can be mapped into a window, or nobody would know whether it was. */
const BACKEND_CHANNEL_FEATURES = [
  ProtocolFeature.REPLY_ACK,
  ProtocolFeature.BACKEND_REQ,
  ProtocolFeature.BACKEND_SEND_FD,
  ProtocolFeature.SHMEM,
];

const bits = (...numbers: bigint[]): bigint => numbers.reduce((sum, each) => sum | (1n << each), 0n);

export class Backend {
  readonly #channel: Channel;
  readonly #device: VhostDevice;
  readonly #vrings: Vring[];
  readonly #offered: bigint;
  readonly #protocolOffered: bigint;
  readonly #mappedFiles = new MappedFiles();
  readonly #memory: MemoryRegions;
  #features = 0n;
  #protocolFeatures = 0n;
  #status = 0;
  /** The front-end's descriptor for requests of ours, until a channel has it. */
  #requestFd: Fd | -1 = -1;
  #backendChannel: BackendChannel | undefined;
  readonly #handlers: Record<FrontEndName, (message: Message) => Uint8Array | undefined>;

  constructor(channel: Channel, device: VhostDevice) {
    this.#channel = channel;
    this.#device = device;
    this.#offered = bits(
      Feature.RING_INDIRECT_DESC,
      Feature.RING_EVENT_IDX,
      Feature.PROTOCOL_FEATURES,
      Feature.VERSION_1,
    );
    const P = ProtocolFeature;
    this.#protocolOffered =
      bits(P.MQ, P.REPLY_ACK, P.BACKEND_REQ, P.BACKEND_SEND_FD, P.RESET_DEVICE, P.CONFIGURE_MEM_SLOTS, P.STATUS) |
      (device.config === undefined ? 0n : bits(P.CONFIG)) |
      (device.sharedMemory === undefined ? 0n : bits(P.SHMEM));
    this.#vrings = Array.from({ length: device.queueCount }, () => newVring(false));
    const memoryUser = {
      window: device.window,
      isRunning: () => this.#vrings.some(({ running }) => running),
      stopAll: () => this.#stopAll(),
      restart: (indices: readonly number[]) => this.#restart(indices),
      setMemory: (regions: readonly MappedRegion[]) => device.setMemory(regions),
    };
    this.#memory = new MemoryRegions(memoryUser, this.#mappedFiles);
    this.#handlers = this.#makeHandlers();
  }

  /** Takes the next message, if it has come, and answers it; false when the front-end has closed. Throws VhostError. */
  serveMessage(): boolean {
    const message = this.#channel.poll();
    if (message === PENDING) return true;
    if (message === undefined) return false;
    try {
      this.#serve(message);
    } finally {
      for (const fd of message.fds) close(fd);
    }
    return true;
  }

  /** The connection is over: rings stop, memory is unmapped. */
  end(): void {
    this.#stopAll();
    this.#closeBackendChannel();
    this.#device.reset();
    for (const vring of this.#vrings) closeVring(vring);
    this.#memory.clear();
    this.#channel.close();
  }

  #serve(message: Message): void {
    const request = FRONT_END_BY_CODE.get(message.request);
    let answer: Uint8Array | undefined;
    let failed = false;
    try {
      if (request === undefined) {
        throw new VhostError(
          'UNSUPPORTED',
          `vhost-user request ${message.request} is not supported; it was not offered`,
        );
      }
      checkShape(request, message);
      answer = this.#handlers[request.name](message);
    } catch (error) {
      if (!(error instanceof VhostError) || error.code === 'CLOSED' || error.code === 'MALFORMED') throw error;
      failed = true;
      if (error.code !== 'WINDOW') this.#device.warn(error.message);
    }
    if (answer !== undefined) this.#channel.send(message.request, HEADER_REPLY, answer);
    else if (request?.replies) throw new VhostError('CLOSED', `${request.name} could not be answered`);
    else if (this.#mustAcknowledge(message)) this.#channel.send(message.request, HEADER_REPLY, u64(failed ? 1 : 0));
  }

  #mustAcknowledge(message: Message): boolean {
    return (message.flags & HEADER_NEED_REPLY) !== 0 && this.#hasProtocol(ProtocolFeature.REPLY_ACK);
  }

  #hasProtocol(bit: bigint): boolean {
    return ((this.#protocolFeatures >> bit) & 1n) === 1n;
  }

  #makeHandlers(): Record<FrontEndName, (message: Message) => Uint8Array | undefined> {
    return {
      GET_FEATURES: () => bigU64(this.#offered),
      SET_FEATURES: (message) => this.#setFeatures(message.payload.getBigUint64(0, true)),
      SET_OWNER: () => undefined,
      RESET_OWNER: () => undefined,
      GET_PROTOCOL_FEATURES: () => bigU64(this.#protocolOffered),
      SET_PROTOCOL_FEATURES: (message) => {
        this.#protocolFeatures = message.payload.getBigUint64(0, true) & this.#protocolOffered;
        this.#openBackendChannel();
        return undefined;
      },
      GET_QUEUE_NUM: () => u64(this.#device.queueCount),
      GET_MAX_MEM_SLOTS: () => u64(MAX_MEMORY_SLOTS),
      SET_MEM_TABLE: (message) => this.#memory.set(message),
      ADD_MEM_REG: (message) => this.#memory.add(message),
      REM_MEM_REG: (message) => this.#memory.remove(message),
      SET_VRING_NUM: ({ payload }) => {
        this.#stoppedVring(payload, 'SET_VRING_NUM').size = VringState.num(payload, 0);
        return undefined;
      },
      SET_VRING_BASE: ({ payload }) => {
        this.#stoppedVring(payload, 'SET_VRING_BASE').base = VringState.num(payload, 0) & 0xffff;
        return undefined;
      },
      SET_VRING_ADDR: ({ payload }) => this.#setAddresses(payload),
      GET_VRING_BASE: ({ payload }) => this.#getBase(payload),
      SET_VRING_KICK: (message) => this.#setKick(message),
      SET_VRING_CALL: (message) => this.#setCall(message),
      // Errors are logged here; whoever wants to hear of them gets the log. The descriptor is closed with the message.
      SET_VRING_ERR: () => undefined,
      SET_VRING_ENABLE: ({ payload }) => {
        const index = this.#index(VringState.index(payload, 0));
        const enabled = VringState.num(payload, 0) !== 0;
        this.#vrings[index].enabled = enabled;
        this.#backendChannel?.setRunning(enabled);
        this.#apply(index);
        return undefined;
      },
      SET_BACKEND_REQ_FD: (message) => {
        this.#closeBackendChannel();
        this.#requestFd = takeFd(message) ?? -1;
        this.#openBackendChannel();
        return undefined;
      },
      GET_CONFIG: ({ payload }) => this.#getConfig(payload),
      SET_CONFIG: () => {
        throw new VhostError('UNSUPPORTED', 'the configuration of a virtio-fs device is read-only (virtio 5.11.4)');
      },
      RESET_DEVICE: () => this.#reset(),
      // Not a reset, even when 0: QEMU sends that too when it merely stops the VM (hw/virtio/vhost.c, vhost_dev_stop),
      // and the mount must live on over stop and cont. A real reset comes as RESET_DEVICE, or shows in the next INIT.
      SET_STATUS: ({ payload }) => {
        this.#status = payload.getUint8(0);
        return undefined;
      },
      GET_STATUS: () => u64(this.#status),
      GET_SHMEM_CONFIG: () => shmemConfig(this.#device.sharedMemory ?? []),
    };
  }

  #openBackendChannel(): void {
    if (!BACKEND_CHANNEL_FEATURES.every((each) => this.#hasProtocol(each))) return;
    if (this.#requestFd === -1) return;
    this.#backendChannel = new BackendChannel(this.#requestFd, this.#mappedFiles, {
      running: this.#vrings.some((vring) => vring.enabled && vring.running),
      saysCommits: this.#hasProtocol(ProtocolFeature.CONFIGURE_MEM_SLOTS),
    });
    this.#requestFd = -1;
    this.#device.setBackendChannel?.(this.#backendChannel);
  }

  #closeBackendChannel(): void {
    if (this.#requestFd >= 0) close(this.#requestFd);
    this.#requestFd = -1;
    if (this.#backendChannel === undefined) return;
    const channel = this.#backendChannel;
    this.#backendChannel = undefined;
    this.#device.setBackendChannel?.(undefined);
    channel.close();
  }

  #setFeatures(features: bigint): undefined {
    const unknown = features & ~this.#offered;
    if (unknown !== 0n) {
      throw new VhostError('UNSUPPORTED', `the VMM set features 0x${unknown.toString(16)} that were not offered`);
    }
    this.#features = features;
    // Without PROTOCOL_FEATURES there is no SET_VRING_ENABLE: rings are enabled from the start.
    if (((features >> Feature.PROTOCOL_FEATURES) & 1n) === 0n) {
      for (const vring of this.#vrings) vring.enabled = true;
    }
    return undefined;
  }

  // Rings.

  #restart(indices: readonly number[]): void {
    for (const index of indices) {
      try {
        this.#apply(index);
      } catch (error) {
        // The ring went with the memory: that queue stands still, the others go on.
        if (!(error instanceof VhostError)) throw error;
        this.#device.warn(error.message);
      }
    }
  }

  #index(index: number): number {
    if (index < this.#vrings.length) return index;
    throw new VhostError('RING', `the VMM speaks of queue ${index}; there are ${this.#vrings.length}`);
  }

  #stoppedVring(payload: DataView, name: string): Vring {
    const index = this.#index(VringState.index(payload, 0));
    if (this.#vrings[index].running) throw new VhostError('RING', `${name} for queue ${index}, which is running`);
    return this.#vrings[index];
  }

  #setAddresses(payload: DataView): undefined {
    const index = this.#index(VringAddr.index(payload, 0));
    const vring = this.#vrings[index];
    const running = this.#stop(index);
    vring.addresses = {
      descriptor: VringAddr.descUserAddr(payload, 0),
      available: VringAddr.availUserAddr(payload, 0),
      used: VringAddr.usedUserAddr(payload, 0),
    };
    if (running) this.#apply(index);
    else this.#hostAddresses(index);
    return undefined;
  }

  #getBase(payload: DataView): Uint8Array {
    const index = this.#index(VringState.index(payload, 0));
    const vring = this.#vrings[index];
    this.#backendChannel?.setRunning(false);
    this.#stop(index);
    if (vring.kickFd >= 0) close(vring.kickFd);
    vring.kickFd = -1;
    return vringState(index, vring.base);
  }

  #setKick(message: Message): undefined {
    const value = U64.value(message.payload, 0);
    const index = this.#index(value & 0xff);
    const fd = (value & VRING_NO_FD) === 0 ? takeFd(message) : undefined;
    if (fd === undefined) {
      throw new VhostError('UNSUPPORTED', `queue ${index}: the VMM gives no kick descriptor and wants polling`);
    }
    const vring = this.#vrings[index];
    this.#stop(index);
    if (vring.kickFd >= 0) close(vring.kickFd);
    // A thread must never wait in a read or a write of it, whoever else uses it.
    setNonblocking(fd);
    vring.kickFd = fd;
    try {
      this.#apply(index);
    } catch (error) {
      close(fd);
      vring.kickFd = -1;
      throw error;
    }
    return undefined;
  }

  #setCall(message: Message): undefined {
    const value = U64.value(message.payload, 0);
    const index = this.#index(value & 0xff);
    const vring = this.#vrings[index];
    const fd = (value & VRING_NO_FD) === 0 ? takeFd(message) : undefined;
    const running = this.#stop(index);
    if (vring.callFd >= 0) close(vring.callFd);
    vring.callFd = fd ?? -1;
    if (fd !== undefined) setNonblocking(fd);
    if (running) this.#apply(index);
    return undefined;
  }

  /** Starts or stops a queue, as its state wants it. */
  #apply(index: number): void {
    const vring = this.#vrings[index];
    const { kickFd } = vring;
    if (!vring.enabled || kickFd === -1) {
      this.#stop(index);
      return;
    }
    if (vring.running) return;
    this.#device.startQueue(index, {
      ...this.#hostAddresses(index),
      size: vring.size,
      nextAvailable: vring.base,
      eventIdx: ((this.#features >> Feature.RING_EVENT_IDX) & 1n) === 1n,
      indirect: ((this.#features >> Feature.RING_INDIRECT_DESC) & 1n) === 1n,
      kickFd,
      callFd: vring.callFd,
    });
    vring.running = true;
    // An interrupt may have gone to a descriptor that nobody listens to any more. One too many does no harm.
    if (vring.callFd >= 0) signalEventfd(vring.callFd);
  }

  #hostAddresses(index: number): Pick<RingSetup, 'descriptorTable' | 'availableRing' | 'usedRing'> {
    const { addresses } = this.#vrings[index];
    if (addresses === undefined) throw new VhostError('RING', `queue ${index} is started before its addresses are set`);
    return {
      descriptorTable: this.#toHost(addresses.descriptor, index),
      availableRing: this.#toHost(addresses.available, index),
      usedRing: this.#toHost(addresses.used, index),
    };
  }

  #toHost(userAddress: number, index: number): number {
    const address = this.#memory.hostAddress(userAddress);
    if (address !== undefined) return address;
    const where = `0x${userAddress.toString(16)}, where none of the ${this.#memory.count} regions of guest memory is`;
    throw new VhostError('RING', `queue ${index} has its ring at ${where}. ${SHARE_HINT}`);
  }

  /** Whether the queue ran. */
  #stop(index: number): boolean {
    const vring = this.#vrings[index];
    if (!vring.running) return false;
    vring.base = this.#device.stopQueue(index);
    vring.running = false;
    return true;
  }

  /** Stops all queues; those that ran. */
  #stopAll(): number[] {
    return this.#vrings.map((_, index) => index).filter((index) => this.#stop(index));
  }

  #reset(): undefined {
    this.#backendChannel?.setRunning(false);
    this.#stopAll();
    for (const vring of this.#vrings) vring.enabled = false;
    this.#device.reset();
    return undefined;
  }

  #getConfig(payload: DataView): Uint8Array {
    const offset = Config.offset(payload, 0);
    const size = Config.size(payload, 0);
    const answer = new Uint8Array(payload.buffer.slice(0));
    const config = this.#device.config ?? new Uint8Array(0);
    if (Config.bytes + size > answer.length) {
      throw new VhostError('MALFORMED', `GET_CONFIG: ${size} bytes in a payload of ${answer.length}`);
    }
    // What lies beyond the configuration reads as zeros.
    for (let i = 0; i < size; i += 1) answer[Config.bytes + i] = config[offset + i] ?? 0;
    return answer;
  }
}

function checkShape(request: FrontEndRequest, message: Message): void {
  const { byteLength } = message.payload;
  if (byteLength < request.bytes || byteLength > request.most || message.fds.length > request.fds) {
    const want = request.bytes === request.most ? `${request.bytes}` : `${request.bytes} to ${request.most}`;
    const got = `${byteLength} bytes and ${message.fds.length} descriptors`;
    throw new VhostError('MALFORMED', `${request.name} came with ${got}, not ${want} bytes and ${request.fds} at most`);
  }
}

function takeFd(message: Message): Fd | undefined {
  return message.fds.shift();
}

function closeVring(vring: Vring): void {
  if (vring.kickFd >= 0) close(vring.kickFd);
  if (vring.callFd >= 0) close(vring.callFd);
  vring.kickFd = -1;
  vring.callFd = -1;
}
