import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';

import { IdMap, parseIdRules } from './id-map.ts';

const mapOf = (...rules: string[]): IdMap => new IdMap(parseIdRules('--translate-uid', rules));
const refuses = (message: RegExp, ...rules: string[]): void => {
  assert.throws(() => parseIdRules('--translate-uid', rules), { name: 'UserError', message });
};

test('without rules every id is the same on both sides', () => {
  const map = mapOf();
  assert.equal(map.identity, true);
  for (const id of [0, 1000, -2]) assert.deepEqual([map.toHost(id), map.toGuest(id), map.forbids(id)], [id, id, false]);
});

test('guest and host rules each work in one direction', () => {
  const guest = mapOf('guest:0:100000:65536');
  assert.deepEqual([guest.toHost(0), guest.toHost(65535), guest.toHost(65536)], [100000, 165535, 65536]);
  assert.equal(guest.toGuest(100000), 100000);
  const host = mapOf('host:1001:0:1');
  assert.deepEqual([host.toGuest(1000), host.toGuest(1001), host.toGuest(1002)], [1000, 0, 1002]);
  assert.equal(host.toHost(0), 0);
});

test('map works in both', () => {
  const map = mapOf('map:1000:5000:10');
  assert.deepEqual([map.toHost(1009), map.toGuest(5009)], [5009, 1009]);
  assert.deepEqual([map.toHost(1010), map.toGuest(5010), map.toHost(5000)], [1010, 5010, 5000]);
});

test('squash makes one of many', () => {
  const map = mapOf('squash-guest:0:1001:4294967295', 'squash-host:100:7:50');
  assert.deepEqual([map.toHost(0), map.toHost(-2), map.toHost(77)], [1001, 1001, 1001]);
  assert.deepEqual([map.toGuest(99), map.toGuest(100), map.toGuest(149), map.toGuest(150)], [99, 7, 7, 150]);
});

test('forbidden ids are those, and no others', () => {
  const map = mapOf('forbid-guest:10:5', 'guest:15:1:1');
  assert.deepEqual(
    [9, 10, 14, 15].map((id) => map.forbids(id)),
    [false, true, true, false],
  );
  assert.deepEqual([map.toHost(15), map.toGuest(10)], [1, 10]);
});

test('ids from 2^31 on are told from one another', () => {
  const map = mapOf('map:4294967000:2147483648:3');
  assert.equal(map.toHost(4294967001 | 0), 2147483649 | 0);
  assert.equal(map.toGuest(2147483650 | 0), 4294967002 | 0);
});

test('a rule that is wrong is refused with its text and the reason', () => {
  refuses(/--translate-uid gast:0:0:1: 'gast' is no kind of rule; guest, host/, 'gast:0:0:1');
  refuses(/guest:0:1: it has 2 numbers, not 3: guest:GUEST:HOST:COUNT/, 'guest:0:1');
  refuses(/forbid-guest:0:1:2: it has 3 numbers, not 2/, 'forbid-guest:0:1:2');
  refuses(/'-1' is no number/, 'guest:-1:0:1');
  refuses(/'' is no number/, 'guest::0:1');
  refuses(/'4294967296' is no number/, 'guest:0:4294967296:1');
  refuses(/the count is 0/, 'map:0:0:0');
  refuses(/beyond the last id, 4294967294/, 'guest:1:0:4294967295');
  refuses(/beyond the last id/, 'guest:0:4294967290:10');
  refuses(/beyond the last id/, 'squash-guest:0:4294967295:1');
});

test('ranges of one direction may not overlap; those of different directions may', () => {
  refuses(/forbid-guest:5:1: another rule has the guest ids 0 to 9/, 'guest:0:100:10', 'forbid-guest:5:1');
  refuses(/another rule has the host ids 100 to 109/, 'map:0:100:10', 'host:109:3:1');
  assert.doesNotThrow(() => mapOf('guest:0:100:10', 'host:0:5:10', 'guest:10:0:1'));
});

test('a bijective map brings every id back', () => {
  const range = fc.tuple(fc.nat(1 << 20), fc.nat(1 << 20), fc.integer({ min: 1, max: 1 << 16 }));
  fc.assert(
    fc.property(range, fc.nat(0xfffe), fc.nat(0xfffffffe), ([guest, host, count], step, other) => {
      const map = mapOf(`map:${guest}:${host}:${count}`);
      const id = guest + (step % count);
      assert.equal(map.toHost(id), host + (step % count));
      assert.equal(map.toGuest(map.toHost(id)), id);
      const outside = other < guest || other >= guest + count;
      if (outside) assert.equal(map.toHost(other | 0), other | 0);
    }),
  );
});
