/**
 * Every struct of include/uapi/linux/fuse.h, protocol 7.46, in the header's order. Field names are the C names in camel
 * case; the ones that start with `_` are padding or out of use. `test/spec.test.ts` holds all of it against
 * `spec/fuse.json`, which a C compiler made from the header.
 *
 * 64-bit fields: sizes, offsets, times, node ids and handles are `u53` (ours never exceed 2^53; what a guest makes up
 * is only compared). What is only handed back is `opaque64`.
 */
import { bytes, i32, i53, i64, opaque64, struct, u16, u32, u53, u64 } from '../wire/index.ts';

// Before every request and every reply.

export const InHeader = struct('fuse_in_header', 40, {
  /** Of the whole request: this header, the fixed part, names and payload. */
  len: u32,
  opcode: u32,
  /** Handed back in the reply. Bit 63: sent again (FUSE_UNIQUE_RESEND). */
  unique: opaque64,
  nodeid: u53,
  uid: u32,
  gid: u32,
  pid: u32,
  /** Length of the extensions at the end of the request, in units of 8 bytes. */
  totalExtlen: u16,
  _padding: u16,
});

export const OutHeader = struct('fuse_out_header', 16, {
  /** Of the whole reply, this header included. */
  len: u32,
  /** 0 or a negative errno. */
  error: i32,
  unique: opaque64,
});

// Attributes.

export const Attr = struct('fuse_attr', 88, {
  ino: u53,
  size: u53,
  /** In units of 512 bytes. */
  blocks: u53,
  /** Seconds, negative before 1970; nanoseconds are below. */
  atime: i53,
  mtime: i53,
  ctime: i53,
  atimensec: u32,
  mtimensec: u32,
  ctimensec: u32,
  mode: u32,
  nlink: u32,
  uid: u32,
  gid: u32,
  /** In the kernel's 32-bit encoding of device numbers (new_encode_dev). */
  rdev: u32,
  blksize: u32,
  /** ATTR flags. */
  flags: u32,
});

export const SxTime = struct('fuse_sx_time', 16, { tvSec: i53, tvNsec: u32, _reserved: i32 });

export const Statx = struct('fuse_statx', 256, {
  mask: u32,
  blksize: u32,
  attributes: u53,
  nlink: u32,
  uid: u32,
  gid: u32,
  mode: u16,
  _spare0: bytes(2, 2),
  ino: u53,
  size: u53,
  blocks: u53,
  attributesMask: u53,
  atime: SxTime,
  btime: SxTime,
  ctime: SxTime,
  mtime: SxTime,
  rdevMajor: u32,
  rdevMinor: u32,
  devMajor: u32,
  devMinor: u32,
  _spare2: bytes(112, 8),
});

export const Kstatfs = struct('fuse_kstatfs', 80, {
  blocks: u53,
  bfree: u53,
  bavail: u53,
  files: u53,
  ffree: u53,
  bsize: u32,
  namelen: u32,
  frsize: u32,
  _padding: u32,
  _spare: bytes(24, 4),
});

export const FileLock = struct('fuse_file_lock', 24, {
  start: u53,
  /** Last byte, inclusive; OFFSET_MAX (2^63 - 1) for the end of the file, so it needs all 64 bits. */
  end: u64,
  type: u32,
  pid: u32,
});

// Names and inodes.

export const EntryOut = struct('fuse_entry_out', 128, {
  /** 0 with a timeout: the name does not exist, and the guest may remember that. */
  nodeid: u53,
  generation: u53,
  /** Seconds for which the name stays valid. */
  entryValid: u53,
  /** Seconds for which the attributes stay valid. */
  attrValid: u53,
  entryValidNsec: u32,
  attrValidNsec: u32,
  attr: Attr,
});

export const ForgetIn = struct('fuse_forget_in', 8, { nlookup: u53 });
export const ForgetOne = struct('fuse_forget_one', 16, { nodeid: u53, nlookup: u53 });
export const BatchForgetIn = struct('fuse_batch_forget_in', 8, { count: u32, _dummy: u32 });

export const GetattrIn = struct('fuse_getattr_in', 16, { getattrFlags: u32, _dummy: u32, fh: u53 });
export const AttrOut = struct('fuse_attr_out', 104, {
  attrValid: u53,
  attrValidNsec: u32,
  _dummy: u32,
  attr: Attr,
});

export const StatxIn = struct('fuse_statx_in', 24, {
  getattrFlags: u32,
  _reserved: u32,
  fh: u53,
  sxFlags: u32,
  sxMask: u32,
});
export const StatxOut = struct('fuse_statx_out', 288, {
  attrValid: u53,
  attrValidNsec: u32,
  flags: u32,
  _spare: bytes(16, 8),
  stat: Statx,
});

export const MknodIn = struct('fuse_mknod_in', 16, { mode: u32, rdev: u32, umask: u32, _padding: u32 });
export const MkdirIn = struct('fuse_mkdir_in', 8, { mode: u32, umask: u32 });
export const RenameIn = struct('fuse_rename_in', 8, { newdir: u53 });
/** `flags`: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4 (include/uapi/linux/fs.h). */
export const Rename2In = struct('fuse_rename2_in', 16, { newdir: u53, flags: u32, _padding: u32 });
export const LinkIn = struct('fuse_link_in', 8, { oldnodeid: u53 });

export const SetattrIn = struct('fuse_setattr_in', 88, {
  /** FATTR flags: which of the fields count. */
  valid: u32,
  _padding: u32,
  fh: u53,
  size: u53,
  lockOwner: opaque64,
  atime: i53,
  mtime: i53,
  ctime: i53,
  atimensec: u32,
  mtimensec: u32,
  ctimensec: u32,
  mode: u32,
  _unused4: u32,
  uid: u32,
  gid: u32,
  _unused5: u32,
});

// Open files and directories.

/** `flags` are open(2)'s, with the values of the guest's architecture. */
export const OpenIn = struct('fuse_open_in', 8, { flags: u32, openFlags: u32 });
export const CreateIn = struct('fuse_create_in', 16, { flags: u32, mode: u32, umask: u32, openFlags: u32 });
export const OpenOut = struct('fuse_open_out', 16, {
  fh: u53,
  /** FOPEN flags. */
  openFlags: u32,
  backingId: i32,
});
/** The reply of CREATE and TMPFILE: two structs, one after the other. */
export const CreateOut = struct('fuse_entry_out + fuse_open_out', 144, { entry: EntryOut, open: OpenOut });

export const ReleaseIn = struct('fuse_release_in', 24, {
  fh: u53,
  flags: u32,
  releaseFlags: u32,
  lockOwner: opaque64,
});
export const FlushIn = struct('fuse_flush_in', 24, { fh: u53, _unused: u32, _padding: u32, lockOwner: opaque64 });

/** READ, READDIR and READDIRPLUS; for directories `offset` is a cookie, so its 64 bits are read as two words. */
export const ReadIn = struct('fuse_read_in', 40, {
  fh: u53,
  offset: u53,
  size: u32,
  readFlags: u32,
  lockOwner: opaque64,
  flags: u32,
  _padding: u32,
});
export const WriteIn = struct('fuse_write_in', 40, {
  fh: u53,
  offset: u53,
  size: u32,
  writeFlags: u32,
  lockOwner: opaque64,
  flags: u32,
  _padding: u32,
});
export const WriteOut = struct('fuse_write_out', 8, { size: u32, _padding: u32 });

export const StatfsOut = struct('fuse_statfs_out', 80, { st: Kstatfs });
export const FsyncIn = struct('fuse_fsync_in', 16, { fh: u53, fsyncFlags: u32, _padding: u32 });

/** Only the first 8 bytes are sent unless SETXATTR_EXT was agreed on. */
export const SetxattrIn = struct('fuse_setxattr_in', 16, {
  size: u32,
  flags: u32,
  setxattrFlags: u32,
  _padding: u32,
});
export const GetxattrIn = struct('fuse_getxattr_in', 8, { size: u32, _padding: u32 });
/** The reply of GETXATTR and LISTXATTR when `size` was 0: how many bytes there are. */
export const GetxattrOut = struct('fuse_getxattr_out', 8, { size: u32, _padding: u32 });

export const LkIn = struct('fuse_lk_in', 48, {
  fh: u53,
  owner: opaque64,
  lk: FileLock,
  lkFlags: u32,
  _padding: u32,
});
export const LkOut = struct('fuse_lk_out', 24, { lk: FileLock });
export const AccessIn = struct('fuse_access_in', 8, { mask: u32, _padding: u32 });

// The session.

/** Kernels before 7.36 send only the first 16 bytes. */
export const InitIn = struct('fuse_init_in', 64, {
  major: u32,
  minor: u32,
  maxReadahead: u32,
  flags: u32,
  flags2: u32,
  _unused: bytes(44, 4),
});
export const InitOut = struct('fuse_init_out', 64, {
  major: u32,
  minor: u32,
  maxReadahead: u32,
  flags: u32,
  maxBackground: u16,
  congestionThreshold: u16,
  maxWrite: u32,
  /** Granularity of timestamps in nanoseconds. */
  timeGran: u32,
  maxPages: u16,
  /** log2 of the alignment of DAX mappings. */
  mapAlignment: u16,
  flags2: u32,
  maxStackDepth: u32,
  /** Seconds. */
  requestTimeout: u16,
  _unused: bytes(22, 2),
});
export const CuseInitIn = struct('cuse_init_in', 16, { major: u32, minor: u32, _unused: u32, flags: u32 });
export const CuseInitOut = struct('cuse_init_out', 72, {
  major: u32,
  minor: u32,
  _unused: u32,
  flags: u32,
  maxRead: u32,
  maxWrite: u32,
  devMajor: u32,
  devMinor: u32,
  _spare: bytes(40, 4),
});
export const InterruptIn = struct('fuse_interrupt_in', 8, { unique: opaque64 });

// Less frequent requests.

export const BmapIn = struct('fuse_bmap_in', 16, { block: u53, blocksize: u32, _padding: u32 });
export const BmapOut = struct('fuse_bmap_out', 8, { block: u53 });

export const IoctlIn = struct('fuse_ioctl_in', 32, {
  fh: u53,
  flags: u32,
  cmd: u32,
  /** A guest pointer or a value, as the command has it. */
  arg: u64,
  inSize: u32,
  outSize: u32,
});
export const IoctlIovec = struct('fuse_ioctl_iovec', 16, { base: u64, len: u53 });
export const IoctlOut = struct('fuse_ioctl_out', 16, { result: i32, flags: u32, inIovs: u32, outIovs: u32 });

export const PollIn = struct('fuse_poll_in', 24, { fh: u53, kh: opaque64, flags: u32, events: u32 });
export const PollOut = struct('fuse_poll_out', 8, { revents: u32, _padding: u32 });

export const FallocateIn = struct('fuse_fallocate_in', 32, {
  fh: u53,
  offset: u53,
  length: u53,
  mode: u32,
  _padding: u32,
});

export const LseekIn = struct('fuse_lseek_in', 24, { fh: u53, offset: i53, whence: u32, _padding: u32 });
export const LseekOut = struct('fuse_lseek_out', 8, { offset: u53 });

export const CopyFileRangeIn = struct('fuse_copy_file_range_in', 56, {
  fhIn: u53,
  offIn: u53,
  nodeidOut: u53,
  fhOut: u53,
  offOut: u53,
  len: u53,
  flags: u53,
});
export const CopyFileRangeOut = struct('fuse_copy_file_range_out', 8, { bytesCopied: u53 });

/** Linux always sends fh = -1 (fs/fuse/dax.c): map by node id. */
export const SetupmappingIn = struct('fuse_setupmapping_in', 40, {
  fh: u53,
  foffset: u53,
  len: u53,
  flags: u53,
  moffset: u53,
});
/** `count` RemovemappingOne follow at once, at byte 4: they are not 8-aligned in the request. */
export const RemovemappingIn = struct('fuse_removemapping_in', 4, { count: u32 });
export const RemovemappingOne = struct('fuse_removemapping_one', 16, { moffset: u53, len: u53 });

export const SyncfsIn = struct('fuse_syncfs_in', 8, { _padding: bytes(8, 8) });

// Directory entries.

export const Dirent = struct('fuse_dirent', 24, {
  ino: u53,
  /** Cookie of the entry after this one, all 64 bits the file system's own. */
  off: opaque64,
  namelen: u32,
  /** DT_* of readdir(3). */
  type: u32,
  /** `namelen` bytes without NUL, then zeros up to a multiple of 8. */
  name: bytes(0),
});
export const Direntplus = struct('fuse_direntplus', 152, { entryOut: EntryOut, dirent: Dirent });

// Notifications from the server.

export const NotifyPollWakeupOut = struct('fuse_notify_poll_wakeup_out', 8, { kh: opaque64 });
export const NotifyInvalInodeOut = struct('fuse_notify_inval_inode_out', 24, { ino: u53, off: i64, len: i64 });
export const NotifyInvalEntryOut = struct('fuse_notify_inval_entry_out', 16, {
  parent: u53,
  namelen: u32,
  flags: u32,
});
export const NotifyDeleteOut = struct('fuse_notify_delete_out', 24, {
  parent: u53,
  child: u53,
  namelen: u32,
  _padding: u32,
});
export const NotifyStoreOut = struct('fuse_notify_store_out', 24, {
  nodeid: u53,
  offset: u53,
  size: u32,
  _padding: u32,
});
export const NotifyRetrieveOut = struct('fuse_notify_retrieve_out', 32, {
  notifyUnique: opaque64,
  nodeid: u53,
  offset: u53,
  size: u32,
  _padding: u32,
});
export const NotifyRetrieveIn = struct('fuse_notify_retrieve_in', 40, {
  _dummy1: bytes(8, 8),
  offset: u53,
  size: u32,
  _dummy2: u32,
  _dummy3: bytes(8, 8),
  _dummy4: bytes(8, 8),
});
export const NotifyPruneOut = struct('fuse_notify_prune_out', 16, { count: u32, _padding: u32, _spare: bytes(8, 8) });

// Extensions at the end of a request.

export const Secctx = struct('fuse_secctx', 8, { size: u32, _padding: u32 });
export const SecctxHeader = struct('fuse_secctx_header', 8, { size: u32, nrSecctx: u32 });
export const ExtHeader = struct('fuse_ext_header', 8, { size: u32, type: u32 });
export const SuppGroups = struct('fuse_supp_groups', 4, { nrGroups: u32, groups: bytes(0, 4) });

// Of /dev/fuse alone, never on a virtqueue.

export const BackingMap = struct('fuse_backing_map', 16, { fd: i32, flags: u32, _padding: bytes(8, 8) });
export const UringEntInOut = struct('fuse_uring_ent_in_out', 32, {
  flags: u53,
  commitId: opaque64,
  payloadSz: u32,
  offset: u32,
  _reserved: bytes(8, 8),
});
export const UringReqHeader = struct('fuse_uring_req_header', 288, {
  inOut: bytes(128),
  opIn: bytes(128),
  ringEntInOut: UringEntInOut,
});
/** `bufpool` is one arm of a union; the other is a u16 at the same place. */
export const UringCmdReq = struct('fuse_uring_cmd_req', 40, {
  flags: u53,
  commitId: opaque64,
  qid: u16,
  _padding: bytes(6),
  bufpool: bytes(16, 8),
});
