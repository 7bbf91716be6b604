/** What the threads of the daemon say to one another: the main thread, one for each session, one for each queue. */
import type { MessagePort } from 'node:worker_threads';

import type { InitOffer } from '../fuse/index.ts';
import type { MappedRegion, RingSetup } from '../vhost/index.ts';
import type { LogLevel } from './log.ts';
import type { SharedPool } from './pool.ts';

export type ThreadName = 'session-worker' | 'queue-worker' | 'pool-worker' | 'lens-worker' | 'guard-worker';

/** The URL of a thread's module beside this one: TypeScript in a checkout, JavaScript when published. */
export function threadUrl(name: ThreadName): URL {
  const extension = import.meta.url.endsWith('.ts') ? '.ts' : '.js';
  return new URL(`./${name}${extension}`, import.meta.url);
}

/** What every thread that serves requests is given. */
export interface ServingData {
  /** URL of the FileSystemModule. */
  readonly module: string;
  readonly exported: unknown;
  readonly session: unknown;
  readonly sessionState: SharedArrayBuffer;
  /** Of the session; see `Waits`. */
  readonly waits: SharedArrayBuffer;
  /** Of the process; see `Wakers`. */
  readonly wakers: SharedArrayBuffer;
  /** Of the session. */
  readonly pool: SharedPool;
  readonly counters: SharedArrayBuffer;
  readonly offer: InitOffer;
  /** Of the session, and of the others of the export; see `DaxWindow`. Absent: guests get none. */
  readonly windows: { readonly own: SharedArrayBuffer; readonly others: readonly SharedArrayBuffer[] } | undefined;
  readonly logLevel: LogLevel;
  /** One word: threads that run. */
  readonly alive: SharedArrayBuffer;
}

export interface SessionData extends ServingData {
  readonly kind: 'session';
  readonly listenFd: number;
  readonly stopFd: number;
  readonly socketPath: string;
  /** Whether another VM may connect after the first. */
  readonly stay: boolean;
  readonly tag: string | undefined;
  readonly requestQueues: number;
  /** The lens's mount, where there is a window; see `src/coherence` openLens. */
  readonly lensMountFd: number;
  readonly guard: SharedGuard | undefined;
}

/** What guards files that are mapped; see `src/coherence` GuardedFiles. */
export interface SharedGuard {
  readonly groupFd: number;
  readonly files: SharedArrayBuffer;
}

export interface QueueData extends ServingData {
  readonly kind: 'queue';
  readonly queue: number;
  readonly commands: MessagePort;
  readonly commandFd: number;
  readonly answers: SharedArrayBuffer;
}

export interface PoolData extends ServingData {
  readonly kind: 'pool';
}

/** The thread behind the lens (src/coherence/lens.ts), one for the process. */
export interface LensData {
  readonly kind: 'lens';
  /** Of `mountLens`; the thread closes it. */
  readonly deviceFd: number;
  /** Readable when the thread is to end: after the last `openLens`, which would fail from then on. */
  readonly stopFd: number;
  /** One word: threads that run. */
  readonly alive: SharedArrayBuffer;
}

/** The thread of the guard (src/coherence/guard.ts), one for the process. */
export interface GuardData extends SharedGuard {
  readonly kind: 'guard';
  /** Of all sessions. */
  readonly windows: readonly SharedArrayBuffer[];
  /** Of the process; see `Wakers`. */
  readonly wakers: SharedArrayBuffer;
  /** Readable when the thread is to end. It closes `groupFd`. */
  readonly stopFd: number;
  /** One word: threads that run. */
  readonly alive: SharedArrayBuffer;
}

/** From a session's threads to the main thread. */
export type ToMain =
  | {
      readonly kind: 'spawn';
      readonly queue: number;
      readonly commands: MessagePort;
      readonly commandFd: number;
      readonly answers: SharedArrayBuffer;
    }
  /** From a queue's thread: all threads of the pool are at work, and one more is wanted. */
  | { readonly kind: 'spawn-pool' }
  /** `fd`: the connection, for the main thread to shut down when this one is stuck in it. */
  | { readonly kind: 'connected'; readonly fd: number }
  | { readonly kind: 'disconnected' }
  /** The session is over and has stopped its queues' threads. */
  | { readonly kind: 'ended' };

/** From a session thread to a queue's thread. */
export type QueueCommand =
  | { readonly kind: 'memory'; readonly regions: readonly MappedRegion[] }
  | { readonly kind: 'start'; readonly ring: RingSetup }
  | { readonly kind: 'stop' }
  | { readonly kind: 'quit' };

/** Words of `answers`: commands done so far, the result of the last, whether it failed (the port says why). */
export const ANSWERS_WORDS = 4;
export const ANSWER_COUNT = 0;
export const ANSWER_RESULT = 1;
export const ANSWER_FAILED = 2;
/** 1 when the thread runs: the main thread, which starts it, may be on its way out instead. */
export const ANSWER_STARTED = 3;
