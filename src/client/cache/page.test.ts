import assert from 'node:assert/strict';
import { test } from 'node:test';

import { asOnePiece, PageMemory } from './page.ts';

const refuse = (): never => assert.fail('nobody asks the file');
const holder = { evict: refuse, startWriteBack: refuse, settle: refuse };

test('pages that are taken one behind the other lie so in memory, and others are no one piece', () => {
  const memory = new PageMemory(4);
  const pages = [0, 1, 2, 3, 4, 5].map((index) => memory.take(holder, index));
  pages.forEach((page, i) => page.bytes().fill(i + 1));
  assert.deepEqual(
    asOnePiece(pages.slice(1, 4))?.filter((_, i) => i % 4096 === 0),
    Uint8Array.of(2, 3, 4),
  );
  assert.equal(asOnePiece([pages[0], pages[2]]), undefined);
  // The second slot of one slab behind the first of another.
  assert.equal(asOnePiece([pages[0], pages[5]]), undefined);
  assert.deepEqual(pages[1].bytes(10, 12), Uint8Array.of(2, 2));
});

test('what was given back is taken again before there is more memory', () => {
  const memory = new PageMemory(4);
  const pages = [0, 1, 2, 3, 4].map((index) => memory.take(holder, index));
  memory.give(pages[2]);
  memory.give(pages[0]);
  assert.equal(memory.used, 3);
  const more = [5, 6, 7, 8, 9].map((index) => memory.take(holder, index));
  assert.deepEqual(new Set([...pages, ...more].map(({ slab }) => slab)).size, 2);
  assert.equal(memory.used, 8);
});

test('a slab of which nothing is in use is let go', () => {
  const memory = new PageMemory(4);
  const page = memory.take(holder, 0);
  memory.give(page);
  assert.equal(memory.used, 0);
  assert.notEqual(memory.take(holder, 0).slab, page.slab);
});
