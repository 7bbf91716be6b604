/** The lookup counts of a session, with two of its threads at exactly the wrong moment. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Inodes } from '../src/fs/passthrough/inodes.ts';
import { Lookups } from '../src/fs/passthrough/lookups.ts';
import { eventfd } from '../src/sys/index.ts';

const S_IFREG = 0o100000;
const CAPACITY = 1024;

/** An inode table that calls `other` just before it does `method`, once: another thread comes in between. */
function interrupted(inodes: Inodes, method: 'pinToSession' | 'dropSession', other: () => void): Inodes {
  let done = false;
  return new Proxy(inodes, {
    get(target, name: keyof Inodes) {
      const value: unknown = target[name];
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        if (name === method && !done) {
          done = true;
          other();
        }
        return Reflect.apply(value, target, args) as unknown;
      };
    },
  });
}

interface Scene {
  readonly inodes: Inodes;
  readonly lookups: Lookups;
  /** The view of a thread that is interrupted just before it does `method`. */
  readonly slow: (method: 'pinToSession' | 'dropSession', other: () => void) => Lookups;
  /** Does what the interrupting thread was kept from by a lock. */
  readonly finish: () => void;
  /** A pinned inode that no session knows. */
  readonly slot: number;
}

function newScene(): Scene {
  const inodes = new Inodes(Inodes.create(CAPACITY, 2 * CAPACITY, CAPACITY));
  inodes.pinToSession(inodes.insert(1, 1, 0, 0o040000, eventfd()));
  const shared = Lookups.create(CAPACITY);
  let waiting = (): void => undefined;
  // A thread that finds a lock taken comes later.
  const orLater = (other: () => void) => (): void => {
    if (new Int32Array(shared.locks).every((each) => each === 0)) other();
    else waiting = other;
  };
  return {
    inodes,
    lookups: new Lookups(shared, inodes),
    slow: (method, other) => new Lookups(shared, interrupted(inodes, method, orLater(other))),
    finish: () => waiting(),
    slot: inodes.insert(1, 2, 0, S_IFREG, eventfd()),
  };
}

test('an inode that is forgotten while it is being looked up for the first time is freed', () => {
  const { inodes, lookups, slow, finish, slot } = newScene();
  // A guest can guess the node id before it is told.
  slow('pinToSession', () => lookups.forget(slot, 0, 1)).add(slot);
  finish();
  assert.equal(lookups.pin(slot, 0), 0, 'it is not known any more');
  assert.deepEqual([inodes.known, inodes.open], [1, 1]);
});

test('an inode that is looked up again while it is being forgotten stays, and goes with the next forget', () => {
  const { inodes, lookups, slow, finish, slot } = newScene();
  lookups.add(slot);
  const again = (): void => {
    assert.equal(inodes.find(1, 2, 0), slot);
    lookups.add(slot);
  };
  slow('dropSession', again).forget(slot, 0, 1);
  finish();
  assert.equal(lookups.pin(slot, 0), slot, 'it is known');
  inodes.unpin(slot);
  assert.equal(inodes.known, 2);
  lookups.forget(slot, 0, 1);
  assert.deepEqual([inodes.known, inodes.open], [1, 1]);
});

test('an inode that two threads forget at once is freed once', () => {
  const { inodes, lookups, slow, finish, slot } = newScene();
  lookups.add(slot);
  slow('dropSession', () => lookups.forget(slot, 0, 1)).forget(slot, 0, 1);
  finish();
  assert.deepEqual([inodes.known, inodes.open], [1, 1]);
});
