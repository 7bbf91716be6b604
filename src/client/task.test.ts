import assert from 'node:assert/strict';
import { test } from 'node:test';

import { all, finished, join, Latch, promised, start, type Task } from './task.ts';

function* answer<T>(latch: Latch, value: T): Task<T> {
  yield latch;
  return value;
}

function* failing(latch: Latch): Task<never> {
  yield latch;
  throw new Error('no luck');
}

test('a task goes on when what it waits for has happened, and not before', () => {
  const latch = new Latch();
  const running = start(answer(latch, 5));
  assert.equal(running.settled, false);
  assert.throws(() => running.result, /has not ended/);
  latch.settle();
  assert.equal(running.result, 5);
});

test('a task is awaited, or run to its end by a caller who blocks', async () => {
  const latch = new Latch();
  const promise = promised(answer(latch, 'later'));
  assert.equal(
    finished(answer(latch, 'now'), () => latch.settle()),
    'now',
  );
  assert.equal(await promise, 'later');
  await assert.rejects(promised(failing(latch)), /no luck/);
  assert.throws(() => finished(failing(new Latch()), () => assert.fail('idle')), /idle/);
});

test('tasks that run side by side have all ended before one of them fails the whole', () => {
  const [first, second] = [new Latch(), new Latch()];
  const running = start(all([failing(first), answer(second, 2)]));
  first.settle();
  assert.equal(running.settled, false);
  second.settle();
  assert.throws(() => running.result, /no luck/);
});

test('a task waits for another that was started before', () => {
  const latch = new Latch();
  const other = start(answer(latch, 7));
  const running = start(join(other));
  latch.settle();
  assert.equal(running.result, 7);
});
