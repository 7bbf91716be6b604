/** From a path to an inode, as the guest's kernel goes (fs/namei.c): by names that it knows, and LOOKUP. */
import { EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR } from '../core/index.ts';
import { opcodes } from '../fuse/index.ts';
import { S_IFLNK, S_IFMT } from '../sys/index.ts';
import { type Entry, entryAt } from './attributes.ts';
import { bodyOf } from './body.ts';
import type { Mount } from './mount.ts';
import { Refusal } from './refusal.ts';
import { X_OK } from './rights.ts';
import type { Task } from './task.ts';
import type { Node, Tree } from './tree.ts';
import type { SharePath } from './volume.ts';

const NAME_MAX = 255;
const PATH_MAX = 4096;
const SYMLINKS_MAX = 40;

const encoder = new TextEncoder();

export const bytesOf = (path: SharePath): Uint8Array => (typeof path === 'string' ? encoder.encode(path) : path);
export const nameBytes = (name: string): Uint8Array => Buffer.from(name, 'latin1');

/** Where the last name of a path is, or would be. */
export interface Place {
  /** In use, for the caller to give back. */
  readonly parent: Node;
  /** Never empty, `.` or `..`, unless `isSpecial`: then it is one of these, empty for the root. */
  readonly name: string;
  /** The path ends in a slash, or is one of `.`, `..` and `/`. */
  readonly wantsDirectory: boolean;
  /** The path ends in `.`, in `..`, or is the root. */
  readonly isSpecial: boolean;
}

export class Walker {
  readonly #mount: Mount;
  readonly #tree: Tree;
  /** Reads a symlink. */
  readonly target: (node: Node) => Task<Uint8Array>;

  constructor(mount: Mount, target: (node: Node) => Task<Uint8Array>) {
    this.#mount = mount;
    this.#tree = mount.tree;
    this.target = target;
  }

  /** The inode of a path, in use, for the caller to give back. Throws Refusal. */
  *node(path: SharePath, follow: boolean): Task<Node> {
    const walk = new Walk(this.#tree, path);
    try {
      yield* this.#go(walk, follow, false);
      return walk.take();
    } finally {
      walk.end();
    }
  }

  /** Where the last name of a path is. It is not looked up, and followed only where the path says so. */
  *place(path: SharePath): Task<Place> {
    const walk = new Walk(this.#tree, path);
    try {
      yield* this.#go(walk, false, true);
      const { last, wantsDirectory } = walk;
      const isSpecial = last === '';
      return { parent: walk.take(), name: isSpecial ? lastOf(path) : last, wantsDirectory, isSpecial };
    } finally {
      walk.end();
    }
  }

  /** The names from the root to a path's inode, without symlinks. */
  *real(path: SharePath): Task<string[]> {
    const walk = new Walk(this.#tree, path);
    try {
      yield* this.#go(walk, true, false);
      return walk.names;
    } finally {
      walk.end();
    }
  }

  *#go(walk: Walk, follow: boolean, stopBefore: boolean): Task<void> {
    let links = 0;
    for (let name = walk.next(); name !== undefined; name = walk.next()) {
      const here = walk.here;
      if (!here.isDirectory) throw new Refusal(ENOTDIR);
      yield* this.#mount.rights.require(here, X_OK);
      if (name === '.') continue;
      if (name === '..') {
        walk.up();
        continue;
      }
      if (name.length > NAME_MAX) throw new Refusal(ENAMETOOLONG);
      const isLast = !walk.more;
      if (isLast && stopBefore) {
        walk.last = name;
        return;
      }
      const node = yield* this.child(here, name);
      const isLink = (node.attributes.mode & S_IFMT) === S_IFLNK;
      if (!isLink || (isLast && !follow && !walk.wantsDirectory)) {
        walk.down(node, name);
        continue;
      }
      try {
        links += 1;
        if (links > SYMLINKS_MAX) throw new Refusal(ELOOP);
        walk.splice(yield* this.target(node));
      } finally {
        this.#tree.release(node);
      }
    }
    if (walk.wantsDirectory && !walk.here.isDirectory) throw new Refusal(ENOTDIR);
  }

  /** The inode of a name, in use. Throws Refusal, ENOENT where there is none. */
  *child(parent: Node, name: string): Task<Node> {
    parent.check();
    const known = this.#tree.find(parent, name);
    if (known !== undefined) {
      if (known.node === undefined) throw new Refusal(ENOENT);
      known.node.uses += 1;
      return known.node;
    }
    const entry = yield* this.#lookUp(parent, name);
    if (entry.nodeid === 0n) {
      this.#tree.link(parent, name, undefined, entry.entryValidMs);
      throw new Refusal(ENOENT);
    }
    const node = this.#tree.take(entry);
    this.#tree.link(parent, name, node, entry.entryValidMs);
    return node;
  }

  /** The same, undefined where there is none. */
  *existing({ parent, name }: Place): Task<Node | undefined> {
    try {
      return yield* this.child(parent, name);
    } catch (error) {
      if (error instanceof Refusal && error.errno === ENOENT) return undefined;
      throw error;
    }
  }

  *#lookUp(parent: Node, name: string): Task<Entry> {
    const body = bodyOf(null, {}, nameBytes(name));
    try {
      return entryAt(yield* this.#mount.session.call({ opcode: opcodes.LOOKUP, nodeid: parent.nodeid, body }), 0);
    } catch (error) {
      // The name is gone, or was never there: what was known of it is wrong.
      if (error instanceof Refusal) this.#tree.unlink(parent, name);
      throw error;
    }
  }
}

/** One way down a path. The inodes on it are in use until its end. */
class Walk {
  readonly #tree: Tree;
  /** From the root on. */
  readonly #nodes: Node[];
  readonly names: string[] = [];
  #rest: string[];
  /** For a walk that stops before it. */
  last = '';
  wantsDirectory: boolean;

  constructor(tree: Tree, path: SharePath) {
    const bytes = bytesOf(path);
    if (bytes.length === 0) throw new Refusal(ENOENT);
    if (bytes.length >= PATH_MAX) throw new Refusal(ENAMETOOLONG);
    if (bytes.includes(0)) throw new Refusal(EINVAL);
    this.#tree = tree;
    tree.root.uses += 1;
    this.#nodes = [tree.root];
    const text = Buffer.from(bytes).toString('latin1');
    this.#rest = split(text);
    this.wantsDirectory = endsAsDirectory(text);
  }

  get here(): Node {
    return this.#nodes[this.#nodes.length - 1];
  }

  get more(): boolean {
    return this.#rest.length > 0;
  }

  next(): string | undefined {
    return this.#rest.shift();
  }

  down(node: Node, name: string): void {
    this.#nodes.push(node);
    this.names.push(name);
  }

  up(): void {
    if (this.#nodes.length === 1) return;
    this.#tree.release(this.#nodes.pop() as Node);
    this.names.pop();
  }

  /** Goes on by a symlink's target. */
  splice(target: Uint8Array): void {
    if (target.length === 0) throw new Refusal(ENOENT);
    const text = Buffer.from(target).toString('latin1');
    if (text.startsWith('/')) while (this.#nodes.length > 1) this.up();
    if (!this.more) this.wantsDirectory ||= endsAsDirectory(text);
    this.#rest = [...split(text), ...this.#rest];
  }

  /** Where it has come to, with a use of its own. */
  take(): Node {
    this.here.uses += 1;
    return this.here;
  }

  end(): void {
    for (const node of this.#nodes) this.#tree.release(node);
  }
}

function split(text: string): string[] {
  return text.split('/').filter((name) => name !== '');
}

/** The last name of a path; empty for the root. */
function lastOf(path: SharePath): string {
  return split(Buffer.from(bytesOf(path)).toString('latin1')).at(-1) ?? '';
}

function endsAsDirectory(text: string): boolean {
  return /(^|\/)\.{0,2}$/.test(text);
}
