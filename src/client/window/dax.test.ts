import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';

import { close, ftruncate, mapAt, memfd, munmap, reserveAddresses, unmapAt } from '../../sys/index.ts';
import { DAX_RANGE_BYTES, type DaxOps, type DaxRange, DaxRanges } from './dax.ts';
import { finished, Latch, type Running, start, type Task } from '../task.ts';

const RANGE = DAX_RANGE_BYTES;
const FILE_RANGES = 20;
const FILE_BYTES = FILE_RANGES * RANGE;

/** The daemon and the VMM: files in memory, and a window that shows them. */
class Daemon implements DaxOps {
  readonly address: number;
  readonly sizeBytes: number;
  readonly ranges: DaxRanges;
  /** What was asked, in short. */
  readonly asked: string[] = [];
  /** Nothing is answered before `answer`. */
  holds = false;
  readonly pending: Latch[] = [];
  /** What the next answers are, where they are errors. */
  readonly errors: Error[] = [];
  readonly #files = new Map<bigint, number>();
  readonly #shown = new Map<number, { nodeid: bigint; fileOffset: number }>();

  constructor(t: Pick<TestContext, 'after'> | undefined, count: number) {
    this.sizeBytes = count * RANGE;
    this.address = reserveAddresses(this.sizeBytes);
    this.ranges = new DaxRanges(this, this);
    t?.after(() => this.end());
  }

  end(): void {
    munmap(this.address, this.sizeBytes);
    for (const fd of this.#files.values()) close(fd);
  }

  addFile(nodeid: bigint, sizeBytes = FILE_BYTES): void {
    this.#files.set(nodeid, memfd('file', sizeBytes));
  }

  /** As somebody on the host does. */
  truncate(nodeid: bigint, sizeBytes: number): void {
    assert.equal(ftruncate(this.#files.get(nodeid) ?? -1, sizeBytes, 0), 0);
  }

  *setup(nodeid: bigint, _fh: bigint, fileOffset: number, windowOffset: number, write: boolean): Task<void> {
    this.asked.push(`${write ? 'write' : 'read'} ${nodeid}:${fileOffset / RANGE} at ${windowOffset / RANGE}`);
    yield* this.#wait();
    const before = this.#shown.get(windowOffset);
    // An upgrade, or a range that is free.
    if (before !== undefined) assert.deepEqual(before, { nodeid, fileOffset });
    mapAt(this.address + windowOffset, this.#files.get(nodeid) ?? -1, RANGE, fileOffset, write);
    this.#shown.set(windowOffset, { nodeid, fileOffset });
  }

  *remove(ranges: readonly DaxRange[], nodeid: bigint): Task<void> {
    const places = ranges.map(({ windowOffset }) => windowOffset / RANGE);
    this.asked.push(`remove ${nodeid} from ${places.length > 8 ? `${places.length} ranges` : places.join(' ')}`);
    yield* this.#wait();
    for (const { windowOffset, length } of ranges) {
      assert.equal(this.#shown.get(windowOffset)?.nodeid, nodeid);
      this.#shown.delete(windowOffset);
      unmapAt(this.address + windowOffset, length);
    }
  }

  *#wait(): Task<void> {
    if (this.holds) {
      const latch = new Latch();
      this.pending.push(latch);
      yield latch;
    }
    const error = this.errors.shift();
    if (error !== undefined) throw error;
  }

  /** Answers one of the requests that wait; false when there is none. */
  answer(index = 0): boolean {
    const [latch] = this.pending.splice(index % Math.max(1, this.pending.length), 1);
    latch?.settle();
    return latch !== undefined;
  }

  /** While nothing is asked: each range is free or shows something, and no two show the same. */
  checkRanges(): void {
    const blocks = new Set([...this.#shown.values()].map(({ nodeid, fileOffset }) => `${nodeid}:${fileOffset}`));
    assert.equal(blocks.size, this.#shown.size);
    assert.equal(this.ranges.free + this.#shown.size, this.sizeBytes / RANGE);
  }

  /** What was asked since the last time. */
  news(): string[] {
    return this.asked.splice(0);
  }

  do<T>(task: Task<T>): T {
    return finished(task, () => assert.ok(this.answer(), 'a task waits for nothing'));
  }

  /** Bytes read from a block on. */
  read(nodeid: bigint, block: number, length = 1): Uint8Array {
    const into = new Uint8Array(length);
    const count = this.do(this.ranges.file(nodeid).read(7n, into, block * RANGE, FILE_BYTES));
    return into.subarray(0, count);
  }

  write(nodeid: bigint, block: number, ...bytes: number[]): number {
    return this.do(this.ranges.file(nodeid).write(7n, Uint8Array.from(bytes), block * RANGE, FILE_BYTES));
  }

  /** Starts to read a byte of a block. */
  reading(nodeid: bigint, block: number): Running<number> {
    return start(this.ranges.file(nodeid).read(7n, new Uint8Array(1), block * RANGE, FILE_BYTES));
  }

  writing(nodeid: bigint, block: number): Running<number> {
    return start(this.ranges.file(nodeid).write(7n, new Uint8Array(1), block * RANGE, FILE_BYTES));
  }
}

function daemonOf(t: TestContext, count: number): Daemon {
  const daemon = new Daemon(t, count);
  daemon.addFile(1n);
  daemon.addFile(2n);
  return daemon;
}

test('a block is set up when it is first read, and read without a message from then on', (t) => {
  const daemon = daemonOf(t, 10);
  assert.deepEqual(daemon.read(1n, 3, 2), Uint8Array.of(0, 0));
  assert.deepEqual(daemon.news(), ['read 1:3 at 0']);
  daemon.read(1n, 3);
  assert.deepEqual(daemon.news(), []);
});

test('what is written is read again, across two ranges', (t) => {
  const daemon = daemonOf(t, 10);
  const file = daemon.ranges.file(1n);
  const bytes = Uint8Array.from({ length: 9000 }, (_, i) => i);
  const into = new Uint8Array(9002);
  assert.equal(daemon.do(file.write(7n, bytes, RANGE - 4000, FILE_BYTES)), 9000);
  assert.equal(daemon.do(file.read(7n, into, RANGE - 4001, FILE_BYTES)), 9002);
  assert.deepEqual(into, Uint8Array.of(0, ...bytes, 0));
  assert.deepEqual(daemon.news(), ['write 1:0 at 0', 'write 1:1 at 1']);
});

test('buffers of any kind are copied to and from: small ones, parts of others, shared ones', (t) => {
  const daemon = daemonOf(t, 10);
  const file = daemon.ranges.file(1n);
  const shared = new Uint8Array(new SharedArrayBuffer(8), 2, 4);
  shared.set([1, 2, 3, 4]);
  daemon.do(file.write(7n, shared, 0, FILE_BYTES));
  daemon.do(file.write(7n, Buffer.from('56'), 4, FILE_BYTES));
  const whole = new Uint8Array(8);
  assert.equal(daemon.do(file.read(7n, whole.subarray(1, 7), 0, FILE_BYTES)), 6);
  assert.deepEqual(whole, Uint8Array.of(0, 1, 2, 3, 4, 0x35, 0x36, 0));
  assert.equal(daemon.do(file.read(7n, new Uint8Array(0), 0, FILE_BYTES)), 0);
});

test('nothing is read or written beyond the size that is known', (t) => {
  const daemon = daemonOf(t, 10);
  const file = daemon.ranges.file(1n);
  const bytes = Uint8Array.of(1, 2, 3, 4);
  assert.equal(daemon.do(file.write(7n, bytes, 10, 12)), 2);
  assert.equal(daemon.do(file.write(7n, bytes, 12, 12)), 0);
  assert.equal(daemon.do(file.read(7n, new Uint8Array(4), 11, 12)), 1);
  assert.equal(daemon.do(file.read(7n, new Uint8Array(4), 3 * RANGE, 12)), 0);
  assert.deepEqual(daemon.read(1n, 0, 16).subarray(10), Uint8Array.of(1, 2, 0, 0, 0, 0));
  assert.deepEqual(daemon.news(), ['write 1:0 at 0']);
});

test('two who want the same block ask for it once', (t) => {
  const daemon = daemonOf(t, 10);
  daemon.holds = true;
  const both = [daemon.reading(1n, 0), daemon.reading(1n, 0)];
  assert.deepEqual(daemon.news(), ['read 1:0 at 0']);
  daemon.answer();
  assert.deepEqual(
    both.map((each) => each.result),
    [1, 1],
  );
});

test('a range that is there to be read is asked for again to be written to, once, and at the same place', (t) => {
  const daemon = daemonOf(t, 10);
  daemon.read(1n, 0);
  daemon.holds = true;
  const both = [daemon.writing(1n, 0), daemon.writing(1n, 0)];
  const reader = daemon.reading(1n, 0);
  assert.deepEqual(daemon.news(), ['read 1:0 at 0', 'write 1:0 at 0']);
  daemon.answer();
  for (const each of [...both, reader]) assert.equal(each.result, 1);
  daemon.write(1n, 0, 1);
  assert.deepEqual(daemon.news(), []);
});

test('with fewer than a fifth of the ranges free, those least recently used are taken back beside', (t) => {
  const daemon = daemonOf(t, 10);
  for (let block = 0; block < 8; block += 1) daemon.read(1n, block);
  daemon.read(1n, 0);
  assert.equal(daemon.ranges.free, 2);
  daemon.news();
  daemon.holds = true;
  const reading = daemon.reading(1n, 8);
  assert.deepEqual(daemon.news(), ['remove 1 from 1', 'read 1:8 at 8']);
  // It does not wait for what is done beside.
  daemon.answer(1);
  assert.equal(reading.result, 1);
  daemon.answer();
  assert.equal(daemon.ranges.free, 2);
});

test('where no range is free, one is taken from another file', (t) => {
  const daemon = daemonOf(t, 1);
  daemon.write(1n, 4, 1);
  daemon.write(2n, 4, 2);
  assert.deepEqual(daemon.read(1n, 4), Uint8Array.of(1));
  assert.deepEqual(daemon.read(2n, 4), Uint8Array.of(2));
});

test('of two who each take a range from others for the same block, the second gives it back', (t) => {
  const daemon = daemonOf(t, 3);
  daemon.holds = true;
  for (const block of [0, 1, 2]) {
    const reading = daemon.reading(1n, block);
    daemon.answer(daemon.pending.length - 1);
    assert.equal(reading.result, 1);
  }
  const both = [daemon.reading(2n, 5), daemon.reading(2n, 5)];
  assert.deepEqual(daemon.news().slice(-3), ['read 1:2 at 2', 'remove 1 from 1', 'remove 1 from 2']);
  while (daemon.answer());
  assert.deepEqual(daemon.news(), ['read 2:5 at 1']);
  for (const each of both) assert.equal(each.result, 1);
  assert.equal(daemon.ranges.free, 2);
});

test('a task waits while all ranges are in use, and a range that is in use stays', (t) => {
  const daemon = daemonOf(t, 2);
  daemon.holds = true;
  const first = [daemon.reading(1n, 0), daemon.reading(1n, 1)];
  const late = daemon.reading(2n, 5);
  assert.deepEqual(daemon.news(), ['read 1:0 at 0', 'read 1:1 at 1']);
  daemon.answer();
  assert.equal(first[0].result, 1);
  assert.deepEqual(daemon.news(), ['remove 1 from 0']);
  daemon.answer(1);
  assert.deepEqual(daemon.news(), ['read 2:5 at 0']);
  assert.equal(late.settled, false);
  while (daemon.answer());
  assert.deepEqual([first[1].result, late.result], [1, 1]);
});

test('a range that is about to be written to is not taken back', (t) => {
  const daemon = daemonOf(t, 1);
  daemon.read(1n, 0);
  daemon.holds = true;
  const writing = daemon.writing(1n, 0);
  const reading = daemon.reading(2n, 0);
  assert.deepEqual(daemon.news(), ['read 1:0 at 0', 'write 1:0 at 0']);
  daemon.answer();
  assert.equal(writing.result, 1);
  assert.deepEqual(daemon.news(), ['remove 1 from 0']);
  while (daemon.answer());
  assert.equal(reading.result, 1);
});

test('a block that could not be set up leaves its range free, and whoever waited for it asks again', (t) => {
  const daemon = daemonOf(t, 2);
  daemon.holds = true;
  daemon.errors.push(new Error('no such luck'));
  const both = [daemon.reading(1n, 0), daemon.reading(1n, 0)];
  daemon.answer();
  assert.throws(() => both[0].result, /no such luck/);
  assert.deepEqual(daemon.news(), ['read 1:0 at 0', 'read 1:0 at 0']);
  daemon.answer();
  assert.equal(both[1].result, 1);
  assert.equal(daemon.ranges.free, 1);
});

test('a range that could not be had to be written to is there to be read', (t) => {
  const daemon = daemonOf(t, 2);
  daemon.read(1n, 0);
  daemon.holds = true;
  daemon.errors.push(new Error('no such luck'));
  const writing = daemon.writing(1n, 0);
  const dropped = start(daemon.ranges.file(1n).drop());
  daemon.answer();
  assert.throws(() => writing.result, /no such luck/);
  assert.deepEqual(daemon.news(), ['read 1:0 at 0', 'write 1:0 at 0', 'remove 1 from 0']);
  assert.equal(dropped.settled, false);
  daemon.answer();
  assert.equal(dropped.settled, true);
  assert.equal(daemon.ranges.free, 2);
});

test('a range that the daemon would not take back is set up for another block', (t) => {
  const daemon = daemonOf(t, 2);
  daemon.read(1n, 0);
  daemon.errors.push(new Error('no such luck'));
  daemon.do(daemon.ranges.file(1n).drop());
  assert.equal(daemon.ranges.free, 2);
  assert.deepEqual(daemon.read(1n, 0), Uint8Array.of(0));
});

test('a file that is not known any more gives its ranges back, at most 256 in a message', (t) => {
  const daemon = new Daemon(t, 400);
  daemon.addFile(1n, 300 * RANGE);
  daemon.addFile(2n);
  const file = daemon.ranges.file(1n);
  for (let block = 0; block < 300; block += 1) daemon.do(file.read(7n, new Uint8Array(1), block * RANGE, 300 * RANGE));
  daemon.read(2n, 0);
  daemon.news();
  daemon.do(file.drop());
  assert.deepEqual(daemon.news(), ['remove 1 from 256 ranges', 'remove 1 from 44 ranges']);
  assert.equal(daemon.ranges.free, 399);
  assert.notEqual(daemon.ranges.file(1n), file);
});

test('a file that was made shorter keeps the ranges before its end, and that of its end', (t) => {
  const daemon = daemonOf(t, 10);
  for (let block = 0; block < 5; block += 1) daemon.read(1n, block);
  daemon.news();
  const file = daemon.ranges.file(1n);
  daemon.do(file.truncated(2 * RANGE + 1));
  assert.deepEqual(daemon.news(), ['remove 1 from 3 4']);
  daemon.do(file.truncated(2 * RANGE));
  assert.deepEqual(daemon.news(), ['remove 1 from 2']);
});

test('a file is dropped when those who read it have read, and what is taken back beside has gone', (t) => {
  const daemon = daemonOf(t, 4);
  for (let block = 0; block < 3; block += 1) daemon.read(1n, block);
  daemon.news();
  daemon.holds = true;
  const reading = daemon.reading(1n, 3);
  const dropping = start(daemon.ranges.file(1n).drop());
  assert.deepEqual(daemon.news(), ['remove 1 from 0', 'read 1:3 at 3', 'remove 1 from 1 2']);
  // All but what is taken back beside.
  daemon.answer(1);
  while (daemon.pending.length > 1) daemon.answer(1);
  assert.equal(reading.result, 1);
  assert.equal(dropping.settled, false);
  while (daemon.answer());
  assert.equal(dropping.settled, true);
  assert.equal(daemon.ranges.free, 4);
});

test('the process lives when a file is made shorter under its range: fewer bytes are read and written', (t) => {
  const daemon = daemonOf(t, 10);
  daemon.write(1n, 0, ...new Uint8Array(3 * 4096).fill(5));
  daemon.truncate(1n, 4096 + 100);
  const seen = daemon.read(1n, 0, 3 * 4096);
  // The rest of its last page reads as zeros.
  assert.deepEqual(seen, new Uint8Array(2 * 4096).fill(5, 0, 4096 + 100));
  assert.equal(daemon.write(1n, 0, ...new Uint8Array(3 * 4096)), 2 * 4096);
  daemon.truncate(1n, 0);
  assert.equal(daemon.read(1n, 0).length, 0);
  assert.equal(daemon.write(1n, 0, 1), 0);
});

test('what is read ends where the window shows no more, also before further ranges', (t) => {
  const daemon = daemonOf(t, 10);
  daemon.read(1n, 0);
  daemon.news();
  unmapAt(daemon.address, RANGE);
  assert.equal(daemon.read(1n, 0, RANGE + 1).length, 0);
  assert.deepEqual(daemon.news(), []);
});

test('when the window closes nobody copies any more, and whoever waits for a range hears of it', (t) => {
  const daemon = daemonOf(t, 1);
  daemon.holds = true;
  const tasks = [daemon.reading(1n, 0), daemon.reading(1n, 0), daemon.reading(2n, 0)];
  const closing = start(daemon.ranges.close());
  assert.equal(closing.settled, false);
  while (daemon.answer());
  assert.equal(closing.settled, true);
  for (const each of tasks) assert.throws(() => each.result, /closed/);
  assert.throws(() => daemon.read(1n, 0), /closed/);
  assert.deepEqual(daemon.news(), ['read 1:0 at 0']);
});

test('a window without a whole range is refused', () => {
  const nothing: DaxOps = { setup: () => assert.fail(), remove: () => assert.fail() };
  assert.throws(() => new DaxRanges({ address: 0, sizeBytes: RANGE - 1 }, nothing), RangeError);
});

interface Step {
  readonly file: number;
  readonly position: number;
  readonly length: number;
  readonly kind: 'read' | 'write' | 'truncate' | 'drop';
  readonly byte: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  file: fc.nat(1),
  // Where ranges meet, more often than not.
  position: fc.oneof(
    fc.nat(FILE_BYTES),
    fc.tuple(fc.nat(FILE_RANGES), fc.integer({ min: -5000, max: 5000 })).map(([block, by]) => block * RANGE + by),
  ),
  length: fc.oneof({ arbitrary: fc.nat(10_000), weight: 5 }, { arbitrary: fc.nat(2 * RANGE), weight: 1 }),
  kind: fc.oneof(
    { arbitrary: fc.constantFrom('read' as const, 'write' as const), weight: 12 },
    { arbitrary: fc.constantFrom('truncate' as const, 'drop' as const), weight: 1 },
  ),
  byte: fc.nat(255),
});

/** Files and what they should be. */
class Model {
  readonly daemon = new Daemon(undefined, 4);
  readonly files = [0, 1].map((i) => {
    this.daemon.addFile(BigInt(i + 1));
    return { nodeid: BigInt(i + 1), bytes: new Uint8Array(FILE_BYTES), size: FILE_BYTES };
  });

  /** Starts it, and checks it when it has ended. */
  begin({ file: index, position, length, kind, byte }: Step): { running: Running<unknown>; check: () => void } {
    const file = this.files[index];
    const { nodeid, bytes, size } = file;
    const dax = this.daemon.ranges.file(nodeid);
    const from = Math.max(0, position);
    const expected = Math.max(0, Math.min(length, size - from));
    if (kind === 'drop') return { running: start(dax.drop()), check: () => undefined };
    if (kind === 'truncate') {
      file.size = Math.min(from, FILE_BYTES);
      bytes.fill(0, file.size);
      this.daemon.truncate(nodeid, file.size);
      return { running: start(dax.truncated(file.size)), check: () => undefined };
    }
    const buffer = new Uint8Array(length).fill(byte);
    const running = start(kind === 'read' ? dax.read(7n, buffer, from, size) : dax.write(7n, buffer, from, size));
    if (kind === 'write') bytes.fill(byte, from, from + expected);
    const check = (): void => {
      assert.equal(running.result, expected);
      const seen = Buffer.from(buffer.buffer, 0, expected);
      if (kind === 'read') assert.ok(seen.equals(bytes.subarray(from, from + expected)), 'other bytes');
    };
    return { running, check };
  }
}

/** Whether two steps may run side by side: what they come to does not depend on their order. */
function apart(a: Step, b: Step): boolean {
  if (a.file !== b.file) return true;
  if (![a, b].every(({ kind }) => kind === 'read' || kind === 'write')) return false;
  if (a.kind === 'read' && b.kind === 'read') return true;
  // As in `begin`: what would begin before the file begins with it.
  const [from, other] = [a, b].map(({ position }) => Math.max(0, position));
  return from + a.length <= other || other + b.length <= from;
}

test('files five times the window are what was written, whatever is done side by side', () => {
  const rounds = fc.array(fc.tuple(fc.array(step, { minLength: 1, maxLength: 8 }), fc.array(fc.nat(20))), {
    minLength: 10,
    maxLength: 20,
  });
  fc.assert(
    fc.property(rounds, (all) => {
      const model = new Model();
      model.daemon.holds = true;
      try {
        for (const [steps, order] of all) {
          const together = steps.filter((each, i) => steps.slice(0, i).every((other) => apart(each, other)));
          const begun = together.map((each) => model.begin(each));
          for (let i = 0; model.daemon.answer(order[i] ?? 0); i += 1);
          for (const { running, check } of begun) {
            assert.ok(running.settled, 'nothing is waited for');
            check();
          }
          model.daemon.checkRanges();
        }
      } finally {
        model.daemon.end();
      }
    }),
    { numRuns: 12 },
  );
});
