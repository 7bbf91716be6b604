/** A thread of sessions: sleeps until a VMM connects or has something to say. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';

import { Epoll } from '../sys/index.ts';
import { Alive } from './alive.ts';
import { park, ServingThread } from './serving.ts';
import { KEYS, Session } from './session.ts';
import type { SessionThreadData, ToMain } from './threads.ts';

const KEY_STOP = 0;
const FIRST_KEY = 1;
/** How long threads may take to let go of queues before sessions end without. */
const QUIT_MS = 400;

const data = workerData as SessionThreadData;
const leave = new Alive(data.alive).count();
const tell = (message: ToMain, transfer: MessagePort[] = []): void => parentPort?.postMessage(message, transfer);
const thread = await ServingThread.start(data);
const epoll = new Epoll();
/** By their keys; those that are over are gone. */
const byKey: (Session | undefined)[] = data.sessions.map(
  (each, i) => new Session({ thread, common: data, data: each, epoll, key: FIRST_KEY + i * KEYS, tell }),
);

let sessions: readonly Session[] = byKey.filter((session) => session !== undefined);

function end(over: readonly Session[]): void {
  for (const session of over) session.end();
  const deadline = performance.now() + QUIT_MS;
  for (const session of over) {
    session.awaitEnd(deadline);
    byKey[byKey.indexOf(session)] = undefined;
  }
  sessions = sessions.filter((session) => !over.includes(session));
}

/** How long the thread may sleep. */
function patience(): number {
  let least = -1;
  for (const { patienceMs } of sessions) if (patienceMs >= 0 && (least < 0 || patienceMs < least)) least = patienceMs;
  return least;
}

/** Tells the sessions what is ready; false when all are to end. */
function note(ready: number): boolean {
  for (let i = 0; i < ready; i += 1) {
    const key = epoll.key(i);
    if (key === KEY_STOP) return false;
    byKey[Math.floor((key - FIRST_KEY) / KEYS)]?.note((key - FIRST_KEY) % KEYS);
  }
  return true;
}

function run(): void {
  epoll.add(data.stopFd, KEY_STOP);
  while (sessions.length > 0 && note(epoll.wait(patience()))) {
    for (const session of sessions) if (!session.serve()) end([session]);
  }
}

try {
  run();
  end(sessions);
} finally {
  leave();
  parentPort?.close();
  park();
}
