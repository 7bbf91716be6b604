/** POSIX ACLs as attributes (include/uapi/linux/posix_acl_xattr.h), and what they allow. */
import type { Credentials } from './session.ts';
import type { Attributes } from './volume.ts';

export const ACL_ACCESS = 'system.posix_acl_access';
export const ACL_PREFIX = 'system.posix_acl_';

const HEADER_BYTES = 4;
const ENTRY_BYTES = 8;
const USER_OBJ = 0x01;
const USER = 0x02;
const GROUP_OBJ = 0x04;
const GROUP = 0x08;
const MASK = 0x10;
const OTHER = 0x20;

/** What an ACL says of somebody. Entries are in the order of their tags. */
interface AclEntry {
  readonly tag: number;
  readonly rights: number;
  readonly id: number;
}

/** Undefined where it has no entries. */
export function aclOf(value: Uint8Array): readonly AclEntry[] | undefined {
  const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
  const entries: AclEntry[] = [];
  for (let at = HEADER_BYTES; at + ENTRY_BYTES <= value.length; at += ENTRY_BYTES) {
    entries.push({
      tag: view.getUint16(at, true),
      rights: view.getUint16(at + 2, true),
      id: view.getUint32(at + 4, true),
    });
  }
  return entries.length === 0 ? undefined : entries;
}

/** posix_acl_permission, fs/posix_acl.c. */
export function aclPermits(
  acl: readonly AclEntry[],
  { uid, gid }: Attributes,
  wanted: number,
  who: Credentials,
): boolean {
  const mask = acl.find(({ tag }) => tag === MASK)?.rights ?? 7;
  const allows = (rights: number): boolean => (rights & wanted) === wanted;
  const isIn = (group: number): boolean => who.gid === group || who.groups.includes(group);
  let inGroup = false;
  for (const { tag, rights, id } of acl) {
    if (tag === USER_OBJ && who.uid === uid) return allows(rights);
    if (tag === USER && who.uid === id) return allows(rights & mask);
    if ((tag === GROUP_OBJ && isIn(gid)) || (tag === GROUP && isIn(id))) {
      inGroup = true;
      if (allows(rights)) return allows(rights & mask);
    }
    if (tag === OTHER) return !inGroup && allows(rights);
  }
  return false;
}
