/** A host disk that is full, small or read-only: what it says reaches the guest, and what it acknowledged is there. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EDQUOT, EFBIG, ENOSPC, EROFS } from '../src/core/index.ts';
import { flags, opcodes, WriteIn, WriteOut } from '../src/fuse/index.ts';
import { O_RDONLY, O_RDWR, O_WRONLY } from '../src/sys/index.ts';
import { TestDaemon } from './daemon.ts';
import { body, concat, name } from './fuse.ts';
import { mountableFolder, mountOver, run } from './host-mounts.ts';
import { Mount, ROOT } from './mount.ts';

const MIB = 1 << 20;
/** No number of blocks, so that the disk is full within one. */
const PIECE = 1_000_000;

const EXT4 = ['mkfs.ext4', '-q', '-m', '0'];

interface Stage {
  /** A small file system of its own, which is shared. */
  readonly share: string;
  readonly guest: Mount;
}

/** A small file system that is shared; undefined, and the test skipped, where there is none to be had. */
async function enter(t: TestContext, mkfs = EXT4, sizeMib = 8, options = 'loop'): Promise<Stage | undefined> {
  const folder = mountableFolder(t);
  if (folder === undefined) return undefined;
  const image = join(folder, 'image');
  const share = join(folder, 'share');
  mkdirSync(share);
  closeSync(openSync(image, 'w'));
  truncateSync(image, sizeMib * MIB);
  try {
    run(mkfs[0], ...mkfs.slice(1), image);
    mountOver(share, '-o', options, image);
  } catch (error) {
    t.skip(`no small disk (${mkfs[0]}, loop devices, mount -o ${options}): ${(error as Error).message}`);
    return undefined;
  }
  const daemon = await TestDaemon.start({ share, args: ['--log-level', 'error'] });
  t.after(() => daemon[Symbol.asyncDispose]());
  const guest = Mount.connect(daemon.socketPath, { indirectEntries: 512 });
  t.after(() => guest.guest.close());
  return { share, guest };
}

/** Bytes that are what they are only where they are. */
function pattern(from: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 4) bytes.writeUInt32LE(from + at, at);
  return bytes;
}

/** Writes until the disk is full. The bytes that were acknowledged, and those of the WRITE that was done in part. */
function fill({ guest }: Stage, fh: bigint): { acknowledged: number; last: number } {
  let acknowledged = 0;
  let last = 0;
  for (;;) {
    const data = pattern(acknowledged, PIECE);
    const fixed = body(WriteIn, { fh, offset: acknowledged, size: data.length });
    const { error, body: reply } = guest.guest.send({ opcode: opcodes.WRITE.code, body: concat(fixed, data) });
    if (error !== 0) {
      assert.equal(error, -ENOSPC);
      return { acknowledged, last };
    }
    last = WriteOut.size(reply, 0);
    acknowledged += last;
  }
}

test('a disk that is full in the middle of a write: the part that fits is reported, and is there', async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  const { share, guest } = stage;
  const { fh } = guest.create(ROOT, 'big', { flags: O_RDWR, mode: 0o644 });
  const { acknowledged, last } = fill(stage, fh);
  assert.ok(acknowledged > MIB && acknowledged < 8 * MIB, `${acknowledged} bytes`);
  assert.ok(last > 0 && last < PIECE, `the last write put ${last} bytes down`);
  guest.guest.ask({ opcode: opcodes.FSYNC.code, body: body(opcodes.FSYNC.in, { fh }) });
  assert.equal(statSync(join(share, 'big')).size, acknowledged);
  assert.ok(readFileSync(join(share, 'big')).equals(pattern(0, acknowledged).subarray(0, acknowledged)));
  assert.ok(Buffer.from(guest.read(fh, acknowledged - last, 4096)).equals(pattern(acknowledged - last, 4096)));
  guest.guest.ask(
    { opcode: opcodes.FALLOCATE.code, body: body(opcodes.FALLOCATE.in, { fh, offset: acknowledged, length: MIB }) },
    ENOSPC,
  );
  // Room comes from the guest itself, or from the host, and the same handle goes on.
  guest.setattr(guest.lookup(ROOT, 'big').nodeid, { valid: flags.FATTR.SIZE, size: acknowledged - 2 * MIB });
  assert.equal(guest.write(fh, acknowledged - 2 * MIB, pattern(0, MIB)), MIB);
  writeFileSync(join(share, 'filler'), Buffer.alloc(MIB / 2));
  assert.ok(fill(stage, fh).acknowledged > 0);
  unlinkSync(join(share, 'filler'));
  run('sync', '-f', share);
  assert.ok(guest.write(fh, 8 * MIB, pattern(0, MIB / 4)) > 0);
});

test("pages of a guest's cache are written whole or not acknowledged", async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  const { guest } = stage;
  const { fh } = guest.create(ROOT, 'big', { flags: O_RDWR, mode: 0o644 });
  let offset = 0;
  const data = pattern(0, PIECE);
  const write = (): number => {
    const fixed = body(WriteIn, { fh, offset, size: data.length, writeFlags: flags.WRITE_IN.CACHE });
    const { error, body: reply } = guest.guest.send({ opcode: opcodes.WRITE.code, body: concat(fixed, data) });
    if (error === 0) assert.equal(WriteOut.size(reply, 0), PIECE, 'the guest does not look at how many bytes it were');
    return error;
  };
  while (write() === 0) offset += PIECE;
  assert.equal(write(), -ENOSPC);
  assert.ok(offset >= PIECE);
});

test('names that do not fit are refused with ENOSPC, and all goes on when there is room again', async (t) => {
  const stage = await enter(t, [...EXT4, '-N', '32']);
  if (stage === undefined) return;
  const { share, guest } = stage;
  const made: string[] = [];
  for (let error = 0; error === 0; ) {
    const entry = `${made.length}`;
    const request = concat(body(opcodes.CREATE.in, { flags: O_WRONLY, mode: 0o644 }), name(entry));
    ({ error } = guest.guest.send({ opcode: opcodes.CREATE.code, body: request }));
    if (error === 0) made.push(entry);
    else assert.equal(error, -ENOSPC);
  }
  assert.ok(made.length > 5 && made.length < 32);
  guest.mkdir(ROOT, 'dir', 0o755, ENOSPC);
  guest.symlink(ROOT, 'link', 'target', ENOSPC);
  guest.mknod(ROOT, 'fifo', { mode: 0o010644 }, ENOSPC);
  unlinkSync(join(share, made[0]));
  // The guest knows the file, open: its inode is gone when that is.
  guest.guest.ask({ opcode: opcodes.DESTROY.code, nodeid: 0 });
  guest.guest.init();
  guest.mkdir(ROOT, 'dir');
  guest.symlink(ROOT, 'link', 'target', ENOSPC);
});

test('a file that would be too large for the host is refused with EFBIG', async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  const { guest } = stage;
  const { entry, fh } = guest.create(ROOT, 'file', { flags: O_RDWR, mode: 0o644 });
  guest.write(fh, 2 ** 52, Buffer.from('x'), EFBIG);
  guest.setattr(entry.nodeid, { valid: flags.FATTR.SIZE, size: 2 ** 52 }, EFBIG);
  guest.write(fh, 0, Buffer.from('x'));
});

test('a host file system that turns read-only says so, and is read on', async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  const { share, guest } = stage;
  writeFileSync(join(share, 'file'), 'content');
  const { nodeid } = guest.lookup(ROOT, 'file');
  run('mount', '-o', 'remount,ro', share);
  guest.open(nodeid, O_RDWR, EROFS);
  guest.create(ROOT, 'new', { flags: O_RDWR, mode: 0o644 }, EROFS);
  guest.mkdir(ROOT, 'new', 0o755, EROFS);
  guest.setattr(nodeid, { valid: flags.FATTR.MODE, mode: 0o600 }, EROFS);
  guest.setattr(nodeid, { valid: flags.FATTR.SIZE, size: 0 }, EROFS);
  guest.guest.ask({ opcode: opcodes.UNLINK.code, body: name('file') }, EROFS);
  const fh = guest.open(nodeid, O_RDONLY);
  assert.equal(Buffer.from(guest.read(fh, 0, 100)).toString(), 'content');
  guest.release(fh);
  run('mount', '-o', 'remount,rw', share);
  guest.release(guest.open(nodeid, O_RDWR));
});

/** Writes 2 MiB into a new file, where the host allows 1. */
function exceedQuota({ guest }: Stage, folder: bigint): void {
  const { fh } = guest.create(folder, 'file', { flags: O_RDWR, mode: 0o644 });
  let error = 0;
  let acknowledged = 0;
  for (; error === 0 && acknowledged < 2 * MIB; ) {
    const fixed = body(WriteIn, { fh, offset: acknowledged, size: MIB / 4 });
    const data = pattern(acknowledged, MIB / 4);
    const reply = guest.guest.send({ opcode: opcodes.WRITE.code, body: concat(fixed, data) });
    error = reply.error;
    if (error === 0) acknowledged += WriteOut.size(reply.body, 0);
  }
  assert.equal(error, -EDQUOT);
  for (let at = 0; at < acknowledged; at += MIB / 4) {
    const length = Math.min(MIB / 4, acknowledged - at);
    assert.ok(Buffer.from(guest.read(fh, at, length)).equals(pattern(at, MIB / 4).subarray(0, length)));
  }
  guest.release(fh);
}

function lacks(t: TestContext, ...programs: string[]): boolean {
  const missing = programs.filter((each) => spawnSync(each, ['--version']).error !== undefined);
  if (missing.length > 0) t.skip(`setting a limit takes ${missing.join(' and ')}`);
  return missing.length > 0;
}

test('a project quota of the host is reported as EDQUOT, and counted by the project of the directory', async (t) => {
  if (lacks(t, 'setquota', 'chattr')) return;
  const stage = await enter(t, ['mkfs.ext4', '-q', '-O', 'quota,project'], 8, 'loop,prjquota');
  if (stage === undefined) return;
  const { share, guest } = stage;
  mkdirSync(join(share, 'project'));
  run('chattr', '+P', '-p', '42', join(share, 'project'));
  run('setquota', '-P', '42', '0', '1024', '0', '0', share);
  exceedQuota(stage, guest.lookup(ROOT, 'project').nodeid);
});

test('a quota of a btrfs subvolume is reported as EDQUOT', async (t) => {
  if (lacks(t, 'mkfs.btrfs', 'btrfs')) return;
  const stage = await enter(t, ['mkfs.btrfs', '-q'], 128);
  if (stage === undefined) return;
  const { share, guest } = stage;
  run('btrfs', 'quota', 'enable', share);
  run('btrfs', 'subvolume', 'create', join(share, 'project'));
  run('btrfs', 'qgroup', 'limit', '1M', join(share, 'project'));
  const { nodeid, attributes } = guest.lookup(ROOT, 'project');
  assert.equal(attributes.flags, 1n, 'a subvolume has a device number of its own, as a mount has');
  exceedQuota(stage, nodeid);
});
