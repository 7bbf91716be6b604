/** Every FUSE opcode up to 7.46, one record each: the only place that knows what a request and its reply look like. */
import { assert } from '../core/index.ts';
import type { AnyStruct } from '../wire/index.ts';
import { COMPAT_SETXATTR_IN_BYTES } from './flags.ts';
import * as wire from './structs.ts';

/**
 * How a request is answered.
 * - `none`: not at all; a reply breaks the guest's queue.
 * - `empty`: the header alone.
 * - `struct`: the header and `out`, exactly `outBytes`.
 * - `bytes`: the header and a length that the handler knows, made in scratch.
 * - `payload`: the header and file data, straight to guest memory.
 */
export type ReplyKind = 'none' | 'empty' | 'struct' | 'bytes' | 'payload';

/** What the last string of a request is: an entry of a directory, a symlink's target, an attribute's name. */
export type LastString = 'entry' | 'target' | 'xattr';

interface Shape {
  /** The fixed part after fuse_in_header. */
  readonly in: AnyStruct | null;
  /** The least length of the fixed part where older guests send less than `in.bytes`. */
  readonly inBytes?: number;
  /** NUL-terminated strings after the fixed part. */
  readonly names?: 0 | 1 | 2;
  readonly lastName?: LastString;
  /** More bytes follow: file data, a value, an array, or what this side ignores. */
  readonly payloadIn?: boolean;
  readonly reply: ReplyKind;
  readonly out?: AnyStruct;
  /** Only on the hiprio queue (virtio 5.11.6.1: FORGET, BATCH_FORGET, INTERRUPT). */
  readonly hiprio?: boolean;
}

export interface Opcode<Code extends number = number, Name extends string = string> {
  readonly code: Code;
  readonly name: Name;
  readonly in: AnyStruct | null;
  /** Least length of the fixed part in bytes: `in.bytes` but for INIT and SETXATTR. */
  readonly inBytes: number;
  readonly names: 0 | 1 | 2;
  readonly lastName: LastString;
  readonly payloadIn: boolean;
  readonly reply: ReplyKind;
  readonly out: AnyStruct | null;
  /** Length of `out`; 0 without one. A good reply of kind `struct` is 16 + outBytes, neither more nor less. */
  readonly outBytes: number;
  /** Whether the fixed part holds a file handle, and where it is (-1: nowhere). */
  readonly file: 'none' | 'fh';
  readonly fhOffset: number;
  readonly hiprio: boolean;
}

function op<const Code extends number, const Name extends string>(code: Code, name: Name, shape: Shape) {
  const { in: body, out = null } = shape;
  assert((shape.reply === 'struct') === (out !== null), `${name}: a struct reply, and no other, has an out struct`);
  const fhOffset = body?.offsets.fh ?? body?.offsets.fhIn ?? -1;
  const made: Opcode<Code, Name> = {
    code,
    name,
    in: body,
    inBytes: shape.inBytes ?? body?.bytes ?? 0,
    names: shape.names ?? 0,
    lastName: shape.lastName ?? 'entry',
    payloadIn: shape.payloadIn ?? false,
    reply: shape.reply,
    out,
    outBytes: out?.bytes ?? 0,
    file: fhOffset < 0 ? 'none' : 'fh',
    fhOffset,
    hiprio: shape.hiprio ?? false,
  };
  return made;
}

export const LOOKUP = op(1, 'LOOKUP', { in: null, names: 1, reply: 'struct', out: wire.EntryOut });
export const FORGET = op(2, 'FORGET', { in: wire.ForgetIn, reply: 'none', hiprio: true });
export const GETATTR = op(3, 'GETATTR', { in: wire.GetattrIn, reply: 'struct', out: wire.AttrOut });
export const SETATTR = op(4, 'SETATTR', { in: wire.SetattrIn, reply: 'struct', out: wire.AttrOut });
/** The target without a NUL. */
export const READLINK = op(5, 'READLINK', { in: null, reply: 'bytes' });
/** The new name, then the target. */
export const SYMLINK = op(6, 'SYMLINK', {
  in: null,
  names: 2,
  lastName: 'target',
  reply: 'struct',
  out: wire.EntryOut,
});
export const MKNOD = op(8, 'MKNOD', { in: wire.MknodIn, names: 1, reply: 'struct', out: wire.EntryOut });
export const MKDIR = op(9, 'MKDIR', { in: wire.MkdirIn, names: 1, reply: 'struct', out: wire.EntryOut });
export const UNLINK = op(10, 'UNLINK', { in: null, names: 1, reply: 'empty' });
export const RMDIR = op(11, 'RMDIR', { in: null, names: 1, reply: 'empty' });
export const RENAME = op(12, 'RENAME', { in: wire.RenameIn, names: 2, reply: 'empty' });
export const LINK = op(13, 'LINK', { in: wire.LinkIn, names: 1, reply: 'struct', out: wire.EntryOut });
export const OPEN = op(14, 'OPEN', { in: wire.OpenIn, reply: 'struct', out: wire.OpenOut });
export const READ = op(15, 'READ', { in: wire.ReadIn, reply: 'payload' });
export const WRITE = op(16, 'WRITE', { in: wire.WriteIn, payloadIn: true, reply: 'struct', out: wire.WriteOut });
export const STATFS = op(17, 'STATFS', { in: null, reply: 'struct', out: wire.StatfsOut });
export const RELEASE = op(18, 'RELEASE', { in: wire.ReleaseIn, reply: 'empty' });
export const FSYNC = op(20, 'FSYNC', { in: wire.FsyncIn, reply: 'empty' });
/** The name, then `size` bytes of value. The fixed part is 16 bytes with SETXATTR_EXT, else 8. */
export const SETXATTR = op(21, 'SETXATTR', {
  in: wire.SetxattrIn,
  inBytes: COMPAT_SETXATTR_IN_BYTES,
  names: 1,
  lastName: 'xattr',
  payloadIn: true,
  reply: 'empty',
});
/** The value, or GetxattrOut when `size` is 0. */
export const GETXATTR = op(22, 'GETXATTR', { in: wire.GetxattrIn, names: 1, lastName: 'xattr', reply: 'bytes' });
/** Names, each with its NUL, or GetxattrOut when `size` is 0. */
export const LISTXATTR = op(23, 'LISTXATTR', { in: wire.GetxattrIn, reply: 'bytes' });
export const REMOVEXATTR = op(24, 'REMOVEXATTR', { in: null, names: 1, lastName: 'xattr', reply: 'empty' });
export const FLUSH = op(25, 'FLUSH', { in: wire.FlushIn, reply: 'empty' });
/** `major` and `minor` are in every version; what else there is follows from the length of the body. */
export const INIT = op(26, 'INIT', { in: wire.InitIn, inBytes: 8, reply: 'struct', out: wire.InitOut });
export const OPENDIR = op(27, 'OPENDIR', { in: wire.OpenIn, reply: 'struct', out: wire.OpenOut });
export const READDIR = op(28, 'READDIR', { in: wire.ReadIn, reply: 'bytes' });
export const RELEASEDIR = op(29, 'RELEASEDIR', { in: wire.ReleaseIn, reply: 'empty' });
export const FSYNCDIR = op(30, 'FSYNCDIR', { in: wire.FsyncIn, reply: 'empty' });
export const GETLK = op(31, 'GETLK', { in: wire.LkIn, reply: 'struct', out: wire.LkOut });
export const SETLK = op(32, 'SETLK', { in: wire.LkIn, reply: 'empty' });
/** Waits for the lock. */
export const SETLKW = op(33, 'SETLKW', { in: wire.LkIn, reply: 'empty' });
export const ACCESS = op(34, 'ACCESS', { in: wire.AccessIn, reply: 'empty' });
export const CREATE = op(35, 'CREATE', { in: wire.CreateIn, names: 1, reply: 'struct', out: wire.CreateOut });
export const INTERRUPT = op(36, 'INTERRUPT', { in: wire.InterruptIn, reply: 'none', hiprio: true });
export const BMAP = op(37, 'BMAP', { in: wire.BmapIn, reply: 'struct', out: wire.BmapOut });
export const DESTROY = op(38, 'DESTROY', { in: null, reply: 'empty' });
/** `inSize` bytes follow; the reply is IoctlOut and the data of the command. */
export const IOCTL = op(39, 'IOCTL', { in: wire.IoctlIn, payloadIn: true, reply: 'bytes' });
export const POLL = op(40, 'POLL', { in: wire.PollIn, reply: 'struct', out: wire.PollOut });
/** The guest's answer to NOTIFY.RETRIEVE; never answered itself. */
export const NOTIFY_REPLY = op(41, 'NOTIFY_REPLY', { in: wire.NotifyRetrieveIn, payloadIn: true, reply: 'none' });
/** `count` ForgetOne follow. */
export const BATCH_FORGET = op(42, 'BATCH_FORGET', {
  in: wire.BatchForgetIn,
  payloadIn: true,
  reply: 'none',
  hiprio: true,
});
export const FALLOCATE = op(43, 'FALLOCATE', { in: wire.FallocateIn, reply: 'empty' });
export const READDIRPLUS = op(44, 'READDIRPLUS', { in: wire.ReadIn, reply: 'bytes' });
export const RENAME2 = op(45, 'RENAME2', { in: wire.Rename2In, names: 2, reply: 'empty' });
export const LSEEK = op(46, 'LSEEK', { in: wire.LseekIn, reply: 'struct', out: wire.LseekOut });
/** fh and node id of the source; those of the target are in the body. */
export const COPY_FILE_RANGE = op(47, 'COPY_FILE_RANGE', {
  in: wire.CopyFileRangeIn,
  reply: 'struct',
  out: wire.WriteOut,
});
export const SETUPMAPPING = op(48, 'SETUPMAPPING', { in: wire.SetupmappingIn, reply: 'empty' });
/** `count` RemovemappingOne follow. */
export const REMOVEMAPPING = op(49, 'REMOVEMAPPING', { in: wire.RemovemappingIn, payloadIn: true, reply: 'empty' });
export const SYNCFS = op(50, 'SYNCFS', { in: wire.SyncfsIn, reply: 'empty' });
/** As CREATE, but the name that follows is '/' (fs/namei.c, vfs_tmpfile) and means nothing: hence payload. */
export const TMPFILE = op(51, 'TMPFILE', { in: wire.CreateIn, payloadIn: true, reply: 'struct', out: wire.CreateOut });
export const STATX = op(52, 'STATX', { in: wire.StatxIn, reply: 'struct', out: wire.StatxOut });
/** As COPY_FILE_RANGE, with room for more than 4 GiB in the reply. */
export const COPY_FILE_RANGE_64 = op(53, 'COPY_FILE_RANGE_64', {
  in: wire.CopyFileRangeIn,
  reply: 'struct',
  out: wire.CopyFileRangeOut,
});

const ALL = [
  LOOKUP,
  FORGET,
  GETATTR,
  SETATTR,
  READLINK,
  SYMLINK,
  MKNOD,
  MKDIR,
  UNLINK,
  RMDIR,
  RENAME,
  LINK,
  OPEN,
  READ,
  WRITE,
  STATFS,
  RELEASE,
  FSYNC,
  SETXATTR,
  GETXATTR,
  LISTXATTR,
  REMOVEXATTR,
  FLUSH,
  INIT,
  OPENDIR,
  READDIR,
  RELEASEDIR,
  FSYNCDIR,
  GETLK,
  SETLK,
  SETLKW,
  ACCESS,
  CREATE,
  INTERRUPT,
  BMAP,
  DESTROY,
  IOCTL,
  POLL,
  NOTIFY_REPLY,
  BATCH_FORGET,
  FALLOCATE,
  READDIRPLUS,
  RENAME2,
  LSEEK,
  COPY_FILE_RANGE,
  SETUPMAPPING,
  REMOVEMAPPING,
  SYNCFS,
  TMPFILE,
  STATX,
  COPY_FILE_RANGE_64,
];

/** Names and numbers of all opcodes, for `Record<OpcodeName, Handler>` that fails tsc when one is missing. */
export type OpcodeName = (typeof ALL)[number]['name'];
export type OpcodeNumber = (typeof ALL)[number]['code'];

/** One more than the highest number. */
export const OPCODE_COUNT = 54;
/** INIT of a guest with the other byte order, which virtio-fs allows and we refuse. */
export const INIT_BYTESWAPPED = 436207616;

/** All records by number; holes (0, 7, 19) are undefined. */
export const OPCODES: readonly (Opcode | undefined)[] = Array.from({ length: OPCODE_COUNT }, (_, code) =>
  ALL.find((each) => each.code === code),
);

/** `'READ'`, or `'opcode 99'` for one that we do not know. Cold. */
export function opcodeName(code: number): string {
  return OPCODES[code]?.name ?? `opcode ${code}`;
}
