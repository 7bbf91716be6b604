/** What the operations of one worker share: the tables, the stat buffer, the ways from a name or an inode to a file. */
import { assert, EMFILE, ENFILE, EOPNOTSUPP, EOVERFLOW, ESTALE } from '../../core/index.ts';
import { flags as fuseFlags } from '../../fuse/index.ts';
import {
  AT_EMPTY_PATH,
  AT_SYMLINK_NOFOLLOW,
  type Arena,
  close,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  openat,
  openat2,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  STATX_ALL,
  STATX_BASIC_STATS,
  STATX_CTIME,
  STATX_MNT_ID,
  statx,
  statxName,
} from '../../sys/index.ts';
import type { Request, Scratch } from '../file-system.ts';
import { Creation } from './creation.ts';
import type { Credentials } from './credentials.ts';
import { canReopen } from './file-handle.ts';
import type { Handles } from './handles.ts';
import type { HostNames } from './host-names.ts';
import type { IdMap } from './id-map.ts';
import type { WorkerIdentity } from './identity.ts';
import { type Inodes, ROOT_SLOT } from './inodes.ts';
import type { Lookups } from './lookups.ts';
import { type InodeFileHandles, MOUNT_FILES, MOUNT_READONLY, MOUNT_REOPENS } from './mounts.ts';
import type { Opened } from './opened.ts';
import { DaxFiles } from './dax-files.ts';
import { ProcNames } from './proc-names.ts';
import { Privileges } from './privileges.ts';
import type { ReplyPolicy } from './reply-policy.ts';
import {
  BLKSIZE,
  NLINK,
  UID,
  GID,
  MODE,
  INO,
  SIZE,
  BLOCKS,
  ATIME,
  CTIME,
  MTIME,
  RDEV_MAJOR,
  RDEV_MINOR,
  DEV_MAJOR,
  DEV_MINOR,
  MNT_ID,
} from './statx-words.ts';

export interface ContextOptions {
  readonly inodes: Inodes;
  readonly lookups: Lookups;
  readonly handles: Handles;
  readonly opened: Opened;
  readonly policy: ReplyPolicy;
  /** An O_PATH descriptor of /proc/self/fd, through which an O_PATH descriptor is opened for good. */
  readonly procFd: number;
  readonly identity: WorkerIdentity;
  readonly inodeFileHandles: InodeFileHandles;
  /** Guests are told of mounts; one that does not understand it may run out of inode numbers. */
  readonly announceSubmounts: boolean;
  readonly warn: (message: string) => void;
}

/** Memory with names in it. */
type Names = Pick<Scratch, 'address' | 'u8'>;
/** In struct fuse_attr, in words. */
const ATTR_FLAGS = 21;

const STATX_BYTES = 256;
const STATX_OUT_BYTES = 288;
/** What tells an inode and its mount, and all that the guest is told of it. */
const LOOK = STATX_BASIC_STATS | STATX_MNT_ID;
const { SUBMOUNTS } = fuseFlags.INIT;
const { SUBMOUNT, DAX } = fuseFlags.ATTR;

export class Context {
  readonly inodes: Inodes;
  readonly lookups: Lookups;
  readonly handles: Handles;
  readonly policy: ReplyPolicy;
  readonly #opened: Opened;
  readonly procFd: number;
  readonly arena: Arena;
  readonly credentials: Credentials;
  readonly uids: IdMap;
  readonly gids: IdMap;
  readonly hostNames: HostNames;
  readonly creation: Creation;
  readonly privileges: Privileges;
  /** An address of "". */
  readonly empty: number;
  /** An address of ".". */
  readonly dot: number;
  readonly #inodeFileHandles: InodeFileHandles;
  readonly #announceSubmounts: boolean;
  readonly #warn: (message: string) => void;
  /** The address of the path that `writeProcPath` writes. */
  readonly procPath: number;
  readonly #statAddress: number;
  readonly #stat: number;
  readonly #how: number;
  /** Of the last names that were looked up: from 2 on most were of inodes that nobody knew. 0 to 3. */
  #newcomers = 0;
  readonly daxFiles: DaxFiles;
  readonly #procNames: ProcNames;

  constructor(options: ContextOptions) {
    this.inodes = options.inodes;
    this.lookups = options.lookups;
    this.handles = options.handles;
    this.policy = options.policy;
    this.#opened = options.opened;
    this.procFd = options.procFd;
    this.#inodeFileHandles = options.inodeFileHandles;
    this.#announceSubmounts = options.announceSubmounts;
    this.#warn = options.warn;
    const { arena, credentials, uids, gids, hostNames, securityLabel } = options.identity;
    this.arena = arena;
    this.credentials = credentials;
    this.uids = uids;
    this.gids = gids;
    this.hostNames = hostNames;
    this.creation = new Creation(this, securityLabel);
    this.privileges = new Privileges(this);
    this.empty = arena.address + arena.reserve(1);
    const dotAt = arena.reserve(2);
    arena.u8[dotAt] = 0x2e;
    this.dot = arena.address + dotAt;
    const statAt = arena.reserve(STATX_BYTES);
    this.#stat = statAt >> 2;
    this.#statAddress = arena.address + statAt;
    this.daxFiles = new DaxFiles(options.policy.dax, options.inodes, arena.u32, this.#stat);
    this.#procNames = new ProcNames(arena);
    this.procPath = this.#procNames.path;
    const howAt = arena.reserve(24);
    this.#how = arena.address + howAt;
    arena.u32[howAt >> 2] = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    arena.u32[(howAt >> 2) + 4] = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  }

  /** The mode of the last inode that was looked at. */
  get mode(): number {
    return this.arena.u32[this.#stat + MODE] & 0xffff;
  }

  /** As the guest has it, and signed, as all ids. */
  get ownerUid(): number {
    return this.uids.toGuest(this.arena.u32[this.#stat + UID] | 0);
  }

  get ownerGid(): number {
    return this.gids.toGuest(this.arena.u32[this.#stat + GID] | 0);
  }

  /** Bytes. */
  get size(): number {
    return this.arena.u32[this.#stat + SIZE] + this.arena.u32[this.#stat + SIZE + 1] * 0x1_0000_0000;
  }

  /** Major and minor in 32 bits, as the kernel's dev_t has them, signed. (V8 calls its runtime for private getters.) */
  #device(): number {
    return (this.arena.u32[this.#stat + DEV_MAJOR] << 20) | this.arena.u32[this.#stat + DEV_MINOR];
  }

  /** Looks at an open file. */
  statFd(fd: number): number {
    return statx(fd, this.empty, AT_EMPTY_PATH, LOOK, this.#statAddress);
  }

  /** Looks at an open file for all that `mask` asks for. */
  statFdFor(fd: number, mask: number): number {
    return statx(fd, this.empty, AT_EMPTY_PATH, mask, this.#statAddress);
  }

  /** Looks at a pinned inode. */
  statInode(slot: number): number {
    const fd = this.inodes.fd(slot);
    return fd < 0 ? fd : this.statFd(fd);
  }

  /**
   * The inode behind a directory's name (checked by the gate), pinned and looked at: by its name, or where it is likely
   * `isNew` by a descriptor, which that needs in any case. By default, likely is what the last ones were.
   */
  lookUp(dirFd: number, dirSlot: number, names: Names, nameAt: number, isNew = this.#newcomers > 1): number {
    const slot = this.#lookUp(dirFd, dirSlot, names.address, nameAt, isNew);
    if (slot > 0) this.daxFiles.note(slot, names.u8, nameAt);
    return slot;
  }

  #lookUp(dirFd: number, dirSlot: number, address: number, nameAt: number, isNew: boolean): number {
    const known = isNew ? 0 : this.#lookUpKnown(dirFd, dirSlot, address, nameAt);
    if (known !== 0) return known;
    // Without room for one more it may be a known one after all.
    if (!this.inodes.mayOpen()) return (isNew && this.#lookUpKnown(dirFd, dirSlot, address, nameAt)) || -ENFILE;
    const fd = openat2(dirFd, address + nameAt, this.#how);
    if (fd < 0) return fd === -EMFILE ? -ENFILE : fd;
    const looked = this.statFd(fd);
    const other = looked < 0 ? looked : this.#findLooked(dirSlot);
    this.#newcomers = other === 0 ? Math.min(this.#newcomers + 1, 3) : Math.max(this.#newcomers - 1, 0);
    if (other === 0) return this.#adopt(fd, dirSlot);
    close(fd);
    return other;
  }

  /** As `lookUp`; 0: nobody knows it. */
  #lookUpKnown(dirFd: number, dirSlot: number, address: number, nameAt: number): number {
    const result = statxName(dirFd, address, nameAt, AT_SYMLINK_NOFOLLOW, LOOK, this.#statAddress);
    if (result < 0) return result;
    const known = this.#findLooked(dirSlot);
    if (known !== 0) this.#newcomers = Math.max(this.#newcomers - 1, 0);
    return known;
  }

  /** The inode whose name is about to go, pinned: without a name it could not be found again by handle. Or 0. */
  holdNamed(dirFd: number, dirSlot: number, names: Pick<Scratch, 'address'>, nameAt: number): number {
    if (!this.inodes.anyClosed) return 0;
    const { address } = names;
    const result = statxName(dirFd, address, nameAt, AT_SYMLINK_NOFOLLOW, LOOK, this.#statAddress);
    const slot = result < 0 ? 0 : this.#findLooked(dirSlot);
    if (slot !== 0) this.inodes.fd(slot);
    return slot;
  }

  /** The inode of a file that is open already (CREATE), pinned and looked at. */
  lookUpOpen(openFd: number, dirSlot: number): number {
    const result = this.statFd(openFd);
    if (result < 0) return result;
    const known = this.#findLooked(dirSlot);
    if (known !== 0) return known;
    const fd = this.reopen(openFd, O_PATH);
    return fd < 0 ? fd : this.#adopt(fd, dirSlot);
  }

  /** The pinned slot of the inode in the stat buffer, or 0. Most are on the mount of their directory. */
  #findLooked(dirSlot: number): number {
    const { u32 } = this.arena;
    const { inodes } = this;
    const { mounts } = inodes;
    const s = this.#stat;
    const device = this.#device();
    const idLo = u32[s + MNT_ID] | 0;
    const idHi = u32[s + MNT_ID + 1] | 0;
    const mount = mounts.find(inodes.mount(dirSlot), device, idLo, idHi);
    if (mount === 0) return 0;
    const slot = inodes.find(mount, u32[s + INO], u32[s + INO + 1]);
    if (slot === 0) return 0;
    const stale = !mounts.is(mount, device, idLo, idHi);
    if (!stale && !inodes.isClosed(slot)) return slot;
    // Without a descriptor nothing kept the host from giving the inode number to a new file: the handle tells.
    if (!stale && inodes.fd(slot) !== -ESTALE) return slot;
    if (!stale) inodes.orphan(slot);
    inodes.unpin(slot);
    return 0;
  }

  /** Puts the inode in the stat buffer, with its O_PATH descriptor, in the table. */
  #adopt(fd: number, dirSlot: number): number {
    const { u32 } = this.arena;
    const { mounts } = this.inodes;
    const s = this.#stat;
    const device = this.#device();
    let mount = mounts.findAndHold(this.inodes.mount(dirSlot), device, u32[s + MNT_ID] | 0, u32[s + MNT_ID + 1] | 0);
    if (mount === 0) mount = this.#addMount(fd);
    if (mount > 0 && !this.#announceSubmounts && !mounts.canShow(mount, u32[s + INO + 1])) {
      this.#warn(
        `device ${u32[s + DEV_MAJOR]}:${u32[s + DEV_MINOR]} has inode numbers that cannot be told from others' ` +
          'in 64 bits: guests get EOVERFLOW. Serve with --announce-submounts.',
      );
      mounts.release(mount);
      mount = -EOVERFLOW;
    }
    if (mount < 0) {
      close(fd);
      return mount;
    }
    const slot = this.inodes.insert(mount, u32[s + INO], u32[s + INO + 1], this.mode, fd);
    mounts.release(mount);
    return slot;
  }

  /** Adds the mount of the inode in the stat buffer, open (O_PATH) as `fd`, and holds it. Its index, or an errno. */
  #addMount(fd: number): number {
    const { u32 } = this.arena;
    const s = this.#stat;
    const readonly = this.credentials.meet(fd) ? MOUNT_READONLY : 0;
    const type = this.mode & S_IFMT;
    const isDirectory = type === S_IFDIR;
    // A file may be a mount as well; to open a device or a FIFO would do something.
    const opens = isDirectory || type === S_IFREG;
    const mountFd = opens ? this.reopen(fd, O_RDONLY | O_NONBLOCK | (isDirectory ? O_DIRECTORY : 0)) : -1;
    const reopens = this.#inodeFileHandles !== 'never' && mountFd >= 0 && canReopen(mountFd);
    const where = `the mount ${u32[s + MNT_ID]} on device ${u32[s + DEV_MAJOR]}:${u32[s + DEV_MINOR]}`;
    if (!reopens && this.#inodeFileHandles === 'mandatory') {
      this.#warn(`${where} has no file handles, which --inode-file-handles=mandatory asks for: it is not served`);
      if (mountFd >= 0) close(mountFd);
      return -EOPNOTSUPP;
    }
    const { mounts } = this.inodes;
    const flagBits = (reopens ? MOUNT_REOPENS : 0) | (isDirectory ? 0 : MOUNT_FILES) | readonly;
    const [idLo, idHi, inoLo, inoHi] = [u32[s + MNT_ID], u32[s + MNT_ID + 1], u32[s + INO], u32[s + INO + 1]];
    const added = mounts.add(this.#device(), idLo | 0, idHi | 0, mountFd, flagBits, inoLo | 0, inoHi | 0);
    if (added !== 0) return added;
    this.#warn(`${where} cannot be served: there are 4096 others that guests know`);
    return -ENFILE;
  }

  /** Puts the shared directory itself in the table, first of all, and known for good. */
  adoptRoot(fd: number, mountFd: number, flagBits: number): void {
    const { u32 } = this.arena;
    const { mounts } = this.inodes;
    const s = this.#stat;
    mounts.setOwnDevice(this.#device());
    const mount = mounts.add(this.#device(), u32[s + MNT_ID] | 0, u32[s + MNT_ID + 1] | 0, mountFd, flagBits);
    const slot = this.inodes.insert(mount, u32[s + INO], u32[s + INO + 1], this.mode, fd);
    assert(slot === ROOT_SLOT, 'the root is not the first inode');
    this.inodes.pinToSession(slot);
  }

  /** Pins the handle at an offset of the request's fixed part: its slot, or 0. */
  pinHandle(request: Request, offset: number): number {
    const { view } = request.scratch;
    const at = request.body + offset;
    return this.handles.pin(view.getInt32(at, true), view.getInt32(at + 4, true));
  }

  /** Whether a file that is opened now is as it was when the session opened it last. */
  isAsBefore(slot: number, fd: number): boolean {
    if (this.statFdFor(fd, STATX_CTIME) < 0) return false;
    const { u32 } = this.arena;
    return this.#opened.isAsBefore(slot, u32[this.#stat + CTIME] | 0, u32[this.#stat + CTIME + 2] | 0);
  }

  /** Writes fuse_open_out for a new handle; slot 0 stands for none. */
  writeOpenOut(scratch: Scratch, at: number, handle: number, openFlags: number): void {
    const { u32 } = scratch;
    const w = at >> 2;
    u32[w] = handle;
    u32[w + 1] = handle === 0 ? 0 : this.handles.generation(handle);
    u32[w + 2] = openFlags;
    u32[w + 3] = 0;
  }

  /** Opens the file behind a descriptor (O_PATH or not) anew. There is no name that could be swapped meanwhile. */
  reopen(fd: number, flags: number): number {
    if (!this.inodes.mayOpen()) return -ENFILE;
    const opened = openat(this.procFd, this.procName(fd), flags | O_CLOEXEC, 0);
    return opened === -EMFILE ? -ENFILE : opened;
  }

  /** Writes a pinned inode's path in /proc to `procPath`, for calls that take no descriptor: 0, or a negative errno. */
  writeProcPath(slot: number): number {
    const fd = this.inodes.fd(slot);
    if (fd < 0) return fd;
    this.#procNames.writePath(fd);
    return 0;
  }

  /** Writes a descriptor's path in /proc to `procPath`. */
  writeProcPathOf(fd: number): void {
    this.#procNames.writePath(fd);
  }

  /** The address of a descriptor's name in `procFd`. Valid until the next call. */
  procName(fd: number): number {
    return this.#procNames.name(fd);
  }

  /** Whether the guest of a request makes a mount of its own of a mount on the host. */
  announces(request: Request): boolean {
    return (request.agreed & SUBMOUNTS) !== 0;
  }

  /** Writes fuse_attr_out (104 bytes), for a slot whose inode is in the stat buffer, as the reply. */
  writeAttrOut(request: Request, slot: number): void {
    const ttl = this.policy.attributeTtlMs;
    const { u32 } = request.scratch;
    const at = request.reply;
    const w = at >> 2;
    u32[w] = ttl / 1000;
    u32[w + 1] = 0;
    u32[w + 2] = (ttl % 1000) * 1e6;
    u32[w + 3] = 0;
    this.#writeAttr(request, slot, w + 4);
  }

  /**
   * Writes fuse_statx_out (288 bytes) likewise: fuse_statx is struct statx up to the numbers of the device, which are
   * the host's own business. The id of the mount is not in it: the guest's kernel has its own.
   */
  writeStatxOut(request: Request, slot: number): void {
    const ttl = this.policy.attributeTtlMs;
    const { u32 } = request.scratch;
    const w = request.reply >> 2;
    for (let i = 0; i < STATX_OUT_BYTES / 4; i += 1) u32[w + i] = 0;
    u32[w] = ttl / 1000;
    u32[w + 2] = (ttl % 1000) * 1e6;
    for (let i = 0; i < DEV_MAJOR; i += 1) u32[w + 8 + i] = this.arena.u32[this.#stat + i];
    u32[w + 8] &= STATX_ALL;
    this.#showInode(request, slot, w + 8 + INO);
    u32[w + 8 + UID] = this.ownerUid;
    u32[w + 8 + GID] = this.ownerGid;
  }

  /** Writes fuse_entry_out (128 bytes) for a slot found in `dir`, whose inode is in the stat buffer, at byte `at`. */
  writeEntryOut(request: Request, at: number, slot: number, dir: number): void {
    const { entryTtlMs, attributeTtlMs, walkAttributes } = this.policy;
    const isDirectory = (this.mode & S_IFMT) === S_IFDIR;
    const { u32 } = request.scratch;
    const w = at >> 2;
    u32[w] = slot;
    u32[w + 1] = this.inodes.generation(slot);
    // The node id carries the generation already.
    u32[w + 2] = 0;
    u32[w + 3] = 0;
    u32[w + 4] = entryTtlMs / 1000;
    u32[w + 5] = 0;
    u32[w + 6] = attributeTtlMs / 1000;
    u32[w + 7] = 0;
    u32[w + 8] = (entryTtlMs % 1000) * 1e6;
    u32[w + 9] = (attributeTtlMs % 1000) * 1e6;
    // Less than a tick is a tick. Linux asks a directory's attributes right after its name, to see who may enter.
    if (attributeTtlMs === 0 && walkAttributes && isDirectory) u32[w + 9] = 1;
    this.#writeAttr(request, slot, w + 10);
    if (this.inodes.mount(slot) === this.inodes.mount(dir)) return;
    // The guest can make a mount of a directory only; a file it takes for one of the directory's own.
    if (this.announces(request) && isDirectory) u32[w + 10 + ATTR_FLAGS] |= SUBMOUNT;
  }

  /** Writes the fuse_entry_out that says: no such name, and that may be remembered. */
  writeNegativeEntry(scratch: Scratch, at: number): void {
    const { negativeTtlMs } = this.policy;
    const { u32 } = scratch;
    const w = at >> 2;
    for (let i = 0; i < 32; i += 1) u32[w + i] = 0;
    u32[w + 4] = negativeTtlMs / 1000;
    u32[w + 8] = (negativeTtlMs % 1000) * 1e6;
  }

  /** Makes the inode number at word `w` of the reply, of the inode in the stat buffer, what this guest gets. */
  #showInode(request: Request, slot: number, w: number): void {
    const { inodes } = this;
    inodes.mounts.showInode(inodes.mount(slot), this.announces(request), request.scratch.u32, w);
  }

  /** struct fuse_attr, 22 words, in the order of the kernel's header. */
  #writeAttr(request: Request, slot: number, w: number): void {
    const { u32 } = request.scratch;
    const from = this.arena.u32;
    const s = this.#stat;
    u32[w] = from[s + INO];
    u32[w + 1] = from[s + INO + 1];
    u32[w + 2] = from[s + SIZE];
    u32[w + 3] = from[s + SIZE + 1];
    u32[w + 4] = from[s + BLOCKS];
    u32[w + 5] = from[s + BLOCKS + 1];
    u32[w + 6] = from[s + ATIME];
    u32[w + 7] = from[s + ATIME + 1];
    u32[w + 8] = from[s + MTIME];
    u32[w + 9] = from[s + MTIME + 1];
    u32[w + 10] = from[s + CTIME];
    u32[w + 11] = from[s + CTIME + 1];
    u32[w + 12] = from[s + ATIME + 2];
    u32[w + 13] = from[s + MTIME + 2];
    u32[w + 14] = from[s + CTIME + 2];
    u32[w + 15] = from[s + MODE] & 0xffff;
    u32[w + 16] = from[s + NLINK];
    u32[w + 17] = this.ownerUid;
    u32[w + 18] = this.ownerGid;
    const minor = from[s + RDEV_MINOR];
    // new_encode_dev, include/linux/kdev_t.h.
    u32[w + 19] = (minor & 0xff) | (from[s + RDEV_MAJOR] << 8) | ((minor & ~0xff) << 12);
    u32[w + 20] = from[s + BLKSIZE];
    u32[w + ATTR_FLAGS] = this.daxFiles.isFor(slot) ? DAX : 0;
    this.#showInode(request, slot, w);
  }
}
