/** What callers may do: the guest's kernel decides it, by what the daemon tells of an inode (default_permissions). */
import { EACCES, ENODATA, EOPNOTSUPP, EPERM } from '../core/index.ts';
import { flags as fuse, GetxattrIn, opcodes } from '../fuse/index.ts';
import { S_IFDIR, S_IFMT, S_IFREG } from '../sys/index.ts';
import { ACL_ACCESS, ACL_PREFIX, aclOf, aclPermits } from './acl.ts';
import { bodyOf } from './body.ts';
import type { Mount } from './mount.ts';
import { Refusal } from './refusal.ts';
import type { Credentials } from './session.ts';
import type { Task } from './task.ts';
import type { Node } from './tree.ts';
import type { Attributes } from './volume.ts';

export const X_OK = 1;
export const W_OK = 2;
export const R_OK = 4;

const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_ISVTX = 0o1000;
const S_IXGRP = 0o010;
const S_IFSOCK = 0o140000;
/** The longest ACL that Linux asks for. */
const ACL_BYTES = 4096;

/** inode_owner_or_capable */
export function owns({ uid }: Attributes, who: Credentials): boolean {
  return who.uid === 0 || who.uid === uid;
}

/** in_group_or_capable */
export function isMember(gid: number, who: Credentials): boolean {
  return who.uid === 0 || who.gid === gid || who.groups.includes(gid);
}

/** Whether what a caller writes takes set-id bits from a file (setattr_should_drop_suidgid, fs/attr.c). */
export function losesSetIds({ mode, gid }: Attributes, who: Credentials): boolean {
  if (who.uid === 0 || (mode & S_IFMT) !== S_IFREG) return false;
  if ((mode & S_ISUID) !== 0) return true;
  return (mode & S_ISGID) !== 0 && ((mode & S_IXGRP) !== 0 || !isMember(gid, who));
}

/** Capabilities of root over what the bits say. */
function overrides(mode: number, wanted: number): boolean {
  return (wanted & X_OK) === 0 || (mode & S_IFMT) === S_IFDIR || (mode & 0o111) !== 0;
}

export class Rights {
  readonly #mount: Mount;

  constructor(mount: Mount) {
    this.#mount = mount;
  }

  get #who(): Credentials {
    return this.#mount.session.credentials;
  }

  /**
   * Throws Refusal (EACCES) where the caller has not all of the rights. As fuse_permission (fs/fuse/dir.c): what is
   * known is believed until its time is over, but nobody is turned away by it.
   */
  *require(node: Node, wanted: number): Task<void> {
    if (!this.#isKnown(node)) yield* this.#mount.refresh(node, undefined, true);
    else if (yield* this.#permits(node, wanted)) return;
    else yield* this.#mount.refresh(node, undefined, true);
    if (!(yield* this.#permits(node, wanted))) throw new Refusal(EACCES);
  }

  /** Where nothing is kept, all but the root was looked up on the way. */
  #isKnown(node: Node): boolean {
    const { mode, tree } = this.#mount;
    return mode === 'none' ? node !== tree.root : this.#mount.isFresh(node);
  }

  /** generic_permission, fs/namei.c. */
  *#permits(node: Node, wanted: number): Task<boolean> {
    const who = this.#who;
    const { mode, uid, gid } = node.attributes;
    if (who.uid === 0 && overrides(mode, wanted)) return true;
    if (who.uid === uid) return ((mode >> 6) & wanted) === wanted;
    if ((mode & 0o070) !== 0 && this.#mount.session.has(fuse.INIT.POSIX_ACL)) {
      const acl = yield* this.#aclOf(node);
      if (acl !== undefined) return aclPermits(acl, node.attributes, wanted, who);
    }
    const isGroup = who.gid === gid || who.groups.includes(gid);
    return ((mode >> (isGroup ? 3 : 0)) & wanted) === wanted;
  }

  *#aclOf(node: Node): Task<ReturnType<typeof aclOf>> {
    node.acl ??= yield* this.#readAcl(node);
    return aclOf(node.acl);
  }

  *#readAcl(node: Node): Task<Uint8Array> {
    const body = bodyOf(GetxattrIn, { size: ACL_BYTES }, Buffer.from(ACL_ACCESS));
    const call = { opcode: opcodes.GETXATTR, nodeid: node.nodeid, body, room: ACL_BYTES };
    try {
      return new Uint8Array((yield* this.#mount.asked(call, EOPNOTSUPP)).buffer);
    } catch (error) {
      if (error instanceof Refusal && (error.errno === ENODATA || error.errno === EOPNOTSUPP)) return new Uint8Array(0);
      throw error;
    }
  }

  /** may_delete_dentry, fs/namei.c: to take a name away, or to give it another file. */
  *requireRemoval(parent: Node, node: Node): Task<void> {
    yield* this.require(parent, W_OK | X_OK);
    const isSticky = (parent.attributes.mode & S_ISVTX) !== 0;
    if (isSticky && !owns(parent.attributes, this.#who) && this.#who.uid !== node.attributes.uid) {
      throw new Refusal(EPERM);
    }
  }

  /** xattr_permission, fs/xattr.c, and for ACLs what fs/posix_acl.c asks for. */
  *requireXattr(node: Node, name: string, wanted: number): Task<void> {
    const who = this.#who;
    const writes = wanted === W_OK;
    const { mode } = node.attributes;
    if (name.startsWith(ACL_PREFIX)) {
      if (writes && !owns(node.attributes, who)) throw new Refusal(EPERM);
    } else if (name.startsWith('security.')) {
      if (writes && who.uid !== 0) throw new Refusal(EPERM);
    } else if (name.startsWith('trusted.')) {
      if (who.uid !== 0) throw new Refusal(writes ? EPERM : ENODATA);
    } else if (!name.startsWith('system.')) {
      if (name.startsWith('user.')) {
        const type = mode & S_IFMT;
        if (type !== S_IFREG && type !== S_IFDIR && type !== S_IFSOCK) throw new Refusal(writes ? EPERM : ENODATA);
        const isSticky = type === S_IFDIR && (mode & S_ISVTX) !== 0;
        if (isSticky && writes && !owns(node.attributes, who)) throw new Refusal(EPERM);
      }
      yield* this.require(node, wanted);
    }
  }
}
