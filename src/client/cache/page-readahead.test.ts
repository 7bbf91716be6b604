import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Readahead } from './page-readahead.ts';

test('a window begins with four times what a small read asks for, and grows up to the largest', () => {
  const readahead = new Readahead(32, 256);
  assert.equal(readahead.miss(0, 1), 4);
  assert.equal(readahead.hit(0, 1), undefined);
  assert.deepEqual(readahead.hit(1, 1), { start: 4, count: 8 });
  assert.deepEqual(readahead.hit(4, 1), { start: 12, count: 16 });
  assert.deepEqual(readahead.hit(12, 1), { start: 28, count: 32 });
  assert.deepEqual(readahead.hit(28, 1), { start: 60, count: 32 });
  // Each is asked for once.
  assert.equal(readahead.hit(28, 1), undefined);
});

test('who goes on where a window ends has another, larger one', () => {
  const readahead = new Readahead(32, 32);
  assert.equal(readahead.miss(0, 1), 4);
  assert.equal(readahead.miss(4, 1), 8);
  assert.equal(readahead.miss(12, 3), 16);
  assert.equal(readahead.miss(100, 3), 3);
  assert.equal(readahead.miss(28, 1), 32);
});

test('a read that is larger than the window is read at once, as far as that is allowed', () => {
  const readahead = new Readahead(32, 256);
  assert.equal(readahead.miss(50, 100), 100);
  assert.deepEqual(readahead.hit(50, 100), { start: 150, count: 100 });
  assert.equal(readahead.miss(5000, 1000), 256);
});

test('without a window what is asked for is read, and nothing beside', () => {
  const readahead = new Readahead(0, 4);
  assert.deepEqual([readahead.miss(0, 1), readahead.miss(1, 3), readahead.miss(4, 9)], [1, 3, 4]);
  for (const index of [0, 1, 2, 3, 4]) assert.equal(readahead.hit(index, 1), undefined);
});
