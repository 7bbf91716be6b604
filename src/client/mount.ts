/** What is known of a mounted share and of its open files, and the requests that all of it is made of. */
import { EACCES, EINVAL, EISDIR, ENOSYS, EPERM } from '../core/index.ts';
import { AttrOut, flags as fuse, GetattrIn, opcodes, SetattrIn } from '../fuse/index.ts';
import { attributesAt, attrValidMs, S_IFMT, S_IFREG } from './attributes.ts';
import { bodyOf } from './body.ts';
import type { DaxFile, DaxRanges } from './dax.ts';
import { ShareError } from './error.ts';
import type { MountedFile } from './mounted-file.ts';
import type { CachedFile, PageCache } from './page-cache.ts';
import { Refusal } from './refusal.ts';
import type { Call, Session } from './session.ts';
import type { Task } from './task.ts';
import type { CacheMode, Node, Tree } from './tree.ts';
import type { Attributes, Changes, SharePath } from './volume.ts';
import { permits, W_OK } from './walk.ts';

const { FATTR } = fuse;
const NS = 1_000_000_000n;
const SET_ID = 0o6000;

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
    this.writeback = session.has(fuse.INIT.WRITEBACK_CACHE);
    this.#dax = dax;
  }

  /** The mode of something new. A daemon that agreed to DONT_MASK applies the mask itself: not where there is a default ACL. */
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
    yield* this.refresh(node, file);
    const { attributes, size } = node;
    return Number(attributes.size) === size ? attributes : { ...attributes, size: BigInt(size) };
  }

  /** GETATTR, where it is due; `now`: in any case. */
  *refresh(node: Node, file?: MountedFile, now = false): Task<void> {
    if (!now && node.attributesUntil > performance.now()) return;
    const handle = file === undefined ? {} : { getattrFlags: fuse.GETATTR_IN.FH, fh: file.fh };
    const body = bodyOf(GetattrIn, handle);
    this.#learn(node, yield* this.session.call({ opcode: opcodes.GETATTR, nodeid: node.nodeid, body }));
  }

  #learn(node: Node, reply: DataView): void {
    this.tree.learn(node, attributesAt(reply, AttrOut.offsets.attr), attrValidMs(reply));
  }

  /** What is known of an inode is not to be believed any more. */
  expire(node: Node): void {
    node.attributesUntil = 0;
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
    const { uid, gid, groups } = this.session.credentials;
    const owns = uid === 0 || uid === attributes.uid;
    if (changes.mode !== undefined && !owns) throw new Refusal(EPERM);
    if (changes.uid !== undefined && uid !== 0 && !(owns && changes.uid === attributes.uid)) throw new Refusal(EPERM);
    const ownGroup = changes.gid === attributes.gid || changes.gid === gid || groups.includes(changes.gid ?? -1);
    if (changes.gid !== undefined && uid !== 0 && !(owns && ownGroup)) throw new Refusal(EPERM);
    this.#checkTimes(node, changes, owns);
    if (changes.size !== undefined) this.#checkSize(node, changes.size, file);
    yield* this.flush(node);
    let { mode } = changes;
    // A group that is not the caller's takes the set-group-id bit away.
    if (mode !== undefined && uid !== 0 && attributes.gid !== gid && !groups.includes(attributes.gid)) mode &= ~0o2000;
    const owner = changes.uid !== undefined || changes.gid !== undefined;
    const dropsIds = owner && mode === undefined && (attributes.mode & SET_ID) !== 0 && !node.isDirectory;
    // chown(2): without HANDLE_KILLPRIV the client takes the bits away.
    if (dropsIds && !this.session.has(fuse.INIT.HANDLE_KILLPRIV | fuse.INIT.HANDLE_KILLPRIV_V2)) {
      mode = attributes.mode & 0o7777 & ~0o4000 & ~((attributes.mode & 0o010) === 0 ? 0 : 0o2000);
    }
    yield* this.#send(node, { ...changes, ...(mode !== undefined && { mode }) }, file);
  }

  #checkTimes({ attributes }: Node, { atimeNs, mtimeNs }: Changes, owns: boolean): void {
    if ((atimeNs === undefined && mtimeNs === undefined) || owns) return;
    if (atimeNs !== 'now' || mtimeNs !== 'now') throw new Refusal(EPERM);
    if (!permits(attributes, W_OK, this.session.credentials)) throw new Refusal(EACCES);
  }

  #checkSize(node: Node, size: bigint | number, file: MountedFile | undefined): void {
    if (node.isDirectory) throw new Refusal(EISDIR);
    if (size < 0) throw new Refusal(EINVAL);
    if (file === undefined && !permits(node.attributes, W_OK, this.session.credentials)) throw new Refusal(EACCES);
  }

  *#send(node: Node, changes: Changes, file?: MountedFile): Task<void> {
    const { size } = changes;
    const handle = file === undefined || size === undefined ? {} : { fh: file.fh };
    const fields = { ...fieldsOf(changes, this.session.credentials.uid), ...handle };
    const valid = fields.valid | ('fh' in handle ? FATTR.FH : 0);
    const body = bodyOf(SetattrIn, { ...fields, valid });
    const call = this.session.call({ opcode: opcodes.SETATTR, nodeid: node.nodeid, body });
    this.#learn(node, yield* size === undefined ? call : this.resized(node, Number(size), call));
  }

  /** Makes a file shorter or longer, while nobody writes to it. */
  *resized<T>(node: Node, sizeBytes: number, change: Task<T>): Task<T> {
    const dax = this.daxOf(node);
    if (dax !== undefined) yield* dax.truncated(sizeBytes);
    return yield* this.pagesOf(node).resize(sizeBytes, change);
  }
}

/** struct fuse_setattr_in, by its fields. */
function fieldsOf(changes: Changes, asker: number): Record<string, number | bigint> & { valid: number } {
  const { mode, uid, gid, size, atimeNs, mtimeNs } = changes;
  const fields: Record<string, number | bigint> & { valid: number } = { valid: 0 };
  const set = (bit: number, values: Record<string, number | bigint>): void => {
    fields.valid |= bit;
    Object.assign(fields, values);
  };
  if (mode !== undefined) set(FATTR.MODE, { mode });
  if (uid !== undefined) set(FATTR.UID, { uid });
  if (gid !== undefined) set(FATTR.GID, { gid });
  if (size !== undefined) set(FATTR.SIZE | (asker === 0 ? 0 : FATTR.KILL_SUIDGID), { size });
  if (atimeNs === 'now') set(FATTR.ATIME | FATTR.ATIME_NOW, {});
  else if (atimeNs !== undefined) set(FATTR.ATIME, { atime: floor(atimeNs), atimensec: atimeNs - floor(atimeNs) * NS });
  if (mtimeNs === 'now') set(FATTR.MTIME | FATTR.MTIME_NOW, {});
  else if (mtimeNs !== undefined) set(FATTR.MTIME, { mtime: floor(mtimeNs), mtimensec: mtimeNs - floor(mtimeNs) * NS });
  return fields;
}

/** Whole seconds, also before 1970. */
function floor(ns: bigint): bigint {
  return (ns - (((ns % NS) + NS) % NS)) / NS;
}
