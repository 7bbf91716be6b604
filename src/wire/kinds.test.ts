import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { i32, i53, i64, type Kind, u8, u16, u32, u53, u64 } from './kinds.ts';

const view = new DataView(new ArrayBuffer(32));

/** Writes and reads back a field at offset 8 of a record at byte 8. */
function roundTrip<V>(kind: Kind<V>, value: V): V {
  assert.ok(kind.getter && kind.setter);
  kind.setter(8)(view, 8, value);
  return kind.getter(8)(view, 8);
}

test('every number kind reads back what it wrote', () => {
  const cases: [Kind<number>, number, number][] = [
    [u8, 0, 0xff],
    [u16, 0, 0xffff],
    [u32, 0, 0xffff_ffff],
    [i32, -0x8000_0000, 0x7fff_ffff],
    [u53, 0, Number.MAX_SAFE_INTEGER],
    [i53, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  ];
  for (const [kind, min, max] of cases) {
    const value = fc.oneof(fc.constantFrom(min, max), fc.integer({ min, max }));
    fc.assert(fc.property(value, (each) => assert.equal(roundTrip(kind, each), each, kind.kind)));
  }
});

test('bigint kinds keep all 64 bits', () => {
  fc.assert(fc.property(fc.bigInt(0n, 2n ** 64n - 1n), (value) => assert.equal(roundTrip(u64, value), value)));
  fc.assert(
    fc.property(fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n), (value) => assert.equal(roundTrip(i64, value), value)),
  );
});

test('u53 and i53 agree with the 64-bit kinds on the same bytes', () => {
  fc.assert(
    fc.property(fc.maxSafeInteger(), (value) => {
      assert.equal(roundTrip(i53, value), value);
      assert.equal(view.getBigInt64(16, true), BigInt(value));
      assert.equal(roundTrip(u53, Math.abs(value)), Math.abs(value));
      assert.equal(view.getBigUint64(16, true), BigInt(Math.abs(value)));
    }),
  );
});

test('u53 reads all ones as 2^64, which no handle or node id of ours can be', () => {
  view.setBigUint64(16, 2n ** 64n - 1n, true);
  assert.equal(u53.getter?.(8)(view, 8), 2 ** 64);
});

test('fields are little-endian', () => {
  roundTrip(u32, 0x11223344);
  assert.deepEqual([...new Uint8Array(view.buffer, 16, 4)], [0x44, 0x33, 0x22, 0x11]);
  roundTrip(u53, 0x112233445566);
  assert.deepEqual([...new Uint8Array(view.buffer, 16, 8)], [0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0]);
});
