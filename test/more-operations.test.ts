/** Extended attributes, nameless files, statx and copies within the host, over a real connection. */
import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EBADF, EINVAL, ENODATA, ENOENT, EOPNOTSUPP, ERANGE } from '../src/core/index.ts';
import { CopyFileRangeIn, CreateIn, CreateOut, GetxattrIn, LinkIn, opcodes, StatxIn } from '../src/fuse/index.ts';
import { Arena, coldString, getxattr, O_RDONLY, O_RDWR } from '../src/sys/index.ts';
import { commonDaemon } from './daemon.ts';
import { body, bytesOf, concat, entryOf, handleOf, name, words } from './fuse.ts';
import { Mount, ownFolder } from './mount.ts';

const STATX_BTIME = 0x800;
const XATTR_CREATE = 1;

const daemon = commonDaemon({ args: ['--stay', '--xattr', '--log-level', 'error'] });

function enter(t: TestContext): { mount: Mount; path: string; nodeid: bigint } {
  const mount = Mount.connect(daemon().socketPath, { indirectEntries: 512 });
  t.after(() => mount.guest.close());
  return { mount, ...ownFolder(daemon(), mount) };
}

/** The host's own view of an attribute. */
function hostAttribute(path: string, attribute: string): string {
  const arena = new Arena(4096);
  const size = getxattr(coldString(path, 0), coldString(attribute, 1), arena.address, 4096);
  return Buffer.from(arena.u8.subarray(0, size)).toString();
}

const set = (attribute: string, value: string, flags = 0): Uint8Array =>
  concat(words(value.length, flags), name(attribute), new TextEncoder().encode(value));
const get = (attribute: string, size: number): Uint8Array => concat(body(GetxattrIn, { size }), name(attribute));

test('extended attributes are set, read, listed and removed', (t) => {
  const { mount, path, nodeid: folder } = enter(t);
  writeFileSync(join(path, 'file'), '');
  const { nodeid } = mount.lookup(folder, 'file');
  const { SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR } = opcodes;
  mount.guest.ask({ opcode: SETXATTR.code, nodeid, body: set('user.color', 'blue') });
  mount.guest.ask({ opcode: SETXATTR.code, nodeid, body: set('user.empty', '') });
  assert.equal(hostAttribute(join(path, 'file'), 'user.color'), 'blue');
  const ask = (size: number): Uint8Array =>
    bytesOf(mount.guest.ask({ opcode: GETXATTR.code, nodeid, body: get('user.color', size), room: Math.max(8, size) }));
  assert.equal(Buffer.from(ask(100)).toString(), 'blue');
  assert.deepEqual(ask(0), words(4, 0), 'with size 0 the answer is how long the value is');
  mount.guest.ask({ opcode: GETXATTR.code, nodeid, body: get('user.color', 3), room: 8 }, ERANGE);
  mount.guest.ask({ opcode: GETXATTR.code, nodeid, body: get('user.none', 100), room: 100 }, ENODATA);
  const list = (size: number): Uint8Array =>
    bytesOf(
      mount.guest.ask({ opcode: LISTXATTR.code, nodeid, body: body(GetxattrIn, { size }), room: Math.max(8, size) }),
    );
  const names = Buffer.from(list(1000)).toString().split('\0').toSorted();
  assert.ok(names.includes('user.color') && names.includes('user.empty'));
  assert.deepEqual(list(0), words(list(1000).length, 0));
  mount.guest.ask({ opcode: LISTXATTR.code, nodeid, body: body(GetxattrIn, { size: 5 }), room: 8 }, ERANGE);
  mount.guest.ask({ opcode: REMOVEXATTR.code, nodeid, body: name('user.color') });
  mount.guest.ask({ opcode: REMOVEXATTR.code, nodeid, body: name('user.color') }, ENODATA);
});

test('a value that is not as long as it says, and an ACL, are refused', (t) => {
  const { mount, path, nodeid: folder } = enter(t);
  writeFileSync(join(path, 'file'), '');
  const { nodeid } = mount.lookup(folder, 'file');
  const short = concat(words(5, XATTR_CREATE), name('user.a'), new Uint8Array(4));
  mount.guest.ask({ opcode: opcodes.SETXATTR.code, nodeid, body: short }, EINVAL);
  const acl = 'system.posix_acl_access';
  mount.guest.ask({ opcode: opcodes.SETXATTR.code, nodeid, body: set(acl, 'x') }, EOPNOTSUPP);
  mount.guest.ask({ opcode: opcodes.GETXATTR.code, nodeid, body: get(acl, 100), room: 100 }, EOPNOTSUPP);
  mount.guest.ask({ opcode: opcodes.GETXATTR.code, nodeid: 4711, body: get('user.a', 100), room: 100 }, ENOENT);
});

test('a file without a name is written to, and gets one by a link', (t) => {
  const { mount, path, nodeid } = enter(t);
  const request = concat(body(CreateIn, { flags: O_RDWR, mode: 0o640 }), name('/'));
  const owner = { uid: 1234, gid: 4321 };
  const reply = mount.guest.ask({ opcode: opcodes.TMPFILE.code, nodeid, body: request, ...owner });
  const file = entryOf(reply);
  const fh = handleOf(reply, CreateOut.offsets.open);
  assert.deepEqual(readdirSync(path), []);
  mount.write(fh, 0, new TextEncoder().encode('nameless'));
  const link = concat(body(LinkIn, { oldnodeid: file.nodeid }), name('named'));
  mount.guest.ask({ opcode: opcodes.LINK.code, nodeid, body: link });
  assert.equal(readFileSync(join(path, 'named'), 'utf8'), 'nameless');
  assert.equal(lstatSync(join(path, 'named')).mode & 0o7777, 0o640);
  if (process.getuid?.() === 0) assert.equal(lstatSync(join(path, 'named')).uid, 1234);
  mount.release(fh);
});

test('statx tells the time of birth', (t) => {
  const { mount, path, nodeid: folder } = enter(t);
  writeFileSync(join(path, 'file'), 'content');
  const { nodeid } = mount.lookup(folder, 'file');
  const reply = mount.guest.ask({ opcode: opcodes.STATX.code, nodeid, body: body(StatxIn, { sxMask: 0xfff }) });
  const { size, birthtimeNs, ino } = statSync(join(path, 'file'), { bigint: true });
  const stat = 32;
  assert.equal(reply.getBigUint64(stat + 40, true), size);
  assert.equal(reply.getBigUint64(stat + 32, true), ino);
  if ((reply.getUint32(stat, true) & STATX_BTIME) !== 0) {
    const seconds = reply.getBigInt64(stat + 80, true);
    assert.equal(seconds * 1_000_000_000n + BigInt(reply.getUint32(stat + 88, true)), birthtimeNs);
  }
});

test('the host copies between two open files, from and to where it is told', (t) => {
  const { mount, path, nodeid: folder } = enter(t);
  writeFileSync(join(path, 'from'), '0123456789');
  writeFileSync(join(path, 'to'), 'abcdefghij');
  const fhIn = mount.open(mount.lookup(folder, 'from').nodeid, O_RDONLY);
  const fhOut = mount.open(mount.lookup(folder, 'to').nodeid, O_RDWR);
  const copy = (fields: Record<string, number | bigint>): Uint8Array =>
    body(CopyFileRangeIn, { fhIn, fhOut, ...fields });
  for (const [opcode, offOut] of [
    [opcodes.COPY_FILE_RANGE.code, 1],
    [opcodes.COPY_FILE_RANGE_64.code, 6],
  ] as const) {
    const reply = mount.guest.ask({ opcode, nodeid: folder, body: copy({ offIn: 3, offOut, len: 4 }), room: 8 });
    assert.equal(reply.getBigUint64(0, true), 4n);
  }
  assert.equal(readFileSync(join(path, 'to'), 'utf8'), 'a3456f3456');
  const { code } = opcodes.COPY_FILE_RANGE;
  mount.guest.ask(
    { opcode: code, nodeid: folder, body: copy({ offIn: 3, offOut: 1, len: 4, flags: 1 }), room: 8 },
    EINVAL,
  );
  mount.guest.ask({ opcode: code, nodeid: folder, body: copy({ fhOut: 99n, offIn: 3, len: 4 }), room: 8 }, EBADF);
  const beyond = copy({ offIn: 0xffff_ffff_ffff_0000n, len: 4 });
  mount.guest.ask({ opcode: code, nodeid: folder, body: beyond, room: 8 }, EINVAL);
});
