/** Flag words and constants of include/uapi/linux/fuse.h, protocol 7.46, by their kernel names less the prefix. */
import { bit, flags } from '../wire/index.ts';

export const KERNEL_VERSION = 7;
export const KERNEL_MINOR_VERSION = 46;
/** The node id of the shared directory itself. */
export const ROOT_ID = 1;
/** uid and gid of a request whose identity has no mapping (with ALLOW_IDMAP). */
export const INVALID_UIDGID = 0xffff_ffff;
/** Length of a fuse_setxattr_in without SETXATTR_EXT. */
export const COMPAT_SETXATTR_IN_BYTES = 8;
/** Length of a fuse_init_in before 7.36. */
export const COMPAT_INIT_IN_BYTES = 16;
/** Pages of a request where MAX_PAGES was not agreed on (fs/fuse/fuse_i.h, FUSE_DEFAULT_MAX_PAGES_PER_REQ). */
export const DEFAULT_MAX_PAGES = 32;
/** A security context count is at most this; larger extension types are others. */
export const MAX_NR_SECCTX = 31;
/** Extension type of fuse_supp_groups. */
export const EXT_GROUPS = 32;
export const IOCTL_MAX_IOV = 256;
export const REMOVEMAPPING_MAX_ENTRY = 256;

/** FUSE_*: bits 0 to 31, the word `flags` of fuse_init_in and fuse_init_out. */
export const INIT = flags({
  ASYNC_READ: bit(0),
  POSIX_LOCKS: bit(1),
  FILE_OPS: bit(2),
  ATOMIC_O_TRUNC: bit(3),
  EXPORT_SUPPORT: bit(4),
  BIG_WRITES: bit(5),
  DONT_MASK: bit(6),
  SPLICE_WRITE: bit(7),
  SPLICE_MOVE: bit(8),
  SPLICE_READ: bit(9),
  FLOCK_LOCKS: bit(10),
  HAS_IOCTL_DIR: bit(11),
  AUTO_INVAL_DATA: bit(12),
  DO_READDIRPLUS: bit(13),
  READDIRPLUS_AUTO: bit(14),
  ASYNC_DIO: bit(15),
  WRITEBACK_CACHE: bit(16),
  NO_OPEN_SUPPORT: bit(17),
  PARALLEL_DIROPS: bit(18),
  HANDLE_KILLPRIV: bit(19),
  POSIX_ACL: bit(20),
  ABORT_ERROR: bit(21),
  MAX_PAGES: bit(22),
  CACHE_SYMLINKS: bit(23),
  NO_OPENDIR_SUPPORT: bit(24),
  EXPLICIT_INVAL_DATA: bit(25),
  MAP_ALIGNMENT: bit(26),
  SUBMOUNTS: bit(27),
  HANDLE_KILLPRIV_V2: bit(28),
  SETXATTR_EXT: bit(29),
  INIT_EXT: bit(30),
  INIT_RESERVED: bit(31),
});

/** FUSE_*: bits 32 to 63 less 32, the word `flags2`, which counts only where both sides set INIT_EXT. */
export const INIT2 = flags({
  SECURITY_CTX: bit(32 - 32),
  HAS_INODE_DAX: bit(33 - 32),
  CREATE_SUPP_GROUP: bit(34 - 32),
  HAS_EXPIRE_ONLY: bit(35 - 32),
  DIRECT_IO_ALLOW_MMAP: bit(36 - 32),
  PASSTHROUGH: bit(37 - 32),
  NO_EXPORT_SUPPORT: bit(38 - 32),
  HAS_RESEND: bit(39 - 32),
  ALLOW_IDMAP: bit(40 - 32),
  OVER_IO_URING: bit(41 - 32),
  REQUEST_TIMEOUT: bit(42 - 32),
  HAS_IO_URING_BUFPOOL: bit(43 - 32),
});

/** FATTR_*: which fields of fuse_setattr_in count. */
export const FATTR = flags({
  MODE: bit(0),
  UID: bit(1),
  GID: bit(2),
  SIZE: bit(3),
  ATIME: bit(4),
  MTIME: bit(5),
  FH: bit(6),
  ATIME_NOW: bit(7),
  MTIME_NOW: bit(8),
  LOCKOWNER: bit(9),
  CTIME: bit(10),
  KILL_SUIDGID: bit(11),
});

/** FOPEN_*: fuse_open_out.open_flags. */
export const FOPEN = flags({
  DIRECT_IO: bit(0),
  KEEP_CACHE: bit(1),
  NONSEEKABLE: bit(2),
  CACHE_DIR: bit(3),
  STREAM: bit(4),
  NOFLUSH: bit(5),
  PARALLEL_DIRECT_WRITES: bit(6),
  PASSTHROUGH: bit(7),
  IO_URING_ZERO_COPY: bit(8),
});

/** FUSE_OPEN_*: open_flags of fuse_open_in and fuse_create_in. */
export const OPEN_IN = flags({ KILL_SUIDGID: bit(0) });
/** FUSE_GETATTR_*. */
export const GETATTR_IN = flags({ FH: bit(0) });
/** FUSE_RELEASE_*. */
export const RELEASE_IN = flags({ FLUSH: bit(0), FLOCK_UNLOCK: bit(1) });
/** FUSE_LK_*. */
export const LK_IN = flags({ FLOCK: bit(0) });
/** FUSE_WRITE_*. */
export const WRITE_IN = flags({ CACHE: bit(0), LOCKOWNER: bit(1), KILL_SUIDGID: bit(2) });
/** FUSE_READ_*. */
export const READ_IN = flags({ LOCKOWNER: bit(1) });
/** FUSE_IOCTL_*. */
export const IOCTL_IN = flags({
  COMPAT: bit(0),
  UNRESTRICTED: bit(1),
  RETRY: bit(2),
  '32BIT': bit(3),
  DIR: bit(4),
  COMPAT_X32: bit(5),
});
/** FUSE_POLL_*. */
export const POLL_IN = flags({ SCHEDULE_NOTIFY: bit(0) });
/** FUSE_FSYNC_*. */
export const FSYNC_IN = flags({ FDATASYNC: bit(0) });
/** FUSE_ATTR_*: fuse_attr.flags. */
export const ATTR = flags({ SUBMOUNT: bit(0), DAX: bit(1) });
/** FUSE_SETXATTR_*. */
export const SETXATTR_IN = flags({ ACL_KILL_SGID: bit(0) });
/** FUSE_SETUPMAPPING_FLAG_*. */
export const SETUPMAPPING_IN = flags({ WRITE: bit(0), READ: bit(1) });
/** FUSE_EXPIRE_ONLY: fuse_notify_inval_entry_out.flags. */
export const INVAL_ENTRY_OUT = flags({ EXPIRE_ONLY: bit(0) });

/** FUSE_NOTIFY_*: sent by the server in `error` of a header whose `unique` is 0. Linux virtio-fs takes none. */
export const NOTIFY = {
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  RESEND: 7,
  INC_EPOCH: 8,
  PRUNE: 9,
} as const;
