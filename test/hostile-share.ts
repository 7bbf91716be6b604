/** The right answers to all that a client asks: a share of a few files that never changes, whatever is done to it. */
import { ENODATA, ENOENT, ENOSYS } from '../src/core/index.ts';
import {
  Attr,
  AttrOut,
  CreateOut,
  Dirent,
  Direntplus,
  direntBytes,
  direntplusBytes,
  EntryOut,
  InHeader,
  InitIn,
  InitOut,
  LinkIn,
  LkOut,
  LseekOut,
  MknodIn,
  OpenOut,
  type Opcode,
  type OpcodeName,
  ReadIn,
  StatfsOut,
  WriteIn,
  WriteOut,
} from '../src/fuse/index.ts';
import { body, concat, type Fields } from './fuse.ts';

export const ROOT = 1;
export const FILE = 2;
export const DIRECTORY = 3;
export const LINK = 4;
/** What is asked of it, but for its name, is never answered. */
export const PENDING = 9;
const MADE = { CREATE: 10, MKNOD: 11, MKDIR: 12, SYMLINK: 13 } as const;

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFMT = 0o170000;
const MIB = 1024 * 1024;
export const FILE_BYTES = 10_000;
export const TARGET = 'file';

const NAMES: Readonly<Record<string, number>> = { file: FILE, directory: DIRECTORY, link: LINK, pending: PENDING };

/** A request that has arrived. */
export interface Asked {
  readonly opcode: Opcode;
  readonly nodeid: bigint;
  /** All of it. */
  readonly view: DataView;
}

/** The name after the fixed part. */
export function nameIn({ opcode, view }: Asked): string {
  const at = view.byteOffset + InHeader.bytes + (opcode.in?.bytes ?? 0);
  const rest = Buffer.from(view.buffer as ArrayBuffer, at, view.byteOffset + view.byteLength - at);
  return rest.toString('latin1').split('\0')[0];
}

function modeOf(nodeid: number): number {
  if (nodeid === ROOT || nodeid === DIRECTORY || nodeid === MADE.MKDIR) return S_IFDIR | 0o777;
  return nodeid === LINK || nodeid === MADE.SYMLINK ? S_IFLNK | 0o777 : S_IFREG | 0o666;
}

function attributes(nodeid: number, mode = modeOf(nodeid)): Uint8Array {
  const size = (mode & S_IFMT) === S_IFREG ? FILE_BYTES : 4096;
  return body(Attr, { ino: nodeid, size, blocks: 24, mode, nlink: 1, uid: process.getuid?.() ?? 0, blksize: 4096 });
}

/** A fuse_entry_out of which nothing may be kept. */
function entry(nodeid: number, mode?: number): Uint8Array {
  return concat(body(EntryOut, { nodeid }).subarray(0, EntryOut.offsets.attr), attributes(nodeid, mode));
}

function attrOut(nodeid: number): Uint8Array {
  return concat(body(AttrOut).subarray(0, AttrOut.offsets.attr), attributes(nodeid));
}

/** One entry of READDIR or READDIRPLUS. */
export function dirent(name: string | Uint8Array, nodeid: number, next: number | bigint, plus: boolean): Uint8Array {
  const bytes = Buffer.from(name as string);
  const fields: Fields = { ino: nodeid, off: next, namelen: bytes.length, type: modeOf(nodeid) >> 12 };
  const before = plus ? entry(nodeid) : new Uint8Array(0);
  const whole = new Uint8Array(plus ? direntplusBytes(bytes.length) : direntBytes(bytes.length));
  whole.set(concat(before, body(Dirent, fields), bytes));
  return whole;
}

const LISTED: readonly (readonly [string, number])[] = [
  ['.', ROOT],
  ['..', ROOT],
  ['file', FILE],
  ['directory', DIRECTORY],
  ['link', LINK],
];

function list({ view }: Asked, plus: boolean): Uint8Array {
  const from = ReadIn.offset(view, InHeader.bytes);
  const left = LISTED.slice(from);
  return concat(...left.map(([name, nodeid], i) => dirent(name, nodeid, from + i + 1, plus)));
}

function init({ view }: Asked): Uint8Array {
  const at = InHeader.bytes;
  return body(InitOut, {
    major: 7,
    minor: 41,
    maxReadahead: InitIn.maxReadahead(view, at),
    flags: InitIn.flags(view, at),
    flags2: InitIn.flags2(view, at),
    maxWrite: MIB,
    timeGran: 1,
    maxPages: 256,
    maxBackground: 16,
    congestionThreshold: 12,
  });
}

function read({ view }: Asked): Uint8Array {
  const offset = ReadIn.offset(view, InHeader.bytes);
  const size = ReadIn.size(view, InHeader.bytes);
  return new Uint8Array(Math.max(0, Math.min(size, FILE_BYTES - offset))).fill(0x61);
}

const opened = (): Uint8Array => body(OpenOut, { fh: 7 });
const nothing = (): Uint8Array => new Uint8Array(0);

/** What follows the header of a good reply; a negative errno for a refusal. */
const ANSWERS: Partial<Record<OpcodeName, (asked: Asked) => Uint8Array | number>> = {
  INIT: init,
  LOOKUP: (asked) => (nameIn(asked) in NAMES ? entry(NAMES[nameIn(asked)]) : -ENOENT),
  GETATTR: ({ nodeid }) => attrOut(Number(nodeid)),
  SETATTR: ({ nodeid }) => attrOut(Number(nodeid)),
  READLINK: () => Buffer.from(TARGET),
  SYMLINK: () => entry(MADE.SYMLINK),
  MKNOD: ({ view }) => entry(MADE.MKNOD, MknodIn.mode(view, InHeader.bytes)),
  MKDIR: () => entry(MADE.MKDIR),
  LINK: ({ view }) => entry(LinkIn.oldnodeid(view, InHeader.bytes)),
  CREATE: () => {
    const made = new Uint8Array(CreateOut.bytes);
    made.set(entry(MADE.CREATE));
    made.set(opened(), CreateOut.offsets.open);
    return made;
  },
  OPEN: opened,
  OPENDIR: opened,
  READ: read,
  WRITE: ({ view }) => body(WriteOut, { size: WriteIn.size(view, InHeader.bytes) }),
  STATFS: () => body(StatfsOut),
  GETXATTR: () => Buffer.from('value'),
  LISTXATTR: () => Buffer.from('user.one\0user.two\0'),
  READDIR: (asked) => list(asked, false),
  READDIRPLUS: (asked) => list(asked, true),
  GETLK: () => body(LkOut).fill(2, 16, 17),
  LSEEK: () => body(LseekOut, { offset: 4096 }),
  COPY_FILE_RANGE: () => body(WriteOut, { size: 100 }),
  REMOVEXATTR: () => -ENODATA,
};
const DONE = new Set<OpcodeName>([
  'UNLINK',
  'RMDIR',
  'RENAME',
  'RENAME2',
  'RELEASE',
  'RELEASEDIR',
  'FSYNC',
  'FSYNCDIR',
  'SETXATTR',
  'FLUSH',
  'SETLK',
  'SETLKW',
  'DESTROY',
  'FALLOCATE',
  'SYNCFS',
  'SETUPMAPPING',
  'REMOVEMAPPING',
]);

/** As `ANSWERS`. */
export function rightAnswer(asked: Asked): Uint8Array | number {
  const name = asked.opcode.name as OpcodeName;
  if (DONE.has(name)) return nothing();
  return ANSWERS[name]?.(asked) ?? -ENOSYS;
}

/** Where the name of the first entry's dirent is described, in a listing's reply behind its header. */
export const FIRST_DIRENT = { plus: Direntplus.offsets.dirent, plain: 0 } as const;
