/** A thread of the pool: does what may sleep for long, chain by chain, and leaves the rings alone. */
import { workerData } from 'node:worker_threads';

import { Chain, ChainWalker, mapDescriptors } from '../virtio/index.ts';
import { Alive } from './alive.ts';
import { PoolJobs } from './pool.ts';
import { park, type Serving, ServingThread } from './serving.ts';
import type { PoolThreadData } from './threads.ts';

interface Queue {
  readonly walker: ChainWalker;
  ringVersion: number;
}

/** A session that has had something done here. */
interface Session {
  readonly serving: Serving;
  queues: Queue[];
  memoryVersion: number;
}

const data = workerData as PoolThreadData;
const leave = new Alive(data.alive).count();
const thread = await ServingThread.start(data);
const jobs = new PoolJobs(
  data.pool,
  data.sessions.map((each) => each.pool),
);
const chain = new Chain();
const sessions: Session[] = [];

/** Follows what has changed since the session's last chain. Throws QueueError on rings that are in no memory. */
function follow(session: Session): ChainWalker {
  const { mirror } = session.serving;
  if (jobs.memoryVersion !== session.memoryVersion) {
    // All anew: what lies where another region lay before is no longer told from it.
    mirror.set([]);
    mirror.set(jobs.regions());
    session.memoryVersion = jobs.memoryVersion;
    session.queues = [];
  }
  session.queues[jobs.queue] ??= { walker: new ChainWalker(mirror.memory), ringVersion: 0 };
  const queue = session.queues[jobs.queue];
  if (queue.ringVersion !== jobs.ringVersion) {
    const size = jobs.ringSize;
    queue.walker.start(mapDescriptors(mirror.memory, jobs.descriptorTable, size), size, jobs.indirect);
    queue.ringVersion = jobs.ringVersion;
  }
  return queue.walker;
}

function serve(): number {
  const { session: index, queue } = jobs;
  sessions[index] ??= { serving: thread.open(data.sessions[index]), queues: [], memoryVersion: 0 };
  const session = sessions[index];
  const error = follow(session).walk(chain, jobs.head);
  if (error === '') return session.serving.gate.serve(chain, false, false);
  session.serving.warn(`queue ${queue}: a request is dropped: ${error}`);
  return 0;
}

try {
  while (jobs.next()) jobs.done(serve());
} finally {
  leave();
  park();
}
