/** `virtiofs trace` between a client and a daemon: what it says, and that neither can do it harm. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EINVAL, ENOENT } from '../src/core/index.ts';
import { GetattrIn, opcodes, ReadIn, RenameIn } from '../src/fuse/index.ts';
import { close, connectUnix, O_RDWR, sendMessage, waitReadable } from '../src/sys/index.ts';
import { Feature } from '../src/vhost/index.ts';
import { commonDaemon } from './daemon.ts';
import { body, concat, name, words } from './fuse.ts';
import { Mount, ownFolder, ROOT } from './mount.ts';
import { Random } from './random.ts';
import { RawFrontEnd, regionPayload, state, u64 } from './raw-front-end.ts';
import { RawRing, WRITE, NEXT } from './raw-ring.ts';
import { TestTracer } from './tracer.ts';

const renamed = concat(name('sub'), name('moved'));

const daemon = commonDaemon({ args: ['--stay', '--log-level', 'error'] });

interface Session {
  readonly tracer: TestTracer;
  readonly mount: Mount;
  /** A folder of the test's own. */
  readonly path: string;
  readonly nodeid: bigint;
}

async function enter(t: TestContext, ...args: string[]): Promise<Session> {
  const tracer = await TestTracer.start(daemon().socketPath, args);
  t.after(() => tracer[Symbol.asyncDispose]());
  const mount = Mount.connect(tracer.socketPath, { queueSize: 256, patient: true });
  t.after(() => mount.guest.close());
  return { tracer, mount, ...ownFolder(daemon(), mount) };
}

/** A file for the trace: who does not read a pipe, such as a test that is in a system call, holds everything up. */
function traceFile(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return join(folder, 'trace');
}

/** The daemon, when it is awake, may be quicker than the tracer. */
const TIME = String.raw` \((\d+ us|not timed)\)$`;

test('the trace has a line for each message: names, nodes, sizes, and how long it took', async (t) => {
  const { tracer, mount, path, nodeid } = await enter(t);
  mkdirSync(join(path, 'etc'));
  const etc = mount.lookup(nodeid, 'etc').nodeid;
  mount.lookup(nodeid, 'a\nb', ENOENT);
  const { entry, fh } = mount.create(etc, 'new', { flags: 0o102, mode: 0o640 });
  mount.write(fh, 0, Buffer.from('hello'));
  assert.equal(Buffer.from(mount.read(fh, 1, 100)).toString(), 'ello');
  mount.release(fh);
  const listed = mount.listAll(etc, 4096, true);
  assert.equal(listed.length, 3);
  mount.forget(entry.nodeid, 2);
  const node = `node ${etc}`;
  for (const pattern of [
    `^INIT major 7 minor 41 .*ASYNC_READ.* -> major 7 .*maxWrite 1048576`,
    `^LOOKUP node ${nodeid} "etc" -> ${node} size \\d+ mode 040755${TIME}`,
    `^LOOKUP node ${nodeid} "a\\\\nb" -> ENOENT${TIME}`,
    `^CREATE ${node} "new" flags O_RDWR\\|O_CREAT mode 0640 -> node ${entry.nodeid} size 0 mode 01006.0 fh ${fh}`,
    `^WRITE .*fh ${fh} size 5 -> size 5${TIME}`,
    `^READ .*fh ${fh} offset 1 size 100 -> 4 bytes${TIME}`,
    `^RELEASE .*fh ${fh} -> ok${TIME}`,
    `^READDIRPLUS ${node} .* -> 3 entries (".+" ?)+${TIME}`,
    `^READDIRPLUS ${node} .* -> 0 entries`,
    `^FORGET node ${entry.nodeid} nlookup 2${TIME}`,
  ]) {
    await tracer.line(new RegExp(pattern));
  }
  assert.doesNotMatch(tracer.said, /\[/, 'no problems');
});

test('with --json every line is an object with all fields', async (t) => {
  const { tracer, mount, nodeid } = await enter(t, '--json');
  mount.lookup(nodeid, 'none', ENOENT);
  mount.getattr(nodeid);
  await tracer.line(/"GETATTR"/);
  interface Line {
    opcode: string;
    nodeid: number;
    names: string[];
    reply: { error: string; length: number };
    latencyUs?: number;
    queue: number;
    time: string;
  }
  const lines = tracer.lines().map((line) => JSON.parse(line) as Line);
  assert.deepEqual(
    lines.map(({ opcode }) => opcode),
    ['INIT', 'LOOKUP', 'LOOKUP', 'GETATTR'],
  );
  const [, , lookup] = lines;
  assert.deepEqual([lookup.nodeid, lookup.names, lookup.queue], [Number(nodeid), ['none'], 1]);
  assert.deepEqual(lookup.reply, { length: 16, error: 'ENOENT', fields: {} });
  assert.ok((lookup.latencyUs ?? 0) >= 0 && Date.parse(lookup.time) > 0);
});

test('--filter and --errors leave lines out, and --summary counts the rest', async (t) => {
  const options = ['--filter', 'lookup,GETATTR,UNLINK', '--errors', '--summary'];
  const { tracer, mount, nodeid } = await enter(t, ...options);
  mount.lookup(nodeid, 'none', ENOENT);
  mount.getattr(nodeid);
  mount.guest.ask({ opcode: opcodes.RMDIR.code, nodeid, body: Buffer.from('none\0') }, ENOENT);
  mount.guest.close();
  assert.equal(await tracer.stop(), 0);
  assert.deepEqual(
    tracer.lines().map((line) => line.split(' (')[0]),
    [`LOOKUP node ${nodeid} "none" -> ENOENT`],
  );
  const table =
    /^opcode +count +errors +p50 us +p99 us +bytes in +bytes out\nLOOKUP +1 +1 +(\d+|-) +(\d+|-) +45 +16\n$/m;
  assert.match(tracer.complained, table);
});

test('--node shows what is about a node, whether it is asked of, or led to', async (t) => {
  const tracer = await TestTracer.start(daemon().socketPath, ['--node', '1']);
  t.after(() => tracer[Symbol.asyncDispose]());
  const mount = Mount.connect(tracer.socketPath, { patient: true });
  const { nodeid } = ownFolder(daemon(), mount);
  mount.getattr(nodeid);
  mount.getattr(ROOT);
  const inside = mount.lookup(nodeid, '..', EINVAL);
  assert.equal(inside.nodeid, 0n);
  mount.mkdir(nodeid, 'sub');
  mount.guest.ask({ opcode: opcodes.RENAME.code, nodeid, body: concat(body(RenameIn, { newdir: 1 }), renamed) });
  mount.guest.ask({ opcode: opcodes.RMDIR.code, nodeid: ROOT, body: name('moved') });
  mount.guest.close();
  await tracer.stop();
  const told = tracer.lines().map((line) => line.split(' ').slice(0, 3).join(' '));
  assert.deepEqual(told, ['LOOKUP node 1', 'GETATTR node 1', `RENAME node ${nodeid}`, 'RMDIR node 1']);
});

test('--slow shows what took long, such as nothing here', async (t) => {
  const { tracer, mount, nodeid } = await enter(t, '--slow', '60000');
  mount.getattr(nodeid);
  mount.guest.close();
  assert.equal(await tracer.stop(), 0);
  assert.equal(tracer.said, '');
});

test('--vhost shows what sets the device up, and -o writes to a file', async (t) => {
  const file = traceFile(t);
  const { tracer, mount } = await enter(t, '--vhost', '-o', file);
  mount.guest.close();
  assert.equal(await tracer.stop(), 0);
  const text = readFileSync(file, 'utf8');
  assert.match(text, /^vhost > GET_FEATURES$/m);
  assert.match(text, /^vhost < GET_FEATURES reply 0x\w+ .*VERSION_1/m);
  assert.match(text, /^vhost > ADD_MEM_REG guestPhysAddr=0 memorySize=16777216 .* \+1 descriptors$/m);
  assert.match(text, /^vhost > SET_VRING_NUM index=1 num=256$/m);
  assert.match(text, /^vhost > SET_VRING_KICK index=1 \+1 descriptors$/m);
  assert.match(text, /^INIT /m);
  assert.equal(tracer.said, '');
});

test('it serves one connection after another, and SIGINT ends it with its socket', async (t) => {
  const { tracer, mount } = await enter(t);
  mount.guest.close();
  for (let i = 0; i < 3; i += 1) {
    const next = Mount.connect(tracer.socketPath, { patient: true });
    next.lookup(ROOT, `none-${i}`, ENOENT);
    next.guest.close();
    await tracer.line(new RegExp(`"none-${i}" -> ENOENT`));
  }
  assert.equal(await tracer.stop(), 0);
  assert.equal(existsSync(tracer.socketPath), false);
});

test('of many requests at once, with few kicks and interrupts, each is told or counted as unseen', async (t) => {
  const file = traceFile(t);
  const tracer = await TestTracer.start(daemon().socketPath, ['-o', file]);
  t.after(() => tracer[Symbol.asyncDispose]());
  const mount = Mount.connect(tracer.socketPath, { queueSize: 256 });
  const { nodeid } = ownFolder(daemon(), mount);
  const requests = Array.from({ length: 2000 }, (_, i) => ({
    opcode: opcodes.LOOKUP.code,
    nodeid,
    body: Buffer.from(`none-${i}\0`),
  }));
  for (const { error } of mount.guest.sendAll(requests)) assert.equal(error, -ENOENT);
  mount.guest.close();
  await tracer.stop();
  const text = readFileSync(file, 'utf8');
  const told = text.match(/^LOOKUP .*"none-\d+" -> (ENOENT|\[the reply is gone\])/gm) ?? [];
  const unseen = Array.from(text.matchAll(/^\.\.\. (\d+) messages/gm), ([, count]) => Number(count));
  const sum = unseen.reduce((before, count) => before + count, 0);
  assert.equal(told.length + sum, 2000);
  assert.ok(told.length > 0);
});

test('requests that are cut into any pieces are told the same', async (t) => {
  const { tracer, mount, nodeid } = await enter(t);
  const request = { opcode: opcodes.GETATTR.code, nodeid, body: body(GetattrIn) };
  mount.guest.ask(request, 0, 1, { indirect: false, readable: [1, 2, 3, 7, 20], writable: [1, 15, 3] });
  mount.guest.ask(request, 0, 1, { indirect: true, readable: [39, 2], writable: [3, 14, 50] });
  await tracer.until(() => tracer.lines().filter((line) => line.startsWith('GETATTR')).length === 2, 'both came');
  const lines = tracer.lines().filter((line) => line.startsWith('GETATTR'));
  for (const line of lines) assert.match(line, /-> size \d+ mode 040700 \(/);
});

test('a queue that is stopped and started again is told on', async (t) => {
  const { tracer, mount, nodeid } = await enter(t);
  mount.guest.resumeQueue(1, mount.guest.stopQueue(1));
  mount.lookup(nodeid, 'after-a-stop', ENOENT);
  mount.guest.restartQueue(1);
  mount.lookup(nodeid, 'in-new-rings', ENOENT);
  mount.guest.frontEnd.addMemory(2 ** 32, 65_536);
  mount.lookup(nodeid, 'with-more-memory', ENOENT);
  mount.guest.frontEnd.removeMemory(2 ** 32);
  mount.lookup(nodeid, 'with-less', ENOENT);
  for (const each of ['after-a-stop', 'in-new-rings', 'with-more-memory', 'with-less']) {
    await tracer.line(new RegExp(`"${each}" -> ENOENT${TIME}`));
  }
});

test('a front-end without protocol features is told as well, with all of its memory in one table', async (t) => {
  const tracer = await TestTracer.start(daemon().socketPath);
  t.after(() => tracer[Symbol.asyncDispose]());
  using frontEnd = new RawFrontEnd(tracer.socketPath);
  const features = frontEnd.askNumber('GET_FEATURES') & ~(1n << Feature.PROTOCOL_FEATURES);
  frontEnd.send('SET_FEATURES', u64(features));
  const region = frontEnd.makeRegion(0, 2 ** 22);
  frontEnd.send('SET_MEM_TABLE', concat(words(1, 0), regionPayload(region).subarray(8)), 0, [region.fd]);
  const queue = frontEnd.makeQueue(1, 0);
  frontEnd.send('SET_VRING_NUM', state(1, 128));
  frontEnd.send('SET_VRING_BASE', state(1, 0));
  frontEnd.send('SET_VRING_ADDR', frontEnd.addresses(queue));
  frontEnd.send('SET_VRING_CALL', u64(1), 0, [queue.callFd]);
  frontEnd.send('SET_VRING_KICK', u64(1), 0, [queue.kickFd]);
  assert.equal(frontEnd.init(queue, 2 ** 20), 0);
  await tracer.line(/^INIT major 7 /);
});

test('a request that is never answered is told at the end of the connection', async (t) => {
  const { tracer, mount, nodeid } = await enter(t);
  const { fh } = mount.create(nodeid, 'file', { flags: O_RDWR | 0o100, mode: 0o600 });
  mount.guest.ask({ opcode: opcodes.READ.code, nodeid, body: body(ReadIn, { fh, size: 10 }), room: 10 });
  // The queue is stopped, so that nobody takes it.
  mount.guest.awaitHeard(1);
  const ring = new RawRing(mount.guest);
  const at = mount.guest.dataAt;
  mount.guest.write(at, mount.guest.encode({ opcode: opcodes.STATFS.code }));
  ring.describeAll(0, [
    { address: at, length: 40 },
    { address: at + 4096, length: 96, flags: WRITE },
  ]);
  // A nonsensical head before it: the daemon gives the queue up.
  ring.offer(300, 0);
  mount.guest.kick(1);
  mount.guest.awaitHeard(1);
  mount.guest.close();
  await tracer.line(/^STATFS node 1 \[not answered\]$/);
});

test('a guest that writes nonsense to its rings does not end it', async (t) => {
  const file = traceFile(t);
  const { tracer, mount, nodeid } = await enter(t, '-o', file);
  const { guest } = mount;
  const random = Random.fromEnvironment(t);
  const ring = new RawRing(guest);
  for (let round = 0; round < 200; round += 1) {
    for (let i = 0; i < 40; i += 1) {
      const near = random.below(3) > 0;
      ring.describe(random.below(ring.size), {
        address: near ? guest.dataAt + random.below(8192) : BigInt(random.word()) * BigInt(random.word()),
        length: near ? random.below(200) : random.word(),
        flags: near ? random.pick([0, NEXT, NEXT, WRITE, WRITE | NEXT, 4]) : random.below(0x10000),
        next: near ? random.below(ring.size) : random.below(0x10000),
      });
    }
    guest.write(guest.dataAt, random.bytes(8192));
    if (random.below(4) === 0) ring.availableIndex = random.below(0x10000);
    else ring.offer(...Array.from({ length: 5 }, () => random.below(ring.size + 1)));
    // The used ring is in the guest's memory as well.
    const { usedRing } = guest.drivers[1];
    if (random.below(3) === 0) guest.write(usedRing + random.below(2 * ring.size), random.bytes(6));
    guest.kick(1);
    guest.awaitHeard(1);
    if (random.below(10) === 0) ring.restart();
  }
  ring.restart();
  mount.lookup(nodeid, 'well-behaved', ENOENT);
  mount.guest.close();
  assert.equal(await tracer.stop(), 0);
  assert.match(readFileSync(file, 'utf8'), /"well-behaved" -> ENOENT/);
});

test('a client that speaks no vhost-user is let go, and the next one is served', async (t) => {
  const { tracer, mount } = await enter(t);
  mount.guest.close();
  const random = Random.fromEnvironment(t);
  for (const bytes of [random.bytes(100), new Uint8Array(12).fill(255), new Uint8Array([1, 0, 0, 0, 1, 0, 0, 0, 0])]) {
    const fd = connectUnix(tracer.socketPath);
    sendMessage(fd, bytes);
    // Half a message is waited for, so that this one goes by itself.
    if (bytes.length >= 12) assert.ok(waitReadable(fd, 10_000), 'it was let go');
    close(fd);
  }
  const next = Mount.connect(tracer.socketPath, { patient: true });
  next.lookup(ROOT, 'none-at-all', ENOENT);
  await tracer.line(/"none-at-all" -> ENOENT/);
  next.guest.close();
});

test('without a daemon, and with a socket that cannot be made, it says so', async () => {
  const none = TestTracer.launch('/nonexistent/daemon.sock');
  assert.equal(await none.ended, 1);
  assert.match(none.complained, /no daemon is there\. Start one first/);
  const wrong = TestTracer.launch(daemon().socketPath, ['--filter', 'LOOKUP,LOKUP']);
  assert.equal(await wrong.ended, 1);
  assert.match(wrong.complained, /There is no opcode 'LOKUP'/);
  const file = TestTracer.launch(daemon().socketPath, ['-o', '/nonexistent/trace']);
  assert.equal(await file.ended, 1);
  assert.match(file.complained, /Choose another -o/);
  for (const each of [none, wrong, file]) await each[Symbol.asyncDispose]();
});
