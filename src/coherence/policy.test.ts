import assert from 'node:assert/strict';
import { test } from 'node:test';

import { cachePolicy } from './policy.ts';

test('writes are collected only in a cache for data', () => {
  assert.deepEqual(
    (['never', 'metadata', 'auto', 'always'] as const).map((mode) => cachePolicy(mode, { writeback: true }).writeback),
    [false, false, true, true],
  );
});

test('a mode has its own times, and what is set by hand comes first', () => {
  assert.equal(cachePolicy('never').entryTtlMs, 0);
  assert.equal(cachePolicy('auto').attributeTtlMs, 1000);
  assert.equal(cachePolicy('metadata').entryTtlMs, 86_400_000);
  assert.equal(cachePolicy('metadata').directIo, true);
  const byHand = cachePolicy('always', { entryTtlMs: 5, negativeTtlMs: undefined });
  assert.deepEqual([cachePolicy('never').walkAttributes, byHand.walkAttributes], [true, true]);
  assert.equal(cachePolicy('never', { attributeTtlMs: 0 }).walkAttributes, false, 'whoever says 0 means 0');
  assert.deepEqual([byHand.entryTtlMs, byHand.attributeTtlMs, byHand.negativeTtlMs], [5, 86_400_000, 0]);
});
