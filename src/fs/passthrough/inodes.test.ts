import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';

import { ESTALE } from '../../core/index.ts';
import { AT_FDCWD, coldString, O_PATH, O_RDONLY, openat } from '../../sys/index.ts';
import { canReopen } from './file-handle.ts';
import { Inodes, ROOT_SLOT } from './inodes.ts';
import { Lookups } from './lookups.ts';
import { MOUNT_REOPENS } from './mounts.ts';

// A worker that ends while TurboFan compiles its FFI calls in the background crashes Node (see `park` in src/server).
setFlagsFromString('--no-concurrent-recompilation');

const S_IFREG = 0o100000;
let folder = '';
let mountFd = -1;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtiofs-inodes-'));
  mountFd = openat(AT_FDCWD, coldString(folder), O_RDONLY, 0);
});
after(() => rmSync(folder, { recursive: true, force: true }));

const openPath = (path: string): number => openat(AT_FDCWD, coldString(path), O_PATH, 0);

/** A table whose root is the folder, as the export makes it. */
function newTable(maxOpen = 10_000): Inodes {
  const inodes = new Inodes(Inodes.create(maxOpen, 2 * maxOpen, 1 << 16));
  assert.equal(inodes.mounts.add(1, 1, 0, openat(AT_FDCWD, coldString(folder), O_RDONLY, 0), MOUNT_REOPENS), 1);
  const root = inodes.insert(1, 1, 0, 0o040000, openPath(folder));
  assert.equal(root, ROOT_SLOT);
  inodes.pinToSession(root);
  return inodes;
}

/** Puts a file of the folder in the table, held by a session. */
function add(inodes: Inodes, name: string): number {
  writeFileSync(join(folder, name), name);
  const { ino } = statSync(join(folder, name));
  const slot = inodes.insert(1, ino, 0, S_IFREG, openPath(join(folder, name)));
  inodes.pinToSession(slot);
  return slot;
}

test('an inode is found under its device and number, and by nothing else', () => {
  const inodes = newTable();
  const slot = add(inodes, 'a');
  const { ino } = statSync(join(folder, 'a'));
  assert.equal(inodes.find(1, ino, 0), slot);
  assert.equal(inodes.find(2, ino, 0), 0);
  assert.equal(inodes.find(1, ino, 1), 0);
  assert.equal(inodes.find(1, ino + 1, 0), 0);
  inodes.closeAll();
});

test('a slot that nobody holds is freed, and its next life has another generation', () => {
  const inodes = newTable();
  const slot = add(inodes, 'b');
  const generation = inodes.generation(slot);
  const open = inodes.open;
  inodes.dropSession(slot);
  assert.equal(inodes.known, 1);
  assert.equal(inodes.open, open - 1);
  assert.equal(inodes.pin(slot, generation), false);
  assert.equal(add(inodes, 'b'), slot);
  assert.equal(inodes.pin(slot, generation), false);
  assert.equal(inodes.pin(slot, generation + 1), true);
  inodes.closeAll();
});

test('thousands of inodes stay findable while the table grows and shrinks', () => {
  const inodes = newTable();
  const slots = new Map<number, number>();
  for (let ino = 2; ino < 20_000; ino += 1) slots.set(ino, inodes.insert(1, ino, ino % 3, S_IFREG, -1));
  for (const [ino, slot] of slots) {
    assert.equal(inodes.find(1, ino, ino % 3), slot);
    inodes.unpin(slot);
  }
  for (const [ino, slot] of slots) if (ino % 2 === 0) inodes.unpin(slot);
  for (const [ino, slot] of slots) {
    const found = inodes.find(1, ino, ino % 3);
    assert.equal(found, ino % 2 === 0 ? 0 : slot);
    if (found !== 0) inodes.unpin(found);
  }
  assert.equal(inodes.known, 1 + slots.size / 2);
});

test('beyond its bound the table gives descriptors up and opens the same files again', (t) => {
  if (!canReopen(mountFd)) {
    t.skip('this process may not open files by handle: nothing to give up');
    return;
  }
  const inodes = newTable(20);
  const descriptors = readdirSync('/proc/self/fd').length;
  const slots = Array.from({ length: 200 }, (_, i) => add(inodes, `many${i}`));
  assert.ok(inodes.open <= 20 + 16, `${inodes.open} descriptors`);
  assert.ok(readdirSync('/proc/self/fd').length <= descriptors + 36);
  for (const [i, slot] of slots.entries()) {
    assert.equal(inodes.pin(slot, 0), true);
    const fd = inodes.fd(slot);
    assert.ok(fd >= 0);
    assert.equal(statSync(`/proc/self/fd/${fd}`).ino, statSync(join(folder, `many${i}`)).ino);
    inodes.unpin(slot);
  }
  inodes.closeAll();
});

test('a pinned inode keeps its descriptor', (t) => {
  if (!canReopen(mountFd)) {
    t.skip('this process may not open files by handle: nothing to give up');
    return;
  }
  const inodes = newTable();
  const slot = add(inodes, 'pinned');
  inodes.pin(slot, 0);
  const fd = inodes.fd(slot);
  assert.equal(inodes.closeSome(), 0);
  assert.equal(inodes.fd(slot), fd);
  inodes.unpin(slot);
  assert.equal(inodes.closeSome(), 1);
  assert.equal(inodes.isClosed(slot), true);
  inodes.closeAll();
});

test('a file that vanished while its descriptor was given up is stale, also when its number lives on', (t) => {
  if (!canReopen(mountFd)) {
    t.skip('this process may not open files by handle: nothing to give up');
    return;
  }
  const inodes = newTable();
  const slot = add(inodes, 'gone');
  const { ino } = statSync(join(folder, 'gone'));
  assert.equal(inodes.closeSome(), 1);
  unlinkSync(join(folder, 'gone'));
  assert.equal(inodes.pin(slot, 0), true);
  assert.equal(inodes.fd(slot), -ESTALE);
  assert.equal(inodes.find(1, ino, 0), slot);
  inodes.unpin(slot);
  inodes.orphan(slot);
  assert.equal(inodes.find(1, ino, 0), 0);
  inodes.unpin(slot);
  inodes.dropSession(slot);
  assert.equal(inodes.known, 1);
  inodes.closeAll();
});

test('a session knows what it was given, as often as it was given', () => {
  const inodes = newTable();
  const mine = new Lookups(Lookups.create(1 << 16), inodes);
  const theirs = new Lookups(Lookups.create(1 << 16), inodes);
  const slot = inodes.insert(1, 77, 0, S_IFREG, openPath(folder));
  mine.add(slot);
  assert.equal(theirs.pin(slot, 0), 0, 'another session does not know it');
  inodes.pin(slot, 0);
  mine.add(slot);
  mine.forget(slot, 0, 1);
  assert.equal(mine.pin(slot, 0), slot);
  inodes.unpin(slot);
  mine.forget(slot, 0, 1);
  assert.equal(mine.pin(slot, 0), 0);
  assert.equal(inodes.known, 1);
  inodes.closeAll();
});

test('a forget of more than was given takes no more than that', () => {
  const inodes = newTable();
  const lookups = new Lookups(Lookups.create(1 << 16), inodes);
  const slot = inodes.insert(1, 78, 0, S_IFREG, openPath(folder));
  lookups.add(slot);
  lookups.forget(slot, 0, 2 ** 63);
  lookups.forget(slot, 0, 2 ** 63);
  lookups.forget(ROOT_SLOT, 0, 2 ** 63);
  assert.equal(inodes.known, 1);
  assert.equal(lookups.pin(ROOT_SLOT, 0), ROOT_SLOT);
});

test('several threads look the same inodes up and forget them, and nothing is lost or left', async () => {
  const shared = Inodes.create(10_000, 20_000, 1 << 16);
  const counts = Lookups.create(1 << 16);
  const inodes = new Inodes(shared);
  inodes.pinToSession(inodes.insert(1, 1, 0, 0o040000, openPath(folder)));
  const source = `
    const { workerData } = require('node:worker_threads');
    Promise.all(workerData.modules.map((each) => import(each))).then(([{ Inodes }, { Lookups }, sys]) => {
      const inodes = new Inodes(workerData.shared);
      const lookups = new Lookups(workerData.counts, inodes);
      for (let i = 0; i < 20000; i += 1) {
        const ino = 2 + (i * workerData.step) % 50;
        let slot = inodes.find(1, ino, 0);
        if (slot === 0) slot = inodes.insert(1, ino, 0, ${S_IFREG}, sys.duplicate(workerData.fd));
        const generation = inodes.generation(slot);
        lookups.add(slot);
        lookups.forget(slot, generation, 1);
      }
    });`;
  const url = (path: string): string => new URL(path, import.meta.url).href;
  const modules = [url('./inodes.ts'), url('./lookups.ts'), url('../../sys/index.ts')];
  const descriptors = readdirSync('/proc/self/fd').length;
  const workers = [1, 7, 13].map((step) => {
    return new Worker(source, { eval: true, workerData: { modules, shared, counts, step, fd: mountFd } });
  });
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.on('exit', resolve))));
  assert.equal(inodes.known, 1);
  assert.equal(inodes.open, 1);
  assert.ok(readdirSync('/proc/self/fd').length <= descriptors);
});
