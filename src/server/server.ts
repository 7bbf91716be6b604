/** The daemon: one export, a session for each socket. The main thread starts threads and hears of their end. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';

import { DaxWindow, GuardedFiles, type LensMount, mountLens, openGuard, RANGE_BYTES } from '../coherence/index.ts';
import type { FileSystemModule } from '../fs/file-system.ts';
import { flags, type InitOffer } from '../fuse/index.ts';
import { close, eventfd, exitNow, signalEventfd } from '../sys/index.ts';
import { Alive } from './alive.ts';
import { configSpace } from './config-space.ts';
import { COUNTERS_BYTES, type OpcodeStatistics, statistics } from './counters.ts';
import { type Listening, listen, removeSocket, unlisten } from './listening.ts';
import { createLog, type Log, type LogLevel, writeLine } from './log.ts';
import { createPool, createPoolSession, endPool, POOL_THREADS_MAX, type SharedPool } from './pool.ts';
import { QueueThreads } from './queue-threads.ts';
import { SESSION_WORDS } from './session-state.ts';
import {
  type GuardData,
  type LensData,
  type PoolThreadData,
  type QueueThreadData,
  type ServingData,
  type SessionData,
  type SessionTables,
  type SessionThreadData,
  type SharedGuard,
  type ThreadName,
  type ToMain,
  threadUrl,
} from './threads.ts';
import { Waits, Wakers } from './waits.ts';
import { WarmUpTurn } from './warm-up.ts';

export interface ServeOptions {
  /** URL of a FileSystemModule, and what its `openExport` takes. */
  readonly fileSystem: { readonly module: string; readonly options: unknown };
  /** One session (one VM at a time) each. */
  readonly socketPaths: readonly string[];
  readonly offer: InitOffer;
  /** The tag to serve in the configuration space, for front-ends that have none of their own. */
  readonly tag?: string;
  /** Request queues in that configuration space; default 1. */
  readonly requestQueues?: number;
  /** Each VM gets a DAX window of so many bytes: a power of two, RANGE_BYTES or more. Takes what mountLens does. */
  readonly windowBytes?: number;
  /** Files that guests map are taken out of the windows before others on the host make them shorter; see openGuard. */
  readonly guardTruncate?: boolean;
  /** Let a VM connect again after one has gone. Without it a session ends with its VM. */
  readonly stay: boolean;
  readonly logLevel: LogLevel;
  /**
   * Threads for the request queues, made when first needed, and as many at most for the sessions: 1 or more. What is
   * more than these shares them. Default: as many as there are CPUs, and no less than 4. With DAX windows each queue
   * and each session has its own.
   */
  readonly threads?: number;
  /**
   * Threads, made when first needed, for operations that may sleep for long while others wait in the same queue: 0 to
   * 64. Default: 2 for each session, and no more than 16.
   */
  readonly threadPoolSize?: number;
  /** Threads serve made-up requests while there are no others, to be quick when a guest comes; default true. */
  readonly warmUp?: boolean;
}

const LEAST_THREADS = 4;
const POOL_THREADS_SESSION = 2;
const POOL_THREADS_DEFAULT = 16;
/** Threads get so long to end by themselves. */
const THREADS_END_MS = 700;

export class Server {
  /** Settles when every session has ended; rejects when a thread failed. */
  readonly finished: Promise<void>;
  readonly #options: ServeOptions;
  readonly #module: FileSystemModule;
  readonly #exported: unknown;
  readonly #log: Log;
  readonly #stopFd = eventfd();
  readonly #alive = Alive.create();
  readonly #wakers = Wakers.create();
  readonly #warmUp: SharedArrayBuffer | undefined;
  readonly #sockets: Listening[];
  /** Of the lens, where there are DAX windows. */
  readonly #lens: (LensMount & { readonly stopFd: number }) | undefined;
  readonly #guard: (SharedGuard & { readonly stopFd: number }) | undefined;
  /** One a session. */
  readonly #windows: SharedArrayBuffer[];
  /** By the index of the session, as `#listening`, which keeps what has ended. */
  readonly #tables: SessionTables[];
  readonly #listening: readonly Listening[];
  readonly #queueThreads: QueueThreads;
  readonly #pool: SharedPool;
  readonly #counters: SharedArrayBuffer[] = [];
  /** When the sessions were told to end. */
  #stopAt = Number.POSITIVE_INFINITY;
  /** Threads that exist, parked ones included. */
  #threads = 0;
  #resolve: () => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;

  private constructor(options: ServeOptions, module: FileSystemModule, sockets: Listening[]) {
    this.#options = options;
    this.#warmUp = options.warmUp === false ? undefined : WarmUpTurn.create();
    this.#module = module;
    this.#sockets = sockets;
    this.#log = createLog(options.logLevel);
    this.#exported = module.openExport(options.fileSystem.options);
    const { windowBytes } = options;
    this.#windows = windowBytes === undefined ? [] : sockets.map(() => DaxWindow.create(windowBytes));
    this.#lens = windowBytes === undefined ? undefined : { ...mountLens(), stopFd: eventfd() };
    this.#guard = options.guardTruncate && windowBytes !== undefined ? this.#openGuard(windowBytes) : undefined;
    this.#listening = [...sockets];
    this.#tables = sockets.map((_, index) => this.#newTables(index));
    const { threadPoolSize = Math.min(POOL_THREADS_SESSION * sockets.length, POOL_THREADS_DEFAULT) } = options;
    this.#pool = createPool(Math.min(threadPoolSize, POOL_THREADS_MAX));
    this.#queueThreads = new QueueThreads(this.#threadLimit, (wakeFd) => {
      const data: QueueThreadData = { ...this.#servingData(), kind: 'queues', wakeFd };
      return this.#listenTo(this.#spawn('queue-worker', data));
    });
    for (const remark of module.remarks(this.#exported)) this.#log.warn(remark);
    this.finished = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    process.on('uncaughtExceptionMonitor', reportUncaught);
    process.on('exit', (code) => this.#exit(code));
  }

  /** Opens the export and the sockets, and starts a session for each. Throws UserError, with nothing left behind. */
  static async start(options: ServeOptions): Promise<Server> {
    if (options.tag !== undefined) configSpace(options.tag, 1);
    const module = (await import(options.fileSystem.module)) as FileSystemModule;
    const sockets: Listening[] = [];
    try {
      for (const path of options.socketPaths) sockets.push(listen(path));
      const server = new Server(options, module, sockets);
      server.#startLens();
      server.#startGuard();
      server.#startSessions();
      return server;
    } catch (error) {
      for (const socket of sockets) unlisten(socket);
      throw error;
    }
  }

  /** Ends all sessions; `finished` settles when they have. */
  stop(): void {
    if (this.#sockets.length === 0) return;
    this.#stopAt = Math.min(this.#stopAt, performance.now());
    signalEventfd(this.#stopFd);
    this.#stopLens();
    this.#stopGuard();
  }

  /** Requests so far, by opcode, over all sessions. */
  statistics(): Record<string, OpcodeStatistics> {
    return statistics(this.#counters);
  }

  /** What the file system knows and holds now, and how many requests wait for locks where guests may have any. */
  gauges(): Record<string, number> {
    const gauges = this.#module.gauges(
      this.#exported,
      this.#tables.map(({ session }) => session),
    );
    if ((this.#options.offer.flags & (flags.INIT.POSIX_LOCKS | flags.INIT.FLOCK_LOCKS)) === 0) return gauges;
    return { ...gauges, waiting: this.#tables.reduce((sum, { waits }) => sum + new Waits(waits).count, 0) };
  }

  #startLens(): void {
    if (this.#lens === undefined) return;
    const { deviceFd, stopFd } = this.#lens;
    this.#spawn('lens-worker', { kind: 'lens', deviceFd, stopFd, alive: this.#alive });
  }

  #stopLens(): void {
    if (this.#lens !== undefined) signalEventfd(this.#lens.stopFd);
  }

  #openGuard(windowBytes: number): SharedGuard & { readonly stopFd: number } {
    // A file in each range, and the one that comes while that before it is still shown.
    const files = GuardedFiles.create(this.#windows.length * (windowBytes / RANGE_BYTES + 1));
    return { groupFd: openGuard(), files, stopFd: eventfd() };
  }

  #startGuard(): void {
    if (this.#guard === undefined) return;
    const { groupFd, files, stopFd } = this.#guard;
    const [windows, wakers, alive] = [this.#windows, this.#wakers, this.#alive];
    this.#spawn('guard-worker', { kind: 'guard', groupFd, files, windows, wakers, stopFd, alive });
  }

  /** Whoever waits for it goes on. */
  #stopGuard(): void {
    if (this.#guard !== undefined) signalEventfd(this.#guard.stopFd);
  }

  /** Threads for sessions, and as many for queues. What waits for the lens or the guard must hold up nobody else. */
  get #threadLimit(): number {
    if (this.#windows.length > 0) return Number.POSITIVE_INFINITY;
    return this.#options.threads ?? Math.max(LEAST_THREADS, availableParallelism());
  }

  #newTables(index: number): SessionTables {
    const own: SharedArrayBuffer | undefined = this.#windows[index];
    return {
      session: this.#module.openSession(this.#exported),
      sessionState: new SharedArrayBuffer(SESSION_WORDS * 4),
      waits: Waits.create(),
      pool: createPoolSession(index),
      windows: own && { own, others: this.#windows.filter((each) => each !== own) },
    };
  }

  #servingData(): ServingData {
    return {
      module: this.#options.fileSystem.module,
      exported: this.#exported,
      wakers: this.#wakers,
      pool: this.#pool,
      warmUp: this.#warmUp,
      counters: this.#newCounters(),
      offer: this.#options.offer,
      logLevel: this.#options.logLevel,
      alive: this.#alive,
    };
  }

  #startSessions(): void {
    const sessions = this.#listening.map((socket, index): SessionData => {
      return { index, listenFd: socket.fd, socketPath: socket.path, tables: this.#tables[index] };
    });
    const threads = Math.min(sessions.length, this.#threadLimit);
    for (let i = 0; i < threads; i += 1) {
      const data: SessionThreadData = {
        ...this.#servingData(),
        kind: 'sessions',
        sessions: sessions.filter(({ index }) => index % threads === i),
        stopFd: this.#stopFd,
        stay: this.#options.stay,
        tag: this.#options.tag,
        requestQueues: this.#options.requestQueues ?? 1,
        lensMountFd: this.#lens?.mountFd ?? -1,
        guard: this.#guard,
      };
      this.#listenTo(this.#spawn('session-worker', data));
    }
  }

  #listenTo(worker: Worker): Worker {
    return worker.on('message', (message: ToMain) => this.#hear(message));
  }

  #hear(message: ToMain): void {
    switch (message.kind) {
      case 'open-queue': {
        const { session, queue, commands, commandFd, answers } = message;
        this.#queueThreads.open(session, { tables: this.#tables[session], queue, commands, commandFd, answers });
        break;
      }
      case 'spawn-pool':
        this.#spawn('pool-worker', { ...this.#servingData(), kind: 'pool', sessions: this.#tables });
        break;
      case 'ended':
        this.#queueThreads.close(message.session);
        this.#endSession(this.#listening[message.session]);
        break;
      case 'connected':
        this.#log.info(`a VM has connected to ${this.#listening[message.session].path}`);
        break;
      case 'disconnected':
        this.#log.info(`a VM has disconnected from ${this.#listening[message.session].path}`);
    }
  }

  #newCounters(): SharedArrayBuffer {
    const counters = new SharedArrayBuffer(COUNTERS_BYTES);
    this.#counters.push(counters);
    return counters;
  }

  #spawn(name: ThreadName, data: SessionThreadData | QueueThreadData | PoolThreadData | LensData | GuardData): Worker {
    const worker = new Worker(threadUrl(name), {
      workerData: data,
      // Not the options of the process: --eval and --input-type are errors for a thread.
      execArgv: [],
      // Requests allocate nothing: each thread does without the 16 MiB for what is young.
      resourceLimits: { maxYoungGenerationSizeMb: 2 },
    });
    this.#threads += 1;
    worker.on('error', (error) => this.#fail(error as Error));
    worker.on('exit', () => {
      this.#threads -= 1;
    });
    return worker;
  }

  #endSession(socket: Listening): void {
    unlisten(socket);
    this.#sockets.splice(this.#sockets.indexOf(socket), 1);
    if (this.#sockets.length > 0) return;
    this.#endThreads();
    this.#module.closeExport(this.#exported);
    close(this.#stopFd);
    this.#stopLens();
    this.#stopGuard();
    if (this.#lens !== undefined) close(this.#lens.mountFd);
    this.#resolve();
  }

  /** Those that serve several sessions, and would wait for more. */
  #endThreads(): void {
    new Alive(this.#alive).setEnding();
    this.#queueThreads.end();
    endPool(this.#pool);
  }

  #fail(error: Error): void {
    this.#reject(error);
    this.stop();
  }

  /**
   * The process ends. Threads that sleep in the kernel would keep it for ever, so they are woken first; threads that
   * have just worked must not be torn down (see `park`), so the end is made here, without Node's own.
   */
  #exit(code: number): void {
    if (this.#threads === 0) return;
    this.stop();
    for (const socket of this.#sockets) removeSocket(socket);
    this.#endThreads();
    new Alive(this.#alive).awaitNone(Math.min(this.#stopAt, performance.now()) + THREADS_END_MS - performance.now());
    exitNow(code);
  }
}

/** What Node would print after the `exit` event, which `#exit` lets nothing come after. */
function reportUncaught(error: Error): void {
  if (process.listenerCount('uncaughtException') === 0) writeLine(`Uncaught ${error.stack ?? String(error)}`);
}
