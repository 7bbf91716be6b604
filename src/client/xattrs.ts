/** Extended attributes: what the kernel checks, and the requests (fs/xattr.c, fs/fuse/xattr.c). */
import { E2BIG, EINVAL, EIO, EOPNOTSUPP, ERANGE } from '../core/index.ts';
import { flags as fuse, GetxattrIn, opcodes, SetxattrIn } from '../fuse/index.ts';
import { ACL_ACCESS } from './acl.ts';
import { bodyOf } from './body.ts';
import type { Mount } from './mount.ts';
import { Refusal } from './refusal.ts';
import { isMember, R_OK, W_OK } from './rights.ts';
import type { Task } from './task.ts';
import type { Node } from './tree.ts';
import { bytesOf } from './walk.ts';

const XATTR_BYTES = 65536;
const NAME_MAX = 255;
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;

export class Xattrs {
  readonly #mount: Mount;

  constructor(mount: Mount) {
    this.#mount = mount;
  }

  *get(node: Node, name: string): Task<Uint8Array> {
    checkName(name);
    yield* this.#mount.rights.requireXattr(node, name, R_OK);
    const body = bodyOf(GetxattrIn, { size: XATTR_BYTES }, bytesOf(name));
    const call = { opcode: opcodes.GETXATTR, nodeid: node.nodeid, body, room: XATTR_BYTES };
    return new Uint8Array((yield* this.#mount.asked(call, EOPNOTSUPP)).buffer);
  }

  *set(node: Node, name: string, value: Uint8Array, flags: number): Task<void> {
    const { session, rights } = this.#mount;
    checkName(name);
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new Refusal(EINVAL);
    if (value.length > XATTR_BYTES) throw new Refusal(E2BIG);
    yield* rights.requireXattr(node, name, W_OK);
    const strips = name === ACL_ACCESS && !isMember(node.attributes.gid, session.credentials);
    const setxattrFlags = strips && session.has(fuse.INIT.POSIX_ACL) ? fuse.SETXATTR_IN.ACL_KILL_SGID : 0;
    const fixed = bodyOf(SetxattrIn, { size: value.length, flags, setxattrFlags });
    const isLong = session.has(fuse.INIT.SETXATTR_EXT);
    const short = isLong ? fixed : fixed.subarray(0, fuse.COMPAT_SETXATTR_IN_BYTES);
    const body = Buffer.concat([short, bytesOf(name), new Uint8Array(1)]);
    const call = { opcode: opcodes.SETXATTR, nodeid: node.nodeid, body, data: value };
    yield* this.#mount.asked(call, EOPNOTSUPP);
    this.#changed(node);
  }

  *list(node: Node): Task<string[]> {
    const body = bodyOf(GetxattrIn, { size: XATTR_BYTES });
    const call = { opcode: opcodes.LISTXATTR, nodeid: node.nodeid, body, room: XATTR_BYTES };
    const reply = yield* this.#mount.asked(call, EOPNOTSUPP);
    if (reply.byteLength === 0) return [];
    // fuse_verify_xattr_list: each with its NUL, and none empty.
    const names = Buffer.from(reply.buffer).toString().split('\0');
    if (names.pop() !== '' || names.includes('')) throw new Refusal(EIO);
    return names;
  }

  *remove(node: Node, name: string): Task<void> {
    checkName(name);
    yield* this.#mount.rights.requireXattr(node, name, W_OK);
    const call = { opcode: opcodes.REMOVEXATTR, nodeid: node.nodeid, body: bodyOf(null, {}, bytesOf(name)) };
    yield* this.#mount.asked(call, EOPNOTSUPP);
    this.#changed(node);
  }

  #changed(node: Node): void {
    node.acl = undefined;
    this.#mount.expire(node);
  }
}

function checkName(name: string): void {
  const bytes = bytesOf(name);
  if (bytes.length === 0 || bytes.length > NAME_MAX) throw new Refusal(ERANGE);
  if (bytes.includes(0)) throw new Refusal(EINVAL);
}
