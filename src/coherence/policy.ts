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
  /**
   * Attributes of a directory that come with its name hold for a tick of the guest's clock, and so for the rest of the
   * walk that asked for them, where they hold for no time else.
   */
  readonly walkAttributes: boolean;
  /** How long the guest may trust that a name does not exist, in milliseconds; 0: not at all. */
  readonly negativeTtlMs: number;
  /** The guest reads and writes past its page cache (FOPEN_DIRECT_IO). */
  readonly directIo: boolean;
  /** The page cache of a file lives on over close and open (FOPEN_KEEP_CACHE). */
  readonly keepCache: boolean;
  /** The page cache of a file lives on when the file is as it was at the open before. */
  readonly keepUnchanged: boolean;
  /** The guest need not say that it opens a file (ENOSYS to OPEN): it keeps what it has in any case. */
  readonly noOpen: boolean;
  /** The same for directories, whose listings it keeps then. */
  readonly noOpendir: boolean;
  /** A directory listing may be kept (FOPEN_CACHE_DIR). */
  readonly cacheDirectories: boolean;
  /** The target of a symlink may be kept (FUSE_CACHE_SYMLINKS). */
  readonly cacheSymlinks: boolean;
  /** Cached pages go when size or mtime turn out to have changed (FUSE_AUTO_INVAL_DATA). */
  readonly autoInvalidate: boolean;
  /** The guest collects writes in its page cache (FUSE_WRITEBACK_CACHE); never together with `directIo`. */
  readonly writeback: boolean;
  /** Shared mappings of files that are read and written directly (FUSE_DIRECT_IO_ALLOW_MMAP). */
  readonly allowMmap: boolean;
}

const DAY_MS = 86_400_000;

const NOTHING: Omit<CachePolicy, 'walkAttributes'> = {
  mode: 'never',
  entryTtlMs: 0,
  attributeTtlMs: 0,
  negativeTtlMs: 0,
  directIo: true,
  keepCache: false,
  keepUnchanged: false,
  noOpen: false,
  noOpendir: false,
  cacheDirectories: false,
  cacheSymlinks: false,
  autoInvalidate: false,
  writeback: false,
  allowMmap: false,
};

const POLICIES: Record<CacheMode, Omit<CachePolicy, 'walkAttributes'>> = {
  never: NOTHING,
  // Names and attributes as with `always`, data as with `never`.
  metadata: {
    ...NOTHING,
    mode: 'metadata',
    entryTtlMs: DAY_MS,
    attributeTtlMs: DAY_MS,
    noOpendir: true,
    cacheDirectories: true,
    cacheSymlinks: true,
  },
  // Close-to-open: names and attributes for a second, pages until the next open finds another mtime or size.
  auto: {
    ...NOTHING,
    mode: 'auto',
    entryTtlMs: 1000,
    attributeTtlMs: 1000,
    directIo: false,
    keepUnchanged: true,
    autoInvalidate: true,
  },
  always: {
    ...NOTHING,
    mode: 'always',
    entryTtlMs: DAY_MS,
    attributeTtlMs: DAY_MS,
    directIo: false,
    keepCache: true,
    noOpen: true,
    noOpendir: true,
    cacheDirectories: true,
    cacheSymlinks: true,
  },
};

/** The policy of a mode of `--cache`, with what is set by hand. */
export function cachePolicy(mode: CacheMode, byHand: Partial<Omit<CachePolicy, 'mode'>> = {}): CachePolicy {
  const given = Object.entries(byHand).filter(([, value]) => value !== undefined);
  // Whoever says 0 means 0.
  const walkAttributes = byHand.attributeTtlMs === undefined;
  const policy: CachePolicy = { ...POLICIES[mode], walkAttributes, ...Object.fromEntries(given) };
  // Without a cache for data nothing is collected. Linux would only stop to believe us about sizes and times.
  return { ...policy, writeback: policy.writeback && !policy.directIo };
}
