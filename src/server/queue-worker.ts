/** A thread of request queues: sleeps until a driver kicks, a session has a command, or there is one more queue. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';

import { close, drainEventfd } from '../sys/index.ts';
import { Alive } from './alive.ts';
import { PoolClient } from './pool.ts';
import { QueueLoop } from './queue-loop.ts';
import { ServedQueue } from './served-queue.ts';
import { park, ServingThread } from './serving.ts';
import type { QueueData, QueueThreadData, ToMain } from './threads.ts';
import { QueueWaits, Waits } from './waits.ts';
import { WarmUp, WarmUpTurn } from './warm-up.ts';

const data = workerData as QueueThreadData;
const alive = new Alive(data.alive);
const leave = alive.count();
const thread = await ServingThread.start(data);
const loop = new QueueLoop(data.wakeFd);
const morePool: ToMain = { kind: 'spawn-pool' };
const spawnPool = (): void => parentPort?.postMessage(morePool);
const warmUp = new WarmUpTurn(
  data.warmUp,
  () => WarmUp.open(thread.module, data),
  (text) => thread.log.info(`a thread of request queues: ${text}`),
);

function serve(one: QueueData): void {
  const { tables, queue, commandFd } = one;
  const waiting = {
    pool: new PoolClient(data.pool, tables.pool, queue, commandFd, spawnPool),
    waits: new QueueWaits(new Waits(tables.waits), queue, commandFd),
    wakers: thread.wakers,
  };
  loop.add(new ServedQueue(one, thread.open(tables), waiting));
}

/** Takes the queues that the main thread has for this one. */
function take(): void {
  drainEventfd(data.wakeFd);
  if (parentPort === null) return;
  for (let next = receiveMessageOnPort(parentPort); next !== undefined; next = receiveMessageOnPort(parentPort)) {
    serve(next.message as QueueData);
  }
}

/**
 * Waits for something to do, and does it; false when the thread is to end. A function, not the body of a loop: the code
 * of a loop that never ends is replaced while it runs, together with all that is in it.
 */
function turn(): boolean {
  const { patienceMs } = loop;
  const ready = loop.turn(patienceMs === 0 ? 0 : warmUp.patienceMs(patienceMs));
  if (ready === 0 && patienceMs !== 0) warmUp.step();
  if (loop.woken) take();
  return !loop.isEmpty || !alive.isEnding;
}

try {
  while (turn());
} finally {
  warmUp.end();
  loop.end();
  close(data.wakeFd);
  leave();
  park();
}
