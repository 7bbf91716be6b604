/** The thread behind the lens: it answers the kernel while a session's thread opens one, and sleeps otherwise. */
import { workerData } from 'node:worker_threads';

import { serveLens } from '../coherence/index.ts';
import { Alive } from './alive.ts';
import { park } from './serving.ts';
import type { LensData } from './threads.ts';

const data = workerData as LensData;
const leave = new Alive(data.alive).count();

try {
  serveLens(data.deviceFd, data.stopFd);
} finally {
  leave();
  park();
}
