import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gather, type Segments } from '../memory/index.ts';
import {
  Chain,
  DESCRIPTOR_F_INDIRECT as INDIRECT,
  DESCRIPTOR_F_NEXT as NEXT,
  DESCRIPTOR_F_WRITE as WRITE,
  INDIRECT_MAX,
  POP_BAD_CHAIN,
  POP_CHAIN,
} from './index.ts';
import { BORDER, DATA, END, type RawDescriptor, RawRings } from './testing.ts';

/** Rings of 8 that offer one chain, from the descriptors of the main table given. */
function offered(descriptors: RawDescriptor[], over: { indirect?: boolean } = {}): RawRings {
  const rings = new RawRings(8).start(over);
  descriptors.forEach((descriptor, i) => {
    rings.describe(i, descriptor);
  });
  rings.offer(0);
  return rings;
}

function pieces(segments: Segments): [number, number][] {
  return Array.from({ length: segments.count }, (_, i) => [segments.addresses[i], segments.lengths[i]]);
}

function accepts(rings: RawRings, capacity?: number): Chain {
  const chain = new Chain(capacity);
  assert.equal(rings.device.pop(chain), POP_CHAIN, rings.device.lastError);
  return chain;
}

/** The chain is bad, can be given back, and the queue goes on. */
function refuses(rings: RawRings, error: RegExp, capacity?: number): void {
  const chain = new Chain(capacity);
  chain.head = 77;
  assert.equal(rings.device.pop(chain), POP_BAD_CHAIN);
  assert.match(rings.device.lastError, error);
  assert.equal(chain.head, 0);
  assert.deepEqual([chain.readable.count, chain.writable.count, chain.descriptors], [0, 0, 0]);
  rings.device.push(chain.head, 0);
  rings.device.publish();
  assert.deepEqual(rings.used(0), [0, 0]);
  rings.describe(0, { address: DATA, length: 4 });
  rings.offer(0);
  assert.equal(rings.device.pop(chain), POP_CHAIN);
  assert.equal(chain.readable.bytes, 4);
}

test('a chain of direct descriptors becomes a readable and a writable list in order', () => {
  const rings = offered([
    { address: DATA, length: 40, flags: NEXT, next: 3 },
    { address: DATA + 0x300, length: 16, flags: WRITE | NEXT, next: 2 },
    { address: DATA + 0x200, length: 100, flags: WRITE },
    { address: DATA + 0x100, length: 7, flags: NEXT, next: 1 },
  ]);
  const chain = accepts(rings);
  const host = rings.host(DATA);
  assert.deepEqual([chain.head, chain.descriptors], [0, 4]);
  assert.deepEqual(pieces(chain.readable), [
    [host, 40],
    [host + 0x100, 7],
  ]);
  assert.deepEqual(pieces(chain.writable), [
    [host + 0x300, 16],
    [host + 0x200, 100],
  ]);
  assert.deepEqual([chain.readable.bytes, chain.writable.bytes], [47, 116]);
});

test('a chain may use every descriptor of the queue', () => {
  const all = Array.from({ length: 8 }, (_, i) => ({
    address: DATA + i * 0x100,
    length: 1,
    flags: i < 7 ? NEXT : 0,
    next: i + 1,
  }));
  assert.equal(accepts(offered(all)).descriptors, 8);
});

test('the next field counts only with the NEXT flag', () => {
  assert.equal(accepts(offered([{ address: DATA, length: 4, next: 0xffff }])).descriptors, 1);
});

test('a descriptor over two regions becomes two pieces', () => {
  const rings = offered([{ address: BORDER - 8, length: 24, flags: WRITE }]);
  const chain = accepts(rings);
  assert.deepEqual(pieces(chain.writable), [
    [rings.host(BORDER - 8), 8],
    [rings.host(BORDER), 16],
  ]);
  assert.equal(chain.descriptors, 1);
});

test('descriptors of length 0 are accepted and leave nothing behind', () => {
  const rings = offered([
    { address: 0, length: 0, flags: NEXT, next: 1 },
    { address: DATA, length: 4, flags: NEXT, next: 2 },
    { address: END, length: 0, flags: WRITE },
  ]);
  const chain = accepts(rings);
  assert.deepEqual([chain.descriptors, chain.readable.count, chain.writable.count], [3, 1, 0]);
});

test('a chain that points to itself is a bad chain', () => {
  refuses(offered([{ address: DATA, length: 4, flags: NEXT, next: 0 }]), /loop/);
});

test('a chain that comes back to its middle is a bad chain', () => {
  const descriptors = [1, 2, 1].map((next) => ({ address: DATA, length: 4, flags: NEXT, next }));
  refuses(offered(descriptors), /loop/);
});

test('a next field outside the table is a bad chain', () => {
  for (const next of [8, 0xffff]) {
    refuses(offered([{ address: DATA, length: 4, flags: NEXT, next }]), /next field/);
  }
});

test('a readable descriptor after a writable one is a bad chain, even an empty one', () => {
  for (const length of [0, 4]) {
    const descriptors = [
      { address: DATA, length, flags: WRITE | NEXT, next: 1 },
      { address: DATA, length },
    ];
    refuses(offered(descriptors), /readable descriptor after/);
  }
});

test('an address or an end outside guest memory is a bad chain', () => {
  const outside: [number | bigint, number][] = [
    [0, 4],
    [END, 1],
    [END - 4, 5],
    [DATA, 0xffff_ffff],
    [2 ** 32 + DATA, 4],
    [2n ** 63n, 4],
    [2n ** 64n - 4n, 8],
    [2n ** 64n - 1n, 0xffff_ffff],
  ];
  for (const [address, length] of outside) {
    refuses(offered([{ address, length }]), /outside guest memory/);
    refuses(offered([{ address, length, flags: WRITE }]), /outside guest memory/);
  }
});

test('a chain in more pieces than the lists can hold is a bad chain', () => {
  const scattered = Array.from({ length: 3 }, (_, i) => ({
    address: DATA + i * 8,
    length: 4,
    flags: i < 2 ? NEXT : 0,
    next: i + 1,
  }));
  refuses(offered(scattered), /too many pieces/, 2);
  accepts(offered(scattered), 3);
});

test('an indirect table is read in its own order, whatever its alignment', () => {
  for (const table of [DATA, DATA + 4, DATA + 8, DATA + 1, DATA + 2, DATA + 7]) {
    const rings = offered([{ address: table, length: 48, flags: INDIRECT }]);
    rings.describe(0, { address: DATA + 0x100, length: 40, flags: NEXT, next: 2 }, table);
    rings.describe(2, { address: DATA + 0x200, length: 16, flags: NEXT | WRITE, next: 1 }, table);
    rings.describe(1, { address: DATA + 0x300, length: 8, flags: WRITE }, table);
    const chain = accepts(rings);
    assert.deepEqual([chain.head, chain.descriptors], [0, 3]);
    assert.deepEqual(pieces(chain.readable), [[rings.host(DATA + 0x100), 40]]);
    assert.deepEqual(pieces(chain.writable), [
      [rings.host(DATA + 0x200), 16],
      [rings.host(DATA + 0x300), 8],
    ]);
  }
});

test('an indirect table may lie over two regions', () => {
  for (const table of [BORDER - 16, BORDER - 24, BORDER - 5]) {
    const rings = offered([{ address: table, length: 32, flags: INDIRECT }]);
    rings.describe(0, { address: DATA, length: 4, flags: NEXT, next: 1 }, table);
    rings.describe(1, { address: DATA + 8, length: 4 }, table);
    assert.equal(accepts(rings).readable.bytes, 8);
  }
});

test('direct descriptors may come before an indirect one, whose WRITE flag means nothing', () => {
  const rings = offered([
    { address: DATA, length: 4, flags: NEXT, next: 1 },
    { address: DATA + 0x100, length: 16, flags: INDIRECT | WRITE },
  ]);
  rings.describe(0, { address: DATA + 8, length: 4 }, DATA + 0x100);
  const chain = accepts(rings);
  assert.deepEqual([chain.descriptors, chain.readable.bytes, chain.writable.bytes], [2, 8, 0]);
});

test('the order of readable and writable holds across the indirect descriptor', () => {
  const rings = offered([
    { address: DATA, length: 4, flags: NEXT | WRITE, next: 1 },
    { address: DATA + 0x100, length: 16, flags: INDIRECT },
  ]);
  rings.describe(0, { address: DATA + 8, length: 4 }, DATA + 0x100);
  refuses(rings, /readable descriptor after/);
});

test('an indirect table may have more entries than the queue, up to the limit', () => {
  const table = BORDER;
  for (const [entries, used] of [
    [9, 9],
    [INDIRECT_MAX, 3],
  ]) {
    const rings = offered([{ address: table, length: entries * 16, flags: INDIRECT }]);
    for (let i = 0; i < used; i += 1) {
      const flags = i < used - 1 ? NEXT : 0;
      rings.describe(i, { address: DATA + i * 8, length: 4, flags, next: i + 1 }, table);
    }
    assert.equal(accepts(rings).descriptors, used);
  }
  refuses(offered([{ address: table - 16, length: (INDIRECT_MAX + 1) * 16, flags: INDIRECT }]), /too many entries/);
});

test('an indirect descriptor is a bad chain when it was not negotiated', () => {
  refuses(offered([{ address: DATA, length: 16, flags: INDIRECT }], { indirect: false }), /not negotiated/);
});

test('an indirect descriptor inside an indirect table is a bad chain', () => {
  const rings = offered([{ address: DATA, length: 16, flags: INDIRECT }]);
  rings.describe(0, { address: DATA, length: 16, flags: INDIRECT }, DATA);
  refuses(rings, /inside an indirect/);
});

test('an indirect descriptor with a next one is a bad chain', () => {
  refuses(offered([{ address: DATA, length: 16, flags: INDIRECT | NEXT, next: 1 }]), /after an indirect/);
});

test('an indirect table whose length is 0 or no multiple of 16 is a bad chain', () => {
  for (const length of [0, 1, 15, 17, 40, 0xffff_ffff]) {
    refuses(offered([{ address: DATA, length, flags: INDIRECT }]), /multiple of 16/);
  }
  refuses(offered([{ address: DATA, length: 0xffff_fff0, flags: INDIRECT }]), /too many entries/);
});

test('an indirect table outside guest memory is a bad chain', () => {
  for (const address of [0, END, END - 16, 2n ** 64n - 16n, 2n ** 40n]) {
    refuses(offered([{ address, length: 32, flags: INDIRECT }]), /table outside/);
  }
});

test('a loop or a next field outside the table is a bad chain in an indirect table too', () => {
  for (const [next, error] of [
    [0, /loop/],
    [1, /loop/],
    [2, /next field/],
  ] as const) {
    const rings = offered([{ address: DATA, length: 32, flags: INDIRECT }]);
    rings.describe(0, { address: DATA + 0x100, length: 4, flags: NEXT, next: 1 }, DATA);
    rings.describe(1, { address: DATA + 0x100, length: 4, flags: NEXT, next }, DATA);
    refuses(rings, error);
  }
});

test('a chain of 2^32 bytes is accepted and one byte more is not', () => {
  const table = DATA;
  const rings = new RawRings(8).start();
  const wide = 2 ** 31;
  const at = { guestAddress: 2 ** 40, userAddress: 2 ** 50, hostAddress: 2 ** 51 };
  // Nothing is read from it, so its pages are never there.
  rings.memory.add({ ...at, sizeBytes: wide, buffer: new ArrayBuffer(wide) });
  const lay = (extra: number): void => {
    rings.describe(0, { address: table, length: 48, flags: INDIRECT });
    rings.describe(0, { address: 2 ** 40, length: wide, flags: NEXT, next: 1 }, table);
    rings.describe(1, { address: 2 ** 40, length: wide, flags: NEXT | WRITE, next: 2 }, table);
    rings.describe(2, { address: BORDER, length: extra, flags: WRITE }, table);
    rings.offer(0);
  };
  lay(0);
  const chain = new Chain();
  assert.equal(rings.device.pop(chain), POP_CHAIN);
  assert.equal(chain.readable.bytes + chain.writable.bytes, 2 ** 32);
  lay(1);
  assert.equal(rings.device.pop(chain), POP_BAD_CHAIN);
  assert.match(rings.device.lastError, /2\^32/);
});

test('what a chain names can be gathered, cut as it may be', () => {
  const text = 'framing is independent of contents';
  const rings = offered([]);
  Array.from(text).forEach((letter, i) => {
    const table = DATA;
    const flags = i < text.length - 1 ? NEXT : 0;
    rings.describe(i, { address: DATA + 0x1000 + 3 * i, length: 1, flags, next: i + 1 }, table);
    rings.u8(DATA + 0x1000 + 3 * i, letter.charCodeAt(0));
  });
  rings.describe(0, { address: DATA, length: text.length * 16, flags: INDIRECT });
  const own = new Uint8Array(64);
  const chain = accepts(rings);
  assert.equal(gather(rings.memory, chain.readable, 0, own, 0, 64), text.length);
  assert.equal(new TextDecoder().decode(own.subarray(0, text.length)), text);
});
