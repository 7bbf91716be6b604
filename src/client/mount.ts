/** What is known of a mounted share and of its open files, and the requests that all of it is made of. */
import { EINVAL, EISDIR, ENOSYS, EPERM } from '../core/index.ts';
import { AttrOut, flags as fuse, GetattrIn, opcodes, SetattrIn } from '../fuse/index.ts';
import { S_IFMT, S_IFREG } from '../sys/index.ts';
import { attributesAt, attrValidMs } from './attributes.ts';
import { bodyOf } from './body.ts';
import type { DaxFile, DaxRanges } from './window/dax.ts';
import { ShareError } from './error.ts';
import type { MountedFile } from './mounted-file.ts';
import type { CachedFile, PageCache } from './cache/page-cache.ts';
import { Refusal } from './refusal.ts';
import type { Call, Session } from './session.ts';
import type { Task } from './task.ts';
import type { CacheMode, Node, Tree } from './tree.ts';
import type { Attributes, Changes, SharePath } from './volume.ts';
import { isMember, losesSetIds, owns, Rights, W_OK } from './rights.ts';

const { FATTR } = fuse;
const NS = 1_000_000_000n;
const S_ISUID = 0o4000;
const S_ISGID = 0o2000;
const S_IXGRP = 0o010;

export interface MountParts {
  readonly session: Session;
  readonly tree: Tree;
  readonly mode: CacheMode;
  readonly pages: PageCache;
  readonly umask: number;
  /** Absent: nothing is mapped. `always`: all files, not only those that the daemon says. */
  readonly dax: { readonly ranges: DaxRanges; readonly always: boolean } | undefined;
}

export class Mount {
  readonly session: Session;
  readonly tree: Tree;
  readonly mode: CacheMode;
  readonly pages: PageCache;
  readonly writeback: boolean;
  /** Of what is made from now on. */
  umask: number;
  readonly rights: Rights;
  readonly files = new Set<MountedFile>();
  readonly #dax: MountParts['dax'];
  /** Opcodes that the daemon does not know. */
  readonly #unknown = new Set<number>();

  constructor({ session, tree, mode, pages, umask, dax }: MountParts) {
    this.session = session;
    this.tree = tree;
    this.mode = mode;
    this.pages = pages;
    this.umask = umask;
    this.rights = new Rights(this);
    this.writeback = session.has(fuse.INIT.WRITEBACK_CACHE);
    this.#dax = dax;
  }

  /** The mode of something new. By DONT_MASK the daemon applies the mask itself: not where there is a default ACL. */
  masked(mode: number): { readonly mode: number; readonly umask: number } {
    const { umask } = this;
    return { mode: this.session.has(fuse.INIT.DONT_MASK) ? mode : mode & ~umask, umask };
  }

  /** Has what a task refuses thrown as the error of a system call. */
  *named<T>(syscall: string, task: Task<T>, path?: SharePath, dest?: SharePath): Task<T> {
    try {
      return yield* task;
    } catch (error) {
      if (error instanceof Refusal) throw new ShareError(-error.errno, syscall, path, dest);
      throw error;
    }
  }

  knows(opcode: { code: number }): boolean {
    return !this.#unknown.has(opcode.code);
  }

  /** Asks for what a daemon may not know; it is not asked again then, and the answer is `errno`. */
  *asked(call: Call, errno: number): Task<DataView<ArrayBuffer>> {
    if (!this.knows(call.opcode)) throw new Refusal(errno);
    try {
      return yield* this.session.call(call);
    } catch (error) {
      if (!(error instanceof Refusal) || error.errno !== ENOSYS) throw error;
      this.#unknown.add(call.opcode.code);
      throw new Refusal(errno);
    }
  }

  /** Asks for what need not be done where the daemon does not know it. */
  *optional(call: Call): Task<void> {
    try {
      yield* this.asked(call, ENOSYS);
    } catch (error) {
      if (!(error instanceof Refusal) || error.errno !== ENOSYS) throw error;
    }
  }

  /** Attributes, by the daemon's word where what is known is not to be believed any more. */
  *stat(node: Node, file?: MountedFile): Task<Attributes> {
    yield* this.refresh(node, file, node.atimeStale);
    const { attributes, size } = node;
    return Number(attributes.size) === size ? attributes : { ...attributes, size: BigInt(size) };
  }

  /** GETATTR, where it is due; `now`: in any case. */
  *refresh(node: Node, file?: MountedFile, now = false): Task<void> {
    node.check();
    if (!now && !node.stale && this.isFresh(node)) return;
    const handle = file === undefined ? {} : { getattrFlags: fuse.GETATTR_IN.FH, fh: file.fh };
    const body = bodyOf(GetattrIn, handle);
    this.#learn(node, yield* this.session.call({ opcode: opcodes.GETATTR, nodeid: node.nodeid, body }));
  }

  #learn(node: Node, reply: DataView, ours = false): void {
    this.tree.learn(node, attributesAt(reply, AttrOut.offsets.attr), attrValidMs(reply), ours);
  }

  /** Its attributes may be believed, as far as we have not changed them. */
  isFresh(node: Node): boolean {
    return node.attributesUntil > performance.now();
  }

  /** We have changed an inode: its times and what goes with them are asked for anew. */
  expire(node: Node): void {
    node.stale = true;
  }

  /** Something was written: with write-back we know the file's times better than the daemon. */
  wrote(node: Node): void {
    if (!this.writeback || node.pages?.isDirty !== true) {
      this.expire(node);
      return;
    }
    const now = BigInt(Date.now()) * 1_000_000n;
    node.attributes = { ...node.attributes, mtimeNs: now, ctimeNs: now };
    node.touched = true;
  }

  pagesOf(node: Node): CachedFile {
    node.pages ??= this.pages.file(node.size);
    return node.pages;
  }

  daxOf(node: Node): DaxFile | undefined {
    if (this.#dax === undefined || (node.attributes.mode & S_IFMT) !== S_IFREG) return undefined;
    if (!this.#dax.always && (node.flags & fuse.ATTR.DAX) === 0) return undefined;
    node.dax ??= this.#dax.ranges.file(node.nodeid);
    return node.dax;
  }

  /** Sends what was written and not sent yet, and the times that go with it. Throws the error of an earlier write. */
  *flush(node: Node): Task<void> {
    if (node.pages !== undefined) yield* node.pages.flush();
    if (!node.touched) return;
    node.touched = false;
    yield* this.#send(node, { mtimeNs: node.attributes.mtimeNs });
  }

  /** chmod(2), chown(2), truncate(2), utimensat(2): what the kernel checks before SETATTR (setattr_prepare). */
  *setattr(node: Node, changes: Changes, file?: MountedFile): Task<void> {
    const { attributes } = node;
    const who = this.session.credentials;
    const isOwner = owns(attributes, who);
    if (changes.mode !== undefined && !isOwner) throw new Refusal(EPERM);
    const leavesOwner = changes.uid === undefined || who.uid === 0 || (isOwner && changes.uid === attributes.uid);
    const leavesGroup = changes.gid === undefined || changes.gid === attributes.gid || isMember(changes.gid, who);
    if (!leavesOwner || (changes.gid !== undefined && !isOwner) || !leavesGroup) throw new Refusal(EPERM);
    yield* this.#checkTimes(node, changes, isOwner);
    if (changes.size !== undefined) yield* this.#checkSize(node, changes.size, file);
    yield* this.flush(node);
    let { mode } = changes;
    // A group that is not the caller's takes the set-group-id bit away.
    if (mode !== undefined && !isMember(changes.gid ?? attributes.gid, who)) mode &= ~S_ISGID;
    const chowns = (changes.uid !== undefined || changes.gid !== undefined) && !node.isDirectory;
    const truncates = changes.size !== undefined && losesSetIds(attributes, who);
    const kept = withoutSetIds(attributes.mode);
    // Without HANDLE_KILLPRIV the client takes the bits away.
    if ((chowns || truncates) && mode === undefined && !this.dropsIds && kept !== (attributes.mode & 0o7777))
      mode = kept;
    yield* this.#send(node, { ...changes, ...(mode !== undefined && { mode }) }, file);
  }

  /** The daemon takes set-id bits from what is changed. */
  get dropsIds(): boolean {
    return this.session.has(fuse.INIT.HANDLE_KILLPRIV | fuse.INIT.HANDLE_KILLPRIV_V2);
  }

  /** Before a caller changes the content of a file (file_remove_privs, and fuse_setattr for it). */
  *dropSetIds(node: Node, file?: MountedFile): Task<void> {
    if (!losesSetIds(node.attributes, this.session.credentials)) return;
    if (this.dropsIds) {
      // Nothing is to be set: the daemon does what a chown(-1, -1) does.
      yield* this.#send(node, {}, file);
      return;
    }
    yield* this.refresh(node, file, true);
    yield* this.#send(node, { mode: withoutSetIds(node.attributes.mode) }, file);
  }

  *#checkTimes(node: Node, { atimeNs, mtimeNs }: Changes, isOwner: boolean): Task<void> {
    if ((atimeNs === undefined && mtimeNs === undefined) || isOwner) return;
    if (atimeNs !== 'now' || mtimeNs !== 'now') throw new Refusal(EPERM);
    yield* this.rights.require(node, W_OK);
  }

  *#checkSize(node: Node, size: bigint | number, file: MountedFile | undefined): Task<void> {
    if (node.isDirectory) throw new Refusal(EISDIR);
    if ((node.attributes.mode & S_IFMT) !== S_IFREG) throw new Refusal(EINVAL);
    if (size < 0) throw new Refusal(EINVAL);
    if (file === undefined) yield* this.rights.require(node, W_OK);
  }

  *#send(node: Node, changes: Changes, file?: MountedFile): Task<void> {
    const { size } = changes;
    const handle = file === undefined || size === undefined ? {} : { fh: file.fh };
    const fields = { ...fieldsOf(changes), ...handle };
    const valid = fields.valid | ('fh' in handle ? FATTR.FH : 0) | this.#killsIds(node, changes);
    const body = bodyOf(SetattrIn, { ...fields, valid });
    const call = this.session.call({ opcode: opcodes.SETATTR, nodeid: node.nodeid, body });
    this.#learn(node, yield* size === undefined ? call : this.resized(node, Number(size), call), true);
  }

  /** chown(2) takes set-id bits from files, and truncate(2) where root has not asked for it. */
  #killsIds(node: Node, { uid, gid, size }: Changes): number {
    if (!this.session.has(fuse.INIT.HANDLE_KILLPRIV_V2)) return 0;
    const chowns = (uid !== undefined || gid !== undefined) && !node.isDirectory;
    const truncates = size !== undefined && this.session.credentials.uid !== 0;
    return chowns || truncates ? FATTR.KILL_SUIDGID : 0;
  }

  /** Makes a file shorter or longer, while nobody writes to it. */
  *resized<T>(node: Node, sizeBytes: number, change: Task<T>): Task<T> {
    return yield* this.pagesOf(node).resize(sizeBytes, this.#unmapped(node, sizeBytes, change));
  }

  /** What the window shows of what is gone is given back afterwards: until then the end may be where it was. */
  *#unmapped<T>(node: Node, sizeBytes: number, change: Task<T>): Task<T> {
    const result = yield* change;
    const dax = this.daxOf(node);
    if (dax !== undefined) yield* dax.truncated(sizeBytes);
    return result;
  }

  /** Before the share is given up: nobody uses the window any more. */
  *closeWindow(): Task<void> {
    if (this.#dax !== undefined) yield* this.#dax.ranges.close();
  }
}

/** struct fuse_setattr_in, by its fields. */
function fieldsOf(changes: Changes): Record<string, number | bigint> & { valid: number } {
  const { mode, uid, gid, size, atimeNs, mtimeNs } = changes;
  const fields: Record<string, number | bigint> & { valid: number } = { valid: 0 };
  const set = (bit: number, values: Record<string, number | bigint>): void => {
    fields.valid |= bit;
    Object.assign(fields, values);
  };
  if (mode !== undefined) set(FATTR.MODE, { mode });
  if (uid !== undefined) set(FATTR.UID, { uid });
  if (gid !== undefined) set(FATTR.GID, { gid });
  if (size !== undefined) set(FATTR.SIZE, { size });
  if (atimeNs === 'now') set(FATTR.ATIME | FATTR.ATIME_NOW, {});
  else if (atimeNs !== undefined) set(FATTR.ATIME, { atime: floor(atimeNs), atimensec: atimeNs - floor(atimeNs) * NS });
  if (mtimeNs === 'now') set(FATTR.MTIME | FATTR.MTIME_NOW, {});
  else if (mtimeNs !== undefined) set(FATTR.MTIME, { mtime: floor(mtimeNs), mtimensec: mtimeNs - floor(mtimeNs) * NS });
  return fields;
}

/** The permission bits of a mode. Set-group-id without the group's x is no set-id bit. */
function withoutSetIds(mode: number): number {
  return mode & 0o7777 & ~S_ISUID & ~((mode & S_IXGRP) === 0 ? 0 : S_ISGID);
}

/** Whole seconds, also before 1970. */
function floor(ns: bigint): bigint {
  return (ns - (((ns % NS) + NS) % NS)) / NS;
}
