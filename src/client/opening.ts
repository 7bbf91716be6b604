/** open(2): OPEN, OPENDIR and CREATE, and what the kernel does around them (fs/namei.c, fs/fuse/file.c and dir.c). */
import { EEXIST, EINVAL, EIO, EISDIR, ELOOP, ENOSYS, ENOTDIR, ENXIO, EPERM } from '../core/index.ts';
import { CreateIn, CreateOut, flags as fuse, MknodIn, OpenIn, OpenOut, opcodes } from '../fuse/index.ts';
import {
  O_ACCMODE,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOATIME,
  O_NOCTTY,
  O_NOFOLLOW,
  O_RDONLY,
  O_TRUNC,
  O_WRONLY,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../sys/index.ts';
import { entryAt } from './attributes.ts';
import { bodyOf } from './body.ts';
import type { Mount } from './mount.ts';
import { MountedFile } from './mounted-file.ts';
import { Refusal } from './refusal.ts';
import { owns, R_OK, W_OK, X_OK } from './rights.ts';
import type { Task } from './task.ts';
import type { Node } from './tree.ts';
import type { SharePath } from './volume.ts';
import { bytesOf, nameBytes, type Place, type Walker } from './walk.ts';

const SYMLINKS_MAX = 40;

/** An inode and a handle on it. The inode is in use until the handle is given back. */
export interface Handle {
  readonly node: Node;
  readonly fh: bigint;
  /** FOPEN flags. */
  readonly openFlags: number;
  /** False: the daemon does without OPEN. */
  readonly opened: boolean;
}

/** A call of open(2) with O_CREAT. */
interface Creation {
  readonly flags: number;
  readonly mode: number;
  /** Symlinks that have led here. */
  readonly links: number;
  /** When it was called. */
  readonly began: number;
}

export class Opener {
  readonly #mount: Mount;
  readonly #walker: Walker;

  constructor(mount: Mount, walker: Walker) {
    this.#mount = mount;
    this.#walker = walker;
  }

  /** Throws Refusal. */
  *open(path: SharePath, flags: number, mode: number): Task<MountedFile> {
    if ((flags & O_ACCMODE) === O_ACCMODE) throw new Refusal(EINVAL);
    if ((flags & O_CREAT) !== 0) return yield* this.#create(path, flags, mode, 0);
    const began = performance.now();
    const node = yield* this.#walker.node(path, (flags & O_NOFOLLOW) === 0);
    try {
      return yield* this.#openNode(node, flags, began);
    } finally {
      this.#mount.tree.release(node);
    }
  }

  /** Opens what is there. `began`: when open(2) was called. */
  *#openNode(node: Node, flags: number, began: number): Task<MountedFile> {
    const type = node.attributes.mode & S_IFMT;
    const writes = (flags & O_ACCMODE) !== O_RDONLY;
    if (type === S_IFLNK) throw new Refusal(ELOOP);
    if (type === S_IFDIR && (writes || (flags & (O_CREAT | O_TRUNC)) !== 0)) throw new Refusal(EISDIR);
    if (type !== S_IFDIR && (flags & O_DIRECTORY) !== 0) throw new Refusal(ENOTDIR);
    // Pipes, sockets and devices are the guest's own, never the daemon's.
    if (type !== S_IFDIR && type !== S_IFREG) throw new Refusal(ENXIO);
    const reads = (flags & O_ACCMODE) !== O_WRONLY;
    const wanted = (reads ? R_OK : 0) | (writes || (flags & O_TRUNC) !== 0 ? W_OK : 0);
    yield* this.#mount.rights.require(node, wanted);
    const { credentials } = this.#mount.session;
    if ((flags & O_NOATIME) !== 0 && !owns(node.attributes, credentials)) throw new Refusal(EPERM);
    if ((flags & O_TRUNC) !== 0 && !this.#mount.dropsIds) yield* this.#mount.dropSetIds(node);
    const handle = yield* this.handle(node, flags);
    return yield* this.#opened(handle, flags, (flags & O_TRUNC) !== 0, began);
  }

  /** `began`: when open(2) was called. */
  *#opened(handle: Handle, flags: number, truncates: boolean, began = Infinity): Task<MountedFile> {
    const { node, openFlags } = handle;
    const mount = this.#mount;
    const file = new MountedFile(mount, handle, flags & ~(O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY));
    mount.files.add(file);
    const atomic = mount.session.has(fuse.INIT.ATOMIC_O_TRUNC) && handle.opened;
    try {
      if (truncates && atomic) {
        // fuse_finish_open: what was there is gone.
        node.resize(0);
        mount.expire(node);
        const dax = mount.daxOf(node);
        if (dax !== undefined) yield* dax.truncated(0);
      } else if (truncates) {
        yield* mount.setattr(node, { size: 0 }, file);
      } else if ((openFlags & fuse.FOPEN.KEEP_CACHE) === 0) {
        // Close-to-open: what others wrote before is seen, and how long the file is now.
        node.pages?.invalidate();
        if (node.attributesFrom < began) mount.expire(node);
      }
      return file;
    } catch (error) {
      yield* file.close();
      throw error;
    }
  }

  /** OPEN or OPENDIR. */
  *handle(node: Node, flags: number): Task<Handle> {
    const { session, tree } = this.#mount;
    const opcode = node.isDirectory ? opcodes.OPENDIR : opcodes.OPEN;
    const without = node.isDirectory ? fuse.INIT.NO_OPENDIR_SUPPORT : fuse.INIT.NO_OPEN_SUPPORT;
    // Without agreement to truncate at once the kernel does it by SETATTR.
    const dropped = session.has(fuse.INIT.ATOMIC_O_TRUNC) ? 0 : O_TRUNC;
    const sent = flags & ~(O_CREAT | O_EXCL | O_NOCTTY | dropped);
    const body = bodyOf(OpenIn, { flags: sent, openFlags: this.#openFlags(flags) });
    node.uses += 1;
    try {
      const reply = yield* this.#mount.asked({ opcode, nodeid: node.nodeid, body }, ENOSYS);
      const fh = reply.getBigUint64(OpenOut.offsets.fh, true);
      return { node, fh, openFlags: OpenOut.openFlags(reply, 0), opened: true };
    } catch (error) {
      if (error instanceof Refusal && error.errno === ENOSYS && session.has(without)) {
        return { node, fh: 0n, openFlags: fuse.FOPEN.KEEP_CACHE | fuse.FOPEN.CACHE_DIR, opened: false };
      }
      tree.release(node);
      throw error;
    }
  }

  /** What truncates for another than root takes set-id bits from the file. */
  #openFlags(flags: number): number {
    const { session } = this.#mount;
    if ((flags & O_TRUNC) === 0 || session.credentials.uid === 0) return 0;
    return session.has(fuse.INIT.HANDLE_KILLPRIV_V2) ? fuse.OPEN_IN.KILL_SUIDGID : 0;
  }

  /** open(2) with O_CREAT. `links`: symlinks that have led here. */
  *#create(path: SharePath, flags: number, mode: number, links: number): Task<MountedFile> {
    const began = performance.now();
    if (links > SYMLINKS_MAX) throw new Refusal(ELOOP);
    const place = yield* this.#walker.place(path);
    try {
      if (place.isSpecial || place.wantsDirectory) throw new Refusal(EISDIR);
      const node = yield* this.#walker.existing(place);
      if (node === undefined) return yield* this.#makeFile(path, place, flags, mode, links);
      return yield* this.#createOver(path, node, { flags, mode, links, began });
    } finally {
      this.#mount.tree.release(place.parent);
    }
  }

  /** There is something of that name. */
  *#createOver(path: SharePath, node: Node, creation: Creation): Task<MountedFile> {
    const { flags, mode, links, began } = creation;
    try {
      if ((flags & O_EXCL) !== 0) throw new Refusal(EEXIST);
      const isLink = (node.attributes.mode & S_IFMT) === S_IFLNK;
      if (!isLink) return yield* this.#openNode(node, flags, began);
      if ((flags & O_NOFOLLOW) !== 0) throw new Refusal(ELOOP);
      const target = yield* this.#walker.target(node);
      return yield* this.#create(besides(path, target), flags, mode, links + 1);
    } finally {
      this.#mount.tree.release(node);
    }
  }

  *#makeFile(path: SharePath, place: Place, flags: number, mode: number, links: number): Task<MountedFile> {
    const { tree } = this.#mount;
    const { parent, name } = place;
    if (!parent.isDirectory) throw new Refusal(ENOTDIR);
    yield* this.#mount.rights.require(parent, W_OK | X_OK);
    const masked = this.#mount.masked(S_IFREG | (mode & 0o7777));
    const openFlags = (flags & O_EXCL) === 0 ? this.#openFlags(flags) : 0;
    const fields = { flags: flags & ~O_NOCTTY, openFlags, ...masked };
    const body = bodyOf(CreateIn, fields, nameBytes(name));
    try {
      const reply = yield* this.#mount.asked({ opcode: opcodes.CREATE, nodeid: parent.nodeid, body }, ENOSYS);
      this.#mount.expire(parent);
      const entry = entryAt(reply, 0);
      if ((entry.attributes.mode & S_IFMT) !== S_IFREG) throw new Refusal(EIO);
      const node = tree.take(entry);
      tree.link(parent, name, node, entry.entryValidMs);
      const at = CreateOut.offsets.open;
      const fh = reply.getBigUint64(at + OpenOut.offsets.fh, true);
      const handle = { node, fh, openFlags: OpenOut.openFlags(reply, at), opened: true };
      return yield* this.#opened(handle, flags, false);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.errno === ENOSYS) return yield* this.#makeThenOpen(place, flags, mode);
      // Somebody else has made it meanwhile: then it is opened.
      if (error.errno !== EEXIST || (flags & O_EXCL) !== 0) throw error;
      tree.unlink(parent, name);
      return yield* this.#create(path, flags, mode, links + 1);
    }
  }

  /** For daemons without CREATE. */
  *#makeThenOpen({ parent, name }: Place, flags: number, mode: number): Task<MountedFile> {
    const { session, tree } = this.#mount;
    const body = bodyOf(MknodIn, this.#mount.masked(S_IFREG | (mode & 0o7777)), nameBytes(name));
    const entry = entryAt(yield* session.call({ opcode: opcodes.MKNOD, nodeid: parent.nodeid, body }), 0);
    const node = tree.take(entry);
    tree.link(parent, name, node, entry.entryValidMs);
    try {
      return yield* this.#opened(yield* this.handle(node, flags), flags, false);
    } finally {
      tree.release(node);
    }
  }
}

/** Where a symlink at `path` leads. */
function besides(path: SharePath, target: Uint8Array): Uint8Array {
  const text = Buffer.from(bytesOf(path)).toString('latin1');
  const to = Buffer.from(target).toString('latin1');
  return to.startsWith('/') ? target : nameBytes(text.replace(/[^/]*$/, to));
}
