/** The lens and the thread that serves it, on real files. What a VMM does with it is lseek and mmap, and so do we. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, type TestContext, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';

import { LENS_SIZE_BYTES, lensRefusal, mountLens, openLens, serveLens } from '../src/coherence/index.ts';
import {
  EACCES,
  EBADF,
  ECONNABORTED,
  EINVAL,
  ELOOP,
  ENOTCONN,
  EOPNOTSUPP,
  EPERM,
  errnoName,
  PAGE_BYTES,
} from '../src/core/index.ts';
import { type LensData, threadUrl } from '../src/server/threads.ts';
import * as sys from '../src/sys/index.ts';
import { mount, mountableFolder, mountOver, run, umount } from './host-mounts.ts';

// A worker that ends while TurboFan compiles its FFI calls in the background crashes Node (see `park` in src/server).
setFlagsFromString('--no-concurrent-recompilation');

const COHERENCE = new URL('../src/coherence/index.ts', import.meta.url).href;
const SEEK_END = 2;
const MIB = 1 << 20;
const SIZES = [0, 1, 5000, 3 * MIB + 123];
const refusal = lensRefusal();
const skip = refusal ?? false;

/** A mount of lenses with the thread that serves it. */
class Lenses {
  readonly mountFd: number;
  readonly #stopFd = sys.eventfd();
  readonly #worker: Worker;
  readonly #exit: Promise<unknown>;

  constructor() {
    const { deviceFd, mountFd } = mountLens();
    this.mountFd = mountFd;
    const workerData: LensData = { kind: 'lens', deviceFd, stopFd: this.#stopFd, alive: new SharedArrayBuffer(4) };
    this.#worker = new Worker(threadUrl('lens-worker'), { workerData, execArgv: [] });
    this.#exit = once(this.#worker, 'exit');
  }

  async started(): Promise<this> {
    await once(this.#worker, 'online');
    return this;
  }

  /** The exit code of the thread. */
  async stop(): Promise<unknown> {
    sys.signalEventfd(this.#stopFd);
    const [code] = (await this.#exit) as unknown[];
    return code;
  }

  close(): void {
    for (const fd of [this.mountFd, this.#stopFd]) sys.close(fd);
  }
}

let folder = '';
let lenses: Lenses;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'virtiofs-lens-'));
  if (refusal === undefined) lenses = await new Lenses().started();
});
after(async () => {
  rmSync(folder, { recursive: true, force: true });
  if (refusal !== undefined) return;
  await lenses.stop();
  lenses.close();
});

/** Bytes that are what they are only where they are. */
function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i += 1) bytes[i] = (i ^ (i >> 8) ^ (i >> 16)) & 0xff || 1;
  return bytes;
}

interface Looked {
  readonly path: string;
  /** Opened O_RDWR. */
  readonly fd: number;
  readonly lens: number;
}

/** A file with a lens over it. */
function look(t: TestContext, path: string, size: number): Looked {
  writeFileSync(path, pattern(size));
  const fd = openSync(path, 'r+');
  const lens = openLens(lenses.mountFd, fd);
  assert.ok(lens >= 0, errnoName(lens));
  t.after(() => {
    closeSync(fd);
    sys.close(lens);
  });
  return { path, fd, lens };
}

/** A shared mapping of a lens. Pages beyond the file's last must not be touched: that ends the process. */
function map(t: TestContext, lens: number, length: number): Uint8Array {
  const address = sys.mapShared(lens, length, 0);
  const buffer = sys.viewMemory(address, length);
  t.after(() => {
    // Views of the mapping are empty from now on.
    structuredClone(buffer, { transfer: [buffer] });
    sys.munmap(address, length);
  });
  return new Uint8Array(buffer);
}

function endOf(fd: number): number {
  assert.equal(sys.lseek(fd, 0, 0, SEEK_END), 0);
  return sys.seekPosition[1] * 2 ** 32 + sys.seekPosition[0];
}

/** A file behind a lens and its mapping are the same bytes, both ways. */
function checkShared(t: TestContext, path: string, size: number): void {
  const { fd, lens } = look(t, path, size);
  assert.equal(endOf(lens), LENS_SIZE_BYTES);
  assert.equal(fstatSync(lens).size, LENS_SIZE_BYTES);
  const bytes = map(t, lens, 4 * MIB);
  assert.ok(pattern(size).equals(bytes.subarray(0, size)), 'the bytes of the file');
  const pages = Math.ceil(size / PAGE_BYTES) * PAGE_BYTES;
  assert.ok(
    bytes.subarray(size, pages).every((byte) => byte === 0),
    'zeros behind its end',
  );
  if (size > 0) {
    bytes[size - 1] = 0xa5;
    assert.equal(readFileSync(path)[size - 1], 0xa5, 'a store is in the file');
    writeSync(fd, Buffer.from([0x5a]), 0, 1, 0);
    assert.equal(bytes[0], 0x5a, 'a write is in the mapping');
  }
  assert.equal(fstatSync(fd).size, size);
}

for (const size of SIZES) {
  test(`a lens over ${size} bytes has 2^62, and its mapping is the file`, { skip }, (t) => {
    checkShared(t, join(folder, 'shared'), size);
  });
}

test('a mapping shows what a file gets when it grows', { skip }, (t) => {
  const empty = look(t, join(folder, 'empty'), 0);
  const nothing = map(t, empty.lens, 2 * MIB);
  writeFileSync(empty.path, 'no more');
  assert.equal(Buffer.from(nothing.subarray(0, 8)).toString(), 'no more\0');

  const some = look(t, join(folder, 'some'), 5000);
  const bytes = map(t, some.lens, 2 * MIB);
  assert.equal(bytes[5000], 0);
  ftruncateSync(some.fd, 100_000);
  assert.equal(bytes[99_999], 0);
  bytes[99_999] = 7;
  assert.equal(readFileSync(some.path)[99_999], 7);
  writeSync(some.fd, pattern(MIB), 0, MIB, 0);
  assert.ok(pattern(MIB).equals(bytes.subarray(0, MIB)));
});

test('a lens and its mapping stay when the descriptor that it was made from is closed', { skip }, (t) => {
  const path = join(folder, 'closed');
  writeFileSync(path, pattern(5000));
  const fd = openSync(path, 'r+');
  const lens = openLens(lenses.mountFd, fd);
  closeSync(fd);
  t.after(() => sys.close(lens));
  assert.equal(endOf(lens), LENS_SIZE_BYTES);
  const bytes = map(t, lens, 2 * MIB);
  bytes[4999] = 9;
  assert.equal(readFileSync(path)[4999], 9);
});

test('the file cannot be cut, stretched or punched through a lens', { skip }, (t) => {
  const { path, lens } = look(t, join(folder, 'whole'), 5000);
  for (const size of [0, 1, 5000, 2 * MIB]) assert.equal(sys.ftruncate(lens, size, 0), -EPERM, `${size}`);
  const punchHole = 3;
  for (const mode of [0, punchHole]) assert.equal(sys.fallocate(lens, mode, 0, 0, PAGE_BYTES, 0), -EOPNOTSUPP);
  assert.equal(sys.fsync(lens), -EINVAL, 'nothing is called done that is not');
  assert.ok(pattern(5000).equals(readFileSync(path)));
});

test('only what was opened for reading and writing gets a lens', { skip }, () => {
  const path = join(folder, 'opened');
  writeFileSync(path, pattern(5000));
  const { O_RDONLY, O_WRONLY, O_RDWR, O_APPEND } = constants;
  for (const flags of [O_RDONLY, O_WRONLY, sys.O_PATH, O_RDWR | sys.O_PATH, O_RDWR | O_APPEND]) {
    const fd = openSync(path, flags);
    assert.equal(openLens(lenses.mountFd, fd), -EACCES, `0o${flags.toString(8)}`);
    closeSync(fd);
  }
});

test('only a regular file gets a lens', { skip }, () => {
  run('mkfifo', join(folder, 'fifo'));
  for (const path of [folder, '/dev/null', join(folder, 'fifo')]) {
    const fd = openSync(path, path === folder ? 'r' : 'r+');
    assert.equal(openLens(lenses.mountFd, fd), -EINVAL, path);
    closeSync(fd);
  }
  assert.equal(openLens(lenses.mountFd, 1_000_000), -EBADF);
});

test('a file that has become append-only or immutable gets no lens', { skip }, (t) => {
  const path = join(folder, 'guarded');
  writeFileSync(path, pattern(5000));
  const fd = openSync(path, 'r+');
  t.after(() => {
    closeSync(fd);
    run('chattr', '-a', '-i', path);
  });
  for (const attribute of ['a', 'i']) {
    const { status, stderr } = spawnSync('chattr', [`+${attribute}`, path], { encoding: 'utf8' });
    if (status !== 0) return t.skip(`chattr(1) and a file system with attributes: ${stderr}`);
    assert.equal(openLens(lenses.mountFd, fd), -EACCES, attribute);
    run('chattr', `-${attribute}`, path);
  }
  const lens = openLens(lenses.mountFd, fd);
  assert.ok(lens >= 0, errnoName(lens));
  sys.close(lens);
});

test('who has a lens cannot open it again, be it when its number stands for another file', { skip }, (t) => {
  const path = join(folder, 'first');
  writeFileSync(path, 'the file of the lens');
  const fd = openSync(path, 'r+');
  const lens = openLens(lenses.mountFd, fd);
  closeSync(fd);
  writeFileSync(join(folder, 'second'), 'a file of somebody else');
  const second = openSync(join(folder, 'second'), 'r+');
  assert.equal(second, fd);
  const other = openLens(lenses.mountFd, second);
  assert.equal(Buffer.from(map(t, lens, PAGE_BYTES).subarray(0, 8)).toString(), 'the file');
  assert.equal(Buffer.from(map(t, other, PAGE_BYTES).subarray(0, 6)).toString(), 'a file');

  // While the lens is open the kernel itself has its inode keep the file; held like this it would take another.
  const held = openSync(`/proc/self/fd/${lens}`, sys.O_PATH);
  t.after(() => {
    for (const each of [second, other, held]) sys.close(each);
  });
  for (const flags of ['r', 'r+'] as const) {
    assert.throws(() => openSync(`/proc/self/fd/${lens}`, flags), { code: 'EACCES' });
  }
  sys.close(lens);
  for (const flags of ['r', 'r+'] as const) {
    assert.throws(() => openSync(`/proc/self/fd/${held}`, flags), { code: 'EACCES' });
  }
});

test('a thousand lenses leave no descriptor and no open file behind', { skip }, (t) => {
  const place = mountableFolder(t);
  if (place === undefined) return;
  const disk = join(place, 'disk');
  mount(disk, '-t', 'tmpfs', 'none');
  writeFileSync(join(disk, 'file'), pattern(5000));
  const open = readdirSync('/proc/self/fd').length;
  for (let i = 0; i < 1000; i += 1) {
    const fd = openSync(join(disk, 'file'), 'r+');
    const lens = openLens(lenses.mountFd, fd);
    assert.ok(lens >= 0, errnoName(lens));
    closeSync(fd);
    sys.close(lens);
  }
  // Requests are served one after the other: when this one is answered, the last RELEASE is too.
  assert.equal(openLens(lenses.mountFd, 1_000_000), -EBADF);
  assert.equal(readdirSync('/proc/self/fd').length, open);
  // The host does not let go of a file system that has an open file.
  umount(disk);
});

const DISKS: Readonly<Record<string, readonly string[]>> = {
  ext4: ['mkfs.ext4', '-q'],
  xfs: ['mkfs.xfs', '-q'],
  btrfs: ['mkfs.btrfs', '-q'],
};

for (const [type, mkfs] of Object.entries(DISKS)) {
  test(`a lens shows a file on ${type}`, { skip }, (t) => {
    const place = mountableFolder(t);
    if (place === undefined) return;
    const image = join(place, 'image');
    const disk = join(place, 'disk');
    mkdirSync(disk);
    writeFileSync(image, '');
    // The least that mkfs.xfs makes.
    truncateSync(image, 300 * MIB);
    try {
      run(mkfs[0], ...mkfs.slice(1), image);
      mountOver(disk, '-t', type, '-o', 'loop', image);
    } catch (error) {
      return t.skip(`no disk with ${type} (${mkfs[0]}, loop devices): ${(error as Error).message}`);
    }
    for (const size of SIZES) checkShared(t, join(disk, `${size}`), size);
  });
}

/** Mounts an overlay at `path` whose changes go to a tmpfs. */
function overlay(path: string, lower: string): void {
  mount(`${path}-changes`, '-t', 'tmpfs', 'none');
  for (const each of ['upper', 'work']) mkdirSync(join(`${path}-changes`, each));
  const options = `lowerdir=${lower},upperdir=${path}-changes/upper,workdir=${path}-changes/work`;
  mount(path, '-t', 'overlay', '-o', options, 'none');
}

test('a lens shows a file on tmpfs, and on overlayfs, but not on an overlay of overlays', { skip }, (t) => {
  const place = mountableFolder(t);
  if (place === undefined) return;
  const [lower, one, two] = ['lower', 'one', 'two'].map((name) => join(place, name));
  mount(lower, '-t', 'tmpfs', 'none');
  writeFileSync(join(lower, 'below'), pattern(5000));
  for (const size of SIZES) checkShared(t, join(lower, `${size}`), size);
  try {
    overlay(one, lower);
    overlay(two, one);
  } catch (error) {
    return t.skip(`no overlayfs: ${(error as Error).message}`);
  }
  for (const size of SIZES) checkShared(t, join(one, `new-${size}`), size);
  checkShared(t, join(one, 'below'), 5000);
  const fd = openSync(join(two, 'below'), 'r+');
  assert.equal(openLens(lenses.mountFd, fd), -ELOOP);
  closeSync(fd);
});

test('the thread ends when it is told to; then nobody gets a lens, and mappings stay', { skip }, async (t) => {
  const own = await new Lenses().started();
  const path = join(folder, 'ended');
  writeFileSync(path, pattern(5000));
  const fd = openSync(path, 'r+');
  const lens = openLens(own.mountFd, fd);
  t.after(() => {
    own.close();
    closeSync(fd);
    sys.close(lens);
  });
  const bytes = map(t, lens, 2 * MIB);
  assert.equal(await own.stop(), 0);
  const late = openLens(own.mountFd, fd);
  assert.ok(late === -ECONNABORTED || late === -ENOTCONN, errnoName(late));
  bytes[4999] = 1;
  assert.equal(readFileSync(path)[4999], 1);
});

test('who waits for a lens when the thread ends gets an error', { skip }, async (t) => {
  const { deviceFd, mountFd } = mountLens();
  const stopFd = sys.eventfd();
  t.after(() => {
    for (const fd of [mountFd, stopFd]) sys.close(fd);
  });
  const source = `
    const { parentPort, workerData: { url, mountFd } } = require('node:worker_threads');
    import(url).then(({ openLens }) => parentPort.postMessage(openLens(mountFd, 0)));`;
  const opener = new Worker(source, { eval: true, execArgv: [], workerData: { url: COHERENCE, mountFd } });
  const said = once(opener, 'message') as Promise<[number]>;
  const gone = once(opener, 'exit');
  const deadlineMs = 60_000;
  assert.ok(sys.waitReadable(deviceFd, deadlineMs), 'the kernel asks for the name');
  sys.signalEventfd(stopFd);
  serveLens(deviceFd, stopFd);
  const [result] = await said;
  assert.equal(errnoName(result), 'ECONNABORTED');
  await gone;
});

test('to ask whether a lens can be made leaves nothing behind', { skip }, () => {
  const open = readdirSync('/proc/self/fd').length;
  assert.equal(lensRefusal(), undefined);
  assert.equal(readdirSync('/proc/self/fd').length, open);
});

/** What `lensRefusal` says in a process that a program starts. */
function saidUnder(program: string, ...args: string[]): string {
  const script = `import { lensRefusal } from '${COHERENCE}'; console.log(lensRefusal());`;
  const node = [process.execPath, '--disable-warning=ExperimentalWarning', '--input-type=module', '-e', script];
  return execFileSync(program, [...args, ...node], { encoding: 'utf8' });
}

test('a refusal says what is missing', { skip }, (t) => {
  if (spawnSync('unshare', ['--user', '--map-root-user', '--mount', 'true']).status !== 0) {
    t.skip('this takes user namespaces and unshare(1)');
    return;
  }
  assert.match(saidUnder('unshare', '--user', '--map-root-user'), /CAP_SYS_ADMIN on the host/);
  const hidden = 'mount -t tmpfs none /dev && exec "$@"';
  assert.match(saidUnder('unshare', '--mount', 'sh', '-c', hidden, 'sh'), /no \/dev\/fuse: modprobe fuse/);
  if (spawnSync('setpriv', ['--version']).error !== undefined) return;
  assert.match(saidUnder('setpriv', '--bounding-set', '-sys_admin'), /CAP_SYS_ADMIN/);
});
