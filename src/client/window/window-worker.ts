/** The thread of a window: a daemon maps and unmaps at any time, also while the thread that reads and writes waits. */
import { parentPort, workerData } from 'node:worker_threads';

import { park, shutdown } from '../../sys/index.ts';
import { BackendRequests } from '../../vhost/index.ts';
import { EMPTY, GOING, type WindowThreadData } from './window-thread.ts';
import { MappedWindow, serveWindow } from './window-requests.ts';

/** So few requests leave no code that V8 would compile, and nothing to wait for: see `park`. */
const COLD_REQUESTS = 500;
/** A daemon that asks for nonsense is not listened to for ever. */
const REFUSALS_TOLD = 16;

const data = workerData as WindowThreadData;
const state = new Int32Array(data.state);
const window = new MappedWindow(data.place);
let told = 0;

function refused(why: string): void {
  told += 1;
  if (told <= REFUSALS_TOLD) parentPort?.postMessage(why);
}

function move(to: number): void {
  Atomics.store(state, 0, to);
  Atomics.notify(state, 0);
}

try {
  serveWindow(new BackendRequests(data.channelFd), data.stopFd, window, refused);
} finally {
  // What is still asked for fails at once. The descriptor is the other thread's to close.
  shutdown(data.channelFd);
  window.clear();
  move(EMPTY);
  if (window.served > COLD_REQUESTS) park();
  move(GOING);
}
