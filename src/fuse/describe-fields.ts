/** The fields of a struct by name, with flags, modes and numbers spelled as a person would. Pure; cold. */
import { type AnyStruct, bit, type FieldLayout, flags as flagNames } from '../wire/index.ts';
import * as flags from './flags.ts';
import * as structs from './structs.ts';

/** What JSON can hold. 64-bit numbers beyond 2^53 are strings. */
export type Value = number | string | readonly Value[] | Fields;
export interface Fields {
  readonly [name: string]: Value;
}

/** Every struct of the protocol by its name in C: what a field's kind says of a struct inside a struct. */
const STRUCTS: ReadonlyMap<string, AnyStruct> = new Map(
  Object.values(structs).map((each): [string, AnyStruct] => [each.cname, each]),
);

type Spell = (value: number, arm64: boolean) => string;

const octal: Spell = (value) => (value === 0 ? '0' : `0${value.toString(8)}`);
const hex: Spell = (value) => `0x${value.toString(16)}`;
const oneOf =
  (names: readonly string[]): Spell =>
  (value) =>
    names[value] ?? `${value}`;

const COMMON_OPEN = {
  FMODE_EXEC: bit(5),
  O_CREAT: bit(6),
  O_EXCL: bit(7),
  O_NOCTTY: bit(8),
  O_TRUNC: bit(9),
  O_APPEND: bit(10),
  O_NONBLOCK: bit(11),
  O_DSYNC: bit(12),
  FASYNC: bit(13),
  O_NOATIME: bit(18),
  O_CLOEXEC: bit(19),
  __O_SYNC: bit(20),
  O_PATH: bit(21),
  __O_TMPFILE: bit(22),
};
// asm-generic/fcntl.h; arm64 has four of them elsewhere.
const OPEN_X64 = flagNames({
  ...COMMON_OPEN,
  O_DIRECT: bit(14),
  O_LARGEFILE: bit(15),
  O_DIRECTORY: bit(16),
  O_NOFOLLOW: bit(17),
});
const OPEN_ARM64 = flagNames({
  ...COMMON_OPEN,
  O_DIRECTORY: bit(14),
  O_NOFOLLOW: bit(15),
  O_DIRECT: bit(16),
  O_LARGEFILE: bit(17),
});
const ACCESS_MODES = ['O_RDONLY', 'O_WRONLY', 'O_RDWR', 'O_ACCMODE'];

/** The flags of open(2): the mode of access, then the rest. */
const openFlags: Spell = (value, arm64) => {
  const rest = (value & ~3) >>> 0;
  const mode = ACCESS_MODES[value & 3];
  return rest === 0 ? mode : `${mode}|${(arm64 ? OPEN_ARM64 : OPEN_X64).format(rest)}`;
};

// include/uapi/linux/fs.h, xattr.h, falloc.h, unistd.h.
const RENAME = flagNames({ NOREPLACE: bit(0), EXCHANGE: bit(1), WHITEOUT: bit(2) });
const XATTR = flagNames({ CREATE: bit(0), REPLACE: bit(1) });
const FALLOC = flagNames({
  KEEP_SIZE: bit(0),
  PUNCH_HOLE: bit(1),
  NO_HIDE_STALE: bit(2),
  COLLAPSE_RANGE: bit(3),
  ZERO_RANGE: bit(4),
  INSERT_RANGE: bit(5),
  UNSHARE_RANGE: bit(6),
  WRITE_ZEROES: bit(7),
});
const ACCESS = flagNames({ X_OK: bit(0), W_OK: bit(1), R_OK: bit(2) });

/** What is not a plain number, by struct and field. */
const SPELLED: Readonly<Record<string, Spell>> = {
  'fuse_attr.mode': octal,
  'fuse_attr.flags': flags.ATTR.format,
  'fuse_statx.mask': hex,
  'fuse_statx.mode': octal,
  'fuse_statx.attributes': hex,
  'fuse_statx.attributesMask': hex,
  'fuse_statx_in.getattrFlags': flags.GETATTR_IN.format,
  'fuse_statx_in.sxFlags': hex,
  'fuse_statx_in.sxMask': hex,
  'fuse_file_lock.type': oneOf(['F_RDLCK', 'F_WRLCK', 'F_UNLCK']),
  'fuse_getattr_in.getattrFlags': flags.GETATTR_IN.format,
  'fuse_mknod_in.mode': octal,
  'fuse_mknod_in.umask': octal,
  'fuse_mkdir_in.mode': octal,
  'fuse_mkdir_in.umask': octal,
  'fuse_rename2_in.flags': RENAME.format,
  'fuse_setattr_in.valid': flags.FATTR.format,
  'fuse_setattr_in.mode': octal,
  'fuse_open_in.flags': openFlags,
  'fuse_open_in.openFlags': flags.OPEN_IN.format,
  'fuse_create_in.flags': openFlags,
  'fuse_create_in.mode': octal,
  'fuse_create_in.umask': octal,
  'fuse_create_in.openFlags': flags.OPEN_IN.format,
  'fuse_open_out.openFlags': flags.FOPEN.format,
  'fuse_release_in.flags': openFlags,
  'fuse_release_in.releaseFlags': flags.RELEASE_IN.format,
  'fuse_read_in.flags': openFlags,
  'fuse_read_in.readFlags': flags.READ_IN.format,
  'fuse_write_in.flags': openFlags,
  'fuse_write_in.writeFlags': flags.WRITE_IN.format,
  'fuse_fsync_in.fsyncFlags': flags.FSYNC_IN.format,
  'fuse_setxattr_in.flags': XATTR.format,
  'fuse_setxattr_in.setxattrFlags': flags.SETXATTR_IN.format,
  'fuse_lk_in.lkFlags': flags.LK_IN.format,
  'fuse_access_in.mask': ACCESS.format,
  'fuse_init_in.flags': flags.INIT.format,
  'fuse_init_in.flags2': flags.INIT2.format,
  'fuse_init_out.flags': flags.INIT.format,
  'fuse_init_out.flags2': flags.INIT2.format,
  'fuse_ioctl_in.flags': flags.IOCTL_IN.format,
  'fuse_ioctl_in.cmd': hex,
  'fuse_ioctl_in.arg': hex,
  'fuse_ioctl_out.flags': flags.IOCTL_IN.format,
  'fuse_poll_in.flags': flags.POLL_IN.format,
  'fuse_poll_in.events': hex,
  'fuse_poll_out.revents': hex,
  'fuse_fallocate_in.mode': FALLOC.format,
  'fuse_lseek_in.whence': oneOf(['SEEK_SET', 'SEEK_CUR', 'SEEK_END', 'SEEK_DATA', 'SEEK_HOLE']),
  'fuse_setupmapping_in.flags': flags.SETUPMAPPING_IN.format,
  'fuse_dirent.type': oneOf(['0', 'FIFO', 'CHR', '3', 'DIR', '5', 'BLK', '7', 'REG', '9', 'LNK', '11', 'SOCK']),
};
/** Opaque numbers in which only equality means something. */
const OWNERS = new Set(['lockOwner', 'owner']);

/**
 * The fields of a struct at `at`, as far as they lie before `end`. Padding and what has no use is left out.
 * `arm64`: the guest's, which has some flags of open(2) elsewhere.
 */
export function fieldsOf(struct: AnyStruct, view: DataView, at: number, end: number, arm64 = false): Fields {
  const fields: Record<string, Value> = {};
  for (const field of struct.layout) {
    if (field.name.startsWith('_') || field.bytes === 0 || at + field.offset + field.bytes > end) continue;
    const inner = STRUCTS.get(field.kind);
    if (inner !== undefined) fields[field.name] = fieldsOf(inner, view, at + field.offset, end, arm64);
    else fields[field.name] = fieldValue(struct.cname, field, view, at + field.offset, arm64);
  }
  return fields;
}

function fieldValue(cname: string, field: FieldLayout, view: DataView, at: number, arm64: boolean): Value {
  const number = numberAt(view, at, field);
  if (OWNERS.has(field.name)) return `0x${BigInt(number).toString(16)}`;
  const spell = SPELLED[`${cname}.${field.name}`];
  if (spell === undefined) return number;
  return typeof number === 'number' ? spell(number, arm64) : `0x${BigInt(number).toString(16)}`;
}

function numberAt(view: DataView, at: number, { kind, bytes }: FieldLayout): number | string {
  if (bytes === 8) return wide(kind.startsWith('i') ? view.getBigInt64(at, true) : view.getBigUint64(at, true));
  if (bytes === 4) return kind.startsWith('i') ? view.getInt32(at, true) : view.getUint32(at, true);
  if (bytes === 2) return view.getUint16(at, true);
  return view.getUint8(at);
}

/** A 64-bit number: a number where that is exact, else a string. */
export function wide(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}
