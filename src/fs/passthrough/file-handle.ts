/** File handles (name_to_handle_at(2)): how an inode is found again when its descriptor has been given up. */
import { ENOENT, ESTALE } from '../../core/index.ts';
import {
  AT_EMPTY_PATH,
  Arena,
  close,
  nameToHandleAt,
  O_CLOEXEC,
  O_NOFOLLOW,
  O_PATH,
  openByHandleAt,
  STATX_NLINK,
  statx,
} from '../../sys/index.ts';

/** ext4 takes 8 bytes, xfs and tmpfs 12, btrfs 20. File systems with longer ones keep their descriptors. */
const HANDLE_BYTES = 20;
/** A handle in a table: its length in the low byte of the first word (0: none), its type above; then its bytes. */
export const HANDLE_WORDS = 1 + HANDLE_BYTES / 4;

const arena = new Arena(4096);
const fileHandleAt = arena.reserve(8 + HANDLE_BYTES);
const fileHandle = arena.address + fileHandleAt;
// struct file_handle in words: its size, its type, its bytes.
const SIZE = fileHandleAt >> 2;
const TYPE = SIZE + 1;
const BYTES = SIZE + 2;
const mountId = arena.address + arena.reserve(4);
const empty = arena.address + arena.reserve(1);
const statAt = arena.reserve(256);
const stat = arena.address + statAt;
/** stx_nlink of a struct statx, in words. */
const NLINK = (statAt >> 2) + 4;

/**
 * Writes the handle of an open file to `words` at `at`; false where there is none that fits, and for a file without a
 * name left: only its descriptor keeps it alive.
 */
export function takeHandle(fd: number, words: Int32Array, at: number): boolean {
  const { u32 } = arena;
  if (statx(fd, empty, AT_EMPTY_PATH, STATX_NLINK, stat) < 0 || u32[NLINK] === 0) return false;
  u32[SIZE] = HANDLE_BYTES;
  if (nameToHandleAt(fd, empty, fileHandle, mountId, AT_EMPTY_PATH) < 0 || u32[TYPE] > 0xffffff) return false;
  words[at] = u32[SIZE] | (u32[TYPE] << 8);
  for (let i = 0; i < HANDLE_BYTES / 4; i += 1) words[at + 1 + i] = u32[BYTES + i];
  return true;
}

/** Opens (O_PATH) what a handle stands for. -ESTALE when it is gone from the host, as on NFS. */
export function openByHandle(mountFd: number, words: Int32Array, at: number): number {
  const { u32 } = arena;
  u32[SIZE] = words[at] & 0xff;
  u32[TYPE] = words[at] >>> 8;
  for (let i = 0; i < HANDLE_BYTES / 4; i += 1) u32[BYTES + i] = words[at + 1 + i];
  const fd = openByHandleAt(mountFd, fileHandle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
  return fd === -ENOENT ? -ESTALE : fd;
}

/** Whether files of this mount can be reopened by handle: the capability and the file system both count. */
export function canReopen(mountFd: number): boolean {
  const words = new Int32Array(HANDLE_WORDS);
  const fd = takeHandle(mountFd, words, 0) ? openByHandle(mountFd, words, 0) : -1;
  if (fd >= 0) close(fd);
  return fd >= 0;
}
