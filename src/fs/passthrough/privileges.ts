/** What a change takes from a file: its set-id bits and its capabilities, as on a local file system. */
import { fchmodat, removexattr, S_ISGID } from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';

export class Privileges {
  readonly #context: Context;

  constructor(context: Context) {
    this.#context = context;
  }

  /**
   * Before data of an open file is changed. The host's kernel clears the set-id bits then, unless `keep`: the guest's
   * process has CAP_FSETID, or its kernel has seen to it. It takes the file's capabilities in either case; those that
   * are kept under another name it does not know.
   */
  beforeChange(request: Request, fd: number, keep: boolean): void {
    const { credentials } = this.#context;
    credentials.keepSetIds(keep);
    if (!keep) credentials.joinGroup(request);
    this.dropCapability(fd);
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
