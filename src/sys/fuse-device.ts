/** /dev/fuse: what a FUSE server asks of the kernel. Set-up, not data. */
import { ioctl } from './files.ts';

// linux/fuse.h: _IOW(229, 1, struct fuse_backing_map) and _IOW(229, 2, uint32_t), the same on x86-64 and arm64.
const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;

/** ioctl(FUSE_DEV_IOC_BACKING_OPEN): the id of the file in the struct fuse_backing_map at `map`. */
export const backingOpen = (deviceFd: number, map: number): number => ioctl(deviceFd, FUSE_DEV_IOC_BACKING_OPEN, map);

/** ioctl(FUSE_DEV_IOC_BACKING_CLOSE) of the id that stands in the 32-bit word at `id`. */
export const backingClose = (deviceFd: number, id: number): number => ioctl(deviceFd, FUSE_DEV_IOC_BACKING_CLOSE, id);
