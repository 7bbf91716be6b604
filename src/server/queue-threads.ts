import type { Worker } from 'node:worker_threads';

import { eventfd, signalEventfd } from '../sys/index.ts';
import type { QueueData } from './threads.ts';

interface QueueThread {
  readonly worker: Worker;
  readonly wakeFd: number;
  /** The session of each queue that it serves. */
  sessions: number[];
}

/** The threads of request queues, on the main thread: each queue goes to the one that has the fewest. */
export class QueueThreads {
  readonly #limit: number;
  readonly #spawn: (wakeFd: number) => Worker;
  #threads: QueueThread[] = [];

  /** `limit`: how many threads there may be. `spawn` starts one, which closes the eventfd that it is given. */
  constructor(limit: number, spawn: (wakeFd: number) => Worker) {
    this.#limit = limit;
    this.#spawn = spawn;
  }

  /** Has a queue of a session served. */
  open(session: number, queue: QueueData): void {
    const { worker, wakeFd, sessions } = this.#next();
    sessions.push(session);
    worker.postMessage(queue, [queue.commands]);
    signalEventfd(wakeFd);
  }

  #next(): QueueThread {
    const idlest = this.#threads.toSorted((a, b) => a.sessions.length - b.sessions.length).at(0);
    if (idlest !== undefined && (idlest.sessions.length === 0 || this.#threads.length >= this.#limit)) return idlest;
    const wakeFd = eventfd();
    const thread = { worker: this.#spawn(wakeFd), wakeFd, sessions: [] };
    this.#threads.push(thread);
    return thread;
  }

  /** A session has ended, and its queues with it. */
  close(session: number): void {
    for (const thread of this.#threads) thread.sessions = thread.sessions.filter((each) => each !== session);
  }

  /** All are to end once they serve nothing any more. */
  end(): void {
    for (const { wakeFd } of this.#threads) signalEventfd(wakeFd);
    this.#threads = [];
  }
}
