/**
 * What the client knows of the share: inodes, the names that lead to them, and how long that may be believed. As the
 * guest's kernel has it in its dentry and inode caches. Names are latin1 strings, so that any bytes are told apart.
 */
import { EIO } from '../core/index.ts';
import { flags } from '../fuse/index.ts';
import { S_IFDIR, S_IFMT } from '../sys/index.ts';
import { type Entry } from './attributes.ts';
import type { DaxFile } from './window/dax.ts';
import type { CachedFile } from './cache/page-cache.ts';
import { Refusal } from './refusal.ts';
import type { Session } from './session.ts';
import { start, type Task } from './task.ts';
import type { Attributes } from './volume.ts';

export const ROOT_NODE = 1n;

/** What is cached, by the daemon's word or against it. */
export type CacheMode = 'none' | 'auto' | 'always';

/** An inode. */
export class Node {
  readonly nodeid: bigint;
  readonly generation: bigint;
  /** The daemon has given its id to something else: whatever is asked of it, the answer is EIO. */
  isBad = false;
  attributes: Attributes;
  attributesUntil = 0;
  /** When the daemon told them: milliseconds. */
  attributesFrom = 0;
  /** Something has changed that is not asked for yet; the rights are as they were. */
  stale = false;
  /** It has been read. */
  atimeStale = false;
  /** Of an ACL, where it has been asked for: empty where there is none. */
  acl: Uint8Array | undefined;
  /** Lookups that the daemon counts. */
  lookups = 0;
  /** Names that lead to it. */
  names = 0;
  /** Tasks and open files that have it. */
  uses = 0;
  /** By name; of directories. */
  readonly children = new Map<string, Dentry>();
  /** Of a symlink, where it may be kept. */
  target: Uint8Array | undefined;
  /** Of a regular file, when there has been something to keep. */
  pages: CachedFile | undefined;
  /** Of a regular file that is mapped. */
  dax: DaxFile | undefined;
  #size: number;
  /** ATTR flags. */
  flags = 0;
  /** Its mtime is ours, and the daemon has to be told. */
  touched = false;

  constructor(nodeid: bigint, generation: bigint, attributes: Attributes) {
    this.nodeid = nodeid;
    this.generation = generation;
    this.attributes = attributes;
    this.#size = Number(attributes.size);
  }

  /** Bytes; with what was written here and the daemon has not yet. */
  get size(): number {
    return this.pages?.sizeBytes ?? this.#size;
  }

  /** It has become longer by a write. */
  grow(sizeBytes: number): void {
    if (sizeBytes > this.size) this.resize(sizeBytes);
  }

  /** It has this size now, by whomever. */
  resize(sizeBytes: number): void {
    this.#size = sizeBytes;
    if (this.pages !== undefined && this.pages.sizeBytes !== sizeBytes) this.pages.truncate(sizeBytes);
  }

  /** Throws EIO. */
  check(): void {
    if (this.isBad) throw new Refusal(EIO);
  }

  get isDirectory(): boolean {
    return (this.attributes.mode & S_IFMT) === S_IFDIR;
  }
}

/** A name in a directory. */
export interface Dentry {
  readonly parent: Node;
  readonly name: string;
  /** Undefined: the daemon says that there is no such name. */
  node: Node | undefined;
  until: number;
  /** Since the last sweep. */
  used: boolean;
}

export interface TreeOptions {
  readonly mode: CacheMode;
  /** Names that are kept, at most. */
  readonly limit: number;
  /** What there is to do before an inode is forgotten, if anything. */
  readonly leaving: (node: Node) => Task<void> | undefined;
}

export class Tree {
  readonly root: Node;
  readonly #session: Session;
  readonly #mode: CacheMode;
  readonly #limit: number;
  /** What there is to do before an inode is forgotten. */
  readonly #leaving: (node: Node) => Task<void> | undefined;
  readonly #nodes = new Map<bigint, Node>();
  /** All there are, the oldest first. */
  readonly #dentries = new Set<Dentry>();

  constructor(session: Session, root: Attributes, { mode, limit, leaving }: TreeOptions) {
    this.#session = session;
    this.#mode = mode;
    this.#limit = limit;
    this.#leaving = leaving;
    this.root = new Node(ROOT_NODE, 0n, root);
    this.root.uses = 1;
    this.#nodes.set(ROOT_NODE, this.root);
  }

  /** Inodes that the client knows. */
  get size(): number {
    return this.#nodes.size;
  }

  /** Until when to believe what is good for so long. */
  until(validMs: number): number {
    if (this.#mode === 'none') return 0;
    return this.#mode === 'always' ? Number.POSITIVE_INFINITY : performance.now() + validMs;
  }

  /** A name that is known and may be believed. */
  find(parent: Node, name: string): Dentry | undefined {
    const dentry = parent.children.get(name);
    if (dentry === undefined || dentry.until <= performance.now()) return undefined;
    if (dentry.node?.isBad === true) return undefined;
    dentry.used = true;
    return dentry;
  }

  /**
   * What a reply says: the inode, with one lookup more. It has a use more, for the caller to give back. Throws EIO for
   * the root, to which no name leads (fs/fuse/fuse_i.h, invalid_nodeid).
   */
  take(entry: Entry): Node {
    if (entry.nodeid === 0n || entry.nodeid === ROOT_NODE) throw new Refusal(EIO);
    let node = this.#nodes.get(entry.nodeid);
    // fs/fuse/inode.c, fuse_iget: the id was used again, and the old inode is of no use any more.
    if (node !== undefined && (node.generation !== entry.generation || !isSameType(node, entry.attributes))) {
      this.#spoil(node);
      node = undefined;
    }
    if (node === undefined) {
      node = new Node(entry.nodeid, entry.generation, entry.attributes);
      this.#nodes.set(entry.nodeid, node);
    }
    node.lookups += 1;
    node.uses += 1;
    node.flags = entry.flags;
    this.learn(node, entry.attributes, entry.attrValidMs);
    return node;
  }

  #spoil(node: Node): void {
    node.isBad = true;
    if (this.#nodes.get(node.nodeid) === node) this.#nodes.delete(node.nodeid);
  }

  /**
   * A reply has told the attributes of an inode. `ours`: what differs of its times we have asked for. Throws EIO when
   * it cannot be the same any more.
   */
  learn(node: Node, attributes: Attributes, validMs: number, ours = false): void {
    if (!isSameType(node, attributes)) {
      this.#spoil(node);
      throw new Refusal(EIO);
    }
    const before = node.attributes;
    node.attributes = attributes;
    node.attributesUntil = this.until(validMs);
    node.attributesFrom = performance.now();
    node.stale = false;
    node.atimeStale = false;
    node.acl = undefined;
    // With write-back our size and times are the right ones until they are sent.
    if (node.pages?.isDirty === true || node.touched) {
      const { mtimeNs, ctimeNs } = before;
      if (node.touched) node.attributes = { ...attributes, mtimeNs, ctimeNs };
      return;
    }
    const { size } = node;
    node.resize(Number(attributes.size));
    // Others have changed what we have pages of.
    if (!this.#session.has(flags.INIT.AUTO_INVAL_DATA)) return;
    if ((before.mtimeNs !== attributes.mtimeNs && !ours) || size !== node.size) node.pages?.invalidate();
  }

  /** Remembers that a name leads to an inode, or to none. */
  link(parent: Node, name: string, node: Node | undefined, validMs: number): void {
    this.unlink(parent, name);
    const until = this.until(validMs);
    if (until <= performance.now()) return;
    const dentry = { parent, name, node, until, used: true };
    parent.children.set(name, dentry);
    this.#dentries.add(dentry);
    if (node !== undefined) node.names += 1;
    if (this.#dentries.size > this.#limit) this.#sweep();
  }

  /** Forgets a name: it is gone, or not to be believed. */
  unlink(parent: Node, name: string): void {
    const dentry = parent.children.get(name);
    if (dentry !== undefined) this.#drop(dentry);
  }

  #drop(dentry: Dentry): void {
    const node = this.#detach(dentry);
    if (node !== undefined) this.#forgetUnused(node);
  }

  /** The inode that has lost a name. */
  #detach(dentry: Dentry): Node | undefined {
    dentry.parent.children.delete(dentry.name);
    this.#dentries.delete(dentry);
    const { node } = dentry;
    if (node !== undefined) node.names -= 1;
    return node;
  }

  /** Gives a use back. */
  release(node: Node): void {
    node.uses -= 1;
    this.#forgetUnused(node);
  }

  /** With what is below it. By a list of its own: names may be nested deeper than a stack is. */
  #forgetUnused(node: Node): void {
    const unused = [node];
    for (let each = unused.pop(); each !== undefined; each = unused.pop()) {
      if (each.names > 0 || each.uses > 0 || each.lookups === 0) continue;
      if (this.#nodes.get(each.nodeid) === each) this.#nodes.delete(each.nodeid);
      each.pages?.truncate(0);
      for (const dentry of each.children.values()) {
        const child = this.#detach(dentry);
        if (child !== undefined) unused.push(child);
      }
      const { nodeid, lookups } = each;
      each.lookups = 0;
      const leaving = this.#leaving(each);
      if (leaving === undefined) this.#session.forget(nodeid, lookups);
      else start(this.#forgetAfter(leaving, nodeid, lookups));
    }
  }

  *#forgetAfter(leaving: Task<void>, nodeid: bigint, lookups: number): Task<void> {
    yield* leaving;
    this.#session.forget(nodeid, lookups);
  }

  /** Drops a tenth of all there may be: first those that nobody has asked for since the last time. */
  #sweep(): void {
    const left = this.#limit - Math.ceil(this.#limit / 10);
    // Those that are put behind come again.
    for (const dentry of this.#dentries) {
      if (this.#dentries.size <= left) return;
      if (dentry.used) {
        dentry.used = false;
        this.#dentries.delete(dentry);
        this.#dentries.add(dentry);
      } else {
        this.#drop(dentry);
      }
    }
  }

  /** Everything, as the share is given up. */
  clear(): void {
    for (const dentry of [...this.#dentries]) this.#drop(dentry);
  }
}

function isSameType(node: Node, { mode }: Attributes): boolean {
  return ((node.attributes.mode ^ mode) & S_IFMT) === 0;
}
