/**
 * Who a worker's thread is to the host: file-system uid and gid, supplementary groups, umask, and whether it may keep
 * set-id bits (CAP_FSETID). All of it costs system calls to change, so it is changed only when it differs from what is
 * wanted next.
 *
 * What is created belongs to the guest's user. All else the daemon does as itself; but a thread whose capabilities give
 * it every right anyway (they stay when its ids change) need not turn back to itself on a local file system, which
 * looks at the ids for nothing but the owner of a new file. So it stays the last user who created something. Where the
 * ids travel with every call (NFS, FUSE, 9P, any kind that we do not know), it is itself again right after creating.
 */
import { assert, EOVERFLOW, EPERM } from '../../core/index.ts';
import {
  type Arena,
  actAs,
  allowActingAs,
  CAP_CHOWN,
  CAP_DAC_OVERRIDE,
  CAP_DAC_READ_SEARCH,
  CAP_FOWNER,
  CAP_FSETID,
  fstatfs,
  hasCapability,
  S_ISGID,
  SysError,
  setGroups,
  umask,
  unshareUmask,
  useFsetid,
} from '../../sys/index.ts';
import { MAX_GROUPS } from '../../fuse/index.ts';
import type { Request } from '../file-system.ts';
import { isLocal } from './host-mounts.ts';
import type { IdMap } from './id-map.ts';

/** Of what is made without regard to the umask: it may stay as it is. */
export const NO_UMASK = -1;
const NO_ID = -1;
/** f_flags of struct statfs, in words, and what it may say. */
const STATFS_FLAGS = 20;
const ST_RDONLY = 1;
/** In #groupCount: the groups that the daemon was started with. */
const OWN_GROUPS = -1;
/** A user in more groups than this keeps them, whoever it acts as. */
const MOST_OWN_GROUPS = 1024;
const STATFS_BYTES = 120;

// Words that the workers of an export share.
const SWITCHES = 0;
const FOREIGN = 1;

export interface CredentialsOptions {
  readonly arena: Arena;
  readonly uids: IdMap;
  readonly gids: IdMap;
  /** What `Credentials.share` made. */
  readonly shared: SharedArrayBuffer;
  /** The guest leaves its umask to us: the host weighs it against default ACLs. */
  readonly masks: boolean;
  /** False: the thread stays as it is, and only knows of file systems (set-up). */
  readonly changes: boolean;
}

/** Several may work on one thread, a session or an export each: `known` is the one that knows what it is now. */
const thread: { known: Credentials | undefined } = { known: undefined };

export class Credentials {
  readonly #arena: Arena;
  readonly #uids: IdMap;
  readonly #gids: IdMap;
  readonly #shared: Int32Array;
  readonly #masks: boolean;
  readonly #mayActAs: boolean;
  readonly #mayGroup: boolean;
  /** Whether it has all the rights of which the owner of a file has some. */
  readonly #mayLinger: boolean;
  readonly #mayDropFsetid: boolean;
  readonly #ownUid = process.geteuid?.() ?? 0;
  readonly #ownGid = process.getegid?.() ?? 0;
  readonly #ownGroups: number;
  readonly #ownGroupCount: number;
  readonly #groups: number;
  readonly #statfs: number;
  // What the thread is now.
  #uid: number;
  #gid: number;
  #groupCount = OWN_GROUPS;
  #mask = 0;
  #keepsSetIds = true;

  /** Throws SysError when the thread cannot have a umask of its own. */
  constructor(options: CredentialsOptions) {
    const { arena, changes } = options;
    this.#arena = arena;
    this.#uids = options.uids;
    this.#gids = options.gids;
    this.#shared = new Int32Array(options.shared);
    const all = process.getgroups?.() ?? [];
    const own = all.length > MOST_OWN_GROUPS ? [] : all;
    this.#ownGroups = arena.reserve(own.length * 4 + 4);
    this.#ownGroupCount = own.length;
    arena.u32.set(own, this.#ownGroups >> 2);
    this.#groups = arena.reserve(MAX_GROUPS * 4);
    this.#statfs = arena.reserve(STATFS_BYTES);
    this.#uid = this.#ownUid | 0;
    this.#gid = this.#ownGid | 0;
    if (changes) this.#take();
    this.#mayActAs = changes && allowActingAs();
    // A user namespace can forbid setgroups(2) alone.
    const may = this.#mayActAs && own.length === all.length;
    this.#mayGroup = may && setGroups(arena.address + this.#ownGroups, own.length) === 0;
    const rights = [CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER];
    this.#mayLinger = this.#mayActAs && rights.every(hasCapability);
    this.#mayDropFsetid = changes && hasCapability(CAP_FSETID);
    this.#masks = changes && options.masks;
    // Threads share one umask, unless they say otherwise.
    if (this.#masks) SysError.check(unshareUmask(), 'unshare', 'CLONE_FS');
  }

  /** What the workers of an export have in common. */
  static share(): SharedArrayBuffer {
    return new SharedArrayBuffer(8);
  }

  /** How often a worker has changed its ids or groups so far. */
  static switches(shared: SharedArrayBuffer): number {
    return Atomics.load(new Int32Array(shared), SWITCHES);
  }

  /**
   * Takes note of the file system behind a descriptor: from now on it may be worked on, as `settle` says.
   * True where nothing can be written.
   */
  meet(fd: number): boolean {
    const result = fstatfs(fd, this.#arena.address + this.#statfs);
    const type = this.#arena.u32[this.#statfs >> 2];
    if (result < 0 || !isLocal(type)) Atomics.store(this.#shared, FOREIGN, 1);
    this.settle();
    return (this.#arena.u32[(this.#statfs >> 2) + STATFS_FLAGS] & ST_RDONLY) !== 0;
  }

  /**
   * Makes the thread ready to create an inode for the request: as its user, with its umask. EOVERFLOW: the user has no
   * id that a file could have, as Linux says it (may_create); EPERM: nobody may have that id. The caller creates, then
   * calls `leave`.
   */
  enter(request: Request, mode: number, mask: number): number {
    this.#take();
    const result = this.#become(request);
    if (result < 0) return result;
    // The bit is kept or goes as for the user alone: by the group and by a capability that only root has.
    if ((mode & S_ISGID) !== 0) this.keepSetIds(request.uid === 0);
    if (this.#masks && mask !== NO_UMASK && mask !== this.#mask) {
      umask(mask & 0o777);
      this.#mask = mask;
    }
    return 0;
  }

  leave(): void {
    if (!this.#mayLinger || this.#shared[FOREIGN] !== 0) this.#becomeSelf();
  }

  /** Before whatever is not creation: the thread is itself where that can matter. */
  settle(): void {
    this.#take();
    if (this.#shared[FOREIGN] !== 0) this.#becomeSelf();
  }

  /** Whether what the thread changes from now on may keep its set-id bits, or loses them as to an ordinary user. */
  keepSetIds(keep: boolean): void {
    if (keep === this.#keepsSetIds || !this.#mayDropFsetid) return;
    useFsetid(keep);
    this.#keepsSetIds = keep;
  }

  /** Before the thread is used or changed. */
  #take(): void {
    const { known } = thread;
    if (known === this) return;
    if (known !== undefined) known.#giveUp();
    thread.known = this;
  }

  /** The thread is as it was at its start: somebody else goes on from there. */
  #giveUp(): void {
    this.#becomeSelf();
    this.keepSetIds(true);
    if (this.#mask !== 0) umask(0);
    this.#mask = 0;
  }

  #become(request: Request): number {
    const { uid, gid } = request;
    if (uid === NO_ID || gid === NO_ID) return -EOVERFLOW;
    const uids = this.#uids;
    const gids = this.#gids;
    if (uids.forbids(uid) || gids.forbids(gid) || this.#hasForbiddenGroup(request)) return -EPERM;
    if (!this.#mayActAs) return 0;
    const hostUid = uids.toHost(uid);
    const hostGid = gids.toHost(gid);
    const count = request.groupCount;
    if (count === 0 && hostUid === (this.#ownUid | 0) && hostGid === (this.#ownGid | 0)) {
      this.#becomeSelf();
      return 0;
    }
    if (hostUid === this.#uid && hostGid === this.#gid && this.#hasGroups(request)) return 0;
    for (let i = 0; i < count; i += 1) {
      const group = request.scratch.view.getInt32(request.groups + i * 4, true);
      this.#arena.view.setInt32(this.#groups + i * 4, gids.toHost(group), true);
    }
    return this.#change(hostUid, hostGid, count);
  }

  #hasForbiddenGroup(request: Request): boolean {
    for (let i = 0; i < request.groupCount; i += 1) {
      if (this.#gids.forbids(request.scratch.view.getInt32(request.groups + i * 4, true))) return true;
    }
    return false;
  }

  /** Whether the thread has the request's groups, and no others. */
  #hasGroups(request: Request): boolean {
    if (request.groupCount !== this.#groupCount) return false;
    for (let i = 0; i < request.groupCount; i += 1) {
      const group = this.#gids.toHost(request.scratch.view.getInt32(request.groups + i * 4, true));
      if (group !== this.#arena.view.getInt32(this.#groups + i * 4, true)) return false;
    }
    return true;
  }

  #becomeSelf(): void {
    if (this.#groupCount === OWN_GROUPS) return;
    assert(this.#change(this.#ownUid | 0, this.#ownGid | 0, OWN_GROUPS) === 0, 'the thread cannot be itself again');
  }

  /** The groups stand at #groups, unless they are the daemon's own. */
  #change(uid: number, gid: number, count: number): number {
    Atomics.add(this.#shared, SWITCHES, 1);
    const own = count === OWN_GROUPS;
    const { address } = this.#arena;
    if (this.#mayGroup) {
      if (own) setGroups(address + this.#ownGroups, this.#ownGroupCount);
      else setGroups(address + this.#groups, count);
    }
    this.#groupCount = count;
    this.#uid = uid;
    this.#gid = gid;
    if (actAs(uid, gid)) return 0;
    // Not an id of the daemon's user namespace.
    if (!own) this.#becomeSelf();
    return -EOVERFLOW;
  }
}
