/** A thread of a session's pool: does what may sleep for long, chain by chain, and leaves the rings alone. */
import { workerData } from 'node:worker_threads';

import { Chain, ChainWalker, mapDescriptors } from '../virtio/index.ts';
import { PoolJobs } from './pool.ts';
import { countAlive, park, startServing } from './serving.ts';
import type { PoolData } from './threads.ts';

const data = workerData as PoolData;
const leave = countAlive(data.alive);
const { mirror, gate, warn } = await startServing(data);
const jobs = new PoolJobs(data.pool);
const chain = new Chain();

interface Queue {
  readonly walker: ChainWalker;
  ringVersion: number;
}

const queues: Queue[] = [];
let memoryVersion = 0;

/** Follows what has changed since the last chain. Throws QueueError on rings that are in no memory. */
function follow(): ChainWalker {
  if (jobs.memoryVersion !== memoryVersion) {
    // All anew: what lies where another region lay before is no longer told from it.
    mirror.set([]);
    mirror.set(jobs.regions());
    memoryVersion = jobs.memoryVersion;
    queues.length = 0;
  }
  queues[jobs.queue] ??= { walker: new ChainWalker(mirror.memory), ringVersion: 0 };
  const queue = queues[jobs.queue];
  if (queue.ringVersion !== jobs.ringVersion) {
    const size = jobs.ringSize;
    queue.walker.start(mapDescriptors(mirror.memory, jobs.descriptorTable, size), size, jobs.indirect);
    queue.ringVersion = jobs.ringVersion;
  }
  return queue.walker;
}

function serve(): number {
  const error = follow().walk(chain, jobs.head);
  if (error === '') return gate.serve(chain, false, false);
  warn(`queue ${jobs.queue}: a request is dropped: ${error}`);
  return 0;
}

try {
  while (jobs.next()) jobs.done(serve());
} finally {
  leave();
  park();
}
