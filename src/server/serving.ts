import { flushCompileCache } from 'node:module';

import { DaxWindow } from '../coherence/index.ts';
import type { FileSystemModule, RawFileSystem } from '../fs/file-system.ts';
import { Counters } from './counters.ts';
import { Gate } from './gate.ts';
import { createLog, type Log, limited } from './log.ts';
import { Mappings } from './mappings.ts';
import { MemoryMirror } from './memory-mirror.ts';
import type { ServingData, SessionTables } from './threads.ts';
import { Waits, Wakers } from './waits.ts';

export { park } from '../sys/index.ts';

/** What a thread needs to serve requests of a session: its view of guest memory, a file system instance, a gate. */
export interface Serving {
  readonly mirror: MemoryMirror;
  readonly fileSystem: RawFileSystem;
  /** Absent: guests get no DAX window. */
  readonly window: DaxWindow | undefined;
  readonly gate: Gate;
  /** For what the guest can cause. */
  readonly warn: (message: string) => void;
  readonly reset: () => void;
}

/** A thread that serves requests, of one session or of several. */
export class ServingThread {
  readonly log: Log;
  readonly wakers: Wakers;
  /** Requests that wait are to be asked again. */
  readonly released: () => void;
  readonly module: FileSystemModule;
  readonly #data: ServingData;
  readonly #counters: Counters;

  private constructor(data: ServingData, module: FileSystemModule) {
    this.#data = data;
    this.module = module;
    this.#counters = new Counters(data.counters);
    this.log = createLog(data.logLevel);
    const wakers = new Wakers(data.wakers);
    this.wakers = wakers;
    this.released = () => wakers.wake();
  }

  static async start(data: ServingData): Promise<ServingThread> {
    const module = (await import(data.module)) as FileSystemModule;
    flushCompileCache();
    return new ServingThread(data, module);
  }

  open({ session, sessionState, waits, windows }: SessionTables): Serving {
    const warn = limited(this.log.warn);
    const window = windows && new DaxWindow(windows.own);
    const passed = this.module.openWorker(this.#data.exported, session, { warn, released: this.released });
    const others = windows?.others.map((each) => new DaxWindow(each)) ?? [];
    const mappings = window && new Mappings(passed, window, others);
    const fileSystem = mappings?.fileSystem ?? passed;
    const mirror = new MemoryMirror();
    const gate = new Gate({
      memory: mirror.memory,
      fileSystem,
      session: new Int32Array(sessionState),
      counters: this.#counters,
      offer: this.#data.offer,
      warn,
      waits: new Waits(waits),
      mappings,
    });
    return { mirror, fileSystem, window, gate, warn, reset: () => gate.reset() };
  }
}
