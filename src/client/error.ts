import { getSystemErrorMap, getSystemErrorMessage } from 'node:util';

import { errnoName } from '../core/index.ts';
import type { SharePath } from './volume.ts';

/** What a call on a share came to, in the shape of Node's own errors of files. */
export class ShareError extends Error {
  override readonly name = 'Error';
  /** Such as `ENOENT`. */
  readonly code: string;
  /** Negative, as Node has it. */
  readonly errno: number;
  /** Such as `open`. */
  readonly syscall: string;
  readonly path?: string;
  readonly dest?: string;

  /** `errno`: negative. */
  constructor(errno: number, syscall: string, path?: SharePath, dest?: SharePath) {
    // Node's names are libuv's: ENOTSUP where Linux says EOPNOTSUPP.
    const code = getSystemErrorMap().get(errno)?.[0] ?? errnoName(errno);
    const places = [path, dest].filter((each) => each !== undefined).map((each) => `'${textOf(each)}'`);
    const what = places.length === 0 ? syscall : `${syscall} ${places.join(' -> ')}`;
    super(`${code}: ${getSystemErrorMessage(errno) ?? 'error'}, ${what}`);
    this.code = code;
    this.errno = errno;
    this.syscall = syscall;
    if (path !== undefined) this.path = textOf(path);
    if (dest !== undefined) this.dest = textOf(dest);
  }
}

export function textOf(path: SharePath): string {
  return typeof path === 'string' ? path : Buffer.from(path).toString();
}
