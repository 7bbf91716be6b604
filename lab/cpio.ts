/*
 * A writer for the archive format that Linux unpacks as its first root filesystem: "newc" cpio
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Same entries, same bytes: inode numbers count up, times
 * are zero.
 */

/** A file of an archive. Paths are relative: `bin/sh`. */
export type CpioEntry =
  | { readonly kind: 'folder'; readonly path: string; readonly mode?: number }
  | { readonly kind: 'file'; readonly path: string; readonly mode?: number; readonly bytes: Uint8Array }
  | { readonly kind: 'symlink'; readonly path: string; readonly target: string }
  | {
      readonly kind: 'character device';
      readonly path: string;
      readonly mode?: number;
      readonly major: number;
      readonly minor: number;
    };

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const S_IFCHR = 0o020000;
const HEADER_BYTES = 110;

const encoder = new TextEncoder();

interface Node {
  readonly path: string;
  readonly mode: number;
  readonly bytes: Uint8Array;
  readonly major: number;
  readonly minor: number;
}

const NOTHING = new Uint8Array(0);

function nodeOf(entry: CpioEntry): Node {
  const plain = { path: entry.path, bytes: NOTHING, major: 0, minor: 0 };
  switch (entry.kind) {
    case 'folder':
      return { ...plain, mode: S_IFDIR | (entry.mode ?? 0o755) };
    case 'file':
      return { ...plain, mode: S_IFREG | (entry.mode ?? 0o644), bytes: entry.bytes };
    case 'symlink':
      return { ...plain, mode: S_IFLNK | 0o777, bytes: encoder.encode(entry.target) };
    case 'character device':
      return { ...plain, mode: S_IFCHR | (entry.mode ?? 0o600), major: entry.major, minor: entry.minor };
  }
}

/** Header and name of one entry, padded to 4 bytes. */
function headOf(node: Node, inode: number): Uint8Array {
  const name = encoder.encode(`${node.path}\0`);
  const isFolder = (node.mode & S_IFMT) === S_IFDIR;
  // inode, mode, uid, gid, links, time, size, device of the file (2), device it is (2), name size, checksum (unused)
  const numbers = [
    ...[inode, node.mode, 0, 0, isFolder ? 2 : 1, 0, node.bytes.length],
    ...[0, 0, node.major, node.minor, name.length, 0],
  ];
  const head = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`;
  const bytes = new Uint8Array(padded(HEADER_BYTES + name.length));
  bytes.set(encoder.encode(head));
  bytes.set(name, HEADER_BYTES);
  return bytes;
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

/**
 * An archive of the entries, in their order. A folder must come before what is in it; the kernel makes none by itself.
 *
 * @throws RangeError for an absolute or empty path, or `..` in one.
 */
export function cpio(entries: Iterable<CpioEntry>): Uint8Array {
  const parts: Uint8Array[] = [];
  let inode = 1;
  const add = (node: Node): void => {
    parts.push(headOf(node, inode), node.bytes, new Uint8Array(padded(node.bytes.length) - node.bytes.length));
    inode += 1;
  };
  for (const entry of entries) {
    if (entry.path === '' || entry.path.startsWith('/') || entry.path.split('/').includes('..')) {
      throw new RangeError(`not a path for an archive: '${entry.path}'`);
    }
    add(nodeOf(entry));
  }
  inode = 0;
  add({ path: 'TRAILER!!!', mode: 0, bytes: NOTHING, major: 0, minor: 0 });
  return concatenated(parts);
}

function concatenated(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
