/**
 * A file system for tests of the server: whatever may sleep for long sleeps here until it is told to go on. FORGET lets
 * one go on, LSEEK says how many have begun to sleep and how many threads they were on.
 */
import { threadId } from 'node:worker_threads';

import { EINVAL } from '../src/core/index.ts';
import { ForgetIn, LseekOut } from '../src/fuse/index.ts';
import { type RawFileSystem, type Request, RETRY, type Services, WOULD_SLEEP } from '../src/fs/file-system.ts';

// Cells.
const BEGUN = 0;
const MAY_GO = 1;
const THREADS = 2;
const LOCKED = 3;
/** From here on 1 for each thread that something has slept on. */
const ON_THREAD = 4;
const CELLS = 1024;

export const openExport = (): SharedArrayBuffer => new SharedArrayBuffer(CELLS * 4);
export const remarks = (): string[] => [];
export const openSession = (): null => null;
export const closeExport = (): void => undefined;
export const gauges = (): Record<string, number> => ({});

export function openWorker(exported: SharedArrayBuffer, _session: null, { released }: Services): RawFileSystem {
  const cells = new Int32Array(exported);

  function sleep(): number {
    if (Atomics.exchange(cells, ON_THREAD + threadId, 1) === 0) Atomics.add(cells, THREADS, 1);
    Atomics.add(cells, BEGUN, 1);
    for (;;) {
      const may = Atomics.load(cells, MAY_GO);
      if (may > 0 && Atomics.compareExchange(cells, MAY_GO, may, may - 1) === may) return 0;
      if (may <= 0) Atomics.wait(cells, MAY_GO, may);
    }
  }

  const forget = (request: Request): number => {
    Atomics.add(cells, MAY_GO, ForgetIn.nlookup(request.scratch.view, request.body));
    Atomics.notify(cells, MAY_GO);
    return 0;
  };
  const report = (request: Request): number => {
    const { view } = request.scratch;
    view.setUint32(request.reply, Atomics.load(cells, BEGUN), true);
    view.setUint32(request.reply + 4, Atomics.load(cells, THREADS), true);
    return LseekOut.bytes;
  };
  return {
    handlers: {
      FSYNC: sleep,
      FSYNCDIR: sleep,
      SYNCFS: sleep,
      FALLOCATE: sleep,
      READ: (request) => (request.nowait ? WOULD_SLEEP : sleep()),
      // For another thread, and then for a lock.
      COPY_FILE_RANGE: () => {
        Atomics.add(cells, BEGUN, 1);
        return Atomics.load(cells, LOCKED) === 1 ? RETRY : -EINVAL;
      },
      SETLK: () => {
        Atomics.store(cells, LOCKED, 1);
        return 0;
      },
      FLUSH: () => {
        Atomics.store(cells, LOCKED, 0);
        released();
        return 0;
      },
      FORGET: forget,
      LSEEK: report,
    },
    reset: () => undefined,
  };
}
