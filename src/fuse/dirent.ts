/** Entries of READDIR and READDIRPLUS replies. Inode numbers and cookies come as two words: all 64 bits are kept. */
import { Dirent, Direntplus } from './structs.ts';

const OFF = Dirent.offsets.off;
const NAME = Dirent.offsets.name;

/** Length of a fuse_dirent with a name of `nameBytes`: a multiple of 8. */
export function direntBytes(nameBytes: number): number {
  return (Dirent.bytes + nameBytes + 7) & ~7;
}

/** Length of a fuse_direntplus with a name of `nameBytes`: a multiple of 8. */
export function direntplusBytes(nameBytes: number): number {
  return (Direntplus.bytes + nameBytes + 7) & ~7;
}

/** DT_* of a mode: the kernel's IFTODT. */
export function direntType(mode: number): number {
  return (mode >>> 12) & 15;
}

/**
 * Writes a fuse_dirent at byte `at` of `view` and `u8` (the same memory), its name from `nameAt` of `names`, its
 * padding zero. `offLo` and `offHi` are the cookie of the entry after it. Returns its length, or 0, with nothing
 * written, where it does not fit into `room` bytes.
 */
export function encodeDirent(
  view: DataView,
  u8: Uint8Array,
  at: number,
  room: number,
  inoLo: number,
  inoHi: number,
  offLo: number,
  offHi: number,
  type: number,
  names: Uint8Array,
  nameAt: number,
  nameBytes: number,
): number {
  const total = direntBytes(nameBytes);
  if (total > room) return 0;
  view.setUint32(at, inoLo, true);
  view.setUint32(at + 4, inoHi, true);
  view.setUint32(at + OFF, offLo, true);
  view.setUint32(at + OFF + 4, offHi, true);
  Dirent.set.namelen(view, at, nameBytes);
  Dirent.set.type(view, at, type);
  // A loop, as a name is short and `set(subarray())` allocates.
  const start = at + NAME;
  for (let i = 0; i < nameBytes; i += 1) u8[start + i] = names[nameAt + i];
  for (let i = start + nameBytes; i < at + total; i += 1) u8[i] = 0;
  return total;
}

/**
 * The same for a fuse_direntplus. Its fuse_entry_out, the first 128 bytes, is left zero: a node id of 0 means 'no
 * attributes here' (fs/fuse/readdir.c); to give them, the caller fills EntryOut at `at` afterwards.
 */
export function encodeDirentplus(
  view: DataView,
  u8: Uint8Array,
  at: number,
  room: number,
  inoLo: number,
  inoHi: number,
  offLo: number,
  offHi: number,
  type: number,
  names: Uint8Array,
  nameAt: number,
  nameBytes: number,
): number {
  if (direntplusBytes(nameBytes) > room) return 0;
  const entry = Direntplus.offsets.dirent;
  for (let i = 0; i < entry; i += 4) view.setUint32(at + i, 0, true);
  const rest = room - entry;
  const dirent = encodeDirent(view, u8, at + entry, rest, inoLo, inoHi, offLo, offHi, type, names, nameAt, nameBytes);
  return entry + dirent;
}
