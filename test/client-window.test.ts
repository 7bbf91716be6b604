/** The client's DAX window with our daemon: what it maps is read and written without a message. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync, truncateSync, writeFileSync, writeSync, openSync, closeSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { type DaxOps, type DaxRange, DaxRanges } from '../src/client/window/dax.ts';
import { all, finished, Latch, type Task } from '../src/client/task.ts';
import { WindowThread } from '../src/client/window/window-thread.ts';
import { lensRefusal, RANGE_BYTES } from '../src/coherence/index.ts';
import { flags, opcodes, RemovemappingIn, RemovemappingOne, SetupmappingIn } from '../src/fuse/index.ts';
import { O_RDWR } from '../src/sys/index.ts';
import { commonDaemon } from './daemon.ts';
import { body, concat } from './fuse.ts';
import type { FuseRequest } from './guest.ts';
import { Mount, ROOT } from './mount.ts';

const WINDOW_BYTES = 4 * RANGE_BYTES;
const refusal = lensRefusal();
const skip = refusal === undefined ? false : `no lens can be made here: ${refusal}`;
const ARGS = ['--tag', 't', '--dax-window', '8M', '--stay', '--log-level', 'error'];
const daemon = skip === false ? commonDaemon({ args: ARGS, sockets: 2 }) : (): never => assert.fail();

/** A guest without a VM whose window is in this process. */
class Client implements DaxOps {
  readonly mount: Mount;
  readonly window: WindowThread;
  readonly ranges: DaxRanges;
  readonly refusals: string[] = [];
  asked = 0;
  readonly #waiting: Latch[] = [];
  #closed = false;

  constructor(t: TestContext) {
    this.mount = Mount.connect(daemon().socketPaths[0]);
    const { frontEnd } = this.mount.guest;
    assert.deepEqual(frontEnd.sharedMemory(), [WINDOW_BYTES]);
    const refused = (why: string): unknown => this.refusals.push(why);
    this.window = new WindowThread({ channel: frontEnd.openBackendChannel(), sizeBytes: WINDOW_BYTES, refused });
    this.ranges = new DaxRanges(this.window, this);
    t.after(() => this.close());
  }

  setup(nodeid: bigint, fh: bigint, foffset: number, moffset: number, write: boolean): Task<void> {
    this.asked += 1;
    const wanted = flags.SETUPMAPPING_IN.READ | (write ? flags.SETUPMAPPING_IN.WRITE : 0);
    const fields = { fh, foffset, moffset, len: RANGE_BYTES, flags: wanted };
    return this.#ask({ opcode: opcodes.SETUPMAPPING.code, nodeid, body: body(SetupmappingIn, fields) });
  }

  remove(ranges: readonly DaxRange[], nodeid: bigint): Task<void> {
    const ones = ranges.map(({ windowOffset: moffset, length: len }) => body(RemovemappingOne, { moffset, len }));
    const rest = concat(body(RemovemappingIn, { count: ones.length }), ...ones);
    return this.#ask({ opcode: opcodes.REMOVEMAPPING.code, nodeid, body: rest });
  }

  *#ask(request: FuseRequest): Task<void> {
    const posted = this.mount.guest.post(request);
    const latch = new Latch();
    this.#waiting.push(latch);
    yield latch;
    this.mount.guest.answer(posted);
  }

  /** Goes on with what was asked first, and waits for that answer. */
  do<T>(task: Task<T>): T {
    return finished(task, () => {
      const next = this.#waiting.shift();
      assert.ok(next, 'nothing is asked of the daemon');
      next.settle();
    });
  }

  /** A file's node, as the client knows it, and its handle. */
  open(name: string): { nodeid: bigint; fh: bigint } {
    const { nodeid } = this.mount.lookup(ROOT, name);
    return { nodeid, fh: this.mount.open(nodeid, O_RDWR) };
  }

  read({ nodeid, fh }: { nodeid: bigint; fh: bigint }, position: number, length: number): Buffer {
    const into = Buffer.alloc(length);
    return into.subarray(0, this.do(this.ranges.file(nodeid).read(fh, into, position, position + length)));
  }

  write({ nodeid, fh }: { nodeid: bigint; fh: bigint }, position: number, text: string): number {
    const bytes = Buffer.from(text);
    return this.do(this.ranges.file(nodeid).write(fh, bytes, position, position + bytes.length));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.do(this.ranges.close());
    this.window.close();
    this.mount.guest.close();
  }
}

/** What is mapped at the window's addresses: 's' what is shared with others, '-' all of it, reserved or not. */
function mappingsOf({ address }: { readonly address: number }, kind: 's' | '-'): string[] {
  const lines = readFileSync('/proc/self/maps', 'utf8').trim().split('\n');
  return lines.filter((line) => {
    const [from, to] = line.split(/[- ]/).map((text) => Number.parseInt(text, 16));
    return from < address + WINDOW_BYTES && address < to && (kind === '-' || /^\S+ ...s/.test(line));
  });
}

function pathOf(name: string): string {
  return join(daemon().share, name);
}

function overwrite(path: string, position: number, text: string): void {
  const fd = openSync(path, 'r+');
  writeSync(fd, text, position);
  closeSync(fd);
}

test('a file is read and written through the window, and is the same for the host at once', { skip }, (t) => {
  const path = pathOf('shared');
  writeFileSync(path, Buffer.alloc(3 * RANGE_BYTES, 'a'));
  const client = new Client(t);
  const file = client.open('shared');
  assert.deepEqual(client.read(file, 0, 3 * RANGE_BYTES), Buffer.alloc(3 * RANGE_BYTES, 'a'));
  assert.equal(client.write(file, RANGE_BYTES - 2, 'from the client'), 15);
  assert.equal(readFileSync(path, 'latin1').slice(RANGE_BYTES - 3, RANGE_BYTES + 14), 'afrom the clienta');
  const { asked } = client;
  overwrite(path, 100, 'from the host');
  assert.equal(client.read(file, 99, 15).toString(), 'afrom the hosta');
  assert.equal(client.write(file, 100, 'from nobody'), 11);
  assert.equal(client.asked, asked);
  assert.deepEqual(client.refusals, []);
});

test('files larger than the window are read, and files that are not known any more leave it', { skip }, (t) => {
  const size = 7 * RANGE_BYTES + 1234;
  const bytes = Buffer.alloc(size, 'what repeats itself at no power of two');
  writeFileSync(pathOf('large'), bytes);
  const client = new Client(t);
  const file = client.open('large');
  assert.ok(client.read(file, 0, size).equals(bytes));
  assert.ok(client.read(file, 0, size).equals(bytes));
  client.do(client.ranges.file(file.nodeid).drop());
  assert.equal(client.ranges.free, 4);
  client.mount.getattr(ROOT);
  assert.deepEqual(client.refusals, []);
});

test('tasks that read and write side by side share a window that is smaller than what they need', { skip }, (t) => {
  const size = 12 * RANGE_BYTES;
  const path = pathOf('several');
  writeFileSync(path, Buffer.alloc(size));
  const client = new Client(t);
  const { nodeid, fh } = client.open('several');
  const file = client.ranges.file(nodeid);
  const parts = Array.from({ length: 6 }, (_, i) => ({
    at: 2 * i * RANGE_BYTES,
    bytes: Buffer.alloc(2 * RANGE_BYTES, i + 1),
  }));
  client.do(all(parts.map(({ at, bytes }) => file.write(fh, bytes, at, size))));
  const whole = Buffer.concat(parts.map(({ bytes }) => bytes));
  assert.ok(readFileSync(path).equals(whole));
  const seen = Buffer.alloc(size);
  const tasks = parts.map(({ at }) => file.read(fh, seen.subarray(at, at + 2 * RANGE_BYTES), at, size));
  client.do(all(tasks));
  assert.ok(seen.equals(whole));
  assert.deepEqual(client.refusals, []);
});

test('another guest that makes a file shorter waits until it is unmapped, and it is mapped again', { skip }, (t) => {
  const path = pathOf('cut');
  const size = 2 * RANGE_BYTES;
  writeFileSync(path, Buffer.alloc(size, 'a'));
  const client = new Client(t);
  const file = client.open('cut');
  client.read(file, 0, size);
  const other = Mount.connect(daemon().socketPaths[1]);
  t.after(() => other.guest.close());
  const { nodeid } = other.lookup(ROOT, 'cut');
  other.setattr(nodeid, { valid: flags.FATTR.SIZE, size: 4096 });
  // Not because the file ends there: it does not any more.
  truncateSync(path, size);
  assert.equal(client.read(file, RANGE_BYTES, 1).length, 0);
  assert.equal(client.read(file, 0, size).toString('latin1', 0, 4097), 'a'.repeat(4096));
  // The daemon shows all of it again before it tells of the new size.
  assert.equal(client.mount.getattr(file.nodeid).size, BigInt(size));
  assert.equal(client.read(file, RANGE_BYTES, 1).toString(), '\0');
  assert.deepEqual(client.refusals, []);
});

test('when the host makes a file shorter the process lives, and is told how much there was', { skip }, (t) => {
  const path = pathOf('shorter');
  writeFileSync(path, Buffer.alloc(3 * 4096, 'a'));
  const client = new Client(t);
  const file = client.open('shorter');
  assert.equal(client.write(file, 0, 'b'), 1);
  truncateSync(path, 4096 + 10);
  const seen = client.read(file, 0, 3 * 4096);
  assert.equal(seen.toString('latin1'), `b${'a'.repeat(4096 + 9)}`.padEnd(2 * 4096, '\0'));
  assert.equal(client.write(file, 4096, 'c'.repeat(8192)), 4096);
  truncateSync(path, 0);
  assert.equal(client.read(file, 0, 10).length, 0);
  assert.equal(client.write(file, 0, 'd'), 0);
  assert.equal(readFileSync(path).length, 0);
});

/** Makes a file shorter and longer again, and counts. */
const MOVER = `
  const { path, size, rounds } = require('node:worker_threads').workerData;
  const { truncateSync } = require('node:fs');
  for (let i = 0; Atomics.load(rounds, 0) >= 0; i += 1) {
    truncateSync(path, i % 2 === 0 ? (i * 37) % size : size);
    Atomics.add(rounds, 0, 1);
  }
`;

test('the process lives while the host moves the end of a file to and fro', { skip }, async (t) => {
  const path = pathOf('moving');
  const size = 16 * 4096;
  writeFileSync(path, Buffer.alloc(size));
  const client = new Client(t);
  const file = client.open('moving');
  client.write(file, 0, 'a');
  const rounds = new Int32Array(new SharedArrayBuffer(4));
  const mover = new Worker(MOVER, { eval: true, workerData: { path, size, rounds } });
  const ended = once(mover, 'exit');
  const counts = new Set<boolean>();
  while (Atomics.load(rounds, 0) < 3000 || counts.size < 2) {
    counts.add(client.write(file, 0, 'a'.repeat(size)) === size);
    counts.add(client.read(file, 0, size).length === size);
  }
  Atomics.store(rounds, 0, -(2 ** 31));
  await ended;
});

test('what the daemon may not map is an error, and the range is free again', { skip }, (t) => {
  writeFileSync(pathOf('some'), 'data');
  const client = new Client(t);
  const nobody = { nodeid: 4711n, fh: 0n };
  assert.throws(() => client.read(nobody, 0, 1), /EBADF/);
  assert.equal(client.ranges.free, 4);
  assert.equal(client.read(client.open('some'), 0, 4).toString(), 'data');
});

test('after close nothing is left: no mapping, no descriptor, no thread', { skip }, async (t) => {
  writeFileSync(pathOf('left'), Buffer.alloc(RANGE_BYTES, 'a'));
  const count = (): number[] => ['fd', 'task'].map((folder) => readdirSync(`/proc/self/${folder}`).length);
  const run = async (): Promise<Client> => {
    const client = new Client(t);
    client.read(client.open('left'), 0, RANGE_BYTES);
    assert.equal(mappingsOf(client.window, 's').length, 1);
    client.close();
    // Before the thread has ended.
    assert.deepEqual(mappingsOf(client.window, '-'), []);
    await client.window.awaitEnd();
    return client;
  };
  // What Node starts for a first thread stays.
  await run();
  const before = count();
  await run();
  assert.deepEqual(count(), before);
});

test('when the daemon is gone the window shows nothing, and its addresses are still its own', { skip }, async (t) => {
  writeFileSync(pathOf('gone'), 'data');
  const client = new Client(t);
  const file = client.open('gone');
  assert.equal(client.read(file, 0, 4).toString(), 'data');
  client.mount.guest.close();
  daemon().process.kill('SIGKILL');
  await client.window.awaitEnd();
  assert.equal(client.read(file, 0, 4).length, 0);
  assert.deepEqual(mappingsOf(client.window, 's'), []);
  assert.equal(mappingsOf(client.window, '-').length, 1);
});
