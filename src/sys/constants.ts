/** Linux constants that calls take. What differs between machines is decided here and nowhere else. */

const arm64 = process.arch === 'arm64';

export const AT_FDCWD = -100;
export const AT_SYMLINK_NOFOLLOW = 0x100;
export const AT_REMOVEDIR = 0x200;
export const AT_SYMLINK_FOLLOW = 0x400;
export const AT_EMPTY_PATH = 0x1000;
export const AT_STATX_DONT_SYNC = 0x4000;

// asm-generic/fcntl.h; arm64 overrides four of them.
export const O_RDONLY = 0;
export const O_WRONLY = 1;
export const O_RDWR = 2;
export const O_ACCMODE = 3;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_NOCTTY = 0o400;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_DSYNC = 0o10000;
export const O_SYNC = 0o4010000;
export const O_NONBLOCK = 0o4000;
export const O_DIRECT = arm64 ? 0o200000 : 0o40000;
export const O_DIRECTORY = arm64 ? 0o40000 : 0o200000;
export const O_NOFOLLOW = arm64 ? 0o100000 : 0o400000;
export const O_NOATIME = 0o1000000;
export const O_CLOEXEC = 0o2000000;
export const O_TMPFILE = 0o20000000 | O_DIRECTORY;
export const O_PATH = 0o10000000;

// linux/openat2.h
export const RESOLVE_NO_MAGICLINKS = 0x02;
export const RESOLVE_NO_SYMLINKS = 0x04;
export const RESOLVE_BENEATH = 0x08;

// linux/stat.h
export const STATX_NLINK = 0x4;
export const STATX_CTIME = 0x80;
export const STATX_BASIC_STATS = 0x7ff;
export const STATX_ALL = 0xfff;
export const STATX_MNT_ID = 0x1000;
export const SEEK_HOLE = 4;
/** linux/falloc.h. */
export const FALLOC_FL_KEEP_SIZE = 1;
export const FALLOC_FL_COLLAPSE_RANGE = 8;
export const STATX_ATTR_IMMUTABLE = 0x10;
export const STATX_ATTR_APPEND = 0x20;
export const S_IFMT = 0o170000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFBLK = 0o060000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_IXGRP = 0o010;
// linux/fs.h
export const RWF_NOWAIT = 0x08;
export const RWF_APPEND = 0x10;
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

export const UTIME_NOW = 0x3fffffff;
export const UTIME_OMIT = 0x3ffffffe;

// sys/mman.h
export const PROT_NONE = 0;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
export const MREMAP_MAYMOVE = 1;
export const MREMAP_FIXED = 2;
export const MFD_CLOEXEC = 1;
export const MFD_ALLOW_SEALING = 2;
export const F_SEAL_SEAL = 0x1;
export const F_SEAL_SHRINK = 0x2;
export const F_SEAL_GROW = 0x4;

// linux/mount.h
export const FSOPEN_CLOEXEC = 1;
export const FSCONFIG_SET_FLAG = 0;
export const FSCONFIG_SET_STRING = 1;
export const FSCONFIG_CMD_CREATE = 6;
export const FSMOUNT_CLOEXEC = 1;
export const MOUNT_ATTR_NOSUID = 0x2;
export const MOUNT_ATTR_NODEV = 0x4;
export const MOUNT_ATTR_NOEXEC = 0x8;

// sys/eventfd.h, sys/epoll.h
export const EFD_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK = 0o4000;
export const EPOLLIN = 1;
export const EPOLLOUT = 4;
export const EPOLLET = 0x8000_0000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;

// sys/socket.h
export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SCM_RIGHTS = 1;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const MSG_CTRUNC = 8;
export const SIOCOUTQ = 0x5411;
export const SHUT_RDWR = 2;

// linux/prctl.h, linux/securebits.h, linux/capability.h
export const PR_GET_SECUREBITS = 27;
export const PR_SET_SECUREBITS = 28;
export const SECBIT_NO_SETUID_FIXUP = 4;
export const CAP_CHOWN = 0;
export const CAP_DAC_OVERRIDE = 1;
export const CAP_DAC_READ_SEARCH = 2;
export const CAP_FOWNER = 3;
export const CAP_FSETID = 4;
export const CAP_SETGID = 6;
export const CAP_SETUID = 7;

export const RLIMIT_NOFILE = 7;

// linux/sched.h
export const CLONE_FS = 0x200;

// System call numbers that libc has no function for, at least not everywhere; these are the same on x86-64 and arm64.
export const SYS_FSOPEN = 430n;
export const SYS_FSCONFIG = 431n;
export const SYS_FSMOUNT = 432n;
export const SYS_OPENAT2 = 437n;
/** libc's setgroups(3) changes all threads. */
export const SYS_SETGROUPS = arm64 ? 159n : 116n;
