import { RANGE_SHIFT } from '../coherence/index.ts';
import { MAX_PAGES, MAX_PAYLOAD_BYTES } from '../core/index.ts';
import { flags, type InitOffer } from '../fuse/index.ts';

const { INIT, INIT2 } = flags;

/** What of a cache policy is agreed on at INIT. `src/coherence` CachePolicy has this shape. */
export interface OfferedPolicy {
  readonly autoInvalidate: boolean;
  readonly cacheSymlinks: boolean;
  readonly writeback: boolean;
  readonly allowMmap: boolean;
  readonly noOpen: boolean;
  readonly noOpendir: boolean;
  /** The guest asks us for locks, instead of keeping them to itself. */
  readonly posixLocks?: boolean;
  readonly flock?: boolean;
  /** Mounts on the host below the share become mounts in the guest; absent: they do. */
  readonly announceSubmounts?: boolean;
  /** There is a DAX window. */
  readonly dax?: boolean;
}

/** What of --posix-acl, --security-label and --killpriv-v2 is agreed on at INIT. */
export interface OfferedIdentity {
  readonly posixAcl: boolean;
  readonly securityLabel: boolean;
  readonly killPriv: boolean;
}

const PLAIN: OfferedIdentity = { posixAcl: false, securityLabel: false, killPriv: true };

/** What we can do, and what the cache policy and the options of identity add. The guest's readahead is left to it. */
export function initOffer(policy: OfferedPolicy, identity: OfferedIdentity = PLAIN): InitOffer {
  return {
    flags:
      INIT.ASYNC_READ |
      INIT.BIG_WRITES |
      INIT.DO_READDIRPLUS |
      INIT.READDIRPLUS_AUTO |
      INIT.ASYNC_DIO |
      INIT.PARALLEL_DIROPS |
      INIT.MAX_PAGES |
      // A guest that does not open must not leave it to OPEN to truncate.
      (policy.noOpen ? INIT.NO_OPEN_SUPPORT : INIT.ATOMIC_O_TRUNC) |
      (policy.noOpendir ? INIT.NO_OPENDIR_SUPPORT : 0) |
      INIT.HAS_IOCTL_DIR |
      (policy.announceSubmounts === false ? 0 : INIT.SUBMOUNTS) |
      (policy.autoInvalidate ? INIT.AUTO_INVAL_DATA : 0) |
      (policy.cacheSymlinks ? INIT.CACHE_SYMLINKS : 0) |
      (policy.writeback ? INIT.WRITEBACK_CACHE : 0) |
      (policy.posixLocks ? INIT.POSIX_LOCKS : 0) |
      (policy.flock ? INIT.FLOCK_LOCKS : 0) |
      (policy.dax ? INIT.MAP_ALIGNMENT : 0) |
      (identity.killPriv ? INIT.HANDLE_KILLPRIV_V2 : 0) |
      (identity.posixAcl ? INIT.POSIX_ACL | INIT.DONT_MASK | INIT.SETXATTR_EXT : 0),
    flags2:
      INIT2.CREATE_SUPP_GROUP |
      INIT2.ALLOW_IDMAP |
      // Without `-o dax` the guest maps those files that their attributes say.
      (policy.dax ? INIT2.HAS_INODE_DAX : 0) |
      (identity.securityLabel ? INIT2.SECURITY_CTX : 0) |
      (policy.allowMmap ? INIT2.DIRECT_IO_ALLOW_MMAP : 0),
    maxReadaheadBytes: MAX_PAYLOAD_BYTES,
    maxWriteBytes: MAX_PAYLOAD_BYTES,
    maxPages: MAX_PAGES,
    maxBackground: 64,
    congestionThreshold: 48,
    timeGranNs: 1,
    mapAlignment: RANGE_SHIFT,
  };
}
