import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';

import { close, drainEventfd, eventfd, waitReadable } from '../sys/index.ts';
import { QueueWaits, Waits, Wakers } from './waits.ts';

const fds: number[] = [];
function newEventfd(): number {
  const fd = eventfd();
  fds.push(fd);
  return fd;
}
afterEach(() => {
  for (const fd of fds.splice(0)) close(fd);
});

/** Whether it was woken since it was last asked. */
function wasWoken(fd: number): boolean {
  const woken = waitReadable(fd, 0);
  if (woken) drainEventfd(fd);
  return woken;
}

test('what is released wakes those who wait, and nobody else', () => {
  const shared = Wakers.create();
  const wakers = new Wakers(shared);
  const [one, two, three] = [newEventfd(), newEventfd(), newEventfd()];
  wakers.wake();
  wakers.add(one);
  wakers.add(two);
  new Wakers(shared).wake();
  assert.deepEqual([one, two, three].map(wasWoken), [true, true, false]);
  wakers.remove(one);
  wakers.remove(three);
  wakers.wake();
  assert.deepEqual([one, two, three].map(wasWoken), [false, true, false]);
  wakers.remove(two);
  wakers.wake();
  assert.deepEqual([one, two, three].map(wasWoken), [false, false, false]);
});

test('requests wait in order, each queue its own', () => {
  const waits = new Waits(Waits.create());
  const [one, two] = [new QueueWaits(waits, 1, newEventfd()), new QueueWaits(waits, 2, newEventfd())];
  for (const head of [7, 3, 9]) one.add(head, head, 0, one.drops);
  two.add(7, 100, 0, two.drops);
  assert.deepEqual([one.count, two.count, waits.count], [3, 1, 4]);
  assert.deepEqual([one.head(0), one.head(1), one.head(2)], [7, 3, 9]);
  assert.equal(one.has(3), true);
  assert.equal(two.has(3), false);
  assert.equal(one.remove(1, one.drops), true);
  assert.deepEqual([one.count, one.head(0), one.head(1)], [2, 7, 9]);
  assert.equal(one.has(3), false);
});

test('an interrupt marks the request that it names, and wakes its queue alone', () => {
  const waits = new Waits(Waits.create());
  const [fdOne, fdTwo] = [newEventfd(), newEventfd()];
  const [one, two] = [new QueueWaits(waits, 1, fdOne), new QueueWaits(waits, 64, fdTwo)];
  one.add(1, 5, 6, one.drops);
  two.add(1, 6, 5, two.drops);
  two.add(2, 5, 7, two.drops);
  waits.interrupt(5, 7);
  assert.deepEqual([one.isInterrupted(0), two.isInterrupted(0), two.isInterrupted(1)], [false, false, true]);
  assert.deepEqual([fdOne, fdTwo].map(wasWoken), [false, true]);
});

test('an interrupt that comes first counts for one request, until the session ends', () => {
  const waits = new Waits(Waits.create());
  const queue = new QueueWaits(waits, 1, newEventfd());
  waits.interrupt(5, 7);
  queue.add(1, 5, 6, queue.drops);
  queue.add(2, 5, 7, queue.drops);
  queue.add(3, 5, 7, queue.drops);
  assert.deepEqual([queue.isInterrupted(0), queue.isInterrupted(1), queue.isInterrupted(2)], [false, true, false]);
  waits.interrupt(8, 8);
  waits.dropAll();
  queue.add(1, 8, 8, queue.drops);
  assert.equal(queue.isInterrupted(0), false);
  // Of early ones the last sixteen are remembered.
  for (let unique = 1; unique <= 17; unique += 1) waits.interrupt(unique, 9);
  queue.add(2, 1, 9, queue.drops);
  queue.add(3, 2, 9, queue.drops);
  assert.deepEqual([queue.isInterrupted(1), queue.isInterrupted(2)], [false, true]);
});

test('what was begun before all were dropped neither comes to wait nor is answered', () => {
  const waits = new Waits(Waits.create());
  const queue = new QueueWaits(waits, 1, newEventfd());
  const before = queue.drops;
  queue.add(1, 1, 0, before);
  waits.dropAll();
  assert.equal(queue.count, 0);
  assert.equal(queue.remove(0, before), false);
  queue.add(2, 2, 0, before);
  assert.equal(queue.count, 0);
  queue.add(3, 3, 0, queue.drops);
  assert.equal(queue.count, 1);
  queue.dropAll();
  assert.equal(waits.count, 0);
});
