/** The thread of the guard: others on the host wait for it before they make a file shorter that a guest has mapped. */
import { workerData } from 'node:worker_threads';

import { DaxWindow, GuardedFiles, serveGuard } from '../coherence/index.ts';
import { eventfd } from '../sys/index.ts';
import { Alive } from './alive.ts';
import { park } from './serving.ts';
import type { GuardData } from './threads.ts';
import { Wakers } from './waits.ts';

const data = workerData as GuardData;
const leave = new Alive(data.alive).count();
const wakers = new Wakers(data.wakers);
const wakeFd = eventfd();

try {
  wakers.add(wakeFd);
  const { groupFd, stopFd } = data;
  const files = new GuardedFiles(data.files, groupFd);
  const windows = data.windows.map((each) => new DaxWindow(each));
  serveGuard({ groupFd, stopFd, wakeFd, files, windows });
} finally {
  wakers.remove(wakeFd);
  leave();
  park();
}
