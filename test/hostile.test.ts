/** A guest that breaks every rule it can: the daemon lives, and whoever keeps the rules is served. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';

import { E2BIG, EBADF, EFAULT, EINVAL, ENOENT, ENOSYS } from '../src/core/index.ts';
import {
  BatchForgetIn,
  ForgetIn,
  ForgetOne,
  GetattrIn,
  InHeader,
  MkdirIn,
  OpenIn,
  OPCODES,
  opcodes,
  OutHeader,
  ReadIn,
  ReleaseIn,
  WriteIn,
} from '../src/fuse/index.ts';
import { O_RDONLY, O_RDWR } from '../src/sys/index.ts';
import { commonDaemon, removeTree, TestDaemon } from './daemon.ts';
import { body, bytesOf, concat, name, words } from './fuse.ts';
import { checkReply, type Cut, type FuseRequest, HIPRIO, type TestGuest } from './guest.ts';
import { Mount, ownFolder, ROOT } from './mount.ts';
import { type Known, type Mutant, mutate, validRequests } from './mutator.ts';
import { Random } from './random.ts';
import { INDIRECT, NEXT, RawRing, type RawDescriptor, WRITE } from './raw-ring.ts';

const MUTANTS = 100_000;
const RING_MUTATIONS = 50_000;
const BATCH = 60;
const SCRIBBLE_MS = 3000;
const CONTENT = 'the content of a file that nobody spoils';
/** They end the session, flush the host's disk, or fill it when their numbers change. */
const UNSAFE = new Set<number>(
  [opcodes.INIT, opcodes.DESTROY, opcodes.FSYNC, opcodes.FSYNCDIR, opcodes.SYNCFS, opcodes.FALLOCATE].map(
    (each) => each.code,
  ),
);
const EMPTY = { inodes: 1, inodeDescriptors: 1, handles: 0 };

// What a guest can make the daemon say is a test of its own.
const daemon = commonDaemon({ args: ['--stay', '--log-level', 'error'] });

interface Scene {
  readonly mount: Mount;
  readonly guest: TestGuest;
  /** To be spoiled. */
  readonly path: string;
  readonly nodeid: bigint;
  /** Asks for what must be right at any time. */
  readonly probe: () => void;
}

function enter(t: TestContext, requestQueues = 1): Scene {
  const mount = Mount.connect(daemon().socketPath, { queueSize: 256, requestQueues });
  t.after(() => mount.guest.close());
  const { path, nodeid } = ownFolder(daemon(), mount);
  const safe = mkdtempSync(join(daemon().share, 'safe-'));
  writeFileSync(join(safe, 'file'), CONTENT);
  return { mount, guest: mount.guest, path, nodeid, probe: () => probe(mount, basename(safe)) };
}

/** A lookup, an open, a read and their ends, each answered as it must be. */
function probe(mount: Mount, safe: string): void {
  const directory = mount.lookup(ROOT, safe).nodeid;
  const file = mount.lookup(directory, 'file').nodeid;
  const fh = mount.open(file, O_RDONLY);
  assert.equal(Buffer.from(mount.read(fh, 0, 100)).toString(), CONTENT);
  mount.release(fh);
  mount.lookup(directory, 'absent', ENOENT);
  mount.batchForget({ nodeid: file, nlookup: 1 }, { nodeid: directory, nlookup: 1 });
}

/** After all of it nothing is left: no inode, no handle, no descriptor. */
async function assertNothingLeft({ mount }: Scene, files: number): Promise<void> {
  mount.destroy();
  const { inodes, inodeDescriptors, handles } = await daemon().gauges();
  assert.deepEqual({ inodes, inodeDescriptors, handles }, EMPTY);
  assert.equal(daemon().openFiles(), files);
}

// Descriptors.

const FAR = 2n ** 40n;
const TABLE = 8192;

/** A GETATTR at `data` and the room for its reply: what is good about a bad chain, so that the rest is what counts. */
const asked = (data: number): RawDescriptor => ({ address: data, length: 56 });
const answer = (data: number): RawDescriptor => ({ address: data + 4096, length: 120, flags: WRITE });

/** Chains that break a rule, by the rule; each starts at descriptor 0 and would be served but for that. */
const BAD_CHAINS: Record<string, (ring: RawRing, data: number) => void> = {
  'a descriptor that is followed by itself': (ring, data) => ring.describe(0, { ...asked(data), flags: NEXT }),
  'two descriptors that follow each other': (ring, data) => {
    for (const i of [0, 1]) ring.describe(i, { ...asked(data), flags: NEXT, next: 1 - i });
  },
  'a reply that is followed by itself': (ring, data) => {
    ring.describeAll(0, [asked(data), { ...answer(data), flags: WRITE | NEXT, next: 1 }]);
  },
  'a loop through the whole table': (ring, data) => {
    for (let i = 0; i < ring.size; i += 1) {
      ring.describe(i, { address: data, length: 1, flags: NEXT, next: (i + 1) % ring.size });
    }
  },
  'a loop of empty descriptors': (ring) => ring.describeAll(0, [{}, { flags: NEXT, next: 0 }]),
  'a next field outside the table': (ring, data) => {
    ring.describeAll(0, [asked(data), { ...answer(data), flags: WRITE | NEXT, next: ring.size }]);
  },
  'a next field far outside the table': (ring, data) => {
    ring.describeAll(0, [asked(data), { ...answer(data), flags: WRITE | NEXT, next: 0xffff }]);
  },
  'an address outside memory': (ring, data) => ring.describeAll(0, [{ address: FAR, length: 56 }, answer(data)]),
  'an address that is negative': (ring, data) => ring.describeAll(0, [{ address: -56n, length: 56 }, answer(data)]),
  'an end outside memory': (ring, data) => {
    ring.describeAll(0, [{ address: ring.guest.memoryBytes - 55, length: 56 }, answer(data)]);
  },
  'an address and a length that overflow together': (ring, data) => {
    ring.describeAll(0, [{ address: -1n, length: 0xffff_ffff }, answer(data)]);
  },
  'a length of 4 GiB': (ring, data) => ring.describeAll(0, [{ address: data, length: 0xffff_ffff }, answer(data)]),
  'a reply outside memory': (ring, data) => {
    ring.describeAll(0, [asked(data), { ...answer(data), address: FAR }]);
  },
  'a piece of the request outside memory': (ring, data) => {
    ring.describeAll(0, [asked(data), { address: FAR, length: 8 }, answer(data)]);
  },
  'a piece of the reply outside memory': (ring, data) => {
    ring.describeAll(0, [asked(data), answer(data), { address: FAR, length: 1, flags: WRITE }]);
  },
  'a request after its reply': (ring, data) => ring.describeAll(0, [answer(data), asked(data)]),
  'a piece of the request after the reply': (ring, data) => {
    ring.describeAll(0, [asked(data), answer(data), { address: data, length: 1 }]);
  },
  'an empty reply before the request': (ring, data) => {
    ring.describeAll(0, [{ flags: WRITE }, asked(data), answer(data)]);
  },
  'a table with something after it': (ring, data) => {
    ring.describe(0, { address: data + TABLE, length: 32, flags: INDIRECT | NEXT, next: 1 });
    ring.describe(1, { ...answer(data), length: 1 });
    ring.describeAll(0, [asked(data), answer(data)], data + TABLE);
  },
  'an empty table': (ring, data) => ring.describe(0, { address: data + TABLE, length: 0, flags: INDIRECT }),
  'a table of 31 bytes': (ring, data) => {
    ring.describe(0, { address: data + TABLE, length: 31, flags: INDIRECT });
    ring.describeAll(0, [asked(data), answer(data)], data + TABLE);
  },
  'a table of 33 bytes': (ring, data) => {
    ring.describe(0, { address: data + TABLE, length: 33, flags: INDIRECT });
    ring.describeAll(0, [asked(data), answer(data)], data + TABLE);
  },
  'a table of 4 GiB': (ring, data) => {
    ring.describe(0, { address: data + TABLE, length: 0xffff_fff0, flags: INDIRECT });
    ring.describeAll(0, [asked(data), answer(data)], data + TABLE);
  },
  'a table outside memory': (ring) => ring.describe(0, { address: FAR, length: 16, flags: INDIRECT }),
  'a table across the end of memory': (ring, data) => {
    ring.describe(0, { address: ring.guest.memoryBytes - 32, length: 48, flags: INDIRECT });
    ring.describeAll(0, [asked(data), answer(data)], ring.guest.memoryBytes - 32);
  },
  'a table in a table': (ring, data) => {
    const table = data + TABLE;
    ring.describe(0, { address: table, length: 16, flags: INDIRECT });
    ring.describe(0, { address: table + 16, length: 32, flags: INDIRECT }, table);
    ring.describeAll(1, [{ ...asked(data), next: 1 }, answer(data)], table);
  },
  'a table that is its own entry': (ring, data) => {
    ring.describe(0, { address: data + TABLE, length: 16, flags: INDIRECT });
    ring.describe(0, { address: data + TABLE, length: 16, flags: INDIRECT }, data + TABLE);
  },
  'a loop in a table': (ring, data) => {
    ring.describe(0, { address: data + TABLE, length: 32, flags: INDIRECT });
    for (const i of [0, 1]) ring.describe(i, { address: data, length: 1, flags: NEXT, next: 1 - i }, data + TABLE);
  },
  'a next field outside the table that it is in': (ring, data) => {
    ring.describe(0, { address: data + TABLE, length: 32, flags: INDIRECT });
    ring.describe(0, { ...asked(data), flags: NEXT, next: 5 }, data + TABLE);
    ring.describe(5, answer(data), data + TABLE);
  },
  'more than 4 GiB in all': (ring, data) => {
    const all = { address: ring.guest.dataAt, length: ring.guest.memoryBytes - ring.guest.dataAt };
    ring.describe(0, { address: data + TABLE, length: 400 * 16, flags: INDIRECT });
    ring.describeAll(
      0,
      [asked(data), answer(data), ...Array.from({ length: 398 }, () => ({ ...all, flags: WRITE }))],
      data + TABLE,
    );
  },
};

/** Their headers are there: the answer is an error, as older kernels take silence for success. */
const ANSWERED = ['a piece of the reply outside memory', 'a piece of the request outside memory'];

test('a chain that breaks a rule comes back with nothing written but an error, and the queue goes on', (t) => {
  const { guest, probe: check } = enter(t);
  const ring = new RawRing(guest);
  const data = guest.dataAt;
  for (const [what, build] of Object.entries(BAD_CHAINS)) {
    guest.write(data, guest.encode({ opcode: opcodes.GETATTR.code, body: body(GetattrIn) }));
    build(ring, data);
    assert.equal(ring.judge(0).bad, true, `the oracle on: ${what}`);
    ring.offer(0);
    const length = ANSWERED.includes(what) ? OutHeader.bytes : 0;
    assert.deepEqual(ring.run(1), [{ head: 0, length }], what);
    if (length > 0) assert.deepEqual(guest.read(data + 4096, 8), words(OutHeader.bytes, -EFAULT));
    // A good one right behind it.
    ring.describeAll(4, [
      { address: data, length: 56 },
      { address: data + 4096, length: 120, flags: WRITE },
    ]);
    ring.offer(4);
    assert.deepEqual(ring.run(1), [{ head: 4, length: 120 }], `after ${what}`);
  }
  ring.restart();
  check();
});

test('an available ring that makes no sense stops that queue alone, until it is started again', (t) => {
  const { guest, mount, probe: check } = enter(t, 2);
  for (const spoil of [
    (ring: RawRing) => ring.offer(256),
    (ring: RawRing) => ring.offer(0xffff),
    (ring: RawRing) => {
      ring.availableIndex = 257;
    },
    (ring: RawRing) => {
      ring.availableIndex = 0xffff;
    },
  ]) {
    const ring = new RawRing(guest, 2);
    spoil(ring);
    guest.kick(2);
    check();
    assert.equal(ring.usedIndex, 0);
    assert.equal(ring.settle(), 0, 'nothing was taken');
    assert.equal(guest.ask({ opcode: opcodes.GETATTR.code, body: body(GetattrIn) }, 0, 2).byteLength, 104);
  }
  mount.getattr(ROOT);
});

test('the same head twice is served twice, and does no harm', (t) => {
  const { guest, probe: check } = enter(t);
  const ring = new RawRing(guest);
  const data = guest.dataAt;
  guest.write(data, guest.encode({ opcode: opcodes.GETATTR.code, body: body(GetattrIn) }));
  ring.describeAll(7, [
    { address: data, length: 56 },
    { address: data + 4096, length: 120, flags: WRITE },
  ]);
  ring.offer(...Array.from({ length: 256 }, () => 7));
  assert.ok(ring.run(256).every(({ head, length }) => head === 7 && length === 120));
  ring.restart();
  check();
});

/** Descriptors of all kinds; `table` is where indirect ones may point. */
function anyDescriptor(guest: TestGuest, table: number): fc.Arbitrary<RawDescriptor> {
  const data = guest.dataAt;
  const end = guest.memoryBytes;
  const lengths = fc.oneof(fc.constantFrom(0, 1, 16, 40, 56, 120, 4096, 0x7fff_ffff, 0xffff_ffff), fc.nat(200));
  const next = fc.oneof(fc.nat(12), fc.constantFrom(255, 256, 0xffff));
  const buffer = fc.record({
    address: fc.constantFrom<number | bigint>(
      data,
      data,
      data + 4096,
      data + 3,
      end - 16,
      end - 1,
      end,
      FAR,
      -1n,
      -16n,
    ),
    length: lengths,
    flags: fc.constantFrom(0, NEXT, NEXT, NEXT, WRITE, WRITE | NEXT, WRITE | NEXT, 0xfff8),
    next,
  });
  const indirect = fc.record({
    address: fc.constantFrom<number | bigint>(table, table, table + 16, table + 3, end - 32, end, FAR, -16n),
    length: fc.oneof(fc.constantFrom(0, 15, 16, 32, 96, 192, 192, 65536, 65552, 0xffff_fff0), lengths),
    flags: fc.constantFrom(INDIRECT, INDIRECT, INDIRECT | WRITE, INDIRECT | NEXT, 0xfffc),
    next,
  });
  return fc.oneof({ weight: 5, arbitrary: buffer }, { weight: 1, arbitrary: indirect });
}

test('any descriptors at all are judged as virtio says, whatever they describe', (t) => {
  const { guest, probe: check } = enter(t);
  const ring = new RawRing(guest);
  const { seed } = Random.fromEnvironment(t);
  const data = guest.dataAt;
  const table = data + 1024 * 1024;
  // Good chains with a few spoiled descriptors: what is all noise is refused at the first one.
  const spoiled = fc.oneof(
    { weight: 15, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: anyDescriptor(guest, table) },
  );
  const some = fc.array(spoiled, { minLength: 12, maxLength: 12 });
  const good = Array.from({ length: 12 }, (_, i) => ({
    address: i < 4 ? data + 14 * i : data + 4096 + 15 * (i - 4),
    length: i < 4 ? 14 : 15,
    flags: (i < 4 ? 0 : WRITE) | (i < 11 ? NEXT : 0),
    next: i + 1,
  }));
  const request = guest.encode({ opcode: opcodes.GETATTR.code, body: body(GetattrIn) });
  let answered = 0;
  const property = fc.property(some, some, (descriptors, indirect) => {
    guest.write(data, request);
    for (const [i, each] of indirect.entries()) ring.describe(i, each ?? good[i], table);
    for (const [i, each] of descriptors.entries()) ring.describe(i, each ?? good[i]);
    const verdicts = descriptors.map((_, head) => ring.judge(head));
    ring.offer(...descriptors.keys());
    for (const { head, length } of ring.run(descriptors.length)) {
      const { bad, readableBytes, writableBytes } = verdicts[head];
      if (readableBytes < InHeader.bytes || writableBytes < OutHeader.bytes) {
        assert.equal(length, 0, `chain ${head}`);
        continue;
      }
      // A part of it is not there, and the answer says so.
      if (bad) {
        assert.equal(length, OutHeader.bytes, `chain ${head}`);
        continue;
      }
      assert.ok(length === 0 || (length >= OutHeader.bytes && length <= writableBytes), `chain ${head}: ${length}`);
      if (length > 0) answered += 1;
    }
  });
  fc.assert(property, { seed, numRuns: 1500, interruptAfterTimeLimit: 20_000 });
  assert.ok(answered > 500, `only ${answered} chains were answered`);
  ring.restart();
  check();
});

// Framing.

/** Sends a request in many cuts; each must have the same reply as the uncut one. */
function assertFramingIsNothing(guest: TestGuest, request: FuseRequest, room: number): void {
  const message = guest.encode({ ...request, unique: 99n });
  const whole = guest.sendBytes(message, room);
  assert.equal(whole.error, 0);
  const expected = bytesOf(whole.body);
  const cuts: Cut[] = [];
  for (const indirect of [false, true]) {
    for (let at = 1; at < message.length; at += 1) cuts.push({ indirect, readable: [at] });
    for (let at = 1; at < room; at += 1) cuts.push({ indirect, writable: [at] });
    for (let at = 1; at < message.length - 1; at += 1) cuts.push({ indirect, readable: [at, 1], writable: [16, 1] });
    for (const size of [1, 2, 3, 7, 40]) {
      const pieces = (count: number): number[] => Array.from({ length: count }, () => size);
      cuts.push({ indirect, readable: pieces(40), writable: pieces(20) });
    }
    // The table has the rest of the chain.
    if (indirect) cuts.push({ indirect, directFirst: 2, readable: [5, 50], writable: [3, 14] });
  }
  const replies = guest.sendAllBytes(cuts.map((cut) => ({ message, writableBytes: room, cut })));
  for (const [i, reply] of replies.entries()) {
    assert.deepEqual([reply.used, reply.length, reply.error, reply.unique], [whole.used, whole.used, 0, 99n]);
    assert.ok(Buffer.from(bytesOf(reply.body)).equals(expected), `cut ${JSON.stringify(cuts[i])}`);
  }
}

test('a LOOKUP, a WRITE and a READ mean the same however they are cut into descriptors', (t) => {
  const { guest, mount, path, nodeid, probe: check } = enter(t);
  writeFileSync(join(path, 'a-name'), '0123456789'.repeat(30));
  const found = mount.lookup(nodeid, 'a-name').nodeid;
  const fh = mount.open(found, O_RDWR);
  assertFramingIsNothing(guest, { opcode: opcodes.LOOKUP.code, nodeid, body: name('a-name') }, 144);
  assertFramingIsNothing(guest, { opcode: opcodes.READ.code, body: body(ReadIn, { fh, offset: 3, size: 200 }) }, 216);
  const data = Buffer.from('written in pieces and all the same');
  const write = concat(body(WriteIn, { fh, offset: 11, size: data.length }), data);
  assertFramingIsNothing(guest, { opcode: opcodes.WRITE.code, body: write }, 24);
  assert.equal(Buffer.from(mount.read(fh, 11, data.length)).toString(), data.toString());
  check();
});

test('a request that ends anywhere is refused and does nothing, whole or in its own words', (t) => {
  const { guest, path, nodeid, probe: check } = enter(t);
  const message = guest.encode({
    opcode: opcodes.MKDIR.code,
    nodeid,
    body: concat(body(MkdirIn, { mode: 0o755 }), name('dir')),
  });
  const messages = [];
  for (let length = 1; length < message.length; length += 1) {
    const truncated = message.slice(0, length);
    messages.push({ message: truncated, writableBytes: 144 });
    // The header says the same.
    if (length >= 4) new DataView(truncated.buffer).setUint32(0, length, true);
  }
  for (const [i, { used, error }] of guest.sendAllBytes(messages).entries()) {
    const expected = i + 1 < InHeader.bytes ? [0, 0] : [16, -EINVAL];
    assert.deepEqual([used, error], expected, `${i + 1} bytes of MKDIR`);
  }
  assert.deepEqual(readdirSync(path), []);
  check();
});

test('bodies of any length are refused when they are too short, and never do harm when they are too long', (t) => {
  const scene = enter(t);
  const { guest, probe: check } = scene;
  const long = [81_920, 81_921, 200_000, 1024 * 1024];
  for (let code = 0; code < OPCODES.length; code += 1) {
    // They are what end a session and start one.
    if (code === opcodes.INIT.code || code === opcodes.DESTROY.code) continue;
    const record = OPCODES[code];
    const fixed = record?.inBytes ?? 0;
    const lengths = [...Array.from({ length: fixed + 24 }, (_, i) => i), ...long];
    const requests = lengths.map((length) => ({
      opcode: code,
      // Nobody: what gets as far as the file system is refused there.
      nodeid: 2n ** 40n + 3n,
      body: new Uint8Array(length).fill(0x61),
      room: record?.reply === 'none' ? -1 : Math.max(144, record?.outBytes ?? 0),
      unique: 7n,
    }));
    for (const [i, reply] of guest.sendAll(requests).entries()) {
      checkReply(code, reply, 7n);
      if (record?.reply === 'none') continue;
      const what = `${record?.name ?? code} with ${lengths[i]} bytes`;
      assert.ok(reply.error < 0, what);
      if (reply.error === -ENOSYS) continue;
      if (lengths[i] < fixed) assert.equal(reply.error, -EINVAL, what);
      if (lengths[i] > 81_920 && code !== opcodes.WRITE.code) assert.equal(reply.error, -E2BIG, what);
    }
  }
  check();
});

test('a header that lies about the length of its request is refused', (t) => {
  const { guest, path, nodeid, probe: check } = enter(t);
  const rest = concat(body(MkdirIn, { mode: 0o755 }), name('dir'));
  const true_ = InHeader.bytes + rest.length;
  for (const length of [0, 1, 39, 40, true_ - 1, true_ + 1, true_ + 4096, 0x7fff_ffff, 0xffff_ffff]) {
    guest.ask({ opcode: opcodes.MKDIR.code, nodeid, body: rest, length }, EINVAL);
  }
  assert.deepEqual(readdirSync(path), []);
  check();
});

test('a request without room for its reply does nothing', async (t) => {
  const scene = enter(t);
  const { guest, mount, path, nodeid, probe: check } = scene;
  writeFileSync(join(path, 'file'), CONTENT);
  mkdirSync(join(path, 'old'));
  const file = mount.lookup(nodeid, 'file').nodeid;
  const known = {
    directory: nodeid,
    file,
    link: file,
    fh: mount.open(file, O_RDWR),
    directoryFh: mount.opendir(nodeid),
  };
  const before = await daemon().gauges();
  const unanswered = [];
  const refused = [];
  for (const request of validRequests(known)) {
    const record = OPCODES[request.opcode];
    assert.ok(record);
    if (record.reply === 'none' || request.opcode === opcodes.INIT.code) continue;
    const message = guest.encode(request);
    for (const writableBytes of [0, 1, 8, 15]) unanswered.push({ message, writableBytes });
    if (record.outBytes > 0)
      refused.push({ message, writableBytes: 16 }, { message, writableBytes: 15 + record.outBytes });
  }
  for (const { used } of guest.sendAllBytes(unanswered)) assert.equal(used, 0);
  for (const { used, error } of guest.sendAllBytes(refused)) {
    assert.equal(used, 16);
    assert.ok(error === -EINVAL || error === -ENOSYS);
  }
  assert.deepEqual(readdirSync(path).toSorted(), ['file', 'old']);
  const { inodes, handles } = await daemon().gauges();
  assert.deepEqual({ inodes, handles }, { inodes: before.inodes, handles: before.handles });
  assert.equal(Buffer.from(mount.read(known.fh, 0, 100)).toString(), CONTENT);
  check();
});

// Queues.

test('the hiprio queue refuses what belongs to the others', (t) => {
  const { guest, mount, path, nodeid, probe: check } = enter(t);
  writeFileSync(join(path, 'file'), CONTENT);
  const file = mount.lookup(nodeid, 'file').nodeid;
  const known = {
    directory: nodeid,
    file,
    link: file,
    fh: mount.open(file, O_RDWR),
    directoryFh: mount.opendir(nodeid),
  };
  for (const request of validRequests(known)) {
    const record = OPCODES[request.opcode];
    assert.ok(record);
    if (record.hiprio || record.reply === 'none') continue;
    const reply = guest.send({ ...request, unique: 5n }, HIPRIO);
    checkReply(request.opcode, reply, 5n);
    assert.equal(reply.error, -EINVAL, record.name);
  }
  assert.deepEqual(readdirSync(path), ['file']);
  check();
});

test('a request queue takes FORGETs as well, and answers none of them', (t) => {
  const { guest, mount, path, nodeid, probe: check } = enter(t);
  writeFileSync(join(path, 'file'), '');
  const one = (found: bigint): FuseRequest => {
    return { opcode: opcodes.FORGET.code, nodeid: found, body: body(ForgetIn, { nlookup: 1 }) };
  };
  const many = (found: bigint): FuseRequest => {
    const list = concat(body(BatchForgetIn, { count: 1 }), body(ForgetOne, { nodeid: found, nlookup: 1 }));
    return { opcode: opcodes.BATCH_FORGET.code, body: list };
  };
  for (const room of [-1, 0, 200]) {
    for (const forget of [one, many]) {
      const found = mount.lookup(nodeid, 'file').nodeid;
      const { used, spilled } = guest.send({ ...forget(found), room });
      assert.deepEqual([used, spilled], [0, false]);
      mount.getattr(found, ENOENT);
    }
    assert.equal(guest.send({ opcode: opcodes.INTERRUPT.code, room, body: new Uint8Array(8) }).used, 0);
  }
  check();
});

test('a BATCH_FORGET that announces more than it has forgets nothing', (t) => {
  const { guest, mount, path, nodeid, probe: check } = enter(t);
  writeFileSync(join(path, 'file'), '');
  const found = mount.lookup(nodeid, 'file').nodeid;
  for (const count of [2, 3, 5000, 0x0fff_ffff, 0x1000_0001, 0xffff_ffff]) {
    const list = concat(body(BatchForgetIn, { count }), body(ForgetOne, { nodeid: found, nlookup: 1 }));
    for (const queue of [HIPRIO, 1]) guest.ask({ opcode: opcodes.BATCH_FORGET.code, body: list }, 0, queue);
  }
  mount.getattr(found);
  check();
});

/** Sends the same requests on several queues at once; the errors of all. */
function everywhere(guest: TestGuest, requests: readonly FuseRequest[], queues: readonly number[]): number[] {
  const places: number[] = [];
  for (const queue of queues) {
    for (const [i, each] of requests.entries()) {
      const at = guest.dataAt + (queue * requests.length + i) * 8192;
      const message = guest.encode(each);
      guest.write(at, message);
      const room = OPCODES[each.opcode]?.reply === 'none' ? [] : [{ address: at + 4096, length: OutHeader.bytes }];
      guest.drivers[queue].add([{ address: at, length: message.length }], room);
      places.push(at + 4096);
    }
    guest.drivers[queue].publish();
  }
  for (const queue of queues) guest.kick(queue);
  for (const queue of queues) for (const _ of requests) guest.collect(queue);
  return places.map((at) => new DataView(guest.read(at, OutHeader.bytes).buffer).getInt32(4, true));
}

test('handles that are released on four queues at once are closed once', async (t) => {
  const scene = enter(t, 4);
  const { guest, mount, path, nodeid, probe: check } = scene;
  const files = daemon().openFiles() - 1;
  writeFileSync(join(path, 'file'), CONTENT);
  const file = mount.lookup(nodeid, 'file').nodeid;
  for (let round = 0; round < 100; round += 1) {
    const handles = Array.from({ length: 30 }, () => mount.open(file, O_RDONLY));
    const errors = everywhere(
      guest,
      handles.map((fh) => ({ opcode: opcodes.RELEASE.code, body: body(ReleaseIn, { fh }) })),
      [1, 2, 3, 4],
    );
    assert.equal(errors.filter((error) => error === 0).length, handles.length);
    assert.equal(errors.filter((error) => error === -EBADF).length, 3 * handles.length);
  }
  check();
  await assertNothingLeft(scene, files);
});

test('an inode that is forgotten on five queues at once goes once', async (t) => {
  const scene = enter(t, 4);
  const { guest, mount, path, nodeid, probe: check } = scene;
  const files = daemon().openFiles() - 1;
  writeFileSync(join(path, 'file'), CONTENT);
  for (let round = 0; round < 300; round += 1) {
    const { nodeid: found } = mount.lookup(nodeid, 'file');
    for (let again = round % 4; again > 0; again -= 1) mount.lookup(nodeid, 'file');
    const nlookup = round % 3 === 0 ? 2n ** 63n : 1n + BigInt(round % 4);
    everywhere(
      guest,
      [{ opcode: opcodes.FORGET.code, nodeid: found, body: body(ForgetIn, { nlookup }) }],
      [0, 1, 2, 3, 4],
    );
    mount.getattr(found, ENOENT);
  }
  check();
  await assertNothingLeft(scene, files);
});

test('a guest that forgets inodes before it has been told of them gains and leaks nothing', async (t) => {
  const scene = enter(t, 4);
  const { guest, mount, path, nodeid, probe: check } = scene;
  writeFileSync(join(path, 'file'), CONTENT);
  const files = daemon().openFiles() - 1;
  let expected = mount.lookup(nodeid, 'file').nodeid;
  const lookup = guest.encode({ opcode: opcodes.LOOKUP.code, nodeid, body: name('file') });
  const slot = expected & 0xffff_ffffn;
  for (let round = 0; round < 3000; round += 1) {
    const generation = expected >> 32n;
    // Every queue looks up and forgets, over and over; which node id comes next is easily guessed.
    for (let queue = 0; queue <= 4; queue += 1) {
      for (let i = 0; i < 8; i += 1) {
        const at = guest.dataAt + queue * 65536 + i * 4096;
        const guess = slot + ((generation + BigInt(i >> 1)) << 32n);
        const forget = guest.encode({
          opcode: opcodes.FORGET.code,
          nodeid: guess,
          body: body(ForgetIn, { nlookup: 1 }),
        });
        const message = queue > 1 && i % 2 === 0 ? lookup : forget;
        guest.write(at, message);
        guest.drivers[queue].add(
          [{ address: at, length: message.length }],
          message === lookup ? [{ address: at + 2048, length: 144 }] : [],
        );
      }
      guest.drivers[queue].publish();
      guest.kick(queue);
    }
    for (let queue = 0; queue <= 4; queue += 1) for (let i = 0; i < 8; i += 1) guest.collect(queue);
    const found = mount.lookup(nodeid, 'file').nodeid;
    assert.equal(found & 0xffff_ffffn, slot, `round ${round}: the slot was not given back`);
    expected = found;
  }
  check();
  await assertNothingLeft(scene, files);
});

test('sessions that start and end while four queues are at work leave nothing behind', async (t) => {
  const scene = enter(t, 4);
  const { guest, mount, path, nodeid, probe: check } = scene;
  const random = Random.fromEnvironment(t);
  for (let i = 0; i < 8; i += 1) writeFileSync(join(path, `${i}`), CONTENT);
  const files = daemon().openFiles() - 1;
  const own = name(basename(path));
  let directory = nodeid;
  const any = (): FuseRequest => {
    const guess = BigInt(2 + random.below(12)) + (BigInt(random.below(40)) << 32n);
    const { LOOKUP, FORGET, OPEN, OPENDIR, READDIRPLUS, RELEASE, INIT, DESTROY } = opcodes;
    return random.pick<FuseRequest>([
      { opcode: LOOKUP.code, nodeid: directory, body: name(`${random.below(8)}`) },
      { opcode: LOOKUP.code, nodeid: directory, body: name(`${random.below(8)}`) },
      { opcode: LOOKUP.code, body: own },
      { opcode: FORGET.code, nodeid: guess, body: body(ForgetIn, { nlookup: 1 }) },
      { opcode: OPEN.code, nodeid: guess, body: body(OpenIn) },
      { opcode: OPENDIR.code, body: body(OpenIn) },
      { opcode: READDIRPLUS.code, nodeid: directory, body: body(ReadIn, { fh: guess, size: 4096 }) },
      { opcode: RELEASE.code, body: body(ReleaseIn, { fh: guess }) },
      { opcode: INIT.code, body: body(INIT.in, { major: 7, minor: 41 }) },
      random.below(4) === 0
        ? { opcode: DESTROY.code }
        : { opcode: INIT.code, body: body(INIT.in, { major: 7, minor: 41 }) },
    ]);
  };
  for (let round = 0; round < 1500; round += 1) {
    for (let queue = 1; queue <= 4; queue += 1) {
      for (let i = 0; i < 8; i += 1) {
        const at = guest.dataAt + queue * 131_072 + i * 16_384;
        const message = guest.encode(any());
        guest.write(at, message);
        const reply = { address: at + 4096, length: OutHeader.bytes + 4096 };
        assert.ok(guest.drivers[queue].add([{ address: at, length: message.length }], [reply]) >= 0);
      }
      guest.drivers[queue].publish();
      guest.kick(queue);
    }
    for (let queue = 1; queue <= 4; queue += 1) for (let i = 0; i < 8; i += 1) guest.collect(queue);
    if (round % 50 !== 0) continue;
    daemon().watched();
    assert.equal(guest.init().error, 0);
    directory = mount.lookup(ROOT, basename(path)).nodeid;
    check();
  }
  assert.equal(guest.init().error, 0);
  await assertNothingLeft(scene, files);
});

test('node ids and handles that are made up open nothing', (t) => {
  const { guest, mount, path, nodeid, probe: check } = enter(t);
  const random = Random.fromEnvironment(t);
  writeFileSync(join(path, 'file'), CONTENT);
  const file = mount.lookup(nodeid, 'file').nodeid;
  const real = [mount.open(file, O_RDWR), mount.opendir(nodeid)];
  const given = new Set([ROOT, nodeid, file, ...real]);
  const word = (): bigint => BigInt(random.word());
  const makeUp = (): bigint => {
    const near = random.pick([...given]);
    const made = random.pick([
      BigInt(random.below(100)),
      near + (word() << 32n),
      near ^ (1n << BigInt(random.below(64))),
      near + BigInt(random.below(5)) - 2n,
      (word() << 32n) + word(),
    ]);
    return BigInt.asUintN(64, made);
  };
  const { GETATTR, OPEN, OPENDIR, LOOKUP, READ, WRITE: WRITE_, RELEASE, READDIR } = opcodes;
  for (let round = 0; round < 200; round += 1) {
    const requests: FuseRequest[] = [];
    const errors: number[] = [];
    while (requests.length < 80) {
      const number = makeUp();
      if (given.has(number)) continue;
      const about = random.below(2) === 0;
      const fh = body(ReadIn, { fh: number, size: 10 });
      const byNode = [
        { opcode: GETATTR.code, body: body(GetattrIn) },
        { opcode: OPEN.code, body: body(OpenIn) },
        { opcode: OPENDIR.code, body: body(OpenIn) },
        { opcode: LOOKUP.code, body: name('file') },
      ];
      const byHandle = [
        { opcode: READ.code, body: fh },
        { opcode: READDIR.code, body: fh },
        { opcode: WRITE_.code, body: concat(body(WriteIn, { fh: number, size: 1 }), Buffer.from('x')) },
        { opcode: RELEASE.code, body: body(ReleaseIn, { fh: number }) },
      ];
      requests.push(about ? { ...random.pick(byNode), nodeid: number } : random.pick(byHandle));
      errors.push(about ? -ENOENT : -EBADF);
    }
    assert.deepEqual(
      guest.sendAll(requests).map((reply) => reply.error),
      errors,
    );
  }
  mount.getattr(file);
  for (const fh of real) mount.release(fh);
  check();
});

// Mutations.

/** Ids for the mutants to be about, made anew: the old ones may have been released, forgotten, removed. */
function prepare({ mount, path }: Scene, round: number): Known {
  chmodSync(path, 0o755);
  const { nodeid } = mount.lookup(ROOT, basename(path));
  const { entry, fh } = mount.create(nodeid, `known-${round}`, { flags: O_RDWR, mode: 0o644 });
  truncateSync(join(path, `known-${round}`), 10_000);
  // What the requests are about by name.
  for (const each of ['a', 'd', 'e', 'link']) removeTree(join(path, each));
  for (const each of ['a', 'e']) writeFileSync(join(path, each), CONTENT);
  mkdirSync(join(path, 'd'));
  symlinkSync('a', join(path, 'link'));
  const link = mount.lookup(nodeid, 'link').nodeid;
  return { directory: nodeid, file: entry.nodeid, link, fh, directoryFh: mount.opendir(nodeid) };
}

function emptyFolder(path: string): void {
  for (const each of readdirSync(path, { encoding: 'buffer' })) {
    removeTree(Buffer.concat([Buffer.from(`${path}/`), each]));
  }
}

/** Every reply must be one that a guest can read, whatever the request was. */
function assertReadable(mutant: Mutant, { used, length, unique, error, spilled }: ReturnType<TestGuest['send']>): void {
  const { message, writableBytes } = mutant;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  if (used === 0) {
    const record = message.length >= InHeader.bytes ? OPCODES[view.getUint32(4, true)] : undefined;
    const silent = message.length < InHeader.bytes || writableBytes < OutHeader.bytes || record?.reply === 'none';
    assert.ok(silent, 'a request that can be answered was not');
    return;
  }
  assert.equal(used, length);
  assert.equal(unique, view.getBigUint64(InHeader.offsets.unique, true));
  assert.ok(error <= 0 && error > -512, `error ${error}`);
  assert.equal(spilled, false);
  if (error !== 0) assert.equal(used, OutHeader.bytes);
}

test('lives through any mutation of valid requests, and answers what is valid all the while', async (t) => {
  const scene = enter(t);
  const { guest, path, probe: check } = scene;
  const random = Random.fromEnvironment(t);
  const files = daemon().openFiles() - 1;
  let accepted = 0;
  for (let round = 0; round * BATCH < MUTANTS; round += 1) {
    daemon().watched();
    const known = prepare(scene, round);
    const originals = validRequests(known).map((request) => guest.encode(request));
    const ends = round % 50 === 49;
    const mutants = Array.from({ length: BATCH }, () => mutate(random, random.pick(originals), originals, ends));
    const replies = guest.sendAllBytes(mutants, random.below(20) === 0 ? HIPRIO : 1);
    for (const [i, reply] of replies.entries()) {
      assertReadable(mutants[i], reply);
      if (reply.used > 0 && reply.error === 0) accepted += 1;
    }
    if (ends) {
      assert.equal(guest.init().error, 0);
      emptyFolder(path);
    }
    chmodSync(daemon().share, 0o755);
    check();
  }
  assert.ok(accepted > MUTANTS / 20, `only ${accepted} of ${MUTANTS} mutants were accepted`);
  await assertNothingLeft(scene, files);
});

/** Writes nonsense over words of a queue's rings, tables and descriptors. */
function spoilRings(guest: TestGuest, queue: number, random: Random, count: number): void {
  const { descriptorTable, availableRing, usedRing, size } = guest.drivers[queue];
  const near = (): number => guest.dataAt + random.below(BATCH * 8192);
  for (let i = 0; i < count; i += 1) {
    const places = [
      descriptorTable + random.below(size * 4) * 4,
      descriptorTable + random.below(size * 4) * 4,
      // Indirect tables lie behind the used ring.
      usedRing + 4 * 1024 + random.below(32 * 1024) * 4,
      availableRing + random.below(size >> 1) * 4,
      usedRing + random.below(size * 2) * 4,
    ];
    const values = [near(), near(), random.below(8) | (random.below(size) << 16), random.below(300), random.word()];
    const bytes = new Uint8Array(new Uint32Array([random.pick(values)]).buffer);
    guest.write(random.pick(places), random.below(4) === 0 ? bytes.subarray(0, 1) : bytes);
  }
}

test('lives through any mutation of rings and descriptors, and serves a queue that is started again', async (t) => {
  const spoils = 20;
  const scene = enter(t);
  const { guest, mount, path, probe: check } = scene;
  const random = Random.fromEnvironment(t);
  const files = daemon().openFiles() - 1;
  let taken = 0;
  for (let round = 0; round * spoils < RING_MUTATIONS; round += 1) {
    if (round % 50 === 0) {
      daemon().watched();
      assert.equal(guest.init().error, 0);
      emptyFolder(path);
    }
    const originals = validRequests(prepare(scene, round)).map((request) => guest.encode(request));
    for (let i = 0; i < BATCH; i += 1) {
      const at = guest.dataAt + i * 8192;
      const { message, cut } = mutate(random, random.pick(originals), originals, false);
      guest.write(at, message);
      const readable = message.length === 0 ? [] : [{ address: at, length: message.length }];
      const writable = [{ address: at + 4096, length: 16 + random.below(200) }];
      guest.drivers[1].add(readable, writable, { indirect: cut.indirect });
    }
    // Once shown, and once before.
    const late = random.below(2) === 0;
    if (late) guest.drivers[1].publish();
    spoilRings(guest, 1, random, spoils);
    if (!late) guest.drivers[1].publish();
    guest.kick(1);
    taken += guest.stopQueue(1);
    guest.startQueue(1);
    // Replies that went astray may have hit the other queue's rings.
    if (round % 10 === 0) guest.restartQueue(HIPRIO);
    chmodSync(daemon().share, 0o755);
    mount.getattr(ROOT);
    if (round % 10 === 0) check();
  }
  assert.ok(taken > RING_MUTATIONS / 4, `only ${taken} chains were taken`);
  await assertNothingLeft(scene, files);
});

/** A thread of ours that writes all over a piece of guest memory until it is told to stop. */
function scribble(options: { address: number; bytes: number; seed: number; descriptors: boolean }): {
  stop: () => Promise<unknown>;
} {
  const program = `
    const { workerData } = require('node:worker_threads');
    import(workerData.sys).then(({ viewMemory }) => {
      const words = new Uint32Array(viewMemory(workerData.address, workerData.bytes));
      const original = words.slice();
      let state = workerData.seed;
      const next = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0);
      while (Atomics.load(workerData.stop, 0) === 0) {
        for (let i = 0; i < 64; i += 1) {
          const at = (next() >>> 8) % words.length;
          // An address is made one outside memory: a reply must not hit what the probe needs.
          words[at] = at % 4 === 0 && workerData.descriptors ? next() | 0x80000000 : next();
          for (let wait = next() >>> 26; wait > 0; wait -= 1) Atomics.load(workerData.stop, 0);
          words[at] = original[at];
        }
      }
    });
  `;
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const sys = new URL('../src/sys/index.ts', import.meta.url).href;
  const worker = new Worker(program, { eval: true, workerData: { ...options, sys, stop } });
  const ended = once(worker, 'exit');
  return {
    stop: () => {
      Atomics.store(stop, 0, 1);
      return ended;
    },
  };
}

test('lives with requests and descriptors that change while they are read', async (t) => {
  const scene = enter(t, 2);
  const { guest, path, probe: check } = scene;
  const random = Random.fromEnvironment(t);
  const files = daemon().openFiles() - 1;
  writeFileSync(join(path, 'a'), CONTENT);
  const known = prepare(scene, 0);
  const ring = new RawRing(guest, 2);
  const originals = validRequests(known).filter(({ opcode }) => !UNSAFE.has(opcode));
  // Behind everything else, so that a reply that becomes too long hits nothing that the probe needs.
  const at = guest.dataAt + 4 * 1024 * 1024;
  for (const [i, request] of originals.entries()) {
    const message = guest.encode(request);
    guest.write(at + i * 512, message);
    ring.describeAll(3 * i, [
      { address: at + i * 512, length: message.length },
      { address: at + 65536 + i * 4096, length: 200, flags: WRITE },
    ]);
  }
  // Those that open something do it seldom: nothing is closed before the end.
  const opening = new Set<number>([opcodes.OPEN, opcodes.OPENDIR, opcodes.CREATE].map((each) => each.code));
  const seldom = originals.map((_, i) => 3 * i);
  const often = seldom.filter((_, i) => !opening.has(originals[i].opcode));
  const host = guest.frontEnd.memory;
  const threads = [
    { address: host.hostOfGuest(at, 1), bytes: originals.length * 512, descriptors: false },
    {
      address: host.hostOfGuest(guest.drivers[2].descriptorTable, 1),
      bytes: originals.length * 48,
      descriptors: true,
    },
  ].map((place) => scribble({ ...place, seed: random.word() }));
  const end = performance.now() + SCRIBBLE_MS;
  let served = 0;
  try {
    for (let round = 0; performance.now() < end; round += 1) {
      const heads = round % 40 === 0 ? seldom : often;
      ring.offer(...heads);
      served += ring.run(heads.length).length;
      if (round % 40 === 0) check();
    }
  } finally {
    // Before the memory goes.
    for (const thread of threads) await thread.stop();
  }
  assert.ok(served > 1000, `only ${served} requests were served`);
  guest.restartQueue(2);
  chmodSync(daemon().share, 0o755);
  check();
  await assertNothingLeft(scene, files);
});

test('a guest cannot flood the log of its host', async () => {
  await using loud = await TestDaemon.start({ args: ['--log-level', 'warn'] });
  using mount = Mount.connect(loud.socketPath, { queueSize: 256 });
  const ring = new RawRing(mount.guest);
  const from = loud.said.length;
  for (let round = 0; round < 40; round += 1) {
    ring.describe(0, { address: FAR, length: 1 });
    ring.offer(...Array.from({ length: 200 }, () => 0));
    ring.run(200);
    // Lets the event loop take what the daemon says.
    await loud.gauges();
  }
  for (let round = 0; round < 1000; round += 1) {
    ring.availableIndex = 0x7fff;
    ring.settle();
  }
  await loud.gauges();
  const lines = loud.said
    .slice(from)
    .split('\n')
    .filter((line) => line.startsWith('virtiofs: '));
  assert.ok(lines.length > 0, 'it says that something is wrong');
  assert.ok(lines.length < 200, `it says it ${lines.length} times`);
});
