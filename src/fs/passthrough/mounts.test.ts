import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';

import { eventfd } from '../../sys/index.ts';
import { InodeNumbers } from './inode-numbers.ts';
import { MOUNT_FILES, MOUNT_REOPENS, Mounts } from './mounts.ts';

const MOST = 4096;

test('a mount is told by device and id, and forgotten with its last hold', () => {
  const mounts = new Mounts(Mounts.create());
  const descriptors = readdirSync('/proc/self/fd').length;
  const first = mounts.add(5, 1, 0, eventfd(), MOUNT_REOPENS);
  const second = mounts.add(5, 2, 0, -1, 0);
  assert.deepEqual([first, second, mounts.count], [1, 2, 2]);
  assert.equal(mounts.find(second, 5, 1, 0), first);
  assert.equal(mounts.find(first, 5, 2, 0), second);
  assert.equal(mounts.find(first, 6, 1, 0), 0);
  assert.equal(mounts.find(first, 5, 1, 1), 0);
  assert.deepEqual([mounts.reopens(first), mounts.reopens(second)], [true, false]);
  assert.equal(mounts.add(5, 1, 0, eventfd(), 0), first, 'a mount that is there is held once more');
  assert.equal(readdirSync('/proc/self/fd').length, descriptors + 1, 'and the second descriptor is not needed');
  mounts.release(first);
  assert.equal(mounts.find(0, 5, 1, 0), first);
  mounts.release(first);
  assert.equal(mounts.findAndHold(first, 5, 1, 0), 0, 'not even when it is asked for by its index');
  assert.equal(readdirSync('/proc/self/fd').length, descriptors);
  assert.equal(mounts.add(7, 7, 7, -1, 0), first, 'its place is taken by the next');
  assert.equal(mounts.is(first, 5, 1, 0), false);
  mounts.closeAll();
});

test('there is room for 4096 mounts, and again for one when one has gone', () => {
  const mounts = new Mounts(Mounts.create());
  for (let id = 1; id <= MOST; id += 1) assert.equal(mounts.add(9, id, 0, -1, 0), id);
  const descriptors = readdirSync('/proc/self/fd').length;
  assert.equal(mounts.add(9, MOST + 1, 0, eventfd(), 0), 0);
  assert.equal(readdirSync('/proc/self/fd').length, descriptors, 'the descriptor of the refused one is closed');
  assert.equal(mounts.find(1, 9, MOST, 0), MOST);
  mounts.release(1234);
  assert.equal(mounts.add(9, MOST + 1, 0, -1, 0), 1234);
  assert.equal(mounts.count, MOST);
});

test('every kind of inode numbers gets 16 bits of its own, and keeps them, until all are given', () => {
  const shared = InodeNumbers.create();
  const numbers = new InodeNumbers(shared);
  numbers.setOwnDevice(0x800001);
  assert.equal(numbers.prefix(0x800001, 0, false), 0, 'the share keeps its numbers');
  const given = new Map<string, number>();
  for (let device = 1; given.size < 65_535; device += 1) {
    for (const high of [0, 1, 0xffff]) {
      if (given.size < 65_535) given.set(`${device} ${high}`, numbers.prefix(device, high, false));
    }
  }
  assert.equal(new Set(given.values()).size, 65_535);
  assert.ok(!given.values().some((prefix) => prefix < 1 || prefix > 65_535));
  assert.equal(numbers.prefix(-5, 0, false), -1);
  assert.equal(numbers.prefix(1, 1, true), -1);
  const elsewhere = new InodeNumbers(shared);
  for (const [pair, prefix] of given) {
    const [device, high] = pair.split(' ').map(Number);
    assert.equal(elsewhere.prefix(device, high, false), prefix);
  }
});

test('an inode number is shown as it is, but for what is seen on a device that is not its own', () => {
  const mounts = new Mounts(Mounts.create());
  mounts.setOwnDevice(1);
  const own = mounts.add(1, 1, 0, -1, 0);
  const other = mounts.add(2, 1, 0, -1, 0, 42, 5);
  const files = mounts.add(3, 1, 0, -1, MOUNT_FILES, 7, 0);
  const shown = (mount: number, announced: boolean, hi: number): string => {
    const words = new Uint32Array([0, 42, hi]);
    mounts.showInode(mount, announced, words, 1);
    assert.equal(words[0], 0);
    return `${words[2].toString(16)}:${words[1]}`;
  };
  assert.equal(shown(own, false, 0x7777), '7777:42');
  assert.equal(shown(own, true, 0x12345678), '12345678:42');
  assert.equal(shown(other, true, 0), '0:42');
  assert.equal(shown(other, false, 0), '10000:42');
  assert.equal(shown(other, false, 5), '10005:42', 'in a guest with one device a root is like the rest');
  assert.equal(shown(other, true, 5), '30005:42', 'else it is seen on another device at first');
  assert.equal(shown(files, true, 5), '40005:42', 'as files always are');
  assert.equal(shown(own, false, 0x12340001), '50001:42');
  mounts.closeAll();
});
