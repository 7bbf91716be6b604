/** An empty directory that nobody else sees, for requests that are made up. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  AT_FDCWD,
  close,
  coldString,
  FSCONFIG_CMD_CREATE,
  FSCONFIG_SET_STRING,
  FSMOUNT_CLOEXEC,
  FSOPEN_CLOEXEC,
  fsconfig,
  fsmount,
  fsopen,
  MOUNT_ATTR_NODEV,
  MOUNT_ATTR_NOEXEC,
  MOUNT_ATTR_NOSUID,
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
  const rootFd = mountDetached();
  if (rootFd >= 0) return { ...withMount(rootFd), isMemory: true, remove: () => undefined };
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

const LIMITS = { size: '1m', nr_inodes: '256', mode: '700' };

/** A tmpfs: a descriptor (O_PATH) of its root, with which it goes, or a negative errno. Takes CAP_SYS_ADMIN. */
function mountDetached(): number {
  const context = fsopen(coldString('tmpfs'), FSOPEN_CLOEXEC);
  if (context < 0) return context;
  try {
    for (const [key, value] of Object.entries(LIMITS)) {
      const result = fsconfig(context, FSCONFIG_SET_STRING, coldString(key), coldString(value, 1));
      if (result < 0) return result;
    }
    const created = fsconfig(context, FSCONFIG_CMD_CREATE, 0, 0);
    if (created < 0) return created;
    return fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  } finally {
    close(context);
  }
}
