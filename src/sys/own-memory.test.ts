import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { type TestContext, test } from 'node:test';

import {
  close,
  ftruncate,
  mapAt,
  memfd,
  munmap,
  readMemory,
  reserveAddresses,
  SysError,
  writeMemory,
} from './index.ts';

const PAGE = 4096;

/** Three pages of addresses, of which two are those of a file. */
function window(t: TestContext): { address: number; fd: number } {
  const address = reserveAddresses(3 * PAGE);
  const fd = memfd('file', 2 * PAGE);
  mapAt(address, fd, 2 * PAGE, 0);
  t.after(() => {
    munmap(address, 3 * PAGE);
    close(fd);
  });
  return { address, fd };
}

test('a copy begins and ends at any byte, of memory and of the buffer', (t) => {
  const { address } = window(t);
  assert.equal(writeMemory(address + PAGE - 2, Uint8Array.of(0, 1, 2, 3, 4), 1, 4), 4);
  const into = new Uint8Array(6).fill(9);
  assert.equal(readMemory(address + PAGE - 3, into, 1, 4), 4);
  assert.deepEqual(into, Uint8Array.of(9, 0, 1, 2, 3, 9));
});

test('a copy ends with the last page that is there, and the process goes on', (t) => {
  const { address, fd } = window(t);
  const bytes = new Uint8Array(3 * PAGE);
  assert.equal(readMemory(address, bytes, 0, 3 * PAGE), 2 * PAGE);
  assert.equal(writeMemory(address + 1, bytes, 0, 3 * PAGE), 2 * PAGE - 1);
  assert.equal(ftruncate(fd, 1, 0), 0);
  assert.equal(readMemory(address, bytes, 0, 3 * PAGE), PAGE);
  assert.equal(writeMemory(address + PAGE, bytes, 0, 1), 0);
});

test('what is read into small buffers is there, whatever is collected meanwhile', (t) => {
  const { address } = window(t);
  writeMemory(address, Uint8Array.of(1, 2, 3), 0, 3);
  const all = Array.from({ length: 20_000 }, () => new Uint8Array(3));
  for (const each of all) readMemory(address, each, 0, 3);
  for (const each of all) assert.deepEqual([...each], [1, 2, 3]);
});

test('what was mapped stays when something else cannot be mapped over it', (t) => {
  const { address } = window(t);
  writeMemory(address, Uint8Array.of(1), 0, 1);
  // The kernel asks such a file only when it has made room.
  const fd = openSync('/sys/kernel/uevent_seqnum', 'r');
  assert.throws(() => mapAt(address, fd, PAGE, 0, false), SysError);
  closeSync(fd);
  const into = new Uint8Array(1);
  readMemory(address, into, 0, 1);
  assert.deepEqual(into, Uint8Array.of(1));
});

test('what may only be read is not written', (t) => {
  const { address, fd } = window(t);
  mapAt(address, fd, PAGE, 0, false);
  assert.equal(writeMemory(address, Uint8Array.of(1), 0, 1), 0);
});
