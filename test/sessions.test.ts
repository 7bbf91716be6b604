/** VMs that come and go, several on one daemon; how the daemon starts, stays and ends. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, lstatSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EBADF, ENFILE, ENOENT } from '../src/core/index.ts';
import { flags, LinkIn, OpenIn, OutHeader, opcodes, RenameIn, WriteIn } from '../src/fuse/index.ts';
import { close, listenUnix, O_RDONLY, O_RDWR } from '../src/sys/index.ts';
import { TestDaemon } from './daemon.ts';
import { body, concat, handleOf, name } from './fuse.ts';
import { Mount, ROOT } from './mount.ts';
import { takeLease } from './native.ts';
import { RawFrontEnd } from './raw-front-end.ts';

/** What a daemon gets for ending, on a machine that others use as well. The daemon's own limit is a second. */
const SECOND_MS = 1000;
const SLACK_MS = 500;
const IS_ROOT = process.getuid?.() === 0;
const CLEAN = { code: 0, signal: null };
const EMPTY = { inodes: 1, inodeDescriptors: 1, mounts: 1, handles: 0 };

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('a node id that only the other guest knows is refused', async () => {
  await using daemon = await TestDaemon.start({ sockets: 2 });
  writeFileSync(join(daemon.share, 'file'), 'x');
  writeFileSync(join(daemon.share, 'other'), 'x');
  using one = Mount.connect(daemon.socketPaths[0]);
  using two = Mount.connect(daemon.socketPaths[1]);
  const file = one.lookup(ROOT, 'file').nodeid;
  const dir = one.mkdir(ROOT, 'dir').nodeid;
  assert.equal(two.lookup(ROOT, 'other').attributes.size, 1n);
  two.getattr(file, ENOENT);
  two.setattr(file, { valid: flags.FATTR.SIZE, size: 0 }, ENOENT);
  two.open(file, O_RDWR, ENOENT);
  two.lookup(dir, 'x', ENOENT);
  two.opendir(dir, ENOENT);
  two.mkdir(dir, 'x', 0o755, ENOENT);
  two.create(dir, 'x', { flags: O_RDWR, mode: 0o600 }, ENOENT);
  const link = concat(body(LinkIn, { oldnodeid: file }), name('link'));
  two.guest.ask({ opcode: opcodes.LINK.code, nodeid: ROOT, body: link }, ENOENT);
  const rename = concat(body(RenameIn, { newdir: dir }), name('other'), name('other'));
  two.guest.ask({ opcode: opcodes.RENAME.code, nodeid: ROOT, body: rename }, ENOENT);
  two.guest.ask({ opcode: opcodes.STATFS.code, nodeid: file }, ENOENT);
  // What the one forgets, the other still knows, and the other way round.
  assert.equal(two.lookup(ROOT, 'file').nodeid, file, 'one inode of the export, one node id');
  two.forget(file, 1);
  two.getattr(file, ENOENT);
  one.getattr(file);
  two.forget(file, 1000);
  two.batchForget({ nodeid: file, nlookup: 2n ** 63n }, { nodeid: dir, nlookup: 1 });
  one.getattr(file);
  one.getattr(dir);
  assert.equal(statSync(join(daemon.share, 'file')).size, 1);
});

test('a handle of another guest is refused', async () => {
  await using daemon = await TestDaemon.start({ sockets: 2 });
  writeFileSync(join(daemon.share, 'file'), 'secret');
  using one = Mount.connect(daemon.socketPaths[0]);
  using two = Mount.connect(daemon.socketPaths[1]);
  const file = one.lookup(ROOT, 'file').nodeid;
  const handles = Array.from({ length: 10 }, () => one.open(file, O_RDWR));
  const directory = one.opendir(ROOT);
  for (const fh of handles) {
    two.read(fh, 0, 10, EBADF);
    two.write(fh, 0, Buffer.from('x'), EBADF);
    two.release(fh, EBADF);
  }
  two.list(ROOT, directory, 0n, 4096, true, EBADF);
  two.releasedir(directory, EBADF);
  // Handles of one's own may have the same number: they are other files.
  writeFileSync(join(daemon.share, 'mine'), 'mine');
  const mine = two.open(two.lookup(ROOT, 'mine').nodeid, O_RDONLY);
  assert.equal(Buffer.from(two.read(mine, 0, 10)).toString(), 'mine');
  two.release(mine);
  for (const fh of handles) assert.equal(Buffer.from(one.read(fh, 0, 10)).toString(), 'secret');
  one.list(ROOT, directory, 0n, 4096, true);
});

test('a guest that goes in the middle of writes disturbs no other, and the last one ends the daemon', async () => {
  await using daemon = await TestDaemon.start({ sockets: 2 });
  const one = Mount.connect(daemon.socketPaths[0], { queueSize: 1024 });
  const two = Mount.connect(daemon.socketPaths[1]);
  const content = 'x'.repeat(10_000);
  writeFileSync(join(daemon.share, 'file'), content);
  const shared = two.lookup(ROOT, 'file').nodeid;
  assert.equal(one.lookup(ROOT, 'file').nodeid, shared);
  const fh = two.open(shared, O_RDONLY);
  const mine = one.create(ROOT, 'growing', { flags: O_RDWR, mode: 0o600 });
  assert.equal((await daemon.gauges()).handles, 2);

  // Three hundred writes are under way when the guest goes.
  const data = new Uint8Array(16384).fill(0x61);
  const message = one.guest.encode({
    opcode: opcodes.WRITE.code,
    body: concat(body(WriteIn, { fh: mine.fh, size: data.length }), data),
  });
  one.guest.write(one.guest.dataAt, message);
  for (let i = 0; i < 300; i += 1) {
    const reply = { address: one.guest.dataAt + 65536 + i * 32, length: OutHeader.bytes + 8 };
    one.guest.drivers[1].add([{ address: one.guest.dataAt, length: message.length }], [reply]);
  }
  one.guest.drivers[1].publish();
  one.guest.kick(1);
  one.guest.close();

  for (let i = 0; i < 200; i += 1)
    assert.equal(Buffer.from(two.read(fh, i, 5000)).toString(), content.slice(i, i + 5000));
  await daemon.gone(daemon.socketPaths[0]);
  const { inodes, handles } = await daemon.gauges();
  assert.deepEqual({ inodes, handles }, { inodes: 2, handles: 1 });
  two.getattr(shared);
  assert.equal(daemon.process.exitCode, null);
  two.guest.close();
  assert.deepEqual(await daemon.awaitEnd(5000), CLEAN);
  for (const path of daemon.socketPaths) assert.equal(existsSync(path), false);
});

test('what FSYNC confirmed is there after the guest was killed', async () => {
  await using daemon = await TestDaemon.start();
  const mount = Mount.connect(daemon.socketPath);
  const { fh } = mount.create(ROOT, 'file', { flags: O_RDWR, mode: 0o600 });
  mount.write(fh, 0, Buffer.from('confirmed'));
  mount.guest.ask({ opcode: opcodes.FSYNC.code, body: body(opcodes.FSYNC.in, { fh }) });
  mount.guest.close();
  assert.deepEqual(await daemon.awaitEnd(5000), CLEAN);
  assert.equal(readFileSync(join(daemon.share, 'file'), 'utf8'), 'confirmed');
});

test('with --stay VMs come one after another, and nothing is left of the one before', async () => {
  await using daemon = await TestDaemon.start({ args: ['--stay', '--log-level', 'error'] });
  writeFileSync(join(daemon.share, 'file'), 'x');
  let descriptors = 0;
  for (let round = 0; round < 6; round += 1) {
    using mount = Mount.connect(daemon.socketPath, { requestQueues: 1 + (round % 3) });
    const { inodes, inodeDescriptors, mounts, handles } = await daemon.gauges();
    assert.deepEqual({ inodes, inodeDescriptors, mounts, handles }, EMPTY);
    // Another number of queues each time; the threads of all three are there from the third round on.
    if (round === 3) descriptors = daemon.descriptors();
    else if (round > 3) assert.equal(daemon.descriptors() - descriptors, 2 * (round % 3));
    mount.getattr(2n, ENOENT);
    mount.read(1n, 0, 1, EBADF);
    const file = mount.lookup(ROOT, 'file').nodeid;
    for (let i = 0; i < 20; i += 1) mount.open(file, O_RDONLY);
    mount.opendir(ROOT);
    mount.mkdir(ROOT, `dir${round}`);
  }
  assert.equal(existsSync(daemon.socketPath), true);
  daemon.process.kill('SIGTERM');
  assert.deepEqual(await daemon.awaitEnd(), CLEAN);
  assert.equal(existsSync(daemon.socketPath), false);
});

test('a VM that connects before the one before it has quite gone is served', async () => {
  await using daemon = await TestDaemon.start({ args: ['--stay', '--log-level', 'error'] });
  for (let round = 0; round < 10; round += 1) {
    const mount = Mount.connect(daemon.socketPath);
    mount.mkdir(ROOT, `dir${round}`);
    mount.guest.close();
  }
  using mount = Mount.connect(daemon.socketPath);
  assert.equal(mount.listAll(ROOT).length, 12);
});

/** Signals the daemon, and sees that it ends in time and leaves nothing behind. */
async function assertEnds(daemon: TestDaemon, signal: NodeJS.Signals): Promise<void> {
  const start = performance.now();
  daemon.process.kill(signal);
  assert.deepEqual(await daemon.awaitEnd(), CLEAN, daemon.said);
  const took = performance.now() - start;
  assert.ok(took < SECOND_MS + SLACK_MS, `the daemon took ${took.toFixed(0)} ms to end`);
  for (const path of daemon.socketPaths) assert.equal(existsSync(path), false);
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} ends a daemon that waits for its VM`, async () => {
    await using daemon = await TestDaemon.start({ sockets: 3 });
    await assertEnds(daemon, signal);
  });

  test(`${signal} ends a daemon whose VMs are idle, with all queues asleep`, async () => {
    await using daemon = await TestDaemon.start({ sockets: 2, args: ['--stay'] });
    using one = Mount.connect(daemon.socketPaths[0], { requestQueues: 4 });
    using two = Mount.connect(daemon.socketPaths[1]);
    one.opendir(ROOT);
    two.getattr(ROOT);
    await assertEnds(daemon, signal);
  });
}

test('SIGTERM ends a daemon whose VMM stopped in the middle of a message', async () => {
  await using daemon = await TestDaemon.start();
  using frontEnd = new RawFrontEnd(daemon.socketPath);
  frontEnd.negotiate();
  // Answered: the daemon is at its next message by now, or will be.
  frontEnd.sendBytes(concat(RawFrontEnd.message(1), RawFrontEnd.message(9, new Uint8Array(40)).subarray(0, 20)));
  frontEnd.receive('GET_FEATURES');
  await assertEnds(daemon, 'SIGTERM');
});

test('SIGTERM ends a daemon with a queue that is stuck in the kernel', async (t) => {
  await using daemon = await TestDaemon.start();
  const file = join(daemon.share, 'leased');
  writeFileSync(file, 'x');
  const fd = openSync(file, 'r+');
  t.after(() => close(fd));
  if (!takeLease(fd)) return t.skip('the file system of the temporary directory has no leases');
  // So the kernel tells the holder of a lease that somebody wants the file.
  const wanted = once(process, 'SIGIO');
  using mount = Mount.connect(daemon.socketPath);
  const { guest } = mount;
  const found = mount.lookup(ROOT, 'leased').nodeid;
  const open = guest.encode({ opcode: opcodes.OPEN.code, nodeid: found, body: body(OpenIn, { flags: O_RDWR }) });
  guest.write(guest.dataAt, open);
  guest.drivers[1].add(
    [{ address: guest.dataAt, length: open.length }],
    [{ address: guest.dataAt + 4096, length: 32 }],
  );
  guest.drivers[1].publish();
  guest.kick(1);
  await wanted;
  // The hiprio queue is not held up by it.
  mount.forget(found, 1);
  await assertEnds(daemon, 'SIGTERM');
});

test('a guest that knows more inodes than there are descriptors is served', {
  skip: !IS_ROOT && 'needs root',
}, async () => {
  await using daemon = await TestDaemon.start({ descriptorLimit: 700, args: ['--log-level', 'error'] });
  for (let i = 0; i < 1500; i += 1) writeFileSync(join(daemon.share, `${i}`), `${i}`);
  using mount = Mount.connect(daemon.socketPath);
  const found = Array.from({ length: 1500 }, (_, i) => mount.lookup(ROOT, `${i}`));
  assert.ok(daemon.descriptors() < 700);
  for (const [i, { nodeid, attributes }] of found.entries()) {
    assert.deepEqual(mount.getattr(nodeid), attributes);
    const fh = mount.open(nodeid, O_RDONLY);
    assert.equal(Buffer.from(mount.read(fh, 0, 10)).toString(), `${i}`);
    mount.release(fh);
  }
});

test('a guest that opens all it can is refused in time, and another VM can still come', async () => {
  await using daemon = await TestDaemon.start({ sockets: 2, descriptorLimit: 700, args: ['--log-level', 'error'] });
  writeFileSync(join(daemon.share, 'file'), 'x');
  writeFileSync(join(daemon.share, 'other'), 'other');
  using greedy = Mount.connect(daemon.socketPaths[0]);
  const file = greedy.lookup(ROOT, 'file').nodeid;
  const open = { opcode: opcodes.OPEN.code, nodeid: file, body: body(OpenIn, { flags: O_RDONLY }) };
  const replies = greedy.guest.sendAll(Array.from({ length: 2000 }, () => open));
  const opened = replies.filter((reply) => reply.error === 0).map((reply) => handleOf(reply.body));
  assert.ok(opened.length >= 100 && opened.length < 700, `${opened.length} were opened`);
  assert.ok(replies.every(({ error }) => error === 0 || error === -ENFILE));
  using modest = Mount.connect(daemon.socketPaths[1], { requestQueues: 2 });
  modest.getattr(ROOT);
  // With the capability to reopen by handle, inodes give descriptors up for those that are new.
  if (IS_ROOT) modest.lookup(ROOT, 'other');
  for (const fh of opened) greedy.release(fh);
  const other = modest.open(modest.lookup(ROOT, 'other').nodeid, O_RDONLY);
  assert.equal(Buffer.from(modest.read(other, 0, 10)).toString(), 'other');
  greedy.release(greedy.open(file, O_RDONLY));
});

test('a daemon whose stderr nobody reads any more goes on', async () => {
  await using daemon = await TestDaemon.start({ args: ['--stats'] });
  using mount = Mount.connect(daemon.socketPath);
  daemon.process.stderr?.destroy();
  daemon.process.kill('SIGUSR1');
  // Lookups that fail, and a request that is dropped: it would be said on stderr.
  for (let i = 0; i < 2000; i += 1) mount.lookup(ROOT, 'absent', ENOENT);
  mount.guest.sendBytes(new Uint8Array(10), 16);
  mount.guest.close();
  assert.deepEqual(await daemon.awaitEnd(5000), CLEAN);
});

test('a socket that a killed daemon left behind is taken over', async (t) => {
  const folder = temporaryFolder(t);
  const socketPaths = [join(folder, 'vm.sock')];
  const first = await TestDaemon.start({ socketPaths });
  first.process.kill('SIGKILL');
  assert.deepEqual(await first.awaitEnd(), { code: null, signal: 'SIGKILL' });
  assert.equal(lstatSync(socketPaths[0]).isSocket(), true);
  await first[Symbol.asyncDispose]();
  await using second = await TestDaemon.start({ socketPaths });
  using mount = Mount.connect(socketPaths[0]);
  mount.getattr(ROOT);
  await assertEnds(second, 'SIGTERM');
});

test('a socket in use by another daemon is refused, and that daemon is not disturbed', async () => {
  await using daemon = await TestDaemon.start();
  const refused = async (): Promise<void> => {
    await using second = TestDaemon.launch({ socketPaths: [daemon.socketPath] });
    assert.deepEqual(await second.awaitEnd(), { code: 1, signal: null });
    assert.ok(second.said.includes(daemon.socketPath) && second.said.includes('in use'), second.said);
  };
  // While it waits for its VM, which a connection would be; and while it has one.
  await refused();
  assert.equal(existsSync(daemon.socketPath), true);
  using mount = Mount.connect(daemon.socketPath);
  await refused();
  mount.getattr(ROOT);
  assert.equal(existsSync(daemon.socketPath), true);
});

test('a daemon that ends does not take a socket that is not its own any more', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'vm.sock');
  await using daemon = await TestDaemon.start({ socketPaths: [path] });
  rmSync(path);
  const fd = listenUnix(path);
  t.after(() => close(fd));
  daemon.process.kill('SIGTERM');
  assert.deepEqual(await daemon.awaitEnd(), CLEAN);
  assert.equal(lstatSync(path).isSocket(), true);
});

/** Starts a daemon that cannot work: it says why, with the value that is to blame, and ends with exit code 1. */
async function assertRefuses(options: Parameters<typeof TestDaemon.launch>[0], ...words: string[]): Promise<void> {
  await using daemon = TestDaemon.launch(options);
  assert.deepEqual(await daemon.awaitEnd(), { code: 1, signal: null }, daemon.said);
  for (const word of words) assert.ok(daemon.said.includes(word), `'${word}' is not in: ${daemon.said}`);
  assert.ok(!daemon.said.includes('    at '), `a stack is no message for a user: ${daemon.said}`);
}

test('a shared directory that is not there, or none, is refused by name', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'file'), '');
  await assertRefuses({ share: join(folder, 'absent') }, join(folder, 'absent'), 'no such directory');
  await assertRefuses({ share: join(folder, 'file') }, join(folder, 'file'), 'not a directory');
  await assertRefuses({ share: join(folder, 'file', 'below') }, join(folder, 'file', 'below'));
  await assertRefuses({ share: '' }, '--shared-dir');
});

test('a socket path that cannot be is refused by name', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'file'), 'precious');
  const long = join(folder, 'x'.repeat(110));
  await assertRefuses({ socketPaths: [long] }, long, '107');
  await assertRefuses({ socketPaths: [join(folder, 'file')] }, join(folder, 'file'), 'no socket');
  assert.equal(readFileSync(join(folder, 'file'), 'utf8'), 'precious');
  await assertRefuses({ socketPaths: [folder] }, folder, 'no socket');
  await assertRefuses(
    { socketPaths: [join(folder, 'absent', 'vm.sock')] },
    join(folder, 'absent', 'vm.sock'),
    `there is no directory ${join(folder, 'absent')}`,
  );
  await assertRefuses({ socketPaths: [join(folder, 'file', 'vm.sock')] }, join(folder, 'file', 'vm.sock'));
  await assertRefuses({ socketPaths: [''] }, '--socket-path');
  const good = join(folder, 'vm.sock');
  await assertRefuses({ socketPaths: [good, good] }, good, 'twice');
  // Of several, one that cannot be had leaves none of the others behind.
  await assertRefuses({ socketPaths: [good, long] }, long);
  assert.equal(existsSync(good), false);
});

test('wrong use is refused with exit code 1', async () => {
  await assertRefuses({ args: ['--cache', 'sometimes'] }, 'sometimes');
  await assertRefuses({ args: ['--no-such-option'] }, '--no-such-option');
  await assertRefuses({ socketPaths: [] }, '--socket-path');
  await assertRefuses({ args: ['--tag', 'x'.repeat(37)] }, '36');
  await assertRefuses({ args: ['--tag', ''] }, 'tag');
});

test('only its owner may connect to the socket', async () => {
  await using daemon = await TestDaemon.start();
  assert.equal(lstatSync(daemon.socketPath).mode & 0o777, 0o700);
});
