/** What may follow the names of a request: security contexts and supplementary groups (fuse.h, fuse_ext_type). Pure. */
import { EINVAL } from '../core/index.ts';
import { EXT_GROUPS, MAX_NR_SECCTX } from './flags.ts';
import { xattrNameLength } from './names.ts';
import { ExtHeader, Secctx, SuppGroups } from './structs.ts';

/** Linux sends one group, that of the parent directory. */
export const MAX_GROUPS = 16;

/** Where the extensions of a request are, as offsets in the buffer. */
export interface Extensions {
  /** The first gid; `groupCount` of them, 4 bytes each, not aligned. */
  groups: number;
  groupCount: number;
  /** The first fuse_secctx; the next one is `secctxBytes` further on. */
  contexts: number;
  contextCount: number;
}

/**
 * Checks the extensions from `at` to `end` and lays them out: 0, or -EINVAL for lengths that do not fit, for a kind
 * that comes twice and for one that we do not know. A guest sends only what was agreed on at INIT.
 */
export function layExtensions(view: DataView, u8: Uint8Array, at: number, end: number, into: Extensions): number {
  into.groupCount = 0;
  into.contextCount = 0;
  let seen = 0;
  for (let next = at; next < end; ) {
    if (end - next < ExtHeader.bytes) return -EINVAL;
    const size = ExtHeader.size(view, next);
    const type = ExtHeader.type(view, next);
    // All of them are in units of 8 bytes, as their sum in fuse_in_header is.
    if (size < ExtHeader.bytes || size > end - next || size % 8 !== 0) return -EINVAL;
    const kind = type <= MAX_NR_SECCTX ? 1 : type === EXT_GROUPS ? 2 : 0;
    if (kind === 0 || (seen & kind) !== 0) return -EINVAL;
    seen |= kind;
    const body = next + ExtHeader.bytes;
    next += size;
    // A fuse_secctx_header has the number of contexts where others have their type.
    const result = kind === 1 ? layContexts(view, u8, body, next, type, into) : layGroups(view, body, next, into);
    if (result < 0) return result;
  }
  return 0;
}

function layGroups(view: DataView, at: number, end: number, into: Extensions): number {
  if (end - at < SuppGroups.bytes) return -EINVAL;
  const count = SuppGroups.nrGroups(view, at);
  if (count > MAX_GROUPS || end - at - SuppGroups.bytes < count * 4) return -EINVAL;
  into.groups = at + SuppGroups.bytes;
  into.groupCount = count;
  return 0;
}

function layContexts(view: DataView, u8: Uint8Array, at: number, end: number, count: number, into: Extensions): number {
  into.contexts = at;
  into.contextCount = count;
  let next = at;
  for (let i = 0; i < count; i += 1) {
    if (end - next < Secctx.bytes) return -EINVAL;
    const name = next + Secctx.bytes;
    const nameLength = xattrNameLength(u8, name, end);
    if (nameLength < 0) return nameLength;
    if (Secctx.size(view, next) > end - name - nameLength - 1) return -EINVAL;
    next += secctxBytes(Secctx.size(view, next), nameLength);
  }
  return 0;
}

/** From one context to the next (FUSE_REC_ALIGN): its header, its name with the NUL, its value, and up to 7 zeros. */
export function secctxBytes(valueLength: number, nameLength: number): number {
  return (Secctx.bytes + nameLength + 1 + valueLength + 7) & ~7;
}
