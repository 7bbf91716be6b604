/** Valid FUSE requests of all kinds, and ways to spoil them. */
import {
  AccessIn,
  CreateIn,
  FallocateIn,
  FlushIn,
  ForgetIn,
  ForgetOne,
  FsyncIn,
  GetattrIn,
  GetxattrIn,
  InHeader,
  LinkIn,
  LseekIn,
  MkdirIn,
  MknodIn,
  OpenIn,
  OPCODE_COUNT,
  OPCODES,
  opcodes,
  OutHeader,
  ReadIn,
  ReleaseIn,
  Rename2In,
  RenameIn,
  SetattrIn,
  SyncfsIn,
  WriteIn,
} from '../src/fuse/index.ts';
import { body, concat, name } from './fuse.ts';
import type { Cut, FuseRequest } from './guest.ts';
import { batch } from './mount.ts';
import type { Random } from './random.ts';

/** Numbers with which arithmetic goes wrong. */
const EDGES = [0n, 1n, 2n, 7n, 16n, 40n, 255n, 4095n, 4096n, 0x7fffn, 0xffffn, 0x10000n, 0x7fffffffn, 0x80000000n];
const WIDE_EDGES = [
  ...EDGES,
  0xffffffffn,
  2n ** 32n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];
/** Bytes of a FALLOCATE that takes room on the host's disk. */
const LARGEST_ALLOCATION = 0xffffn;
const { FALLOCATE, FSYNC, FSYNCDIR, SYNCFS, INIT, DESTROY, GETATTR } = opcodes;

/** What requests can be about: ids that the guest was really given. */
export interface Known {
  readonly directory: bigint;
  readonly file: bigint;
  readonly link: bigint;
  readonly fh: bigint;
  readonly directoryFh: bigint;
}

/** One valid request of every opcode that is served, and of some that are not. */
export function validRequests(known: Known): FuseRequest[] {
  const { directory, file, link, fh, directoryFh } = known;
  const at = (nodeid: bigint, { code }: { code: number }, ...parts: Uint8Array[]): FuseRequest => {
    return { opcode: code, nodeid, body: concat(...parts) };
  };
  const o = opcodes;
  return [
    at(directory, o.LOOKUP, name('a')),
    at(file, o.FORGET, body(ForgetIn, { nlookup: 1 })),
    at(0n, o.BATCH_FORGET, batch(2), body(ForgetOne, { nodeid: file, nlookup: 1 }), body(ForgetOne, { nlookup: 1 })),
    at(file, o.GETATTR, body(GetattrIn, { getattrFlags: 1, fh })),
    at(file, o.SETATTR, body(SetattrIn, { valid: 0x1ff, fh, size: 100, atime: 1, mtime: 2, mode: 0o644 })),
    at(link, o.READLINK),
    at(directory, o.SYMLINK, name('b'), name('../../etc/passwd')),
    at(directory, o.MKNOD, body(MknodIn, { mode: 0o010644 }), name('c')),
    at(directory, o.MKDIR, body(MkdirIn, { mode: 0o755 }), name('d')),
    at(directory, o.UNLINK, name('a')),
    at(directory, o.RMDIR, name('d')),
    at(directory, o.RENAME, body(RenameIn, { newdir: directory }), name('a'), name('e')),
    at(directory, o.RENAME2, body(Rename2In, { newdir: directory, flags: 2 }), name('a'), name('e')),
    at(directory, o.LINK, body(LinkIn, { oldnodeid: file }), name('f')),
    at(file, o.OPEN, body(OpenIn, { flags: 2 })),
    { ...at(file, o.READ, body(ReadIn, { fh, offset: 3, size: 2000 })), room: 2000 },
    at(file, o.WRITE, body(WriteIn, { fh, offset: 5, size: 300 }), new Uint8Array(300).fill(0x77)),
    at(directory, o.STATFS),
    at(file, o.RELEASE, body(ReleaseIn, { fh })),
    at(file, o.FSYNC, body(FsyncIn, { fh })),
    at(file, o.SETXATTR, body(o.SETXATTR.in, { size: 3 }), name('user.x'), name('ab')),
    at(file, o.GETXATTR, body(GetxattrIn, { size: 100 }), name('user.x')),
    at(file, o.LISTXATTR, body(GetxattrIn, { size: 100 })),
    at(file, o.FLUSH, body(FlushIn, { fh })),
    at(0n, o.INIT, body(o.INIT.in, { major: 7, minor: 41, maxReadahead: 131072, flags: 0x7bfffffb })),
    at(directory, o.OPENDIR, body(OpenIn)),
    at(directory, o.READDIR, body(ReadIn, { fh: directoryFh, size: 4096 })),
    at(directory, o.READDIRPLUS, body(ReadIn, { fh: directoryFh, size: 4096 })),
    at(directory, o.RELEASEDIR, body(ReleaseIn, { fh: directoryFh })),
    at(directory, o.FSYNCDIR, body(FsyncIn, { fh: directoryFh })),
    at(file, o.SETLK, body(o.SETLK.in, { fh })),
    at(file, o.ACCESS, body(AccessIn, { mask: 4 })),
    at(directory, o.CREATE, body(CreateIn, { flags: 0o102, mode: 0o644 }), name('g')),
    at(0n, o.INTERRUPT, body(o.INTERRUPT.in)),
    at(0n, o.DESTROY),
    at(file, o.IOCTL, body(o.IOCTL.in, { fh, cmd: 0x5401, outSize: 100 })),
    at(file, o.FALLOCATE, body(FallocateIn, { fh, offset: 4096, length: 8192, mode: 1 })),
    at(file, o.LSEEK, body(LseekIn, { fh, whence: 3 })),
    at(directory, o.SYNCFS, body(SyncfsIn)),
    at(file, o.COPY_FILE_RANGE, body(o.COPY_FILE_RANGE.in, { fhIn: fh, nodeidOut: file, fhOut: fh, len: 10 })),
  ];
}

export interface Mutant {
  readonly message: Uint8Array;
  readonly writableBytes: number;
  readonly cut: Cut;
}

/** Spoils a request: its bytes, its length, its room, its pieces. `ends`: whether it may end the FUSE session. */
export function mutate(random: Random, original: Uint8Array, others: readonly Uint8Array[], ends: boolean): Mutant {
  let message = new Uint8Array(original);
  const times = random.below(3) === 0 ? 1 + random.below(4) : 1;
  for (let time = 0; time < times; time += 1) message = spoil(random, message, others);
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  // A few lie about their length and are refused for that; the others get further.
  if (message.length >= 4 && random.below(16) !== 0) view.setUint32(0, message.length, true);
  if (message.length >= InHeader.bytes) makeSafe(view, random, ends);
  const record = message.length >= 8 ? OPCODES[view.getUint32(4, true)] : undefined;
  const fitting = OutHeader.bytes + (record?.reply === 'struct' ? record.outBytes : random.below(4096));
  const pieces = (): number[] => Array.from({ length: random.below(5) }, () => 1 + random.below(100));
  const cut = { indirect: random.below(2) === 0, readable: pieces(), writable: pieces() };
  const small = random.pick([0, random.below(20), random.below(200)]);
  const writableBytes = random.below(12) === 0 ? small : fitting;
  // A chain has at least one descriptor.
  return message.length === 0 && writableBytes === 0
    ? { message, writableBytes: 1, cut }
    : { message, writableBytes, cut };
}

/** One change. */
function spoil(
  random: Random,
  message: Uint8Array<ArrayBuffer>,
  others: readonly Uint8Array[],
): Uint8Array<ArrayBuffer> {
  const { length } = message;
  if (length === 0) return new Uint8Array(random.bytes(random.below(100)));
  const at = place(random, length, 1);
  const view = new DataView(message.buffer);
  switch (random.below(9)) {
    case 0:
      message[at] ^= 1 << random.below(8);
      return message;
    case 1:
      message[at] = random.pick([0, 1, 0x2e, 0x2f, 0x7f, 0x80, 0xff]);
      return message;
    case 2:
      if (length >= 4) view.setUint32(place(random, length, 4), Number(random.pick(EDGES)), true);
      return message;
    case 3:
    case 4:
      if (length >= 8) view.setBigUint64(place(random, length, 8), random.pick(WIDE_EDGES), true);
      return message;
    case 5:
      return message.slice(0, at);
    case 6:
      return new Uint8Array(Buffer.concat([message, random.bytes(random.below(64))]));
    case 7:
      if (length >= 8) view.setUint32(4, random.below(OPCODE_COUNT + 2), true);
      return message;
    default: {
      const other = random.pick(others);
      const from = random.below(other.length + 1);
      return new Uint8Array(Buffer.concat([message.subarray(0, at), other.subarray(from)]));
    }
  }
}

/** Where to change a number: mostly in the body, as most of the header is checked before anything else. */
function place(random: Random, length: number, bytes: number): number {
  const from = random.below(4) !== 0 && length >= InHeader.bytes + bytes ? InHeader.bytes : 0;
  return from + random.below(Math.floor((length - from) / bytes)) * bytes;
}

/** Keeps the host's disk from being filled and flushed, and the session from ending all the time. */
function makeSafe(view: DataView, random: Random, ends: boolean): void {
  const opcode = view.getUint32(4, true);
  const length = InHeader.bytes + 16;
  if (opcode === FALLOCATE.code && view.byteLength >= length + 8) {
    const wanted = view.getBigUint64(length, true);
    if (wanted > LARGEST_ALLOCATION) view.setBigUint64(length, wanted & LARGEST_ALLOCATION, true);
  }
  const flushes = [FSYNC.code, FSYNCDIR.code, SYNCFS.code].includes(opcode as 20);
  const ending = opcode === INIT.code || opcode === DESTROY.code;
  if ((flushes && random.below(100) !== 0) || (ending && !ends)) view.setUint32(4, GETATTR.code, true);
}
