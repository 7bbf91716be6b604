import type { DaxChoice } from './dax-files.ts';

/** What the guest may keep, in the numbers that replies carry. */
export interface ReplyPolicy {
  readonly entryTtlMs: number;
  readonly attributeTtlMs: number;
  /** See `src/coherence` CachePolicy. */
  readonly walkAttributes: boolean;
  /** 0: a name that does not exist is an error, and nothing to remember. */
  readonly negativeTtlMs: number;
  /** The guest's page cache collects writes, and reads what it writes into: with any handle. */
  readonly writeback: boolean;
  /** OPEN and OPENDIR need not be sent: files are kept open, or opened, by inode. */
  readonly noOpen: boolean;
  readonly noOpendir: boolean;
  /** Nothing is to be done at close(2). */
  readonly noFlush: boolean;
  /** The guest keeps a file's pages at an open when the file is as it was at the one before. */
  readonly keepUnchanged: boolean;
  /** FOPEN flags of files and of directories. */
  readonly fileFlags: number;
  readonly directoryFlags: number;
  /** Absent: there is no DAX window. */
  readonly dax: DaxChoice | undefined;
}
