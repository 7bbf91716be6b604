/** Sessions that share threads: what one of them does is nothing to the others. */
import assert from 'node:assert/strict';
import { lstatSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { EBADF, ENOENT } from '../src/core/index.ts';
import { ForgetIn, opcodes, ReadIn } from '../src/fuse/index.ts';
import { O_RDONLY } from '../src/sys/index.ts';
import { TestDaemon } from './daemon.ts';
import { body } from './fuse.ts';
import { HIPRIO } from './guest.ts';
import { Mount, ROOT } from './mount.ts';
import { RawFrontEnd } from './raw-front-end.ts';

const IS_ROOT = process.getuid?.() === 0;
const ONE_THREAD = ['--threads', '1'];
const cells = fileURLToPath(new URL('cell-server.ts', import.meta.url));
const FSYNC = { opcode: opcodes.FSYNC.code, body: body(opcodes.FSYNC.in) };
const READ = { opcode: opcodes.READ.code, body: body(ReadIn), room: 16 };
const LSEEK = { opcode: opcodes.LSEEK.code, body: body(opcodes.LSEEK.in) };

const threadsOf = ({ process: { pid } }: TestDaemon): number => readdirSync(`/proc/${pid}/task`).length;

test('with --threads 1 one thread serves all request queues, and one all sessions', async () => {
  const counts: number[] = [];
  for (const sockets of [1, 8]) {
    await using daemon = await TestDaemon.start({ sockets, args: ONE_THREAD });
    const mounts = daemon.socketPaths.map((path) => Mount.connect(path, { requestQueues: 2 }));
    writeFileSync(join(daemon.share, 'file'), 'x');
    for (const mount of mounts) {
      for (const queue of [1, 2])
        assert.equal(mount.guest.ask({ opcode: opcodes.STATFS.code, nodeid: ROOT }, 0, queue).byteLength, 80);
      assert.equal(mount.lookup(ROOT, 'file').attributes.size, 1n);
    }
    counts.push(threadsOf(daemon));
    for (const mount of mounts) mount.guest.close();
    await daemon.awaitEnd(5000);
  }
  assert.equal(counts[0], counts[1]);
});

test('ids that only the other guest knows are refused on a thread that serves both', async () => {
  await using daemon = await TestDaemon.start({ sockets: 2, args: ONE_THREAD });
  writeFileSync(join(daemon.share, 'file'), 'secret');
  using one = Mount.connect(daemon.socketPaths[0]);
  using two = Mount.connect(daemon.socketPaths[1]);
  const file = one.lookup(ROOT, 'file').nodeid;
  const fh = one.open(file, O_RDONLY);
  two.getattr(file, ENOENT);
  two.read(fh, 0, 10, EBADF);
  assert.equal(Buffer.from(one.read(fh, 0, 10)).toString(), 'secret');
});

test('half a message from one VMM holds up no other', async () => {
  await using daemon = await TestDaemon.start({ sockets: 2, args: ONE_THREAD });
  const slow = new RawFrontEnd(daemon.socketPaths[0]);
  const message = RawFrontEnd.message(1);
  slow.sendBytes(message.subarray(0, 5));
  using mount = Mount.connect(daemon.socketPaths[1]);
  mount.mkdir(ROOT, 'dir');
  slow.sendBytes(message.subarray(5));
  assert.ok(slow.receive('GET_FEATURES'));
  slow.close();
});

test('a VMM that reads no replies loses its connection, and no other', async () => {
  await using daemon = await TestDaemon.start({ sockets: 2, args: [...ONE_THREAD, '--stay', '--log-level', 'error'] });
  using mount = Mount.connect(daemon.socketPaths[1]);
  const deaf = new RawFrontEnd(daemon.socketPaths[0]);
  const message = RawFrontEnd.message(1);
  while (deaf.sendBytes(message) === 0);
  mount.mkdir(ROOT, 'dir');
  await daemon.hears('does not read what it is sent');
  deaf.close();
});

for (const [what, sleeper] of [
  ['an FSYNC', FSYNC],
  ['a READ', READ],
] as const) {
  test(`${what} of one guest that sleeps holds up no other guest on its thread`, async (t) => {
    await using daemon = await TestDaemon.start({ sockets: 2, program: cells, args: ONE_THREAD });
    const [one, two] = daemon.socketPaths.map((path) => Mount.connect(path).guest);
    t.after(() => [one, two].map((guest) => guest.close()));
    const head = one.post(sleeper);
    for (let i = 0; i < 100; i += 1) two.ask(LSEEK);
    while (two.ask(LSEEK).getUint32(0, true) !== 1);
    assert.equal(one.isAnswered(head), false);
    two.ask({ opcode: opcodes.FORGET.code, body: body(ForgetIn, { nlookup: 1 }) }, 0, HIPRIO);
    one.answer(head);
  });
}

test('guests on one thread create as their own users', { skip: !IS_ROOT && 'needs root' }, async () => {
  await using daemon = await TestDaemon.start({ sockets: 3, args: [...ONE_THREAD, '--posix-acl'] });
  const mounts = daemon.socketPaths.map((path) => Mount.connect(path));
  const owners = [
    { uid: 1001, gid: 1002 },
    { uid: 0, gid: 0 },
    { uid: 2001, gid: 2002 },
  ];
  for (let round = 0; round < 5; round += 1) {
    for (const [i, mount] of mounts.entries()) {
      const name = `${i}-${round}`;
      mount.mkdir(ROOT, name, 0o755, 0, owners[i]);
      const { uid, gid } = lstatSync(join(daemon.share, name));
      assert.deepEqual({ uid, gid }, owners[i], name);
    }
  }
  for (const mount of mounts) mount.guest.close();
});

test('a session that ends takes no other on its thread with it, and the last one ends the daemon', async () => {
  await using daemon = await TestDaemon.start({ sockets: 3, args: ONE_THREAD });
  const [one, two] = daemon.socketPaths.slice(0, 2).map((path) => Mount.connect(path));
  one.mkdir(ROOT, 'one');
  one.guest.close();
  await daemon.gone(daemon.socketPaths[0]);
  two.mkdir(ROOT, 'two');
  two.guest.close();
  await daemon.gone(daemon.socketPaths[1]);
  assert.equal(daemon.process.exitCode, null);
  const three = Mount.connect(daemon.socketPaths[2]);
  assert.deepEqual(three.list(ROOT, three.opendir(ROOT), 0n, 4096, false).length, 4);
  three.guest.close();
  assert.deepEqual(await daemon.awaitEnd(5000), { code: 0, signal: null });
});
