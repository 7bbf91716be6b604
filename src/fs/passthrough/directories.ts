/** Operations on open directories. */
import { EINVAL, ENFILE, ENOENT, ENOSYS, ENOTDIR } from '../../core/index.ts';
import { direntBytes, encodeDirent, encodeDirentplus, flags, OpenOut, ReadIn } from '../../fuse/index.ts';
import { getdents64, lseek, O_DIRECTORY, O_RDONLY, S_IFDIR } from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';
import { HANDLE_DIRECTORY } from './handles.ts';
import { OpenFile } from './open-file.ts';

const SEEK_SET = 0;
const DENTS_BYTES = 32 * 1024;
/** Room that always holds one entry with the longest name, as the host gives it. */
const LEAST_DENTS_BYTES = 1024;
// struct linux_dirent64 (include/linux/dirent.h).
const D_OFF = 8;
const D_RECLEN = 16;
const D_TYPE = 18;
const D_NAME = 19;
const DOT = 0x2e;
/** Less than this takes no entry at all. */
const LEAST_ROOM = direntBytes(1);
/** A cookie that no file system gives. */
const NOWHERE = 0xffffffff;

export class Directories {
  readonly #context: Context;
  readonly #open: OpenFile;
  readonly #dents: number;
  /** The last conversion ended because an entry did not fit. */
  #full = false;

  constructor(context: Context) {
    this.#context = context;
    this.#open = new OpenFile(context);
    this.#dents = context.arena.reserve(DENTS_BYTES);
  }

  opendir(request: Request): number {
    const { lookups, inodes, policy } = this.#context;
    // From then on the guest does not ask, and keeps what it reads of a directory.
    if (policy.noOpendir && (request.agreed & flags.INIT.NO_OPENDIR_SUPPORT) !== 0) return -ENOSYS;
    const slot = lookups.pin(request.nodeidLo, request.nodeidHi);
    if (slot === 0) return -ENOENT;
    const result = this.#opendir(request, slot);
    inodes.unpin(slot);
    return result;
  }

  #opendir(request: Request, slot: number): number {
    const { inodes, handles, policy } = this.#context;
    if (inodes.type(slot) !== S_IFDIR >> 12) return -ENOTDIR;
    const inodeFd = inodes.fd(slot);
    const fd = inodeFd < 0 ? inodeFd : this.#context.reopen(inodeFd, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return fd;
    const handle = handles.add(fd, HANDLE_DIRECTORY);
    if (handle === 0) return -ENFILE;
    this.#context.writeOpenOut(request.scratch, request.reply, handle, policy.directoryFlags);
    return OpenOut.bytes;
  }

  readdir(request: Request): number {
    return this.#read(request, false);
  }

  readdirplus(request: Request): number {
    return this.#read(request, true);
  }

  #read(request: Request, plus: boolean): number {
    const { lookups, inodes } = this.#context;
    const { nodeidLo, nodeidHi } = request;
    const dir = lookups.pin(nodeidLo, nodeidHi);
    if (dir === 0) return -ENOENT;
    const fd = this.#open.acquire(request, ReadIn.offsets.fh, nodeidLo, nodeidHi, O_RDONLY | O_DIRECTORY);
    const result = fd < 0 ? fd : this.#fill(request, fd, dir, plus);
    this.#open.release();
    inodes.unpin(dir);
    return result;
  }

  /** Fills the reply with whole entries; the number of bytes, 0 at the end of the directory. */
  #fill(request: Request, fd: number, dir: number, plus: boolean): number {
    const { arena } = this.#context;
    const { view, u32 } = request.scratch;
    const cookie = (request.body + ReadIn.offsets.offset) >> 2;
    if (!this.#standsAt(u32[cookie], u32[cookie + 1])) {
      const sought = lseek(fd, u32[cookie], u32[cookie + 1], SEEK_SET);
      if (sought < 0) return sought;
    }
    const room = Math.min(ReadIn.size(view, request.body), request.replyRoom);
    if (room < LEAST_ROOM) return -EINVAL;
    let done = 0;
    this.#full = false;
    while (!this.#full && room - done >= LEAST_ROOM) {
      // An entry takes more room in the reply than in the host's answer, so little that is asked for goes to waste.
      const wanted = Math.max(LEAST_DENTS_BYTES, plus ? (room - done) >> 2 : room - done);
      const got = getdents64(fd, arena.address + this.#dents, Math.min(DENTS_BYTES, wanted));
      if (got <= 0) return done > 0 ? done : got;
      done = this.#convert(request, fd, dir, plus, got, done, room);
    }
    return this.#full && done === 0 ? -EINVAL : done;
  }

  /** Appends the host's entries to the reply, of which `from` bytes are done. The new length. */
  #convert(request: Request, fd: number, dir: number, plus: boolean, got: number, from: number, room: number): number {
    const { arena, inodes } = this.#context;
    const { view, u8 } = arena;
    const mount = inodes.mount(dir);
    const announces = this.#context.announces(request);
    const end = this.#dents + got;
    let done = from;
    let last = 0;
    for (let at = this.#dents; at < end; at += view.getUint16(at + D_RECLEN, true)) {
      const nameAt = at + D_NAME;
      let nameEnd = nameAt;
      while (u8[nameEnd] !== 0) nameEnd += 1;
      // What is not known has to be opened: a look by its name first would be for nothing.
      const isNew = plus && !inodes.knows(mount, arena.u32[at >> 2], arena.u32[(at >> 2) + 1]);
      inodes.mounts.showInode(mount, announces, arena.u32, at >> 2);
      const bytes = this.#encode(request, plus, at, nameEnd - nameAt, done, room - done);
      if (bytes === 0) {
        this.#full = true;
        // The descriptor stands beyond this entry, at a place of which we have no cookie.
        this.#setPosition(NOWHERE, NOWHERE);
        return done;
      }
      if (plus && !isDotName(u8, nameAt, nameEnd - nameAt)) this.#fillEntry(request, fd, dir, nameAt, done, isNew);
      done += bytes;
      last = at;
    }
    this.#setPosition(view.getUint32(last + D_OFF, true), view.getUint32(last + D_OFF + 4, true));
    return done;
  }

  /** Whether the descriptor stands at a cookie; one that was opened for this request stands at the beginning. */
  #standsAt(lo: number, hi: number): boolean {
    const { handle } = this.#open;
    return handle === 0 ? lo === 0 && hi === 0 : this.#context.handles.standsAt(handle, lo, hi);
  }

  #setPosition(lo: number, hi: number): void {
    const { handle } = this.#open;
    if (handle !== 0) this.#context.handles.setPosition(handle, lo, hi);
  }

  #encode(request: Request, plus: boolean, at: number, nameBytes: number, done: number, room: number): number {
    const { view, u8 } = this.#context.arena;
    const { scratch, reply } = request;
    const encode = plus ? encodeDirentplus : encodeDirent;
    return encode(
      scratch.view,
      scratch.u8,
      reply + done,
      room,
      view.getUint32(at, true),
      view.getUint32(at + 4, true),
      view.getUint32(at + D_OFF, true),
      view.getUint32(at + D_OFF + 4, true),
      u8[at + D_TYPE],
      u8,
      at + D_NAME,
      nameBytes,
    );
  }

  /** Gives an entry its inode. Where that fails (gone, or no descriptor left) the guest gets the name alone. */
  #fillEntry(request: Request, fd: number, dir: number, nameAt: number, done: number, isNew: boolean): void {
    const context = this.#context;
    const slot = context.lookUp(fd, dir, context.arena, nameAt, isNew);
    if (slot < 0) return;
    context.writeEntryOut(request, request.reply + done, slot, dir);
    context.lookups.add(slot);
  }
}

function isDotName(u8: Uint8Array, at: number, length: number): boolean {
  return u8[at] === DOT && (length === 1 || (length === 2 && u8[at + 1] === DOT));
}
