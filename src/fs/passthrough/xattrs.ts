/** Operations on extended attributes, of any inode: by its path in /proc, as an O_PATH descriptor takes none. */
import { EINVAL, ENOENT, EOPNOTSUPP, ERANGE } from '../../core/index.ts';
import { GetxattrIn, GetxattrOut, SetxattrIn } from '../../fuse/index.ts';
import { getxattr, listxattr, removexattr, setxattr } from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';

// include/uapi/linux/limits.h
const XATTR_SIZE_MAX = 65536;
const XATTR_LIST_MAX = 65536;
/**
 * ACLs are the guest's kernel's to understand, and it does only with POSIX_ACL: handed through as plain attributes they
 * would be enforced on the host alone.
 */
const ACL_PREFIX = new TextEncoder().encode('system.posix_acl_');

export class Xattrs {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  getxattr(request: Request): number {
    if (isAcl(request.scratch.u8, request.name)) return -EOPNOTSUPP;
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const { view, address } = request.scratch;
    const size = Math.min(GetxattrIn.size(view, request.body), request.replyRoom, XATTR_SIZE_MAX);
    const path = this.#context.procPath(slot);
    const target = size === 0 ? 0 : address + request.reply;
    const result = path < 0 ? path : getxattr(path, address + request.name, target, size);
    inodes.unpin(slot);
    return size === 0 ? replySize(request, result) : result;
  }

  listxattr(request: Request): number {
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const { view, address } = request.scratch;
    const size = Math.min(GetxattrIn.size(view, request.body), request.replyRoom);
    const path = this.#context.procPath(slot);
    let result = path < 0 ? path : listxattr(path, address + request.reply, XATTR_LIST_MAX);
    inodes.unpin(slot);
    if (result > 0) result = withoutAcls(request.scratch.u8, request.reply, result);
    if (size === 0) return replySize(request, result);
    return result > size ? -ERANGE : result;
  }

  setxattr(request: Request): number {
    if (isAcl(request.scratch.u8, request.name)) return -EOPNOTSUPP;
    const { view, address } = request.scratch;
    const size = SetxattrIn.size(view, request.body);
    // The payload is the name, its NUL and the value.
    if (size !== request.dataBytes - request.nameLength - 1) return -EINVAL;
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const path = this.#context.procPath(slot);
    const name = address + request.name;
    const value = name + request.nameLength + 1;
    const result = path < 0 ? path : setxattr(path, name, value, size, SetxattrIn.flags(view, request.body));
    inodes.unpin(slot);
    return result;
  }

  removexattr(request: Request): number {
    if (isAcl(request.scratch.u8, request.name)) return -EOPNOTSUPP;
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const path = this.#context.procPath(slot);
    const result = path < 0 ? path : removexattr(path, request.scratch.address + request.name);
    inodes.unpin(slot);
    return result;
  }
}

/** The reply to a question with size 0: how many bytes there are. */
function replySize(request: Request, result: number): number {
  if (result < 0) return result;
  GetxattrOut.set.size(request.scratch.view, request.reply, result);
  request.scratch.view.setUint32(request.reply + 4, 0, true);
  return GetxattrOut.bytes;
}

function isAcl(u8: Uint8Array, at: number): boolean {
  for (let i = 0; i < ACL_PREFIX.length; i += 1) {
    if (u8[at + i] !== ACL_PREFIX[i]) return false;
  }
  return true;
}

/** Takes the ACLs out of a list of NUL-terminated names; its new length. */
function withoutAcls(u8: Uint8Array, at: number, length: number): number {
  let kept = at;
  for (let name = at; name < at + length; ) {
    const end = u8.indexOf(0, name) + 1;
    if (!isAcl(u8, name)) {
      u8.copyWithin(kept, name, end);
      kept += end - name;
    }
    name = end;
  }
  return kept - at;
}
