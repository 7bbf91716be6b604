import { UserError } from '../core/index.ts';
import { FS_TAG_BYTES, FsConfig } from '../virtio/index.ts';

/** Bytes of struct virtio_fs_config: the tag, NUL-padded, and the number of request queues. Throws UserError. */
export function configSpace(tag: string, requestQueues: number): Uint8Array {
  const bytes = new TextEncoder().encode(tag);
  if (bytes.length === 0 || bytes.length > FS_TAG_BYTES || tag.includes('\n')) {
    throw new UserError(
      `the tag '${tag}' has ${bytes.length} bytes; it must have 1 to ${FS_TAG_BYTES}, and no line break`,
    );
  }
  const config = new Uint8Array(FsConfig.bytes);
  config.set(bytes, FsConfig.offsets.tag);
  FsConfig.set.numRequestQueues(new DataView(config.buffer), 0, requestQueues);
  return config;
}
