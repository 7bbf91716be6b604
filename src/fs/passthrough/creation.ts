/** The making of an inode: as the guest's user, with its umask, and with the security labels that the guest sent. */
import { Secctx, secctxBytes, xattrNameLength } from '../../fuse/index.ts';
import { setxattr, write } from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';
import { labelFd } from './label-fd.ts';

const SELINUX = new TextEncoder().encode('security.selinux\0');

export class Creation {
  readonly #context: Context;
  readonly #labels: boolean;
  /** /proc/thread-self/attr/fscreate, or -1. */
  readonly #fscreate: number;
  #announced = false;

  /** `fscreate` is a descriptor in place of the host's own. */
  constructor(context: Context, labels: boolean, fscreate: number = labels ? labelFd() : -1) {
    this.#context = context;
    this.#labels = labels;
    this.#fscreate = fscreate;
  }

  /** Before the call that creates: 0, and then `end` must follow that call; or a negative errno. */
  begin(request: Request, mode: number, mask: number): number {
    const { credentials } = this.#context;
    const result = credentials.enter(request, mode, mask);
    if (result < 0 || request.contextCount === 0 || this.#fscreate < 0) return result;
    const announced = this.#announce(request);
    if (announced < 0) credentials.leave();
    return announced;
  }

  /** After the call that creates. */
  end(): void {
    if (this.#announced) {
      write(this.#fscreate, this.#context.empty, 0);
      this.#announced = false;
    }
    this.#context.credentials.leave();
  }

  /**
   * Puts the labels on what was created, by a descriptor of it: 0, or a negative errno. Nobody but the guest that waits
   * for the reply can have looked for it yet, unless it watches the directory on the host.
   */
  label(request: Request, fd: number): number {
    if (!this.#labels || request.contextCount === 0) return 0;
    const { view, u8, address } = request.scratch;
    const { hostNames, procPath } = this.#context;
    this.#context.writeProcPathOf(fd);
    let at = request.contexts;
    for (let i = 0; i < request.contextCount; i += 1) {
      const size = Secctx.size(view, at);
      const name = at + Secctx.bytes;
      const length = xattrNameLength(u8, name, name + 256);
      const found = hostNames.find(u8, name, length);
      if (found < 0) return found;
      const value = address + name + length + 1;
      if (found === 1 || this.#fscreate < 0 || !isSelinux(u8, name)) {
        const result = setxattr(procPath, found === 1 ? hostNames.address : address + name, value, size, 0);
        if (result < 0) return result;
      }
      at += secctxBytes(size, length);
    }
    return 0;
  }

  /** Where the host has SELinux it labels the inode as it makes it. */
  #announce(request: Request): number {
    const { view, u8, address } = request.scratch;
    let at = request.contexts;
    for (let i = 0; i < request.contextCount; i += 1) {
      const size = Secctx.size(view, at);
      const name = at + Secctx.bytes;
      const length = xattrNameLength(u8, name, name + 256);
      if (isSelinux(u8, name) && this.#context.hostNames.find(u8, name, length) === 0) {
        const result = write(this.#fscreate, address + name + length + 1, size);
        if (result < 0) return result;
        this.#announced = true;
      }
      at += secctxBytes(size, length);
    }
    return 0;
  }
}

function isSelinux(u8: Uint8Array, at: number): boolean {
  for (let i = 0; i < SELINUX.length; i += 1) {
    if (u8[at + i] !== SELINUX[i]) return false;
  }
  return true;
}
