/**
 * Between a front-end (a VMM, a client) and a back-end (a daemon): passes every message on with its descriptors, and
 * watches the rings. Where a kick or a call descriptor goes by, one of ours goes on in its place, so that both are
 * heard here first. The channel of the back-end's own requests (SET_BACKEND_REQ_FD) goes straight through: it is not
 * seen.
 *
 * Guest memory is mapped for reading alone. What both sides send is checked for what it is used for here; whether it is
 * right is for them to say.
 */
import { type Fd, MAX_QUEUE_SIZE } from '../core/index.ts';
import { close, Epoll, SysError } from '../sys/index.ts';
import type { Exchange } from '../virtio/index.ts';
import type { Message } from './channel.ts';
import { VhostError } from './error.ts';
import { MessagePipe } from './message-pipe.ts';
import {
  Feature,
  FRONT_END_BY_CODE,
  HEADER_NEED_REPLY,
  ProtocolFeature,
  ShmemConfig,
  U64,
  VRING_NO_FD,
  VringAddr,
  VringState,
} from './messages.ts';
import { type MemoryMessage, WatchedMemory } from './watched-memory.ts';
import { WatchedQueue } from './watched-queue.ts';

/** Who sent a message. */
export type Sender = 'front-end' | 'back-end';

export interface ProxyOptions {
  /** Milliseconds, from any beginning. */
  readonly clock: () => number;
  /** How many bytes of a request are wanted. */
  readonly requestBytes: number;
  /** How many bytes of the reply to such a request are wanted. */
  readonly replyBytes: (request: Uint8Array) => number;
  /** A message is about to be passed on. */
  readonly message: (sender: Sender, message: Message) => void;
  /** A request was answered, or never will be. */
  readonly exchanged: (queue: number, exchange: Exchange) => void;
  /** So many requests went by unseen. */
  readonly missed: (queue: number, count: number) => void;
  readonly warn: (message: string) => void;
}

const KEY_FRONT_END = 0;
const KEY_BACK_END = 1;
/** And one more for its call. */
const KEY_QUEUES = 2;
const MAX_QUEUES = 256;
/** Messages about memory whose acknowledgement is waited for; a front-end waits for each. */
const MAX_PENDING = 64;
/** Neither side need ring where the other is at work: while things happen the rings are looked at all the same. */
const LEAST_PATIENCE_MS = 1;
const MOST_PATIENCE_MS = 64;
const MEMORY_MESSAGES: readonly string[] = ['SET_MEM_TABLE', 'ADD_MEM_REG', 'REM_MEM_REG'];

export class Proxy {
  readonly #options: ProxyOptions;
  readonly #frontEnd: MessagePipe;
  readonly #backEnd: MessagePipe;
  readonly #epoll: Epoll;
  readonly #memory: WatchedMemory;
  readonly #queues = new Map<number, WatchedQueue>();
  readonly #pending: MemoryMessage[] = [];
  #features = 0n;
  #protocolFeatures = 0n;
  #hasWindow = false;
  /** Milliseconds until the rings are looked at unasked. */
  #patienceMs = MOST_PATIENCE_MS;

  /** Both descriptors are its own from now on. Throws SysError, with both closed. */
  constructor(frontEnd: Fd, backEnd: Fd, options: ProxyOptions) {
    this.#options = options;
    this.#frontEnd = new MessagePipe(frontEnd, 'VMM');
    this.#backEnd = new MessagePipe(backEnd, 'daemon');
    this.#memory = new WatchedMemory(options.warn);
    try {
      this.#epoll = new Epoll();
      this.#epoll.add(frontEnd, KEY_FRONT_END);
      this.#epoll.add(backEnd, KEY_BACK_END);
    } catch (error) {
      this.#frontEnd.close();
      this.#backEnd.close();
      throw error;
    }
  }

  /**
   * Waits at most `timeoutMs` for something to pass on, and does so. False when one side has closed. Throws VhostError
   * and SysError where it cannot go on.
   */
  turn(timeoutMs: number): boolean {
    const quiet = this.#patienceMs >= MOST_PATIENCE_MS && !this.#anyInFlight();
    const ready = this.#epoll.wait(quiet ? timeoutMs : Math.min(timeoutMs, this.#patienceMs));
    const keys = Array.from({ length: Math.max(0, ready) }, (_, i) => this.#epoll.key(i));
    // What is rung while we look is heard at the next turn, before anybody else hears it.
    for (const key of keys) if (key >= KEY_QUEUES) this.#queues.get((key - KEY_QUEUES) >> 1)?.hear();
    const news = this.#look();
    for (const queue of this.#queues.values()) queue.tell();
    this.#patienceMs = news ? LEAST_PATIENCE_MS : Math.min(this.#patienceMs * 2, MOST_PATIENCE_MS);
    if (keys.includes(KEY_FRONT_END) && !this.#relay('front-end')) return false;
    return !keys.includes(KEY_BACK_END) || this.#relay('back-end');
  }

  #anyInFlight(): boolean {
    for (const { watch } of this.#queues.values()) if (watch.inFlight > 0) return true;
    return false;
  }

  #look(): boolean {
    let news = false;
    for (const { watch } of this.#queues.values()) news = watch.look() || news;
    return news;
  }

  /** Passes on what one side has sent; false when it has closed. */
  #relay(sender: Sender): boolean {
    const [from, to] = sender === 'front-end' ? [this.#frontEnd, this.#backEnd] : [this.#backEnd, this.#frontEnd];
    for (;;) {
      const message = from.receive();
      if (message === 'later') return true;
      if (message === 'closed') return false;
      try {
        // What the rings had before it was sent comes before it.
        this.#look();
        this.#options.message(sender, message);
        if (sender === 'front-end') {
          to.send(message, this.#hearFrontEnd(message));
          this.#afterFrontEnd(message);
        } else {
          this.#hearBackEnd(message);
          to.send(message, message.fds);
        }
      } finally {
        for (const fd of message.fds) close(fd);
      }
    }
  }

  /** What a message means for us, before it is passed on; the descriptors that go with it. */
  #hearFrontEnd(message: Message): readonly number[] {
    const { payload, fds } = message;
    const name = FRONT_END_BY_CODE.get(message.request)?.name;
    if (name === 'SET_VRING_KICK' || name === 'SET_VRING_CALL') return this.#setBell(name, message);
    if (name === 'SET_VRING_NUM' || name === 'SET_VRING_BASE') this.#setState(name, payload);
    else if (name === 'SET_VRING_ADDR') this.#setAddresses(payload);
    else if (name === 'SET_FEATURES' && payload.byteLength >= U64.bytes) {
      this.#features = payload.getBigUint64(0, true);
    } else if (name === 'SET_PROTOCOL_FEATURES' && payload.byteLength >= U64.bytes) {
      this.#protocolFeatures = payload.getBigUint64(0, true);
    } else if (name === 'RESET_DEVICE') {
      for (const queue of this.#queues.values()) queue.forget();
    }
    return fds;
  }

  #queue(index: number): WatchedQueue | undefined {
    if (index >= MAX_QUEUES) return undefined;
    let queue = this.#queues.get(index);
    if (queue === undefined) {
      const { clock, requestBytes, replyBytes, exchanged, missed } = this.#options;
      const keys = { kick: KEY_QUEUES + 2 * index, call: KEY_QUEUES + 2 * index + 1 };
      queue = new WatchedQueue(index, this.#memory.memory, this.#epoll, keys, {
        clock,
        requestBytes,
        replyBytes,
        exchanged: (exchange) => exchanged(index, exchange),
        missed: (count) => missed(index, count),
      });
      this.#queues.set(index, queue);
    }
    return queue;
  }

  #setState(name: 'SET_VRING_NUM' | 'SET_VRING_BASE', payload: DataView): void {
    if (payload.byteLength < VringState.bytes) return;
    const queue = this.#queue(VringState.index(payload, 0));
    const num = VringState.num(payload, 0);
    if (queue === undefined || queue.watch.started) return;
    if (name === 'SET_VRING_BASE') queue.setBase(num);
    else queue.size = Math.min(num, MAX_QUEUE_SIZE + 1);
  }

  #setAddresses(payload: DataView): void {
    if (payload.byteLength < VringAddr.bytes) return;
    const queue = this.#queue(VringAddr.index(payload, 0));
    if (queue === undefined) return;
    queue.suspend();
    queue.addresses = {
      descriptor: VringAddr.descUserAddr(payload, 0),
      available: VringAddr.availUserAddr(payload, 0),
      used: VringAddr.usedUserAddr(payload, 0),
    };
    this.#start(queue);
  }

  #setBell(name: 'SET_VRING_KICK' | 'SET_VRING_CALL', { payload, fds }: Message): readonly number[] {
    const value = payload.byteLength >= U64.bytes ? U64.value(payload, 0) : VRING_NO_FD;
    const queue = this.#queue(value & 0xff);
    if (queue === undefined || (value & VRING_NO_FD) !== 0 || fds.length !== 1) return fds;
    let ours: Fd;
    try {
      ours = name === 'SET_VRING_KICK' ? queue.setKick(fds[0]) : queue.setCall(fds[0]);
    } catch (error) {
      if (!(error instanceof SysError)) throw error;
      // Nothing that can be waited for; the back-end may say what it thinks of it.
      this.#options.warn(`queue ${queue.index} is not traced: ${error.message}`);
      return fds;
    }
    // It is the queue's now.
    fds.shift();
    if (name === 'SET_VRING_KICK') this.#start(queue);
    return [ours];
  }

  #start(queue: WatchedQueue): void {
    const has = (bit: bigint): boolean => ((this.#features >> bit) & 1n) === 1n;
    const { RING_EVENT_IDX, RING_INDIRECT_DESC } = Feature;
    const problem = queue.start({ eventIdx: has(RING_EVENT_IDX), indirect: has(RING_INDIRECT_DESC) });
    if (problem !== '') this.#options.warn(`queue ${queue.index} is not traced: ${problem}`);
    if (this.#hasWindow) this.#memory.knowFiles();
  }

  /** What is to be done when the back-end has the message. */
  #afterFrontEnd(message: Message): void {
    const name = FRONT_END_BY_CODE.get(message.request)?.name;
    if (name === 'SET_VRING_ENABLE' && message.payload.byteLength >= VringState.bytes) {
      const queue = this.#queues.get(VringState.index(message.payload, 0));
      if (queue !== undefined && VringState.num(message.payload, 0) !== 0) this.#start(queue);
    }
    if (name === undefined || !MEMORY_MESSAGES.includes(name)) return;
    const { payload } = message;
    const change = { name: name as MemoryMessage['name'], payload, fds: message.fds.splice(0) };
    // A back-end may refuse it, and is asked where it says so.
    const acknowledges = ((this.#protocolFeatures >> ProtocolFeature.REPLY_ACK) & 1n) === 1n;
    if (!acknowledges || (message.flags & HEADER_NEED_REPLY) === 0) {
      this.#changeMemory(change);
      return;
    }
    this.#pending.push(change);
    if (this.#pending.length > MAX_PENDING) throw new VhostError('MALFORMED', 'the VMM waits for no acknowledgement');
  }

  #changeMemory(change: MemoryMessage): void {
    for (const queue of this.#queues.values()) queue.suspend();
    this.#memory.apply(change);
    for (const queue of this.#queues.values()) this.#start(queue);
  }

  #hearBackEnd({ request, payload }: Message): void {
    const name = FRONT_END_BY_CODE.get(request)?.name;
    if (name === 'GET_VRING_BASE' && payload.byteLength >= VringState.bytes) {
      const queue = this.#queues.get(VringState.index(payload, 0));
      if (queue === undefined) return;
      queue.suspend();
      queue.dropKick();
      queue.setBase(VringState.num(payload, 0));
    } else if (name === 'GET_SHMEM_CONFIG') {
      const sizes = Math.min(payload.byteLength, ShmemConfig.bytes) - U64.bytes;
      for (let at = ShmemConfig.offsets.memorySizes; at <= sizes; at += U64.bytes) {
        if (U64.value(payload, at) > 0) this.#hasWindow = true;
      }
    } else if (name !== undefined && MEMORY_MESSAGES.includes(name)) {
      const at = this.#pending.findIndex((each) => each.name === name);
      if (at === -1) return;
      const [change] = this.#pending.splice(at, 1);
      if (payload.byteLength >= U64.bytes && U64.value(payload, 0) === 0) this.#changeMemory(change);
      else for (const fd of change.fds) close(fd);
    }
  }

  /** The connection is over, for both sides. Requests that were not answered are reported as such. */
  close(): void {
    this.#look();
    for (const queue of this.#queues.values()) queue.close();
    this.#memory.clear();
    for (const { fds } of this.#pending.splice(0)) for (const fd of fds) close(fd);
    this.#frontEnd.close();
    this.#backEnd.close();
    this.#epoll.close();
  }
}

/** Whether an error is of the kind that ends one connection. */
export function endsConnection(error: unknown): error is VhostError | SysError {
  return error instanceof VhostError || error instanceof SysError;
}
