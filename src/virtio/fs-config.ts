import { bytes, struct, u32 } from '../wire/index.ts';

/** Of a file system's tag in UTF-8; a shorter one is padded with NULs, one of this length has none behind it. */
export const FS_TAG_BYTES = 36;

/** struct virtio_fs_config (virtio 5.11.4); what follows is of a feature (VIRTIO_FS_F_NOTIFICATION) that nobody has. */
export const FsConfig = struct('virtio_fs_config', 40, { tag: bytes(FS_TAG_BYTES), numRequestQueues: u32 });
