/** The window of a share: addresses of this process at which a thread maps what the daemon says. */
import { Worker } from 'node:worker_threads';

import type { Fd } from '../../core/index.ts';
import {
  close,
  eventfd,
  munmap,
  readMemory,
  reserveAddresses,
  shutdown,
  signalEventfd,
  unmapAt,
} from '../../sys/index.ts';
import type { BackendRequests } from '../../vhost/index.ts';
import type { WindowPlace } from './window-requests.ts';

// What the thread says in its word, in this order. It begins with 0.
/** It maps nothing any more, has unmapped all, and uses none of the descriptors. */
export const EMPTY = 1;
/** It ends now. */
export const GOING = 2;

/** What the thread is given. */
export interface WindowThreadData {
  readonly place: WindowPlace;
  /** The channel, which the other thread closes. */
  readonly channelFd: Fd;
  readonly stopFd: Fd;
  /** One word. */
  readonly state: SharedArrayBuffer;
}

/** How long a thread may take to unmap all; and then to end: it parks for a second. */
const EMPTY_LIMIT_MS = 5000;
const GOING_LIMIT_MS = 2000;

/** Those that are open. A process does not end by itself while a thread of it sleeps in the kernel. */
const threads = new Set<WindowThread>();

function endAll(): void {
  for (const thread of threads) thread.stop();
  for (const thread of threads) thread.awaitGoing();
}

export interface WindowOptions {
  /** The channel on which the daemon asks (FrontEnd.openBackendChannel); the window's from now on. */
  readonly channel: BackendRequests;
  /** Of the device's shared memory 0, a multiple of 4096. */
  readonly sizeBytes: number;
  /** Hears why something that the daemon asked for was not done; its answer to the guest is an error without a word. */
  readonly refused?: (why: string) => void;
}

export class WindowThread implements WindowPlace {
  readonly address: number;
  readonly sizeBytes: number;
  readonly #ended: Promise<void>;
  readonly #channel: BackendRequests;
  readonly #stopFd: Fd;
  readonly #state = new Int32Array(new SharedArrayBuffer(4));
  readonly #worker: Worker;
  #stopped = false;
  #closed = false;
  #released = false;

  /**
   * Reserves the addresses and starts the thread. Throws SysError where there are no addresses, or where this process
   * may not copy in a way that survives a file's end (see readMemory); the channel is closed then.
   */
  constructor({ channel, sizeBytes, refused = () => undefined }: WindowOptions) {
    this.#channel = channel;
    this.sizeBytes = sizeBytes;
    try {
      this.address = reserveAddresses(sizeBytes);
      readMemory(this.address, new Uint8Array(1), 0, 1);
    } catch (error) {
      channel.close();
      throw error;
    }
    this.#stopFd = eventfd();
    const state = this.#state.buffer;
    const place = { address: this.address, sizeBytes };
    const workerData: WindowThreadData = { place, channelFd: channel.fd, stopFd: this.#stopFd, state };
    this.#worker = new Worker(threadUrl(), { workerData, execArgv: [] });
    this.#worker.on('message', refused);
    this.#worker.on('error', (error: unknown) => refused(String(error)));
    this.#ended = new Promise((resolve) => {
      this.#worker.on('exit', () => {
        this.#hearEnd();
        resolve();
      });
    });
    // After the listeners, each of which would have the process wait again.
    this.#worker.unref();
    if (threads.size === 0) process.on('exit', endAll);
    threads.add(this);
  }

  /** Tells the thread to end, and does not wait for it. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    signalEventfd(this.#stopFd);
    // It may be waiting for the rest of a message.
    shutdown(this.#channel.fd);
  }

  /** Waits until nothing is mapped any more, and gives the addresses back: nobody may copy from or to them now. */
  close(): void {
    this.stop();
    this.#closed = true;
    // Else it has not begun, or hangs in the kernel, and what is left is done when it has ended.
    if (this.#isAt(EMPTY, EMPTY_LIMIT_MS)) this.#release();
  }

  /** Waits until the thread is gone, after `close`. */
  awaitEnd(): Promise<void> {
    this.#worker.ref();
    return this.#ended;
  }

  /** When the process ends: a thread must not be torn down while its code is compiled (see `park`). */
  awaitGoing(): void {
    this.#isAt(GOING, GOING_LIMIT_MS);
  }

  #isAt(wanted: number, limitMs: number): boolean {
    const deadline = performance.now() + limitMs;
    for (let at = Atomics.load(this.#state, 0); at < wanted; at = Atomics.load(this.#state, 0)) {
      const left = deadline - performance.now();
      if (left <= 0 || Atomics.wait(this.#state, 0, at, left) === 'timed-out') return false;
    }
    return true;
  }

  #hearEnd(): void {
    threads.delete(this);
    if (threads.size === 0) process.off('exit', endAll);
    this.#stopped = true;
    Atomics.store(this.#state, 0, GOING);
    // Without `close` the addresses stay reserved, with nothing there: somebody may copy from and to them still.
    if (this.#closed) this.#release();
    else unmapAt(this.address, this.sizeBytes);
  }

  #release(): void {
    if (this.#released) return;
    this.#released = true;
    munmap(this.address, this.sizeBytes);
    this.#channel.close();
    close(this.#stopFd);
  }
}

/** TypeScript in a checkout, JavaScript when published. */
function threadUrl(): URL {
  return new URL(`./window-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
}
