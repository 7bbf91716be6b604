/** vhost-user as QEMU speaks it, and as it should not be spoken. */
import assert from 'node:assert/strict';
import { existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EIO, ENOENT } from '../src/core/index.ts';
import { OutHeader, opcodes, WriteIn } from '../src/fuse/index.ts';
import { close, eventfd, memfd, O_APPEND, O_WRONLY } from '../src/sys/index.ts';
import { FRONT_END, HEADER_NEED_REPLY, MAX_PAYLOAD_BYTES, VRING_NO_FD } from '../src/vhost/index.ts';
import { commonDaemon, TestDaemon } from './daemon.ts';
import { body, concat, words } from './fuse.ts';
import { HIPRIO, TestGuest } from './guest.ts';
import { Mount, ownFolder, ROOT } from './mount.ts';
import { setBlocking } from './native.ts';
import { Random } from './random.ts';
import { RawFrontEnd, type RawQueue, regionPayload, state, u64 } from './raw-front-end.ts';

const MIB = 1024 * 1024;
const RINGS = 0x10_0000;
/** Where a test's FUSE messages lie, behind all rings. */
const DATA = 0x80_0000;
const F = { INDIRECT: 28n, EVENT_IDX: 29n, PROTOCOL: 30n, VERSION_1: 32n };
const P = { MQ: 0n, REPLY_ACK: 3n, BACKEND_REQ: 5n, CONFIG: 9n, RESET_DEVICE: 13n, MEM_SLOTS: 15n, STATUS: 16n };
const bit = (...numbers: bigint[]): bigint => numbers.reduce((sum, each) => sum | (1n << each), 0n);

const daemon = commonDaemon({ args: ['--stay', '--tag', 'from-daemon'] });

function connect(t: TestContext): RawFrontEnd {
  const frontEnd = new RawFrontEnd(daemon().socketPath);
  t.after(() => frontEnd.close());
  return frontEnd;
}

/** A front-end with 16 MiB of memory at guest address 0, and the rings of `queues` laid in it. */
function setUp(t: TestContext, queues = 2): { frontEnd: RawFrontEnd; queues: RawQueue[] } {
  const frontEnd = connect(t);
  frontEnd.negotiate();
  frontEnd.addRegion(0, 16 * MIB);
  return { frontEnd, queues: Array.from({ length: queues }, (_, i) => frontEnd.makeQueue(i, RINGS * i)) };
}

/** The daemon takes another connection, and serves it. */
function assertAlive(): void {
  using mount = Mount.connect(daemon().socketPath);
  mount.getattr(ROOT);
}

test('serves QEMU, in its order of messages, over stop and cont and a reboot', (t) => {
  const frontEnd = connect(t);
  const features = frontEnd.askNumber('GET_FEATURES');
  assert.equal(features, bit(F.INDIRECT, F.EVENT_IDX, F.PROTOCOL, F.VERSION_1));
  const protocol = frontEnd.askNumber('GET_PROTOCOL_FEATURES') & ~bit(P.CONFIG);
  assert.equal(protocol & bit(P.MQ, P.REPLY_ACK, P.MEM_SLOTS, P.RESET_DEVICE, P.STATUS), protocol & ~bit(5n, 10n));
  frontEnd.send('SET_PROTOCOL_FEATURES', u64(protocol));
  assert.ok(frontEnd.askNumber('GET_QUEUE_NUM') >= 5n);
  assert.ok(frontEnd.askNumber('GET_MAX_MEM_SLOTS') >= 32n);
  const requests = eventfd();
  t.after(() => close(requests));
  assert.ok(frontEnd.does('SET_BACKEND_REQ_FD', undefined, [requests]));
  frontEnd.send('SET_OWNER');
  assert.equal(frontEnd.askNumber('GET_FEATURES'), features);
  for (const index of [0, 1]) {
    const [call, error] = [frontEnd.eventfd(), frontEnd.eventfd()];
    assert.ok(frontEnd.does('SET_VRING_CALL', u64(index), [call]));
    assert.ok(frontEnd.does('SET_VRING_ERR', u64(index), [error]));
  }
  frontEnd.send('RESET_DEVICE');

  const driverIsReady = (): void => {
    frontEnd.send('SET_FEATURES', u64(features));
    frontEnd.send('SET_STATUS', u64(frontEnd.askNumber('GET_STATUS') | 15n));
  };
  driverIsReady();
  frontEnd.addRegion(0, 16 * MIB);
  const queues = [0, 1].map((index) => frontEnd.makeQueue(index, RINGS * index));
  for (const queue of queues) frontEnd.startQueue(queue);
  const [, queue] = queues;
  assert.equal(frontEnd.getattr(queue, DATA), -EIO, 'nothing is served before INIT');
  assert.equal(frontEnd.init(queue, DATA), 0);
  assert.equal(frontEnd.getattr(queue, DATA), 0);

  // `stop` and `cont` in the monitor: the guest goes on where it was.
  const bases = queues.map((each) => frontEnd.stopQueue(each));
  assert.deepEqual(bases, [0, 3]);
  frontEnd.send('SET_STATUS', u64(0));
  driverIsReady();
  for (const [i, each] of queues.entries()) frontEnd.startQueue(each, bases[i]);
  assert.equal(frontEnd.getattr(queue, DATA), 0, 'the session lives on');

  // The guest resets: a new driver on new rings, and no session.
  for (const each of queues) frontEnd.stopQueue(each);
  frontEnd.send('SET_STATUS', u64(0));
  frontEnd.send('RESET_DEVICE');
  const fresh = [0, 1].map((index) => frontEnd.makeQueue(index, 4 * RINGS + RINGS * index));
  for (const each of fresh) frontEnd.startQueue(each);
  assert.equal(frontEnd.getattr(fresh[1], DATA), -EIO, 'the session has ended');
  assert.equal(frontEnd.init(fresh[1], DATA), 0);
  assert.equal(frontEnd.getattr(fresh[1], DATA), 0);
});

test('serves a front-end without protocol features: SET_MEM_TABLE, rings enabled by their kick', (t) => {
  const frontEnd = connect(t);
  frontEnd.askNumber('GET_FEATURES');
  frontEnd.send('SET_OWNER');
  frontEnd.send('SET_FEATURES', u64(bit(F.INDIRECT, F.EVENT_IDX, F.VERSION_1)));
  // Two regions with a gap, in two files; rings in the second.
  const regions = [frontEnd.makeRegion(0, MIB), frontEnd.makeRegion(64 * MIB, 16 * MIB)];
  const described = regions.map((each) => regionPayload(each).subarray(8));
  frontEnd.send(
    'SET_MEM_TABLE',
    concat(words(2, 0), ...described),
    0,
    regions.map((each) => each.fd),
  );
  const queue = frontEnd.makeQueue(1, 64 * MIB);
  frontEnd.send('SET_VRING_NUM', state(1, 128));
  frontEnd.send('SET_VRING_BASE', state(1, 0));
  frontEnd.send('SET_VRING_ADDR', frontEnd.addresses(queue));
  frontEnd.send('SET_VRING_CALL', u64(1), 0, [queue.callFd]);
  frontEnd.send('SET_VRING_KICK', u64(1), 0, [queue.kickFd]);
  assert.equal(frontEnd.init(queue, 64 * MIB + DATA), 0);
  assert.equal(frontEnd.getattr(queue, 0), 0);

  // A table replaces the one before it, while the ring runs: a region goes, another comes.
  const third = frontEnd.makeRegion(128 * MIB, MIB);
  const replaced = concat(words(2, 0), described[1], regionPayload(third).subarray(8));
  frontEnd.send('SET_MEM_TABLE', replaced, 0, [regions[1].fd, third.fd]);
  frontEnd.askNumber('GET_FEATURES');
  assert.equal(frontEnd.getattr(queue, 128 * MIB), 0);
  assert.equal(frontEnd.getattr(queue, 0), 1, 'memory that is gone is not touched');
  assert.equal(frontEnd.getattr(queue, 64 * MIB + DATA), 0);
});

test('our own front-end gets along with a back-end that takes memory only as a table, or acknowledges nothing', () => {
  for (const protocolFeatures of [0n, bit(P.REPLY_ACK)]) {
    using guest = new TestGuest(daemon().socketPath, { protocolFeatures });
    assert.equal(guest.init().error, 0);
    guest.frontEnd.addMemory(64 * MIB, MIB);
    guest.frontEnd.removeMemory(64 * MIB);
    guest.ask({ opcode: opcodes.STATFS.code });
    guest.ask({ opcode: opcodes.DESTROY.code, nodeid: 0 });
  }
});

test('memory comes and goes while queues run', (t) => {
  const { frontEnd, queues } = setUp(t);
  const [, queue] = queues;
  frontEnd.startQueue(queue);
  assert.equal(frontEnd.init(queue, DATA), 0);
  for (let round = 0; round < 20; round += 1) {
    const region = frontEnd.addRegion((1 + round) * 64 * MIB, MIB);
    assert.equal(frontEnd.getattr(queue, region.guestAddress), 0);
    // A buffer across the border, where only the first region goes on.
    assert.equal(frontEnd.getattr(queue, DATA), 0);
    assert.ok(frontEnd.does('REM_MEM_REG', regionPayload(region)));
    assert.equal(frontEnd.getattr(queue, region.guestAddress), 1, 'memory that is gone is not touched');
    assert.equal(frontEnd.getattr(queue, DATA), 0);
    assert.equal(frontEnd.does('REM_MEM_REG', regionPayload(region)), false, 'twice');
  }
});

test('when the memory of one queue goes, the others go on', (t) => {
  const { frontEnd, queues } = setUp(t, 3);
  const region = frontEnd.addRegion(64 * MIB, 2 * MIB);
  const doomed = frontEnd.makeQueue(1, region.guestAddress);
  frontEnd.startQueue(doomed);
  frontEnd.startQueue(queues[2]);
  assert.equal(frontEnd.init(doomed, DATA), 0);
  assert.equal(frontEnd.getattr(queues[2], DATA), 0);
  frontEnd.does('REM_MEM_REG', regionPayload(region));
  assert.equal(frontEnd.getattr(queues[2], DATA), 0);
  // It can be started again elsewhere.
  frontEnd.stopQueue(doomed);
  frontEnd.startQueue(queues[1]);
  assert.equal(frontEnd.getattr(queues[1], DATA), 0);
});

/** A mount with a queue long enough for a thousand appends of one byte; what they append to. */
function appender(t: TestContext): { mount: Mount; file: string; appends: (count: number) => void } {
  const guest = new TestGuest(daemon().socketPath, { queueSize: 2048, indirectEntries: 0 });
  t.after(() => guest.close());
  assert.equal(guest.init().error, 0);
  const mount = new Mount(guest);
  const { path, nodeid } = ownFolder(daemon(), mount);
  const fh = mount.create(nodeid, 'log', { flags: O_WRONLY | O_APPEND, mode: 0o600 }).fh;
  const at = guest.dataAt;
  const appends = (count: number): void => {
    const request = {
      opcode: opcodes.WRITE.code,
      body: concat(body(WriteIn, { fh, size: 1, flags: O_APPEND }), Buffer.from('x')),
    };
    const message = guest.encode(request);
    guest.write(at, message);
    for (let i = 0; i < count; i += 1) {
      const reply = { address: at + 4096 + i * 32, length: OutHeader.bytes + 8 };
      assert.ok(guest.drivers[1].add([{ address: at, length: message.length }], [reply]) >= 0);
    }
    guest.drivers[1].publish();
    guest.kick(1);
  };
  return { mount, file: join(path, 'log'), appends };
}

test('a queue that is stopped and started in the middle of traffic loses nothing and serves nothing twice', (t) => {
  const { mount, file, appends } = appender(t);
  const { guest } = mount;
  let written = 0;
  let stoppedInside = 0;
  for (let round = 0; round < 15; round += 1) {
    const before = guest.stopQueue(1);
    guest.resumeQueue(1, before);
    appends(1000);
    const base = guest.stopQueue(1);
    const served = (base - before) & 0xffff;
    if (served < 1000) stoppedInside += 1;
    assert.equal(readFileSync(file).length, written + served, 'what the index says was served was served');
    guest.resumeQueue(1, base);
    guest.kick(1);
    for (let i = 0; i < 1000; i += 1) assert.equal(guest.collect(1).bytes, OutHeader.bytes + 8);
    written += 1000;
    assert.equal(readFileSync(file).length, written);
  }
  assert.ok(stoppedInside > 0, 'no stop came in the middle');
});

test('what a queue was kicked for before it is stopped is served first', (t) => {
  const { mount, appends } = appender(t);
  const { guest } = mount;
  for (let round = 0; round < 50; round += 1) {
    const before = guest.stopQueue(1);
    guest.resumeQueue(1, before);
    appends(10);
    const base = guest.stopQueue(1);
    assert.equal((base - before) & 0xffff, 10);
    guest.resumeQueue(1, base);
    for (let i = 0; i < 10; i += 1) assert.equal(guest.collect(1).bytes, OutHeader.bytes + 8);
  }
});

test('a call descriptor that changes in the middle of traffic stops nothing', (t) => {
  const { mount, file, appends } = appender(t);
  const { guest } = mount;
  for (let round = 1; round <= 30; round += 1) {
    appends(1000);
    assert.equal(guest.collect(1).bytes, OutHeader.bytes + 8);
    // As QEMU does when the guest masks an interrupt. The driver does not kick again: it has said all.
    for (let i = 0; i < 3; i += 1) guest.frontEnd.request('SET_VRING_CALL', u64(1), [guest.callFd(1)]);
    for (let i = 1; i < 1000; i += 1) assert.equal(guest.collect(1).bytes, OutHeader.bytes + 8);
    assert.equal(readFileSync(file).length, round * 1000);
  }
});

test('memory that is added in the middle of traffic stops nothing', (t) => {
  const { mount, file, appends } = appender(t);
  const { guest } = mount;
  for (let round = 1; round <= 20; round += 1) {
    appends(1000);
    assert.equal(guest.collect(1).bytes, OutHeader.bytes + 8);
    guest.frontEnd.addMemory(round * 1024 * MIB, MIB);
    for (let i = 1; i < 1000; i += 1) assert.equal(guest.collect(1).bytes, OutHeader.bytes + 8);
    assert.equal(readFileSync(file).length, round * 1000);
  }
});

test('RESET_DEVICE stops the rings and ends the session', async () => {
  using mount = Mount.connect(daemon().socketPath);
  const { path, nodeid } = ownFolder(daemon(), mount);
  writeFileSync(join(path, 'file'), 'x');
  const file = mount.lookup(nodeid, 'file').nodeid;
  mount.open(file, 0);
  mount.opendir(nodeid);
  mount.guest.frontEnd.resetDevice();
  mount.guest.frontEnd.queueCount();
  const { inodes, inodeDescriptors, handles } = await daemon().gauges();
  assert.deepEqual({ inodes, inodeDescriptors, handles }, { inodes: 1, inodeDescriptors: 1, handles: 0 });
  mount.guest.kick(1);
  for (const queue of [HIPRIO, 1]) mount.guest.restartQueue(queue);
  mount.getattr(ROOT, EIO);
  assert.equal(mount.guest.init().error, 0);
  mount.getattr(file, ENOENT);
  mount.getattr(ROOT);
});

test('GET_CONFIG gives the tag, padded, and the number of queues', (t) => {
  const frontEnd = connect(t);
  assert.equal(frontEnd.askNumber('GET_PROTOCOL_FEATURES') & bit(P.CONFIG), bit(P.CONFIG));
  frontEnd.negotiate(~0n);
  const config = (offset: number, size: number): Buffer => {
    const answer = frontEnd.ask('GET_CONFIG', concat(words(offset, size, 0), new Uint8Array(size)));
    assert.deepEqual([answer.getUint32(0, true), answer.getUint32(4, true)], [offset, size]);
    return Buffer.from(answer.buffer, 12);
  };
  const whole = config(0, 40);
  assert.equal(whole.subarray(0, 36).toString(), 'from-daemon'.padEnd(36, '\0'));
  assert.ok(whole.readUInt32LE(36) >= 1);
  assert.deepEqual(config(5, 7), whole.subarray(5, 12));
  assert.deepEqual(config(38, 10).subarray(2), Buffer.alloc(8), 'zeros behind the end');
  assert.deepEqual(config(0xffff_fff0, 16), Buffer.alloc(16));
  assert.equal(frontEnd.does('SET_CONFIG', concat(words(0, 4, 0), Buffer.from('evil'))), false);
  assert.deepEqual(config(0, 40), whole);
});

test('a daemon without --tag does not offer a configuration space', async () => {
  await using other = await TestDaemon.start({ args: ['--log-level', 'error'] });
  using frontEnd = new RawFrontEnd(other.socketPath);
  assert.equal(frontEnd.askNumber('GET_PROTOCOL_FEATURES') & bit(P.CONFIG), 0n);
});

test('without REPLY_ACK, need_reply is not answered', (t) => {
  const frontEnd = connect(t);
  frontEnd.negotiate(~bit(P.REPLY_ACK));
  for (const message of ['SET_VRING_NUM', 'SET_VRING_BASE'] as const) {
    frontEnd.send(message, state(0, 128), HEADER_NEED_REPLY);
    frontEnd.send(message, state(9999, 128), HEADER_NEED_REPLY);
  }
  // The next answer is that of the next question.
  assert.notEqual(frontEnd.askNumber('GET_FEATURES'), 0n);
});

test('with REPLY_ACK, every message says how it went', (t) => {
  const { frontEnd, queues } = setUp(t);
  const [, queue] = queues;
  assert.ok(frontEnd.does('SET_OWNER'));
  assert.ok(frontEnd.does('RESET_OWNER'));
  assert.ok(frontEnd.does('SET_STATUS', u64(7)));
  assert.equal(frontEnd.askNumber('GET_STATUS'), 7n);
  assert.equal(frontEnd.does('SET_FEATURES', u64(1n << 34n)), false, 'a feature that was not offered');
  for (const message of ['SET_VRING_NUM', 'SET_VRING_BASE', 'SET_VRING_ENABLE'] as const) {
    assert.equal(frontEnd.does(message, state(65, 1)), false, message);
    assert.equal(frontEnd.does(message, state(0xffff_ffff, 1)), false, message);
  }
  assert.equal(frontEnd.does('SET_VRING_KICK', u64(200), [queue.kickFd]), false);
  assert.equal(frontEnd.does('SET_VRING_CALL', u64(200), [queue.callFd]), false);
  assert.equal(frontEnd.does('SET_VRING_KICK', u64(1 | VRING_NO_FD)), false, 'a queue that wants to be polled');
  frontEnd.startQueue(queue);
  assert.equal(frontEnd.does('SET_VRING_NUM', state(1, 64)), false, 'a queue that runs');
  assert.equal(frontEnd.does('SET_VRING_BASE', state(1, 64)), false, 'a queue that runs');
  assert.equal(frontEnd.init(queue, DATA), 0);
});

test('a ring outside of all memory is refused, the user is told of share=on, and the connection lives', async () => {
  // What a daemon says of its VMMs is limited: this one has said nothing yet.
  await using quiet = await TestDaemon.start();
  using frontEnd = new RawFrontEnd(quiet.socketPath);
  frontEnd.negotiate();
  frontEnd.addRegion(0, 16 * MIB);
  const queue = frontEnd.makeQueue(1, RINGS);
  assert.ok(frontEnd.does('SET_VRING_NUM', state(1, 128)));
  assert.ok(frontEnd.does('SET_VRING_BASE', state(1, 0)));
  for (const field of ['descUserAddr', 'availUserAddr', 'usedUserAddr']) {
    for (const address of [0, 0x1234_5678_9000, 0x7f00_0000_0000 + 16 * MIB, 2n ** 64n - 4096n]) {
      assert.equal(frontEnd.does('SET_VRING_ADDR', frontEnd.addresses(queue, { [field]: address })), false);
    }
  }
  await quiet.hears('share=on');
  // In memory at its start, and out of it before its end.
  const end = 0x7f00_0000_0000 + 16 * MIB;
  for (const field of ['descUserAddr', 'availUserAddr', 'usedUserAddr']) {
    frontEnd.does('SET_VRING_ADDR', frontEnd.addresses(queue, { [field]: end - 16 }));
    frontEnd.does('SET_VRING_KICK', u64(1), [queue.kickFd]);
    assert.equal(frontEnd.does('SET_VRING_ENABLE', state(1, 1)), false, field);
    frontEnd.stopQueue(queue);
  }
  frontEnd.startQueue(queue);
  assert.equal(frontEnd.init(queue, DATA), 0);
});

test('a ring that cannot be is refused, and the queue can be started right afterwards', (t) => {
  const { frontEnd, queues } = setUp(t);
  for (const queue of queues) {
    const { index } = queue;
    const refused = (what: string, size: number, over: Record<string, number> = {}): void => {
      frontEnd.does('SET_VRING_NUM', state(index, size));
      frontEnd.does('SET_VRING_ADDR', frontEnd.addresses(queue, over));
      frontEnd.does('SET_VRING_KICK', u64(index), [queue.kickFd]);
      assert.equal(frontEnd.does('SET_VRING_ENABLE', state(index, 1)), false, `queue ${index}: ${what}`);
      frontEnd.stopQueue(queue);
    };
    for (const size of [0, 3, 100, 65536, 0xffff_ffff]) refused(`${size} entries`, size);
    const user = 0x7f00_0000_0000 + RINGS * index;
    refused('a table at an odd address', 128, { descUserAddr: user + 8 });
    refused('an available ring at an odd address', 128, { availUserAddr: user + 0x4001 });
    refused('a used ring at an odd address', 128, { usedUserAddr: user + 0x8002 });
    frontEnd.startQueue(queue);
  }
  assert.equal(frontEnd.init(queues[1], DATA), 0);
});

test('a queue that is enabled before anything else is known of it is refused', (t) => {
  const { frontEnd, queues } = setUp(t);
  const [, queue] = queues;
  assert.ok(frontEnd.does('SET_VRING_ENABLE', state(1, 1)), 'without a kick descriptor there is nothing to start');
  assert.equal(frontEnd.does('SET_VRING_KICK', u64(1), [queue.kickFd]), false, 'without addresses it cannot start');
  frontEnd.stopQueue(queue);
  frontEnd.startQueue(queue);
  assert.equal(frontEnd.init(queue, DATA), 0);
});

test('memory that is not there is refused, and the connection lives', (t) => {
  const { frontEnd, queues } = setUp(t);
  const fd = memfd('small', MIB);
  t.after(() => close(fd));
  const good = { guestAddress: 64 * MIB, sizeBytes: MIB, userAddress: 0x5000_0000 };
  const refused = (what: string, over: Partial<Record<keyof typeof good | 'mmapOffset', number | bigint>>): void => {
    assert.equal(frontEnd.does('ADD_MEM_REG', regionPayload({ ...good, ...over }), [fd]), false, what);
  };
  refused('larger than its file', { sizeBytes: MIB + 1 });
  refused('much larger than its file', { sizeBytes: 2 ** 40 });
  refused('behind the end of its file', { mmapOffset: 4096 });
  refused('an offset within a page', { mmapOffset: 1, sizeBytes: 4096 });
  refused('empty', { sizeBytes: 0 });
  refused('beyond what there is', { sizeBytes: 2n ** 64n - 4096n });
  refused('a sum that overflows', { guestAddress: 2n ** 64n - 4096n });
  refused('an offset that overflows', { mmapOffset: 2n ** 64n - 4096n });
  refused('over the guest addresses of another', { guestAddress: 15.5 * MIB });
  refused('over the user addresses of another', { userAddress: 0x7f00_0000_0000 + 4096 });
  const table = concat(words(2, 0), regionPayload(good).subarray(8), regionPayload(good).subarray(8));
  assert.equal(frontEnd.does('SET_MEM_TABLE', table, [fd, fd]), false, 'a table that overlaps itself');
  assert.ok(frontEnd.does('ADD_MEM_REG', regionPayload(good), [fd]), 'what is right is taken');
  frontEnd.startQueue(queues[1]);
  assert.equal(frontEnd.init(queues[1], DATA), 0);
});

test('what is no memory at all is refused as memory, and the connection lives', (t) => {
  const { frontEnd, queues } = setUp(t);
  const folder = openSync(daemon().share, 'r');
  const nothing = openSync('/dev/null', 'r+');
  const event = eventfd();
  writeFileSync(join(daemon().share, 'readable'), Buffer.alloc(4096));
  const readable = openSync(join(daemon().share, 'readable'), 'r');
  // Sparse: a file of this size is made in no time, and no process can map it.
  const vast = memfd('vast', 2 ** 50);
  for (const [fd, sizeBytes] of [
    [folder, 4096],
    [nothing, 4096],
    [event, 4096],
    [readable, 4096],
    [vast, 2 ** 50],
  ]) {
    const payload = regionPayload({ guestAddress: 64 * MIB, sizeBytes, userAddress: 0x5000_0000 });
    assert.equal(frontEnd.does('ADD_MEM_REG', payload, [fd]), false, `${sizeBytes} bytes`);
    close(fd);
  }
  frontEnd.startQueue(queues[1]);
  assert.equal(frontEnd.init(queues[1], DATA), 0);
});

test('what cannot be waited for is refused as a kick descriptor, and the queue can be started afterwards', (t) => {
  const { frontEnd, queues } = setUp(t);
  for (const queue of queues) {
    const { index } = queue;
    assert.ok(frontEnd.does('SET_VRING_NUM', state(index, 128)));
    assert.ok(frontEnd.does('SET_VRING_ADDR', frontEnd.addresses(queue)));
    assert.ok(frontEnd.does('SET_VRING_KICK', u64(index), [memoryFile(t)]));
    assert.equal(frontEnd.does('SET_VRING_ENABLE', state(index, 1)), false, `queue ${index}`);
    frontEnd.stopQueue(queue);
    frontEnd.startQueue(queue);
  }
  assert.equal(frontEnd.init(queues[1], DATA), 0);
});

/** A descriptor that epoll does not take. */
function memoryFile(t: TestContext): number {
  const fd = memfd('no-event', 4096);
  t.after(() => close(fd));
  return fd;
}

test('a kick descriptor in blocking mode does not hold a queue up', (t) => {
  const { mount, file, appends } = appender(t);
  const { guest } = mount;
  // eventfds of some VMMs block: a read of one that has not been signalled sleeps until it is.
  setBlocking(guest.kickFd(1));
  guest.frontEnd.request('SET_VRING_KICK', u64(1), [guest.kickFd(1)]);
  for (let round = 1; round <= 5; round += 1) {
    appends(1000);
    for (let i = 0; i < 1000; i += 1) assert.equal(guest.collect(1).bytes, OutHeader.bytes + 8);
    assert.equal(readFileSync(file).length, round * 1000);
  }
});

test('descriptors that nobody asked for are closed', (t) => {
  const { frontEnd, queues } = setUp(t);
  const [, queue] = queues;
  frontEnd.startQueue(queue);
  const some = Array.from({ length: 8 }, () => frontEnd.eventfd());
  const before = daemon().descriptors();
  for (let i = 0; i < 10; i += 1) {
    frontEnd.does('SET_VRING_CALL', u64(VRING_NO_FD), [some[0]]);
    frontEnd.does('SET_VRING_KICK', u64(VRING_NO_FD), [some[0]]);
    frontEnd.does('SET_VRING_KICK', u64(77), [some[0]]);
    frontEnd.does('SET_VRING_ERR', u64(0), [some[0]]);
    frontEnd.does(4711, u64(0), some);
    frontEnd.does('ADD_MEM_REG', regionPayload({ guestAddress: 0, sizeBytes: MIB, userAddress: 1 }), [some[0]]);
    frontEnd.does('SET_VRING_CALL', u64(1), [queue.callFd]);
    frontEnd.does('SET_VRING_KICK', u64(1), [queue.kickFd]);
  }
  assert.equal(daemon().descriptors(), before);
  assert.equal(frontEnd.init(queue, DATA), 0);
});

test('requests that do not exist are refused, and the connection lives', (t) => {
  const frontEnd = connect(t);
  frontEnd.negotiate();
  // SET_LOG_BASE and others that were not offered, and some that nobody has.
  for (const code of [0, 6, 7, 19, 22, 23, 28, 31, 32, 33, 35, 41, 42, 43, 45, 1000, 0x7fff_ffff, 0xffff_ffff]) {
    assert.equal(frontEnd.does(code, u64(1)), false, `request ${code}`);
    frontEnd.send(code, new Uint8Array(100));
  }
  assert.notEqual(frontEnd.askNumber('GET_FEATURES'), 0n);
});

test('messages may come in any pieces', (t) => {
  const frontEnd = connect(t);
  frontEnd.negotiate();
  const message = RawFrontEnd.message(39, u64(5), HEADER_NEED_REPLY);
  for (const byte of message) frontEnd.sendBytes(new Uint8Array([byte]));
  assert.equal(frontEnd.receive('SET_STATUS')?.getBigUint64(0, true), 0n);
  frontEnd.sendBytes(concat(message, RawFrontEnd.message(40), message));
  assert.equal(frontEnd.receive('SET_STATUS')?.getBigUint64(0, true), 0n);
  assert.equal(frontEnd.receive('GET_STATUS')?.getBigUint64(0, true), 5n);
  assert.equal(frontEnd.receive('SET_STATUS')?.getBigUint64(0, true), 0n);
});

/** What makes a connection pointless, by name: bytes, and how many descriptors with them. */
const NONSENSE: Record<string, [Uint8Array, number]> = {
  'a version that is not 1': [concat(words(1, 2, 0)), 0],
  'no version': [words(1, 0, 0), 0],
  'a payload of 4 GiB': [words(1, 1, 0xffff_ffff), 0],
  'a payload of more than is allowed': [words(1, 1, MAX_PAYLOAD_BYTES + 1), 0],
  'a payload that is too short': [RawFrontEnd.message(9, new Uint8Array(39)), 0],
  'a payload that is too long': [RawFrontEnd.message(8, new Uint8Array(9)), 0],
  'a payload where none belongs': [RawFrontEnd.message(1, new Uint8Array(8)), 0],
  'a table with more regions than it has': [RawFrontEnd.message(5, concat(words(3, 0), new Uint8Array(32))), 1],
  'a table with four billion regions': [RawFrontEnd.message(5, concat(words(0xffff_ffff, 0), new Uint8Array(32))), 1],
  'a table with fewer descriptors than regions': [RawFrontEnd.message(5, concat(words(2, 0), new Uint8Array(64))), 1],
  'more descriptors than belong to the message': [RawFrontEnd.message(12, u64(0)), 2],
  'descriptors where none belong': [RawFrontEnd.message(2, u64(0)), 8],
  'a memory region without a descriptor': [RawFrontEnd.message(37, new Uint8Array(40)), 0],
  'a question that cannot be answered': [RawFrontEnd.message(11, state(4711, 0)), 0],
  'a configuration larger than its message': [RawFrontEnd.message(24, concat(words(0, 100, 0), new Uint8Array(50))), 0],
};

for (const [what, [bytes, fds]] of Object.entries(NONSENSE)) {
  test(`closes the connection and lives on: ${what}`, (t) => {
    const frontEnd = connect(t);
    frontEnd.negotiate();
    const before = daemon().descriptors();
    const passed = Array.from({ length: fds }, () => frontEnd.eventfd());
    assert.equal(frontEnd.sendBytes(bytes, passed), 0);
    assert.ok(frontEnd.isClosed());
    connect(t).negotiate();
    assert.equal(daemon().descriptors(), before, 'descriptors leak');
  });
}

test('a connection that ends anywhere in a message ends the session and nothing else', () => {
  const message = RawFrontEnd.message(9, new Uint8Array(40));
  for (let length = 0; length < message.length; length += 1) {
    using frontEnd = new RawFrontEnd(daemon().socketPath);
    if (length % 2 === 0) frontEnd.negotiate();
    const fds = length > 0 ? [frontEnd.eventfd()] : [];
    if (length > 0) frontEnd.sendBytes(message.subarray(0, length), fds);
  }
  assertAlive();
});

/** A message that may be right, nearly right, or nothing at all. */
function anyMessage(random: Random): { code: number; payload: Uint8Array; fds: number } {
  const { code, bytes, most, fds } = random.pick(FRONT_END);
  const edges = [
    0n,
    1n,
    2n,
    64n,
    65n,
    128n,
    4096n,
    2n ** 20n,
    0xffff_ffffn,
    2n ** 47n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
  ];
  // What does not even have the shape of its message ends the connection, and most should get further.
  const shapely = random.below(20) !== 0;
  const size = shapely ? bytes : random.pick([most, random.below(300)]);
  const payload = new DataView(new ArrayBuffer(size));
  const addresses = [0x7f00_0000_0000n, 0x7f00_0000_1000n, 0x7f00_0010_0000n];
  for (let at = 0; at + 8 <= size; at += 8) payload.setBigUint64(at, random.pick([...edges, ...addresses]), true);
  // Most messages are about a queue, by its number.
  if (size >= 4 && random.below(3) !== 0) payload.setUint32(0, random.below(3), true);
  return {
    code: shapely ? code : random.below(60),
    payload: new Uint8Array(payload.buffer),
    fds: shapely ? Math.min(fds, 1) : random.below(3),
  };
}

test('any messages at all are done, refused, or the end of the connection', (t) => {
  const random = Random.fromEnvironment(t);
  const before = daemon().descriptors();
  const file = memfd('any', MIB);
  const event = eventfd();
  t.after(() => close(file) + close(event));
  let done = 0;
  for (let connections = 0; connections < 100; connections += 1) {
    daemon().watched();
    using frontEnd = new RawFrontEnd(daemon().socketPath);
    frontEnd.negotiate();
    if (random.below(2) === 0) frontEnd.addRegion(0, 16 * MIB);
    const queue = frontEnd.memory.regions.length > 0 ? frontEnd.makeQueue(1, RINGS) : undefined;
    if (queue !== undefined) frontEnd.startQueue(queue);
    for (let messages = 0; messages < 60; messages += 1) {
      const { code, payload, fds } = anyMessage(random);
      const passed = Array.from({ length: fds }, () => random.pick([file, event, event]));
      // SET_PROTOCOL_FEATURES might end the answers.
      if (code === 16) continue;
      frontEnd.sendBytes(RawFrontEnd.message(code, payload, HEADER_NEED_REPLY), passed);
      if (frontEnd.receive(code) === undefined) break;
      done += 1;
    }
  }
  assertAlive();
  connect(t).negotiate();
  assert.ok(done > 500, `only ${done} messages were answered`);
  assert.ok(daemon().descriptors() <= before + 1, 'descriptors leak');
});

test('without --stay, nonsense ends the daemon cleanly and its socket goes', async () => {
  for (const bytes of [words(1, 2, 0), words(1, 1, 0xffff_ffff), RawFrontEnd.message(8, new Uint8Array(9)), words(1)]) {
    await using other = await TestDaemon.start();
    const frontEnd = new RawFrontEnd(other.socketPath);
    frontEnd.negotiate();
    frontEnd.sendBytes(bytes);
    // The last one is a piece of a header: it ends with the connection.
    frontEnd.close();
    assert.deepEqual(await other.awaitEnd(5000), { code: 0, signal: null });
    assert.equal(existsSync(other.socketPath), false);
  }
});
