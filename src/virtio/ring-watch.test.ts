import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Chain, type Exchange, POP_CHAIN, RingWatch } from './index.ts';
import { AVAILABLE, BORDER, DATA, RawRings, TABLE, USED } from './testing.ts';

const NEXT = 1;
const WRITE = 2;

interface Watched {
  readonly rings: RawRings;
  readonly watch: RingWatch;
  readonly seen: Exchange[];
  missed: number;
  now: number;
}

/** Rings whose descriptors 2i and 2i + 1 are a request of 4 bytes, all i + 1, and room for 8. */
function watched(size = 8): Watched {
  const rings = new RawRings(size, true);
  for (let i = 0; i < size / 2; i += 1) {
    rings.describe(2 * i, { address: DATA + 16 * i, length: 4, flags: NEXT, next: 2 * i + 1 });
    rings.describe(2 * i + 1, { address: DATA + 0x1000 + 16 * i, length: 8, flags: WRITE });
    for (let at = 0; at < 4; at += 1) rings.u8(DATA + 16 * i + at, i + 1);
  }
  rings.start();
  const seen: Exchange[] = [];
  const watch = new RingWatch(rings.memory, {
    clock: () => state.now,
    requestBytes: 100,
    replyBytes: () => 100,
    exchanged: (exchange) => void seen.push(exchange),
    missed: (count) => {
      state.missed += count;
    },
  });
  const state = { rings, watch, seen, missed: 0, now: 0 };
  watch.start(rings.options());
  return state;
}

/** The device takes the next chain and answers with 3 bytes, all `value`. */
function serve({ rings }: Watched, value: number): void {
  const chain = new Chain(4);
  assert.equal(rings.device.pop(chain), POP_CHAIN);
  const i = chain.head / 2;
  for (let at = 0; at < 3; at += 1) rings.u8(DATA + 0x1000 + 16 * i + at, value);
  rings.device.push(chain.head, 3);
  rings.device.publish();
}

const bytes = (exchange: Exchange): unknown[] => [[...exchange.request], [...exchange.reply]];

test('a request is seen when it is offered, and with its reply when it is used', () => {
  const state = watched();
  const { rings, watch, seen } = state;
  assert.equal(watch.look(), false);
  state.now = 10;
  rings.offer(2);
  assert.equal(watch.look(), true);
  assert.deepEqual([seen.length, watch.inFlight], [0, 1]);
  state.now = 12.5;
  serve(state, 9);
  assert.equal(watch.look(), true);
  assert.deepEqual(seen.map(bytes), [
    [
      [2, 2, 2, 2],
      [9, 9, 9],
    ],
  ]);
  const { request: _, reply: __, ...rest } = seen[0];
  const times = { offeredMs: 10, usedMs: 12.5, late: false };
  assert.deepEqual(rest, { requestBytes: 4, roomBytes: 8, replyBytes: 3, error: '', ...times });
  assert.deepEqual([watch.inFlight, watch.look()], [0, false]);
});

test('a reply in another order is found with its request', () => {
  const state = watched();
  const { rings, watch, seen } = state;
  rings.offer(0, 2, 4);
  watch.look();
  const chain = new Chain(4);
  const heads = [0, 1, 2].map(() => (rings.device.pop(chain), chain.head));
  for (const head of heads.toReversed()) rings.device.push(head, 0);
  rings.device.publish();
  watch.look();
  assert.deepEqual(
    seen.map(({ request }) => request[0]),
    [3, 2, 1],
  );
});

test('what was offered and used between two looks is told, but not timed', () => {
  const state = watched();
  const { rings, watch, seen } = state;
  rings.offer(0);
  serve(state, 7);
  watch.look();
  assert.deepEqual(seen.map(bytes), [
    [
      [1, 1, 1, 1],
      [7, 7, 7],
    ],
  ]);
  assert.equal(seen[0].late, true);
});

test('a request whose descriptors were used again before anybody looked is counted, not invented', () => {
  const state = watched();
  const { rings, watch, seen } = state;
  rings.offer(0);
  serve(state, 7);
  rings.offer(0);
  watch.look();
  assert.deepEqual([seen.length, state.missed, watch.inFlight], [0, 1, 1]);
  serve(state, 8);
  watch.look();
  assert.deepEqual([seen.length, state.missed, watch.inFlight], [1, 1, 0]);
});

test('a driver that is ahead by more than a ring is caught up with', () => {
  const state = watched();
  const { rings, watch, seen } = state;
  for (let i = 0; i < 21; i += 1) {
    rings.offer(0);
    serve(state, i);
  }
  watch.look();
  assert.deepEqual([seen.length, state.missed, watch.inFlight], [1, 20, 0]);
  assert.deepEqual([...seen[0].reply], [20, 20, 20]);
  rings.offer(2);
  watch.look();
  serve(state, 1);
  watch.look();
  assert.equal(seen.at(-1)?.request[0], 2);
  assert.equal(watch.inFlight, 0);
});

test('indices go round at 2^16', () => {
  const state = watched();
  for (let i = 0; i < 65_536 + 5; i += 1) {
    state.rings.offer(0);
    state.watch.look();
    serve(state, i & 0xff);
    state.watch.look();
  }
  assert.deepEqual([state.seen.length, state.missed], [65_536 + 5, 0]);
});

test('those in flight are kept over a stop in the same rings, and given up in others', () => {
  const state = watched();
  const { rings, watch, seen } = state;
  rings.offer(0, 2);
  watch.look();
  serve(state, 1);
  watch.look();
  const { nextAvailable } = watch.stop();
  assert.deepEqual([nextAvailable, watch.look()], [2, false]);
  watch.start(rings.options({ nextAvailable }));
  serve(state, 5);
  watch.look();
  assert.deepEqual(bytes(seen[1]), [
    [2, 2, 2, 2],
    [5, 5, 5],
  ]);
  rings.offer(4);
  watch.look();
  watch.stop();
  watch.start(rings.options({ nextAvailable: 0 }));
  assert.deepEqual([seen.length, seen[2].usedMs, seen[2].request[0], watch.inFlight], [3, undefined, 3, 0]);
});

test('a chain that is none is told with what is wrong with it', () => {
  const state = watched();
  const { rings, watch, seen } = state;
  rings.describe(0, { address: DATA, length: 4, flags: NEXT, next: 0 });
  rings.offer(0);
  watch.look();
  const chain = new Chain(4);
  rings.device.pop(chain);
  rings.device.push(0, 0);
  rings.device.publish();
  watch.look();
  assert.match(seen[0].error, /loop/);
  assert.deepEqual([seen[0].request.length, seen[0].replyBytes], [0, 0]);
});

test('a device that says it has written more than there is room has not', () => {
  const state = watched();
  const { rings, watch, seen } = state;
  rings.offer(0);
  watch.look();
  rings.device.pop(new Chain(4));
  rings.device.push(0, 0xffff_ffff);
  rings.device.publish();
  watch.look();
  assert.deepEqual([seen[0].replyBytes, seen[0].reply.length], [8, 8]);
});

test('nothing is written to the rings', () => {
  const state = watched();
  const { rings, watch } = state;
  const snapshot = (): number[] => {
    const [ends, all] = [[TABLE, TABLE + 256, AVAILABLE, AVAILABLE + 64, USED, USED + 128, DATA, DATA + 64], []];
    const list: number[] = all;
    for (let i = 0; i < ends.length; i += 2)
      for (let at = ends[i]; at < ends[i + 1]; at += 1) list.push(rings.read8(at));
    return list;
  };
  rings.offer(0, 2);
  serve(state, 3);
  const before = snapshot();
  watch.look();
  watch.stop();
  watch.start(rings.options());
  watch.look();
  assert.deepEqual(snapshot(), before);
});

test('whatever both sides write, a look ends, and finds no more than a ring holds', () => {
  const words = fc.array(fc.nat(0xffff), { minLength: 40, maxLength: 40 });
  const property = fc.property(words, words, words, fc.boolean(), (table, available, used, isNear) => {
    const state = watched();
    const { rings, watch, seen } = state;
    for (let round = 0; round < 3; round += 1) {
      table.forEach((word, i) => {
        const near = isNear && i % 8 < 4 ? [0, DATA >> 16, 0, 0][i % 4] || word % 0x800 : word;
        rings.u16(TABLE + 2 * ((i * 7 + round) % 64), i % 8 === 6 ? near % 8 : near);
      });
      available.forEach((word, i) => rings.u16(AVAILABLE + 2 * (i % 10), isNear ? (word + round) % 12 : word));
      used.forEach((word, i) => rings.u16(USED + 2 * (i % 30), isNear ? (word + round) % 12 : word));
      const before = seen.length;
      watch.look();
      assert.ok(seen.length - before <= 8 && watch.inFlight <= 16);
      for (const each of seen) {
        assert.ok(each.request.length <= 100 && each.reply.length <= each.replyBytes);
        assert.ok(each.replyBytes <= each.roomBytes);
      }
    }
    watch.abandon();
    assert.equal(watch.inFlight, 0);
  });
  fc.assert(property, { numRuns: 500 });
});

test('rings that are nowhere are refused, and a watch that has not begun sees nothing', () => {
  const { rings, watch } = watched();
  watch.stop();
  assert.throws(() => watch.start(rings.options({ usedRing: rings.host(BORDER) - 4 })), { code: 'OUTSIDE' });
  assert.throws(() => watch.start(rings.options({ size: 3 })), { code: 'SIZE' });
  assert.deepEqual([watch.started, watch.look()], [false, false]);
});
