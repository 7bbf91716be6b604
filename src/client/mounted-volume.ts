/** The Volume of a mounted share: what a guest's kernel does between a system call and its requests (fs/fuse/dir.c). */
import { EBUSY, EEXIST, EINVAL, EIO, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EPERM } from '../core/index.ts';
import {
  flags as fuse,
  Kstatfs,
  LinkIn,
  MkdirIn,
  MknodIn,
  type Opcode,
  opcodes,
  Rename2In,
  RenameIn,
} from '../fuse/index.ts';
import {
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../sys/index.ts';
import { entryAt } from './attributes.ts';
import { bodyOf } from './body.ts';
import type { Mount } from './mount.ts';
import { MountedDirectory } from './mounted-directory.ts';
import { Opener } from './opening.ts';
import { Refusal } from './refusal.ts';
import { R_OK, W_OK, X_OK } from './rights.ts';
import type { Credentials } from './session.ts';
import type { Task } from './task.ts';
import type { Node } from './tree.ts';
import type { Attributes, Changes, FileSystemNumbers, OpenFile, SharePath, Volume } from './volume.ts';
import { bytesOf, nameBytes, type Place, Walker } from './walk.ts';
import { Xattrs } from './xattrs.ts';

const PATH_BYTES = 4096;

type BodyOfName = (name: Uint8Array) => Uint8Array;

/** What is renamed, and what has the name now. */
interface Renaming {
  readonly node: Node;
  readonly replaced: Node | undefined;
  readonly flags: number;
}

export class MountedVolume implements Volume {
  readonly tag: string | undefined;
  readonly #mount: Mount;
  readonly #walker: Walker;
  readonly #opener: Opener;
  readonly #xattrs: Xattrs;
  /** Ends the connection, after the last message. */
  readonly #end: () => void;

  constructor(mount: Mount, end: () => void, tag: string | undefined) {
    this.tag = tag;
    this.#mount = mount;
    this.#end = end;
    this.#walker = new Walker(mount, (node) => this.#target(node));
    this.#xattrs = new Xattrs(mount);
    this.#opener = new Opener(mount, this.#walker);
  }

  /** Who makes the calls from now on. */
  get credentials(): Credentials {
    return this.#mount.session.credentials;
  }

  set credentials(credentials: Credentials) {
    this.#mount.session.credentials = credentials;
  }

  get umask(): number {
    return this.#mount.umask;
  }

  set umask(umask: number) {
    this.#mount.umask = umask;
  }

  /** Files that are open. */
  get openFiles(): number {
    return this.#mount.files.size;
  }

  get broken(): Error | undefined {
    return this.#mount.session.transport.broken;
  }

  idle(): void {
    this.#mount.session.transport.idle();
  }

  /** Does something with the inode of a path. */
  *#at<T>(syscall: string, path: SharePath, follow: boolean, body: (node: Node) => Task<T>): Task<T> {
    const { tree } = this.#mount;
    const walker = this.#walker;
    return yield* this.#mount.named(
      syscall,
      (function* (): Task<T> {
        const node = yield* walker.node(path, follow);
        try {
          return yield* body(node);
        } finally {
          tree.release(node);
        }
      })(),
      path,
    );
  }

  stat(path: SharePath, follow: boolean): Task<Attributes> {
    return this.#at(follow ? 'stat' : 'lstat', path, follow, (node) => this.#mount.stat(node));
  }

  statfs(path: SharePath): Task<FileSystemNumbers> {
    const { session } = this.#mount;
    return this.#at('statfs', path, true, function* (node) {
      const reply = yield* session.call({ opcode: opcodes.STATFS, nodeid: node.nodeid });
      const long = (field: keyof typeof Kstatfs.offsets): bigint => reply.getBigUint64(Kstatfs.offsets[field], true);
      return {
        bsize: Kstatfs.bsize(reply, 0),
        frsize: Kstatfs.frsize(reply, 0),
        blocks: long('blocks'),
        bfree: long('bfree'),
        bavail: long('bavail'),
        files: long('files'),
        ffree: long('ffree'),
        namelen: Kstatfs.namelen(reply, 0),
      };
    });
  }

  access(path: SharePath, mode: number): Task<void> {
    const mount = this.#mount;
    return this.#at('access', path, true, function* (node) {
      yield* mount.rights.require(node, mode & 7);
    });
  }

  open(path: SharePath, flags: number, mode = 0o666): Task<OpenFile> {
    return this.#mount.named('open', this.#opener.open(path, flags, mode), path);
  }

  openDirectory(path: SharePath): Task<MountedDirectory> {
    const mount = this.#mount;
    const opener = this.#opener;
    return this.#at('opendir', path, true, function* (node) {
      if (!node.isDirectory) throw new Refusal(ENOTDIR);
      yield* mount.rights.require(node, R_OK);
      return new MountedDirectory(mount, yield* opener.handle(node, 0));
    });
  }

  readlink(path: SharePath): Task<Uint8Array> {
    return this.#at('readlink', path, false, (node) => this.#target(node));
  }

  *#target(node: Node): Task<Uint8Array> {
    if ((node.attributes.mode & S_IFMT) !== S_IFLNK) throw new Refusal(EINVAL);
    if (node.target !== undefined) return node.target;
    const { session, mode } = this.#mount;
    const call = { opcode: opcodes.READLINK, nodeid: node.nodeid, room: PATH_BYTES - 1 };
    const reply = yield* session.call(call);
    node.atimeStale = true;
    const bytes = new Uint8Array(reply.buffer);
    const end = bytes.indexOf(0);
    // To the kernel it is a string (fs/namei.c).
    const target = end < 0 ? bytes : bytes.slice(0, end);
    if (mode !== 'none' && session.has(fuse.INIT.CACHE_SYMLINKS)) node.target = target;
    return target;
  }

  realpath(path: SharePath): Task<Uint8Array> {
    return this.#mount.named('realpath', this.#realpath(path), path);
  }

  *#realpath(path: SharePath): Task<Uint8Array> {
    const names = yield* this.#walker.real(path);
    return nameBytes(`/${names.join('/')}`);
  }

  /** Does something with the place of a path's last name, whose directory the caller may change. */
  *#in<T>(path: SharePath, body: (place: Place) => Task<T>): Task<T> {
    const place = yield* this.#walker.place(path);
    try {
      return yield* body(place);
    } finally {
      this.#mount.tree.release(place.parent);
    }
  }

  mkdir(path: SharePath, mode: number): Task<void> {
    const fields = this.#mount.masked(mode & 0o1777);
    const body: BodyOfName = (name) => bodyOf(MkdirIn, fields, name);
    return this.#mount.named('mkdir', this.#make(path, opcodes.MKDIR, S_IFDIR, body), path);
  }

  mknod(path: SharePath, mode: number, rdev: number): Task<void> {
    const fields = { ...this.#mount.masked(mode), rdev };
    const body: BodyOfName = (name) => bodyOf(MknodIn, fields, name);
    return this.#mount.named('mknod', this.#make(path, opcodes.MKNOD, mode & S_IFMT || S_IFREG, body), path);
  }

  symlink(target: SharePath, path: SharePath): Task<void> {
    const text = bytesOf(target);
    const body: BodyOfName = (name) => bodyOf(null, {}, name, text);
    return this.#mount.named('symlink', this.#symlink(text, path, body), target, path);
  }

  *#symlink(text: Uint8Array, path: SharePath, body: BodyOfName): Task<void> {
    if (text.length === 0) throw new Refusal(ENOENT);
    if (text.length >= PATH_BYTES) throw new Refusal(ENAMETOOLONG);
    if (text.includes(0)) throw new Refusal(EINVAL);
    yield* this.#make(path, opcodes.SYMLINK, S_IFLNK, body);
  }

  /** MKDIR, MKNOD, SYMLINK, LINK: what is asked for of a new name. */
  *#make(path: SharePath, opcode: Opcode, type: number, body: BodyOfName): Task<void> {
    yield* this.#in(path, (place) => this.#makeIn(place, opcode, type, body));
  }

  *#makeIn(place: Place, opcode: Opcode, type: number, body: BodyOfName): Task<void> {
    const { session, tree } = this.#mount;
    const { parent, name } = place;
    if (place.isSpecial) throw new Refusal(EEXIST);
    if (place.wantsDirectory && opcode !== opcodes.MKDIR) throw new Refusal(ENOENT);
    if (!parent.isDirectory) throw new Refusal(ENOTDIR);
    if (tree.find(parent, name)?.node !== undefined) throw new Refusal(EEXIST);
    yield* this.#requireCreation(place);
    const isDevice = opcode === opcodes.MKNOD && (type === S_IFBLK || type === S_IFCHR);
    if (isDevice && session.credentials.uid !== 0) throw new Refusal(EPERM);
    const entry = entryAt(yield* session.call({ opcode, nodeid: parent.nodeid, body: body(nameBytes(name)) }), 0);
    this.#mount.expire(parent);
    // fs/fuse/dir.c, create_new_entry
    if ((entry.attributes.mode & S_IFMT) !== type) throw new Refusal(EIO);
    const node = tree.take(entry);
    tree.link(parent, name, node, entry.entryValidMs);
    tree.release(node);
  }

  /** The kernel looks before it asks: what is there is EEXIST, whatever the caller may do. */
  *#requireCreation(place: Place): Task<void> {
    try {
      yield* this.#mount.rights.require(place.parent, W_OK | X_OK);
    } catch (error) {
      const node = yield* this.#walker.existing(place);
      if (node === undefined) throw error;
      this.#mount.tree.release(node);
      throw new Refusal(EEXIST);
    }
  }

  unlink(path: SharePath): Task<void> {
    return this.#mount.named('unlink', this.#remove(path, opcodes.UNLINK), path);
  }

  rmdir(path: SharePath): Task<void> {
    return this.#mount.named('rmdir', this.#remove(path, opcodes.RMDIR), path);
  }

  *#remove(path: SharePath, opcode: Opcode): Task<void> {
    yield* this.#in(path, (place) => this.#removeIn(place, opcode));
  }

  *#removeIn(place: Place, opcode: Opcode): Task<void> {
    const { session, tree } = this.#mount;
    const { parent, name } = place;
    const removesDirectory = opcode === opcodes.RMDIR;
    if (place.isSpecial) throw new Refusal(removesDirectory ? specialRmdir(place) : EISDIR);
    const node = yield* this.#walker.child(parent, name);
    try {
      yield* this.#mount.rights.requireRemoval(parent, node);
      if (removesDirectory && !node.isDirectory) throw new Refusal(ENOTDIR);
      if (!removesDirectory && node.isDirectory) throw new Refusal(EISDIR);
      if (!removesDirectory && place.wantsDirectory) throw new Refusal(ENOTDIR);
      try {
        yield* session.call({ opcode, nodeid: parent.nodeid, body: bodyOf(null, {}, nameBytes(name)) });
      } catch (error) {
        if (isGone(error)) tree.unlink(parent, name);
        throw error;
      }
      this.#mount.expire(parent);
      this.#mount.expire(node);
      tree.unlink(parent, name);
    } finally {
      tree.release(node);
    }
  }

  rename(from: SharePath, to: SharePath, flags = 0): Task<void> {
    return this.#mount.named(
      'rename',
      this.#in(from, (source) => this.#in(to, (target) => this.#rename(source, target, flags))),
      from,
      to,
    );
  }

  *#rename(source: Place, target: Place, flags: number): Task<void> {
    const { tree } = this.#mount;
    const excluded = RENAME_NOREPLACE | RENAME_WHITEOUT;
    if ((flags & ~(excluded | RENAME_EXCHANGE)) !== 0) throw new Refusal(EINVAL);
    if ((flags & RENAME_EXCHANGE) !== 0 && (flags & excluded) !== 0) throw new Refusal(EINVAL);
    if (source.isSpecial) throw new Refusal(EBUSY);
    if (target.isSpecial) throw new Refusal((flags & RENAME_NOREPLACE) === 0 ? EBUSY : EEXIST);
    const node = yield* this.#walker.child(source.parent, source.name);
    try {
      const replaced = yield* this.#walker.existing(target);
      try {
        yield* this.#renameNode(source, target, { node, replaced, flags });
      } finally {
        if (replaced !== undefined) tree.release(replaced);
      }
    } finally {
      tree.release(node);
    }
  }

  /** do_renameat2 and vfs_rename of fs/namei.c. */
  *#renameNode(source: Place, target: Place, { node, replaced, flags }: Renaming): Task<void> {
    const { session, tree } = this.#mount;
    const exchanges = (flags & RENAME_EXCHANGE) !== 0;
    if ((flags & RENAME_NOREPLACE) !== 0 && replaced !== undefined) throw new Refusal(EEXIST);
    if (exchanges && replaced === undefined) throw new Refusal(ENOENT);
    const mustBeDirectory = source.wantsDirectory || (target.wantsDirectory && !exchanges);
    if (mustBeDirectory && !node.isDirectory) throw new Refusal(ENOTDIR);
    if (exchanges && target.wantsDirectory && replaced?.isDirectory === false) throw new Refusal(ENOTDIR);
    if (node === replaced) return;
    yield* this.#requireRename(source, target, { node, replaced, flags });
    const names = [nameBytes(source.name), nameBytes(target.name)];
    const newdir = target.parent.nodeid;
    const { nodeid } = source.parent;
    try {
      if (flags === 0) {
        yield* session.call({ opcode: opcodes.RENAME, nodeid, body: bodyOf(RenameIn, { newdir }, ...names) });
      } else {
        const body = bodyOf(Rename2In, { newdir, flags }, ...names);
        yield* this.#mount.asked({ opcode: opcodes.RENAME2, nodeid, body }, EINVAL);
      }
    } catch (error) {
      // What was known of the names is wrong.
      if (isGone(error)) for (const { parent, name } of [source, target]) tree.unlink(parent, name);
      throw error;
    }
    for (const { parent, name } of [source, target]) tree.unlink(parent, name);
    for (const each of [source.parent, target.parent, node, replaced]) if (each !== undefined) this.#mount.expire(each);
  }

  *#requireRename(source: Place, target: Place, { node, replaced, flags }: Renaming): Task<void> {
    const { rights } = this.#mount;
    const exchanges = (flags & RENAME_EXCHANGE) !== 0;
    yield* rights.requireRemoval(source.parent, node);
    if (replaced === undefined) {
      yield* rights.require(target.parent, W_OK | X_OK);
    } else {
      yield* rights.requireRemoval(target.parent, replaced);
      if (!exchanges && node.isDirectory && !replaced.isDirectory) throw new Refusal(ENOTDIR);
      if (!exchanges && !node.isDirectory && replaced.isDirectory) throw new Refusal(EISDIR);
    }
    if (source.parent === target.parent) return;
    // What moves has another parent: `..` changes.
    if (node.isDirectory) yield* rights.require(node, W_OK);
    if (exchanges && replaced?.isDirectory === true) yield* rights.require(replaced, W_OK);
  }

  link(existing: SharePath, path: SharePath): Task<void> {
    return this.#mount.named('link', this.#link(existing, path), existing, path);
  }

  *#link(existing: SharePath, path: SharePath): Task<void> {
    const node = yield* this.#walker.node(existing, false);
    try {
      if (node.isDirectory) throw new Refusal(EPERM);
      const body: BodyOfName = (name) => bodyOf(LinkIn, { oldnodeid: node.nodeid }, name);
      yield* this.#make(path, opcodes.LINK, node.attributes.mode & S_IFMT, body);
      this.#mount.expire(node);
    } finally {
      this.#mount.tree.release(node);
    }
  }

  change(path: SharePath, changes: Changes, follow: boolean): Task<void> {
    const mount = this.#mount;
    return this.#at(nameOf(changes, follow), path, follow, function* (node) {
      yield* mount.refresh(node);
      yield* mount.setattr(node, changes);
    });
  }

  getXattr(path: SharePath, name: string, follow: boolean): Task<Uint8Array> {
    return this.#at('getxattr', path, follow, (node) => this.#xattrs.get(node, name));
  }

  setXattr(path: SharePath, name: string, value: Uint8Array, flags: number, follow: boolean): Task<void> {
    return this.#at('setxattr', path, follow, (node) => this.#xattrs.set(node, name, value, flags));
  }

  listXattrs(path: SharePath, follow: boolean): Task<string[]> {
    return this.#at('listxattr', path, follow, (node) => this.#xattrs.list(node));
  }

  removeXattr(path: SharePath, name: string, follow: boolean): Task<void> {
    return this.#at('removexattr', path, follow, (node) => this.#xattrs.remove(node, name));
  }

  syncAll(): Task<void> {
    return this.#mount.named('syncfs', this.#syncAll());
  }

  *#syncAll(): Task<void> {
    for (const { node } of this.#mount.files) yield* this.#mount.flush(node);
    yield* this.#mount.optional({ opcode: opcodes.SYNCFS, nodeid: 1n, body: new Uint8Array(8) });
  }

  close(): Task<void> {
    return this.#mount.named('close', this.#close());
  }

  *#close(): Task<void> {
    const { session, tree, files } = this.#mount;
    try {
      for (const file of [...files]) yield* file.close();
      yield* this.#mount.closeWindow();
      tree.clear();
      yield* session.flushForgets();
      yield* this.#mount.optional({ opcode: opcodes.DESTROY, nodeid: 0n });
    } finally {
      this.#end();
    }
  }
}

function isGone(error: unknown): boolean {
  return error instanceof Refusal && error.errno === ENOENT;
}

function specialRmdir({ name }: Place): number {
  if (name === '.') return EINVAL;
  return name === '..' ? ENOTEMPTY : EBUSY;
}

/** The call that makes such changes to a path. */
function nameOf({ size, mode, uid, gid }: Changes, follow: boolean): string {
  if (size !== undefined) return 'truncate';
  if (mode !== undefined) return follow ? 'chmod' : 'lchmod';
  if (uid !== undefined || gid !== undefined) return follow ? 'chown' : 'lchown';
  return follow ? 'utime' : 'lutime';
}
