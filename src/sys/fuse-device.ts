/** Mounts that are never attached anywhere, and /dev/fuse: what a FUSE server asks of the kernel. Set-up, not data. */
import { SYS_FSCONFIG, SYS_FSMOUNT, SYS_FSOPEN } from './constants.ts';
import { bind, check, I, U } from './ffi.ts';
import { ioctl } from './files.ts';

// linux/fuse.h: _IOW(229, 1, struct fuse_backing_map) and _IOW(229, 2, uint32_t), the same on x86-64 and arm64.
const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;

const libcSyscall = bind('syscall', 6);

/** fsopen(2): a descriptor in which a mount is prepared. */
export const fsopen = (fileSystem: number, flags: number): number =>
  check(libcSyscall(SYS_FSOPEN, U(fileSystem), I(flags), 0n, 0n, 0n));

/** fsconfig(2): `key` and `value` are addresses, or 0 where the command takes none. */
export const fsconfig = (fd: number, command: number, key: number, value: number): number =>
  check(libcSyscall(SYS_FSCONFIG, I(fd), I(command), U(key), U(value), 0n));

/** fsmount(2): a descriptor of the root of the new mount, which lives as long as something in it is open. */
export const fsmount = (fd: number, flags: number, attributes: number): number =>
  check(libcSyscall(SYS_FSMOUNT, I(fd), I(flags), I(attributes), 0n, 0n));

/** ioctl(FUSE_DEV_IOC_BACKING_OPEN): the id of the file in the struct fuse_backing_map at `map`. */
export const backingOpen = (deviceFd: number, map: number): number => ioctl(deviceFd, FUSE_DEV_IOC_BACKING_OPEN, map);

/** ioctl(FUSE_DEV_IOC_BACKING_CLOSE) of the id that stands in the 32-bit word at `id`. */
export const backingClose = (deviceFd: number, id: number): number => ioctl(deviceFd, FUSE_DEV_IOC_BACKING_CLOSE, id);
