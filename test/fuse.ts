/** FUSE messages for tests: bodies by field name, with any 64-bit value, and what replies say. */
import { Attr, EntryOut, Dirent, Direntplus, OpenOut } from '../src/fuse/index.ts';
import type { AnyStruct } from '../src/wire/index.ts';

export type Fields = Readonly<Record<string, number | bigint>>;

/** The bytes of a struct, none for null. Fields that are not given are 0; values beyond 2^53 come as bigints. */
export function body(struct: AnyStruct | null, fields: Fields = {}): Uint8Array {
  if (struct === null) return new Uint8Array(0);
  const view = new DataView(new ArrayBuffer(struct.bytes));
  for (const [key, value] of Object.entries(fields)) {
    const field = struct.layout.find((each) => each.name === key);
    if (field === undefined) throw new RangeError(`${struct.cname} has no field ${key}`);
    put(view, field.offset, field.bytes, BigInt(value));
  }
  return new Uint8Array(view.buffer);
}

function put(view: DataView, at: number, bytes: number, value: bigint): void {
  for (let i = 0; i < bytes; i += 1) view.setUint8(at + i, Number((value >> BigInt(8 * i)) & 0xffn));
}

/** Little-endian 32-bit words. */
export function words(...values: number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  for (const [i, value] of values.entries()) view.setUint32(i * 4, value >>> 0, true);
  return new Uint8Array(view.buffer);
}

/** A NUL-terminated name. */
export function name(text: string | Uint8Array): Uint8Array {
  const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : text;
  return concat(bytes, new Uint8Array(1));
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** The bytes of a reply. */
export function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

/** fuse_attr, all 64 bits of everything; times in nanoseconds. */
export interface FileAttributes {
  readonly ino: bigint;
  readonly size: bigint;
  readonly blocks: bigint;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly mode: bigint;
  readonly nlink: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly rdev: bigint;
  readonly blksize: bigint;
  readonly flags: bigint;
}

export function attributesOf(view: DataView, at: number): FileAttributes {
  const { offsets } = Attr;
  const long = (field: keyof typeof offsets): bigint => view.getBigUint64(at + offsets[field], true);
  const word = (field: keyof typeof offsets): bigint => BigInt(view.getUint32(at + offsets[field], true));
  const time = (field: 'atime' | 'mtime' | 'ctime'): bigint =>
    view.getBigInt64(at + offsets[field], true) * 1_000_000_000n + word(`${field}nsec`);
  return {
    ino: long('ino'),
    size: long('size'),
    blocks: long('blocks'),
    atimeNs: time('atime'),
    mtimeNs: time('mtime'),
    ctimeNs: time('ctime'),
    mode: word('mode'),
    nlink: word('nlink'),
    uid: word('uid'),
    gid: word('gid'),
    rdev: word('rdev'),
    blksize: word('blksize'),
    flags: word('flags'),
  };
}

/** fuse_entry_out. */
export interface Entry {
  readonly nodeid: bigint;
  readonly entryValid: bigint;
  readonly attrValid: bigint;
  readonly attributes: FileAttributes;
}

export function entryOf(view: DataView, at = 0): Entry {
  return {
    nodeid: view.getBigUint64(at + EntryOut.offsets.nodeid, true),
    entryValid: view.getBigUint64(at + EntryOut.offsets.entryValid, true),
    attrValid: view.getBigUint64(at + EntryOut.offsets.attrValid, true),
    attributes: attributesOf(view, at + EntryOut.offsets.attr),
  };
}

/** The handle in a fuse_open_out. */
export function handleOf(view: DataView, at = 0): bigint {
  return view.getBigUint64(at + OpenOut.offsets.fh, true);
}

/** One entry of a listing. */
export interface Listed {
  /** As bytes in latin1, so that any name is told from any other. */
  readonly name: string;
  readonly ino: bigint;
  readonly type: number;
  /** The cookie of the entry after this one. */
  readonly next: bigint;
  /** With READDIRPLUS. */
  readonly entry: Entry | undefined;
}

/** The entries of a READDIR or READDIRPLUS reply. Throws where they do not fill it exactly. */
export function listedOf(view: DataView, plus: boolean): Listed[] {
  const listed: Listed[] = [];
  const start = plus ? Direntplus.offsets.dirent : 0;
  let at = 0;
  while (at < view.byteLength) {
    const dirent = at + start;
    const length = Dirent.namelen(view, dirent);
    const end = dirent + Dirent.bytes + length;
    if (end > view.byteLength) throw new RangeError(`an entry ends at ${end} of ${view.byteLength} bytes`);
    listed.push({
      name: Buffer.from(view.buffer, view.byteOffset + dirent + Dirent.bytes, length).toString('latin1'),
      ino: view.getBigUint64(dirent, true),
      type: Dirent.type(view, dirent),
      next: view.getBigUint64(dirent + Dirent.offsets.off, true),
      entry: plus ? entryOf(view, at) : undefined,
    });
    at += (end - at + 7) & ~7;
  }
  if (at !== view.byteLength) throw new RangeError(`entries end at ${at} of ${view.byteLength} bytes`);
  return listed;
}
