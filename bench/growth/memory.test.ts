import assert from 'node:assert/strict';
import { test } from 'node:test';

import { memoryOf, parseRollup } from './memory.ts';

const ROLLUP = `55d0c0000000-7ffc00000000 ---p 00000000 00:00 0                          [rollup]
Rss:                1000 kB
Pss:                 700 kB
Pss_Dirty:           300 kB
Pss_Anon:            250 kB
Pss_File:            350 kB
Pss_Shmem:           100 kB
Shared_Clean:        600 kB
`;

test('own memory is the share of all pages but those of shared memory', () => {
  assert.deepEqual(parseRollup(ROLLUP), { rssBytes: 1_024_000, pssBytes: 716_800, ownBytes: 614_400 });
});

test('a kernel that does not tell shared memory apart is refused', () => {
  assert.throws(() => parseRollup(ROLLUP.replace('Pss_Shmem', 'Other')), /Pss_Shmem: it takes Linux 5\.9/);
});

test('processes are added up', () => {
  const one = memoryOf([process]);
  const two = memoryOf([process, process]);
  assert.ok(one.ownBytes > 0 && two.ownBytes > one.ownBytes && two.rssBytes > one.rssBytes);
});
