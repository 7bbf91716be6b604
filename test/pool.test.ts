/** Operations that sleep: what waits for them, and what does not. The file system sleeps until it is told to go on. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { EINVAL } from '../src/core/index.ts';
import { ForgetIn, type OpcodeName, opcodes, ReadIn } from '../src/fuse/index.ts';
import { O_RDONLY } from '../src/sys/index.ts';
import { VringState } from '../src/vhost/index.ts';
import { DriverQueue } from '../src/virtio/index.ts';
import { TestDaemon } from './daemon.ts';
import { body, bytesOf } from './fuse.ts';
import { type FuseRequest, HIPRIO, TestGuest } from './guest.ts';
import { Mount, ROOT } from './mount.ts';
import { bringIn, dropCached } from './native.ts';

const program = fileURLToPath(new URL('cell-server.ts', import.meta.url));

/** A request of zeros. The room fits any reply here. */
function request(name: OpcodeName): FuseRequest {
  const { code, in: fixed } = opcodes[name];
  return { opcode: code, body: body(fixed), ...(name === 'READ' ? { room: 16 } : {}) };
}

const FSYNC = request('FSYNC');
const LSEEK = request('LSEEK');

function connect(t: TestContext, daemon: TestDaemon, socket = 0, requestQueues = 2): TestGuest {
  const guest = new TestGuest(daemon.socketPaths[socket], { requestQueues });
  t.after(() => guest.close());
  assert.equal(guest.init().error, 0);
  return guest;
}

/** Lets so many go on. */
function letGo(guest: TestGuest, nlookup: number): void {
  guest.ask({ opcode: opcodes.FORGET.code, body: body(ForgetIn, { nlookup }) }, 0, HIPRIO);
}

/** How many have begun to sleep, and on how many threads; asked on a queue that is free. */
function slept(guest: TestGuest, queue: number): { begun: number; threads: number } {
  const reply = guest.ask(LSEEK, 0, queue);
  return { begun: reply.getUint32(0, true), threads: reply.getUint32(4, true) };
}

function awaitBegun(guest: TestGuest, begun: number, queue = 2): void {
  while (slept(guest, queue).begun !== begun);
}

for (const name of ['FSYNC', 'FSYNCDIR', 'SYNCFS', 'FALLOCATE', 'READ'] as const) {
  test(`a request behind a ${name} that sleeps is served`, async (t) => {
    await using daemon = await TestDaemon.start({ program });
    const guest = connect(t, daemon);
    const [sleeper, behind] = guest.postAll([request(name), LSEEK]);
    guest.answer(behind);
    awaitBegun(guest, 1);
    for (let i = 0; i < 200; i += 1) slept(guest, 1);
    assert.equal(guest.isAnswered(sleeper), false);
    letGo(guest, 1);
    guest.answer(sleeper);
  });
}

test('with --thread-pool-size 0 the request behind waits', async (t) => {
  await using daemon = await TestDaemon.start({ program, args: ['--thread-pool-size', '0'] });
  const guest = connect(t, daemon);
  for (const name of ['FSYNC', 'READ'] as const) {
    const begun = slept(guest, 2).begun + 1;
    const [sleeper, behind] = guest.postAll([request(name), LSEEK]);
    awaitBegun(guest, begun);
    assert.equal(guest.isAnswered(behind), false);
    letGo(guest, 1);
    guest.answer(sleeper);
    guest.answer(behind);
  }
});

test('with nothing behind it a request is served on the thread of its queue', async (t) => {
  await using daemon = await TestDaemon.start({ program });
  const guest = connect(t, daemon, 0, 3);
  for (let i = 0; i < 3; i += 1) {
    const sleeper = guest.post(FSYNC);
    awaitBegun(guest, i + 1);
    letGo(guest, 1);
    guest.answer(sleeper);
  }
  assert.deepEqual(slept(guest, 2), { begun: 3, threads: 1 });
});

test('what sleeps on one queue holds up no other', async (t) => {
  await using daemon = await TestDaemon.start({ program, args: ['--thread-pool-size', '0'] });
  const guest = connect(t, daemon, 0, 3);
  const sleepers = [guest.post(FSYNC, 1), guest.post(FSYNC, 2)];
  awaitBegun(guest, 2, 3);
  assert.equal(slept(guest, 3).threads, 2);
  letGo(guest, 2);
  for (const each of sleepers) guest.answer(each);
});

test('as many sleep at once as the pool has threads, the others after them, and others go on', async (t) => {
  await using daemon = await TestDaemon.start({ program, args: ['--thread-pool-size', '3'] });
  const guest = connect(t, daemon);
  const posted = guest.postAll([...Array.from({ length: 10 }, () => FSYNC), LSEEK]);
  const behind = posted.pop();
  assert.ok(behind);
  guest.answer(behind);
  awaitBegun(guest, 3);
  for (let i = 1; i <= 10; i += 1) {
    letGo(guest, 1);
    awaitBegun(guest, Math.min(10, 3 + i), 1);
  }
  for (const each of posted) guest.answer(each);
  assert.equal(slept(guest, 1).threads, 3);
});

test('a hundred sleepers of two queues are served by two threads', async (t) => {
  await using daemon = await TestDaemon.start({ program });
  const guest = connect(t, daemon, 0, 3);
  letGo(guest, 100);
  for (let round = 0; round < 5; round += 1) {
    const posted = [1, 2].flatMap((queue) => guest.postAll([...Array.from({ length: 10 }, () => FSYNC), LSEEK], queue));
    for (const each of posted) guest.answer(each);
  }
  assert.equal(slept(guest, 3).begun, 100);
  assert.ok(slept(guest, 3).threads <= 2);
});

test('a queue is stopped when what the pool does for it is done, and its reply is there', async (t) => {
  await using daemon = await TestDaemon.start({ program, sockets: 2 });
  const guest = connect(t, daemon, 0);
  const other = connect(t, daemon, 1);
  const posted = guest.postAll([FSYNC, FSYNC, FSYNC, FSYNC, LSEEK]);
  guest.answer(posted[4]);
  awaitBegun(other, 2);
  guest.frontEnd.request('GET_VRING_BASE', body(VringState, { index: 1 }));
  // Two are under way; the two that no thread has taken are served by the queue's own.
  letGo(other, 4);
  // The answer to the request above.
  guest.frontEnd.stopQueue(1);
  for (const each of posted.slice(0, 4)) {
    assert.equal(guest.isAnswered(each), true);
    guest.answer(each);
  }
});

test('a queue goes on after stop and start, and after its memory has changed', async (t) => {
  await using daemon = await TestDaemon.start({ program });
  const guest = connect(t, daemon);
  const serveSome = (): void => {
    const posted = guest.postAll([FSYNC, FSYNC, LSEEK]);
    guest.answer(posted[2]);
    letGo(guest, 2);
    for (const each of posted.slice(0, 2)) guest.answer(each);
  };
  serveSome();
  guest.resumeQueue(1, guest.stopQueue(1));
  serveSome();
  guest.restartQueue(1);
  serveSome();
  // Rings in another place.
  guest.stopQueue(1);
  const { eventIdx, memory } = guest.frontEnd;
  const guestAddress = guest.ringsAt(1) + 128 * 1024;
  guest.drivers[1] = new DriverQueue(memory, { size: 64, guestAddress, eventIdx, indirectEntries: 64 });
  guest.resumeQueue(1, 0);
  serveSome();
  for (let round = 0; round < 5; round += 1) {
    // Where the one before was, most likely, and of another size.
    guest.frontEnd.addMemory(2 ** 32, 2 ** (20 + round));
    serveSome();
    guest.frontEnd.removeMemory(2 ** 32);
    serveSome();
  }
});

test('a guest that goes while the pool works for it leaves the daemon to the next one', async (t) => {
  await using daemon = await TestDaemon.start({ program, sockets: 2 });
  const other = connect(t, daemon, 1);
  for (let round = 1; round <= 3; round += 1) {
    const guest = new TestGuest(daemon.socketPaths[0]);
    assert.equal(guest.init().error, 0);
    guest.postAll([FSYNC, FSYNC, LSEEK]);
    awaitBegun(other, 2 * round);
    guest.close();
    letGo(other, 2);
  }
  const guest = connect(t, daemon, 0);
  slept(guest, 1);
});

test('what the pool cannot do now waits, and is asked again', async (t) => {
  await using daemon = await TestDaemon.start({ program });
  const guest = connect(t, daemon);
  guest.ask(request('SETLK'));
  const [waiting, behind] = guest.postAll([request('COPY_FILE_RANGE'), LSEEK]);
  guest.answer(behind);
  // By the pool, by the queue's own thread, and when it was waiting.
  while (slept(guest, 2).begun < 3);
  assert.equal(guest.isAnswered(waiting), false);
  guest.ask(request('FLUSH'));
  guest.answer(waiting, EINVAL);
});

test('many reads at once bring what is in the file, from the page cache, from the disk and at its end', async (t) => {
  await using daemon = await TestDaemon.start();
  const content = randomBytes(100_000);
  const path = join(daemon.share, 'file');
  writeFileSync(path, content);
  const mount = Mount.connect(daemon.socketPath, { indirectEntries: 512 });
  t.after(() => mount.guest.close());
  const fh = mount.open(mount.lookup(ROOT, 'file').nodeid, O_RDONLY);
  const size = 9000;
  const offsets = Array.from({ length: 40 }, (_, i) => i * 2600);
  for (let round = 0; round < 5; round += 1) {
    dropCached(path);
    // Some reads find their first page there, and have to go on on the disk.
    for (const offset of offsets.filter((_, i) => i % 5 === round)) bringIn(path, offset);
    const replies = mount.guest.sendAll(
      offsets.map((offset) => ({ opcode: opcodes.READ.code, body: body(ReadIn, { fh, offset, size }), room: size })),
    );
    for (const [i, reply] of replies.entries()) {
      const expected = content.subarray(offsets[i], offsets[i] + size);
      assert.equal(reply.error, 0);
      assert.deepEqual(Buffer.from(bytesOf(reply.body)), expected, `${expected.length} bytes from ${offsets[i]}`);
    }
  }
});

test('SIGTERM ends a daemon with a pool, at work or not', async (t) => {
  for (const busy of [false, true]) {
    await using daemon = await TestDaemon.start({ program });
    const guest = connect(t, daemon);
    const posted = guest.postAll([FSYNC, LSEEK]);
    awaitBegun(guest, 1);
    if (!busy) {
      letGo(guest, 1);
      guest.answer(posted[0]);
    }
    daemon.process.kill('SIGTERM');
    assert.deepEqual(await daemon.awaitEnd(), { code: 0, signal: null });
  }
});
