/** What the threads of the daemon say to one another: the main thread, those of sessions, those of queues. */
import type { MessagePort } from 'node:worker_threads';

import type { InitOffer } from '../fuse/index.ts';
import type { MappedRegion, RingSetup } from '../vhost/index.ts';
import type { LogLevel } from './log.ts';
import type { PoolSession, SharedPool } from './pool.ts';

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
  /** Of the process; see `Wakers`. */
  readonly wakers: SharedArrayBuffer;
  /** Of the process. */
  readonly pool: SharedPool;
  /** Of the process; see `WarmUpTurn`. Absent: threads do not warm up. */
  readonly warmUp: SharedArrayBuffer | undefined;
  /** The thread's own. */
  readonly counters: SharedArrayBuffer;
  readonly offer: InitOffer;
  readonly logLevel: LogLevel;
  /** See `Alive`. */
  readonly alive: SharedArrayBuffer;
}

/** What the workers of a session have in common. */
export interface SessionTables {
  readonly session: unknown;
  readonly sessionState: SharedArrayBuffer;
  /** See `Waits`. */
  readonly waits: SharedArrayBuffer;
  readonly pool: PoolSession;
  /** Of the session, and of the others of the export; see `DaxWindow`. Absent: guests get none. */
  readonly windows: { readonly own: SharedArrayBuffer; readonly others: readonly SharedArrayBuffer[] } | undefined;
}

/** A thread that speaks with VMMs, one or several. */
export interface SessionThreadData extends ServingData {
  readonly kind: 'sessions';
  readonly sessions: readonly SessionData[];
  /** Readable when all are to end. */
  readonly stopFd: number;
  /** Whether another VM may connect after the first. */
  readonly stay: boolean;
  readonly tag: string | undefined;
  readonly requestQueues: number;
  /** The lens's mount, where there is a window; see `src/coherence` openLens. */
  readonly lensMountFd: number;
  readonly guard: SharedGuard | undefined;
}

export interface SessionData {
  /** Among those of the process. */
  readonly index: number;
  readonly listenFd: number;
  readonly socketPath: string;
  readonly tables: SessionTables;
}

/** What guards files that are mapped; see `src/coherence` GuardedFiles. */
export interface SharedGuard {
  readonly groupFd: number;
  readonly files: SharedArrayBuffer;
}

/** A thread that serves request queues, of one or several sessions. */
export interface QueueThreadData extends ServingData {
  readonly kind: 'queues';
  /** Readable when there is a `QueueData` in its port, or it is to end. */
  readonly wakeFd: number;
}

/** A queue for such a thread. */
export interface QueueData {
  readonly tables: SessionTables;
  readonly queue: number;
  readonly commands: MessagePort;
  readonly commandFd: number;
  readonly answers: SharedArrayBuffer;
}

export interface PoolThreadData extends ServingData {
  readonly kind: 'pool';
  /** By their index. */
  readonly sessions: readonly SessionTables[];
}

/** The thread behind the lens (src/coherence/lens.ts), one for the process. */
export interface LensData {
  readonly kind: 'lens';
  /** Of `mountLens`; the thread closes it. */
  readonly deviceFd: number;
  /** Readable when the thread is to end: after the last `openLens`, which would fail from then on. */
  readonly stopFd: number;
  /** See `Alive`. */
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
  /** See `Alive`. */
  readonly alive: SharedArrayBuffer;
}

/** To the main thread. `session`: its index. */
export type ToMain =
  /** A queue is to be served from now on. */
  | {
      readonly kind: 'open-queue';
      readonly session: number;
      readonly queue: number;
      readonly commands: MessagePort;
      readonly commandFd: number;
      readonly answers: SharedArrayBuffer;
    }
  /** All threads of the pool are at work, and one more is wanted. */
  | { readonly kind: 'spawn-pool' }
  | { readonly kind: 'connected'; readonly session: number }
  | { readonly kind: 'disconnected'; readonly session: number }
  /** The session is over, and none of its queues is served any more. */
  | { readonly kind: 'ended'; readonly session: number };

/** From a session to a queue of its own. */
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
/** 1 when a thread serves the queue: the main thread, which gives it to one, may be on its way out instead. */
export const ANSWER_STARTED = 3;
