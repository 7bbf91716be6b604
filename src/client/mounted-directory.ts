/** An open directory: READDIRPLUS, so that what is listed is known, or READDIR. */
import { EIO } from '../core/index.ts';
import {
  Dirent,
  Direntplus,
  direntBytes,
  direntplusBytes,
  flags as fuse,
  FsyncIn,
  opcodes,
  ReadIn,
  ReleaseIn,
} from '../fuse/index.ts';
import { entryAt } from './attributes.ts';
import { bodyOf } from './body.ts';
import type { Mount } from './mount.ts';
import type { Handle } from './opening.ts';
import { Refusal } from './refusal.ts';
import type { Task } from './task.ts';
import type { DirectoryEntry, OpenDirectory } from './volume.ts';

const LIST_BYTES = 65536;
const NAME_MAX = 255;
/** Replies with nothing else. */
const MOST_DOTS = 2;

export class MountedDirectory implements OpenDirectory {
  readonly #mount: Mount;
  readonly #handle: Handle;
  #closed = false;

  constructor(mount: Mount, handle: Handle) {
    this.#mount = mount;
    this.#handle = handle;
  }

  read(position: bigint): Task<readonly DirectoryEntry[]> {
    return this.#mount.named('scandir', this.#read(position));
  }

  *#read(position: bigint): Task<readonly DirectoryEntry[]> {
    // `.` and `..` may come in replies of their own; a daemon that has more of them would keep us for ever.
    for (let [from, replies] = [position, 0]; replies <= MOST_DOTS; replies += 1) {
      const entries = yield* this.#list(from);
      if (entries.length === 0) return [];
      const shown = entries.filter(({ name }) => !isDots(name));
      if (shown.length > 0) return shown;
      // Nothing but the directory itself and its parent.
      from = entries[entries.length - 1].next;
    }
    throw new Refusal(EIO);
  }

  /** As `read`, with `.` and `..` where the daemon lists them: getdents(2). */
  list(position: bigint): Task<readonly DirectoryEntry[]> {
    return this.#mount.named('getdents', this.#list(position));
  }

  *#list(position: bigint): Task<readonly DirectoryEntry[]> {
    const { session } = this.#mount;
    const { node, fh } = this.#handle;
    const plus = session.has(fuse.INIT.DO_READDIRPLUS) && this.#mount.knows(opcodes.READDIRPLUS);
    const room = Math.min(LIST_BYTES, session.agreed.maxReadBytes);
    const body = bodyOf(ReadIn, { fh, offset: position, size: room });
    const opcode = plus ? opcodes.READDIRPLUS : opcodes.READDIR;
    const reply = yield* session.call({ opcode, nodeid: node.nodeid, body, room });
    node.atimeStale = true;
    return reply.byteLength === 0 ? [] : this.#entries(reply, plus);
  }

  /** parse_dirfile and parse_dirplusfile of fs/fuse/readdir.c: a part of an entry at the end does not count. */
  #entries(reply: DataView, plus: boolean): DirectoryEntry[] {
    const entries: DirectoryEntry[] = [];
    const before = plus ? Direntplus.offsets.dirent : 0;
    for (let at = 0; reply.byteLength - at >= before + Dirent.bytes; ) {
      const dirent = at + before;
      const length = Dirent.namelen(reply, dirent);
      if (length === 0 || length > NAME_MAX) throw new Refusal(EIO);
      const bytes = plus ? direntplusBytes(length) : direntBytes(length);
      if (bytes > reply.byteLength - at) break;
      const nameAt = reply.byteOffset + dirent + Dirent.offsets.name;
      const name = new Uint8Array(reply.buffer, nameAt, length).slice();
      if (name.includes(SLASH) || name.includes(0)) throw new Refusal(EIO);
      if (plus) this.#learn(reply, at, name);
      entries.push({
        name,
        ino: reply.getBigUint64(dirent, true),
        type: Dirent.type(reply, dirent),
        next: reply.getBigUint64(dirent + Dirent.offsets.off, true),
      });
      at += bytes;
    }
    if (entries.length === 0) throw new Refusal(EIO);
    return entries;
  }

  #learn(reply: DataView, at: number, name: Uint8Array): void {
    const nodeid = reply.getBigUint64(at + Direntplus.offsets.entryOut, true);
    if (nodeid === 0n || isDots(name)) return;
    const { tree, session } = this.#mount;
    try {
      const entry = entryAt(reply, at);
      const node = tree.take(entry);
      tree.link(this.#handle.node, Buffer.from(name).toString('latin1'), node, entry.entryValidMs);
      tree.release(node);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      // fs/fuse/readdir.c, parse_dirplusfile: the name is listed all the same.
      session.forget(nodeid, 1);
    }
  }

  sync(): Task<void> {
    return this.#mount.named('fsync', this.#ask(opcodes.FSYNCDIR, bodyOf(FsyncIn, { fh: this.#handle.fh })));
  }

  *#ask(opcode: typeof opcodes.FSYNCDIR | typeof opcodes.RELEASEDIR, body: Uint8Array): Task<void> {
    yield* this.#mount.optional({ opcode, nodeid: this.#handle.node.nodeid, body });
  }

  close(): Task<void> {
    return this.#mount.named('close', this.#close());
  }

  *#close(): Task<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { node, fh, opened } = this.#handle;
    try {
      if (opened) yield* this.#ask(opcodes.RELEASEDIR, bodyOf(ReleaseIn, { fh }));
    } finally {
      this.#mount.tree.release(node);
    }
  }
}

const SLASH = 0x2f;
const DOT = 0x2e;

function isDots(name: Uint8Array): boolean {
  return name.length <= 2 && name.every((byte) => byte === DOT);
}
