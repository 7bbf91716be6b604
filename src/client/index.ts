/** The guest's side: opens the share of any virtio-fs daemon without a VM. */
export { connect, connectSync, type ConnectOptions, openVolume, openVolumeSync } from './connect.ts';
export { ShareError } from './error.ts';
export { FileHandle } from './face/file-handle.ts';
export { ConnectionError } from './refusal.ts';
export type { MountedDirectory } from './mounted-directory.ts';
export type { MountedVolume } from './mounted-volume.ts';
export type { Credentials, Tracer } from './session.ts';
export { Share } from './face/share.ts';
export { ShareSync } from './face/share-sync.ts';
export { all, finished, join, Latch, promised, Running, start, type Task } from './task.ts';
export type { CacheMode } from './tree.ts';
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
export { shareProvider } from './face/vfs-provider.ts';
