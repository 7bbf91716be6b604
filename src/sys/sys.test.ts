import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';

import { EBADF, EMFILE, ENOENT, EPIPE, type Fd } from '../core/index.ts';
import * as sys from './index.ts';

// A worker that ends while TurboFan compiles its FFI calls in the background crashes Node (see `park` in src/server).
setFlagsFromString('--no-concurrent-recompilation');

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtiofs-sys-'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

test('every function takes the fast path into libc', () => {
  assert.equal(sys.fastPath, true);
});

test('a failed call gives the negative errno, cold and compiled', () => {
  for (let i = 0; i < 30_000; i += 1) assert.equal(sys.close(1_000_000), -EBADF);
  assert.equal(sys.openat(sys.AT_FDCWD, sys.coldString(join(folder, 'none')), 0, 0), -ENOENT);
});

test('errno belongs to the thread that made the call', async () => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData).then(({ close }) => {
      const seen = new Set();
      for (let i = 0; i < 20000; i += 1) seen.add(close(1_000_000));
      parentPort.postMessage([...seen]);
    });`;
  const worker = new Worker(source, { eval: true, workerData: new URL('./index.ts', import.meta.url).href });
  const seen = new Promise((resolve) => worker.on('message', resolve));
  const missing = sys.coldString(join(folder, 'none'));
  for (let i = 0; i < 20_000; i += 1) assert.equal(sys.openat(sys.AT_FDCWD, missing, 0, 0), -ENOENT);
  assert.deepEqual(await seen, [-EBADF]);
});

test('open flags are the ones that this machine has', () => {
  for (const name of ['O_APPEND', 'O_CREAT', 'O_DIRECT', 'O_DIRECTORY', 'O_DSYNC', 'O_EXCL', 'O_NOATIME'] as const) {
    assert.equal(sys[name], constants[name], name);
  }
  for (const name of ['O_NOCTTY', 'O_NOFOLLOW', 'O_NONBLOCK', 'O_RDWR', 'O_SYNC', 'O_TRUNC', 'O_WRONLY'] as const) {
    assert.equal(sys[name], constants[name], name);
  }
});

test('offsets beyond 4 GiB arrive whole', () => {
  const path = join(folder, 'sparse');
  const fd = openSync(path, 'w+');
  const arena = new sys.Arena(4096);
  arena.view.setBigUint64(0, BigInt(arena.address + 64), true);
  arena.view.setBigUint64(8, 4n, true);
  arena.u8.set([1, 2, 3, 4], 64);
  const [lo, hi] = [0x80000001 | 0, 5];
  assert.equal(sys.pwritev(fd, arena.address, 1, lo, hi), 4);
  const end = 5 * 2 ** 32 + 0x80000001 + 4;
  assert.equal(statSync(path).size, end);
  assert.equal(sys.lseek(fd, 0, 0, 3), 0, 'SEEK_DATA');
  assert.ok(sys.seekPosition[1] === 5, 'the data starts beyond 20 GiB');
  arena.u8.fill(0, 64, 68);
  assert.equal(sys.preadv(fd, arena.address, 1, lo, hi), 4);
  assert.deepEqual([...arena.u8.subarray(64, 68)], [1, 2, 3, 4]);
  closeSync(fd);
});

test('a message carries descriptors to the other end, and a closed end is an error', () => {
  const path = join(folder, 'pass.sock');
  const listening = sys.listenUnix(path);
  const client = sys.connectUnix(path);
  const server = sys.accept(listening);
  writeFileSync(join(folder, 'passed'), 'by descriptor');
  const file = openSync(join(folder, 'passed'), 'r');
  assert.equal(sys.sendMessage(client, new Uint8Array([9, 8, 7]), [file]), 0);
  const fds: Fd[] = [];
  const target = new Uint8Array(8);
  assert.equal(sys.receiveMessage(server, target, 2, 6, fds), 3);
  assert.deepEqual([...target], [0, 0, 9, 8, 7, 0, 0, 0]);
  assert.equal(fds.length, 1);
  assert.equal(readFileSync(fds[0], 'utf8'), 'by descriptor');
  sys.close(server);
  assert.equal(sys.sendMessage(client, new Uint8Array(1)), -EPIPE);
  for (const fd of [client, listening, file, fds[0]]) sys.close(fd);
});

test('descriptors that a process has no room for are an error, and nothing worse', () => {
  const path = join(folder, 'full.sock');
  const listening = sys.listenUnix(path);
  const client = sys.connectUnix(path);
  const server = sys.accept(listening);
  const { soft, hard } = sys.descriptorLimit();
  sys.sendMessage(client, new Uint8Array(1), [listening]);
  // Descriptors that are open stay open; no new one can be made.
  assert.equal(sys.setDescriptorLimit(3, hard), 0);
  const result = sys.receiveMessage(server, new Uint8Array(1), 0, 1, []);
  sys.setDescriptorLimit(soft, hard);
  assert.equal(result, -EMFILE);
  for (const fd of [client, server, listening]) sys.close(fd);
});

test('a living socket is told from one left behind, and its owner notices nothing', () => {
  const path = join(folder, 'live.sock');
  const listening = sys.listenUnix(path);
  assert.equal(sys.isSocketInUse(path), true);
  assert.equal(sys.waitReadable(listening, 0), false, 'no connection is waiting to be accepted');
  sys.close(listening);
  assert.equal(sys.isSocketInUse(path), false);
  assert.equal(sys.isSocketInUse(join(folder, 'no.sock')), false);
});

test('an eventfd wakes an epoll set until it is drained', () => {
  const epoll = new sys.Epoll();
  const fd = sys.eventfd();
  epoll.add(fd, 42);
  assert.equal(epoll.wait(0), 0);
  sys.signalEventfd(fd);
  sys.signalEventfd(fd);
  assert.equal(epoll.wait(1000), 1);
  assert.equal(epoll.key(0), 42);
  sys.drainEventfd(fd);
  assert.equal(epoll.wait(0), 0);
  epoll.remove(fd);
  sys.signalEventfd(fd);
  assert.equal(epoll.wait(0), 0);
  epoll.close();
  sys.close(fd);
});

test('two mappings of a memfd are one memory', () => {
  const fd = sys.memfd('test', 8192);
  const a = sys.mapShared(fd, 8192, 0);
  const b = sys.mapShared(fd, 4096, 4096);
  new Uint8Array(sys.viewMemory(a, 8192))[4100] = 77;
  assert.equal(new Uint8Array(sys.viewMemory(b, 4096))[4], 77);
  assert.equal(sys.fileSize(fd), 8192);
  sys.close(fd);
});

test('files are created in the name of another user by a thread that may, and its rights stay', (t) => {
  if (!sys.allowActingAs()) {
    t.skip('this process may not change its identity: files stay its own');
    return;
  }
  const secret = join(folder, 'secret');
  writeFileSync(secret, '', { mode: 0o600 });
  sys.actAs(2001, 2002);
  const made = sys.openat(sys.AT_FDCWD, sys.coldString(join(folder, 'theirs')), sys.O_CREAT | sys.O_WRONLY, 0o640);
  const opened = sys.openat(sys.AT_FDCWD, sys.coldString(secret), sys.O_RDWR, 0);
  sys.actAs(process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
  assert.ok(made >= 0 && opened >= 0);
  const { uid, gid } = statSync(join(folder, 'theirs'));
  assert.deepEqual([uid, gid], [2001, 2002]);
  sys.close(made);
  sys.close(opened);
});

test('a signal does not end the wait for a descriptor', async () => {
  const heard = (): void => {};
  process.on('SIGHUP', heard);
  const [from, to] = sys.pipe();
  const script = 'for i in $(seq 5000); do kill -HUP $0; done; echo';
  const child = spawn('/bin/sh', ['-c', script, `${process.pid}`], { stdio: ['ignore', to, 'inherit'] });
  const ended = once(child, 'close');
  assert.equal(sys.waitReadable(from, 20_000), true);
  sys.close(from);
  sys.close(to);
  await ended;
  process.off('SIGHUP', heard);
});
