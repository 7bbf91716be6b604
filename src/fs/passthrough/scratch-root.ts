/** An empty directory that nobody else sees, for requests that are made up. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  AT_FDCWD,
  close,
  coldString,
  mountDetached,
  O_CLOEXEC,
  O_DIRECTORY,
  O_PATH,
  O_RDONLY,
  openat,
  SysError,
} from '../../sys/index.ts';

export interface ScratchRoot {
  /** O_PATH and O_RDONLY; the caller's to close. */
  readonly rootFd: number;
  readonly mountFd: number;
  readonly isMemory: boolean;
  /** After the descriptors have been closed. */
  remove(): void;
}

/** A tmpfs that is attached nowhere, or a temporary folder where none can be had. Throws an Error or a SysError. */
export function openScratchRoot(): ScratchRoot {
  const rootFd = mountTmpfs();
  if (rootFd !== undefined) return { ...withMount(rootFd), isMemory: true, remove: () => undefined };
  const path = mkdtempSync(join(tmpdir(), 'virtiofs-warm-up-'));
  const remove = (): void => rmSync(path, { recursive: true, force: true });
  try {
    const opened = openat(AT_FDCWD, coldString(path), O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
    return { ...withMount(SysError.check(opened, 'openat', path)), isMemory: false, remove };
  } catch (error) {
    remove();
    throw error;
  }
}

function withMount(rootFd: number): Pick<ScratchRoot, 'rootFd' | 'mountFd'> {
  const mountFd = openat(rootFd, coldString('.'), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
  if (mountFd < 0) close(rootFd);
  return { rootFd, mountFd: SysError.check(mountFd, 'openat', 'a scratch directory') };
}

/** Undefined: only root may. */
function mountTmpfs(): number | undefined {
  try {
    return mountDetached('tmpfs', { size: '1m', nr_inodes: '256', mode: '700' });
  } catch (error) {
    if (error instanceof SysError) return undefined;
    throw error;
  }
}
