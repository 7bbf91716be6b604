/** Guests that are told not to send OPEN (cache=always): everything goes by inode. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EBADF, EISDIR, ENOSYS, EROFS } from '../src/core/index.ts';
import {
  CopyFileRangeIn,
  FallocateIn,
  FlushIn,
  FsyncIn,
  InitIn,
  InitOut,
  LseekIn,
  LseekOut,
  flags,
  OpenIn,
  opcodes,
  ReadIn,
  ReleaseIn,
  RenameIn,
  WriteIn,
  WriteOut,
} from '../src/fuse/index.ts';
import { O_APPEND, O_CREAT, O_EXCL, O_NOATIME, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from '../src/sys/index.ts';
import { commonDaemon, TestDaemon } from './daemon.ts';
import { body, bytesOf, concat, listedOf, name } from './fuse.ts';
import type { FuseRequest } from './guest.ts';
import { Mount, ownFolder } from './mount.ts';

const { INIT } = flags;
const ARGS = ['--stay', '--cache', 'always', '--log-level', 'error'];
const LIMIT = 512;
const root = process.geteuid?.() === 0;
const skip = root ? false : 'only a daemon that may open every file goes without OPEN';
const daemon = commonDaemon({ args: ARGS });

interface Entered {
  readonly mount: Mount;
  readonly path: string;
  readonly nodeid: bigint;
  readonly read: (nodeid: bigint, offset?: number, errno?: number) => string;
  readonly write: (nodeid: bigint, offset: number, text: string, openFlags?: number) => number;
}

function enter(t: TestContext, at: TestDaemon = daemon()): Entered {
  const mount = Mount.connect(at.socketPath);
  t.after(() => mount.guest.close());
  const read = (nodeid: bigint, offset = 0, errno = 0): string => {
    const request = { opcode: opcodes.READ.code, nodeid, body: body(ReadIn, { offset, size: 4096 }), room: 4096 };
    return Buffer.from(bytesOf(mount.guest.ask(request, errno))).toString();
  };
  const write = (nodeid: bigint, offset: number, text: string, openFlags = 0): number => {
    const fixed = body(WriteIn, { offset, size: text.length, flags: openFlags });
    return WriteOut.size(
      mount.guest.ask({ opcode: opcodes.WRITE.code, nodeid, body: concat(fixed, Buffer.from(text)) }),
      0,
    );
  };
  return { mount, read, write, ...ownFolder(at, mount) };
}

/** What the daemon's descriptors below a path are open for: 'O_PATH', 'read', 'write'. */
function descriptorsOf(at: TestDaemon, path: string): string[] {
  const folder = `/proc/${at.process.pid}`;
  const found: string[] = [];
  for (const fd of readdirSync(`${folder}/fd`)) {
    try {
      const info = readFileSync(`${folder}/fdinfo/${fd}`, 'utf8');
      if (!info.includes(`ino:\t${statSync(path).ino}\n`)) continue;
      const bits = Number.parseInt(/^flags:\s*(\d+)/m.exec(info)?.[1] ?? '0', 8);
      found.push((bits & 0o10000000) !== 0 ? 'O_PATH' : (bits & 3) === 0 ? 'read' : 'write');
    } catch {
      // Closed meanwhile.
    }
  }
  return found;
}

test('OPEN, OPENDIR and FLUSH are answered that there is no need to ask', { skip }, (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'x');
  const file = mount.lookup(nodeid, 'file').nodeid;
  const ask = (request: FuseRequest): unknown => mount.guest.ask(request, ENOSYS);
  ask({ opcode: opcodes.OPEN.code, nodeid: file, body: body(OpenIn, { flags: O_RDONLY }) });
  ask({ opcode: opcodes.OPENDIR.code, nodeid, body: body(OpenIn, {}) });
  ask({ opcode: opcodes.FLUSH.code, nodeid: file, body: body(FlushIn, {}) });
});

test('a guest that cannot go without OPEN gets handles, and truncation is a request of its own', { skip }, (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'text');
  const init = (bits: number): number => {
    const fields = { major: 7, minor: 41, maxReadahead: 65536, flags: bits };
    const reply = mount.guest.ask({ opcode: opcodes.INIT.code, nodeid: 0, body: body(InitIn, fields) });
    return InitOut.flags(reply, 0);
  };
  assert.equal(init(INIT.NO_OPEN_SUPPORT | INIT.ATOMIC_O_TRUNC), INIT.NO_OPEN_SUPPORT);
  init(INIT.ATOMIC_O_TRUNC);
  const again = ownFolder(daemon(), mount);
  writeFileSync(join(again.path, 'file'), 'text');
  const fh = mount.open(mount.lookup(again.nodeid, 'file').nodeid, O_RDONLY);
  assert.notEqual(fh, 0n);
  assert.equal(Buffer.from(mount.read(fh, 0, 10)).toString(), 'text');
  mount.release(fh);
  mount.releasedir(mount.opendir(again.nodeid));
  assert.ok(nodeid > 0n && path !== '');
});

test('files are read, written, synced, sought in and copied by their inodes', { skip }, (t) => {
  const { mount, path, nodeid, read, write } = enter(t);
  writeFileSync(join(path, 'file'), 'hello');
  const file = mount.lookup(nodeid, 'file').nodeid;
  assert.equal(read(file), 'hello');
  assert.equal(write(file, 5, ' world'), 6);
  assert.equal(read(file, 6), 'world');
  assert.equal(write(file, 0, '!', O_WRONLY | O_APPEND), 1);
  assert.equal(readFileSync(join(path, 'file'), 'utf8'), 'hello world!');
  for (const fsyncFlags of [0, 1]) {
    mount.guest.ask({ opcode: opcodes.FSYNC.code, nodeid: file, body: body(FsyncIn, { fsyncFlags }) });
  }
  mount.guest.ask({ opcode: opcodes.FSYNCDIR.code, nodeid, body: body(FsyncIn, {}) });
  mount.guest.ask({ opcode: opcodes.FALLOCATE.code, nodeid: file, body: body(FallocateIn, { offset: 12, length: 8 }) });
  assert.equal(statSync(join(path, 'file')).size, 20);
  const end = { opcode: opcodes.LSEEK.code, nodeid: file, body: body(LseekIn, { offset: 0, whence: 4 }) };
  assert.equal(LseekOut.offset(mount.guest.ask(end), 0), 20);
  const copy = mount.create(nodeid, 'copy', { flags: O_RDWR | O_CREAT, mode: 0o600 });
  const range = body(CopyFileRangeIn, { offIn: 0, nodeidOut: copy.entry.nodeid, offOut: 0, len: 12 });
  mount.guest.ask({ opcode: opcodes.COPY_FILE_RANGE.code, nodeid: file, body: range });
  assert.equal(readFileSync(join(path, 'copy'), 'utf8'), 'hello world!');
  mount.guest.ask({ opcode: opcodes.RELEASE.code, nodeid: file, body: body(ReleaseIn, {}) });
});

test('directories are listed by their inodes, from any cookie on', { skip }, (t) => {
  const { mount, path, nodeid } = enter(t);
  for (let i = 0; i < 300; i += 1) writeFileSync(join(path, `file${i}`), '');
  for (const { code } of [opcodes.READDIR, opcodes.READDIRPLUS]) {
    const names: string[] = [];
    for (let offset = 0n; ; ) {
      const fixed = body(ReadIn, { offset, size: 4096 });
      const reply = mount.guest.ask({ opcode: code, nodeid, body: fixed, room: 4096 });
      const listed = listedOf(reply, code === opcodes.READDIRPLUS.code);
      if (listed.length === 0) break;
      names.push(...listed.map((entry) => entry.name));
      offset = listed.at(-1)?.next ?? 0n;
    }
    assert.equal(names.length, 302);
    assert.equal(new Set(names).size, 302);
  }
});

test('a file that was created has handle 0, and no handle is kept', { skip }, async (t) => {
  const { mount, path, nodeid, read, write } = enter(t);
  const { handles } = await daemon().gauges();
  const made = mount.create(nodeid, 'new', { flags: O_WRONLY | O_CREAT | O_EXCL, mode: 0o400 });
  assert.equal(made.fh, 0n);
  assert.equal(write(made.entry.nodeid, 0, 'text'), 4, 'a mode without write permission is for other opens');
  writeFileSync(join(path, 'there'), 'to be truncated');
  const existing = mount.create(nodeid, 'there', { flags: O_RDWR | O_CREAT | O_TRUNC, mode: 0o600 });
  assert.equal(existing.fh, 0n);
  assert.equal(read(existing.entry.nodeid), '');
  assert.equal((await daemon().gauges()).handles, handles);
});

test('a file that was read stays open for reading, one that was written does not stay open for writing', {
  skip,
}, (t) => {
  const { mount, path, nodeid, read, write } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, 'hello');
  const found = mount.lookup(nodeid, 'file').nodeid;
  assert.deepEqual(descriptorsOf(daemon(), file), ['O_PATH']);
  write(found, 0, 'J');
  assert.deepEqual(descriptorsOf(daemon(), file), ['O_PATH'], 'the host may execute it');
  assert.equal(read(found), 'Jello');
  assert.equal(read(found), 'Jello');
  assert.deepEqual(descriptorsOf(daemon(), file), ['read']);
});

test('O_NOATIME of the guest counts for each read, where it is allowed', { skip }, async (t) => {
  const other = await TestDaemon.start({ args: [...ARGS, '--preserve-noatime'] });
  t.after(() => other[Symbol.asyncDispose]());
  const { mount, path, nodeid } = enter(t, other);
  const file = join(path, 'file');
  writeFileSync(file, 'hello');
  const found = mount.lookup(nodeid, 'file').nodeid;
  const movesAtime = (openFlags: number): boolean => {
    utimesSync(file, 1, 2);
    const request = { opcode: opcodes.READ.code, nodeid: found, body: body(ReadIn, { size: 9, flags: openFlags }) };
    assert.equal(Buffer.from(bytesOf(mount.guest.ask({ ...request, room: 9 }))).toString(), 'hello');
    return statSync(file).atimeMs !== 1000;
  };
  assert.deepEqual([O_NOATIME, 0, O_NOATIME].map(movesAtime), [false, true, false]);
});

test('a directory is not read as a file, a file not listed, and an inode that was not given not at all', {
  skip,
}, (t) => {
  const { mount, path, nodeid, read } = enter(t);
  mkdirSync(join(path, 'folder'));
  read(mount.lookup(nodeid, 'folder').nodeid, 0, EISDIR);
  read(999n, 0, EBADF);
  writeFileSync(join(path, 'file'), '');
  const file = mount.lookup(nodeid, 'file').nodeid;
  const list = { opcode: opcodes.READDIR.code, nodeid: file, body: body(ReadIn, { size: 4096 }), room: 4096 };
  assert.notEqual(mount.guest.send(list).error, 0);
});

test('a file that is removed while its inode has no descriptor can be read on', { skip }, async (t) => {
  const small = await TestDaemon.start({ args: ARGS, descriptorLimit: LIMIT });
  t.after(() => small[Symbol.asyncDispose]());
  const { mount, path, nodeid, read } = enter(t, small);
  const kept = ['removed', 'replaced'].map((each) => {
    writeFileSync(join(path, each), each);
    return mount.lookup(nodeid, each).nodeid;
  });
  for (let i = 0; i < LIMIT; i += 1) {
    writeFileSync(join(path, `other${i}`), '');
    mount.lookup(nodeid, `other${i}`);
  }
  assert.deepEqual(descriptorsOf(small, join(path, 'removed')), []);
  mount.guest.ask({ opcode: opcodes.UNLINK.code, nodeid, body: name('removed') });
  const names = concat(name('other0'), name('replaced'));
  const replace = concat(body(RenameIn, { newdir: nodeid }), names);
  mount.guest.ask({ opcode: opcodes.RENAME.code, nodeid, body: replace });
  for (let i = 0; i < 2 * LIMIT; i += 1) mount.lookup(nodeid, `other${1 + (i % (LIMIT - 1))}`);
  assert.deepEqual(
    kept.map((each) => read(each)),
    ['removed', 'replaced'],
  );
});

test('a share that nothing may be changed in keeps OPEN, which is where that is said', async (t) => {
  const readonly = await TestDaemon.start({ args: [...ARGS, '--readonly'] });
  t.after(() => readonly[Symbol.asyncDispose]());
  writeFileSync(join(readonly.share, 'file'), 'x');
  const mount = Mount.connect(readonly.socketPath);
  t.after(() => mount.guest.close());
  const { nodeid } = mount.lookup(1n, 'file');
  mount.open(nodeid, O_RDWR, EROFS);
  assert.notEqual(mount.open(nodeid, O_RDONLY), 0n);
});
