/** Rules for the strings in a request. All of them return a length in bytes without the NUL, or a negative errno. */
import { EINVAL, ENAMETOOLONG, NAME_MAX, PATH_MAX } from '../core/index.ts';

const SLASH = 0x2f;
const DOT = 0x2e;

/**
 * The length of an entry's name at `at`, which must end with a NUL before `end`. EINVAL: no NUL, empty, a '/', '.' or
 * '..' (a guest's kernel resolves those itself; EXPORT_SUPPORT, which would send them, is never agreed on).
 * ENAMETOOLONG: over 255 bytes. Any other byte may be in a name.
 */
export function nameLength(u8: Uint8Array, at: number, end: number): number {
  const length = stringLength(u8, at, end, NAME_MAX);
  if (length < 0) return length;
  for (let i = at; i < at + length; i += 1) {
    if (u8[i] === SLASH) return -EINVAL;
  }
  if (u8[at] === DOT && (length === 1 || (length === 2 && u8[at + 1] === DOT))) return -EINVAL;
  return length;
}

/** The length of a symlink's target: 1 to 4095 bytes of anything but NUL. */
export function targetLength(u8: Uint8Array, at: number, end: number): number {
  return stringLength(u8, at, end, PATH_MAX - 1);
}

/** The length of an extended attribute's name: 1 to 255 bytes (XATTR_NAME_MAX) of anything but NUL. */
export function xattrNameLength(u8: Uint8Array, at: number, end: number): number {
  return stringLength(u8, at, end, NAME_MAX);
}

function stringLength(u8: Uint8Array, at: number, end: number, max: number): number {
  let i = at;
  while (i < end && u8[i] !== 0) i += 1;
  if (i >= end || i === at) return -EINVAL;
  const length = i - at;
  return length > max ? -ENAMETOOLONG : length;
}
