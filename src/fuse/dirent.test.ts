import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { direntBytes, direntplusBytes, direntType, encodeDirent, encodeDirentplus } from './dirent.ts';
import { Dirent, EntryOut } from './structs.ts';

const u8 = new Uint8Array(1024);
const view = new DataView(u8.buffer);
const encoder = new TextEncoder();

type Encode = typeof encodeDirent;

function encode(how: Encode, at: number, room: number, name: Uint8Array): number {
  return how(view, u8, at, room, 0x11, 0x22, 0x33, 0x8000_0044, 8, name, 0, name.length);
}

test('an entry holds inode, cookie, type and name, and zeros up to a multiple of 8', () => {
  u8.fill(0xee);
  assert.equal(encode(encodeDirent, 16, 1000, encoder.encode('hello')), 32);
  assert.equal(view.getBigUint64(16, true), 0x0000_0022_0000_0011n);
  assert.equal(view.getBigUint64(24, true), 0x8000_0044_0000_0033n);
  assert.equal(Dirent.namelen(view, 16), 5);
  assert.equal(Dirent.type(view, 16), 8);
  assert.deepEqual(u8.slice(40, 48), Uint8Array.of(0x68, 0x65, 0x6c, 0x6c, 0x6f, 0, 0, 0));
  assert.equal(u8[15], 0xee);
  assert.equal(u8[48], 0xee);
});

test('an entry with attributes leaves 128 zero bytes for them before it', () => {
  u8.fill(0xee);
  assert.equal(encode(encodeDirentplus, 8, 1000, encoder.encode('12345678')), 160);
  assert.ok(u8.subarray(8, 8 + EntryOut.bytes).every((byte) => byte === 0));
  assert.equal(Dirent.namelen(view, 8 + EntryOut.bytes), 8);
  assert.equal(u8[8 + 160], 0xee);
});

test('an entry that does not fit into the room is not written, to the byte', () => {
  const name = fc.uint8Array({ minLength: 1, maxLength: 255 });
  const kinds = fc.constantFrom([encodeDirent, direntBytes] as const, [encodeDirentplus, direntplusBytes] as const);
  fc.assert(
    fc.property(name, kinds, (bytes, [how, length]) => {
      const total = length(bytes.length);
      assert.equal(total % 8, 0);
      u8.fill(0xee);
      assert.equal(encode(how, 8, total - 1, bytes), 0);
      assert.ok(u8.every((byte) => byte === 0xee));
      assert.equal(encode(how, 8, total, bytes), total);
      assert.equal(u8[8 + total], 0xee);
      const end = 8 + total - (total - (how === encodeDirent ? 24 : 152));
      assert.deepEqual(u8.slice(end, end + bytes.length), bytes);
    }),
  );
});

test('a name is taken from the middle of a larger buffer', () => {
  const names = encoder.encode('one two three');
  assert.equal(encodeDirent(view, u8, 0, 64, 1, 0, 1, 0, 4, names, 4, 3), 32);
  assert.deepEqual(u8.slice(24, 32), encoder.encode('two\0\0\0\0\0'));
});

test('the type of an entry is that of its mode', () => {
  assert.equal(direntType(0o100644), 8);
  assert.equal(direntType(0o040755), 4);
  assert.equal(direntType(0o120777), 10);
});
