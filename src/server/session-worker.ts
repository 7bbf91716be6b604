/** The thread of one socket: accepts the VMM, speaks vhost-user with it, and serves the hiprio queue itself. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';

import { errnoName, type Fd, MAX_REQUEST_QUEUES } from '../core/index.ts';
import { GuardedFiles, RANGE_BYTES } from '../coherence/index.ts';
import {
  accept,
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
  Epoll,
  eventfd,
  reserveAddresses,
  SysError,
  waitReadable,
} from '../sys/index.ts';
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
import { endPool, setPoolMemory } from './pool.ts';
import { QueueRunner } from './queue-runner.ts';
import { QueueThread } from './queue-thread.ts';
import { countAlive, park, startServing } from './serving.ts';
import type { SessionData, ToMain } from './threads.ts';
import { WindowKeeper } from './window-keeper.ts';

const KEY_LISTEN = 0;
const KEY_CONNECTION = 1;
const KEY_HIPRIO = 2;
const KEY_STOP = 3;
const KEY_WINDOW = 4;
const KEY_BACKEND = 5;
const HIPRIO = 0;
/** How long a queue's thread may take to end before the process goes without it. */
const QUIT_MS = 400;
const RETRY_MS = 100;

const data = workerData as SessionData;
const leave = countAlive(data.alive);
const tell = (message: ToMain, transfer: MessagePort[] = []): void => parentPort?.postMessage(message, transfer);

const { mirror, fileSystem, window, gate, log, warn, released, reset } = await startServing(data);
const hiprio = new QueueRunner(mirror.memory, HIPRIO, gate, warn);
const epoll = new Epoll();
const wakeFd = eventfd();
const { lensMountFd } = data;
const windowBytes = window && window.count * RANGE_BYTES;
const hostAddress = windowBytes === undefined ? 0 : reserveAddresses(windowBytes);
const guard = data.guard && new GuardedFiles(data.guard.files, data.guard.groupFd);
const keeper =
  window &&
  new WindowKeeper({ window, wakeFd, fileSystem, hostAddress, lensMountFd, guard, fulfilled: released, warn });

/** The device behind vhost-user: this thread's hiprio queue and a thread for each request queue. */
class Device implements VhostDevice {
  readonly queueCount = 1 + MAX_REQUEST_QUEUES;
  readonly config = data.tag === undefined ? undefined : configSpace(data.tag, data.requestQueues);
  readonly sharedMemory = windowBytes === undefined ? undefined : [windowBytes];
  readonly window = windowBytes === undefined ? undefined : { hostAddress, sizeBytes: windowBytes };
  readonly #threads: QueueThread[] = [];
  #backend: BackendChannel | undefined;
  #regions: readonly MappedRegion[] = [];

  /** The thread of a request queue; made when the queue is first needed. */
  thread(index: number): QueueThread {
    let thread = this.#threads[index];
    if (thread === undefined) {
      thread = new QueueThread(index, tell);
      this.#threads[index] = thread;
      if (this.#regions.length > 0) thread.setMemory(this.#regions);
    }
    return thread;
  }

  setMemory(regions: readonly MappedRegion[]): void {
    mirror.set(regions);
    for (const thread of this.#threads) thread?.setMemory(regions);
    setPoolMemory(data.pool, regions);
    this.#regions = regions;
  }

  startQueue(index: number, ring: RingSetup): void {
    if (index !== HIPRIO) {
      this.thread(index).start(ring);
      return;
    }
    try {
      epoll.add(ring.kickFd, KEY_HIPRIO);
      hiprio.start(ring);
    } catch (error) {
      epoll.remove(ring.kickFd);
      if (error instanceof QueueError || error instanceof SysError) throw new VhostError('RING', error.message);
      throw error;
    }
  }

  stopQueue(index: number): number {
    if (index !== HIPRIO) return this.thread(index).stop();
    epoll.remove(hiprio.kickFd);
    return hiprio.stop();
  }

  setBackendChannel(channel: BackendChannel | undefined): void {
    if (this.#backend !== undefined) epoll.remove(this.#backend.fd);
    this.#backend = channel;
    if (channel !== undefined) epoll.add(channel.fd, KEY_BACKEND, EPOLLIN | EPOLLOUT | EPOLLET);
    keeper?.setChannel(channel);
  }

  /** Milliseconds until `expire` is to be called; -1: not at all. */
  get patienceMs(): number {
    return this.#backend?.patienceMs ?? -1;
  }

  expire(): void {
    this.#backend?.expire();
  }

  /** The VMM has answered requests of ours. */
  serveBackend(): void {
    if (this.#backend?.receive() === false) this.setBackendChannel(undefined);
  }

  reset(): void {
    reset();
  }

  warn(message: string): void {
    warn(message);
  }

  quit(): void {
    for (const thread of this.#threads) thread?.quit(QUIT_MS);
    endPool(data.pool);
  }
}

const device = new Device();

/** Waits for a VMM; undefined when the daemon is to stop. */
function awaitConnection(): Channel | undefined {
  epoll.add(data.listenFd, KEY_LISTEN);
  try {
    for (;;) {
      const ready = epoll.wait(-1);
      for (let i = 0; i < ready; i += 1) {
        if (epoll.key(i) === KEY_STOP) return undefined;
        if (epoll.key(i) === KEY_WINDOW) {
          keeper?.serve();
          continue;
        }
        const fd = accept(data.listenFd);
        if (fd >= 0) return new Channel(fd as Fd);
        warn(`accepting a connection on ${data.socketPath} failed: ${errnoName(fd)}`);
        // It is still waiting, and what we lack (a descriptor) may be there in a while.
        waitReadable(data.stopFd, RETRY_MS);
      }
    }
  } finally {
    epoll.remove(data.listenFd);
  }
}

/** Serves one VMM until it goes; false when the daemon is to stop. */
function serveConnection(channel: Channel): boolean {
  const backend = new Backend(channel, device);
  epoll.add(channel.fd, KEY_CONNECTION);
  let more = false;
  try {
    for (;;) {
      const ready = epoll.wait(more ? 0 : device.patienceMs);
      device.expire();
      let kicked: boolean = more;
      for (let i = 0; i < ready; i += 1) {
        const key = epoll.key(i);
        if (key === KEY_STOP) return false;
        // After a message too: a queue that was started again may have missed its kick.
        kicked = true;
        if (key === KEY_HIPRIO) {
          hiprio.acknowledge();
        } else if (key === KEY_WINDOW) {
          keeper?.serve();
        } else if (key === KEY_CONNECTION) {
          if (!backend.serveMessage()) return true;
          // The message may have changed what the other keys stand for; they are asked for again.
          break;
        }
      }
      // In any case: what is edge-triggered is not said twice, and may have been passed over.
      device.serveBackend();
      more = kicked && hiprio.run();
    }
  } catch (error) {
    if (!(error instanceof VhostError)) throw error;
    log.error(`the connection on ${data.socketPath} is closed: ${error.message}`);
    return true;
  } finally {
    backend.end();
  }
}

function run(): void {
  epoll.add(data.stopFd, KEY_STOP);
  epoll.add(wakeFd, KEY_WINDOW);
  for (;;) {
    const channel = awaitConnection();
    if (channel === undefined) return;
    tell({ kind: 'connected', fd: channel.fd });
    const goOn = serveConnection(channel);
    tell({ kind: 'disconnected' });
    if (!goOn || !data.stay) return;
  }
}

try {
  // Every VM has a request queue: its thread starts while we wait.
  device.thread(1);
  run();
  device.quit();
} finally {
  tell({ kind: 'ended' });
  leave();
  parentPort?.close();
  park();
}
