import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GuestMemory, type MemoryErrorCode, type Region, Segments } from './index.ts';

const GUEST = 0x1_0000;
const USER = 0x7f00_0000_0000;
const HOST = 0x5500_0000_0000;

function region(over: Partial<Region> = {}): Region {
  const sizeBytes = over.sizeBytes ?? 0x1000;
  const buffer = over.buffer ?? new ArrayBuffer(Number.isSafeInteger(sizeBytes) && sizeBytes > 0 ? sizeBytes : 1);
  return { guestAddress: GUEST, userAddress: USER, hostAddress: HOST, ...over, sizeBytes, buffer };
}

/** Two regions that are neighbours for the guest and strangers for the host. */
function neighbours(windowBytes?: number): GuestMemory {
  const memory = new GuestMemory(windowBytes);
  memory.add(region({ guestAddress: 0x2000, userAddress: USER + 0x9000, hostAddress: HOST + 0x9000 }));
  memory.add(region({ guestAddress: 0x1000, userAddress: USER, hostAddress: HOST }));
  return memory;
}

function pieces(segments: Segments): [number, number][] {
  return Array.from({ length: segments.count }, (_, i) => [segments.addresses[i], segments.lengths[i]]);
}

function refuses(memory: GuestMemory, bad: Region, code: MemoryErrorCode): void {
  const before = memory.regions.length;
  assert.throws(() => memory.add(bad), { name: 'MemoryError', code });
  assert.equal(memory.regions.length, before);
}

test('regions are listed by rising guest address', () => {
  assert.deepEqual(
    neighbours().regions.map((r) => r.guestAddress),
    [0x1000, 0x2000],
  );
});

test('a region needs a size that is a positive integer', () => {
  for (const sizeBytes of [0, -4096, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    refuses(new GuestMemory(), region({ sizeBytes }), 'SIZE');
  }
});

test('a region has addresses from 0 that end at 2^53 or below', () => {
  for (const kind of ['guestAddress', 'userAddress', 'hostAddress']) {
    for (const address of [-1, 0.5, Number.NaN, 2 ** 53 - 0xfff, 2 ** 63]) {
      refuses(new GuestMemory(), region({ [kind]: address }), 'ADDRESS');
    }
    new GuestMemory().add(region({ [kind]: 2 ** 53 - 0x1000 }));
    new GuestMemory().add(region({ [kind]: 0 }));
  }
});

test('a region needs a buffer that covers it', () => {
  refuses(new GuestMemory(), region({ buffer: new ArrayBuffer(0xfff) }), 'BUFFER');
  new GuestMemory().add(region({ buffer: new SharedArrayBuffer(0x1001) }));
});

test('a region that overlaps another by any of its addresses is refused', () => {
  const far = { guestAddress: 0x100_0000, userAddress: 0x100_0000, hostAddress: 0x100_0000 };
  const starts = { guestAddress: GUEST, userAddress: USER, hostAddress: HOST };
  for (const kind of ['guestAddress', 'userAddress', 'hostAddress'] as const) {
    for (const shift of [-0xfff, 0, 1, 0xfff]) {
      const memory = new GuestMemory();
      memory.add(region());
      refuses(memory, region({ ...far, [kind]: starts[kind] + shift }), 'OVERLAP');
    }
    const memory = new GuestMemory();
    memory.add(region());
    memory.add(region({ ...far, [kind]: starts[kind] + 0x1000 }));
    assert.equal(memory.regions.length, 2);
  }
});

test('a region is removed by its exact guest address and size', () => {
  const memory = neighbours();
  assert.equal(memory.remove(0x1000, 0xfff), undefined);
  assert.equal(memory.remove(0x1001, 0x1000), undefined);
  assert.equal(memory.remove(0x1000, 0x1000)?.hostAddress, HOST);
  assert.equal(memory.hostOfGuest(0x1000, 1), -1);
  assert.equal(memory.hostOfGuest(0x2000, 1), HOST + 0x9000);
  assert.equal(memory.append(new Segments(), 0x1000, 1), false);
  assert.equal(memory.append(new Segments(), 0x2000, 1), true);
});

test('an address is forgotten with its region even when it was the last one used', () => {
  for (const drop of [(m: GuestMemory) => m.clear(), (m: GuestMemory) => m.remove(0x1000, 0x1000)]) {
    const memory = neighbours();
    const segments = new Segments();
    assert.equal(memory.appendWords(segments, 0x1000, 0, 8), true);
    drop(memory);
    assert.equal(memory.appendWords(segments, 0x1000, 0, 8), false);
    assert.equal(memory.windowOf(0x1000, 0, 8), -1);
  }
});

test('clear removes every region and new ones can be added', () => {
  const memory = neighbours();
  memory.clear();
  assert.equal(memory.regions.length, 0);
  assert.equal(memory.hostOfUser(USER, 1), -1);
  memory.add(region());
  assert.equal(memory.hostOfGuest(GUEST, 0x1000), HOST);
});

test('an address is translated only when the whole range lies in one region', () => {
  const memory = neighbours();
  assert.equal(memory.hostOfGuest(0x1000, 0x1000), HOST);
  assert.equal(memory.hostOfGuest(0x1fff, 1), HOST + 0xfff);
  assert.equal(memory.hostOfGuest(0x1fff, 2), -1);
  assert.equal(memory.hostOfGuest(0x0fff, 1), -1);
  assert.equal(memory.hostOfGuest(0x3000, 0), -1);
  assert.equal(memory.hostOfGuest(0x1010, 0), HOST + 0x10);
  assert.equal(memory.hostOfUser(USER + 0x9010, 0xff0), HOST + 0x9010);
  assert.equal(memory.hostOfUser(USER + 0x9010, 0xff1), -1);
  assert.equal(memory.regionOfHost(HOST + 0x9000, 0x1000)?.guestAddress, 0x2000);
  assert.equal(memory.regionOfHost(HOST + 0x9001, 0x1000), undefined);
});

test('no length and no address overflows into a hit', () => {
  const memory = neighbours();
  const segments = new Segments();
  for (const huge of [2 ** 32, 2 ** 53, 2 ** 63, 2 ** 64 - 0x1000, Number.POSITIVE_INFINITY, Number.NaN, -1]) {
    assert.equal(memory.hostOfGuest(0x1000, huge), -1);
    assert.equal(memory.hostOfGuest(huge, 1), -1);
    assert.equal(memory.hostOfUser(huge, 1), -1);
    assert.equal(memory.append(segments, 0x1000, huge), false);
    assert.equal(memory.append(segments, huge, 1), false);
  }
  // 2^64 - 0x1000 + 0x2000 wraps to 0x1000 in 64 bits.
  assert.equal(memory.appendWords(segments, -0x1000, -1, 0x2000), false);
  assert.equal(memory.appendWords(segments, 0x1000, 0, -1), false);
  assert.equal(memory.appendWords(segments, 0x1000, 1, 1), false);
  assert.deepEqual(pieces(segments), []);
  assert.equal(segments.bytes, 0);
});

test('a range over two neighbouring regions becomes two pieces', () => {
  const memory = neighbours();
  const segments = new Segments();
  assert.equal(memory.append(segments, 0x1f00, 0x300), true);
  assert.deepEqual(pieces(segments), [
    [HOST + 0xf00, 0x100],
    [HOST + 0x9000, 0x200],
  ]);
  assert.equal(segments.bytes, 0x300);
});

test('a range that ends outside leaves the list as it was', () => {
  const memory = neighbours();
  const segments = new Segments();
  memory.append(segments, 0x2e00, 0x100);
  // The first part would be joined to the piece that is there.
  assert.equal(memory.append(segments, 0x2f00, 0x101), false);
  assert.equal(segments.overflow, false);
  assert.deepEqual(pieces(segments), [[HOST + 0x9e00, 0x100]]);
  assert.equal(segments.bytes, 0x100);
  assert.equal(memory.append(segments, 0x2f00, 0x100), true);
  assert.deepEqual(pieces(segments), [[HOST + 0x9e00, 0x200]]);
});

test('pieces that continue one another in host memory are joined, others are not', () => {
  const memory = neighbours();
  const segments = new Segments();
  memory.append(segments, 0x1000, 0x10);
  memory.appendWords(segments, 0x1010, 0, 0x10);
  memory.appendWords(segments, 0x1030, 0, 0x10);
  memory.appendWords(segments, 0x1020, 0, 0x10);
  assert.deepEqual(pieces(segments), [
    [HOST, 0x20],
    [HOST + 0x30, 0x10],
    [HOST + 0x20, 0x10],
  ]);
  segments.clear();
  memory.appendWords(segments, 0x1040, 0, 0x10);
  assert.deepEqual(pieces(segments), [[HOST + 0x40, 0x10]]);
});

test('a piece of length 0 is accepted anywhere and adds nothing', () => {
  const memory = neighbours();
  const segments = new Segments();
  assert.equal(memory.append(segments, 0xdead_0000, 0), true);
  assert.equal(memory.appendWords(segments, 0x1000, 0, 0), true);
  assert.equal(segments.count, 0);
});

test('a full list refuses a piece and says that it overflowed', () => {
  const memory = neighbours();
  const segments = new Segments(2);
  assert.equal(memory.append(segments, 0x1000, 1), true);
  assert.equal(memory.append(segments, 0x1ff0, 0x20), false);
  assert.equal(segments.overflow, true);
  assert.deepEqual(pieces(segments), [[HOST, 1]]);
  assert.equal(memory.append(segments, 0x1010, 1), true);
  assert.equal(segments.push(HOST, 1, 0), false);
  assert.equal(segments.bytes, 2);
  // What continues the last piece needs no place.
  assert.equal(memory.append(segments, 0x1011, 1), true);
  assert.equal(memory.append(segments, 0xdead_0000, 1), false);
  assert.equal(segments.overflow, false);
});

test('segments in flight keep their place when other regions come and go', () => {
  const memory = neighbours();
  const segments = new Segments();
  memory.append(segments, 0x2000, 4);
  const slot = segments.regions[0];
  memory.remove(0x1000, 0x1000);
  memory.add(region({ guestAddress: 0, userAddress: 0, hostAddress: 0x1000 }));
  memory.add(region({ guestAddress: 0x8000, userAddress: 0x8000, hostAddress: 0x8000 }));
  const after = new Segments();
  memory.append(after, 0x2000, 4);
  assert.equal(after.regions[0], slot);
});

test('a region across 4 GiB is reached on both sides and over the border', () => {
  const memory = new GuestMemory();
  memory.add(region({ guestAddress: 2 ** 32 - 0x800 }));
  const segments = new Segments();
  assert.equal(memory.appendWords(segments, -0x800, 0, 0x1000), true);
  assert.equal(segments.bytes, 0x1000);
  segments.clear();
  assert.equal(memory.appendWords(segments, 0x10, 1, 0x10), true);
  assert.equal(memory.appendWords(segments, -0x10, 0, 0x10), true);
  assert.deepEqual(pieces(segments), [
    [HOST + 0x810, 0x10],
    [HOST + 0x7f0, 0x10],
  ]);
  assert.equal(memory.appendWords(segments, 0x7ff, 1, 2), false);
  assert.equal(memory.hostOfGuest(2 ** 32 - 0x800, 0x1000), HOST);
});

test('the two words of an address are never taken for those of another one', () => {
  const memory = new GuestMemory();
  memory.add(region({ guestAddress: 2 ** 32 - 0x800 }));
  const segments = new Segments();
  assert.equal(memory.appendWords(segments, -0x10, 0, 8), true);
  assert.equal(memory.appendWords(segments, -0x10, 1, 8), false);
  assert.equal(memory.appendWords(segments, -0x10, -1, 8), false);
  // Modulo 2^32 this follows the start of the region as closely as what lies above the border.
  assert.equal(memory.appendWords(segments, -0x10, 0, 8), true);
  assert.equal(memory.appendWords(segments, 0x10, 0, 8), false);
  assert.equal(memory.windowOf(0x10, 0, 8), -1);
  assert.equal(memory.appendWords(segments, 0x10, 1, 8), true);
});

test('a window is found wherever the last one was, and only for a range that it holds wholly', () => {
  const memory = neighbours();
  const low = memory.windowOf(0x1010, 0, 0x10);
  assert.equal(memory.windowOffset, 0x10);
  const high = memory.windowOf(0x2020, 0, 0xfe0);
  assert.equal(memory.windowOffset, 0x20);
  assert.deepEqual([memory.windows.hostStarts[low], memory.windows.hostStarts[high]], [HOST, HOST + 0x9000]);
  assert.equal(memory.windowOf(0x2020, 0, 0xfe1), -1);
  assert.equal(memory.windowOf(0x2020, 0, -1), -1);
  assert.equal(memory.windowOf(0x1fff, 0, 2), -1);
  assert.equal(memory.windowOf(0x3000, 0, 0), -1);
});

test('translation agrees with a byte by byte model for any regions and ranges', (t) => {
  const seed = Number(process.env['FC_SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`seed ${seed} (FC_SEED repeats it)`);
  const high = fc.constantFrom(0, 2 ** 32 - 64, 2 ** 33 + 2 ** 31 - 40, 2 ** 52);
  const layout = fc.array(
    fc.record({ gap: fc.constantFrom(0, 0, 8, 100), sizeBytes: fc.integer({ min: 1, max: 90 }) }),
    {
      minLength: 1,
      maxLength: 6,
    },
  );
  const range = fc.tuple(fc.integer({ min: 0, max: 700 }), fc.integer({ min: 0, max: 300 }));
  const property = fc.property(high, layout, fc.array(range, { maxLength: 20 }), (start, shapes, ranges) => {
    const memory = new GuestMemory(32);
    const hostOf = new Map<number, number>();
    let guestAddress = start + 50;
    shapes.forEach(({ gap, sizeBytes }, i) => {
      guestAddress += gap;
      // Host addresses run the other way, so no two regions continue one another.
      const hostAddress = HOST + (shapes.length - i) * 1000;
      memory.add(region({ guestAddress, userAddress: hostAddress, hostAddress, sizeBytes }));
      for (let k = 0; k < sizeBytes; k += 1) hostOf.set(guestAddress + k, hostAddress + k);
      guestAddress += sizeBytes;
    });
    const segments = new Segments();
    const expected: number[] = [];
    for (const [offset, length] of ranges) {
      const address = start + offset;
      const hosts = Array.from({ length }, (_, k) => hostOf.get(address + k));
      const inside = !hosts.includes(undefined);
      assert.equal(memory.appendWords(segments, address | 0, (address / 2 ** 32) | 0, length), inside);
      if (inside) expected.push(...(hosts as number[]));
    }
    const got = pieces(segments).flatMap(([host, length]) => Array.from({ length }, (_, k) => host + k));
    assert.deepEqual(got, expected);
    assert.equal(segments.bytes, expected.length);
  });
  fc.assert(property, { seed, numRuns: 500 });
});
