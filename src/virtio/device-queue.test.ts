import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  Chain,
  DeviceQueue,
  DESCRIPTOR_F_WRITE as WRITE,
  POP_BROKEN,
  POP_CHAIN,
  POP_NOTHING,
  type QueueErrorCode,
  type QueueStart,
} from './index.ts';
import { AVAILABLE, BORDER, DATA, END, RawRings, TABLE, USED } from './testing.ts';

/** Rings whose descriptor i is one writable buffer. */
function simple(size = 8, eventIdx = false, over: Partial<QueueStart> = {}): RawRings {
  const rings = new RawRings(size, eventIdx);
  for (let i = 0; i < size; i += 1) rings.describe(i, { address: DATA + 16 * i, length: 16, flags: WRITE });
  return rings.start(over);
}

function pop(rings: RawRings): number {
  const chain = new Chain(4);
  assert.equal(rings.device.pop(chain), POP_CHAIN, rings.device.lastError);
  return chain.head;
}

/** Offers, pops and pushes one chain; returns whether `publish` asks for an interrupt. */
function round(rings: RawRings, head = 0): boolean {
  rings.offer(head);
  rings.device.push(pop(rings), 16);
  return rings.device.publish();
}

function refusesStart(over: Partial<QueueStart>, code: QueueErrorCode): void {
  const rings = new RawRings(8, true);
  assert.throws(() => rings.start(over), { name: 'QueueError', code });
  assert.equal(rings.device.started, false);
  rings.start();
}

test('a queue needs a size that is a power of two up to 32768', () => {
  for (const size of [0, -8, 3, 6, 65536, 1.5, Number.NaN]) refusesStart({ size }, 'SIZE');
  const rings = new RawRings(1).start();
  rings.describe(0, { address: DATA, length: 1 });
  for (let i = 0; i < 3; i += 1) round(rings);
  assert.equal(rings.usedIndex, 3);
});

test('rings must be aligned as virtio 2.7 says', () => {
  const rings = new RawRings();
  for (const shift of [1, 2, 4, 8]) refusesStart({ descriptorTable: rings.host(TABLE) + shift }, 'ALIGNMENT');
  refusesStart({ availableRing: rings.host(AVAILABLE) + 1 }, 'ALIGNMENT');
  for (const shift of [1, 2]) refusesStart({ usedRing: rings.host(USED) + shift }, 'ALIGNMENT');
  rings.start({ descriptorTable: rings.host(TABLE) + 16, availableRing: rings.host(AVAILABLE) + 2 });
});

test('rings must lie in guest memory, each wholly in one region', () => {
  const rings = new RawRings();
  for (const bad of [-1, 0, Number.NaN, rings.host(BORDER) - 16, rings.host(END - 16)]) {
    refusesStart({ descriptorTable: bad }, 'OUTSIDE');
    refusesStart({ availableRing: bad }, 'OUTSIDE');
    refusesStart({ usedRing: bad }, 'OUTSIDE');
  }
});

test('the event index at the end of a ring is needed only when it was negotiated', () => {
  const availableRing = new RawRings().host(END - 1) + 1 - 20;
  refusesStart({ availableRing }, 'OUTSIDE');
  new RawRings(8, false).start({ availableRing });
});

test('the next available index must be 16 bits', () => {
  for (const nextAvailable of [-1, 65536, 0.5, Number.NaN]) refusesStart({ nextAvailable }, 'INDEX');
});

test('starting a started queue is a bug of ours', () => {
  const rings = simple();
  assert.throws(() => rings.start(), { name: 'AssertionError' });
});

test('a queue that is not started does nothing', () => {
  const { device } = new RawRings();
  assert.equal(device.pop(new Chain(1)), POP_NOTHING);
  assert.equal(device.publish(), false);
  device.disableNotify();
  assert.equal(device.enableNotify(), false);
  assert.equal(device.started, false);
});

test('a queue keeps the index it was made with', () => {
  assert.equal(new DeviceQueue(new RawRings().memory, 5).index, 5);
});

test('chains are taken in the order in which they were offered', () => {
  const rings = simple();
  assert.equal(rings.device.pop(new Chain(1)), POP_NOTHING);
  rings.offer(3, 1);
  rings.offer(7);
  assert.deepEqual([pop(rings), pop(rings), pop(rings)], [3, 1, 7]);
  assert.equal(rings.device.pop(new Chain(1)), POP_NOTHING);
});

test('an entry is not taken before the index covers it', () => {
  const rings = simple();
  rings.entry(0, 5);
  assert.equal(rings.device.pop(new Chain(1)), POP_NOTHING);
  rings.availableIndex = 1;
  assert.equal(pop(rings), 5);
});

test('used elements carry head and exact length, in the order of the pushes, seen only when published', () => {
  const rings = simple();
  rings.offer(3, 1, 7);
  for (let i = 0; i < 3; i += 1) pop(rings);
  rings.device.push(7, 0);
  rings.device.push(3, 16);
  assert.equal(rings.usedIndex, 0);
  rings.device.publish();
  assert.equal(rings.usedIndex, 2);
  rings.device.push(1, 0xffff_ffff);
  rings.device.publish();
  assert.equal(rings.usedIndex, 3);
  assert.deepEqual(
    [0, 1, 2].map((i) => rings.used(i)),
    [
      [7, 0],
      [3, 16],
      [1, 0xffff_ffff],
    ],
  );
});

test('both indices wrap at 65536', () => {
  const rings = simple(4);
  for (let i = 0; i < 65536 + 5; i += 1) round(rings, i & 3);
  assert.equal(rings.usedIndex, 5);
  assert.deepEqual(rings.used(4), [0, 16]);
  assert.equal(rings.device.stop(), 5);
});

test('a head outside the table breaks the queue until it is started again', () => {
  for (const head of [8, 9, 0xffff]) {
    const rings = simple();
    rings.offer(2, head, 1);
    assert.equal(pop(rings), 2);
    assert.equal(rings.device.pop(new Chain(1)), POP_BROKEN);
    assert.match(rings.device.lastError, /outside the table/);
    assert.equal(rings.device.pop(new Chain(1)), POP_BROKEN);
    assert.equal(rings.device.started, true);
    assert.equal(rings.device.enableNotify(), false);
    // What was taken before can still be answered.
    rings.device.push(2, 4);
    rings.device.publish();
    assert.deepEqual(rings.used(0), [2, 4]);
    assert.equal(rings.device.stop(), 1);
    rings.entry(1, 6);
    rings.start({ nextAvailable: 1 });
    assert.deepEqual([pop(rings), pop(rings)], [6, 1]);
  }
});

test('an available index that jumps by more than the queue size breaks the queue', () => {
  for (const index of [9, 0x8000, 0xffff]) {
    const rings = simple();
    rings.availableIndex = index;
    assert.equal(rings.device.pop(new Chain(1)), POP_BROKEN);
    assert.match(rings.device.lastError, /available index/);
  }
  const rings = simple();
  rings.offer(0, 1, 2, 3, 4, 5, 6, 7);
  for (let i = 0; i < 8; i += 1) assert.equal(pop(rings), i);
});

test('a driver that offers more chains than it has descriptors breaks the queue', () => {
  const rings = simple();
  rings.offer(0, 1, 2, 3, 4, 5);
  for (let i = 0; i < 6; i += 1) pop(rings);
  rings.offer(6, 7, 0);
  assert.equal(rings.device.pop(new Chain(1)), POP_BROKEN);
});

test('an index that goes backwards breaks the queue', () => {
  const rings = simple();
  rings.offer(0, 1);
  pop(rings);
  pop(rings);
  rings.availableIndex = 1;
  assert.equal(rings.device.pop(new Chain(1)), POP_BROKEN);
});

test('a push without a pop is a bug of ours', () => {
  const rings = simple();
  assert.throws(() => rings.device.push(0, 0), { name: 'AssertionError' });
  round(rings);
  assert.throws(() => rings.device.push(0, 0), { name: 'AssertionError' });
  rings.offer(1);
  pop(rings);
  assert.throws(() => rings.device.push(8, 0), { name: 'AssertionError' });
});

test('a stop with chains pushed and not published is a bug of ours', () => {
  const rings = simple();
  rings.offer(1);
  rings.device.push(pop(rings), 0);
  assert.throws(() => rings.device.stop(), { name: 'AssertionError' });
  rings.device.publish();
  assert.equal(rings.device.stop(), 1);
});

test('a stopped queue starts again where it was, with the used index that is in the ring', () => {
  const rings = simple();
  rings.offer(0, 1, 2, 3);
  for (let i = 0; i < 3; i += 1) rings.device.push(pop(rings), i);
  rings.device.publish();
  const nextAvailable = rings.device.stop();
  assert.equal(nextAvailable, 3);
  assert.equal(rings.device.pop(new Chain(1)), POP_NOTHING);
  rings.start({ nextAvailable });
  assert.equal(pop(rings), 3);
  rings.device.push(3, 9);
  rings.device.publish();
  assert.deepEqual([rings.usedIndex, rings.used(3)], [4, [3, 9]]);
});

test('a queue starts at any pair of indices, as after a migration', () => {
  const rings = new RawRings(8);
  rings.describe(5, { address: DATA, length: 8, flags: WRITE });
  rings.availableIndex = 65535;
  rings.usedIndex = 65533;
  rings.start({ nextAvailable: 65535 });
  rings.offer(5, 5);
  for (let i = 0; i < 2; i += 1) rings.device.push(pop(rings), 8);
  rings.device.publish();
  assert.equal(rings.usedIndex, 65535);
  assert.deepEqual(rings.used(65533), [5, 8]);
  assert.equal(rings.device.stop(), 1);
});

test('without EVENT_IDX every publish interrupts unless the driver set NO_INTERRUPT', () => {
  const rings = simple();
  assert.equal(round(rings), true);
  assert.equal(round(rings), true);
  rings.availableFlags = 1;
  assert.equal(round(rings), false);
  rings.availableFlags = 0;
  assert.equal(round(rings), true);
  // Nothing new, nothing to tell.
  assert.equal(rings.device.publish(), false);
});

test('without EVENT_IDX kicks are held by a flag, and enabling them sees chains that came meanwhile', () => {
  const rings = simple();
  assert.equal(rings.usedFlags, 0);
  rings.device.disableNotify();
  assert.equal(rings.usedFlags, 1);
  assert.equal(rings.device.enableNotify(), false);
  assert.equal(rings.usedFlags, 0);
  rings.device.disableNotify();
  rings.offer(4);
  assert.equal(rings.device.enableNotify(), true);
  pop(rings);
  assert.equal(rings.device.enableNotify(), false);
});

test('with EVENT_IDX an interrupt comes when the used index passes used_event, and flags mean nothing', () => {
  const rings = simple(8, true);
  rings.availableFlags = 1;
  rings.usedEvent = 2;
  // The first after a start always interrupts: what the driver was told before is not known.
  assert.deepEqual([round(rings), round(rings), round(rings), round(rings)], [true, false, true, false]);
  rings.usedEvent = 6;
  rings.offer(0, 1, 2, 3);
  for (let i = 0; i < 4; i += 1) rings.device.push(pop(rings), 0);
  assert.equal(rings.usedIndex, 4);
  assert.equal(rings.device.publish(), true);
  rings.usedEvent = 3;
  assert.equal(round(rings), false);
});

test('what is shown before it is published is seen at once, and interrupts a driver who sleeps since then', () => {
  const rings = simple(8, true);
  round(rings);
  const serve = (): void => {
    rings.offer(0);
    rings.device.push(pop(rings), 16);
    rings.device.show();
  };
  serve();
  serve();
  assert.equal(rings.usedIndex, 3);
  rings.usedEvent = rings.usedIndex;
  assert.equal(rings.device.publish(), false);
  serve();
  rings.usedEvent = rings.usedIndex;
  serve();
  assert.equal(rings.usedIndex, 5);
  assert.equal(rings.device.publish(), true);
  assert.equal(rings.device.publish(), false);
});

test('with EVENT_IDX used_event is compared across the wrap', () => {
  const rings = new RawRings(8, true);
  rings.describe(0, { address: DATA, length: 8, flags: WRITE });
  rings.usedIndex = 65533;
  rings.start();
  rings.usedEvent = 0;
  assert.deepEqual(
    [1, 2, 3, 4, 5].map(() => round(rings)),
    [true, false, false, true, false],
  );
});

test('with EVENT_IDX enabling kicks writes avail_event and leaves flags at 0', () => {
  const rings = simple(8, true);
  assert.equal(rings.availEvent, 0);
  round(rings);
  round(rings);
  rings.device.disableNotify();
  assert.deepEqual([rings.usedFlags, rings.availEvent], [0, 0]);
  assert.equal(rings.device.enableNotify(), false);
  assert.deepEqual([rings.usedFlags, rings.availEvent], [0, 2]);
  rings.offer(1);
  assert.equal(rings.device.enableNotify(), true);
});

test('a start turns kicks on, whatever a stop left behind', () => {
  for (const eventIdx of [false, true]) {
    const rings = simple(8, false);
    rings.device.disableNotify();
    const nextAvailable = rings.device.stop();
    rings.start({ nextAvailable, eventIdx });
    assert.equal(rings.usedFlags, 0);
  }
});
