/** Operations on names, attributes and the session, over a real connection, checked against the host's directory. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import {
  EACCES,
  EBADF,
  EEXIST,
  EINVAL,
  EIO,
  ENAMETOOLONG,
  ENOENT,
  ENOSYS,
  ENOTDIR,
  ENOTEMPTY,
  EPERM,
  EPROTO,
} from '../src/core/index.ts';
import {
  AccessIn,
  flags,
  InitIn,
  InitOut,
  Kstatfs,
  LinkIn,
  OPCODE_COUNT,
  opcodes,
  Rename2In,
  RenameIn,
  SyncfsIn,
} from '../src/fuse/index.ts';
import { O_RDONLY, O_RDWR, S_IFCHR, S_IFIFO, S_IFREG } from '../src/sys/index.ts';
import { commonDaemon } from './daemon.ts';
import { body, bytesOf, concat, type Entry, type FileAttributes, name, words } from './fuse.ts';
import { Mount, ownFolder, ROOT } from './mount.ts';

const { FATTR, INIT } = flags;
const IS_ROOT = process.getuid?.() === 0;
const TTL_SECONDS = 1n;

const daemon = commonDaemon({ args: ['--stay', '--log-level', 'error'] });

/** A guest of its own for a test, and a directory of its own. */
function enter(t: TestContext): { mount: Mount; path: string; nodeid: bigint } {
  const mount = Mount.connect(daemon().socketPath);
  t.after(() => mount.guest.close());
  return { mount, ...ownFolder(daemon(), mount) };
}

/** What the host says of a path, in the shape of fuse_attr. */
function onHost(path: string | Buffer): FileAttributes {
  const stat = lstatSync(path, { bigint: true });
  const { ino, size, blocks, atimeNs, mtimeNs, ctimeNs, mode, nlink, uid, gid, rdev, blksize } = stat;
  return { ino, size, blocks, atimeNs, mtimeNs, ctimeNs, mode, nlink, uid, gid, rdev, blksize, flags: 0n };
}

function assertEntry(entry: Entry, path: string | Buffer): void {
  assert.deepEqual(entry.attributes, onHost(path));
  assert.notEqual(entry.nodeid, 0n);
  assert.deepEqual([entry.entryValid, entry.attrValid], [TTL_SECONDS, TTL_SECONDS]);
}

test('LOOKUP gives every attribute as the host has it', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'x'.repeat(5000), { mode: 0o4751 });
  utimesSync(join(path, 'file'), -1.5, 2 ** 33 + 0.25);
  mkdirSync(join(path, 'dir'));
  symlinkSync('nowhere', join(path, 'link'));
  for (const each of ['file', 'dir', 'link']) assertEntry(mount.lookup(nodeid, each), join(path, each));
  mount.lookup(nodeid, 'absent', ENOENT);
  mount.lookup(mount.lookup(nodeid, 'file').nodeid, 'below', ENOTDIR);
});

test('the same file has the same node id by every name, another file another', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'a'), '');
  linkSync(join(path, 'a'), join(path, 'b'));
  writeFileSync(join(path, 'c'), '');
  const [a, b, c] = ['a', 'b', 'c'].map((each) => mount.lookup(nodeid, each).nodeid);
  assert.equal(a, b);
  assert.notEqual(a, c);
});

test('GETATTR tells all fields, of files that change under it', (t) => {
  const { mount, path, nodeid } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, 'one');
  const found = mount.lookup(nodeid, 'file').nodeid;
  assert.deepEqual(mount.getattr(found), onHost(file));
  truncateSync(file, 123_456_789_012);
  chmodSync(file, 0o640);
  utimesSync(file, 1234567890.123, -86400);
  linkSync(file, join(path, 'second'));
  assert.deepEqual(mount.getattr(found), onHost(file));
  assert.deepEqual(mount.getattr(ROOT), onHost(daemon().share));
  // A file that is gone from the directory and open here is still itself.
  unlinkSync(join(path, 'second'));
  unlinkSync(file);
  assert.equal(mount.getattr(found).nlink, 0n);
});

test('GETATTR by handle looks at the open file', (t) => {
  const { mount, path, nodeid } = enter(t);
  const { entry, fh } = mount.create(nodeid, 'file', { flags: O_RDWR, mode: 0o600 });
  unlinkSync(join(path, 'file'));
  mount.write(fh, 0, Buffer.from('gone'));
  const attributes = mount.getattr(entry.nodeid, 0, { getattrFlags: flags.GETATTR_IN.FH, fh });
  assert.deepEqual([attributes.size, attributes.nlink], [4n, 0n]);
});

test('FORGET drops a node id when as many lookups are forgotten as were made, and not before', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), '');
  const found = mount.lookup(nodeid, 'file').nodeid;
  for (let i = 0; i < 4; i += 1) mount.lookup(nodeid, 'file');
  mount.forget(found, 3);
  mount.getattr(found);
  mount.forget(found, 1);
  mount.getattr(found);
  mount.forget(found, 1);
  mount.getattr(found, ENOENT);
  // Forgetting it once more is no harm to whoever gets the slot next.
  const again = mount.lookup(nodeid, 'file').nodeid;
  assert.notEqual(again, found, 'a node id that was forgotten does not come back');
  mount.forget(found, 2n ** 63n);
  mount.getattr(again);
});

test('every reply with an entry counts as a lookup', (t) => {
  const { mount, nodeid } = enter(t);
  const made = [
    mount.create(nodeid, 'created', { flags: O_RDONLY, mode: 0o644 }).entry,
    mount.mknod(nodeid, 'made', { mode: S_IFREG | 0o644 }),
    mount.mkdir(nodeid, 'dir'),
    mount.symlink(nodeid, 'link', 'x'),
  ];
  for (const { nodeid: found } of made) {
    mount.getattr(found);
    mount.forget(found, 1);
    mount.getattr(found, ENOENT);
  }
});

test('BATCH_FORGET forgets many at once, and nothing that it does not name', (t) => {
  const { mount, path, nodeid } = enter(t);
  const found = Array.from({ length: 300 }, (_, i) => {
    writeFileSync(join(path, `${i}`), '');
    return mount.lookup(nodeid, `${i}`).nodeid;
  });
  const [kept, twice, ...rest] = found;
  mount.lookup(nodeid, '1');
  mount.batchForget(...[twice, ...rest].map((each) => ({ nodeid: each, nlookup: 1 })));
  mount.getattr(kept);
  mount.getattr(twice);
  for (const each of rest) mount.getattr(each, ENOENT);
});

test('the root cannot be forgotten', (t) => {
  const { mount } = enter(t);
  mount.forget(ROOT, 2n ** 64n - 1n);
  mount.batchForget({ nodeid: ROOT, nlookup: 5 }, { nodeid: ROOT, nlookup: 2n ** 63n });
  assert.deepEqual(mount.getattr(ROOT), onHost(daemon().share));
});

test('SETATTR changes the mode, all twelve bits of it', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), '');
  const found = mount.lookup(nodeid, 'file').nodeid;
  for (const mode of [0o7777, 0, 0o4755, 0o2711, 0o644]) {
    const attributes = mount.setattr(found, { valid: FATTR.MODE, mode: S_IFREG | mode });
    assert.equal(Number(attributes.mode), S_IFREG | mode);
    assert.deepEqual(attributes, onHost(join(path, 'file')));
  }
});

test('SETATTR changes owner and group, each alone and both', { skip: !IS_ROOT && 'needs root' }, (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), '');
  symlinkSync('file', join(path, 'link'));
  const found = mount.lookup(nodeid, 'file').nodeid;
  const owner = (attributes: FileAttributes): bigint[] => [attributes.uid, attributes.gid];
  assert.deepEqual(owner(mount.setattr(found, { valid: FATTR.UID, uid: 1234, gid: 9 })), [1234n, 0n]);
  assert.deepEqual(owner(mount.setattr(found, { valid: FATTR.GID, uid: 9, gid: 4321 })), [1234n, 4321n]);
  const both = { valid: FATTR.UID | FATTR.GID, uid: 4_000_000_000, gid: 3_000_000_000 };
  assert.deepEqual(owner(mount.setattr(found, both)), [4_000_000_000n, 3_000_000_000n]);
  assert.deepEqual(owner(onHost(join(path, 'file'))), [4_000_000_000n, 3_000_000_000n]);
  // Of a symlink: itself, not what it points to.
  mount.setattr(mount.lookup(nodeid, 'link').nodeid, { valid: FATTR.UID, uid: 77 });
  assert.deepEqual(owner(onHost(join(path, 'link'))), [77n, 0n]);
  assert.deepEqual(owner(onHost(join(path, 'file'))), [4_000_000_000n, 3_000_000_000n]);
});

test('SETATTR changes the size, by node id and by handle', (t) => {
  const { mount, path, nodeid } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, '0123456789');
  const found = mount.lookup(nodeid, 'file').nodeid;
  assert.equal(mount.setattr(found, { valid: FATTR.SIZE, size: 4 }).size, 4n);
  assert.equal(readFileSync(file, 'utf8'), '0123');
  const large = 6_000_000_001n;
  assert.equal(mount.setattr(found, { valid: FATTR.SIZE, size: large }).size, large);
  assert.equal(onHost(file).size, large);
  const fh = mount.open(found, O_RDWR);
  assert.equal(mount.setattr(found, { valid: FATTR.SIZE | FATTR.FH, fh, size: 2 }).size, 2n);
  assert.equal(readFileSync(file, 'utf8'), '01');
  for (const size of [2n ** 63n, 2n ** 64n - 1n]) mount.setattr(found, { valid: FATTR.SIZE, size }, EINVAL);
  mount.setattr(nodeid, { valid: FATTR.SIZE, size: 0 }, EINVAL);
  assert.equal(readFileSync(file, 'utf8'), '01');
});

test('SETATTR sets times to the nanosecond, before 1970 and after 2038 too, and leaves the others', (t) => {
  const { mount, path, nodeid } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, '');
  const found = mount.lookup(nodeid, 'file').nodeid;
  const atime = { atime: 2n ** 33n, atimensec: 999_999_999 };
  const mtime = { mtime: -2n, mtimensec: 1 };
  mount.setattr(found, { valid: FATTR.ATIME | FATTR.MTIME, ...atime, ...mtime });
  const { atimeNs, mtimeNs } = onHost(file);
  assert.deepEqual([atimeNs, mtimeNs], [2n ** 33n * 1_000_000_000n + 999_999_999n, -1_999_999_999n]);
  const attributes = mount.setattr(found, { valid: FATTR.MTIME, atime: 5, mtime: 7, mtimensec: 8 });
  assert.deepEqual([attributes.atimeNs, attributes.mtimeNs], [atimeNs, 7_000_000_008n]);
  assert.deepEqual(attributes, onHost(file));
  for (const mtimensec of [1_000_000_000, 0x3fffffff, 0x3ffffffe, 0xffffffff]) {
    mount.setattr(found, { valid: FATTR.MTIME, mtimensec }, EINVAL);
  }
  assert.equal(onHost(file).mtimeNs, 7_000_000_008n);
});

test('SETATTR sets times to now where it is told so, whatever the numbers say', (t) => {
  const { mount, path, nodeid } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, '');
  utimesSync(file, 1, 1);
  const found = mount.lookup(nodeid, 'file').nodeid;
  const start = BigInt(Date.now()) * 1_000_000n;
  const valid = FATTR.ATIME | FATTR.ATIME_NOW;
  const attributes = mount.setattr(found, { valid, atime: 5, atimensec: 0xffffffff });
  // The kernel's clock for files lags behind by a tick.
  assert.ok(attributes.atimeNs >= start - 100_000_000n, `${attributes.atimeNs} is before ${start}`);
  assert.equal(attributes.mtimeNs, 1_000_000_000n);
  const later = mount.setattr(found, { valid: FATTR.MTIME | FATTR.MTIME_NOW, mtime: 5 });
  assert.ok(later.mtimeNs >= start - 100_000_000n);
  assert.equal(later.atimeNs, attributes.atimeNs);
});

test('SETATTR does all at once', { skip: !IS_ROOT && 'needs root' }, (t) => {
  const { mount, path, nodeid } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, 'abc');
  const valid = FATTR.MODE | FATTR.UID | FATTR.GID | FATTR.SIZE | FATTR.ATIME | FATTR.MTIME;
  const times = { atime: 11, atimensec: 22, mtime: 33, mtimensec: 44 };
  const fields = { valid, mode: 0o6755, uid: 1000, gid: 1001, size: 1, ...times };
  const attributes = mount.setattr(mount.lookup(nodeid, 'file').nodeid, fields);
  assert.deepEqual(attributes, onHost(file));
  const { uid, gid, size, atimeNs, mtimeNs } = attributes;
  assert.deepEqual([uid, gid, size, atimeNs, mtimeNs], [1000n, 1001n, 1n, 11_000_000_022n, 33_000_000_044n]);
});

test('SYMLINK and READLINK keep every byte of a target, up to 4095 of them', (t) => {
  const { mount, path, nodeid } = enter(t);
  const strange = Uint8Array.from({ length: 255 }, (_, i) => i + 1);
  const targets = [Buffer.from('../../etc/passwd'), Buffer.from('/'), strange, new Uint8Array(4095).fill(0x78)];
  for (const [i, target] of targets.entries()) {
    const entry = mount.symlink(nodeid, `link${i}`, target);
    assertEntry(entry, join(path, `link${i}`));
    assert.deepEqual(readlinkSync(join(path, `link${i}`), { encoding: 'buffer' }), Buffer.from(target));
    const reply = mount.guest.ask({ opcode: opcodes.READLINK.code, nodeid: entry.nodeid });
    assert.deepEqual(bytesOf(reply), new Uint8Array(target));
  }
  mount.symlink(nodeid, 'link0', 'x', EEXIST);
  mount.symlink(nodeid, 'long', new Uint8Array(4096).fill(0x78), ENAMETOOLONG);
  mount.symlink(nodeid, 'empty', '', EINVAL);
});

test('READLINK of what is no symlink fails', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), '');
  const file = mount.lookup(nodeid, 'file').nodeid;
  for (const each of [ROOT, file]) mount.guest.ask({ opcode: opcodes.READLINK.code, nodeid: each }, EINVAL);
});

test('MKNOD makes files, FIFOs and devices, with the mode that is asked for', (t) => {
  const { mount, path, nodeid } = enter(t);
  const fifo = mount.mknod(nodeid, 'fifo', { mode: S_IFIFO | 0o666, umask: 0o777 });
  assertEntry(fifo, join(path, 'fifo'));
  assert.equal(Number(fifo.attributes.mode), S_IFIFO | 0o666);
  const file = mount.mknod(nodeid, 'file', { mode: S_IFREG | 0o401 });
  assertEntry(file, join(path, 'file'));
  assert.equal(Number(file.attributes.mode), S_IFREG | 0o401);
  mount.mknod(nodeid, 'file', { mode: S_IFREG | 0o644 }, EEXIST);
});

test('device numbers pass both ways', { skip: !IS_ROOT && 'needs root' }, (t) => {
  const { mount, path, nodeid } = enter(t);
  // Major 0x123, minor 0xabcde, as new_encode_dev has them.
  const rdev = (0xabc << 20) | (0x123 << 8) | 0xde;
  const fields = { mode: S_IFCHR | 0o600, rdev };
  const request = { opcode: opcodes.MKNOD.code, nodeid, body: concat(new Uint8Array(16), name('device')) };
  new DataView(request.body.buffer).setUint32(0, fields.mode, true);
  new DataView(request.body.buffer).setUint32(4, rdev, true);
  const reply = mount.guest.send(request);
  if (reply.error === -EPERM) return t.skip('devices cannot be made here');
  assert.equal(reply.error, 0);
  assert.equal(mount.lookup(nodeid, 'device').attributes.rdev, BigInt(rdev >>> 0));
  // stat(2) has dev_t in glibc's encoding, which agrees in 32 bits.
  assert.equal(lstatSync(join(path, 'device'), { bigint: true }).rdev, BigInt(rdev >>> 0));
});

test('MKDIR, UNLINK and RMDIR do what they say and nothing else', (t) => {
  const { mount, path, nodeid } = enter(t);
  const dir = mount.mkdir(nodeid, 'dir', 0o1777);
  assertEntry(dir, join(path, 'dir'));
  assert.equal(Number(dir.attributes.mode) & 0o7777, 0o1777);
  mount.mkdir(nodeid, 'dir', 0o755, EEXIST);
  writeFileSync(join(path, 'dir', 'file'), '');
  const remove = (code: number, parent: bigint, text: string, errno = 0): void => {
    mount.guest.ask({ opcode: code, nodeid: parent, body: name(text) }, errno);
  };
  const { UNLINK, RMDIR } = opcodes;
  remove(RMDIR.code, nodeid, 'dir', ENOTEMPTY);
  remove(RMDIR.code, dir.nodeid, 'file', ENOTDIR);
  remove(UNLINK.code, dir.nodeid, 'absent', ENOENT);
  assert.equal(mount.guest.send({ opcode: UNLINK.code, nodeid, body: name('dir') }).error < 0, true);
  remove(UNLINK.code, dir.nodeid, 'file');
  assert.deepEqual(readdirSync(join(path, 'dir')), []);
  remove(RMDIR.code, nodeid, 'dir');
  assert.deepEqual(readdirSync(path), []);
  // The directory is gone; its node id is still one that was given.
  mount.lookup(dir.nodeid, 'file', ENOENT);
  mount.create(dir.nodeid, 'file', { flags: O_RDWR, mode: 0o600 }, ENOENT);
});

test('UNLINK of a symlink removes the symlink', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), '');
  symlinkSync('file', join(path, 'link'));
  mount.guest.ask({ opcode: opcodes.UNLINK.code, nodeid, body: name('link') });
  assert.deepEqual(readdirSync(path), ['file']);
});

test('RENAME moves between directories and replaces', (t) => {
  const { mount, path, nodeid } = enter(t);
  const sub = mount.mkdir(nodeid, 'sub').nodeid;
  writeFileSync(join(path, 'a'), 'A');
  writeFileSync(join(path, 'sub', 'b'), 'B');
  const found = mount.lookup(nodeid, 'a');
  const rename = (from: string, newdir: bigint, to: string, errno = 0): void => {
    const rest = concat(body(RenameIn, { newdir }), name(from), name(to));
    mount.guest.ask({ opcode: opcodes.RENAME.code, nodeid, body: rest }, errno);
  };
  rename('a', sub, 'b');
  assert.deepEqual(readdirSync(path), ['sub']);
  assert.equal(readFileSync(join(path, 'sub', 'b'), 'utf8'), 'A');
  assert.equal(mount.lookup(sub, 'b').nodeid, found.nodeid, 'a file that moved is the same');
  rename('a', sub, 'c', ENOENT);
  rename('sub', sub, 'into-itself', EINVAL);
  rename('sub', 2n ** 40n + 9n, 'x', ENOENT);
});

test('RENAME2 keeps from replacing, exchanges, and refuses flags that do not exist', (t) => {
  const { mount, path, nodeid } = enter(t);
  const rename = (from: string, to: string, renameFlags: number, errno = 0): void => {
    const rest = concat(body(Rename2In, { newdir: nodeid, flags: renameFlags }), name(from), name(to));
    mount.guest.ask({ opcode: opcodes.RENAME2.code, nodeid, body: rest }, errno);
  };
  const content = (each: string): string => readFileSync(join(path, each), 'utf8');
  writeFileSync(join(path, 'a'), 'A');
  writeFileSync(join(path, 'b'), 'B');
  rename('a', 'b', 1, EEXIST);
  assert.deepEqual([content('a'), content('b')], ['A', 'B']);
  rename('a', 'c', 1);
  rename('b', 'c', 2);
  assert.deepEqual([content('b'), content('c')], ['A', 'B']);
  rename('b', 'absent', 2, ENOENT);
  for (const bad of [8, 3, 0x80000000]) rename('b', 'c', bad, EINVAL);
  rename('b', 'c', 0);
  assert.deepEqual([readdirSync(path), content('c')], [['c'], 'A']);
});

test('LINK makes another name of a file and of a symlink, and none of a directory', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'x');
  symlinkSync('file', join(path, 'link'));
  mkdirSync(join(path, 'dir'));
  const link = (from: string, to: string): ReturnType<typeof mount.guest.send> => {
    const rest = concat(body(LinkIn, { oldnodeid: mount.lookup(nodeid, from).nodeid }), name(to));
    return mount.guest.send({ opcode: opcodes.LINK.code, nodeid, body: rest });
  };
  for (const from of ['file', 'link']) {
    const reply = link(from, `${from}2`);
    assert.deepEqual([reply.error, reply.used], [0, 144]);
    assert.equal(onHost(join(path, `${from}2`)).ino, onHost(join(path, from)).ino);
    assert.equal(mount.lookup(nodeid, `${from}2`).attributes.nlink, 2n);
  }
  assert.equal(lstatSync(join(path, 'link2')).isSymbolicLink(), true);
  assert.equal(link('file', 'link').error, -EEXIST);
  assert.equal(link('dir', 'dir2').error, -EPERM);
  const bad = concat(body(LinkIn, { oldnodeid: 2n ** 40n + 9n }), name('x'));
  mount.guest.ask({ opcode: opcodes.LINK.code, nodeid, body: bad }, ENOENT);
});

test('what a guest creates belongs to its user, whoever that is', { skip: !IS_ROOT && 'needs root' }, (t) => {
  const { mount, path, nodeid } = enter(t);
  for (const [i, owner] of [
    { uid: 1000, gid: 1001 },
    { uid: 0, gid: 0 },
    { uid: 0, gid: 50 },
    { uid: 4_294_967_290, gid: 3_000_000_000 },
  ].entries()) {
    const { fh } = mount.create(nodeid, `c${i}`, { flags: O_RDWR, mode: 0o644 }, 0, owner);
    mount.write(fh, 0, Buffer.from('x'));
    mount.mkdir(nodeid, `d${i}`, 0o755, 0, owner);
    mount.mknod(nodeid, `f${i}`, { mode: S_IFIFO | 0o600 }, 0, owner);
    mount.symlink(nodeid, `s${i}`, 'x', 0, owner);
    for (const each of ['c', 'd', 'f', 's']) {
      const { uid, gid } = onHost(join(path, `${each}${i}`));
      assert.deepEqual({ uid: Number(uid), gid: Number(gid) }, owner, `${each}${i}`);
    }
  }
});

test('a guest user that may not write on the host creates all the same: the guest has checked it', (t) => {
  if (!IS_ROOT) return t.skip('needs root');
  const { mount, path, nodeid } = enter(t);
  chmodSync(path, 0o700);
  const owner = { uid: 1000, gid: 1000 };
  mount.create(nodeid, 'file', { flags: O_RDWR, mode: 0 }, 0, owner);
  mount.mkdir(nodeid, 'dir', 0o700, 0, owner);
  assert.deepEqual(readdirSync(path), ['dir', 'file']);
});

test('names of 255 bytes, of any byte, and bad UTF-8 work in every operation', (t) => {
  const { mount, path, nodeid } = enter(t);
  const all = Array.from({ length: 255 }, (_, i) => i + 1).filter((byte) => byte !== 0x2f);
  const names = [
    new Uint8Array(all),
    new Uint8Array(255).fill(0xff),
    new Uint8Array([0xc3, 0x28, 0xed, 0xa0, 0x80]),
    Buffer.from('...'),
    Buffer.from('\n'),
  ];
  for (const each of names) {
    const onDisk = Buffer.concat([Buffer.from(`${path}/`), each]);
    const made = mount.create(nodeid, each, { flags: O_RDWR, mode: 0o600 });
    assertEntry(made.entry, onDisk);
    assertEntry(mount.lookup(nodeid, each), onDisk);
    const listed = mount.listAll(nodeid).map((entry) => entry.name);
    assert.ok(listed.includes(Buffer.from(each).toString('latin1')));
    mount.guest.ask({ opcode: opcodes.UNLINK.code, nodeid, body: name(each) });
    assert.deepEqual(readdirSync(path), []);
    mount.mkdir(nodeid, each);
    const moved = concat(body(RenameIn, { newdir: nodeid }), name(each), name('x'));
    mount.guest.ask({ opcode: opcodes.RENAME.code, nodeid, body: moved });
    assert.deepEqual(readdirSync(path), ['x']);
    mount.guest.ask({ opcode: opcodes.RMDIR.code, nodeid, body: name('x') });
  }
});

test('a name of 256 bytes is too long, an empty one no name, in every operation', (t) => {
  const { mount, nodeid } = enter(t);
  const { LOOKUP, UNLINK, RMDIR, MKDIR, CREATE, MKNOD, SYMLINK, RENAME, RENAME2, LINK } = opcodes;
  for (const [bytes, errno] of [
    [256, ENAMETOOLONG],
    [4000, ENAMETOOLONG],
    [0, EINVAL],
  ] as const) {
    const bad = name(new Uint8Array(bytes).fill(0x61));
    for (const { code, in: fixed, names } of [LOOKUP, UNLINK, RMDIR, MKDIR, CREATE, MKNOD, LINK, RENAME, RENAME2]) {
      const start = new Uint8Array(fixed?.bytes ?? 0);
      mount.guest.ask({ opcode: code, nodeid, body: concat(start, bad, ...(names === 2 ? [name('b')] : [])) }, errno);
      if (names !== 2) continue;
      mount.guest.ask({ opcode: code, nodeid, body: concat(start, name('a'), bad) }, errno);
    }
    mount.guest.ask({ opcode: SYMLINK.code, nodeid, body: concat(bad, name('target')) }, errno);
  }
});

test('STATFS tells what the host tells', (t) => {
  const { mount } = enter(t);
  const host = statfsSync(daemon().share, { bigint: true });
  const view = mount.guest.ask({ opcode: opcodes.STATFS.code });
  const long = (field: keyof typeof Kstatfs.offsets): bigint => view.getBigUint64(Kstatfs.offsets[field], true);
  assert.deepEqual([Kstatfs.bsize(view, 0), Kstatfs.frsize(view, 0)], [Number(host.bsize), Number(host.bsize)]);
  assert.equal(Kstatfs.namelen(view, 0), 255);
  // Others write on this disk as well, and some file systems make inodes as they need them.
  const near = (a: bigint, b: bigint): boolean => (a > b ? a - b : b - a) <= a / 10n;
  for (const field of ['blocks', 'bfree', 'bavail', 'files', 'ffree'] as const) {
    assert.ok(near(long(field), host[field]), `${field}: ${long(field)}, on the host ${host[field]}`);
  }
  assert.ok(long('bavail') <= long('bfree') && long('ffree') <= host.files);
});

test('ACCESS answers by mode and owner, and refuses what is no permission', { skip: !IS_ROOT && 'needs root' }, (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), '', { mode: 0o640 });
  const found = mount.lookup(nodeid, 'file').nodeid;
  mount.setattr(found, { valid: FATTR.UID | FATTR.GID, uid: 1000, gid: 1000 });
  const access = (mask: number, uid: number, gid: number, errno: number): void => {
    mount.guest.ask({ opcode: opcodes.ACCESS.code, nodeid: found, uid, gid, body: body(AccessIn, { mask }) }, errno);
  };
  access(6, 1000, 5, 0);
  access(1, 1000, 5, EACCES);
  access(4, 5, 1000, 0);
  access(2, 5, 1000, EACCES);
  access(4, 5, 5, EACCES);
  access(0, 5, 5, 0);
  access(6, 0, 0, 0);
  access(1, 0, 0, EACCES);
  access(8, 0, 0, EINVAL);
});

test('SYNCFS of a directory that the guest knows succeeds, of any other fails', (t) => {
  const { mount } = enter(t);
  mount.guest.ask({ opcode: opcodes.SYNCFS.code, nodeid: ROOT, body: body(SyncfsIn) });
  mount.guest.ask({ opcode: opcodes.SYNCFS.code, nodeid: 2n ** 33n + 5n, body: body(SyncfsIn) }, ENOENT);
});

test('opcodes that are not served answer ENOSYS, and the queue goes on', (t) => {
  const { mount } = enter(t);
  const unserved = [0, 7, 19, OPCODE_COUNT, 4096, 436207616, 0x7fffffff, 0xffffffff];
  for (const opcode of unserved) mount.guest.ask({ opcode, body: new Uint8Array(64) }, ENOSYS);
  const { GETXATTR, SETXATTR, GETLK, SETLK, POLL, BMAP, SETUPMAPPING } = opcodes;
  for (const { code, in: fixed, outBytes } of [GETXATTR, SETXATTR, GETLK, SETLK, POLL, BMAP, SETUPMAPPING]) {
    const rest = concat(new Uint8Array(fixed?.bytes ?? 0), name('user.x'));
    mount.guest.ask({ opcode: code, body: rest, room: outBytes }, ENOSYS);
  }
  mount.getattr(ROOT);
});

test('node ids and handles that were never given are refused', (t) => {
  const { mount } = enter(t);
  const strange = [
    0n,
    2n,
    77n,
    2n ** 32n,
    2n ** 32n + 1n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
    2n ** 64n - 2n ** 32n + 1n,
  ];
  for (const nodeid of strange) {
    mount.getattr(nodeid, ENOENT);
    mount.setattr(nodeid, { valid: FATTR.MODE, mode: 0 }, ENOENT);
    mount.lookup(nodeid, 'x', ENOENT);
    mount.open(nodeid, O_RDONLY, ENOENT);
    mount.opendir(nodeid, ENOENT);
    mount.mkdir(nodeid, 'x', 0o700, ENOENT);
  }
  for (const fh of [0n, 1n, 2n ** 32n + 1n, 2n ** 63n, 2n ** 64n - 1n]) {
    mount.read(fh, 0, 10, EBADF);
    mount.write(fh, 0, Buffer.from('x'), EBADF);
    mount.release(fh, EBADF);
    mount.releasedir(fh, EBADF);
    mount.list(ROOT, fh, 0n, 4096, false, EBADF);
    mount.list(ROOT, fh, 0n, 4096, true, EBADF);
    const rest = new Uint8Array(32);
    new DataView(rest.buffer).setBigUint64(0, fh, true);
    const { FSYNC, FSYNCDIR, LSEEK, FALLOCATE } = opcodes;
    for (const { code, in: fixed } of [FSYNC, FSYNCDIR, FALLOCATE]) {
      mount.guest.ask({ opcode: code, body: rest.slice(0, fixed?.bytes) }, EBADF);
    }
    rest[16] = 3;
    mount.guest.ask({ opcode: LSEEK.code, body: rest.slice(0, LSEEK.in?.bytes) }, EBADF);
  }
});

test('before INIT, and after DESTROY, nothing is served', (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'x');
  const found = mount.lookup(nodeid, 'file').nodeid;
  const fh = mount.open(found, O_RDONLY);
  mount.destroy();
  mount.getattr(ROOT, EIO);
  mount.read(fh, 0, 1, EIO);
  assert.equal(mount.guest.init().error, 0);
  mount.getattr(ROOT);
  mount.getattr(found, ENOENT);
  mount.getattr(nodeid, ENOENT);
  mount.read(fh, 0, 1, EBADF);
});

test('INIT without DESTROY, as after a reboot, forgets what was known', async (t) => {
  const { mount, path, nodeid } = enter(t);
  writeFileSync(join(path, 'file'), 'x');
  const found = mount.lookup(nodeid, 'file').nodeid;
  const fh = mount.open(found, O_RDONLY);
  const dir = mount.opendir(nodeid);
  assert.equal(mount.guest.init().error, 0);
  mount.getattr(found, ENOENT);
  mount.read(fh, 0, 1, EBADF);
  mount.list(ROOT, dir, 0n, 4096, false, EBADF);
  const { inodes, inodeDescriptors, handles } = await daemon().gauges();
  assert.deepEqual({ inodes, inodeDescriptors, handles }, { inodes: 1, inodeDescriptors: 1, handles: 0 });
});

test('INIT agrees on what both know and nothing else', (t) => {
  const { mount } = enter(t);
  const init = (fields: Record<string, number>, errno = 0): DataView =>
    mount.guest.ask({ opcode: opcodes.INIT.code, nodeid: 0, body: body(InitIn, fields) }, errno);
  const all = init({ major: 7, minor: 46, maxReadahead: 0xffffffff, flags: 0xffffffff, flags2: 0xffffffff });
  assert.deepEqual([InitOut.major(all, 0), InitOut.minor(all, 0)], [7, 46]);
  assert.equal(InitOut.maxWrite(all, 0), 1024 * 1024);
  assert.equal(InitOut.maxPages(all, 0), 256);
  const agreed = InitOut.flags(all, 0);
  assert.equal((agreed & INIT.MAX_PAGES) !== 0 && (agreed & INIT.BIG_WRITES) !== 0, true);
  for (const never of [
    INIT.EXPORT_SUPPORT,
    INIT.WRITEBACK_CACHE,
    INIT.POSIX_LOCKS,
    INIT.NO_OPEN_SUPPORT,
    INIT.DONT_MASK,
  ]) {
    assert.equal(agreed & never, 0);
  }
  const none = init({ major: 7, minor: 41, maxReadahead: 65536 });
  assert.deepEqual([InitOut.minor(none, 0), InitOut.flags(none, 0), InitOut.flags2(none, 0)], [41, 0, 0]);
  assert.deepEqual([InitOut.maxReadahead(none, 0), InitOut.maxWrite(none, 0)], [65536, 128 * 1024]);
  // A later major: it is told ours, and there is no session until it comes back with that.
  assert.equal(InitOut.major(init({ major: 8 }), 0), 7);
  mount.getattr(ROOT, EIO);
  init({ major: 7, minor: 26 }, EPROTO);
  init({ major: 6, minor: 99 }, EPROTO);
  mount.getattr(ROOT, EIO);
  init({ major: 7, minor: 31 });
  mount.getattr(ROOT);
});

test('a file that the host removed and made anew under the same name is another one', (t) => {
  const { mount, path, nodeid } = enter(t);
  const file = join(path, 'file');
  writeFileSync(file, 'old');
  const old = mount.lookup(nodeid, 'file').nodeid;
  const fh = mount.open(old, O_RDONLY);
  unlinkSync(file);
  writeFileSync(file, 'newer');
  const fresh = mount.lookup(nodeid, 'file');
  assert.notEqual(fresh.nodeid, old);
  assertEntry(fresh, file);
  assert.equal(Buffer.from(mount.read(fh, 0, 10)).toString(), 'old');
  assert.equal(mount.getattr(old).nlink, 0n);
});

test('extensions at the end of a request are taken when they are declared and whole, refused when not', (t) => {
  const { mount, path, nodeid } = enter(t);
  // A fuse_secctx_header without contexts, then a fuse_ext_header of type 32 with one group.
  const extensions = words(8, 0, 16, 32, 1, 4711);
  const message = mount.guest.encode({
    opcode: opcodes.MKDIR.code,
    nodeid,
    body: concat(body(opcodes.MKDIR.in, { mode: 0o755 }), name('dir'), extensions),
  });
  const send = (units: number): number => {
    new DataView(message.buffer).setUint16(36, units, true);
    return mount.guest.sendBytes(message, 144).error;
  };
  for (const units of [0, 2, 4, 0xffff]) assert.equal(send(units), -EINVAL, `${units} units`);
  const length = new DataView(message.buffer, message.length - extensions.length);
  length.setUint32(0, 0, true);
  assert.equal(send(3), -EINVAL);
  length.setUint32(0, 8, true);
  assert.equal(send(3), 0);
  assert.deepEqual(readdirSync(path), ['dir']);
});
