import { MAX_PAGES, MAX_PAYLOAD_BYTES } from '../core/index.ts';
import { flags, type InitOffer } from '../fuse/index.ts';

const { INIT } = flags;

/** What we can do, whatever the cache mode. The guest's readahead is left to it. */
export function initOffer(options: { readonly autoInvalidate: boolean }): InitOffer {
  return {
    flags:
      INIT.ASYNC_READ |
      INIT.ATOMIC_O_TRUNC |
      INIT.BIG_WRITES |
      INIT.DO_READDIRPLUS |
      INIT.READDIRPLUS_AUTO |
      INIT.ASYNC_DIO |
      INIT.PARALLEL_DIROPS |
      INIT.MAX_PAGES |
      (options.autoInvalidate ? INIT.AUTO_INVAL_DATA : 0),
    flags2: 0,
    maxReadaheadBytes: MAX_PAYLOAD_BYTES,
    maxWriteBytes: MAX_PAYLOAD_BYTES,
    maxPages: MAX_PAGES,
    maxBackground: 64,
    congestionThreshold: 48,
    timeGranNs: 1,
  };
}
