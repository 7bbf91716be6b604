/** The daemon: one export, a session for each socket. The main thread starts threads and hears of their end. */
import { Worker } from 'node:worker_threads';

import { DaxWindow, GuardedFiles, type LensMount, mountLens, openGuard, RANGE_BYTES } from '../coherence/index.ts';
import type { FileSystemModule } from '../fs/file-system.ts';
import { flags, type InitOffer } from '../fuse/index.ts';
import { close, eventfd, exitNow, shutdown, signalEventfd } from '../sys/index.ts';
import { configSpace } from './config-space.ts';
import { COUNTERS_BYTES, type OpcodeStatistics, statistics } from './counters.ts';
import { type Listening, listen, removeSocket, unlisten } from './listening.ts';
import { createLog, type Log, type LogLevel, writeLine } from './log.ts';
import { createPool, POOL_THREADS_MAX } from './pool.ts';
import { SESSION_WORDS } from './session-state.ts';
import {
  type GuardData,
  type LensData,
  type PoolData,
  type QueueData,
  type ServingData,
  type SessionData,
  type SharedGuard,
  type ThreadName,
  type ToMain,
  threadUrl,
} from './threads.ts';
import { Waits, Wakers } from './waits.ts';

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
   * Threads for each VM, made when first needed, for operations that may sleep for long while others wait in the same
   * queue: 0 to 64, default 2.
   */
  readonly threadPoolSize?: number;
}

const THREAD_POOL_SIZE = 2;
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
  readonly #alive = new SharedArrayBuffer(4);
  readonly #wakers = Wakers.create();
  readonly #waits: SharedArrayBuffer[] = [];
  readonly #sockets: Listening[];
  /** Of the lens, where there are DAX windows. */
  readonly #lens: (LensMount & { readonly stopFd: number }) | undefined;
  readonly #guard: (SharedGuard & { readonly stopFd: number }) | undefined;
  /** One a session. */
  readonly #windows: SharedArrayBuffer[];
  readonly #sessions: unknown[] = [];
  readonly #counters: SharedArrayBuffer[] = [];
  /** The VMM's end of each session that has one. */
  readonly #connections = new Map<Listening, number>();
  /** When the sessions were told to end. */
  #stopAt = Number.POSITIVE_INFINITY;
  /** Threads that exist, parked ones included. */
  #threads = 0;
  #resolve: () => void = () => undefined;
  #reject: (error: Error) => void = () => undefined;

  private constructor(options: ServeOptions, module: FileSystemModule, sockets: Listening[]) {
    this.#options = options;
    this.#module = module;
    this.#sockets = sockets;
    this.#log = createLog(options.logLevel);
    this.#exported = module.openExport(options.fileSystem.options);
    const { windowBytes } = options;
    this.#windows = windowBytes === undefined ? [] : sockets.map(() => DaxWindow.create(windowBytes));
    this.#lens = windowBytes === undefined ? undefined : { ...mountLens(), stopFd: eventfd() };
    this.#guard = options.guardTruncate && windowBytes !== undefined ? this.#openGuard(windowBytes) : undefined;
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
      for (const socket of sockets) server.#startSession(socket);
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
    // A session that waits for the rest of a message hears nothing else.
    for (const fd of this.#connections.values()) shutdown(fd);
  }

  /** Requests so far, by opcode, over all sessions. */
  statistics(): Record<string, OpcodeStatistics> {
    return statistics(this.#counters);
  }

  /** What the file system knows and holds now, and how many requests wait for locks where guests may have any. */
  gauges(): Record<string, number> {
    const gauges = this.#module.gauges(this.#exported, this.#sessions);
    if ((this.#options.offer.flags & (flags.INIT.POSIX_LOCKS | flags.INIT.FLOCK_LOCKS)) === 0) return gauges;
    return { ...gauges, waiting: this.#waits.reduce((sum, each) => sum + new Waits(each).count, 0) };
  }

  #startLens(): void {
    if (this.#lens === undefined) return;
    const { deviceFd, stopFd } = this.#lens;
    this.#spawn('lens-worker', { kind: 'lens', deviceFd, stopFd, alive: this.#alive }, []);
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
    this.#spawn('guard-worker', { kind: 'guard', groupFd, files, windows, wakers, stopFd, alive }, []);
  }

  /** Whoever waits for it goes on. */
  #stopGuard(): void {
    if (this.#guard !== undefined) signalEventfd(this.#guard.stopFd);
  }

  #startSession(socket: Listening): void {
    const own: SharedArrayBuffer | undefined = this.#windows[this.#sessions.length];
    const session = this.#module.openSession(this.#exported);
    this.#sessions.push(session);
    const waits = Waits.create();
    this.#waits.push(waits);
    const serving = {
      module: this.#options.fileSystem.module,
      exported: this.#exported,
      session,
      sessionState: new SharedArrayBuffer(SESSION_WORDS * 4),
      waits,
      wakers: this.#wakers,
      pool: createPool(Math.min(this.#options.threadPoolSize ?? THREAD_POOL_SIZE, POOL_THREADS_MAX)),
      offer: this.#options.offer,
      windows: own && { own, others: this.#windows.filter((each) => each !== own) },
      logLevel: this.#options.logLevel,
      alive: this.#alive,
    };
    const data: SessionData = {
      ...serving,
      kind: 'session',
      counters: this.#newCounters(),
      listenFd: socket.fd,
      stopFd: this.#stopFd,
      socketPath: socket.path,
      stay: this.#options.stay,
      tag: this.#options.tag,
      requestQueues: this.#options.requestQueues ?? 1,
      lensMountFd: this.#lens?.mountFd ?? -1,
      guard: this.#guard,
    };
    const worker = this.#spawn('session-worker', data, []);
    worker.on('message', (message: ToMain) => this.#hear(message, serving, socket));
  }

  #hear(message: ToMain, serving: Omit<ServingData, 'counters'>, socket: Listening): void {
    switch (message.kind) {
      case 'spawn': {
        const data: QueueData = { ...serving, ...message, kind: 'queue', counters: this.#newCounters() };
        const worker = this.#spawn('queue-worker', data, [message.commands]);
        worker.on('message', (each: ToMain) => this.#hear(each, serving, socket));
        break;
      }
      case 'spawn-pool':
        this.#spawn('pool-worker', { ...serving, kind: 'pool', counters: this.#newCounters() }, []);
        break;
      case 'ended':
        this.#endSession(socket);
        break;
      case 'connected':
        this.#connections.set(socket, message.fd);
        this.#log.info(`a VM has connected to ${socket.path}`);
        break;
      case 'disconnected':
        this.#connections.delete(socket);
        this.#log.info(`a VM has disconnected from ${socket.path}`);
    }
  }

  #newCounters(): SharedArrayBuffer {
    const counters = new SharedArrayBuffer(COUNTERS_BYTES);
    this.#counters.push(counters);
    return counters;
  }

  #spawn(
    name: ThreadName,
    data: SessionData | QueueData | PoolData | LensData | GuardData,
    transfer: QueueData['commands'][],
  ): Worker {
    const worker = new Worker(threadUrl(name), {
      workerData: data,
      transferList: transfer,
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
    this.#module.closeExport(this.#exported);
    close(this.#stopFd);
    this.#stopLens();
    this.#stopGuard();
    if (this.#lens !== undefined) close(this.#lens.mountFd);
    this.#resolve();
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
    const alive = new Int32Array(this.#alive);
    const deadline = Math.min(this.#stopAt, performance.now()) + THREADS_END_MS;
    for (let running = Atomics.load(alive, 0); running > 0; running = Atomics.load(alive, 0)) {
      const left = deadline - performance.now();
      if (left <= 0 || Atomics.wait(alive, 0, running, left) === 'timed-out') break;
    }
    exitNow(code);
  }
}

/** What Node would print after the `exit` event, which `#exit` lets nothing come after. */
function reportUncaught(error: Error): void {
  if (process.listenerCount('uncaughtException') === 0) writeLine(`Uncaught ${error.stack ?? String(error)}`);
}
