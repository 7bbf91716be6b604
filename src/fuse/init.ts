/** FUSE_INIT: what both sides can do. Pure; cold. */
import { EPROTO, PAGE_BYTES } from '../core/index.ts';
import { COMPAT_INIT_IN_BYTES, DEFAULT_MAX_PAGES, INIT, INIT2, KERNEL_MINOR_VERSION, KERNEL_VERSION } from './flags.ts';
import { InitIn, InitOut } from './structs.ts';

/** Linux 4.16 (2018). Older guests have no virtio-fs (5.4, 7.31), so nothing is lost and old layouts need no code. */
const LEAST_MINOR = 27;

/** What the server is ready to do. */
export interface InitOffer {
  /** INIT flags that the server supports. INIT_EXT is implied by a `flags2` that is not 0. */
  readonly flags: number;
  /** INIT2 flags that the server supports. */
  readonly flags2: number;
  readonly maxReadaheadBytes: number;
  /** Largest WRITE. */
  readonly maxWriteBytes: number;
  /** Largest request in pages of 4096 bytes; counts where MAX_PAGES is agreed on. */
  readonly maxPages: number;
  /** Background requests (readahead, writeback, async direct I/O) that the guest may have in flight. */
  readonly maxBackground: number;
  /** From so many on the guest calls itself congested. */
  readonly congestionThreshold: number;
  /** Granularity of timestamps, 1 to 10^9. */
  readonly timeGranNs: number;
  /** log2 of the alignment of DAX mappings; counts where MAP_ALIGNMENT is agreed on. */
  readonly mapAlignment?: number;
  /** Counts where REQUEST_TIMEOUT is agreed on. */
  readonly requestTimeoutSeconds?: number;
}

/** What both sides agreed on. */
export interface InitAgreement {
  readonly status: 'agreed';
  readonly major: number;
  /** The smaller of both minors. */
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
  readonly maxReadaheadBytes: number;
  readonly maxWriteBytes: number;
  readonly maxPages: number;
  readonly maxBackground: number;
  readonly congestionThreshold: number;
  readonly timeGranNs: number;
  readonly mapAlignment: number;
  readonly requestTimeoutSeconds: number;
}

export type InitResult =
  | InitAgreement
  /** The guest speaks a later major version: it gets ours, and then sends another INIT. No session yet. */
  | { readonly status: 'retry'; readonly major: number; readonly minor: number }
  /** The reply is an error; `message` is for the log. */
  | { readonly status: 'refused'; readonly errno: number; readonly message: string };

/** Weighs the fuse_init_in of `bodyLength` bytes at `at` (at least the 8 of major and minor) against the offer. */
export function negotiate(view: DataView, at: number, bodyLength: number, offer: InitOffer): InitResult {
  if (bodyLength < InitIn.offsets.maxReadahead) return refused(`INIT has a body of ${bodyLength} bytes`);
  const major = InitIn.major(view, at);
  const minor = InitIn.minor(view, at);
  if (major > KERNEL_VERSION) return { status: 'retry', major: KERNEL_VERSION, minor: KERNEL_MINOR_VERSION };
  if (major < KERNEL_VERSION || minor < LEAST_MINOR) {
    return refused(`the guest speaks FUSE ${major}.${minor}; ${KERNEL_VERSION}.${LEAST_MINOR} or newer is needed`);
  }
  if (bodyLength < COMPAT_INIT_IN_BYTES) return refused(`INIT of FUSE 7.${minor} has a body of ${bodyLength} bytes`);
  return agree(view, at, bodyLength, offer);
}

function refused(message: string): InitResult {
  return { status: 'refused', errno: EPROTO, message };
}

function agree(view: DataView, at: number, bodyLength: number, offer: InitOffer): InitAgreement {
  const theirs = InitIn.flags(view, at);
  // flags2 counts only under INIT_EXT (fuse.h 7.36): before that its bytes are not there, or are nothing.
  const extended = (theirs & INIT.INIT_EXT) !== 0 && bodyLength >= InitIn.offsets.flags2 + 4;
  const flags2 = extended ? (InitIn.flags2(view, at) & offer.flags2 & INIT2.mask) >>> 0 : 0;
  const known = INIT.mask & ~(INIT.INIT_RESERVED | INIT.INIT_EXT);
  let flags = ((theirs & offer.flags & known) | (extended && offer.flags2 !== 0 ? INIT.INIT_EXT : 0)) >>> 0;
  // A guest that clears set-id bits itself does so in the SETATTR that truncates, which this flag has it not send.
  if ((flags & INIT.HANDLE_KILLPRIV_V2) === 0) flags = (flags & ~INIT.ATOMIC_O_TRUNC) >>> 0;
  const maxPages = (flags & INIT.MAX_PAGES) !== 0 ? offer.maxPages : DEFAULT_MAX_PAGES;
  return {
    status: 'agreed',
    major: KERNEL_VERSION,
    minor: Math.min(InitIn.minor(view, at), KERNEL_MINOR_VERSION),
    flags,
    flags2,
    maxReadaheadBytes: Math.min(InitIn.maxReadahead(view, at), offer.maxReadaheadBytes),
    maxWriteBytes: Math.max(PAGE_BYTES, Math.min(offer.maxWriteBytes, maxPages * PAGE_BYTES)),
    maxPages,
    maxBackground: offer.maxBackground,
    congestionThreshold: offer.congestionThreshold,
    timeGranNs: offer.timeGranNs,
    mapAlignment: (flags & INIT.MAP_ALIGNMENT) !== 0 ? (offer.mapAlignment ?? 0) : 0,
    requestTimeoutSeconds: (flags2 & INIT2.REQUEST_TIMEOUT) !== 0 ? (offer.requestTimeoutSeconds ?? 0) : 0,
  };
}

/** Writes the fuse_init_out of an agreement, or of 'retry', at `at`. Returns its length: always 64 since 7.23. */
export function encodeInit(view: DataView, at: number, result: Exclude<InitResult, { status: 'refused' }>): number {
  for (let i = 0; i < InitOut.bytes; i += 4) view.setUint32(at + i, 0, true);
  InitOut.set.major(view, at, result.major);
  InitOut.set.minor(view, at, result.minor);
  if (result.status === 'retry') return InitOut.bytes;
  InitOut.set.maxReadahead(view, at, result.maxReadaheadBytes);
  InitOut.set.flags(view, at, result.flags);
  InitOut.set.flags2(view, at, result.flags2);
  InitOut.set.maxBackground(view, at, result.maxBackground);
  InitOut.set.congestionThreshold(view, at, result.congestionThreshold);
  InitOut.set.maxWrite(view, at, result.maxWriteBytes);
  InitOut.set.timeGran(view, at, result.timeGranNs);
  InitOut.set.maxPages(view, at, result.maxPages);
  InitOut.set.mapAlignment(view, at, result.mapAlignment);
  InitOut.set.requestTimeout(view, at, result.requestTimeoutSeconds);
  return InitOut.bytes;
}
