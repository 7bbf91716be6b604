/** Attributes and times as FUSE has them. */
import { EIO } from '../core/index.ts';
import { Attr, AttrOut, EntryOut } from '../fuse/index.ts';
import { S_IFMT } from '../sys/index.ts';
import { Refusal } from './refusal.ts';
import type { Attributes } from './volume.ts';

const NS = 1_000_000_000n;

/** S_IFIFO, S_IFCHR, S_IFDIR, S_IFBLK, S_IFREG, S_IFLNK, S_IFSOCK: by the number that S_IFMT leaves, shifted. */
const TYPES = [1, 2, 4, 6, 8, 10, 12];
const SIZE_MAX = 2n ** 63n - 1n;

/** The struct fuse_attr at `at`. Throws EIO where no file can be like that (fs/fuse/dir.c, fuse_invalid_attr). */
export function attributesAt(view: DataView, at: number): Attributes {
  const attributes = anyAttributesAt(view, at);
  if (!TYPES.includes((attributes.mode & S_IFMT) >> 12) || attributes.size > SIZE_MAX) throw new Refusal(EIO);
  return attributes;
}

function anyAttributesAt(view: DataView, at: number): Attributes {
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
  /** Of another file, where it is another one. */
  readonly generation: bigint;
  readonly entryValidMs: number;
  readonly attrValidMs: number;
  readonly attributes: Attributes;
  /** ATTR flags. */
  readonly flags: number;
}

/** Throws EIO where no file can be like that. */
export function entryAt(view: DataView, at: number): Entry {
  const attrAt = at + EntryOut.offsets.attr;
  const nodeid = view.getBigUint64(at + EntryOut.offsets.nodeid, true);
  return {
    nodeid,
    generation: view.getBigUint64(at + EntryOut.offsets.generation, true),
    entryValidMs: EntryOut.entryValid(view, at) * 1000 + EntryOut.entryValidNsec(view, at) / 1e6,
    attrValidMs: EntryOut.attrValid(view, at) * 1000 + EntryOut.attrValidNsec(view, at) / 1e6,
    attributes: nodeid === 0n ? anyAttributesAt(view, attrAt) : attributesAt(view, attrAt),
    flags: Attr.flags(view, attrAt),
  };
}

/** How long the attributes of a struct fuse_attr_out are good for. */
export function attrValidMs(view: DataView): number {
  return AttrOut.attrValid(view, 0) * 1000 + AttrOut.attrValidNsec(view, 0) / 1e6;
}
