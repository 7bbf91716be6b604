/** Operations on extended attributes, of any inode: by its path in /proc, as an O_PATH descriptor takes none. */
import { EINVAL, ENODATA, ENOENT, EPERM, ERANGE } from '../../core/index.ts';
import { flags, GetxattrIn, GetxattrOut, SetxattrIn } from '../../fuse/index.ts';
import { getxattrName, listxattr, removexattr, setxattr } from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';

// include/uapi/linux/limits.h
const XATTR_SIZE_MAX = 65536;
const XATTR_LIST_MAX = 65536;
const ACL_ACCESS = new TextEncoder().encode('system.posix_acl_access\0');

export class Xattrs {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  getxattr(request: Request): number {
    const { lookups, inodes, hostNames } = this.#context;
    const { view, u8, address } = request.scratch;
    const found = hostNames.find(u8, request.name, request.nameLength);
    // What a rule forbids is not there to be read.
    if (found < 0) return found === -EPERM ? -ENODATA : found;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const size = Math.min(GetxattrIn.size(view, request.body), request.replyRoom, XATTR_SIZE_MAX);
    let result = this.#context.writeProcPath(slot);
    if (result === 0) {
      const names = found === 0 ? address : hostNames.address;
      const nameAt = found === 0 ? request.name : 0;
      // Without room for a value the address is not looked at.
      result = getxattrName(this.#context.procPath, names, nameAt, address, request.reply, size);
    }
    inodes.unpin(slot);
    return size === 0 ? replySize(request, result) : result;
  }

  listxattr(request: Request): number {
    const { lookups, inodes, hostNames } = this.#context;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const { view, address } = request.scratch;
    const size = Math.min(GetxattrIn.size(view, request.body), request.replyRoom);
    let result = this.#context.writeProcPath(slot);
    if (result === 0) result = listxattr(this.#context.procPath, address + request.reply, XATTR_LIST_MAX);
    inodes.unpin(slot);
    if (result > 0) result = hostNames.filter(request.scratch.u8, request.reply, result);
    if (size === 0) return replySize(request, result);
    return result > size ? -ERANGE : result;
  }

  setxattr(request: Request): number {
    const { view, u8, address } = request.scratch;
    const { body } = request;
    const { lookups, inodes, hostNames } = this.#context;
    const found = hostNames.find(u8, request.name, request.nameLength);
    if (found < 0) return found;
    const size = SetxattrIn.size(view, body);
    // The payload is the name, its NUL and the value.
    if (size !== request.dataBytes - request.nameLength - 1) return -EINVAL;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    this.#context.credentials.keepSetIds(true);
    let result = this.#context.writeProcPath(slot);
    if (result === 0) {
      const value = address + request.name + request.nameLength + 1;
      const name = found === 0 ? address + request.name : hostNames.address;
      result = setxattr(this.#context.procPath, name, value, size, SetxattrIn.flags(view, body));
    }
    // Without SETXATTR_EXT the name follows where the flags would be.
    const extended = request.name - body === SetxattrIn.bytes;
    const kill = extended && (SetxattrIn.setxattrFlags(view, body) & flags.SETXATTR_IN.ACL_KILL_SGID) !== 0;
    // The user who set the ACL may not give the group's rights away: chmod(2) by the same user would clear the bit.
    const drop = result >= 0 && kill && isAccessAcl(u8, request.name);
    if (drop) result = this.#context.privileges.dropSetGroupId(inodes.fd(slot));
    inodes.unpin(slot);
    return result;
  }

  removexattr(request: Request): number {
    const { u8, address } = request.scratch;
    const { lookups, inodes, hostNames } = this.#context;
    const found = hostNames.find(u8, request.name, request.nameLength);
    if (found < 0) return found;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    let result = this.#context.writeProcPath(slot);
    const name = found === 0 ? address + request.name : hostNames.address;
    if (result === 0) result = removexattr(this.#context.procPath, name);
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

function isAccessAcl(u8: Uint8Array, at: number): boolean {
  for (let i = 0; i < ACL_ACCESS.length; i += 1) {
    if (u8[at + i] !== ACL_ACCESS[i]) return false;
  }
  return true;
}
