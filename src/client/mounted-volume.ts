/** The Volume of a mounted share: what a guest's kernel does between a system call and its requests (fs/fuse/dir.c). */
import {
  E2BIG,
  EACCES,
  EEXIST,
  EINVAL,
  EISDIR,
  ENOENT,
  ENOTDIR,
  EOPNOTSUPP,
  EPERM,
  ENOTEMPTY,
  EBUSY,
} from '../core/index.ts';
import {
  flags as fuse,
  GetxattrIn,
  Kstatfs,
  LinkIn,
  MkdirIn,
  MknodIn,
  type Opcode,
  opcodes,
  Rename2In,
  RenameIn,
  SetxattrIn,
} from '../fuse/index.ts';
import { entryAt, S_IFLNK, S_IFMT } from './attributes.ts';
import { bodyOf } from './body.ts';
import type { Mount } from './mount.ts';
import { MountedDirectory } from './mounted-directory.ts';
import { Opener } from './opening.ts';
import { Refusal } from './refusal.ts';
import type { Credentials } from './session.ts';
import type { Task } from './task.ts';
import type { Node } from './tree.ts';
import type { Attributes, Changes, FileSystemNumbers, OpenFile, SharePath, Volume } from './volume.ts';
import { bytesOf, nameBytes, permits, type Place, R_OK, Walker, W_OK, X_OK } from './walk.ts';

const STICKY = 0o1000;
const XATTR_BYTES = 65536;
const PATH_BYTES = 4096;

export class MountedVolume implements Volume {
  readonly #mount: Mount;
  readonly #walker: Walker;
  readonly #opener: Opener;
  /** Ends the connection, after the last message. */
  readonly #end: () => void;

  constructor(mount: Mount, end: () => void) {
    this.#mount = mount;
    this.#end = end;
    this.#walker = new Walker(mount.session, mount.tree, (node) => this.#target(node));
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
      yield* mount.refresh(node);
      if (!permits(node.attributes, mode & 7, mount.session.credentials)) throw new Refusal(EACCES);
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
      if (!permits(node.attributes, R_OK, mount.session.credentials)) throw new Refusal(EACCES);
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
    const target = new Uint8Array(reply.buffer);
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

  #checkWritable({ attributes }: Node): void {
    if (!permits(attributes, W_OK | X_OK, this.#mount.session.credentials)) throw new Refusal(EACCES);
  }

  mkdir(path: SharePath, mode: number): Task<void> {
    const fields = this.#mount.masked(mode & 0o1777);
    const body = (name: Uint8Array): Uint8Array => bodyOf(MkdirIn, fields, name);
    return this.#mount.named('mkdir', this.#make(path, opcodes.MKDIR, body), path);
  }

  mknod(path: SharePath, mode: number, rdev: number): Task<void> {
    const fields = { ...this.#mount.masked(mode), rdev };
    const body = (name: Uint8Array): Uint8Array => bodyOf(MknodIn, fields, name);
    return this.#mount.named('mknod', this.#make(path, opcodes.MKNOD, body), path);
  }

  symlink(target: SharePath, path: SharePath): Task<void> {
    const text = bytesOf(target);
    const body = (name: Uint8Array): Uint8Array => bodyOf(null, {}, name, text);
    return this.#mount.named('symlink', this.#symlink(text, path, body), target, path);
  }

  *#symlink(text: Uint8Array, path: SharePath, body: (name: Uint8Array) => Uint8Array): Task<void> {
    if (text.length === 0) throw new Refusal(ENOENT);
    yield* this.#make(path, opcodes.SYMLINK, body);
  }

  /** MKDIR, MKNOD, SYMLINK, LINK: what is asked for of a new name. */
  *#make(path: SharePath, opcode: Opcode, body: (name: Uint8Array) => Uint8Array): Task<void> {
    yield* this.#in(path, (place) => this.#makeIn(place, opcode, body));
  }

  *#makeIn(place: Place, opcode: Opcode, body: (name: Uint8Array) => Uint8Array): Task<void> {
    const { session, tree } = this.#mount;
    const { parent, name } = place;
    if (place.isSpecial) throw new Refusal(EEXIST);
    if (place.wantsDirectory && opcode !== opcodes.MKDIR) throw new Refusal(ENOENT);
    if (!parent.isDirectory) throw new Refusal(ENOTDIR);
    // The kernel looks before it asks: what is there is EEXIST, whatever the caller may do.
    if (tree.find(parent, name)?.node !== undefined) throw new Refusal(EEXIST);
    this.#checkWritable(parent);
    const entry = entryAt(yield* session.call({ opcode, nodeid: parent.nodeid, body: body(nameBytes(name)) }), 0);
    this.#mount.expire(parent);
    const node = tree.take(entry);
    tree.link(parent, name, node, entry.entryValidMs);
    tree.release(node);
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
      this.#checkRemovable(parent, node);
      if (removesDirectory && !node.isDirectory) throw new Refusal(ENOTDIR);
      if (!removesDirectory && node.isDirectory) throw new Refusal(EISDIR);
      if (!removesDirectory && place.wantsDirectory) throw new Refusal(ENOTDIR);
      yield* session.call({ opcode, nodeid: parent.nodeid, body: bodyOf(null, {}, nameBytes(name)) });
      this.#mount.expire(parent);
      this.#mount.expire(node);
      tree.unlink(parent, name);
    } finally {
      tree.release(node);
    }
  }

  /** may_delete of fs/namei.c. */
  #checkRemovable(parent: Node, node: Node): void {
    this.#checkWritable(parent);
    const { uid } = this.#mount.session.credentials;
    const { mode, uid: owner } = parent.attributes;
    if ((mode & STICKY) !== 0 && uid !== 0 && uid !== owner && uid !== node.attributes.uid) throw new Refusal(EPERM);
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
    const { session, tree } = this.#mount;
    if (source.isSpecial || target.isSpecial) throw new Refusal(EBUSY);
    const node = yield* this.#walker.child(source.parent, source.name);
    try {
      this.#checkRemovable(source.parent, node);
      this.#checkWritable(target.parent);
      if ((source.wantsDirectory || target.wantsDirectory) && !node.isDirectory) throw new Refusal(ENOTDIR);
      const names = [nameBytes(source.name), nameBytes(target.name)];
      const newdir = target.parent.nodeid;
      const { nodeid } = source.parent;
      if (flags === 0) {
        yield* session.call({ opcode: opcodes.RENAME, nodeid, body: bodyOf(RenameIn, { newdir }, ...names) });
      } else {
        const body = bodyOf(Rename2In, { newdir, flags }, ...names);
        yield* this.#mount.asked({ opcode: opcodes.RENAME2, nodeid, body }, EINVAL);
      }
      tree.unlink(source.parent, source.name);
      tree.unlink(target.parent, target.name);
      for (const each of [source.parent, target.parent, node]) this.#mount.expire(each);
    } finally {
      tree.release(node);
    }
  }

  link(existing: SharePath, path: SharePath): Task<void> {
    return this.#mount.named('link', this.#link(existing, path), existing, path);
  }

  *#link(existing: SharePath, path: SharePath): Task<void> {
    const node = yield* this.#walker.node(existing, false);
    try {
      if (node.isDirectory) throw new Refusal(EPERM);
      const body = (name: Uint8Array): Uint8Array => bodyOf(LinkIn, { oldnodeid: node.nodeid }, name);
      yield* this.#make(path, opcodes.LINK, body);
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
    const mount = this.#mount;
    return this.#at('getxattr', path, follow, function* (node) {
      const body = bodyOf(GetxattrIn, { size: XATTR_BYTES }, bytesOf(name));
      const call = { opcode: opcodes.GETXATTR, nodeid: node.nodeid, body, room: XATTR_BYTES };
      return new Uint8Array((yield* mount.asked(call, EOPNOTSUPP)).buffer);
    });
  }

  setXattr(path: SharePath, name: string, value: Uint8Array, flags: number, follow: boolean): Task<void> {
    const mount = this.#mount;
    return this.#at('setxattr', path, follow, function* (node) {
      if (value.length > XATTR_BYTES) throw new Refusal(E2BIG);
      const fixed = bodyOf(SetxattrIn, { size: value.length, flags });
      const short = mount.session.has(fuse.INIT.SETXATTR_EXT)
        ? fixed
        : fixed.subarray(0, fuse.COMPAT_SETXATTR_IN_BYTES);
      const body = Buffer.concat([short, bytesOf(name), new Uint8Array(1)]);
      yield* mount.asked({ opcode: opcodes.SETXATTR, nodeid: node.nodeid, body, data: value }, EOPNOTSUPP);
      mount.expire(node);
    });
  }

  listXattrs(path: SharePath, follow: boolean): Task<string[]> {
    const mount = this.#mount;
    return this.#at('listxattr', path, follow, function* (node) {
      const body = bodyOf(GetxattrIn, { size: XATTR_BYTES });
      const call = { opcode: opcodes.LISTXATTR, nodeid: node.nodeid, body, room: XATTR_BYTES };
      const reply = yield* mount.asked(call, EOPNOTSUPP);
      return Buffer.from(reply.buffer)
        .toString()
        .split('\0')
        .filter((name) => name !== '');
    });
  }

  removeXattr(path: SharePath, name: string, follow: boolean): Task<void> {
    const mount = this.#mount;
    return this.#at('removexattr', path, follow, function* (node) {
      const body = bodyOf(null, {}, bytesOf(name));
      yield* mount.asked({ opcode: opcodes.REMOVEXATTR, nodeid: node.nodeid, body }, EOPNOTSUPP);
      mount.expire(node);
    });
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
      tree.clear();
      yield* session.flushForgets();
      yield* this.#mount.optional({ opcode: opcodes.DESTROY, nodeid: 0n });
    } finally {
      this.#end();
    }
  }
}

function specialRmdir({ parent }: Place): number {
  return parent.names === 0 ? EBUSY : ENOTEMPTY;
}

/** The call that makes such changes to a path. */
function nameOf({ size, mode, uid, gid }: Changes, follow: boolean): string {
  if (size !== undefined) return 'truncate';
  if (mode !== undefined) return follow ? 'chmod' : 'lchmod';
  if (uid !== undefined || gid !== undefined) return follow ? 'chown' : 'lchown';
  return follow ? 'utime' : 'lutime';
}
