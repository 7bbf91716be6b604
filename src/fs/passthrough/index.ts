/**
 * The file system that shares a host directory. Every file is reached through descriptors: names are single components,
 * resolved beneath an open directory without following anything, so no name from a guest can lead out.
 */
import { ENOSYS, EROFS, errnoName, UserError } from '../../core/index.ts';
import { flags } from '../../fuse/index.ts';
import {
  CAP_DAC_READ_SEARCH,
  close,
  coldString,
  CAP_DAC_OVERRIDE,
  descriptorLimit,
  hasCapability,
  O_CLOEXEC,
  O_DIRECT,
  O_DIRECTORY,
  O_NOATIME,
  O_PATH,
  O_RDONLY,
  openat,
  setDescriptorLimit,
  SysError,
  umask,
  AT_FDCWD,
} from '../../sys/index.ts';
import type { Handler, RawFileSystem, ScratchFileSystem, Services } from '../file-system.ts';
import { Attributes } from './attributes.ts';
import { Context } from './context.ts';
import { Credentials } from './credentials.ts';
import { Directories } from './directories.ts';
import { type DaxChoice, DaxFiles } from './dax-files.ts';
import { canReopen } from './file-handle.ts';
import { Files } from './files.ts';
import { Handles, type SharedHandles } from './handles.ts';
import { sharedFileSystems } from './host-mounts.ts';
import { type IdentityOptions, openIdentity, type SharedIdentity, shareIdentity } from './identity.ts';
import { Inodes, type SharedInodes } from './inodes.ts';
import { Ioctls } from './ioctl.ts';
import { LockOperations } from './lock-operations.ts';
import { Locks, type SharedLocks } from './locks.ts';
import { Mapping } from './mapping.ts';
import { Lookups, type SharedLookups } from './lookups.ts';
import { type InodeFileHandles, MOUNT_READONLY, MOUNT_REOPENS } from './mounts.ts';
import { Names } from './names.ts';
import { Opened } from './opened.ts';
import type { ReplyPolicy } from './reply-policy.ts';
import { openScratchRoot } from './scratch-root.ts';
import { Xattrs } from './xattrs.ts';

export type { IdentityOptions } from './identity.ts';
export { parseIdRules } from './id-map.ts';
export { acceptsAcls, parseXattrMap } from './xattr-map.ts';

/** Where workers load this module from. */
export const moduleUrl = import.meta.url;

export type { InodeFileHandles } from './mounts.ts';

export interface PassthroughOptions {
  readonly sharedDir: string;
  readonly readonly: boolean;
  /** Pass extended attributes through, ACLs excepted. */
  readonly xattr: boolean;
  readonly identity?: Partial<IdentityOptions>;
  /** Guests' locks are locks on the host; without, the guest's kernel keeps them to itself. */
  readonly posixLocks?: boolean;
  readonly flock?: boolean;
  readonly entryTtlMs: number;
  readonly attributeTtlMs: number;
  readonly walkAttributes: boolean;
  readonly negativeTtlMs: number;
  readonly writeback: boolean;
  readonly directIo: boolean;
  readonly keepCache: boolean;
  readonly keepUnchanged: boolean;
  readonly cacheDirectories: boolean;
  readonly noOpen: boolean;
  readonly noOpendir: boolean;
  /** Guests are told of mounts below the share (the offer at INIT is the caller's); default true. */
  readonly announceSubmounts?: boolean;
  /** Default `prefer`. */
  readonly inodeFileHandles?: InodeFileHandles;
  /** RLIMIT_NOFILE of the process, soft and hard; default 0: as the hard limit is. */
  readonly rlimitNofile?: number;
  /** O_NOATIME of the guest is passed on; default false. */
  readonly preserveNoatime?: boolean;
  /** O_DIRECT of the guest is passed on; default false. */
  readonly allowDirectIo?: boolean;
  /** What guests that have a DAX window are to map; absent: there is none. */
  readonly dax?: Pick<DaxChoice, 'minBytes' | 'names'>;
}

export interface PassthroughExport {
  readonly inodes: SharedInodes;
  readonly policy: ReplyPolicy;
  readonly readonly: boolean;
  readonly xattr: boolean;
  readonly posixLocks: boolean;
  readonly flock: boolean;
  readonly identity: SharedIdentity;
  readonly procFd: number;
  /** Whether inodes of the share's own mount can give their descriptors up and be reopened by handle. */
  readonly reopens: boolean;
  readonly announceSubmounts: boolean;
  readonly inodeFileHandles: InodeFileHandles;
  /** Flags of a guest's open, more than always, that are passed on to the host. */
  readonly openFlags: number;
}

export interface PassthroughSession {
  readonly lookups: SharedLookups;
  readonly handles: SharedHandles;
  readonly opened: SharedArrayBuffer;
  readonly locks: SharedLocks;
}

/** Descriptors kept free for everything that is neither an inode nor an open file: sockets, eventfds, Node itself. */
const RESERVED_DESCRIPTORS = 256;
const SESSION_CAPACITY = 1 << 24;

function openDirectory(path: string, flagBits: number): number {
  return SysError.check(openat(AT_FDCWD, coldString(path), flagBits | O_DIRECTORY | O_CLOEXEC, 0), 'openat', path);
}

/** Throws UserError when the directory cannot be opened. The umask goes: the guest's has been applied already. */
export function openExport(options: PassthroughOptions): PassthroughExport {
  const { sharedDir } = options;
  let mountFd: number;
  let rootFd: number;
  try {
    mountFd = openDirectory(sharedDir, O_RDONLY);
    rootFd = openDirectory(sharedDir, O_PATH);
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    throw new UserError(`cannot share ${sharedDir}: ${error.code}. Check the path and its permissions.`, {
      cause: error,
    });
  }
  const { announceSubmounts = true, inodeFileHandles = 'prefer' } = options;
  const reopens = inodeFileHandles !== 'never' && canReopen(mountFd);
  if (inodeFileHandles === 'mandatory' && !reopens) {
    close(mountFd);
    close(rootFd);
    throw new UserError(
      `--inode-file-handles=mandatory: files of ${sharedDir} cannot be opened by handle. ${whyNoHandles()} ` +
        'Or use --inode-file-handles=prefer.',
    );
  }
  const procFd = openDirectory('/proc/self/fd', O_PATH);
  umask(0);
  const limit = limitDescriptors(options.rlimitNofile ?? 0);
  // Half for inodes, half for open files; the soft bound on inodes holds where they can be reopened.
  const maxDescriptors = Math.max(128, limit - RESERVED_DESCRIPTORS);
  const shared = Inodes.create(Math.floor(maxDescriptors / 2), maxDescriptors);
  const inodes = new Inodes(shared);
  const identity = shareIdentity(options.identity);
  addRoot(inodes, rootFd, mountFd, reopens, identity);
  const { local, stamping } = sharedFileSystems(rootFd, sharedDir);
  const policy = {
    entryTtlMs: options.entryTtlMs,
    attributeTtlMs: options.attributeTtlMs,
    walkAttributes: options.walkAttributes,
    negativeTtlMs: options.negativeTtlMs,
    writeback: options.writeback,
    // A file that is read would be closed as late as its inode is forgotten: nothing that a server should see.
    noOpen: options.noOpen && local && hasCapability(CAP_DAC_OVERRIDE),
    noOpendir: options.noOpendir,
    // A process that closes a file gives up its locks.
    noFlush: local && options.posixLocks !== true,
    keepUnchanged: options.keepUnchanged && stamping,
    fileFlags:
      (options.directIo ? flags.FOPEN.DIRECT_IO | flags.FOPEN.PARALLEL_DIRECT_WRITES : 0) |
      (options.keepCache ? flags.FOPEN.KEEP_CACHE : 0),
    dax: options.dax && DaxFiles.choose(options.dax.minBytes, options.dax.names, SESSION_CAPACITY),
    directoryFlags: options.cacheDirectories ? flags.FOPEN.KEEP_CACHE | flags.FOPEN.CACHE_DIR : 0,
  };
  return {
    inodes: shared,
    policy,
    readonly: options.readonly,
    xattr: options.xattr,
    posixLocks: options.posixLocks === true,
    flock: options.flock === true,
    identity,
    procFd,
    reopens,
    announceSubmounts,
    inodeFileHandles,
    openFlags: (options.preserveNoatime === true ? O_NOATIME : 0) | (options.allowDirectIo === true ? O_DIRECT : 0),
  };
}

/** What to do about files that cannot be opened by handle. */
function whyNoHandles(): string {
  return hasCapability(CAP_DAC_READ_SEARCH)
    ? 'Its file system has no handles, or ones that are too long.'
    : 'That takes CAP_DAC_READ_SEARCH, which this process has not: run it as root, or give it that capability.';
}

/** Sets how many descriptors the process may have, and gives their number. Throws UserError. */
function limitDescriptors(wanted: number): number {
  const { hard } = descriptorLimit();
  const limit = wanted === 0 ? hard : wanted;
  const result = setDescriptorLimit(limit, limit);
  if (result >= 0) return limit;
  throw new UserError(
    `--rlimit-nofile ${wanted}: ${errnoName(result)}. The hard limit is ${hard}; more takes CAP_SYS_RESOURCE, and ` +
      'the system has a limit of its own in /proc/sys/fs/nr_open.',
  );
}

function addRoot(inodes: Inodes, rootFd: number, mountFd: number, reopens: boolean, identity: SharedIdentity): void {
  const looker = new Context({
    inodes,
    lookups: new Lookups(Lookups.create(2), inodes),
    handles: new Handles(Handles.create(2), inodes),
    opened: new Opened(Opened.create(2)),
    policy: {
      entryTtlMs: 0,
      attributeTtlMs: 0,
      walkAttributes: false,
      negativeTtlMs: 0,
      writeback: false,
      noOpen: false,
      noOpendir: false,
      noFlush: false,
      keepUnchanged: false,
      fileFlags: 0,
      directoryFlags: 0,
      dax: undefined,
    },
    procFd: -1,
    inodeFileHandles: 'never',
    announceSubmounts: true,
    warn: () => undefined,
    identity: openIdentity(identity, false),
  });
  const readonly = looker.credentials.meet(rootFd) ? MOUNT_READONLY : 0;
  SysError.check(looker.statFd(rootFd), 'statx', 'the shared directory');
  looker.adoptRoot(rootFd, mountFd, readonly | (reopens ? MOUNT_REOPENS : 0));
}

export function remarks(exported: PassthroughExport): string[] {
  if (exported.reopens || exported.inodeFileHandles === 'never') return [];
  return [
    `the shared files cannot be opened by handle. ${whyNoHandles()} Until then every file that a guest knows keeps ` +
      `one of ${descriptorLimit().soft} descriptors, and guests get ENFILE when there are none left.`,
  ];
}

export function openSession(): PassthroughSession {
  return {
    lookups: Lookups.create(SESSION_CAPACITY),
    handles: Handles.create(),
    opened: Opened.create(SESSION_CAPACITY),
    locks: Locks.create(),
  };
}

export function openWorker(
  exported: PassthroughExport,
  session: PassthroughSession,
  services: Services = { warn: () => undefined, released: () => undefined },
): RawFileSystem {
  const { warn, released } = services;
  const { inodeFileHandles, announceSubmounts } = exported;
  const inodes = new Inodes(exported.inodes, (max) => warn(`${max} ${fullTable(exported)}`));
  const lookups = new Lookups(session.lookups, inodes);
  const handles = new Handles(session.handles, inodes);
  const locks = new Locks(session.locks, inodes);
  const context = new Context({
    inodes,
    lookups,
    handles,
    opened: new Opened(session.opened),
    policy: exported.policy,
    procFd: exported.procFd,
    inodeFileHandles,
    announceSubmounts,
    warn,
    identity: openIdentity(exported.identity, true),
  });
  const handlers = handlersOf(context, exported);
  const mapping = new Mapping(context, exported.readonly);
  return {
    handlers: settled(context.credentials, {
      ...handlers,
      ...lockHandlers(handlers, new LockOperations(context, locks, exported, released), exported),
    }),
    openForMapping: (nodeidLo, nodeidHi) => mapping.open(nodeidLo, nodeidHi),
    sizeOf: (nodeidLo, nodeidHi) => mapping.sizeOf(nodeidLo, nodeidHi),
    reserveBlocks: (nodeidLo, nodeidHi, offset, length, writes) =>
      mapping.reserveBlocks(nodeidLo, nodeidHi, offset, length, writes),
    reset: () => {
      handles.releaseAll();
      lookups.forgetAll();
      locks.releaseAll();
      released();
    },
  };
}

/** What the log says, once, after the number of descriptors that there are. */
function fullTable({ reopens, inodeFileHandles }: PassthroughExport): string {
  const cure = reopens
    ? ''
    : ` Files that are known need not keep theirs with ${
        inodeFileHandles === 'never' ? '--inode-file-handles=prefer' : 'file handles, which are not to be had here'
      }.`;
  return (
    'descriptors for known and open files are in use: guests get ENFILE until they close or forget some.' +
    `${cure} There are more with a higher --rlimit-nofile.`
  );
}

/** Those that create an inode, or may: they say themselves as whom. */
const CREATING: ReadonlySet<string> = new Set(['MKNOD', 'MKDIR', 'SYMLINK', 'CREATE', 'TMPFILE', 'RENAME2']);

/** All others are done by the daemon as itself. */
function settled(credentials: Credentials, handlers: RawFileSystem['handlers']): RawFileSystem['handlers'] {
  const wrap = (handler: Handler): Handler => {
    return (request) => {
      credentials.settle();
      return handler(request);
    };
  };
  return Object.fromEntries(
    Object.entries(handlers).map(([name, handler]) => [name, CREATING.has(name) ? handler : wrap(handler)]),
  );
}

function handlersOf(context: Context, { readonly, xattr, openFlags }: PassthroughExport): RawFileSystem['handlers'] {
  const names = new Names(context);
  const attributes = new Attributes(context, readonly);
  const files = new Files(context, readonly, openFlags);
  const directories = new Directories(context);
  const ioctls = new Ioctls(context, readonly);
  const changing = (handler: Handler): Handler => (readonly ? () => -EROFS : handler);
  const make = changing((request) => names.make(request));
  return {
    LOOKUP: (request) => names.lookup(request),
    FORGET: (request) => names.forget(request),
    BATCH_FORGET: (request) => names.batchForget(request),
    READLINK: (request) => names.readlink(request),
    MKNOD: make,
    MKDIR: make,
    SYMLINK: make,
    UNLINK: changing((request) => names.unlink(request)),
    RMDIR: changing((request) => names.rmdir(request)),
    RENAME: changing((request) => names.rename(request)),
    RENAME2: changing((request) => names.rename2(request)),
    LINK: changing((request) => names.link(request)),
    GETATTR: (request) => attributes.getattr(request),
    SETATTR: changing((request) => attributes.setattr(request)),
    STATX: (request) => attributes.statx(request),
    STATFS: (request) => attributes.statfs(request),
    ACCESS: (request) => attributes.access(request),
    SYNCFS: (request) => attributes.syncfs(request),
    OPEN: (request) => files.open(request),
    CREATE: changing((request) => files.create(request)),
    TMPFILE: changing((request) => files.tmpfile(request)),
    COPY_FILE_RANGE: changing((request) => files.copyFileRange(request)),
    COPY_FILE_RANGE_64: changing((request) => files.copyFileRange(request)),
    READ: (request) => files.read(request),
    WRITE: changing((request) => files.write(request)),
    RELEASE: (request) => files.release(request),
    FLUSH: (request) => files.flush(request),
    FSYNC: (request) => files.fsync(request),
    FSYNCDIR: (request) => files.fsyncdir(request),
    FALLOCATE: changing((request) => files.fallocate(request)),
    LSEEK: (request) => files.lseek(request),
    IOCTL: (request) => ioctls.ioctl(request),
    OPENDIR: (request) => directories.opendir(request),
    READDIR: (request) => directories.readdir(request),
    READDIRPLUS: (request) => directories.readdirplus(request),
    RELEASEDIR: (request) => files.release(request),
    ...(xattr ? xattrHandlers(new Xattrs(context), changing) : {}),
  };
}

/** What locks add to the other handlers: none where the guest's kernel keeps them. */
function lockHandlers(
  { FLUSH, RELEASE }: RawFileSystem['handlers'],
  locks: LockOperations,
  { posixLocks, flock }: PassthroughExport,
): RawFileSystem['handlers'] {
  if (!posixLocks && !flock) return {};
  const then =
    (first: Handler | undefined, second: Handler): Handler =>
    (request) => {
      const result = first?.(request) ?? -ENOSYS;
      second(request);
      return result;
    };
  return {
    GETLK: (request) => locks.get(request),
    SETLK: (request) => locks.set(request, false),
    SETLKW: (request) => locks.set(request, true),
    FLUSH: then(FLUSH, (request) => locks.flush(request)),
    RELEASE: then(RELEASE, (request) => locks.release(request)),
  };
}

function xattrHandlers(xattrs: Xattrs, changing: (handler: Handler) => Handler): RawFileSystem['handlers'] {
  return {
    GETXATTR: (request) => xattrs.getxattr(request),
    LISTXATTR: (request) => xattrs.listxattr(request),
    SETXATTR: changing((request) => xattrs.setxattr(request)),
    REMOVEXATTR: changing((request) => xattrs.removexattr(request)),
  };
}

/** Inodes and handles of a scratch file system, at most. */
const SCRATCH_CAPACITY = 1024;

/** No rules for ids: the daemon's own user is to have a place there, whatever guests' users have on the share. */
export function openScratch(exported: PassthroughExport, services: Services): ScratchFileSystem {
  const root = openScratchRoot();
  const shared = Inodes.create(SCRATCH_CAPACITY / 2, SCRATCH_CAPACITY, SCRATCH_CAPACITY);
  const inodes = new Inodes(shared);
  const { posixAcl, xattrRules } = exported.identity;
  const identity = shareIdentity({ posixAcl, xattrRules });
  const { dax } = exported.policy;
  const policy = { ...exported.policy, dax: dax && DaxFiles.choose(dax.minBytes, dax.names, SCRATCH_CAPACITY) };
  const session = {
    lookups: Lookups.create(SCRATCH_CAPACITY),
    handles: Handles.create(SCRATCH_CAPACITY),
    opened: Opened.create(SCRATCH_CAPACITY),
    locks: Locks.create(),
  };
  addRoot(inodes, root.rootFd, root.mountFd, canReopen(root.mountFd), identity);
  const scratch = { ...exported, inodes: shared, policy, identity, readonly: false };
  const fileSystem = openWorker(scratch, session, services);
  return {
    fileSystem,
    isMemory: root.isMemory,
    close: () => {
      fileSystem.reset();
      inodes.closeAll();
      root.remove();
    },
  };
}

export function closeExport(exported: PassthroughExport): void {
  new Inodes(exported.inodes).closeAll();
  close(exported.procFd);
}

/** What is known and open now. The root counts as an inode, and its mount as a mount. */
export function gauges(exported: PassthroughExport, sessions: readonly PassthroughSession[]): Record<string, number> {
  const inodes = new Inodes(exported.inodes);
  const handles = sessions
    .map((session) => new Handles(session.handles, inodes).open)
    .reduce((sum, open) => sum + open, 0);
  const { known, open, mounts } = inodes;
  const identitySwitches = Credentials.switches(exported.identity.credentials);
  const gauged = { inodes: known, inodeDescriptors: open, mounts: mounts.count, identitySwitches, handles };
  if (!exported.posixLocks) return gauged;
  const owners = sessions.map((session) => new Locks(session.locks, inodes).owners);
  return { ...gauged, lockOwners: owners.reduce((sum, each) => sum + each, 0) };
}
