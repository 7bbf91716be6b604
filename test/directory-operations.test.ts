/** Every operation on open directories, over a real connection, checked against the host's directory. */
import assert from 'node:assert/strict';
import {
  closeSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EBADF, EINVAL, ENOTDIR } from '../src/core/index.ts';
import { EntryOut, FsyncIn, OpenIn, OpenOut, opcodes } from '../src/fuse/index.ts';
import { commonDaemon, TestDaemon } from './daemon.ts';
import { body, type Listed, name as nameOf } from './fuse.ts';
import { Mount, ownFolder, ROOT } from './mount.ts';

const ENTRIES = 5000;
const DT_DIR = 4;
const DT_REG = 8;
const DT_LNK = 10;
/** The largest READDIR of a Linux guest with 1 MiB requests. */
const MIB = 1024 * 1024;

const daemon = commonDaemon({ args: ['--stay', '--log-level', 'error'] });

/** A guest of its own for a test, and a directory of its own. */
function enter(t: TestContext): { mount: Mount; path: string; nodeid: bigint } {
  const mount = Mount.connect(daemon().socketPath);
  t.after(() => mount.guest.close());
  return { mount, ...ownFolder(daemon(), mount) };
}

/** Files with names of many lengths; their names, sorted. */
function fill(path: string, count: number): string[] {
  const names = Array.from({ length: count }, (_, i) => `${i}-`.padEnd(2 + ((i * 37) % 250), 'n'));
  for (const each of names) closeSync(openSync(join(path, each), 'w'));
  return names.toSorted();
}

/** Names without '.' and '..', sorted. */
function namesOf(listed: readonly Listed[]): string[] {
  const names = listed.map((each) => each.name).filter((each) => each !== '.' && each !== '..');
  return names.toSorted();
}

test('READDIR lists inodes and types, with the dots', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), '');
  mkdirSync(join(path, 'dir'));
  symlinkSync('x', join(path, 'link'));
  const listed = mount.listAll(nodeid);
  assert.deepEqual(listed.map((each) => each.name).toSorted(), ['.', '..', 'dir', 'file', 'link']);
  const types: Record<string, number> = { file: DT_REG, dir: DT_DIR, link: DT_LNK, '.': DT_DIR, '..': DT_DIR };
  for (const each of listed) {
    assert.equal(each.type, types[each.name], each.name);
    if (each.name !== '..') assert.equal(each.ino, lstatSync(join(path, each.name), { bigint: true }).ino, each.name);
  }
});

test('READDIR gives every name of a large directory once, whatever the size of the replies', (t) => {
  const { mount, path, nodeid } = enter(t);
  const names = fill(path, ENTRIES);
  for (const size of [288, 4096, 32768, MIB]) {
    assert.deepEqual(namesOf(mount.listAll(nodeid, size)), names, `replies of ${size} bytes`);
  }
});

test('READDIRPLUS gives every name of a large directory once, with its attributes, and counts a lookup', async (t) => {
  const { mount, path, nodeid } = enter(t);
  const names = fill(path, ENTRIES);
  const listed = mount.listAll(nodeid, 16384, true);
  assert.deepEqual(namesOf(listed), names);
  for (const { name, ino, entry } of listed) {
    assert.ok(entry);
    if (name === '.' || name === '..') {
      assert.equal(entry.nodeid, 0n, 'the dots are not looked up');
      continue;
    }
    const stat = lstatSync(join(path, name), { bigint: true });
    assert.deepEqual([ino, entry.attributes.ino, entry.attributes.mode], [stat.ino, stat.ino, stat.mode]);
    assert.equal(entry.attributes.mtimeNs, stat.mtimeNs);
  }
  const known = listed.map((each) => each.entry?.nodeid ?? 0n).filter((each) => each !== 0n);
  assert.equal(new Set(known).size, ENTRIES);
  assert.equal((await daemon().gauges()).inodes, ENTRIES + 2);
  for (let i = 0; i < known.length; i += 500) {
    mount.batchForget(...known.slice(i, i + 500).map((each) => ({ nodeid: each, nlookup: 1 })));
  }
  assert.equal((await daemon().gauges()).inodes, 2, 'the root and the directory');
});

test('a listing goes on from any cookie, forwards and backwards, with another handle too', (t) => {
  const { mount, path, nodeid } = enter(t);
  fill(path, 600);
  const all = mount.listAll(nodeid, 4096);
  assert.ok(all.every((each) => each.next > 0n && each.next < 2n ** 63n));
  const order = all.map((each) => each.name);
  const fh = mount.opendir(nodeid);
  const places = [599, 0, 300, 301, 17, 600, 450, 449, 1];
  for (const at of places) {
    const expected = order.slice(at + 1);
    for (const plus of [false, true]) {
      for (const handle of [fh, mount.opendir(nodeid)]) {
        const some = mount.list(nodeid, handle, all[at].next, 2048, plus).map((each) => each.name);
        assert.ok(some.length > 0 || expected.length === 0, `nothing after entry ${at}`);
        assert.deepEqual(some, expected.slice(0, some.length), `after entry ${at}`);
      }
    }
  }
  assert.equal(mount.list(nodeid, fh, 0n, 2048)[0].name, order[0], 'cookie 0 is the start');
});

test('cookies keep all their bits', (t) => {
  const { mount, path, nodeid } = enter(t);
  fill(path, 300);
  const all = mount.listAll(nodeid);
  if (all.every((each) => each.next < 2n ** 53n)) return t.skip('the file system here has small cookies');
  const large = all.findIndex((each) => each.next > 2n ** 53n && each.next % 1024n !== 0n && each.name !== '..');
  const fh = mount.opendir(nodeid);
  const after = mount.list(nodeid, fh, all[large].next, 4096).map((each) => each.name);
  assert.deepEqual(
    after,
    all.slice(large + 1, large + 1 + after.length).map((each) => each.name),
  );
});

test('READDIR with too little room for one entry is refused, with none at all as well', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'n'.repeat(255)), '');
  const fh = mount.opendir(nodeid);
  for (const size of [0, 1, 31]) mount.list(nodeid, fh, 0n, size, false, EINVAL);
  for (const size of [0, 100, 152, 159]) mount.list(nodeid, fh, 0n, size, true, EINVAL);
  // Room for the dots and not for the long name: first these, then the refusal.
  const dots = mount.list(nodeid, fh, 0n, 64);
  const last = mount.listAll(nodeid).findIndex((each) => each.name.length === 255);
  if (last < 2) return t.skip('the dots do not come first here');
  assert.deepEqual(dots.map((each) => each.name).toSorted(), ['.', '..']);
  mount.list(nodeid, fh, dots[1].next, 64, false, EINVAL);
  assert.equal(mount.list(nodeid, fh, dots[1].next, 280)[0].name.length, 255);
});

test('what is removed and added during a listing does no harm to the others', (t) => {
  const { mount, path, nodeid } = enter(t);
  const names = fill(path, 1000);
  const fh = mount.opendir(nodeid);
  const seen: string[] = [];
  let cookie = 0n;
  for (let round = 0; ; round += 1) {
    const some = mount.list(nodeid, fh, cookie, 1500, round % 2 === 1);
    if (some.length === 0) break;
    cookie = some[some.length - 1].next;
    seen.push(...some.map((each) => each.name));
    // One that has been seen goes, one comes.
    const gone = some.find((each) => each.type === DT_REG && each.name !== '');
    if (gone !== undefined) unlinkSync(join(path, gone.name));
    if (round < 50) writeFileSync(join(path, `new-${round}`), '');
  }
  const old = seen.filter((each) => !each.startsWith('new-') && each !== '.' && each !== '..');
  assert.deepEqual(old.toSorted(), names, 'what was there from the start is seen once');
  assert.equal(new Set(seen).size, seen.length);
});

test('a directory that is removed while it is open lists nothing more', (t) => {
  const { mount, path, nodeid } = enter(t);
  mkdirSync(join(path, 'dir'));
  const dir = mount.lookup(nodeid, 'dir').nodeid;
  const fh = mount.opendir(dir);
  rmdirSync(join(path, 'dir'));
  const { error, used } = mount.guest.send({
    opcode: opcodes.READDIR.code,
    nodeid: dir,
    body: body(opcodes.READDIR.in, { fh, size: 4096 }),
  });
  assert.ok(error === -2 || (error === 0 && used === 16), `READDIR: ${error}, ${used} bytes`);
  mount.releasedir(fh);
});

test('OPENDIR of what is no directory is refused', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), '');
  symlinkSync('/', join(path, 'link'));
  for (const each of ['file', 'link']) mount.opendir(mount.lookup(nodeid, each).nodeid, ENOTDIR);
});

test('OPENDIR gives a handle that FSYNCDIR takes, until RELEASEDIR', (t) => {
  const { mount } = enter(t);
  const reply = mount.guest.ask({ opcode: opcodes.OPENDIR.code, nodeid: ROOT, body: body(OpenIn) });
  assert.equal(OpenOut.backingId(reply, 0), 0);
  const fh = mount.opendir(ROOT);
  for (const fsyncFlags of [0, 1]) {
    mount.guest.ask({ opcode: opcodes.FSYNCDIR.code, body: body(FsyncIn, { fh, fsyncFlags }) });
  }
  mount.releasedir(fh);
  mount.releasedir(fh, EBADF);
  mount.guest.ask({ opcode: opcodes.FSYNCDIR.code, body: body(FsyncIn, { fh }) }, EBADF);
  mount.list(ROOT, fh, 0n, 4096, false, EBADF);
});

test('a directory handle sees what was added after it was opened, from the start again', (t) => {
  const { mount, path, nodeid } = enter(t);
  const fh = mount.opendir(nodeid);
  assert.equal(mount.list(nodeid, fh, 0n, 4096).length, 2);
  writeFileSync(join(path, 'later'), '');
  assert.equal(namesOf(mount.list(nodeid, fh, 0n, 4096)).join(), 'later');
  assert.deepEqual(readdirSync(path), ['later']);
});

test('with --cache never attributes hold for the rest of a walk: a tick, of directories alone', async () => {
  for (const [args, ticks] of [
    [
      ['--cache', 'never'],
      [1, 0],
    ],
    [
      ['--cache', 'never', '--attr-timeout', '0'],
      [0, 0],
    ],
  ] as const) {
    await using own = await TestDaemon.start({ args });
    using mount = Mount.connect(own.socketPath);
    mkdirSync(join(own.share, 'directory'));
    writeFileSync(join(own.share, 'file'), '');
    const found = ['directory', 'file'].map((each) => {
      const entry = mount.guest.ask({ opcode: opcodes.LOOKUP.code, nodeid: ROOT, body: nameOf(each) });
      assert.equal(entry.getBigUint64(EntryOut.offsets.entryValid, true), 0n);
      assert.equal(EntryOut.entryValidNsec(entry, 0), 0, 'the name is asked for again');
      assert.equal(entry.getBigUint64(EntryOut.offsets.attrValid, true), 0n);
      return EntryOut.attrValidNsec(entry, 0);
    });
    assert.deepEqual(found, ticks);
  }
});
