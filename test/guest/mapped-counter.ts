/**
 * In a guest: adds to a counter in a mapped page. `node mapped-counter.ts FILE COUNT [GUESTS]` begins when all of so
 * many guests have come to the second word, if that is given.
 */
import { openSync } from 'node:fs';

import { mapShared, viewMemory } from '../../src/sys/index.ts';

const [path, count, others] = process.argv.slice(2);
const PAGE_BYTES = 4096;
const words = new Int32Array(viewMemory(mapShared(openSync(path, 'r+'), PAGE_BYTES, 0), PAGE_BYTES));
if (others !== undefined) {
  Atomics.add(words, 1, 1);
  while (Atomics.load(words, 1) < Number(others));
}
for (let i = 0; i < Number(count); i += 1) Atomics.add(words, 0, 1);
console.log('done');
