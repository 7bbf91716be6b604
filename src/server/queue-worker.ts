/** A thread of request queues: sleeps until a driver kicks, a session has a command, or there is one more queue. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';

import { close, drainEventfd, Epoll } from '../sys/index.ts';
import { Alive } from './alive.ts';
import { KEY_KICK, KEYS, ServedQueue } from './served-queue.ts';
import { park, ServingThread } from './serving.ts';
import type { QueueData, QueueThreadData, ToMain } from './threads.ts';
import { WarmUp, WarmUpTurn } from './warm-up.ts';

const KEY_WAKE = 0;
const FIRST_KEY = 1;

const data = workerData as QueueThreadData;
const alive = new Alive(data.alive);
const leave = alive.count();
const thread = await ServingThread.start(data);
const epoll = new Epoll();
const morePool: ToMain = { kind: 'spawn-pool' };
const spawnPool = (): void => parentPort?.postMessage(morePool);
const warmUp = new WarmUpTurn(
  data.warmUp,
  () => WarmUp.open(thread.module, data),
  (text) => thread.log.info(`a thread of request queues: ${text}`),
);
/** By their keys; those that are served no longer are gone. */
const byKey: (ServedQueue | undefined)[] = [];
let queues: readonly ServedQueue[] = [];

/** Takes the queues that the main thread has for this one. */
function take(): void {
  drainEventfd(data.wakeFd);
  if (parentPort === null) return;
  for (let next = receiveMessageOnPort(parentPort); next !== undefined; next = receiveMessageOnPort(parentPort)) {
    const key = FIRST_KEY + byKey.length * KEYS;
    const queue = new ServedQueue(thread, next.message as QueueData, data.pool, spawnPool, epoll, key);
    // A command may have come before it could be heard.
    queue.woken = true;
    byKey.push(queue);
    queues = [...queues, queue];
  }
}

/** Does what the queue's session told, if it did. */
function obey(queue: ServedQueue): void {
  if (!queue.obey()) {
    byKey[byKey.indexOf(queue)] = undefined;
    queues = queues.filter((each) => each !== queue);
  }
  const running = queues.filter(({ runner }) => runner.kickFd >= 0);
  for (const { runner } of running) runner.alone = running.length === 1;
}

/** How long the thread may sleep. */
function patience(): number {
  let least = -1;
  for (const queue of queues) {
    if (queue.kicked) return 0;
    const { patienceMs } = queue.runner;
    if (patienceMs >= 0 && (least < 0 || patienceMs < least)) least = patienceMs;
  }
  return least;
}

/** Takes note of what is ready: true when there may be more queues. */
function note(ready: number): boolean {
  let woken = false;
  for (let i = 0; i < ready; i += 1) {
    const key = epoll.key(i);
    if (key === KEY_WAKE) {
      woken = true;
      continue;
    }
    const queue = byKey[Math.floor((key - FIRST_KEY) / KEYS)];
    if (queue === undefined) continue;
    // After a command too: a queue that was started again may have missed its kick.
    queue.kicked = true;
    if ((key - FIRST_KEY) % KEYS === KEY_KICK) queue.runner.acknowledge();
    else queue.woken = true;
  }
  return woken;
}

/**
 * Waits for something to do, and does it; false when the thread is to end. A function, not the body of a loop: the code
 * of a loop that never ends is replaced while it runs, together with all that is in it.
 */
function turn(): boolean {
  const patienceMs = patience();
  const ready = epoll.wait(patienceMs === 0 ? 0 : warmUp.patienceMs(patienceMs));
  if (ready === 0 && patienceMs !== 0) warmUp.step();
  if (note(ready)) take();
  for (const queue of queues) {
    const { runner, woken } = queue;
    if (woken) obey(queue);
    queue.woken = false;
    runner.attend(woken);
    queue.kicked = queue.kicked && runner.run();
  }
  return queues.length > 0 || !alive.isEnding;
}

try {
  epoll.add(data.wakeFd, KEY_WAKE);
  while (turn());
} finally {
  warmUp.end();
  for (const queue of queues) queue.end();
  close(data.wakeFd);
  leave();
  park();
}
