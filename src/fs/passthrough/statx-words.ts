/** struct statx, in words (include/uapi/linux/stat.h). */
export const BLKSIZE = 1;
export const ATTRIBUTES = 2;
export const NLINK = 4;
export const UID = 5;
export const GID = 6;
/** The low half of the word is stx_mode. */
export const MODE = 7;
export const INO = 8;
export const SIZE = 10;
export const BLOCKS = 12;
export const ATIME = 16;
export const CTIME = 24;
export const MTIME = 28;
export const RDEV_MAJOR = 32;
export const RDEV_MINOR = 33;
export const DEV_MAJOR = 34;
export const DEV_MINOR = 35;
export const MNT_ID = 36;
