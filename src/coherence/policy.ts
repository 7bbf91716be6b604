/** What a guest may keep, by cache mode. */

export const CACHE_MODES = ['never', 'metadata', 'auto', 'always'] as const;
export type CacheMode = (typeof CACHE_MODES)[number];

/** Plain numbers, so that it crosses threads as it is. */
export interface CachePolicy {
  readonly mode: CacheMode;
  /** How long the guest may trust a name, in milliseconds. */
  readonly entryTtlMs: number;
  /** How long the guest may trust attributes, in milliseconds. */
  readonly attributeTtlMs: number;
  /** How long the guest may trust that a name does not exist, in milliseconds; 0: not at all. */
  readonly negativeTtlMs: number;
  /** The guest reads and writes past its page cache (FOPEN_DIRECT_IO). */
  readonly directIo: boolean;
  /** The page cache of a file lives on over close and open (FOPEN_KEEP_CACHE). */
  readonly keepCache: boolean;
  /** A directory listing may be kept (FOPEN_CACHE_DIR). */
  readonly cacheDirectories: boolean;
  /** The target of a symlink may be kept (FUSE_CACHE_SYMLINKS). */
  readonly cacheSymlinks: boolean;
  /** Cached pages go when size or mtime turn out to have changed (FUSE_AUTO_INVAL_DATA). */
  readonly autoInvalidate: boolean;
  /** The guest collects writes in its page cache (FUSE_WRITEBACK_CACHE). */
  readonly writeback: boolean;
  /** Shared mappings of files that are read and written directly (FUSE_DIRECT_IO_ALLOW_MMAP). */
  readonly allowMmap: boolean;
}

const DAY_MS = 86_400_000;

const NOTHING: CachePolicy = {
  mode: 'never',
  entryTtlMs: 0,
  attributeTtlMs: 0,
  negativeTtlMs: 0,
  directIo: true,
  keepCache: false,
  cacheDirectories: false,
  cacheSymlinks: false,
  autoInvalidate: false,
  writeback: false,
  allowMmap: false,
};

const POLICIES: Record<CacheMode, CachePolicy> = {
  never: NOTHING,
  // Names and attributes as with `always`, data as with `never`.
  metadata: { ...NOTHING, mode: 'metadata', entryTtlMs: DAY_MS, attributeTtlMs: DAY_MS, cacheSymlinks: true },
  // Close-to-open: names and attributes for a second, pages until the next open finds another mtime or size.
  auto: { ...NOTHING, mode: 'auto', entryTtlMs: 1000, attributeTtlMs: 1000, directIo: false, autoInvalidate: true },
  always: {
    ...NOTHING,
    mode: 'always',
    entryTtlMs: DAY_MS,
    attributeTtlMs: DAY_MS,
    directIo: false,
    keepCache: true,
    cacheDirectories: true,
    cacheSymlinks: true,
  },
};

/** The policy of a mode of `--cache`, with what is set by hand. */
export function cachePolicy(mode: CacheMode, byHand: Partial<Omit<CachePolicy, 'mode'>> = {}): CachePolicy {
  const given = Object.entries(byHand).filter(([, value]) => value !== undefined);
  return { ...POLICIES[mode], ...Object.fromEntries(given) };
}
