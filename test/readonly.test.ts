/** A daemon with --readonly: no guest changes anything. */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { EROFS } from '../src/core/index.ts';
import { flags, opcodes } from '../src/fuse/index.ts';
import { O_APPEND, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from '../src/sys/index.ts';
import { TestDaemon } from './daemon.ts';
import { body, concat, type Fields, name } from './fuse.ts';
import { Mount, ROOT } from './mount.ts';

/** Everything that can be seen of a tree from outside. */
function picture(path: string): unknown {
  const { mode, uid, gid, size, mtimeMs, ctimeMs, nlink } = lstatSync(path);
  const inside = lstatSync(path).isDirectory()
    ? readdirSync(path).map((each) => [each, picture(join(path, each))])
    : readFileSync(path, 'utf8');
  return { mode, uid, gid, size, mtimeMs, ctimeMs, nlink, inside };
}

test('a read-only daemon refuses every change with EROFS, and serves all the rest', async () => {
  const share = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  writeFileSync(join(share, 'file'), 'content', { mode: 0o666 });
  mkdirSync(join(share, 'dir'));
  writeFileSync(join(share, 'dir', 'inner'), 'x');
  const before = picture(share);
  await using daemon = await TestDaemon.start({ share, args: ['--readonly', '--log-level', 'error'] });
  using mount = Mount.connect(daemon.socketPath);
  const file = mount.lookup(ROOT, 'file').nodeid;
  const dir = mount.lookup(ROOT, 'dir').nodeid;
  const fh = mount.open(file, O_RDONLY);

  const refused = (
    { code, in: fixed }: { code: number; in: (typeof opcodes.MKDIR)['in'] },
    nodeid: bigint,
    fields: Fields,
    ...rest: Uint8Array[]
  ): void => {
    const start = fixed === null ? new Uint8Array(0) : body(fixed, fields);
    mount.guest.ask({ opcode: code, nodeid, body: concat(start, ...rest) }, EROFS);
  };
  refused(opcodes.CREATE, ROOT, { flags: O_RDONLY, mode: 0o644 }, name('new'));
  refused(opcodes.CREATE, ROOT, { flags: O_RDONLY, mode: 0o644 }, name('file'));
  refused(opcodes.MKDIR, ROOT, { mode: 0o755 }, name('new'));
  refused(opcodes.MKNOD, ROOT, { mode: 0o100644 }, name('new'));
  refused(opcodes.SYMLINK, ROOT, {}, name('new'), name('target'));
  refused(opcodes.LINK, ROOT, { oldnodeid: file }, name('new'));
  refused(opcodes.UNLINK, ROOT, {}, name('file'));
  refused(opcodes.RMDIR, ROOT, {}, name('dir'));
  refused(opcodes.RENAME, ROOT, { newdir: dir }, name('file'), name('file'));
  refused(opcodes.RENAME2, ROOT, { newdir: ROOT, flags: 2 }, name('file'), name('dir'));
  for (const valid of [flags.FATTR.MODE, flags.FATTR.SIZE, flags.FATTR.MTIME | flags.FATTR.MTIME_NOW]) {
    refused(opcodes.SETATTR, file, { valid, mode: 0o600, size: 0 });
  }
  refused(opcodes.WRITE, file, { fh, size: 1 }, Buffer.from('y'));
  refused(opcodes.TMPFILE, ROOT, { flags: O_RDWR, mode: 0o644 }, name('/'));
  refused(opcodes.COPY_FILE_RANGE, file, { fhIn: fh, fhOut: fh, len: 1 });
  refused(opcodes.ACCESS, file, { mask: 2 });
  refused(opcodes.FALLOCATE, file, { fh, length: 10 });
  for (const openFlags of [O_WRONLY, O_RDWR, O_WRONLY | O_APPEND, O_RDONLY | O_TRUNC, 3]) {
    mount.open(file, openFlags, EROFS);
  }

  assert.equal(Buffer.from(mount.read(fh, 0, 100)).toString(), 'content');
  assert.equal(mount.listAll(dir, 4096, true).length, 3);
  mount.getattr(file);
  mount.guest.ask({ opcode: opcodes.STATFS.code });
  mount.guest.ask({ opcode: opcodes.FSYNC.code, body: body(opcodes.FSYNC.in, { fh }) });
  mount.release(fh);
  assert.deepEqual(picture(share), before);
  rmSync(share, { recursive: true });
});
