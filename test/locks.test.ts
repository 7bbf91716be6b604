/** Locks of guests that hold on the host: between guests, daemons and processes; and requests that wait for them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { InProcess } from '../bench/in-process.ts';
import { EAGAIN, EBADF, EINTR, EINVAL, EIO, ENOENT, ENOLCK, ENOSYS } from '../src/core/index.ts';
import {
  FileLock,
  FlushIn,
  flags,
  InitOut,
  InterruptIn,
  LkIn,
  opcodeName,
  opcodes,
  ReleaseIn,
} from '../src/fuse/index.ts';
import {
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  LOCK_EX,
  LOCK_SH,
  LOCK_UN,
  O_ACCMODE,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
} from '../src/sys/index.ts';
import { commonDaemon, TestDaemon } from './daemon.ts';
import { body, type Fields } from './fuse.ts';
import { type FuseRequest, HIPRIO, type Posted } from './guest.ts';
import { Mount, ROOT } from './mount.ts';

const OFFSET_MAX = 2n ** 63n - 1n;
const ARGS = ['--stay', '--posix-locks', '--flock', '--log-level', 'error'];
const LOCKED = { sockets: 3, args: ARGS };

const daemon = commonDaemon(LOCKED);
let files = 0;

/** A guest of the common daemon. */
function connect(t: TestContext, socket = 0, to = daemon()): Mount {
  const mount = Mount.connect(to.socketPaths[socket]);
  t.after(() => mount.guest.close());
  return mount;
}

/** A new file of ten bytes on the host; its name. */
function newFile(share = daemon().share): string {
  files += 1;
  writeFileSync(join(share, `file${files}`), '0123456789');
  return `file${files}`;
}

/** An open file of a guest and what its processes do with it. Lock owners are numbers. */
class File {
  readonly mount: Mount;
  readonly nodeid: bigint;
  readonly fh: bigint;

  constructor(mount: Mount, file: string, openFlags = O_RDWR) {
    this.mount = mount;
    this.nodeid = mount.lookup(ROOT, file).nodeid;
    this.fh = mount.open(this.nodeid, openFlags);
  }

  request(
    opcode: number,
    owner: number | bigint,
    type: number,
    [start, end]: Range = ALL,
    fields: Fields = {},
  ): FuseRequest {
    const lk = { start, end, type, pid: Number(owner) * 10 };
    const bytes = body(LkIn, { fh: this.fh, owner, ...fields });
    bytes.set(body(FileLock, lk), LkIn.offsets.lk);
    return { opcode, nodeid: this.nodeid, body: bytes };
  }

  /** SETLK. */
  set(owner: number | bigint, type: number, range: Range = ALL, errno = 0, fields: Fields = {}): void {
    this.mount.guest.ask(this.request(opcodes.SETLK.code, owner, type, range, fields), errno);
  }

  /** SETLKW, whose reply is waited for later. */
  wait(owner: number | bigint, type: number, range: Range = ALL, fields: Fields = {}): Posted {
    return this.mount.guest.post(this.request(opcodes.SETLKW.code, owner, type, range, fields));
  }

  /** GETLK: the lock in the way, or undefined. */
  get(
    owner: number,
    type: number,
    range: Range = ALL,
  ): { type: number; start: bigint; end: bigint; pid: number } | undefined {
    const reply = this.mount.guest.ask(this.request(opcodes.GETLK.code, owner, type, range));
    if (FileLock.type(reply, 0) === F_UNLCK) return undefined;
    return {
      type: FileLock.type(reply, 0),
      start: reply.getBigUint64(FileLock.offsets.start, true),
      end: FileLock.end(reply, 0),
      pid: FileLock.pid(reply, 0),
    };
  }

  flock(type: number, errno = 0): void {
    this.set(4711, type, ALL, errno, FLOCK);
  }

  /** What close(2) of a process comes to. */
  flush(lockOwner: number | bigint): void {
    const { nodeid, fh } = this;
    this.mount.guest.ask({ opcode: opcodes.FLUSH.code, nodeid, body: body(FlushIn, { fh, lockOwner }) });
  }

  release(fields: Fields = {}): void {
    const { nodeid, fh } = this;
    this.mount.guest.ask({ opcode: opcodes.RELEASE.code, nodeid, body: body(ReleaseIn, { fh, ...fields }) });
  }
}

type Range = readonly [start: number | bigint, end: number | bigint];
const ALL: Range = [0, OFFSET_MAX];
const FLOCK: Fields = { lkFlags: flags.LK_IN.FLOCK };

/** A process of the host that locks a file. */
async function holder(t: TestContext, path: string): Promise<(command: string) => Promise<boolean>> {
  const script = fileURLToPath(new URL('lock-holder.ts', import.meta.url));
  const args = ['--disable-warning=ExperimentalWarning', script, path];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const answers = createInterface(child.stdout);
  t.after(async () => {
    child.stdin.end();
    if (child.exitCode === null) await once(child, 'exit');
  });
  return async (command) => {
    child.stdin.write(`${command}\n`);
    const [answer] = (await once(answers, 'line')) as [string];
    return answer === 'true';
  };
}

/** Waits until the daemon says so much of something. Its watchdog ends a wait that is in vain. */
async function awaitGauge(name: string, value: number, of = daemon()): Promise<void> {
  while ((await of.gauges())[name] !== value);
}

/** Waits until so many requests wait for locks. */
const awaitWaiting = (count: number, of = daemon()): Promise<void> => awaitGauge('waiting', count, of);

async function requestsOf(opcode: string): Promise<number> {
  const from = daemon().said.length;
  await daemon().gauges();
  return Number(
    daemon()
      .said.slice(from)
      .match(new RegExp(`^${opcode} +(\\d+)`, 'm'))?.[1] ?? 0,
  );
}

test('without the options locks stay in the guest: neither is offered, and both are ENOSYS', async (t) => {
  await using plain = await TestDaemon.start({ args: ['--log-level', 'error'] });
  const mount = connect(t, 0, plain);
  const offered = InitOut.flags(mount.guest.init().body, 0);
  assert.equal(offered & (flags.INIT.POSIX_LOCKS | flags.INIT.FLOCK_LOCKS), 0);
  const file = new File(mount, newFile(plain.share));
  file.set(1, F_WRLCK, ALL, ENOSYS);
  file.flock(F_WRLCK, ENOSYS);
  assert.equal((await plain.gauges()).waiting, undefined);
});

for (const [option, bit, other] of [
  ['--posix-locks', flags.INIT.POSIX_LOCKS, flags.INIT.FLOCK_LOCKS],
  ['--flock', flags.INIT.FLOCK_LOCKS, flags.INIT.POSIX_LOCKS],
] as const) {
  test(`${option} offers its own kind of locks and no other`, async (t) => {
    await using some = await TestDaemon.start({ args: ['--log-level', 'error', option] });
    const mount = connect(t, 0, some);
    const offered = InitOut.flags(mount.guest.init().body, 0);
    assert.equal(offered & (bit | other), bit);
    const file = new File(mount, newFile(some.share));
    file.set(1, F_WRLCK, ALL, option === '--flock' ? ENOSYS : 0);
    file.flock(F_WRLCK, option === '--flock' ? 0 : ENOSYS);
  });
}

test('owners of one guest exclude one another, byte by byte', (t) => {
  const file = new File(connect(t), newFile());
  file.set(1, F_WRLCK, [10, 19]);
  file.set(2, F_WRLCK, [20, OFFSET_MAX]);
  file.set(2, F_WRLCK, [0, 9]);
  file.set(2, F_RDLCK, [0, 10], EAGAIN);
  file.set(2, F_WRLCK, [19, 19], EAGAIN);
  file.set(1, F_WRLCK, [0, 10], EAGAIN);
  file.set(1, F_WRLCK, [OFFSET_MAX, OFFSET_MAX], EAGAIN);
  // A refused lock changes nothing.
  file.set(3, F_RDLCK, [9, 9], EAGAIN);
  file.set(3, F_RDLCK, [10, 10], EAGAIN);
});

test('beyond 2^32 and 2^53 each byte counts as well', (t) => {
  const file = new File(connect(t), newFile());
  for (const at of [2n ** 32n, 2n ** 53n + 1n, 2n ** 62n, OFFSET_MAX - 1n]) {
    file.set(1, F_WRLCK, [at, at]);
    file.set(2, F_WRLCK, [at, at], EAGAIN);
    file.set(2, F_WRLCK, [at + 1n, at + 1n]);
    file.set(2, F_WRLCK, [at - 1n, at - 1n]);
    assert.deepEqual(file.get(2, F_WRLCK, [at, at]), { type: F_WRLCK, start: at, end: at, pid: 10 });
    file.set(2, F_UNLCK);
  }
  file.set(1, F_UNLCK);
  file.set(1, F_WRLCK, [0xfffffff0, 0x100000010n]);
  file.set(2, F_WRLCK, [0x100000010n, 0x100000010n], EAGAIN);
  file.set(2, F_WRLCK, [0x100000011n, OFFSET_MAX]);
  file.set(2, F_WRLCK, [0, 0xffffffef]);
  file.set(1, F_UNLCK);
  file.set(2, F_UNLCK);
  // A length of 2^32 exactly.
  file.set(1, F_WRLCK, [0, 0xffffffff]);
  file.set(2, F_WRLCK, [0x100000000, OFFSET_MAX]);
  file.set(3, F_WRLCK, [0xffffffff, 0xffffffff], EAGAIN);
});

test('locks are shared, made stronger and weaker, and given up in part', (t) => {
  const file = new File(connect(t), newFile());
  file.set(1, F_RDLCK, [0, 99]);
  file.set(2, F_RDLCK, [0, 99]);
  file.set(1, F_WRLCK, [0, 99], EAGAIN);
  file.set(2, F_UNLCK, [0, 49]);
  file.set(1, F_WRLCK, [0, 49]);
  file.set(2, F_RDLCK, [49, 49], EAGAIN);
  file.set(1, F_RDLCK, [0, 49]);
  file.set(2, F_RDLCK, [0, 49]);
  file.set(1, F_UNLCK);
  file.set(2, F_WRLCK, [0, 99]);
});

test('two guests of a daemon exclude one another, and so do guests of two daemons', async (t) => {
  await using another = await TestDaemon.start({ args: ARGS, share: daemon().share });
  const name = newFile();
  const one = new File(connect(t, 0), name);
  const two = new File(connect(t, 1), name);
  const far = new File(connect(t, 0, another), name);
  // The same owner in another guest is another owner.
  one.set(1, F_WRLCK, [0, 9]);
  two.set(1, F_RDLCK, [0, 0], EAGAIN);
  far.set(1, F_RDLCK, [0, 0], EAGAIN);
  one.set(1, F_UNLCK, [5, 9]);
  two.set(1, F_WRLCK, [5, 9]);
  far.set(1, F_WRLCK, [5, 9], EAGAIN);
  two.flush(1);
  far.set(1, F_WRLCK, [5, 9]);
  two.set(1, F_WRLCK, [5, 9], EAGAIN);

  one.flock(F_WRLCK);
  two.flock(F_RDLCK, EAGAIN);
  far.flock(F_RDLCK, EAGAIN);
  one.flock(F_RDLCK);
  two.flock(F_RDLCK);
  far.flock(F_RDLCK);
  one.flock(F_WRLCK, EAGAIN);
  two.flock(F_UNLCK);
  far.release();
  one.flock(F_WRLCK);
});

test('a process of the host that has a lock keeps guests out, and the other way round', async (t) => {
  const name = newFile();
  const ask = await holder(t, join(daemon().share, name));
  const file = new File(connect(t), name);
  assert.equal(await ask(`posix ${F_WRLCK} 0 10`), true);
  file.set(1, F_RDLCK, [9, 9], EAGAIN);
  assert.deepEqual(file.get(1, F_RDLCK), { type: F_WRLCK, start: 0n, end: 9n, pid: 0 });
  file.set(1, F_WRLCK, [10, OFFSET_MAX]);
  assert.equal(await ask(`posix ${F_RDLCK} 10 1`), false);
  assert.equal(await ask(`posix ${F_UNLCK} 0 0`), true);
  file.set(1, F_WRLCK);
  assert.equal(await ask(`posix ${F_RDLCK} 0 1`), false);
  file.set(1, F_UNLCK);
  assert.equal(await ask(`posix ${F_WRLCK} 0 0`), true);
  assert.equal(await ask(`posix ${F_UNLCK} 0 0`), true);

  assert.equal(await ask(`flock ${LOCK_EX}`), true);
  file.flock(F_RDLCK, EAGAIN);
  assert.equal(await ask(`flock ${LOCK_SH}`), true);
  file.flock(F_RDLCK);
  assert.equal(await ask(`flock ${LOCK_UN}`), true);
  file.flock(F_WRLCK);
  assert.equal(await ask(`flock ${LOCK_SH}`), false);
});

test('GETLK tells which process of the guest is in the way, and of others none', (t) => {
  const name = newFile();
  const one = new File(connect(t, 0), name);
  const two = new File(connect(t, 1), name);
  assert.equal(one.get(1, F_WRLCK), undefined);
  one.set(1, F_WRLCK, [10, 19]);
  one.set(2, F_RDLCK, [30, OFFSET_MAX]);
  assert.equal(one.get(1, F_WRLCK, [0, 19]), undefined, "the own lock is in nobody's way");
  assert.deepEqual(one.get(2, F_RDLCK, [0, 99]), { type: F_WRLCK, start: 10n, end: 19n, pid: 10 });
  assert.deepEqual(one.get(3, F_WRLCK, [20, 99]), { type: F_RDLCK, start: 30n, end: OFFSET_MAX, pid: 20 });
  assert.equal(one.get(3, F_RDLCK, [20, 99]), undefined);
  assert.deepEqual(two.get(1, F_RDLCK), { type: F_WRLCK, start: 10n, end: 19n, pid: 0 });
  two.set(7, F_WRLCK, [0, 4]);
  assert.deepEqual(one.get(1, F_RDLCK), { type: F_WRLCK, start: 0n, end: 4n, pid: 0 });
});

test('with FLUSH the locks of its owner go, and of no other', (t) => {
  const file = new File(connect(t), newFile());
  const owner = 0xffff_ffff_0000_0001n;
  file.set(owner, F_WRLCK, [0, 9], 0, { owner });
  file.set(1, F_WRLCK, [10, 19]);
  file.flush(2);
  file.set(3, F_WRLCK, [0, 9], EAGAIN);
  file.flush(1);
  file.set(3, F_WRLCK, [0, 9], EAGAIN);
  file.set(3, F_WRLCK, [10, 19]);
  file.flush(owner);
  file.set(3, F_WRLCK, [0, 9]);
  // A client that flushes with its release (FUSE_RELEASE_FLUSH) sends no FLUSH.
  const again = new File(file.mount, `file${files}`);
  file.release({ releaseFlags: flags.RELEASE_IN.FLUSH, lockOwner: 3 });
  again.set(4, F_WRLCK);
});

test('with RELEASE the locks go that were got by its handle, as nothing else tells of the end of OFD locks', (t) => {
  const name = newFile();
  const mount = connect(t);
  const [one, two] = [new File(mount, name), new File(mount, name)];
  one.set(1, F_WRLCK, [0, 9]);
  two.set(2, F_WRLCK, [10, 19]);
  one.release();
  two.set(3, F_WRLCK, [0, 9]);
  two.set(3, F_WRLCK, [10, 19], EAGAIN);
});

test('with RELEASE the flock lock of its handle goes, and of no other', (t) => {
  const name = newFile();
  const mount = connect(t);
  const [one, two, three] = [new File(mount, name), new File(mount, name), new File(mount, name)];
  one.flock(F_RDLCK);
  two.flock(F_RDLCK);
  one.release({ releaseFlags: flags.RELEASE_IN.FLOCK_UNLOCK });
  three.flock(F_WRLCK, EAGAIN);
  two.release();
  three.flock(F_WRLCK);
});

test('what is no lock is refused', (t) => {
  const mount = connect(t);
  const name = newFile();
  const file = new File(mount, name);
  const { SETLK, GETLK } = opcodes;
  for (const { code } of [SETLK, GETLK, opcodes.SETLKW]) {
    const refused = (errno: number, type: number, range: Range = ALL, fields: Fields = {}): void => {
      mount.guest.ask(file.request(code, 1, type, range, fields), errno);
    };
    refused(EINVAL, 3);
    refused(EINVAL, 0xffffffff);
    refused(EINVAL, 3, ALL, FLOCK);
    refused(EINVAL, F_WRLCK, [1, 0]);
    refused(EINVAL, F_WRLCK, [2n ** 32n, 2n ** 32n - 1n]);
    refused(EINVAL, F_WRLCK, [2n ** 63n, 2n ** 63n]);
    refused(EINVAL, F_WRLCK, [0, 2n ** 64n - 1n]);
    refused(EINVAL, F_WRLCK, [2n ** 63n, 0]);
    refused(EBADF, F_WRLCK, ALL, { fh: 99n });
    refused(EBADF, F_WRLCK, ALL, { fh: mount.opendir(ROOT) });
  }
  mount.guest.ask(file.request(GETLK.code, 1, F_UNLCK), EINVAL);
  mount.guest.ask({ ...file.request(SETLK.code, 1, F_WRLCK), nodeid: 4711 }, ENOENT);
  // A directory is locked by nobody, whatever file the handle is of.
  mount.guest.ask({ ...file.request(SETLK.code, 1, F_WRLCK), nodeid: ROOT }, EINVAL);
  new File(mount, name, O_RDONLY).set(1, F_WRLCK, ALL, EBADF);
  new File(mount, name, O_WRONLY).set(1, F_RDLCK, ALL, EBADF);
  file.flush(1);
  file.set(2, F_WRLCK);
  assert.equal(file.get(2, F_WRLCK), undefined);
});

test('a share that is read-only has read locks', async (t) => {
  await using readonly = await TestDaemon.start({ args: [...ARGS, '--readonly'] });
  const name = newFile(readonly.share);
  const mount = connect(t, 0, readonly);
  const file = new File(mount, name, O_RDONLY);
  file.set(1, F_RDLCK);
  file.set(2, F_WRLCK, ALL, EBADF);
  const path = join(readonly.share, name);
  const folder = `/proc/${readonly.process.pid}`;
  for (const fd of readdirSync(`${folder}/fd`)) {
    if (readlinkSync(`${folder}/fd/${fd}`) !== path) continue;
    const octal = readFileSync(`${folder}/fdinfo/${fd}`, 'utf8').match(/flags:\s+(\d+)/)?.[1] ?? '3';
    assert.equal(Number.parseInt(octal, 8) & O_ACCMODE, O_RDONLY, 'nothing is open for writing');
  }
  const ask = await holder(t, path);
  assert.equal(await ask(`posix ${F_WRLCK} 0 1`), false);
  file.flush(1);
  assert.equal(await ask(`posix ${F_WRLCK} 0 1`), true);
});

test('an owner that holds nothing holds no descriptor', async (t) => {
  const file = new File(connect(t), newFile());
  const before = daemon().descriptors();
  const owners = async (): Promise<number> => (await daemon().gauges()).lockOwners;
  file.set(1, F_WRLCK, [0, 9]);
  file.set(1, F_WRLCK, [20, 29]);
  assert.equal(await owners(), 1);
  for (let owner = 2; owner < 50; owner += 1) file.set(owner, F_WRLCK, [0, 0], EAGAIN);
  for (let owner = 2; owner < 50; owner += 1) file.set(owner, F_UNLCK);
  assert.equal(await owners(), 1);
  assert.equal(daemon().descriptors(), before + 1);
  file.set(1, F_UNLCK, [0, 9]);
  file.set(2, F_WRLCK, [20, 29], EAGAIN);
  file.set(1, F_UNLCK);
  assert.equal(await owners(), 0);
  assert.equal(daemon().descriptors(), before);
});

test('a guest with more lock owners than there are descriptors gets ENOLCK, and leaves room for others', async (t) => {
  await using small = await TestDaemon.start({ sockets: 2, args: ARGS, descriptorLimit: 700 });
  const name = newFile(small.share);
  const file = new File(connect(t, 0, small), name);
  let owner = 1;
  const request = (): FuseRequest => file.request(opcodes.SETLK.code, owner, F_RDLCK);
  let reply = file.mount.guest.send(request());
  for (; reply.error === 0; reply = file.mount.guest.send(request())) owner += 1;
  assert.equal(reply.error, -ENOLCK);
  assert.ok(owner > 300, `${owner} owners`);
  assert.equal((await small.gauges()).lockOwners, owner - 1);
  const other = connect(t, 1, small);
  other.lookup(ROOT, name);
  file.mount.guest.close();
  await awaitGauge('lockOwners', 0, small);
  new File(other, name).set(1, F_WRLCK);
});

for (const [end, deed] of [
  ['is gone', (mount: Mount) => mount.guest.close()],
  ['unmounts', (mount: Mount) => mount.destroy()],
  ['starts anew', (mount: Mount) => void mount.guest.init()],
  [
    'is reset',
    (mount: Mount) => {
      mount.guest.frontEnd.resetDevice();
      // Answered when the one before it is done.
      mount.guest.frontEnd.queueCount();
    },
  ],
] as const) {
  test(`nothing is left of the locks of a guest that ${end}, nor of those that it waits for`, async (t) => {
    const name = newFile();
    const one = new File(connect(t, 0), name);
    const two = new File(connect(t, 1), name);
    one.set(1, F_WRLCK, [0, 9]);
    one.flock(F_WRLCK);
    two.set(1, F_WRLCK, [10, 19]);
    const waiting = one.wait(1, F_WRLCK, [0, 19]);
    await awaitWaiting(1);
    deed(one.mount);
    await awaitWaiting(0);
    await awaitGauge('lockOwners', 1);
    two.set(1, F_WRLCK);
    two.set(1, F_UNLCK);
    two.flock(F_WRLCK);
    two.set(1, F_WRLCK);
    if (end === 'is gone') return;
    assert.equal(one.mount.guest.isAnswered(waiting), false);
    assert.ok(
      one.mount.guest.roomFor(waiting).every((byte) => byte === 0xa5),
      'nothing is written to the guest',
    );
  });
}

test('whatever ends a lock is told to those who wait', () => {
  let released = 0;
  using daemonless = new InProcess(
    {
      posixLocks: true,
      flock: true,
    },
    () => {
      released += 1;
    },
  );
  writeFileSync(join(daemonless.share, 'file'), '');
  const nodeid = daemonless.lookup('file');
  const fh = daemonless.open(nodeid, O_RDWR);
  const tellsOf = (opcode: number, fixed: Uint8Array, times: number): void => {
    released = 0;
    daemonless.expect(opcode, nodeid, [...new Uint32Array(fixed.slice().buffer)]);
    assert.equal(released, times, opcodeName(opcode));
  };
  const set = (type: number, fields: Fields = {}): Uint8Array => {
    const bytes = body(LkIn, { fh, owner: 1, ...fields });
    bytes.set(body(FileLock, { start: 0, end: OFFSET_MAX, type }), LkIn.offsets.lk);
    return bytes;
  };
  const { SETLK, FLUSH, RELEASE } = opcodes;
  for (const fields of [{}, FLOCK]) {
    tellsOf(SETLK.code, set(F_WRLCK, fields), 0);
    tellsOf(SETLK.code, set(F_RDLCK, fields), 1);
    tellsOf(SETLK.code, set(F_UNLCK, fields), 1);
  }
  tellsOf(FLUSH.code, body(FlushIn, { fh, lockOwner: 1 }), 0);
  tellsOf(SETLK.code, set(F_WRLCK), 0);
  tellsOf(FLUSH.code, body(FlushIn, { fh, lockOwner: 1 }), 1);
  tellsOf(RELEASE.code, body(ReleaseIn, { fh }), 1);
  released = 0;
  daemonless.reset();
  assert.equal(released, 1);
});

test('SETLKW waits for another owner, and the queue goes on meanwhile', async (t) => {
  const file = new File(connect(t), newFile());
  const before = await requestsOf('SETLKW');
  file.set(1, F_WRLCK, [0, 9]);
  const waiting = file.wait(2, F_WRLCK, [9, 19]);
  await awaitWaiting(1);
  for (let i = 0; i < 300; i += 1) file.mount.getattr(file.nodeid);
  file.set(3, F_WRLCK, [10, 10]);
  file.set(1, F_UNLCK);
  // Still in the way: owner 3.
  assert.equal((await daemon().gauges()).waiting, 1);
  assert.equal(file.mount.guest.isAnswered(waiting), false);
  file.flush(3);
  file.mount.guest.answer(waiting);
  file.set(1, F_WRLCK, [19, 19], EAGAIN);
  assert.equal((await daemon().gauges()).waiting, 0);
  assert.equal((await requestsOf('SETLKW')) - before, 1, 'counted once, however often it was asked');
});

test('a lock that is free is given to SETLKW at once, and one given up by it', (t) => {
  const file = new File(connect(t), newFile());
  file.mount.guest.ask(file.request(opcodes.SETLKW.code, 1, F_WRLCK));
  file.set(2, F_RDLCK, ALL, EAGAIN);
  file.mount.guest.ask(file.request(opcodes.SETLKW.code, 1, F_UNLCK));
  file.set(2, F_RDLCK);
});

test('what other guests, other daemons and processes of the host give up is given to who waits', async (t) => {
  await using another = await TestDaemon.start({ args: ARGS, share: daemon().share });
  const name = newFile();
  const one = new File(connect(t, 0), name);
  const two = new File(connect(t, 1), name);
  const far = new File(connect(t, 0, another), name);
  const ask = await holder(t, join(daemon().share, name));
  for (const kind of ['posix', 'flock']) {
    const fields = kind === 'flock' ? FLOCK : {};
    const waitsFor = async (unlock: () => unknown): Promise<void> => {
      const waiting = one.wait(1, F_WRLCK, ALL, fields);
      await awaitWaiting(1);
      await unlock();
      one.mount.guest.answer(waiting);
      one.set(1, F_UNLCK, ALL, 0, fields);
    };
    two.set(1, F_WRLCK, ALL, 0, fields);
    await waitsFor(() => two.set(1, F_UNLCK, ALL, 0, fields));
    far.set(1, F_RDLCK, ALL, 0, fields);
    await waitsFor(() => far.set(1, F_UNLCK, ALL, 0, fields));
    assert.equal(await ask(kind === 'flock' ? `flock ${LOCK_SH}` : `posix ${F_RDLCK} 5 1`), true);
    await waitsFor(() => ask(kind === 'flock' ? `flock ${LOCK_UN}` : `posix ${F_UNLCK} 0 0`));
  }
  two.flock(F_WRLCK);
  const waiting = one.wait(1, F_RDLCK, ALL, FLOCK);
  await awaitWaiting(1);
  two.release();
  one.mount.guest.answer(waiting);
});

test('as many requests wait as the ring holds, and each is given its lock', async (t) => {
  const mount = connect(t);
  const file = new File(mount, newFile());
  file.set(1, F_WRLCK);
  // A request takes two descriptors of 128, and two are left for those below.
  const waiting = Array.from({ length: 63 }, (_, i) => file.wait(2 + i, F_RDLCK));
  await awaitWaiting(63);
  file.set(1, F_UNLCK);
  for (const each of waiting) mount.guest.answer(each);
  file.set(1, F_WRLCK, ALL, EAGAIN);
  for (let i = 0; i < 63; i += 1) file.flush(2 + i);
  file.set(1, F_WRLCK);
  await awaitWaiting(0);
});

test('who waited first on a queue is first to be given the lock', async (t) => {
  const file = new File(connect(t), newFile());
  file.set(1, F_WRLCK);
  const waiting = Array.from({ length: 5 }, (_, i) => file.wait(2 + i, F_WRLCK));
  await awaitWaiting(5);
  for (const [i, each] of waiting.entries()) {
    file.set(1 + i, F_UNLCK);
    file.mount.guest.answer(each);
    await awaitWaiting(4 - i);
  }
});

test('INTERRUPT ends a wait with EINTR, whichever of the two comes first', async (t) => {
  const file = new File(connect(t), newFile());
  const { guest } = file.mount;
  const interrupt = (unique: bigint): void => {
    guest.ask({ opcode: opcodes.INTERRUPT.code, body: body(InterruptIn, { unique }) }, 0, HIPRIO);
  };
  file.set(1, F_WRLCK);
  const waiting = [file.wait(2, F_WRLCK), file.wait(3, F_WRLCK)];
  await awaitWaiting(2);
  interrupt(waiting[0].unique);
  guest.answer(waiting[0], EINTR);
  assert.equal(guest.isAnswered(waiting[1]), false);
  const unique = 0xffff_ffff_8000_0001n;
  interrupt(unique);
  const request = { ...file.request(opcodes.SETLKW.code, 2, F_WRLCK), unique };
  guest.answer(guest.post(request), EINTR);
  const again = guest.post(request);
  await awaitWaiting(2);
  file.set(1, F_UNLCK);
  guest.answer(waiting[1]);
  file.set(3, F_UNLCK);
  guest.answer(again);
});

test('a request waits on over stop and cont of the VM, and is not touched in between', async (t) => {
  const name = newFile();
  const file = new File(connect(t, 0), name);
  const other = new File(connect(t, 1), name);
  const { guest } = file.mount;
  other.set(1, F_WRLCK);
  const waiting = [file.wait(1, F_WRLCK, [0, 4]), file.wait(2, F_WRLCK, [5, 9])];
  await awaitWaiting(2);
  for (let round = 0; round < 3; round += 1) {
    const base = guest.stopQueue(1);
    // From now on whoever asks is given it.
    if (round === 2) other.flush(1);
    assert.equal((await daemon().gauges()).waiting, 2);
    for (const each of waiting) {
      assert.equal(guest.isAnswered(each), false);
      assert.ok(guest.roomFor(each).every((byte) => byte === 0xa5));
    }
    guest.resumeQueue(1, base);
    file.mount.getattr(file.nodeid);
  }
  for (const each of waiting) guest.answer(each);
  other.set(1, F_WRLCK, ALL, EAGAIN);
  await awaitWaiting(0);
});

test('a memory table that changes lets requests wait on', async (t) => {
  const name = newFile();
  const file = new File(connect(t, 0), name);
  const { guest } = file.mount;
  file.set(1, F_WRLCK);
  const waiting = file.wait(2, F_WRLCK);
  await awaitWaiting(1);
  guest.frontEnd.addMemory(2 ** 32, 1 << 20);
  file.set(1, F_UNLCK);
  guest.answer(waiting);
  guest.frontEnd.removeMemory(2 ** 32);
});

test('on new rings nothing waits, even at the place where the old ones stood', async (t) => {
  const file = new File(connect(t), newFile());
  const { guest } = file.mount;
  file.set(1, F_WRLCK);
  const waiting = file.wait(2, F_WRLCK);
  await awaitWaiting(1);
  guest.restartQueue(1);
  await awaitWaiting(0);
  file.set(1, F_UNLCK);
  file.set(3, F_WRLCK);
  assert.ok(guest.roomFor(waiting).every((byte) => byte === 0xa5));
});

test('a request whose first descriptor is that of one that waits is dropped', async (t) => {
  await using strict = await TestDaemon.start({ args: ARGS.slice(0, 3) });
  const file = new File(connect(t, 0, strict), newFile(strict.share));
  const { guest } = file.mount;
  file.set(1, F_WRLCK);
  const waiting = file.wait(2, F_WRLCK);
  await awaitWaiting(1, strict);
  addAvailable(guest, waiting.head);
  guest.kick(1);
  await strict.hears('is that of one that waits');
  assert.deepEqual(guest.collect(1), { head: waiting.head, bytes: 0 });
  assert.equal((await strict.gauges()).waiting, 1);
  file.flush(1);
  await awaitWaiting(0, strict);
});

/** Names a head in the available ring of queue 1, as a driver that has lost its mind. */
function addAvailable(guest: Mount['guest'], head: number): void {
  const ring = guest.drivers[1].availableRing;
  const words = new DataView(guest.read(ring, 4 + 2 * 128).buffer);
  const index = words.getUint16(2, true);
  words.setUint16(4 + 2 * (index % 128), head, true);
  words.setUint16(2, index + 1, true);
  guest.write(ring, new Uint8Array(words.buffer));
}

test('a request that the guest changes while it waits is checked as any other', async (t) => {
  const file = new File(connect(t), newFile());
  const { guest } = file.mount;
  file.set(1, F_WRLCK);
  const [loop, other] = [file.wait(2, F_WRLCK), file.wait(3, F_WRLCK)];
  await awaitWaiting(2);
  // Its second descriptor is its first.
  const table = guest.drivers[1].descriptorTable;
  const descriptor = guest.read(table + loop.head * 16, 16);
  new DataView(descriptor.buffer).setUint16(14, loop.head, true);
  guest.write(table + loop.head * 16, descriptor);
  // Another opcode, which gets what it asks for.
  const header = new Uint8Array(4);
  new DataView(header.buffer).setUint32(0, 99, true);
  const at = guest.read(table + other.head * 16, 8);
  guest.write(Number(new DataView(at.buffer).getBigUint64(0, true)) + 4, header);
  guest.answer({ ...other, opcode: 99 }, ENOSYS);
  assert.equal(guest.isAnswered(loop), true);
  await awaitWaiting(0);
});

test('a guest that speaks after DESTROY is given no lock', (t) => {
  const file = new File(connect(t), newFile());
  file.mount.destroy();
  file.set(1, F_WRLCK, ALL, EIO);
});

test('a lock is waited for across the queues of a guest', async (t) => {
  const mount = Mount.connect(daemon().socketPath, { requestQueues: 3 });
  t.after(() => mount.guest.close());
  const file = new File(mount, newFile());
  file.set(1, F_WRLCK);
  const waiting = [2, 3].map((queue) => mount.guest.post(file.request(opcodes.SETLKW.code, queue, F_RDLCK), queue));
  await awaitWaiting(2);
  file.flush(1);
  for (const each of waiting) mount.guest.answer(each);
});

test('SIGTERM ends a daemon in which requests wait', async () => {
  await using ending = await TestDaemon.start({ args: ARGS });
  using mount = Mount.connect(ending.socketPath);
  const file = new File(mount, newFile(ending.share));
  file.set(1, F_WRLCK);
  file.wait(2, F_WRLCK);
  await awaitWaiting(1, ending);
  ending.process.kill('SIGTERM');
  assert.deepEqual(await ending.awaitEnd(), { code: 0, signal: null });
});
