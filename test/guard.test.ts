/** The guard and its thread, on real files that other processes change. The VMM is this test. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';

import { ENOSPC } from '../src/core/index.ts';
import { DaxWindow, GuardedFiles, guardRefusal, openGuard, RANGE_BYTES } from '../src/coherence/index.ts';
import { type GuardData, threadUrl } from '../src/server/threads.ts';
import { Wakers } from '../src/server/waits.ts';
import * as sys from '../src/sys/index.ts';
import { TestDaemon } from './daemon.ts';

// A worker that ends while TurboFan compiles its FFI calls in the background crashes Node (see `park` in src/server).
setFlagsFromString('--no-concurrent-recompilation');

const NAME = { nodeidLo: 5, nodeidHi: 7 };
const SIZE = 5_000_000;
const RANGES = 4;
const LIMIT_MS = 20_000;
const skip = guardRefusal(tmpdir()) ?? false;

/** Another process that does something to the file `$1`. */
async function other(command: string, path: string): Promise<ChildProcess> {
  const child = spawn('sh', ['-c', command, 'sh', path], { stdio: ['ignore', 'ignore', 'inherit'] });
  await once(child, 'spawn');
  return child;
}

const ended = async (child: ChildProcess): Promise<void> => {
  const code = child.exitCode ?? ((await once(child, 'exit')) as unknown[])[0];
  assert.equal(code, 0);
};

/** A file of which a window shows all, and the thread that guards it. */
class Guarded {
  readonly path: string;
  readonly window: DaxWindow;
  readonly files: GuardedFiles;
  readonly fd: number;
  readonly groupFd = openGuard();
  readonly #wakeFd = sys.eventfd();
  readonly #stopFd = sys.eventfd();
  readonly #exit: Promise<unknown>;

  private constructor(folder: string, ranges: number) {
    this.path = join(folder, 'file');
    writeFileSync(this.path, Buffer.alloc(SIZE, 1));
    const shared = DaxWindow.create(ranges * RANGE_BYTES);
    const files = GuardedFiles.create(ranges + 1);
    this.window = new DaxWindow(shared);
    this.window.setWakeFd(this.#wakeFd);
    this.files = new GuardedFiles(files, this.groupFd);
    this.fd = openSync(this.path, 'r+');
    const workerData: GuardData = {
      kind: 'guard',
      groupFd: this.groupFd,
      files,
      windows: [shared],
      wakers: Wakers.create(),
      stopFd: this.#stopFd,
      alive: new SharedArrayBuffer(4),
    };
    const worker = new Worker(threadUrl('guard-worker'), { workerData, execArgv: [] });
    this.#exit = once(worker, 'exit');
  }

  static start(t: TestContext, ranges = RANGES): Guarded {
    const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
    const guarded = new Guarded(folder, ranges);
    t.after(() => {
      // It parks for a second when it is done; nobody need wait for that.
      sys.signalEventfd(guarded.#stopFd);
      sys.close(guarded.fd);
      rmSync(folder, { recursive: true });
    });
    assert.equal(guarded.files.add(guarded.fd, NAME), 0);
    for (let block = 0; block < 3; block += 1) guarded.setup(block);
    guarded.fulfil();
    return guarded;
  }

  setup(block: number): number {
    return this.window.setup(NAME, block * RANGE_BYTES, RANGE_BYTES, block * RANGE_BYTES, () => this.size);
  }

  get size(): number {
    return statSync(this.path).size;
  }

  /** Bytes that each range is to show. */
  get shown(): (number | undefined)[] {
    return [0, 1, 2].map((range) => this.window.wish(range).file?.bytes);
  }

  /** Does what is wished for, as a VMM does. */
  fulfil(): void {
    sys.drainEventfd(this.#wakeFd);
    for (let range = 0; range < this.window.count; range += 1) {
      this.window.fulfil(range, this.window.wish(range).ticket, 0);
    }
  }

  /** Fulfils what is wished for until a process has ended. */
  async fulfilUntilEnd(child: ChildProcess): Promise<void> {
    const end = ended(child).then(() => true);
    while (!(await Promise.race([end, setImmediate(false)]))) if (sys.waitReadable(this.#wakeFd, 1)) this.fulfil();
  }

  awaitWish(): void {
    assert.ok(sys.waitReadable(this.#wakeFd, LIMIT_MS), 'nothing is wished for');
  }

  async stop(): Promise<void> {
    sys.signalEventfd(this.#stopFd);
    await this.#exit;
  }
}

const WHOLE = [RANGE_BYTES, RANGE_BYTES, RANGE_BYTES];

test('a process that truncates a marked file waits until it is allowed to', { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  const path = join(folder, 'file');
  writeFileSync(path, Buffer.alloc(SIZE));
  const fd = openSync(path, 'r+');
  const groupFd = openGuard();
  t.after(() => {
    for (const each of [groupFd, fd]) sys.close(each);
    rmSync(folder, { recursive: true });
  });
  assert.equal(sys.fanotifyMark(groupFd, sys.FAN_MARK_ADD, sys.FAN_PRE_ACCESS, fd), 0);
  const child = await other('exec truncate -s 8192 "$1"', path);
  const events = new sys.FanotifyEvents(groupFd);
  assert.ok(sys.waitReadable(groupFd, LIMIT_MS));
  assert.equal(events.next(), 1);
  assert.deepEqual([events.mask, events.pid, events.offset, events.count], [0x100000, child.pid, 8192, 0]);
  assert.equal(sys.fileIdentity(events.fd).key, sys.fileIdentity(fd).key);
  assert.equal(statSync(path).size, SIZE);
  assert.equal(events.allow(events.fd), 8);
  sys.close(events.fd);
  await ended(child);
  assert.equal(statSync(path).size, 8192);
});

test('of processes that open a marked file at once each is heard of', { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  const path = join(folder, 'file');
  writeFileSync(path, 'content');
  const fd = openSync(path, 'r');
  const groupFd = openGuard();
  t.after(() => {
    for (const each of [groupFd, fd]) sys.close(each);
    rmSync(folder, { recursive: true });
  });
  assert.equal(sys.fanotifyMark(groupFd, sys.FAN_MARK_ADD, sys.FAN_OPEN_PERM, fd), 0);
  const children = await Promise.all([1, 2, 3].map(() => other(': < "$1"', path)));
  const waits = ({ pid }: ChildProcess): boolean => readFileSync(`/proc/${pid}/wchan`, 'latin1').startsWith('fanotify');
  while (!children.every(waits)) await setImmediate();
  const events = new sys.FanotifyEvents(groupFd);
  const pids: number[] = [];
  while (events.next() === 1) {
    pids.push(events.pid);
    events.allow(events.fd);
    sys.close(events.fd);
  }
  assert.deepEqual(new Set(pids), new Set(children.map(({ pid }) => pid)));
  await Promise.all(children.map(ended));
});

/** How others make a file of 5,000,000 bytes shorter, and what each range may show then. */
const SHORTER: Record<string, [command: string, shown: number[], sizeBytes: number]> = {
  'truncate(2)': ['exec perl -e \'truncate($ARGV[0], 5000) or die $!\' "$1"', [8192, 0, 0], 5000],
  'ftruncate(2)': ['exec truncate -s 4096 "$1"', [4096, 0, 0], 4096],
  'truncation to a part': ['exec truncate -s 3000000 "$1"', [RANGE_BYTES, 905_216, 0], 3_000_000],
  O_TRUNC: [': > "$1"', [0, 0, 0], 0],
  'fallocate(2) that collapses a range': [
    'exec fallocate -c -o 2101248 -l 4096 "$1"',
    [RANGE_BYTES, 4096, 0],
    SIZE - 4096,
  ],
};

for (const [how, [command, shown, sizeBytes]] of Object.entries(SHORTER)) {
  test(`what goes of a file by ${how} is shown no more before it goes, and again when it is there`, {
    skip,
  }, async (t) => {
    const guarded = Guarded.start(t);
    const child = await other(command, guarded.path);
    guarded.awaitWish();
    assert.equal(guarded.size, SIZE);
    assert.deepEqual(guarded.shown, shown);
    guarded.fulfil();
    await ended(child);
    assert.equal(guarded.size, sizeBytes);
    truncateSync(guarded.path, 0);
    writeFileSync(guarded.path, Buffer.alloc(SIZE));
    do {
      guarded.awaitWish();
      guarded.fulfil();
      // It is written in pieces, and so it may be shown.
    } while (guarded.shown[2] !== 806_912);
    assert.deepEqual(guarded.shown, [RANGE_BYTES, RANGE_BYTES, 806_912]);
  });
}

test('of many files that are made shorter at once none goes before it is shown no more', { skip }, async (t) => {
  // The kernel tells of a process that does not sleep yet, mostly of every tenth or hundredth.
  const count = 600;
  const guarded = Guarded.start(t, count);
  const folder = dirname(guarded.path);
  const names = Array.from({ length: count }, (_, i) => ({ nodeidLo: 10 + i, nodeidHi: 0 }));
  for (const [i, name] of names.entries()) {
    const path = join(folder, `${i}`);
    writeFileSync(path, Buffer.alloc(8192));
    const fd = openSync(path, 'r+');
    t.after(() => sys.close(fd));
    assert.equal(guarded.files.add(fd, name), 0);
    guarded.window.setup(name, 0, RANGE_BYTES, i * RANGE_BYTES, () => 8192);
  }
  guarded.fulfil();
  const one = `perl -e 'for (my $i = $ARGV[1]; $i < ${count}; $i += 3) { truncate("$ARGV[0]/$i", 0) or die $! }' "$1"`;
  await guarded.fulfilUntilEnd(await other(`for i in 0 1 2; do ${one} $i & done; wait`, folder));
  assert.deepEqual(
    names.filter(({ nodeidLo, nodeidHi }) => !guarded.window.isCutFile(nodeidLo, nodeidHi)),
    [],
  );
});

/** What others may do to a file that a guest has mapped. */
const HARMLESS: Record<string, string> = {
  'reads it': 'cat "$1" > /dev/null',
  'writes a page of it': 'dd if=/dev/zero of="$1" bs=4096 seek=3 count=1 conv=notrunc 2>/dev/null',
  'appends to it': 'echo more >> "$1"',
  'opens it to read and write': 'exec 3<> "$1"',
  'makes it longer': 'exec truncate -s 6000000 "$1"',
  'leaves it as long as it is': 'exec truncate -s 5000000 "$1"',
  'punches a hole': 'exec fallocate -p -o 8192 -l 4096 "$1"',
};

for (const [what, command] of Object.entries(HARMLESS)) {
  test(`all of a file stays when another process ${what}`, { skip }, async (t) => {
    const guarded = Guarded.start(t);
    await ended(await other(command, guarded.path));
    assert.deepEqual(guarded.shown, WHOLE);
    assert.equal(guarded.window.isCut, false);
  });
}

test("what this process does to a file goes on at once, and is nobody else's trouble", { skip }, (t) => {
  const guarded = Guarded.start(t);
  truncateSync(guarded.path, 5000);
  assert.equal(readFileSync(guarded.path).length, 5000);
  assert.deepEqual(guarded.shown, WHOLE);
});

test('what could not be done after all is shown again', { skip }, async (t) => {
  const guarded = Guarded.start(t);
  // The kernel asks us before it looks whether the file may be made shorter.
  await ended(await other('chattr +a "$1"', guarded.path));
  const child = await other('perl -e \'exit !truncate($ARGV[0], 5000)\' "$1" || exit 0', guarded.path);
  guarded.awaitWish();
  assert.deepEqual(guarded.shown, [8192, 0, 0]);
  guarded.fulfil();
  await ended(child);
  await ended(await other('chattr -a "$1"', guarded.path));
  guarded.awaitWish();
  assert.deepEqual(guarded.shown, [RANGE_BYTES, RANGE_BYTES, 806_912]);
  assert.equal(guarded.size, SIZE);
});

test('a VMM that does not answer holds nobody up for ever', { skip }, async (t) => {
  const guarded = Guarded.start(t);
  await ended(await other('exec truncate -s 5000 "$1"', guarded.path));
  assert.equal(guarded.size, 5000);
});

test('who waits when the guard ends goes on', { skip }, async (t) => {
  const guarded = Guarded.start(t);
  const child = await other('exec truncate -s 5000 "$1"', guarded.path);
  guarded.awaitWish();
  await guarded.stop();
  await ended(child);
  assert.equal(guarded.size, 5000);
});

test('a file is marked as long as it is mapped under any name', { skip }, (t) => {
  const { files, fd, groupFd } = Guarded.start(t);
  const marks = (): number =>
    readFileSync(`/proc/self/fdinfo/${groupFd}`, 'latin1').match(/^fanotify ino:/gm)?.length ?? 0;
  const again = { nodeidLo: 5, nodeidHi: 8 };
  assert.equal(files.add(fd, again), 0);
  assert.equal(files.add(fd, again), 0);
  assert.deepEqual(files.namesOf(fd), [NAME, again]);
  assert.equal(marks(), 1);
  files.remove(fd, again);
  files.remove(fd, NAME);
  assert.deepEqual(files.namesOf(fd), [again]);
  assert.equal(marks(), 1);
  files.remove(fd, again);
  assert.deepEqual([files.namesOf(fd), marks()], [[], 0]);
});

test('no more files are guarded than there is room for, and those that are stay guarded', { skip }, (t) => {
  const { files, fd } = Guarded.start(t);
  const names = Array.from({ length: RANGES }, (_, i) => ({ nodeidLo: 10 + i, nodeidHi: 0 }));
  for (const name of names) assert.equal(files.add(fd, name), 0);
  assert.equal(files.add(fd, { nodeidLo: 99, nodeidHi: 0 }), -ENOSPC);
  assert.deepEqual(files.namesOf(fd), [NAME, ...names]);
});

test('what cannot be guarded is refused with the reason', { skip }, async () => {
  assert.match(guardRefusal('/proc') ?? '', /ext4, xfs and btrfs/);
  assert.match(guardRefusal('/no such folder') ?? '', /ENOENT/);
  await using daemon = TestDaemon.launch({ args: ['--guard-truncate'] });
  assert.equal((await daemon.awaitEnd()).code, 1);
  assert.match(daemon.said, /--guard-truncate needs --dax-window/);
});
