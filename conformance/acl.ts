/** POSIX ACLs as attributes: include/uapi/linux/posix_acl_xattr.h. */

export const ACL_ACCESS = 'system.posix_acl_access';
export const ACL_DEFAULT = 'system.posix_acl_default';

const VERSION = 2;
const USER_OBJ = 1;
const USER = 2;
const GROUP_OBJ = 4;
const GROUP = 8;
const MASK = 16;
const OTHER = 32;
const UNDEFINED_ID = 0xffffffff;

/** One user or group by number, with its rwx bits. */
export interface NamedRight {
  readonly user?: number;
  readonly group?: number;
  readonly rights: number;
}

export interface BaseRights {
  readonly owner?: number;
  readonly group?: number;
  readonly other?: number;
  readonly mask?: number;
}

/** The attribute's value: owner rw, group r, other r unless told, with a mask where somebody is named. */
export function aclValue(named: readonly NamedRight[], base: BaseRights = {}): Uint8Array {
  const { owner = 6, group = 4, other = 4, mask = 7 } = base;
  const users = named.filter(({ user }) => user !== undefined).map((each) => [USER, each.rights, each.user]);
  const groups = named.filter((each) => each.group !== undefined).map((each) => [GROUP, each.rights, each.group]);
  const entries = [
    [USER_OBJ, owner],
    ...users,
    [GROUP_OBJ, group],
    ...groups,
    ...(named.length > 0 ? [[MASK, mask]] : []),
    [OTHER, other],
  ];
  const view = new DataView(new ArrayBuffer(4 + entries.length * 8));
  view.setUint32(0, VERSION, true);
  for (const [i, [tag, rights, id]] of entries.entries()) {
    view.setUint16(4 + i * 8, tag ?? 0, true);
    view.setUint16(6 + i * 8, rights ?? 0, true);
    view.setUint32(8 + i * 8, id ?? UNDEFINED_ID, true);
  }
  return new Uint8Array(view.buffer);
}
