/** What a guest may keep, by cache mode. */

export const CACHE_MODES = ['never', 'auto', 'always'] as const;
export type CacheMode = (typeof CACHE_MODES)[number];

/** Plain numbers, so that it crosses threads as it is. */
export interface CachePolicy {
  readonly mode: CacheMode;
  /** How long the guest may trust a name, in milliseconds. */
  readonly entryTtlMs: number;
  /** How long the guest may trust attributes, in milliseconds. */
  readonly attributeTtlMs: number;
  /** The guest reads and writes past its page cache (FOPEN_DIRECT_IO). */
  readonly directIo: boolean;
  /** The page cache of a file lives on over close and open (FOPEN_KEEP_CACHE). */
  readonly keepCache: boolean;
  /** A directory listing may be kept (FOPEN_CACHE_DIR). */
  readonly cacheDirectories: boolean;
}

const DAY_MS = 86_400_000;

const POLICIES: Record<CacheMode, CachePolicy> = {
  never: {
    mode: 'never',
    entryTtlMs: 0,
    attributeTtlMs: 0,
    directIo: true,
    keepCache: false,
    cacheDirectories: false,
  },
  // Close-to-open: names and attributes for a second, pages until the next open finds another mtime or size.
  auto: {
    mode: 'auto',
    entryTtlMs: 1000,
    attributeTtlMs: 1000,
    directIo: false,
    keepCache: false,
    cacheDirectories: false,
  },
  always: {
    mode: 'always',
    entryTtlMs: DAY_MS,
    attributeTtlMs: DAY_MS,
    directIo: false,
    keepCache: true,
    cacheDirectories: true,
  },
};

/** The policy of a mode of `--cache`. */
export function cachePolicy(mode: CacheMode): CachePolicy {
  return POLICIES[mode];
}
