import { errnoName } from '../core/index.ts';

/** A system call that failed where failure ends the operation: set-up, not the data path. */
export class SysError extends Error {
  override readonly name = 'SysError';
  readonly syscall: string;
  /** Positive errno. */
  readonly errno: number;
  /** Its name, as Node's own errors have it. */
  readonly code: string;

  constructor(syscall: string, errno: number, detail: string) {
    const code = errnoName(errno);
    super(`${syscall}(${detail}): ${code}`);
    this.syscall = syscall;
    this.errno = Math.abs(errno);
    this.code = code;
  }

  /** Passes a result on, or throws it when it is a negative errno. */
  static check(result: number, syscall: string, detail: string): number {
    if (result >= 0) return result;
    throw new SysError(syscall, result, detail);
  }
}
