/** Every operation on open files, over a real connection, checked against the host's directory. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EBADF, EEXIST, EFBIG, EINVAL, EISDIR, ENOENT, ENOSYS, ENXIO, EOPNOTSUPP } from '../src/core/index.ts';
import {
  FallocateIn,
  FlushIn,
  FsyncIn,
  flags,
  LseekIn,
  LseekOut,
  opcodes,
  ReadIn,
  WriteIn,
  WriteOut,
} from '../src/fuse/index.ts';
import { O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY, S_IFIFO, S_IFREG } from '../src/sys/index.ts';
import { commonDaemon } from './daemon.ts';
import { body, concat, handleOf, name } from './fuse.ts';
import type { Cut } from './guest.ts';
import { Mount, ownFolder } from './mount.ts';
import { Random } from './random.ts';

const MIB = 1024 * 1024;
const SEEK_SET = 0;
const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;

const daemon = commonDaemon({ args: ['--stay', '--log-level', 'error'] });

/** A guest of its own for a test, and a directory of its own. */
function enter(t: TestContext): { mount: Mount; path: string; nodeid: bigint } {
  const mount = Mount.connect(daemon().socketPath, { queueSize: 1024, indirectEntries: 512 });
  t.after(() => mount.guest.close());
  return { mount, ...ownFolder(daemon(), mount) };
}

/** An open file of a test's own. */
function enterFile(t: TestContext, content: string | Uint8Array = ''): { mount: Mount; file: string; fh: bigint } {
  const { mount, path, nodeid } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, content);
  return { mount, file, fh: mount.open(mount.lookup(nodeid, 'file').nodeid, O_RDWR) };
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

test('OPEN opens for what was asked, and truncates when asked', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'content');
  const found = mount.lookup(nodeid, 'file').nodeid;
  const forReading = mount.open(found, O_RDONLY);
  const forWriting = mount.open(found, O_WRONLY);
  assert.notEqual(forReading, forWriting);
  assert.equal(text(mount.read(forReading, 0, 100)), 'content');
  mount.write(forReading, 0, Buffer.from('x'), EBADF);
  mount.read(forWriting, 0, 1, EBADF);
  mount.write(forWriting, 0, Buffer.from('C'));
  assert.equal(text(mount.read(forReading, 0, 100)), 'Content');
  mount.open(found, O_WRONLY | O_TRUNC);
  assert.equal(statSync(join(path, 'file')).size, 0);
  // Flags that only mean something when a name is involved mean nothing here.
  mount.open(found, O_RDWR | O_CREAT | O_EXCL);
});

test('OPEN of anything but a file is refused at once', (t) => {
  const { mount, path, nodeid } = enter(t);
  mount.mknod(nodeid, 'fifo', { mode: S_IFIFO | 0o600 });
  symlinkSync('/etc/passwd', join(path, 'link'));
  mkdirSync(join(path, 'dir'));
  for (const [each, errno] of [
    ['fifo', EINVAL],
    ['link', EINVAL],
    ['dir', EISDIR],
  ] as const) {
    const found = mount.lookup(nodeid, each).nodeid;
    for (const openFlags of [O_RDONLY, O_WRONLY, O_RDWR]) {
      // Nobody has the other end of the FIFO open: an open that was tried would never come back.
      mount.open(found, openFlags, errno);
      mount.create(nodeid, each, { flags: openFlags | O_CREAT, mode: 0o600 }, errno);
    }
  }
});

test('CREATE makes a file, opens it, and gives both', (t) => {
  const { mount, path, nodeid } = enter(t);
  const { entry, fh } = mount.create(nodeid, 'file', { flags: O_RDWR | O_CREAT, mode: S_IFREG | 0o4710 });
  const stat = lstatSync(join(path, 'file'), { bigint: true });
  assert.deepEqual([entry.attributes.ino, entry.attributes.mode], [stat.ino, stat.mode]);
  assert.equal(Number(stat.mode) & 0o7777, 0o4710);
  mount.write(fh, 0, Buffer.from('hello'));
  assert.equal(readFileSync(join(path, 'file'), 'utf8'), 'hello');
  assert.equal(mount.lookup(nodeid, 'file').nodeid, entry.nodeid);
});

test('CREATE of a name that exists opens it, unless it must not exist', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'old', { mode: 0o604 });
  mount.create(nodeid, 'file', { flags: O_RDWR | O_CREAT | O_EXCL, mode: 0o600 }, EEXIST);
  const { entry, fh } = mount.create(nodeid, 'file', { flags: O_RDWR | O_CREAT, mode: 0o777 });
  assert.equal(Number(entry.attributes.mode) & 0o7777, 0o604);
  assert.equal(text(mount.read(fh, 0, 10)), 'old');
  mount.create(nodeid, 'file', { flags: O_RDWR | O_CREAT | O_TRUNC, mode: 0o777 });
  assert.equal(statSync(join(path, 'file')).size, 0);
});

test('CREATE without permission to write still opens for writing', (t) => {
  const { mount, nodeid } = enter(t);
  const { fh } = mount.create(nodeid, 'file', { flags: O_WRONLY | O_CREAT, mode: 0o444 });
  assert.equal(mount.write(fh, 0, Buffer.from('x')), 1);
});

test('READ gives what there is, up to the end of the file and nothing after it', (t) => {
  const { mount, fh } = enterFile(t, '0123456789');
  assert.equal(text(mount.read(fh, 0, 4)), '0123');
  assert.equal(text(mount.read(fh, 7, 100)), '789');
  assert.equal(text(mount.read(fh, 10, 100)), '');
  assert.equal(text(mount.read(fh, 2n ** 40n, 100)), '');
  assert.equal(text(mount.read(fh, 3, 0)), '');
});

test('READ takes the smaller of the size and the room', (t) => {
  const { mount, fh } = enterFile(t, '0123456789');
  const request = { opcode: opcodes.READ.code, body: body(ReadIn, { fh, size: 8 }), room: 3 };
  assert.equal(mount.guest.ask(request).byteLength, 3);
  assert.equal(mount.guest.ask({ ...request, room: 0 }).byteLength, 0);
});

test('offsets beyond what a file can have are refused', (t) => {
  const { mount, file, fh } = enterFile(t, 'x');
  for (const offset of [2n ** 63n, 2n ** 64n - 1n, 2n ** 63n - 1n]) {
    const read = { opcode: opcodes.READ.code, body: body(ReadIn, { fh, offset, size: 10 }), room: 10 };
    // At the very end of what 64 bits can say there may be nothing to read instead.
    const { error, used } = mount.guest.send(read);
    assert.ok(error === -EINVAL || (error === 0 && used === 16), `READ at ${offset}: ${error}`);
    const fixed = body(WriteIn, { fh, offset, size: 1 });
    const written = mount.guest.send({ opcode: opcodes.WRITE.code, body: concat(fixed, Buffer.from('y')) });
    assert.ok([-EINVAL, -EFBIG].includes(written.error), `WRITE at ${offset}: ${written.error}`);
  }
  assert.equal(readFileSync(file, 'utf8'), 'x');
});

test('READ and WRITE of odd places and sizes up to 1 MiB, in many pieces, move every byte to its place', (t) => {
  const random = Random.fromEnvironment(t);
  const { mount, file, fh } = enterFile(t);
  const shadow = new Uint8Array(3 * MIB);
  let size = 0;
  for (let round = 0; round < 60; round += 1) {
    const length = round < 6 ? MIB - (round % 3) : 1 + random.below(random.below(2) === 0 ? 5000 : MIB);
    const offset = random.below(3 * MIB - length + 1);
    const cut: Cut = { indirect: random.below(2) === 0, readable: pieces(random), writable: pieces(random) };
    if (random.below(2) === 0) {
      const data = random.bytes(length);
      assert.equal(mount.write(fh, offset, data, 0, { cut }), length);
      shadow.set(data, offset);
      size = Math.max(size, offset + length);
    } else {
      const expected = shadow.subarray(offset, Math.max(offset, Math.min(offset + length, size)));
      assert.ok(Buffer.from(mount.read(fh, offset, length, 0, cut)).equals(expected), `READ of ${length} at ${offset}`);
    }
  }
  assert.ok(readFileSync(file).equals(shadow.subarray(0, size)));
});

/** Up to 250 pieces, odd ones among them; what is left is the last. */
function pieces(random: Random): number[] {
  return Array.from({ length: random.below(250) }, () => 1 + random.below(random.below(4) === 0 ? 8192 : 9));
}

test('WRITE with another size than came along is refused', (t) => {
  const { mount, file, fh } = enterFile(t, 'old');
  for (const size of [0, 3, 5, 4096, 0xffffffff]) {
    const fixed = body(WriteIn, { fh, size });
    mount.guest.ask({ opcode: opcodes.WRITE.code, body: concat(fixed, Buffer.from('new!')) }, EINVAL);
  }
  assert.equal(readFileSync(file, 'utf8'), 'old');
  assert.equal(mount.write(fh, 0, new Uint8Array(0)), 0);
});

test('WRITE beyond the end leaves a hole of zeros', (t) => {
  const { mount, file, fh } = enterFile(t, 'a');
  mount.write(fh, 5_000_000_000, Buffer.from('z'));
  assert.equal(statSync(file).size, 5_000_000_001);
  assert.equal(text(mount.read(fh, 4_999_999_998, 10)), '\0\0z');
  assert.equal(text(mount.read(fh, 0, 3)), 'a\0\0');
});

test('a write with O_APPEND goes to the end, wherever that is by now, also when it was set after the open', (t) => {
  const { mount, path, nodeid } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, 'start');
  const fh = mount.open(mount.lookup(nodeid, 'file').nodeid, O_WRONLY);
  const openFlags = O_WRONLY | O_APPEND;
  assert.equal(mount.write(fh, 0, Buffer.from('-one'), 0, { openFlags }), 4);
  appendFileSync(file, '-host');
  assert.equal(
    mount.write(fh, 2, Buffer.from('-two'), 0, { openFlags, cut: { indirect: false, readable: [41, 40] } }),
    4,
  );
  assert.equal(readFileSync(file, 'utf8'), 'start-one-host-two');
  const created = mount.create(nodeid, 'log', { flags: O_WRONLY | O_APPEND | O_CREAT, mode: 0o600 }).fh;
  for (let i = 0; i < 3; i += 1) mount.write(created, 0, Buffer.from(`${i}`), 0, { openFlags });
  assert.equal(readFileSync(join(path, 'log'), 'utf8'), '012');
});

test('what the page cache of a guest writes back stays in its place, even by a file with O_APPEND', (t) => {
  const { mount, path, nodeid } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, '0123456789');
  const fh = mount.open(mount.lookup(nodeid, 'file').nodeid, O_RDWR | O_APPEND);
  assert.equal(mount.write(fh, 3, Buffer.from('abc'), 0, { cached: true, openFlags: O_RDWR | O_APPEND }), 3);
  assert.equal(readFileSync(file, 'utf8'), '012abc6789');
  mount.write(fh, 0, Buffer.from('!'), 0, { openFlags: O_RDWR | O_APPEND });
  assert.equal(readFileSync(file, 'utf8'), '012abc6789!');
});

test('RELEASE closes a handle once, and only that one', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'x');
  const found = mount.lookup(nodeid, 'file').nodeid;
  const [first, second] = [mount.open(found, O_RDONLY), mount.open(found, O_RDONLY)];
  mount.release(first);
  mount.release(first, EBADF);
  mount.read(first, 0, 1, EBADF);
  assert.equal(text(mount.read(second, 0, 1)), 'x');
  // Whoever gets the slot next is not the one that was released.
  const third = mount.open(found, O_RDONLY);
  assert.notEqual(third, first);
  mount.release(first, EBADF);
  mount.read(first, 0, 1, EBADF);
  assert.equal(text(mount.read(third, 0, 1)), 'x');
});

test('a handle goes on when its file is forgotten and removed', (t) => {
  const { mount, path, nodeid } = enter(t);
  const { entry, fh } = mount.create(nodeid, 'file', { flags: O_RDWR, mode: 0o600 });
  mount.guest.ask({ opcode: opcodes.UNLINK.code, nodeid, body: name('file') });
  mount.forget(entry.nodeid, 1);
  mount.getattr(entry.nodeid, ENOENT);
  mount.write(fh, 1, Buffer.from('ab'));
  assert.equal(text(mount.read(fh, 0, 9)), '\0ab');
  assert.equal(lstatSync(path).nlink, 2);
});

test('FSYNC, with and without times, answers without a body, and FLUSH that there is nothing to do', (t) => {
  const { mount, fh } = enterFile(t, 'x');
  for (const fsyncFlags of [0, flags.FSYNC_IN.FDATASYNC]) {
    assert.equal(
      mount.guest.ask({ opcode: opcodes.FSYNC.code, body: body(FsyncIn, { fh, fsyncFlags }) }).byteLength,
      0,
    );
  }
  for (let i = 0; i < 2; i += 1) mount.guest.ask({ opcode: opcodes.FLUSH.code, body: body(FlushIn, { fh }) }, ENOSYS);
  assert.equal(text(mount.read(fh, 0, 1)), 'x', 'FLUSH is not RELEASE');
});

test('LSEEK finds data and holes where the host has them', (t) => {
  const { mount, file, fh } = enterFile(t);
  const fd = openSync(file, 'r+');
  ftruncateSync(fd, 4 * MIB);
  writeSync(fd, Buffer.alloc(4096, 1), 0, 4096, MIB);
  // Where the file system knows of no holes all is data, and a hole is at the end alone.
  const sparse = lstatSync(file).blocks < 2048;
  closeSync(fd);
  const seek = (offset: bigint, whence: number, errno = 0): number => {
    const request = { opcode: opcodes.LSEEK.code, body: body(LseekIn, { fh, offset, whence }) };
    const reply = mount.guest.ask(request, errno);
    return errno === 0 ? LseekOut.offset(reply, 0) : -1;
  };
  assert.ok(sparse, 'the file system of the temporary directory makes no holes');
  assert.equal(seek(0n, SEEK_DATA), MIB);
  assert.equal(seek(0n, SEEK_HOLE), 0);
  assert.equal(seek(BigInt(MIB), SEEK_HOLE), MIB + 4096);
  assert.equal(seek(BigInt(MIB + 1), SEEK_DATA), MIB + 1);
  assert.equal(seek(0n, SEEK_END), 4 * MIB);
  seek(BigInt(2 * MIB), SEEK_DATA, ENXIO);
  seek(BigInt(4 * MIB), SEEK_HOLE, ENXIO);
  seek(-1n, SEEK_DATA, ENXIO);
  for (const whence of [SEEK_SET, 1, 5, 0xffffffff]) seek(0n, whence, EINVAL);
});

test('FALLOCATE grows, keeps the size when told so, and punches holes', (t) => {
  const { mount, file, fh } = enterFile(t, 'x'.repeat(16384));
  const allocate = (mode: number, offset: bigint, length: bigint, errno = 0): void => {
    const fields = { fh, offset, length, mode };
    mount.guest.ask({ opcode: opcodes.FALLOCATE.code, body: body(FallocateIn, fields) }, errno);
  };
  allocate(0, 0n, 32768n);
  assert.equal(statSync(file).size, 32768);
  allocate(FALLOC_KEEP_SIZE, 0n, 65536n);
  assert.deepEqual([statSync(file).size, statSync(file).blocks >= 128], [32768, true]);
  allocate(FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 4096n, 4096n);
  const content = readFileSync(file);
  assert.ok(content.subarray(4096, 8192).every((byte) => byte === 0));
  assert.equal(content[4095], 0x78);
  assert.equal(content[8192], 0x78);
  allocate(0, 0n, 0n, EINVAL);
  allocate(0, -1n, 10n, EINVAL);
  allocate(0, 0n, 2n ** 63n, EINVAL);
  allocate(0x80, 0n, 10n, EOPNOTSUPP);
  assert.equal(statSync(file).size, 32768);
});

test('a file that the host made read-only after OPEN is still written to', (t) => {
  const { mount, file, fh } = enterFile(t, 'x');
  chmodSync(file, 0o400);
  mount.write(fh, 0, Buffer.from('y'));
  assert.equal(readFileSync(file, 'utf8'), 'y');
});

test('handles of directories are no files, and handles of files no directories', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'x');
  const dir = mount.opendir(nodeid);
  const file = mount.open(mount.lookup(nodeid, 'file').nodeid, O_RDWR);
  mount.read(dir, 0, 10, EBADF);
  mount.write(dir, 0, Buffer.from('x'), EBADF);
  mount.list(nodeid, file, 0n, 4096, false, EBADF);
  mount.list(nodeid, file, 0n, 4096, true, EBADF);
  mount.guest.ask({ opcode: opcodes.FALLOCATE.code, body: body(FallocateIn, { fh: dir, length: 1 }) }, EBADF);
  mount.guest.ask({ opcode: opcodes.LSEEK.code, body: body(LseekIn, { fh: dir, whence: SEEK_DATA }) }, EBADF);
});

test('requests that are in flight together are each answered with their own data', (t) => {
  const { mount, path, nodeid } = enter(t);
  const content = Buffer.from(Uint8Array.from({ length: 65536 }, (_, i) => (i * 7) ^ (i >> 8)));
  writeFileSync(join(path, 'file'), content);
  const fh = mount.open(mount.lookup(nodeid, 'file').nodeid, O_RDWR);
  const offsets = Array.from({ length: 1000 }, (_, i) => (i * 61) % 65000);
  const replies = mount.guest.sendAll(
    offsets.map((offset) => ({ opcode: opcodes.READ.code, body: body(ReadIn, { fh, offset, size: 100 }), room: 100 })),
  );
  for (const [i, { used, error, body: data }] of replies.entries()) {
    assert.deepEqual([used, error], [116, 0]);
    const at = offsets[i];
    assert.ok(Buffer.from(data.buffer, 16, 100).equals(content.subarray(at, at + 100)), `READ at ${at}`);
  }
});

test('a queue of several threads: what one opens, another reads, writes and closes', (t) => {
  const mount = Mount.connect(daemon().socketPath, { requestQueues: 4 });
  t.after(() => mount.guest.close());
  const { path, nodeid } = ownFolder(daemon(), mount);
  const { guest } = mount;
  writeFileSync(join(path, 'file'), 'shared');
  const found = mount.lookup(nodeid, 'file').nodeid;
  const fh = handleOf(
    guest.ask({ opcode: opcodes.OPEN.code, nodeid: found, body: body(opcodes.OPEN.in, { flags: O_RDWR }) }, 0, 2),
  );
  const read = guest.ask({ opcode: opcodes.READ.code, body: body(ReadIn, { fh, size: 9 }), room: 9 }, 0, 3);
  assert.equal(Buffer.from(read.buffer, 16).toString(), 'shared');
  const fixed = body(WriteIn, { fh, size: 1 });
  const written = guest.ask({ opcode: opcodes.WRITE.code, body: concat(fixed, Buffer.from('S')) }, 0, 4);
  assert.equal(WriteOut.size(written, 0), 1);
  mount.release(fh);
  guest.ask({ opcode: opcodes.READ.code, body: body(ReadIn, { fh, size: 9 }), room: 9 }, EBADF, 4);
  assert.equal(readFileSync(join(path, 'file'), 'utf8'), 'Shared');
});
