export { Chain } from './chain.ts';
export { ChainWalker } from './chain-walker.ts';
export { DeviceQueue, POP_BAD_CHAIN, POP_BROKEN, POP_CHAIN, POP_NOTHING, type QueueStart } from './device-queue.ts';
export { DIRECT, DriverQueue, type AddOptions, type DriverQueueOptions, type GuestBuffer } from './driver-queue.ts';
export { QueueError, type QueueErrorCode } from './errors.ts';
export { FS_TAG_BYTES, FsConfig } from './fs-config.ts';
export { type Exchange, RingWatch, type RingWatchOptions, type RingWatchStart } from './ring-watch.ts';
export {
  AVAILABLE_F_NO_INTERRUPT,
  DESCRIPTOR_BYTES,
  DESCRIPTOR_F_INDIRECT,
  DESCRIPTOR_F_NEXT,
  DESCRIPTOR_F_WRITE,
  INDIRECT_MAX,
  USED_F_NO_NOTIFY,
  availableRingBytes,
  mapDescriptors,
  descriptorTableBytes,
  usedRingBytes,
} from './layout.ts';
