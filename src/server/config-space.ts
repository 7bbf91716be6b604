import { UserError } from '../core/index.ts';

const TAG_BYTES = 36;
const CONFIG_BYTES = 40;

/** struct virtio_fs_config (virtio 5.11.4): the tag, NUL-padded, and the number of request queues. Throws UserError. */
export function configSpace(tag: string, requestQueues: number): Uint8Array {
  const bytes = new TextEncoder().encode(tag);
  if (bytes.length === 0 || bytes.length > TAG_BYTES || tag.includes('\n')) {
    throw new UserError(
      `the tag '${tag}' has ${bytes.length} bytes; it must have 1 to ${TAG_BYTES}, and no line break`,
    );
  }
  const config = new Uint8Array(CONFIG_BYTES);
  config.set(bytes);
  new DataView(config.buffer).setUint32(TAG_BYTES, requestQueues, true);
  return config;
}
