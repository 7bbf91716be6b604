import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ByteView, GuestMemory, gather, gatherInto, Segments, scatter, scatterFrom } from './index.ts';

const SIZE = 512;

/** Guest addresses 0 to 1023 in two regions, each byte with a value of its own place. */
function guest(windowBytes?: number): { memory: GuestMemory; bytes: Uint8Array[] } {
  const memory = new GuestMemory(windowBytes);
  const bytes: Uint8Array[] = [];
  for (let i = 0; i < 2; i += 1) {
    const buffer = i === 0 ? new ArrayBuffer(SIZE) : new SharedArrayBuffer(SIZE);
    const at = 0x10_0000 * (i + 1);
    memory.add({ guestAddress: i * SIZE, sizeBytes: SIZE, userAddress: at, hostAddress: at, buffer });
    bytes.push(new Uint8Array(buffer).map((_, k) => (i * SIZE + k) * 7));
    new Uint8Array(buffer).set(bytes[i]);
    bytes[i] = new Uint8Array(buffer);
  }
  return { memory, bytes };
}

function valueAt(address: number): number {
  return (address * 7) & 0xff;
}

test('gather and scatter move the bytes of any pieces at any alignment, and no others', (t) => {
  const seed = Number(process.env['FC_SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`seed ${seed} (FC_SEED repeats it)`);
  const piece = fc.tuple(fc.integer({ min: 0, max: 1000 }), fc.integer({ min: 0, max: 90 }));
  const small = fc.integer({ min: 0, max: 130 });
  const property = fc.property(
    fc.array(piece, { maxLength: 8 }),
    small,
    small,
    small,
    fc.integer({ min: 0, max: 7 }),
    fc.constantFrom(8, 64, 2 ** 30),
    (cuts, from, at, length, byteOffset, windowBytes) => {
      const { memory, bytes } = guest(windowBytes);
      const segments = new Segments();
      const addresses: number[] = [];
      for (const [address, count] of cuts) {
        if (!memory.append(segments, address, count)) continue;
        for (let k = 0; k < count; k += 1) addresses.push(address + k);
      }
      const wanted = addresses.slice(from, from + length);

      const own = new Uint8Array(new ArrayBuffer(300), byteOffset, 280).fill(0xee);
      assert.equal(gather(memory, segments, from, own, at, length), wanted.length);
      const expected = new Uint8Array(280).fill(0xee);
      expected.set(wanted.map(valueAt), at);
      assert.deepEqual(own, expected);

      const source = own.map((_, k) => 255 - (k % 251));
      const guestAfter = Array.from({ length: 2 * SIZE }, (_, k) => valueAt(k));
      wanted.forEach((address, k) => {
        guestAfter[address] = source[at + k];
      });
      assert.equal(scatter(memory, segments, from, source, at, length), wanted.length);
      assert.deepEqual([...bytes[0], ...bytes[1]], guestAfter);
    },
  );
  fc.assert(property, { seed, numRuns: 1000 });
});

test('a view made beforehand gives the same copies', () => {
  const { memory, bytes } = guest();
  const segments = new Segments();
  memory.append(segments, 500, 24);
  const own = new ByteView(new Uint8Array(new ArrayBuffer(64), 3, 40));
  assert.equal(gatherInto(memory, segments, 1, own, 5, 30), 23);
  assert.deepEqual(
    [...own.bytes.subarray(5, 28)],
    Array.from({ length: 23 }, (_, k) => valueAt(501 + k)),
  );
  own.bytes.fill(9);
  assert.equal(scatterFrom(memory, segments, 0, own, 0, 24), 24);
  assert.deepEqual([bytes[0][499], bytes[0][500], bytes[1][11], bytes[1][12]], [valueAt(499), 9, 9, valueAt(524)]);
});

test('two targets in turns do not get the bytes of each other', () => {
  const { memory } = guest();
  const segments = new Segments();
  memory.append(segments, 0, 8);
  const [one, two] = [new Uint8Array(8), new Uint8Array(8)];
  for (let i = 0; i < 3; i += 1) {
    gather(memory, segments, 0, one, 0, 8);
    gather(memory, segments, 4, two, 0, 4);
  }
  assert.deepEqual([...one], [0, 7, 14, 21, 28, 35, 42, 49]);
  assert.deepEqual([...two], [28, 35, 42, 49, 0, 0, 0, 0]);
});

test('a copy stops at a piece whose region has been removed, even if another took its place', () => {
  const { memory } = guest();
  const segments = new Segments();
  memory.append(segments, 0, 1024);
  const own = new Uint8Array(1024);
  memory.remove(SIZE, SIZE);
  assert.equal(gather(memory, segments, 0, own, 0, 1024), SIZE);
  const buffer = new ArrayBuffer(SIZE);
  memory.add({ guestAddress: SIZE, sizeBytes: SIZE, userAddress: 0, hostAddress: 0x90_0000, buffer });
  assert.equal(scatter(memory, segments, 0, own.fill(1), 0, 1024), SIZE);
  assert.deepEqual(new Uint8Array(buffer), new Uint8Array(SIZE));
});

test('a copy beyond our own buffer is a bug of ours', () => {
  const { memory } = guest();
  const segments = new Segments();
  memory.append(segments, 0, 64);
  const own = new Uint8Array(16);
  for (const [from, at, length] of [
    [0, 0, 17],
    [0, 16, 1],
    [0, -1, 4],
    [-1, 0, 4],
    [0, 0, -1],
  ]) {
    assert.throws(() => gather(memory, segments, from, own, at, length), { name: 'AssertionError' });
    assert.throws(() => scatter(memory, segments, from, own, at, length), { name: 'AssertionError' });
  }
});
