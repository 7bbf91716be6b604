/** Holds our declarations against the layouts in spec/: what is not there, or is elsewhere, is found here. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as flags from '../src/fuse/flags.ts';
import { INIT_BYTESWAPPED, OPCODES } from '../src/fuse/opcodes.ts';
import * as fuseStructs from '../src/fuse/structs.ts';
import * as vhost from '../src/vhost/messages.ts';
import type { AnyStruct } from '../src/wire/index.ts';
import { type CStruct, loadSpec } from '../spec/spec.ts';

const fuse = loadSpec('fuse');
const vhostUser = loadSpec('vhost-user');

function structsOf(module: Readonly<Record<string, unknown>>): AnyStruct[] {
  return Object.values(module).filter(
    (each): each is AnyStruct => typeof each === 'object' && each !== null && 'cname' in each,
  );
}

function camelCase(cName: string): string {
  return cName.replace(/^_+/, '').replace(/_+(\w)/g, (_, letter: string) => letter.toUpperCase());
}

/** The lines in which a declaration differs from C. Names are ours less the camel case; those of padding are free. */
function differences(ours: AnyStruct, c: CStruct): string[] {
  const found: string[] = [];
  if (ours.bytes !== c.size) found.push(`${ours.cname}: ${ours.bytes} bytes, C has ${c.size}`);
  let end = -1;
  const fields = new Map(ours.layout.map((field) => [field.name.replace(/^_+/, ''), field]));
  for (const [name, [offset, size]] of Object.entries(c.fields)) {
    // A member of C that starts where the last one did is another arm of a union: one arm is enough.
    if (offset < end) continue;
    end = offset + size;
    // A tail of variable length may be left out.
    if (size === 0 && offset === c.size) continue;
    const padding = ours.layout.find((each) => each.offset === offset && each.name.startsWith('_'));
    const field = fields.get(camelCase(name)) ?? padding;
    if (field?.offset !== offset || field.bytes !== size) {
      found.push(`${ours.cname}.${name}: C has it at ${offset}, ${size} bytes; ours: ${JSON.stringify(field)}`);
    }
  }
  const names = new Set(Object.keys(c.fields).map(camelCase));
  for (const { name } of ours.layout) {
    if (!name.startsWith('_') && !names.has(name)) found.push(`${ours.cname}.${name}: not in C`);
  }
  return found;
}

function compare(structs: readonly AnyStruct[], spec: Readonly<Record<string, CStruct>>): string[] {
  return structs.flatMap((ours) => {
    const c = spec[ours.cname];
    return c ? differences(ours, c) : [`${ours.cname}: not in the specification`];
  });
}

const single = structsOf(fuseStructs).filter((each) => !each.cname.includes(' + '));

test('every FUSE struct has the size and the offsets that the kernel has', () => {
  assert.deepEqual(compare(single, fuse.structs), []);
});

test('every struct of the kernel header is declared, once', () => {
  assert.deepEqual(single.map((each) => each.cname).toSorted(), Object.keys(fuse.structs).toSorted());
});

test('a reply of several structs is one after the other', () => {
  const several = structsOf(fuseStructs).filter((each) => each.cname.includes(' + '));
  assert.ok(several.length > 0);
  for (const ours of several) {
    const parts = ours.cname.split(' + ').map((cname) => fuse.structs[cname]);
    assert.deepEqual(
      ours.layout.map((field) => field.bytes),
      parts.map((part) => part.size),
    );
  }
});

test('a wrong offset, size or name would be found', () => {
  const c: CStruct = { size: 16, fields: { read_flags: [0, 4], padding: [4, 4], fh: [8, 8] } };
  const field = (name: string, offset: number, bytes: number) => ({ name, offset, bytes, kind: 'u32' });
  const right = [field('readFlags', 0, 4), field('_reserved', 4, 4), field('fh', 8, 8)];
  const make = (bytes: number, layout: AnyStruct['layout']) => ({ cname: 's', bytes, layout }) as AnyStruct;
  assert.deepEqual(differences(make(16, right), c), []);
  assert.equal(differences(make(24, right), c).length, 1);
  assert.equal(differences(make(16, right.slice(0, 2)), c).length, 1);
  assert.equal(differences(make(16, [field('readFlags', 4, 4), ...right.slice(1)]), c).length, 1);
  assert.equal(differences(make(16, [field('readFlags', 0, 8), ...right.slice(1)]), c).length, 1);
  assert.equal(differences(make(16, [field('flags', 0, 4), ...right.slice(1)]), c).length, 2);
});

test('opcodes have the numbers of the kernel, and none is missing', () => {
  const { CUSE_INIT: _, CUSE_INIT_BSWAP_RESERVED: __, FUSE_INIT_BSWAP_RESERVED, ...kernel } = fuse.enums.fuse_opcode;
  const ours = OPCODES.filter((each) => each !== undefined).map((each) => [`FUSE_${each.name}`, each.code] as const);
  assert.deepEqual(Object.fromEntries(ours), kernel);
  assert.equal(INIT_BYTESWAPPED, FUSE_INIT_BSWAP_RESERVED);
});

/** Each word of flags with its prefix in the kernel, and the bits by which its names are shifted there. */
const WORDS = [
  [flags.INIT, 'FUSE_', 0],
  [flags.INIT2, 'FUSE_', 32],
  [flags.FATTR, 'FATTR_', 0],
  [flags.FOPEN, 'FOPEN_', 0],
  [flags.OPEN_IN, 'FUSE_OPEN_', 0],
  [flags.GETATTR_IN, 'FUSE_GETATTR_', 0],
  [flags.RELEASE_IN, 'FUSE_RELEASE_', 0],
  [flags.LK_IN, 'FUSE_LK_', 0],
  [flags.WRITE_IN, 'FUSE_WRITE_', 0],
  [flags.READ_IN, 'FUSE_READ_', 0],
  [flags.IOCTL_IN, 'FUSE_IOCTL_', 0],
  [flags.POLL_IN, 'FUSE_POLL_', 0],
  [flags.FSYNC_IN, 'FUSE_FSYNC_', 0],
  [flags.ATTR, 'FUSE_ATTR_', 0],
  [flags.SETXATTR_IN, 'FUSE_SETXATTR_', 0],
  [flags.SETUPMAPPING_IN, 'FUSE_SETUPMAPPING_FLAG_', 0],
  [flags.INVAL_ENTRY_OUT, 'FUSE_', 0],
] as const;

/** What the kernel defines besides, and why it has no name among our flags. */
const OTHER_DEFINES = [
  // Constants under other names or declared elsewhere.
  'FUSE_KERNEL_VERSION',
  'FUSE_KERNEL_MINOR_VERSION',
  'FUSE_ROOT_ID',
  'FUSE_INVALID_UIDGID',
  'FUSE_NAME_OFFSET',
  'FUSE_IOCTL_MAX_IOV',
  'FUSE_COMPAT_SETXATTR_IN_SIZE',
  'FUSE_UNIQUE_RESEND',
  // Older names of the same bits.
  'FUSE_DIRECT_IO_RELAX',
  'FUSE_WRITE_KILL_PRIV',
  // Protocols before 7.27, which we refuse.
  'FUSE_COMPAT_ENTRY_OUT_SIZE',
  'FUSE_COMPAT_ATTR_OUT_SIZE',
  'FUSE_COMPAT_MKNOD_IN_SIZE',
  'FUSE_COMPAT_WRITE_IN_SIZE',
  'FUSE_COMPAT_STATFS_SIZE',
  'FUSE_COMPAT_INIT_OUT_SIZE',
  'FUSE_COMPAT_22_INIT_OUT_SIZE',
  // Of /dev/fuse and CUSE.
  'FUSE_MIN_READ_BUFFER',
  'CUSE_UNRESTRICTED_IOCTL',
  'CUSE_INIT_INFO_MAX',
  'FUSE_URING_IN_OUT_HEADER_SZ',
  'FUSE_URING_OP_IN_OUT_SZ',
  'FUSE_URING_ENT_ZERO_COPY',
  'FUSE_URING_ZERO_COPY',
];

test('flags have the values of the kernel, and none is missing', () => {
  const rest = new Set(Object.keys(fuse.defines));
  for (const [word, prefix, shift] of WORDS) {
    for (const [name, value] of Object.entries(word)) {
      if (name === 'format' || name === 'mask') continue;
      assert.equal((value as number) * 2 ** shift, fuse.defines[prefix + name], prefix + name);
      rest.delete(prefix + name);
    }
  }
  assert.deepEqual([...rest].toSorted(), [...OTHER_DEFINES].toSorted());
});

test('other constants have the values of the kernel', () => {
  assert.equal(flags.KERNEL_VERSION, fuse.defines.FUSE_KERNEL_VERSION);
  assert.equal(flags.KERNEL_MINOR_VERSION, fuse.defines.FUSE_KERNEL_MINOR_VERSION);
  assert.equal(flags.ROOT_ID, fuse.defines.FUSE_ROOT_ID);
  assert.equal(flags.INVALID_UIDGID, fuse.defines.FUSE_INVALID_UIDGID);
  assert.equal(flags.IOCTL_MAX_IOV, fuse.defines.FUSE_IOCTL_MAX_IOV);
  assert.equal(flags.COMPAT_SETXATTR_IN_BYTES, fuse.defines.FUSE_COMPAT_SETXATTR_IN_SIZE);
  assert.equal(fuseStructs.Dirent.offsets.name, fuse.defines.FUSE_NAME_OFFSET);
  assert.equal(flags.MAX_NR_SECCTX, fuse.enums.fuse_ext_type?.FUSE_MAX_NR_SECCTX);
  assert.equal(flags.EXT_GROUPS, fuse.enums.fuse_ext_type?.FUSE_EXT_GROUPS);
  const notify = Object.entries(flags.NOTIFY).map(([name, code]) => [`FUSE_NOTIFY_${name}`, code]);
  assert.deepEqual(Object.fromEntries(notify), fuse.enums.fuse_notify_code);
});

test('every vhost-user struct has the layout of the specification', () => {
  const messages = structsOf(vhost);
  assert.ok(messages.length > 0);
  assert.deepEqual(compare(messages, vhostUser.structs), []);
});

test('vhost-user requests and features have the numbers of the specification', () => {
  const { vhost_user_request, vhost_user_backend_request, vhost_user_protocol_feature } = vhostUser.enums;
  for (const { name, code } of vhost.FRONT_END) assert.equal(code, vhost_user_request[name], name);
  for (const [name, code] of Object.entries(vhost.BackendRequest)) {
    assert.equal(code, vhost_user_backend_request[name], name);
  }
  for (const [name, bit] of Object.entries(vhost.ProtocolFeature)) {
    assert.equal(Number(bit), vhost_user_protocol_feature[name], name);
  }
  assert.equal(vhost.SHMEM_RW, vhostUser.defines.VHOST_USER_SHMEM_F_RW);
  assert.equal(vhost.MAX_SHMEM_REGIONS, vhostUser.defines.VHOST_USER_MAX_SHMEM_REGIONS);
});
