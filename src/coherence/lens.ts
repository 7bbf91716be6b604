/**
 * The lens: a second descriptor of a file that claims a size of 2^62 bytes, and whose mapping is the file's own page
 * cache. A VMM maps a file for DAX only as far as the descriptor that it is given has bytes; guests map whole ranges,
 * which reach beyond the end of nearly every file, and files grow.
 *
 * It is a file of a FUSE mount that this process serves to itself, with FUSE_PASSTHROUGH (Linux 6.9): the kernel asks
 * us for the attributes, and sends mmap on to the file. The mount is attached nowhere, so no path leads to it.
 */
import { release } from 'node:os';

import { EACCES, ENODEV, ENOENT, ENOSYS, ENXIO, EOPNOTSUPP, EPERM, type Fd } from '../core/index.ts';
import {
  AT_FDCWD,
  close,
  coldString,
  memfd,
  mountDetached,
  O_CLOEXEC,
  O_NOATIME,
  O_NONBLOCK,
  O_RDWR,
  openat,
  SysError,
} from '../sys/index.ts';
import { LensServer } from './lens-server.ts';

/** A mount in which lenses are opened. */
export interface LensMount {
  /** /dev/fuse: for `serveLens`, in a thread of its own. */
  readonly deviceFd: Fd;
  /** For `openLens`, in any other thread. */
  readonly mountFd: Fd;
}

/** Makes the mount. Throws SysError, with nothing left behind; `lensRefusal` has the words. */
export function mountLens(): LensMount {
  const device = coldString('/dev/fuse');
  // Not blocking: whoever serves the device sleeps in epoll_wait, where it can be told to end.
  const opened = openat(AT_FDCWD, device, O_RDWR | O_CLOEXEC | O_NONBLOCK, 0);
  const deviceFd = SysError.check(opened, 'open', '/dev/fuse') as Fd;
  let mountFd: Fd | undefined;
  try {
    mountFd = mountDetached('fuse', {
      fd: `${deviceFd}`,
      rootmode: '40000',
      user_id: `${process.geteuid?.()}`,
      group_id: `${process.getegid?.()}`,
      // A VMM of another user may ask for the attributes of the lens that it was handed.
      allow_other: '',
    });
    new LensServer(deviceFd).start();
    return { deviceFd, mountFd };
  } catch (error) {
    close(deviceFd);
    if (mountFd !== undefined) close(mountFd);
    throw error;
  }
}

let serial = 0;

/**
 * Opens a lens over the file of `fd`: a descriptor (O_RDWR, O_CLOEXEC) that stays good without `fd`, or a negative
 * errno. EACCES: `fd` was not opened O_RDWR, or was with O_APPEND, or its file is append-only or immutable. EINVAL: no
 * regular file. ELOOP: it is on an overlay of overlays. EIO: the kernel could not open it again. ECONNABORTED or
 * ENOTCONN: nobody serves the mount any more. Waits for `serveLens`, which must be in another thread.
 */
export function openLens(mountFd: number, fd: number): number {
  // A name of its own each time: under one name the kernel would first find the lens before, for as long as a VMM
  // has that open, and look the name up twice.
  serial += 1;
  return openat(mountFd, coldString(`${fd}-${serial}`), O_RDWR | O_NOATIME | O_CLOEXEC, 0);
}

/** Why no lens can be made here, for a user, or undefined where one can. It tries. */
export function lensRefusal(): string | undefined {
  try {
    const { deviceFd, mountFd } = mountLens();
    try {
      tryBacking(deviceFd);
    } finally {
      close(deviceFd);
      close(mountFd);
    }
    return undefined;
  } catch (error) {
    if (error instanceof SysError) return explain(error);
    throw error;
  }
}

/** Has the kernel take a file for a lens; opening one would take a second thread. Throws SysError. */
function tryBacking(deviceFd: Fd): void {
  const file = memfd('lens', 0);
  try {
    SysError.check(new LensServer(deviceFd).openBacking(file), 'FUSE_DEV_IOC_BACKING_OPEN', `descriptor ${file}`);
  } finally {
    close(file);
  }
}

const NO_DEVICE = 'there is no /dev/fuse: modprobe fuse; in a container, pass the device to it';
const NO_ACCESS = 'this user may not open /dev/fuse: run as root; in a container, allow the device';
const NO_CAPABILITY = 'it takes CAP_SYS_ADMIN on the host, not in a user namespace: run as root outside of one';

/** What a call's failure means to a user. */
const MEANINGS: Readonly<Record<string, string>> = {
  [`open ${ENOENT}`]: NO_DEVICE,
  [`open ${ENODEV}`]: NO_DEVICE,
  [`open ${ENXIO}`]: NO_DEVICE,
  [`open ${EACCES}`]: NO_ACCESS,
  [`open ${EPERM}`]: NO_ACCESS,
  [`fsopen ${EPERM}`]: NO_CAPABILITY,
  [`fsopen ${ENOSYS}`]: 'the kernel has no fsopen(2), or a filter of system calls forbids it: allow it',
  [`fsconfig ${EPERM}`]: NO_CAPABILITY,
  [`fsmount ${EPERM}`]: NO_CAPABILITY,
  [`FUSE_INIT ${EOPNOTSUPP}`]: `Linux ${release()} has no FUSE passthrough: it takes 6.9 with CONFIG_FUSE_PASSTHROUGH`,
  [`FUSE_DEV_IOC_BACKING_OPEN ${EPERM}`]: NO_CAPABILITY,
};

function explain({ syscall, errno, message }: SysError): string {
  return MEANINGS[`${syscall} ${errno}`] ?? `the kernel refuses it: ${message}`;
}
