/** Attributes and times as FUSE has them. */
import { Attr, AttrOut, EntryOut } from '../fuse/index.ts';
import type { Attributes } from './volume.ts';

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;

const NS = 1_000_000_000n;

/** The struct fuse_attr at `at`. */
export function attributesAt(view: DataView, at: number): Attributes {
  const { offsets } = Attr;
  const long = (field: keyof typeof offsets): bigint => view.getBigUint64(at + offsets[field], true);
  const time = (field: 'atime' | 'mtime' | 'ctime'): bigint =>
    view.getBigInt64(at + offsets[field], true) * NS + BigInt(view.getUint32(at + offsets[`${field}nsec`], true));
  return {
    ino: long('ino'),
    size: long('size'),
    blocks: long('blocks'),
    atimeNs: time('atime'),
    mtimeNs: time('mtime'),
    ctimeNs: time('ctime'),
    btimeNs: undefined,
    mode: Attr.mode(view, at),
    nlink: Attr.nlink(view, at),
    uid: Attr.uid(view, at),
    gid: Attr.gid(view, at),
    rdev: Attr.rdev(view, at),
    blksize: Attr.blksize(view, at),
  };
}

/** What a reply says of a name: struct fuse_entry_out. */
export interface Entry {
  /** 0n: there is no such name. */
  readonly nodeid: bigint;
  readonly entryValidMs: number;
  readonly attrValidMs: number;
  readonly attributes: Attributes;
  /** ATTR flags. */
  readonly flags: number;
}

export function entryAt(view: DataView, at: number): Entry {
  const attrAt = at + EntryOut.offsets.attr;
  return {
    nodeid: view.getBigUint64(at + EntryOut.offsets.nodeid, true),
    entryValidMs: EntryOut.entryValid(view, at) * 1000 + EntryOut.entryValidNsec(view, at) / 1e6,
    attrValidMs: EntryOut.attrValid(view, at) * 1000 + EntryOut.attrValidNsec(view, at) / 1e6,
    attributes: attributesAt(view, attrAt),
    flags: Attr.flags(view, attrAt),
  };
}

/** How long the attributes of a struct fuse_attr_out are good for. */
export function attrValidMs(view: DataView): number {
  return AttrOut.attrValid(view, 0) * 1000 + AttrOut.attrValidNsec(view, 0) / 1e6;
}
