/** Limits that several rooms share. */

/** Host page, and the FUSE page of a guest (fs/fuse counts in 4 KiB pages on x86-64 and most arm64). */
export const PAGE_BYTES = 4096;
/** include/uapi/linux/limits.h. Bytes without the NUL. */
export const NAME_MAX = 255;
/** Bytes with the NUL. */
export const PATH_MAX = 4096;
/** FUSE max_pages: 1 MiB of payload in a request, the default bound of a Linux guest (fs.fuse.max_pages_limit). */
export const MAX_PAGES = 256;
export const MAX_PAYLOAD_BYTES = MAX_PAGES * PAGE_BYTES;
/** Request queues of one device, besides the hiprio queue. */
export const MAX_REQUEST_QUEUES = 64;
/** The largest split ring (virtio 2.7: queue size is a power of two up to 32768). */
export const MAX_QUEUE_SIZE = 32768;
