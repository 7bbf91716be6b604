/** How many messages common operations may take, in each cache mode: fewer is better, more is a regression. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { countMessages, OPERATIONS } from '../bench/operations.ts';

/** never, metadata, auto, always. */
const MOST: Record<string, readonly [number, number, number, number]> = {
  'create+write+close': [8, 5, 5, 5],
  'stat, known': [4, 0, 0, 0],
  'stat, expired': [4, 0, 2, 0],
  'cat small, first': [7, 4, 4, 3],
  'cat small, again': [7, 3, 3, 0],
  mv: [10, 3, 3, 3],
  rm: [11, 1, 1, 1],
  'ls -l 100, first': [413, 9, 9, 8],
  'ls -l 100, again': [413, 0, 9, 0],
  'ls -l 100, expired': [413, 0, 10, 0],
  'cat 100, first': [718, 390, 390, 190],
  'cat 100, again': [718, 302, 390, 0],
  append: [8, 3, 3, 1],
  'cp 3 MB': [95, 80, 80, 55],
};

for (const [i, cache] of ['never', 'metadata', 'auto', 'always'].entries()) {
  test(`with --cache ${cache} no operation takes more messages than it did`, async () => {
    const counted = await countMessages(cache);
    const over = OPERATIONS.filter(({ name }) => (counted.get(name) ?? 0) > MOST[name][i]);
    assert.deepEqual(
      over.map(({ name }) => `${name}: ${counted.get(name)} instead of ${MOST[name][i]}`),
      [],
    );
  });
}
