/** What a change takes from a file: its set-id bits and its capabilities, as on a local file system. */
import { fchmodat, removexattr, S_ISGID, S_ISUID, S_IXGRP } from '../../sys/index.ts';
import type { Context } from './context.ts';

export class Privileges {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /**
   * Before data of an open file is changed. The set-id bits go then, unless `keep`: the guest's
   * process has CAP_FSETID, or its kernel has seen to it. The host's kernel takes the file's capabilities in either
   * case; those that are kept under another name it does not know.
   */
  beforeChange(fd: number, keep: boolean): void {
    this.#context.credentials.keepSetIds(true);
    if (!keep) this.#clearSetIds(fd);
    this.dropCapability(fd);
  }

  /** Before a file is truncated: left to the host's kernel, which does it when nothing else is in the way. */
  beforeTruncation(fd: number, keep: boolean): void {
    this.#context.credentials.keepSetIds(keep);
    this.dropCapability(fd);
  }

  /** After a file was truncated: the host's kernel leaves a bit where this thread, of all, is in the file's group. */
  afterTruncation(fd: number, keep: boolean): void {
    if (!keep) this.dropSetGroupId(fd);
  }

  /**
   * Not left to the host's kernel: it takes a set-group-id bit that the group cannot execute from all but members of
   * the file's group (setattr_should_drop_sgid, fs/attr.c), and a WRITE does not say who is one. So that bit stays, as
   * the protocol has it (HANDLE_KILLPRIV_V2 in fuse.h).
   */
  #clearSetIds(fd: number): void {
    const context = this.#context;
    if (context.statFd(fd) < 0) return;
    const { mode } = context;
    const cleared = mode & ~((mode & S_IXGRP) === 0 ? S_ISUID : S_ISUID | S_ISGID);
    if (cleared !== mode) fchmodat(context.procFd, context.procName(fd), cleared & 0o7777);
  }

  /** Clears the set-group-id bit, in whatever way the group may execute the file. 0 or a negative errno. */
  dropSetGroupId(fd: number): number {
    const context = this.#context;
    const result = context.statFd(fd);
    if (result < 0 || (context.mode & S_ISGID) === 0) return result;
    return fchmodat(context.procFd, context.procName(fd), context.mode & 0o7777 & ~S_ISGID);
  }

  /** Removes the file's capabilities where the host does not know them as such. */
  dropCapability(fd: number): void {
    const { capability } = this.#context.hostNames;
    if (capability === 0) return;
    this.#context.writeProcPathOf(fd);
    removexattr(this.#context.procPath, capability);
  }
}
