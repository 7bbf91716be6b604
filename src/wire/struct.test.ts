import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, i32, opaque64, u8, u16, u32, u53, u64 } from './kinds.ts';
import { struct } from './struct.ts';

const Inner = struct('inner', 16, { big: u64, small: u16, _padding: u16, signed: i32 });
const Outer = struct('outer', 48, {
  count: u32,
  _reserved: u32,
  owner: opaque64,
  offset: u53,
  inner: Inner,
  tag: bytes(4),
  flags: u32,
  name: bytes(0),
});

test('offsets follow from the order of the fields, padding included', () => {
  const want = { count: 0, _reserved: 4, owner: 8, offset: 16, inner: 24, tag: 40, flags: 44, name: 48 };
  assert.deepEqual(Outer.offsets, want);
  assert.equal(Outer.bytes, 48);
  assert.equal(Outer.align, 8);
  assert.equal(Outer.cname, 'outer');
  assert.deepEqual(Outer.layout[4], { name: 'inner', offset: 24, bytes: 16, kind: 'inner' });
});

test('accessors read and write at their offset of the record, and nowhere else', () => {
  const view = new DataView(new ArrayBuffer(64));
  Outer.set.offset(view, 8, 2 ** 40 + 3);
  Inner.set.signed(view, 8 + Outer.offsets.inner, -7);
  assert.equal(Outer.offset(view, 8), 2 ** 40 + 3);
  assert.equal(Inner.signed(view, 8 + Outer.offsets.inner), -7);
  const touched = [...new Uint8Array(view.buffer)].flatMap((byte, at) => (byte === 0 ? [] : [at]));
  assert.deepEqual(touched, [24, 29, 44, 45, 46, 47]);
});

test('padding, places and structs inside have no accessors', () => {
  assert.deepEqual(Object.keys(Outer.set), ['count', 'offset', 'flags']);
  assert.deepEqual(Object.keys(Inner.set), ['big', 'small', 'signed']);
  // @ts-expect-error: and tsc knows it.
  assert.equal(Outer.owner, undefined);
  // @ts-expect-error: a misspelled field does not compile.
  assert.equal(Outer.offfset, undefined);
});

test('format names every field that means something, and goes into structs', () => {
  const view = new DataView(new ArrayBuffer(48));
  Outer.set.count(view, 0, 2);
  view.setBigUint64(8, 0x1122334455667788n);
  Inner.set.big(view, 24, 9n);
  assert.equal(
    Outer.format(view, 0),
    'outer{count=2 owner=0x1122334455667788 offset=0 inner=inner{big=9 small=0 signed=0} tag=0x00000000 flags=0}',
  );
});

test('a declaration that C would lay out otherwise does not load', () => {
  const wrong: [() => unknown, RegExp][] = [
    [() => struct('s', 12, { a: u32, b: u64 }), /s\.b: offset 4 is not a multiple of 8/],
    [() => struct('s', 8, { a: u8, b: u16, c: u32 }), /s\.b: offset 1/],
    [() => struct('s', 12, { a: u64, b: u32 }), /12 bytes end in hidden padding/],
    [() => struct('s', 12, { a: u64, b: u32, _c: u32 }), /take 16 bytes, not 12/],
    [() => struct('s', 4, { set: u32 }), /s\.set: the name is taken/],
    [() => struct('s', 20, { a: u32, inner: Inner }), /s\.inner: offset 4 is not a multiple of 8/],
    [() => struct('s', 6, { a: u16, tail: bytes(4, 4) }), /s\.tail: offset 2 is not a multiple of 4/],
  ];
  for (const [declare, message] of wrong) assert.throws(declare, { name: 'AssertionError', message });
});
