/** IOCTL: attributes of files as chattr(1) sets them, and fs-verity, over a real connection. */
import assert from 'node:assert/strict';
import { chownSync, closeSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EBADF, EINVAL, ENOTTY, EPERM, EROFS } from '../src/core/index.ts';
import { flags, IoctlIn, IoctlOut, opcodes, PollIn } from '../src/fuse/index.ts';
import { Arena, ioctl, O_APPEND, O_RDONLY, O_RDWR, O_WRONLY } from '../src/sys/index.ts';
import { commonDaemon, TestDaemon } from './daemon.ts';
import { body, bytesOf, concat, words } from './fuse.ts';
import { Mount, ownFolder, ROOT } from './mount.ts';

const GETFLAGS = 0x80086601;
const SETFLAGS = 0x40086602;
const GETFLAGS_32 = 0x80046601;
const SETFLAGS_32 = 0x40046602;
const FSGETXATTR = 0x801c581f;
const FSSETXATTR = 0x401c5820;
const ENABLE_VERITY = 0x40806685;
const MEASURE_VERITY = 0xc0046686;
const READ_VERITY_METADATA = 0xc0286687;
const FIFREEZE = 0xc0045877;
const FICLONE = 0x40049409;
const FS_IOC_GETVERSION = 0x80087601;

const FS_APPEND_FL = 0x20;
const FS_IMMUTABLE_FL = 0x10;
const FS_NODUMP_FL = 0x40;
const FS_NOATIME_FL = 0x80;
/** What a test changes; ext4 has flags of its own, which stay. */
const CHANGED = FS_APPEND_FL | FS_IMMUTABLE_FL | FS_NODUMP_FL | FS_NOATIME_FL;
const FS_XFLAG_NODUMP = 0x80;

const daemon = commonDaemon({ args: ['--stay', '--log-level', 'error'] });
const arena = new Arena(4096);

/** The host's own view of a file's flags, or a negative errno. */
function hostFlags(path: string): number {
  const fd = openSync(path, 'r');
  const result = ioctl(fd, GETFLAGS, arena.address);
  closeSync(fd);
  return result < 0 ? result : arena.u32[0];
}

function setHostFlags(path: string, change: (now: number) => number): void {
  const fd = openSync(path, 'r');
  assert.ok(ioctl(fd, GETFLAGS, arena.address) >= 0);
  arena.u32[0] = change(arena.u32[0]);
  assert.equal(ioctl(fd, SETFLAGS, arena.address), 0, 'setting a flag on the host');
  closeSync(fd);
}

interface Stage {
  readonly mount: Mount;
  readonly path: string;
  readonly folder: bigint;
  readonly file: bigint;
}

function enter(t: TestContext): Stage | undefined {
  const mount = Mount.connect(daemon().socketPath, { indirectEntries: 512 });
  t.after(() => mount.guest.close());
  const { path: own, nodeid: folder } = ownFolder(daemon(), mount);
  const path = join(own, 'file');
  writeFileSync(path, 'content');
  if (hostFlags(path) < 0) {
    t.skip('the file system of the temporary directory has no file attributes');
    return undefined;
  }
  t.after(() => setHostFlags(path, (now) => now & ~CHANGED));
  return { mount, path, folder, file: mount.lookup(folder, 'file').nodeid };
}

interface Call {
  readonly cmd: number;
  readonly nodeid?: bigint;
  readonly fh?: bigint;
  readonly flags?: number;
  readonly data?: Uint8Array;
  readonly outSize?: number;
  readonly inSize?: number;
  readonly uid?: number;
  readonly room?: number;
}

/** What comes behind fuse_ioctl_out. */
function ask({ guest }: Mount, call: Call, errno = 0): Uint8Array {
  const { cmd, fh = 0n, data = new Uint8Array(0), outSize = 0, inSize = data.length } = call;
  const fixed = body(IoctlIn, { fh, flags: call.flags ?? 0, cmd, inSize, outSize });
  const { nodeid, uid, room = IoctlOut.bytes + outSize } = call;
  const reply = guest.ask(
    { opcode: opcodes.IOCTL.code, nodeid, uid, gid: uid, body: concat(fixed, data), room },
    errno,
  );
  if (errno !== 0) return new Uint8Array(0);
  assert.deepEqual(bytesOf(reply).subarray(0, IoctlOut.bytes), new Uint8Array(IoctlOut.bytes));
  return bytesOf(reply).subarray(IoctlOut.bytes);
}

const word = (bytes: Uint8Array): number => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);

test('flags are read and set as chattr does it, on files and directories', (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  const { mount, path, folder, file } = stage;
  const fh = mount.open(file, O_RDONLY);
  const now = word(ask(mount, { cmd: GETFLAGS, nodeid: file, fh, outSize: 4 }));
  assert.equal(now, hostFlags(path));
  ask(mount, { cmd: SETFLAGS, nodeid: file, fh, data: words(now | FS_NODUMP_FL) });
  assert.equal(hostFlags(path), now | FS_NODUMP_FL);
  // Kernels before 5.13 go by the number of the command, which says 8 bytes; 32-bit programs have numbers of their own.
  assert.deepEqual(ask(mount, { cmd: GETFLAGS, nodeid: file, fh, outSize: 8 }), words(now | FS_NODUMP_FL));
  ask(mount, { cmd: SETFLAGS, nodeid: file, fh, data: words(now | FS_NOATIME_FL, 0xffffffff) });
  assert.equal(word(ask(mount, { cmd: GETFLAGS_32, nodeid: file, fh, outSize: 4 })), now | FS_NOATIME_FL);
  ask(mount, { cmd: SETFLAGS_32, nodeid: file, fh, data: words(now) });
  assert.equal(hostFlags(path), now);
  mount.release(fh);

  const { DIR } = flags.IOCTL_IN;
  const dir = mount.opendir(folder);
  const before = word(ask(mount, { cmd: GETFLAGS, nodeid: folder, fh: dir, flags: DIR, outSize: 4 }));
  ask(mount, { cmd: SETFLAGS, nodeid: folder, fh: dir, flags: DIR, data: words(before | FS_NODUMP_FL) });
  assert.equal(hostFlags(join(path, '..')), before | FS_NODUMP_FL);
  mount.releasedir(dir);
});

test('without a handle the node is meant; a handle that was never given is refused', (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  const { mount, path, folder, file } = stage;
  for (const nodeid of [file, folder]) ask(mount, { cmd: GETFLAGS, nodeid, outSize: 4 });
  assert.equal(word(ask(mount, { cmd: GETFLAGS, nodeid: file, outSize: 4 })), hostFlags(path));
  mount.mknod(folder, 'fifo', { mode: 0o010600 });
  ask(mount, { cmd: GETFLAGS, nodeid: mount.lookup(folder, 'fifo').nodeid, outSize: 4 }, ENOTTY);
  ask(mount, { cmd: GETFLAGS, nodeid: 4711n, outSize: 4 }, EBADF);
  ask(mount, { cmd: GETFLAGS, nodeid: file, fh: 4711n, outSize: 4 }, EBADF);
});

test('the extended form carries project ids and what else struct fsxattr has', (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  const { mount, path, file } = stage;
  const attributes = ask(mount, { cmd: FSGETXATTR, nodeid: file, outSize: 28 });
  assert.equal(attributes.length, 28);
  const changed = Uint8Array.from(attributes);
  changed[0] |= FS_XFLAG_NODUMP;
  ask(mount, { cmd: FSSETXATTR, nodeid: file, data: changed });
  assert.notEqual(hostFlags(path) & FS_NODUMP_FL, 0);
  assert.deepEqual(ask(mount, { cmd: FSGETXATTR, nodeid: file, outSize: 28 }), changed);
});

test('only the owner changes flags, and only root those that bind the owner, whatever a guest checks', (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  if (process.getuid?.() !== 0) {
    t.skip('changing owners and immutable flags takes root');
    return;
  }
  const { mount, path, file: nodeid } = stage;
  chownSync(path, 1234, 1234);
  const now = hostFlags(path);
  const set = (bits: number, uid: number, errno = 0): unknown =>
    ask(mount, { cmd: SETFLAGS, nodeid, data: words(bits), uid }, errno);
  set(now | FS_NODUMP_FL, 1234);
  set(now, 99, EPERM);
  set(now | FS_NODUMP_FL | FS_IMMUTABLE_FL, 1234, EPERM);
  const xattr = ask(mount, { cmd: FSGETXATTR, nodeid, outSize: 28 });
  ask(mount, { cmd: FSSETXATTR, nodeid, data: xattr, uid: 1234 });
  xattr[0] |= 0x10;
  ask(mount, { cmd: FSSETXATTR, nodeid, data: xattr, uid: 1234 }, EPERM);
  assert.equal(hostFlags(path), now | FS_NODUMP_FL);
  set(now | FS_IMMUTABLE_FL, 0);
  mount.open(nodeid, O_WRONLY, EPERM);
  set(now, 1234, EPERM);
  // With ALLOW_IDMAP a guest does not tell who asks: its kernel has decided.
  set(now, 0xffffffff);
  assert.equal(hostFlags(path), now);
});

test('an append-only file is appended to, whatever the offset, and pages of a cache end up in their places', (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  if (process.getuid?.() !== 0) {
    t.skip('append-only flags take root');
    return;
  }
  const { mount, path, file } = stage;
  setHostFlags(path, (now) => now | FS_APPEND_FL);
  for (const openFlags of [O_WRONLY, O_RDWR]) mount.open(file, openFlags, EPERM);
  const fh = mount.open(file, O_WRONLY | O_APPEND);
  assert.equal(mount.write(fh, 0, Buffer.from(', more')), 6);
  assert.equal(readFileSync(path, 'utf8'), 'content, more');
  const page = Buffer.from('content, more, and more');
  assert.equal(mount.write(fh, 0, page, 0, { cached: true }), page.length);
  assert.equal(readFileSync(path, 'utf8'), 'content, more, and more');
  assert.equal(mount.write(fh, 0, page, 0, { cached: true }), page.length, 'all of it is there already');
  assert.equal(readFileSync(path, 'utf8'), 'content, more, and more');
  mount.write(fh, 100, page, EPERM, { cached: true });
  mount.release(fh);
});

test('every other command is none, and the way in which a server reads the memory of programs is not served', (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  const { mount, file: nodeid } = stage;
  for (const cmd of [FIFREEZE, FICLONE, FS_IOC_GETVERSION, READ_VERITY_METADATA, 0, 0xffffffff, 0x5401]) {
    ask(mount, { cmd, nodeid, data: new Uint8Array(8), outSize: 64 }, ENOTTY);
  }
  ask(mount, { cmd: GETFLAGS, nodeid, outSize: 4, flags: flags.IOCTL_IN.UNRESTRICTED }, ENOTTY);
});

test('sizes that do not fit the command or the request are refused', (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  const { mount, file: nodeid } = stage;
  const refused = (call: Call): unknown => ask(mount, { nodeid, ...call }, EINVAL);
  refused({ cmd: GETFLAGS, outSize: 3 });
  refused({ cmd: GETFLAGS, outSize: 4096, room: 64 });
  refused({ cmd: GETFLAGS, outSize: 0xffffffff, room: 64 });
  refused({ cmd: FSGETXATTR, outSize: 27 });
  refused({ cmd: SETFLAGS, data: new Uint8Array(3) });
  refused({ cmd: SETFLAGS, data: new Uint8Array(4), inSize: 8 });
  refused({ cmd: SETFLAGS, data: new Uint8Array(8), inSize: 4 });
  refused({ cmd: FSSETXATTR, data: new Uint8Array(27) });
  refused({ cmd: MEASURE_VERITY, data: new Uint8Array(3), outSize: 64 });
  refused({ cmd: MEASURE_VERITY, data: Uint8Array.of(0, 0, 61, 0), outSize: 64 });
  refused({ cmd: ENABLE_VERITY, data: new Uint8Array(127) });
  for (const at of [12, 24]) {
    const argument = new Uint8Array(128);
    argument.fill(0xff, at, at + 4);
    refused({ cmd: ENABLE_VERITY, data: argument });
  }
});

test('fs-verity reaches the host, and only from who may write the file', (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  const { mount, path, file: nodeid } = stage;
  // A version that there is none of: a host with fs-verity says EINVAL, one without it ENOTTY or EOPNOTSUPP.
  const fd = openSync(path, 'r');
  const enable = -ioctl(fd, ENABLE_VERITY, new Arena(4096).address);
  const measure = -ioctl(fd, MEASURE_VERITY, new Arena(4096).address);
  closeSync(fd);
  const argument = (salt: number, sig: number): Uint8Array => {
    const bytes = new Uint8Array(128 + salt + sig);
    new DataView(bytes.buffer).setUint32(12, salt, true);
    new DataView(bytes.buffer).setUint32(24, sig, true);
    return bytes;
  };
  ask(mount, { cmd: ENABLE_VERITY, nodeid, data: argument(0, 0), uid: 0 }, enable);
  ask(mount, { cmd: ENABLE_VERITY, nodeid, data: argument(16, 100), uid: 0 }, enable);
  ask(mount, { cmd: ENABLE_VERITY, nodeid, data: argument(0, 0), uid: 4321 }, EPERM);
  ask(mount, { cmd: ENABLE_VERITY, nodeid, data: argument(0, 0), uid: 0xffffffff }, EPERM);
  ask(mount, { cmd: MEASURE_VERITY, nodeid, data: Uint8Array.of(0, 0, 32, 0), outSize: 36 }, measure);
});

test('a read-only daemon tells flags and changes none', async (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  await using readonly = await TestDaemon.start({ args: ['--readonly', '--log-level', 'error'] });
  using mount = Mount.connect(readonly.socketPath);
  mkdirSync(join(readonly.share, 'dir'));
  const { nodeid } = mount.lookup(ROOT, 'dir');
  const data = ask(mount, { cmd: GETFLAGS, nodeid, outSize: 4 });
  ask(mount, { cmd: SETFLAGS, nodeid, data }, EROFS);
  ask(mount, { cmd: FSSETXATTR, nodeid, data: new Uint8Array(28) }, EROFS);
  ask(mount, { cmd: ENABLE_VERITY, nodeid, data: new Uint8Array(128) }, EROFS);
  rmSync(join(readonly.share, 'dir'), { recursive: true });
});

test('POLL and BMAP are not served: a file is always ready, and its blocks are the business of the host', (t) => {
  const stage = enter(t);
  if (stage === undefined) return;
  const { mount, file: nodeid } = stage;
  const ENOSYS = 38;
  const fh = mount.open(nodeid, O_RDONLY);
  mount.guest.ask({ opcode: opcodes.POLL.code, nodeid, body: body(PollIn, { fh, events: 1 }) }, ENOSYS);
  mount.guest.ask({ opcode: opcodes.BMAP.code, nodeid, body: new Uint8Array(16) }, ENOSYS);
  mount.release(fh);
});
