import { flushCompileCache } from 'node:module';

import { DaxWindow } from '../coherence/index.ts';
import type { FileSystemModule, RawFileSystem } from '../fs/file-system.ts';
import { Counters } from './counters.ts';
import { Gate } from './gate.ts';
import { createLog, type Log, limited } from './log.ts';
import { Mappings } from './mappings.ts';
import { MemoryMirror } from './memory-mirror.ts';
import type { ServingData } from './threads.ts';
import { Waits, Wakers } from './waits.ts';

export { park } from '../sys/index.ts';

/** What a thread needs to serve requests: its view of guest memory, its own file system instance, its gate. */
export interface Serving {
  readonly mirror: MemoryMirror;
  readonly fileSystem: RawFileSystem;
  /** Absent: guests get no DAX window. */
  readonly window: DaxWindow | undefined;
  readonly gate: Gate;
  readonly log: Log;
  /** Requests that wait are to be asked again. */
  readonly released: () => void;
  /** For what the guest can cause. */
  readonly warn: (message: string) => void;
  readonly reset: () => void;
}

export async function startServing(data: ServingData): Promise<Serving> {
  const log = createLog(data.logLevel);
  const warn = limited(log.warn);
  const module = (await import(data.module)) as FileSystemModule;
  const wakers = new Wakers(data.wakers);
  const released = (): void => wakers.wake();
  const services = { warn, released };
  const window = data.windows === undefined ? undefined : new DaxWindow(data.windows.own);
  const passed = module.openWorker(data.exported, data.session, services);
  const others = data.windows?.others.map((each) => new DaxWindow(each)) ?? [];
  const mappings = window && new Mappings(passed, window, others);
  const fileSystem = mappings?.fileSystem ?? passed;
  const mirror = new MemoryMirror();
  const session = new Int32Array(data.sessionState);
  const gate = new Gate({
    memory: mirror.memory,
    fileSystem,
    session,
    counters: new Counters(data.counters),
    offer: data.offer,
    warn,
    waits: new Waits(data.waits),
    mappings,
  });
  flushCompileCache();
  return { mirror, fileSystem, window, gate, log, warn, released, reset: () => gate.reset() };
}

/** Counts this thread among those that run, until the returned function is called. */
export function countAlive(shared: SharedArrayBuffer): () => void {
  const alive = new Int32Array(shared);
  Atomics.add(alive, 0, 1);
  return () => {
    Atomics.sub(alive, 0, 1);
    Atomics.notify(alive, 0);
  };
}
