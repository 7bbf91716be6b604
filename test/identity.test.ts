/** Who owns what a guest makes, over a real connection: what takes a daemon that may act as others. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EINVAL, ENODATA, EOPNOTSUPP, EOVERFLOW, EPERM } from '../src/core/index.ts';
import {
  CopyFileRangeIn,
  CreateIn,
  CreateOut,
  FallocateIn,
  flags,
  GetattrIn,
  GetxattrIn,
  MkdirIn,
  MknodIn,
  OpenIn,
  opcodes,
  Rename2In,
  SetxattrIn,
  StatxIn,
  WriteIn,
} from '../src/fuse/index.ts';
import {
  Arena,
  CAP_FSETID,
  CAP_SETUID,
  coldString,
  getxattr,
  hasCapability,
  O_RDWR,
  O_TRUNC,
  setxattr,
} from '../src/sys/index.ts';
import { TestDaemon } from './daemon.ts';
import { body, bytesOf, concat, entryOf, type Fields, name, words } from './fuse.ts';
import type { FuseRequest } from './guest.ts';
import { Mount, type Owner, ownFolder } from './mount.ts';

const USER: Owner = { uid: 2001, gid: 2002 };
const skip = hasCapability(CAP_SETUID) && hasCapability(CAP_FSETID) ? false : 'this process may not act as others';
const S_ISVTX_ISGID_RWX = 0o2775;
const RENAME_WHITEOUT = 4;
const NO_ID = -1;

interface Stage {
  readonly daemon: TestDaemon;
  readonly mount: Mount;
  readonly path: string;
  readonly nodeid: bigint;
}

/** A daemon of its own, a guest, and a folder for both. */
async function enter(t: TestContext, ...args: string[]): Promise<Stage> {
  const daemon = await TestDaemon.start({ args: ['--log-level', 'error', ...args] });
  t.after(() => daemon[Symbol.asyncDispose]());
  const mount = Mount.connect(daemon.socketPath, { indirectEntries: 512, requestQueues: 2 });
  t.after(() => mount.guest.close());
  return { daemon, mount, ...ownFolder(daemon, mount) };
}

const modeOf = (path: string): string => (lstatSync(path).mode & 0o7777).toString(8);
const ownerOf = (path: string): number[] => [lstatSync(path).uid, lstatSync(path).gid];

/** fuse_ext_header with fuse_supp_groups. */
const groups = (...gids: number[]): Uint8Array => {
  const list = words(gids.length, ...gids, ...(gids.length % 2 === 0 ? [0] : []));
  return concat(words(8 + list.length, 32), list);
};

/** fuse_secctx_header with one fuse_secctx. */
function label(key: string, value: string): Uint8Array {
  const context = concat(words(value.length, 0), name(key), new TextEncoder().encode(value));
  const padded = concat(context, new Uint8Array(-context.length & 7));
  return concat(words(8 + padded.length, 1), padded);
}

function create(stage: Stage, file: string, fields: Fields, more: Partial<FuseRequest> = {}, errno = 0): bigint {
  const rest = concat(body(CreateIn, { flags: O_RDWR, ...fields }), name(file));
  const request = { opcode: opcodes.CREATE.code, nodeid: stage.nodeid, body: rest, ...more };
  const reply = stage.mount.guest.ask(request, errno);
  return errno === 0 ? reply.getBigUint64(CreateOut.offsets.open, true) : 0n;
}

function setxattrOf({ mount }: Stage, nodeid: bigint, key: string, value: Uint8Array, kill?: boolean, errno = 0): void {
  const fixed = body(SetxattrIn, { size: value.length, setxattrFlags: kill ? flags.SETXATTR_IN.ACL_KILL_SGID : 0 });
  // Without SETXATTR_EXT a fuse_setxattr_in is its first 8 bytes.
  const sent = kill === undefined ? fixed.slice(0, 8) : fixed;
  mount.guest.ask({ opcode: opcodes.SETXATTR.code, nodeid, body: concat(sent, name(key), value) }, errno);
}

function getxattrOf({ mount }: Stage, nodeid: bigint, key: string, errno = 0): string {
  const rest = concat(body(GetxattrIn, { size: 4096 }), name(key));
  const reply = mount.guest.ask({ opcode: opcodes.GETXATTR.code, nodeid, body: rest }, errno);
  return errno === 0 ? Buffer.from(bytesOf(reply)).toString('latin1') : '';
}

function listOf({ mount }: Stage, nodeid: bigint): string[] {
  const request = { opcode: opcodes.LISTXATTR.code, nodeid, body: body(GetxattrIn, { size: 4096 }) };
  return Buffer.from(bytesOf(mount.guest.ask(request)))
    .toString()
    .split('\0')
    .slice(0, -1);
}

/** An attribute on the host; undefined where it is not there. */
function onHost(path: string, key: string): string | undefined {
  const arena = new Arena(4096);
  const length = getxattr(coldString(path), coldString(key, 1), arena.address, 4096);
  return length < 0 ? undefined : Buffer.from(arena.u8.subarray(0, length)).toString('latin1');
}

/** The attribute of an ACL: user::, user:`uid`, group::, mask and other, each rwx in three bits. */
function acl(owner: number, uid: number, named: number, group: number, mask: number, other: number): Uint8Array {
  const entries = [
    [0x01, owner, 0xffffffff],
    [0x02, named, uid],
    [0x04, group, 0xffffffff],
    [0x10, mask, 0xffffffff],
    [0x20, other, 0xffffffff],
  ];
  return words(2, ...entries.flatMap(([tag, permissions, id]) => [tag | (permissions << 16), id]));
}

test('a hundred files made by one user take one change of identity', { skip }, async (t) => {
  const stage = await enter(t);
  const { mount, nodeid, path, daemon } = stage;
  const switches = async (): Promise<number> => (await daemon.gauges()).identitySwitches;
  const before = await switches();
  for (let i = 0; i < 100; i += 1) mount.release(create(stage, `f${i}`, { mode: 0o644 }, USER));
  assert.equal((await switches()) - before, 1);
  for (let i = 0; i < 100; i += 1) assert.deepEqual(ownerOf(join(path, `f${i}`)), [2001, 2002]);
  // Another user, root, and the first again: each of them once.
  mount.mkdir(nodeid, 'a', 0o755, 0, { uid: 2003, gid: 2002 });
  mount.mkdir(nodeid, 'b', 0o755, 0, { uid: 0, gid: 0 });
  mount.symlink(nodeid, 'c', 'target', 0, USER);
  assert.equal((await switches()) - before, 4);
  const owners = ['a', 'b', 'c'].map((each) => ownerOf(join(path, each)));
  assert.deepEqual(owners, [
    [2003, 2002],
    [process.getuid?.(), process.getgid?.()],
    [2001, 2002],
  ]);
});

test('whoever created last, the daemon keeps all its rights', { skip }, async (t) => {
  const stage = await enter(t, '--xattr');
  const { mount, path, nodeid } = stage;
  mkdirSync(join(path, 'private'), { mode: 0o700 });
  writeFileSync(join(path, 'private', 'secret'), 'known', { mode: 0o600 });
  mount.release(create(stage, 'theirs', { mode: 0o600 }, USER));
  const secret = mount.lookup(mount.lookup(nodeid, 'private').nodeid, 'secret').nodeid;
  assert.equal(Buffer.from(mount.read(mount.open(secret, O_RDWR), 0, 10)).toString(), 'known');
  mount.setattr(secret, { valid: flags.FATTR.MODE | flags.FATTR.UID, mode: 0o4711, uid: 77 });
  setxattrOf(stage, secret, 'trusted.key', Buffer.from('value'));
  assert.deepEqual(
    [modeOf(join(path, 'private', 'secret')), statSync(join(path, 'private', 'secret')).uid],
    ['4711', 77],
  );
});

test('a set-group-id directory hands its group on, to members with the bit and to others without', {
  skip,
}, async (t) => {
  const stage = await enter(t);
  const { path, nodeid, mount } = stage;
  chownSync(path, 0, 3000);
  chmodSync(path, 0o2777);
  const member = { ...USER, extensions: groups(3000) };
  create(stage, 'member', { mode: 0o2775 }, member);
  create(stage, 'stranger', { mode: 0o2775 }, USER);
  create(stage, 'root', { mode: 0o2775 }, { uid: 0, gid: 0 });
  const mknod = concat(body(MknodIn, { mode: 0o102775 }), name('node'));
  mount.guest.ask({ opcode: opcodes.MKNOD.code, nodeid, body: mknod, ...USER });
  // Without execution by the group the bit means nothing, and stays.
  create(stage, 'lockable', { mode: 0o2664 }, USER);
  mount.mkdir(nodeid, 'dir', S_ISVTX_ISGID_RWX & 0o777, 0, USER);
  const seen = ['member', 'stranger', 'root', 'node', 'lockable', 'dir'].map((each) => modeOf(join(path, each)));
  assert.deepEqual(seen, ['2775', '775', '2775', '775', '2664', '2775']);
  for (const each of readdirSync(path)) assert.equal(statSync(join(path, each)).gid, 3000, each);
});

test('below a mount that hears of the user with each call, every worker is itself but to create', {
  skip,
}, async (t) => {
  const stage = await enter(t);
  const { mount, path, nodeid, daemon } = stage;
  const below = join(path, 'below');
  mkdirSync(below);
  try {
    execFileSync('/bin/mount', ['-t', 'hugetlbfs', 'none', below], { stdio: 'ignore' });
  } catch {
    t.skip('nothing can be mounted here');
    return;
  }
  // It goes before the folder that it is in, which the hook of `enter` removes.
  using _mounted = { [Symbol.dispose]: () => void execFileSync('/bin/umount', ['-l', below]) };
  const switches = async (): Promise<number> => (await daemon.gauges()).identitySwitches;
  const before = await switches();
  create(stage, 'here', { mode: 0o600 }, USER);
  const mkdir = concat(body(MkdirIn, { mode: 0o700 }), name('elsewhere'));
  mount.guest.ask({ opcode: opcodes.MKDIR.code, nodeid, body: mkdir, ...USER }, 0, 2);
  assert.equal((await switches()) - before, 2);
  // From here on whatever is not creation is done by the daemon as itself, the opening of what is mounted first of all.
  const there = { ...stage, nodeid: mount.lookup(nodeid, 'below').nodeid };
  assert.equal((await switches()) - before, 3);
  // The worker of the other queue has not met it.
  mount.guest.ask({ opcode: opcodes.GETATTR.code, nodeid: there.nodeid, body: body(GetattrIn, {}) }, 0, 2);
  assert.equal((await switches()) - before, 4);
  for (const each of ['a', 'b', 'c']) mount.mkdir(there.nodeid, each, 0o700, 0, USER);
  assert.equal((await switches()) - before, 10);
  for (const each of ['a', 'b', 'c']) assert.deepEqual(ownerOf(join(below, each)), [2001, 2002]);
  create(stage, 'there', { mode: 0o600 }, USER);
  assert.equal((await switches()) - before, 12);
});

test('an id that does not exist creates nothing, and is no hindrance elsewhere', async (t) => {
  const stage = await enter(t);
  const { mount, path, nodeid } = stage;
  const nobody = { uid: NO_ID, gid: NO_ID };
  create(stage, 'file', { mode: 0o644 }, nobody, EOVERFLOW);
  mount.mkdir(nodeid, 'dir', 0o755, EOVERFLOW, { uid: 0, gid: NO_ID });
  mount.mknod(nodeid, 'node', { mode: 0o100644 }, EOVERFLOW, nobody);
  mount.symlink(nodeid, 'link', 'target', EOVERFLOW, nobody);
  const tmpfile = concat(body(CreateIn, { flags: O_RDWR, mode: 0o600 }), name('/'));
  mount.guest.ask({ opcode: opcodes.TMPFILE.code, nodeid, body: tmpfile, ...nobody }, EOVERFLOW);
  assert.deepEqual(readdirSync(path), []);
  create(stage, 'file', { mode: 0o644 });
  const rename = (to: string, renameFlags: number, errno: number): void => {
    const rest = concat(body(Rename2In, { newdir: nodeid, flags: renameFlags }), name('file'), name(to));
    mount.guest.ask({ opcode: opcodes.RENAME2.code, nodeid, body: rest, ...nobody }, errno);
  };
  rename('whited', RENAME_WHITEOUT, EOVERFLOW);
  rename('moved', 0, 0);
  mount.guest.ask({ opcode: opcodes.LOOKUP.code, nodeid, body: name('moved'), ...nobody });
  assert.deepEqual(readdirSync(path), ['moved']);
});

test('a whiteout belongs to the user who renames', { skip }, async (t) => {
  const stage = await enter(t);
  const { mount, path, nodeid } = stage;
  create(stage, 'file', { mode: 0o644 });
  const rest = concat(body(Rename2In, { newdir: nodeid, flags: RENAME_WHITEOUT }), name('file'), name('moved'));
  const reply = mount.guest.send({ opcode: opcodes.RENAME2.code, nodeid, body: rest, ...USER });
  if (reply.error === -EINVAL) {
    t.skip('the file system of temporary files knows no whiteouts');
    return;
  }
  assert.deepEqual(
    [lstatSync(join(path, 'file')).isCharacterDevice(), ...ownerOf(join(path, 'file'))],
    [true, 2001, 2002],
  );
});

test('a truncation takes the set-group-id bit whoever created last, and of a file that the group cannot execute', {
  skip,
}, async (t) => {
  const stage = await enter(t);
  const { mount, path, nodeid } = stage;
  const file = join(path, 'file');
  writeFileSync(file, 'data');
  chownSync(file, 2005, USER.gid);
  const { nodeid: id } = mount.lookup(nodeid, 'file');
  // Its thread is in the file's group from then on.
  const fh = create(stage, 'other', { mode: 0o644 }, USER);
  const { SIZE, KILL_SUIDGID } = flags.FATTR;
  const { KILL_SUIDGID: killed } = flags.OPEN_IN;
  const truncations = [
    () => void mount.setattr(id, { valid: SIZE | KILL_SUIDGID, size: 1 }),
    () => {
      const fields = body(OpenIn, { flags: O_RDWR | O_TRUNC, openFlags: killed });
      mount.guest.ask({ opcode: opcodes.OPEN.code, nodeid: id, body: fields });
    },
  ];
  for (const truncate of truncations) {
    chmodSync(file, 0o2666);
    truncate();
    assert.equal(modeOf(file), '666');
  }
  mount.release(fh);
});

test('set-id bits go and stay as the guest says of each change', { skip }, async (t) => {
  const stage = await enter(t);
  const { mount, path, nodeid } = stage;
  const file = join(path, 'file');
  writeFileSync(file, 'data');
  const id = mount.lookup(nodeid, 'file').nodeid;
  const fh = mount.open(id, O_RDWR);
  const { FATTR } = flags;
  const write = (writeFlags: number): void => {
    const fixed = body(WriteIn, { fh, offset: 0, size: 1, writeFlags });
    mount.guest.ask({ opcode: opcodes.WRITE.code, nodeid: id, body: concat(fixed, words(0).slice(0, 1)) });
  };
  const open = (openFlags: number): void => {
    const rest = body(OpenIn, { flags: O_RDWR | O_TRUNC, openFlags });
    mount.guest.ask({ opcode: opcodes.OPEN.code, nodeid: id, body: rest });
  };
  const copy = (): void => {
    const fields = { fhIn: fh, nodeidOut: id, fhOut: fh, offOut: 100, len: 1 };
    mount.guest.ask({ opcode: opcodes.COPY_FILE_RANGE.code, nodeid: id, body: body(CopyFileRangeIn, fields) });
  };
  const fallocate = (): void => {
    mount.guest.ask({ opcode: opcodes.FALLOCATE.code, nodeid: id, body: body(FallocateIn, { fh, length: 8192 }) });
  };
  const changes: [string, () => void, string][] = [
    ['a write that kills', () => write(flags.WRITE_IN.KILL_SUIDGID), '777'],
    ['a write that does not', () => write(0), '6777'],
    ['a write back of cached pages', () => write(flags.WRITE_IN.CACHE), '6777'],
    ['an open that truncates and kills', () => open(flags.OPEN_IN.KILL_SUIDGID), '777'],
    ['an open that truncates', () => open(0), '6777'],
    [
      'a truncation that kills',
      () => void mount.setattr(id, { valid: FATTR.SIZE | FATTR.KILL_SUIDGID, size: 3 }),
      '777',
    ],
    ['a truncation', () => void mount.setattr(id, { valid: FATTR.SIZE, size: 2 }), '6777'],
    [
      'a truncation of an open file that kills',
      () => {
        mount.setattr(id, { valid: FATTR.SIZE | FATTR.FH | FATTR.KILL_SUIDGID, fh, size: 3 });
      },
      '777',
    ],
    ['fallocate, as the guest asked before if it was to kill', fallocate, '6777'],
    ['copy_file_range, likewise', copy, '6777'],
    ['that question', () => void mount.setattr(id, {}), '777'],
    ['a change of owner', () => void mount.setattr(id, { valid: FATTR.UID | FATTR.KILL_SUIDGID, uid: 5 }), '777'],
    [
      'a change of owner and mode',
      () => {
        mount.setattr(id, { valid: FATTR.UID | FATTR.MODE, uid: 6, mode: 0o6755 });
      },
      '6755',
    ],
  ];
  for (const [i, [what, change, mode]] of changes.entries()) {
    chownSync(file, 0, 3000);
    chmodSync(file, 0o6777);
    // For this the daemon gives up CAP_FSETID.
    create(stage, `before${i}`, { mode: 0o2755 }, { uid: 1000, gid: 1000 });
    change();
    assert.equal(modeOf(file), mode, what);
  }
  chmodSync(file, 0o2767);
  mount.setattr(id, {});
  assert.equal(modeOf(file), '767', 'where the group may not execute, too');
  mount.setattr(id, { valid: FATTR.UID, uid: 0xffffffff }, EINVAL);
});

test('a set-group-id bit that the group cannot execute stays when a write kills', { skip }, async (t) => {
  const { mount, path, nodeid } = await enter(t);
  const file = join(path, 'file');
  writeFileSync(file, 'data');
  const id = mount.lookup(nodeid, 'file').nodeid;
  const fixed = body(WriteIn, { fh: mount.open(id, O_RDWR), size: 1, writeFlags: flags.WRITE_IN.KILL_SUIDGID });
  for (const before of [0o2664, 0o6664]) {
    chmodSync(file, before);
    mount.guest.ask({ opcode: opcodes.WRITE.code, nodeid: id, body: concat(fixed, words(0).slice(0, 1)) });
    assert.equal(modeOf(file), '2664');
  }
});

test('a question about set-id bits leaves a directory as it is', { skip }, async (t) => {
  const { mount, path, nodeid } = await enter(t);
  chmodSync(path, 0o6777);
  mount.setattr(nodeid, {});
  assert.equal(modeOf(path), '6777');
});

test('without --killpriv-v2 the guest opens without truncating, so that it can clear the bits itself', async (t) => {
  const agreed = async (...args: string[]): Promise<number> => {
    const { mount } = await enter(t, '--stay', ...args);
    return mount.guest.init().body.getUint32(12, true);
  };
  const { HANDLE_KILLPRIV_V2, ATOMIC_O_TRUNC } = flags.INIT;
  const both = (HANDLE_KILLPRIV_V2 | ATOMIC_O_TRUNC) >>> 0;
  assert.equal(((await agreed()) & both) >>> 0, both);
  assert.equal((await agreed('--no-killpriv-v2')) & both, 0);
});

test('with --posix-acl the umask counts where the directory has no default ACL', { skip }, async (t) => {
  const stage = await enter(t, '--posix-acl');
  const { mount, path, nodeid } = stage;
  const makeAll = (prefix: string): string[] => {
    mount.release(create(stage, `${prefix}file`, { mode: 0o666, umask: 0o027 }, USER));
    mount.mknod(nodeid, `${prefix}node`, { mode: 0o100666, umask: 0o077 }, 0, USER);
    const mkdir = concat(body(MkdirIn, { mode: 0o777, umask: 0o022 }), name(`${prefix}dir`));
    mount.guest.ask({ opcode: opcodes.MKDIR.code, nodeid, body: mkdir, ...USER });
    return ['file', 'node', 'dir'].map((each) => modeOf(join(path, prefix + each)));
  };
  assert.deepEqual(makeAll('plain-'), ['640', '600', '755']);
  setxattrOf(stage, nodeid, 'system.posix_acl_default', acl(7, 2009, 7, 5, 7, 0), false);
  assert.deepEqual(makeAll('acl-'), ['660', '660', '770']);
  const access = getxattrOf(stage, mount.lookup(nodeid, 'acl-file').nodeid, 'system.posix_acl_access');
  assert.equal(access, Buffer.from(acl(6, 2009, 7, 5, 6, 0)).toString('latin1'));
  assert.deepEqual(makeAll('again-'), ['660', '660', '770']);
});

test('an ACL takes the set-group-id bit when the guest says so, and only an access ACL does', { skip }, async (t) => {
  const stage = await enter(t, '--posix-acl');
  const { mount, path, nodeid } = stage;
  const file = join(path, 'file');
  writeFileSync(file, '');
  chownSync(file, 2001, 3000);
  const id = mount.lookup(nodeid, 'file').nodeid;
  const set = (kill: boolean): string => {
    chmodSync(file, 0o2770);
    setxattrOf(stage, id, 'system.posix_acl_access', acl(7, 2009, 5, 5, 5, 0), kill);
    return modeOf(file);
  };
  assert.deepEqual([set(false), set(true)], ['2750', '750']);
  chmodSync(path, 0o2777);
  setxattrOf(stage, nodeid, 'system.posix_acl_default', acl(7, 2009, 5, 5, 5, 0), true);
  assert.equal(modeOf(path), '2777');
  assert.deepEqual(listOf(stage, nodeid), ['system.posix_acl_default']);
});

test('without --posix-acl ACLs are neither taken nor shown, and SETXATTR has its short form', { skip }, async (t) => {
  const stage = await enter(t, '--xattr');
  const { nodeid } = stage;
  setxattrOf(stage, nodeid, 'system.posix_acl_access', acl(7, 1, 5, 5, 5, 0), undefined, EOPNOTSUPP);
  setxattrOf(stage, nodeid, 'user.key', Buffer.from('value'));
  assert.equal(getxattrOf(stage, nodeid, 'user.key'), 'value');
});

test('--xattrmap gives the names of the guest others on the host', { skip }, async (t) => {
  const stage = await enter(t, '--xattrmap', '/map/trusted./user.virtiofs./');
  const { mount, path, nodeid } = stage;
  setxattrOf(stage, nodeid, 'trusted.a', Buffer.from('one'));
  setxattrOf(stage, nodeid, 'user.b', Buffer.from('two'));
  assert.equal(onHost(path, 'user.virtiofs.trusted.a'), 'one');
  assert.equal(onHost(path, 'trusted.a'), undefined);
  assert.deepEqual([getxattrOf(stage, nodeid, 'trusted.a'), getxattrOf(stage, nodeid, 'user.b')], ['one', 'two']);
  setxattr(coldString(path), coldString('trusted.host', 1), coldString(''), 0, 0);
  assert.deepEqual(listOf(stage, nodeid).toSorted(), ['trusted.a', 'user.b']);
  setxattrOf(stage, nodeid, 'user.virtiofs.trusted.a', Buffer.from('forged'), undefined, EPERM);
  getxattrOf(stage, nodeid, 'user.virtiofs.trusted.a', ENODATA);
  const remove = (key: string, errno: number): void => {
    mount.guest.ask({ opcode: opcodes.REMOVEXATTR.code, nodeid, body: name(key) }, errno);
  };
  remove('user.virtiofs.trusted.a', EPERM);
  remove('trusted.a', 0);
  remove('trusted.a', ENODATA);
  assert.equal(onHost(path, 'user.virtiofs.trusted.a'), undefined);
});

test('file capabilities that have another name on the host go when the file changes', { skip }, async (t) => {
  const stage = await enter(t, '--xattrmap', ':map::user.virtiofs.:');
  const { mount, path, nodeid } = stage;
  const file = join(path, 'file');
  writeFileSync(file, 'data');
  const id = mount.lookup(nodeid, 'file').nodeid;
  const fh = mount.open(id, O_RDWR);
  const changes: [string, () => void][] = [
    ['write', () => void mount.write(fh, 0, Buffer.from('x'))],
    ['truncate', () => void mount.setattr(id, { valid: flags.FATTR.SIZE, size: 1 })],
    ['chown', () => void mount.setattr(id, { valid: flags.FATTR.UID, uid: 5 })],
    ['open', () => void mount.open(id, O_RDWR | O_TRUNC)],
    ['the question', () => void mount.setattr(id, {})],
  ];
  for (const [what, change] of changes) {
    setxattrOf(stage, id, 'security.capability', Buffer.from('any'));
    assert.equal(onHost(file, 'user.virtiofs.security.capability'), 'any');
    change();
    assert.equal(onHost(file, 'user.virtiofs.security.capability'), undefined, what);
  }
});

test('--security-label puts the labels of the guest on all that it creates', { skip }, async (t) => {
  const stage = await enter(t, '--security-label', '--xattrmap', ':map:security.:trusted.virtiofs.:');
  const { mount, path, nodeid } = stage;
  const extensions = concat(label('security.selinux', 'guest_t'), groups(3000));
  const stored = 'trusted.virtiofs.security.selinux';
  create(stage, 'file', { mode: 0o600 }, { extensions, ...USER });
  const ask = (opcode: number, rest: Uint8Array, errno = 0, sent = extensions): DataView =>
    mount.guest.ask({ opcode, nodeid, body: rest, extensions: sent, ...USER }, errno);
  ask(opcodes.MKDIR.code, concat(body(MkdirIn, { mode: 0o700 }), name('dir')));
  ask(opcodes.MKNOD.code, concat(body(MknodIn, { mode: 0o010600 }), name('fifo')));
  ask(opcodes.SYMLINK.code, concat(name('link'), name('target')));
  for (const each of ['file', 'dir', 'fifo']) assert.equal(onHost(join(path, each), stored), 'guest_t', each);
  const link = mount.lookup(nodeid, 'link').nodeid;
  assert.equal(getxattrOf(stage, link, 'security.selinux'), 'guest_t');
  const tmpfile = ask(opcodes.TMPFILE.code, concat(body(CreateIn, { flags: O_RDWR, mode: 0o600 }), name('/')));
  assert.equal(getxattrOf(stage, entryOf(tmpfile).nodeid, 'security.selinux'), 'guest_t');
});

test('what cannot be labelled is not there afterwards', { skip }, async (t) => {
  const stage = await enter(t, '--security-label', '--xattrmap', ':bad:all:security.:security.: :ok:all:::');
  const { mount, path, nodeid } = stage;
  const extensions = label('security.selinux', 'guest_t');
  create(stage, 'file', { mode: 0o600 }, { extensions }, EPERM);
  const ask = (opcode: number, rest: Uint8Array): void => {
    mount.guest.ask({ opcode, nodeid, body: rest, extensions }, EPERM);
  };
  ask(opcodes.MKDIR.code, concat(body(MkdirIn, { mode: 0o700 }), name('dir')));
  ask(opcodes.SYMLINK.code, concat(name('link'), name('target')));
  ask(opcodes.TMPFILE.code, concat(body(CreateIn, { flags: O_RDWR, mode: 0o600 }), name('/')));
  assert.deepEqual(readdirSync(path), []);
  // An empty list of labels is a guest without a security module.
  create(stage, 'plain', { mode: 0o600 }, { extensions: words(8, 0) });
});

test('--translate-uid and --translate-gid: the guest and the host see different ids everywhere', {
  skip,
}, async (t) => {
  const rules = ['map:1000:501:10', 'forbid-guest:0:1', 'squash-host:2000:7:100'];
  const stage = await enter(
    t,
    ...rules.flatMap((rule) => ['--translate-uid', rule]),
    '--translate-gid',
    'map:100:20:1',
  );
  const { mount, path, nodeid } = stage;
  const file = join(path, 'file');
  create(stage, 'file', { mode: 0o644 }, { uid: 1003, gid: 100 });
  assert.deepEqual(ownerOf(file), [504, 20]);
  const { nodeid: id, attributes } = mount.lookup(nodeid, 'file');
  assert.deepEqual([attributes.uid, attributes.gid], [1003n, 100n]);
  const changed = mount.setattr(id, { valid: flags.FATTR.UID | flags.FATTR.GID, uid: 1009, gid: 5 });
  assert.deepEqual([changed.uid, changed.gid, ...ownerOf(file)], [1009n, 5n, 510, 5]);
  assert.equal(mount.getattr(id).uid, 1009n);
  const statx = mount.guest.ask({ opcode: opcodes.STATX.code, nodeid: id, body: body(StatxIn, { sxMask: 0x7ff }) });
  assert.deepEqual([statx.getUint32(32 + 20, true), statx.getUint32(32 + 24, true)], [1009, 5]);
  chownSync(file, 2050, 20);
  const listed = mount.listAll(nodeid, 4096, true).find((each) => each.name === 'file');
  assert.deepEqual([listed?.entry?.attributes.uid, listed?.entry?.attributes.gid], [7n, 100n]);
  // uid 0 of the guest may neither make files nor get them.
  mount.setattr(id, { valid: flags.FATTR.UID, uid: 0 }, EPERM);
  create(stage, 'root', { mode: 0o644 }, { uid: 0, gid: 0 }, EPERM);
  mount.mkdir(nodeid, 'root', 0o755, EPERM, { uid: 0, gid: 0 });
  const linked = mount.symlink(nodeid, 'link', 'target', 0, { uid: 1000, gid: 100 });
  assert.deepEqual([linked.attributes.uid, ...ownerOf(join(path, 'link'))], [1000n, 501, 20]);
  assert.deepEqual(readdirSync(path).toSorted(), ['file', 'link']);
});

test('options of identity that do not go together are refused at the door', () => {
  const start = (...args: string[]): string => {
    const main = new URL('../src/cli/main.ts', import.meta.url).pathname;
    const command = [
      '--disable-warning=ExperimentalWarning',
      main,
      'serve',
      '--shared-dir',
      '/',
      '--socket-path',
      '/nowhere/s',
    ];
    try {
      execFileSync(process.execPath, [...command, ...args], { stdio: 'pipe' });
    } catch (error) {
      return String((error as { stderr: Buffer }).stderr);
    }
    return 'it started';
  };
  assert.match(start('--posix-acl', '--translate-gid', 'map:0:1:1'), /--translate-gid does not go with --posix-acl/);
  assert.match(start('--posix-acl', '--xattrmap', ':map::user.v.:'), /--xattrmap gives ACLs another name/);
  assert.match(
    start('--xattrmap', ':ok:client:::'),
    /virtiofs: --xattrmap does not say what becomes of all other names/,
  );
  assert.match(start('--translate-uid', 'host:1'), /virtiofs: --translate-uid host:1: it has 1 numbers, not 3/);
});
