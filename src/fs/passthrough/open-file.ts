/** The open file that a request is about: that of its handle or, where the guest does not open, the inode's own. */
import { EBADF, EISDIR, ENOTDIR } from '../../core/index.ts';
import { close, duplicateTo, O_APPEND, O_DIRECTORY, O_RDONLY, S_IFDIR, S_IFREG } from '../../sys/index.ts';
import type { Request } from '../file-system.ts';
import type { Context } from './context.ts';
import { HANDLE_APPEND, HANDLE_DIRECTORY } from './handles.ts';
import { openFile } from './open-flags.ts';

/** One at a time: what `acquire` gave is valid until `release`. */
export class OpenFile {
  readonly #context: Context;
  /** What is pinned. */
  #handle = 0;
  #slot = 0;
  /** A descriptor for this request only. */
  #temporary = -1;

  constructor(context: Context) {
    this.#context = context;
  }

  /** Whether the descriptor may be one that appends. */
  get mayAppend(): boolean {
    return this.#handle === 0 || (this.#context.handles.flags(this.#handle) & HANDLE_APPEND) !== 0;
  }

  /** The slot of the handle; 0 where the guest has none. */
  get handle(): number {
    return this.#handle;
  }

  /**
   * The descriptor of the handle at an offset of the request's fixed part, or a negative errno. A guest that was told
   * not to open sends 0 for it: then the inode of the node id is opened for this request, as `flags` say (O_RDONLY or
   * O_RDWR, with O_DIRECTORY for a directory, with O_APPEND if a file that can only be appended to will do, and
   * with what the guest's own flags are to do on the host). A file that is read stays open while the guest knows it.
   */
  acquire(request: Request, offset: number, nodeidLo: number, nodeidHi: number, flags: number): number {
    const { handles, policy } = this.#context;
    const { view } = request.scratch;
    const at = request.body + offset;
    const lo = view.getInt32(at, true);
    const hi = view.getInt32(at + 4, true);
    const isDirectory = (flags & O_DIRECTORY) !== 0;
    if (lo === 0 && hi === 0 && (isDirectory ? policy.noOpendir : policy.noOpen)) {
      return this.#acquireInode(nodeidLo, nodeidHi, flags);
    }
    const handle = handles.pin(lo, hi);
    if (handle === 0) return -EBADF;
    if (((handles.flags(handle) & HANDLE_DIRECTORY) !== 0) !== isDirectory) {
      handles.unpin(handle);
      return -EBADF;
    }
    this.#handle = handle;
    return handles.fd(handle);
  }

  release(): void {
    const { handles, inodes } = this.#context;
    if (this.#handle !== 0) handles.unpin(this.#handle);
    if (this.#temporary >= 0) close(this.#temporary);
    if (this.#slot !== 0) inodes.unpin(this.#slot);
    this.#handle = 0;
    this.#temporary = -1;
    this.#slot = 0;
  }

  #acquireInode(nodeidLo: number, nodeidHi: number, flags: number): number {
    const { lookups, inodes } = this.#context;
    const slot = lookups.pin(nodeidLo, nodeidHi);
    if (slot === 0) return -EBADF;
    const fd = this.#openInode(slot, flags);
    if (fd < 0) inodes.unpin(slot);
    else this.#slot = slot;
    return fd;
  }

  #openInode(slot: number, flags: number): number {
    const { inodes } = this.#context;
    const isDirectory = (flags & O_DIRECTORY) !== 0;
    const type = inodes.type(slot);
    if (isDirectory && type !== S_IFDIR >> 12) return -ENOTDIR;
    if (!isDirectory && type !== S_IFREG >> 12) return type === S_IFDIR >> 12 ? -EISDIR : -EBADF;
    const fd = inodes.fd(slot);
    if (fd < 0) return fd;
    if (flags === O_RDONLY) return this.#makeReadable(slot, fd);
    // A directory has a position of its own; a file that stayed open for writing could not be executed on the host.
    this.#temporary = openFile(this.#context, fd, flags & ~O_APPEND, flags);
    return this.#temporary;
  }

  /** Has a file's O_PATH descriptor replaced by one for reading under the same number, so that nobody need be told. */
  #makeReadable(slot: number, fd: number): number {
    const { inodes } = this.#context;
    if (inodes.isReadable(slot)) return fd;
    const opened = this.#context.reopen(fd, O_RDONLY);
    if (opened < 0) return opened;
    const result = duplicateTo(opened, fd);
    close(opened);
    if (result < 0) return result;
    inodes.markReadable(slot);
    return fd;
  }
}
