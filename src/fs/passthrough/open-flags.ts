/** Opens that the host refuses at first, and what descriptors that append need when pages are written. */
import { EPERM } from '../../core/index.ts';
import { WriteIn } from '../../fuse/index.ts';
import { O_APPEND, O_NOATIME } from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';

/**
 * Opens the file behind `inodeFd` for good, as a guest that opened it with `guestFlags` needs it. O_NOATIME is for
 * those who own the file (open(2)); a guest's owner need not be the host's, so it is a wish. An append-only file
 * (chattr +a) can only be opened to append.
 */
export function openFile(context: Context, inodeFd: number, hostFlags: number, guestFlags: number): number {
  const fd = context.reopen(inodeFd, hostFlags);
  if (fd !== -EPERM) return fd;
  const modest = hostFlags & ~O_NOATIME;
  const again = modest === hostFlags ? fd : context.reopen(inodeFd, modest);
  if (again !== -EPERM || (guestFlags & O_APPEND) === 0) return again;
  return context.reopen(inodeFd, modest | O_APPEND);
}

/**
 * How many bytes of a WRITE of pages are in an append-only file already: what is before its end cannot have changed,
 * the rest is to be appended. Negative errno; -EPERM for pages beyond the end, as there is no way to write them.
 */
export function bytesBeforeEnd(context: Context, request: Request, fd: number): number {
  const looked = context.statFd(fd);
  if (looked < 0) return looked;
  const before = context.size - WriteIn.offset(request.scratch.view, request.body);
  return before < 0 ? -EPERM : Math.min(before, request.dataBytes);
}
