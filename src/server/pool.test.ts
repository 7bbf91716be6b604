import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { close, drainEventfd, eventfd, waitReadable } from '../sys/index.ts';
import { createPool, createPoolSession, endPool, PoolClient, PoolJobs, setPoolMemory } from './pool.ts';

const wakeFd = eventfd();
after(() => close(wakeFd));

/** Two queues of a session with a pool, and a thread of it; how many threads were asked for. */
function makePool(size: number): { one: PoolClient; two: PoolClient; jobs: PoolJobs; spawned: () => number } {
  const shared = createPool(size);
  const session = createPoolSession(0);
  let count = 0;
  const spawn = (): void => {
    count += 1;
  };
  const [one, two] = [1, 2].map((queue) => new PoolClient(shared, session, queue, wakeFd, spawn));
  return { one, two, jobs: new PoolJobs(shared, [session]), spawned: () => count };
}

test('a chain goes to a thread and comes back to its queue, with its length', () => {
  const { one, two, jobs } = makePool(2);
  assert.equal(one.offer(7), true);
  assert.equal(two.offer(7), true);
  assert.equal(one.collect(), false);
  assert.equal(jobs.next(), true);
  assert.deepEqual([jobs.queue, jobs.head], [1, 7]);
  jobs.done(100);
  assert.equal(waitReadable(wakeFd, 0), true);
  drainEventfd(wakeFd);
  assert.equal(two.collect(), false);
  assert.equal(one.collect(), true);
  assert.deepEqual([one.head, one.length, one.underWay, two.underWay], [7, 100, 0, 1]);
  assert.equal(one.collect(), false);
  assert.equal(one.awaitOne(), false, 'nothing is under way');
});

test('no more is handed over than there is room for, and without threads nothing is', () => {
  const { one, two } = makePool(1);
  let taken = 0;
  while (one.offer(taken)) taken += 1;
  assert.equal(taken, 256);
  assert.equal(two.offer(0), false);
  assert.equal(one.takeBack(), 0);
  assert.equal(two.offer(0), true);
  assert.equal(makePool(0).one.offer(1), false);
});

test('the rings go round', () => {
  const { one, jobs } = makePool(1);
  for (let i = 0; i < 1000; i += 1) {
    assert.equal(one.offer(i), true);
    assert.equal(jobs.next(), true);
    assert.equal(jobs.head, i);
    jobs.done(2 * i);
    assert.equal(one.awaitOne(), true);
    assert.deepEqual([one.head, one.length], [i, 2 * i]);
  }
});

test('a thread is asked for when all are busy, up to the size of the pool', () => {
  const { one, two, spawned } = makePool(3);
  one.offer(1);
  assert.equal(spawned(), 1);
  two.offer(2);
  one.offer(3);
  one.offer(4);
  assert.equal(spawned(), 3);
});

test('what no thread has taken is taken back by its queue, and the others keep their order', () => {
  const { one, two, jobs } = makePool(1);
  for (const [queue, head] of [
    [one, 1],
    [two, 2],
    [one, 3],
    [two, 4],
    [one, 5],
  ] as const) {
    queue.offer(head);
  }
  jobs.next();
  assert.deepEqual([one.takeBack(), one.takeBack(), one.takeBack()], [3, 5, -1]);
  assert.deepEqual([one.underWay, two.underWay], [1, 2]);
  jobs.done(0);
  assert.equal(one.awaitOne(), true);
  for (const head of [2, 4]) {
    jobs.next();
    assert.deepEqual([jobs.queue, jobs.head], [2, head]);
    jobs.done(0);
  }
});

test('sessions share the threads, and each gets its own back', () => {
  const shared = createPool(1);
  const sessions = [createPoolSession(0), createPoolSession(1)];
  const clients = sessions.map((session) => new PoolClient(shared, session, 1, wakeFd, () => undefined));
  const jobs = new PoolJobs(shared, sessions);
  setPoolMemory(sessions[1], [{ guestAddress: 0, sizeBytes: 4096, userAddress: 0, hostAddress: 8192 }]);
  for (const [i, client] of clients.entries()) client.offer(10 + i);
  assert.equal(jobs.next(), true);
  assert.deepEqual([jobs.session, jobs.head, jobs.regions().length], [0, 10, 0]);
  assert.equal(clients[0].takeBack(), -1, 'it is at work');
  assert.equal(clients[1].takeBack(), 11);
  clients[1].offer(12);
  jobs.done(100);
  assert.equal(clients[1].collect(), false);
  assert.equal(clients[0].collect(), true);
  assert.equal(jobs.next(), true);
  assert.deepEqual([jobs.session, jobs.head, jobs.regions().length], [1, 12, 1]);
});

test('threads see the rings and the memory as they are', () => {
  const shared = createPool(1);
  const session = createPoolSession(0);
  const client = new PoolClient(shared, session, 3, wakeFd, () => undefined);
  const jobs = new PoolJobs(shared, [session]);
  const regions = [
    { guestAddress: 2 ** 33, sizeBytes: 4096, userAddress: 2 ** 46, hostAddress: 2 ** 47 - 4096 },
    { guestAddress: 0, sizeBytes: 2 ** 30, userAddress: 1, hostAddress: 2 ** 40 },
  ];
  const version = jobs.memoryVersion;
  setPoolMemory(session, regions);
  assert.notEqual(jobs.memoryVersion, version);
  assert.deepEqual(jobs.regions(), regions);
  const ring = { size: 128, descriptorTable: 2 ** 46 + 16, availableRing: 0, usedRing: 0, nextAvailable: 0 };
  const fds = { kickFd: wakeFd, callFd: wakeFd };
  client.start({ ...ring, ...fds, eventIdx: true, indirect: true });
  client.offer(1);
  jobs.next();
  const before = jobs.ringVersion;
  assert.deepEqual([jobs.descriptorTable, jobs.ringSize, jobs.indirect], [2 ** 46 + 16, 128, true]);
  client.start({ ...ring, ...fds, eventIdx: true, indirect: false });
  assert.notEqual(jobs.ringVersion, before);
  assert.equal(jobs.indirect, false);
});

test('a pool that has ended has no more work', () => {
  const shared = createPool(1);
  const session = createPoolSession(0);
  new PoolClient(shared, session, 1, wakeFd, () => undefined).offer(1);
  endPool(shared);
  assert.equal(new PoolJobs(shared, [session]).next(), false);
});
