import type { MessagePort } from 'node:worker_threads';

import { GuardedFiles, RANGE_BYTES } from '../coherence/index.ts';
import { errnoName, type Fd, MAX_REQUEST_QUEUES } from '../core/index.ts';
import { accept, type Epoll, EPOLLET, EPOLLIN, EPOLLOUT, eventfd, reserveAddresses, SysError } from '../sys/index.ts';
import {
  Backend,
  type BackendChannel,
  Channel,
  type MappedRegion,
  type RingSetup,
  type VhostDevice,
  VhostError,
} from '../vhost/index.ts';
import { QueueError } from '../virtio/index.ts';
import { configSpace } from './config-space.ts';
import { HiprioQueue } from './hiprio-queue.ts';
import { setPoolMemory } from './pool.ts';
import { QueuePort } from './queue-port.ts';
import { QueueRunner } from './queue-runner.ts';
import type { Serving, ServingThread } from './serving.ts';
import type { SessionData, SessionThreadData, ToMain } from './threads.ts';
import { WindowKeeper } from './window-keeper.ts';

// What its thread's epoll set says of a session, added to the session's first key. In the order of their bits: what a
// message of the connection changes comes before it.
const KEY_LISTEN = 0;
const KEY_HIPRIO = 1;
const KEY_WINDOW = 2;
const KEY_BACKEND = 3;
const KEY_CONNECTION = 4;
export const KEYS = 5;

const HIPRIO = 0;
const RETRY_MS = 100;

/** What a session has of its thread. */
export interface SessionOptions {
  readonly thread: ServingThread;
  /** What is so for all sessions of the thread. */
  readonly common: SessionThreadData;
  readonly data: SessionData;
  readonly epoll: Epoll;
  /** The first of KEYS. */
  readonly key: number;
  readonly tell: (message: ToMain, transfer?: MessagePort[]) => void;
}

/** The device behind vhost-user: a hiprio queue on this thread, and request queues on others. */
class Device implements VhostDevice {
  readonly queueCount = 1 + MAX_REQUEST_QUEUES;
  readonly config: Uint8Array | undefined;
  readonly sharedMemory: readonly number[] | undefined;
  readonly window: { readonly hostAddress: number; readonly sizeBytes: number } | undefined;
  readonly hiprio: HiprioQueue;
  readonly keeper: WindowKeeper | undefined;
  readonly #options: SessionOptions;
  readonly #serving: Serving;
  readonly #queues: QueuePort[] = [];
  #backend: BackendChannel | undefined;
  #regions: readonly MappedRegion[] = [];

  constructor(options: SessionOptions) {
    const { thread, common, data } = options;
    const serving = thread.open(data.tables);
    const { window, mirror, gate, warn } = serving;
    this.#options = options;
    this.#serving = serving;
    this.hiprio = new HiprioQueue(new QueueRunner(mirror.memory, HIPRIO, gate, warn));
    this.config = common.tag === undefined ? undefined : configSpace(common.tag, common.requestQueues);
    if (window === undefined) return;
    const sizeBytes = window.count * RANGE_BYTES;
    const hostAddress = reserveAddresses(sizeBytes);
    const wakeFd = eventfd();
    this.sharedMemory = [sizeBytes];
    this.window = { hostAddress, sizeBytes };
    this.keeper = new WindowKeeper({
      window,
      wakeFd,
      fileSystem: serving.fileSystem,
      hostAddress,
      lensMountFd: common.lensMountFd,
      guard: common.guard && new GuardedFiles(common.guard.files, common.guard.groupFd),
      fulfilled: thread.released,
      warn,
    });
    options.epoll.add(wakeFd, options.key + KEY_WINDOW);
  }

  /** A request queue; some thread gets it when it is first needed. */
  queue(index: number): QueuePort {
    let queue = this.#queues[index];
    if (queue === undefined) {
      queue = new QueuePort(this.#options.data.index, index, this.#options.tell);
      this.#queues[index] = queue;
      if (this.#regions.length > 0) queue.setMemory(this.#regions);
    }
    return queue;
  }

  setMemory(regions: readonly MappedRegion[]): void {
    this.#serving.mirror.set(regions);
    for (const queue of this.#queues) queue?.setMemory(regions);
    setPoolMemory(this.#options.data.tables.pool, regions);
    this.#regions = regions;
  }

  startQueue(index: number, ring: RingSetup): void {
    if (index !== HIPRIO) {
      this.queue(index).start(ring);
      return;
    }
    const { epoll, key } = this.#options;
    try {
      epoll.add(ring.kickFd, key + KEY_HIPRIO, EPOLLIN | EPOLLET);
      this.hiprio.start(ring);
    } catch (error) {
      epoll.remove(ring.kickFd);
      if (error instanceof QueueError || error instanceof SysError) throw new VhostError('RING', error.message);
      throw error;
    }
  }

  stopQueue(index: number): number {
    if (index !== HIPRIO) return this.queue(index).stop();
    this.#options.epoll.remove(this.hiprio.kickFd);
    return this.hiprio.stop();
  }

  setBackendChannel(channel: BackendChannel | undefined): void {
    const { epoll, key } = this.#options;
    if (this.#backend !== undefined) epoll.remove(this.#backend.fd);
    this.#backend = channel;
    if (channel !== undefined) epoll.add(channel.fd, key + KEY_BACKEND, EPOLLIN | EPOLLOUT | EPOLLET);
    this.keeper?.setChannel(channel);
  }

  /** Milliseconds until `expire` is to be called, or the hiprio queue to be served; -1: not at all. */
  get patienceMs(): number {
    const { patienceMs } = this.hiprio;
    const otherMs = this.#backend?.patienceMs ?? -1;
    return patienceMs < 0 || (otherMs >= 0 && otherMs < patienceMs) ? otherMs : patienceMs;
  }

  expire(): void {
    this.#backend?.expire();
  }

  /** The VMM has answered requests of ours. */
  serveBackend(): void {
    if (this.#backend?.receive() === false) this.setBackendChannel(undefined);
  }

  reset(): void {
    this.#serving.reset();
  }

  warn(message: string): void {
    this.#serving.warn(message);
  }

  quit(): void {
    for (const queue of this.#queues) queue?.quit();
  }

  awaitQuit(deadline: number): void {
    for (const queue of this.#queues) queue?.awaitQuit(Math.max(0, deadline - performance.now()));
  }
}

/** One socket: accepts a VMM, speaks vhost-user with it, and serves its hiprio queue; one VMM at a time. */
export class Session {
  readonly #options: SessionOptions;
  readonly #device: Device;
  #connection: { readonly backend: Backend; readonly fd: Fd } | undefined;
  /** Bits: which of its keys were ready. */
  #ready = 0;
  /** When it tries again to accept a connection. */
  #retryAt = Number.POSITIVE_INFINITY;

  constructor(options: SessionOptions) {
    this.#options = options;
    this.#device = new Device(options);
    this.#listen();
    // Every VM has a request queue: there is a thread for it by the time that the VM comes.
    this.#device.queue(1);
  }

  #listen(): void {
    this.#retryAt = Number.POSITIVE_INFINITY;
    this.#options.epoll.add(this.#options.data.listenFd, this.#options.key + KEY_LISTEN);
  }

  /** The epoll set has found one of its keys ready. */
  note(key: number): void {
    this.#ready |= 1 << key;
  }

  /** How long the thread may sleep before `serve`; -1: until one of the keys is ready. */
  get patienceMs(): number {
    if (this.#retryAt !== Number.POSITIVE_INFINITY) return Math.max(0, Math.ceil(this.#retryAt - performance.now()));
    return this.#connection === undefined ? -1 : this.#device.patienceMs;
  }

  /** Does what is to be done; false when the session is over, for a VM has gone and no other may come. */
  serve(): boolean {
    const ready = this.#ready;
    this.#ready = 0;
    const has = (key: number): boolean => (ready & (1 << key)) !== 0;
    if (has(KEY_WINDOW)) this.#device.keeper?.serve();
    if (this.#connection === undefined) {
      if (has(KEY_LISTEN)) this.#accept();
      else if (performance.now() >= this.#retryAt) this.#listen();
      return true;
    }
    const { hiprio } = this.#device;
    this.#device.expire();
    if (has(KEY_HIPRIO)) hiprio.kick();
    hiprio.serve();
    if (has(KEY_CONNECTION) && !this.#hear(this.#connection.backend)) {
      this.#disconnect();
      return this.#options.common.stay;
    }
    // In any case: what is edge-triggered is not said twice.
    this.#device.serveBackend();
    return true;
  }

  #accept(): void {
    const { epoll, data, tell, key } = this.#options;
    const { listenFd, socketPath } = data;
    epoll.remove(listenFd);
    const fd = accept(listenFd);
    if (fd < 0) {
      this.#device.warn(`accepting a connection on ${socketPath} failed: ${errnoName(fd)}`);
      // It is still waiting, and what we lack (a descriptor) may be there in a while.
      this.#retryAt = performance.now() + RETRY_MS;
      return;
    }
    epoll.add(fd, key + KEY_CONNECTION);
    this.#connection = { backend: new Backend(new Channel(fd as Fd), this.#device), fd: fd as Fd };
    tell({ kind: 'connected', session: data.index });
  }

  /** Takes a message of the VMM, if it has come whole; false when the connection is over. */
  #hear(backend: Backend): boolean {
    try {
      return backend.serveMessage();
    } catch (error) {
      if (!(error instanceof VhostError)) throw error;
      this.#options.thread.log.error(`the connection on ${this.#options.data.socketPath} is closed: ${error.message}`);
      return false;
    }
  }

  #disconnect(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    const { epoll, data, tell, common } = this.#options;
    epoll.remove(connection.fd);
    connection.backend.end();
    this.#connection = undefined;
    tell({ kind: 'disconnected', session: data.index });
    if (common.stay) this.#listen();
  }

  /** It is over: lets go of its queues, which `awaitEnd` waits for. */
  end(): void {
    this.#disconnect();
    this.#options.epoll.remove(this.#options.data.listenFd);
    this.#device.quit();
  }

  /** `deadline`: by performance.now(); a queue's thread that has not let go of it by then is left alone. */
  awaitEnd(deadline: number): void {
    this.#device.awaitQuit(deadline);
    this.#options.tell({ kind: 'ended', session: this.#options.data.index });
  }
}
