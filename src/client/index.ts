/** The guest's side: opens the share of any virtio-fs daemon without a VM. */
export { DAX_RANGE_BYTES, DaxFile, type DaxOps, type DaxRange, DaxRanges } from './dax.ts';
export { ShareError } from './error.ts';
export { FileHandle } from './file-handle.ts';
export { Share } from './share.ts';
export { ShareSync } from './share-sync.ts';
export { all, finished, join, Latch, promised, Running, start, type Task } from './task.ts';
export type {
  Attributes,
  Changes,
  DirectoryEntry,
  FileLock,
  FileSystemNumbers,
  OpenDirectory,
  OpenFile,
  SharePath,
  Volume,
} from './volume.ts';
export type { WindowPlace } from './window-requests.ts';
export { type WindowOptions, WindowThread } from './window-thread.ts';
