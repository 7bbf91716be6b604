/**
 * What Linux's virtio-fs driver does by itself, whatever a daemon answers. Each rule names the one sentence that cannot
 * hold then, and the modes of a share in which it is so.
 */
import type { Report } from './run.ts';

/** How a share is served. */
export interface Mode {
  /** --cache of `virtiofs serve`. */
  readonly cache: string;
  /** The guest collects writes. */
  readonly writeback: boolean;
  /** Mounted with dax=always. */
  readonly dax: boolean;
}

interface Rule {
  readonly topic: string;
  readonly sentence: string;
  readonly holds: (mode: Mode) => boolean;
  readonly why: string;
}

const LATE = 'a store through DAX moves the times of the host, of which the guest hears when its attributes expire';
const NEVER = 'with --writeback the guest keeps the times of files, and does not move them when it writes through DAX';
// fs/fuse/dax.c, fuse_dax_write_iter: no file_update_time, and what is known of a file stays valid.
const expires = ({ cache, writeback, dax }: Mode): boolean => dax && (cache !== 'never' || writeback);
const keeps = ({ writeback, dax }: Mode): boolean => dax && writeback;

export const DRIVER_RULES: readonly Rule[] = [
  {
    topic: 'times',
    sentence: 'read moves atime alone',
    // FUSE inodes are S_NOATIME to the guest: the host moves atime when it is asked to read. Here it never is, as the
    // guest maps the file, or has every byte of what it wrote itself, and keeps it beyond the next open.
    holds: ({ cache, writeback, dax }) => dax || (cache === 'always' && writeback),
    why: "what is read from the guest's page cache, or through DAX, moves no atime",
  },
  {
    topic: 'times',
    sentence: 'write moves mtime and ctime of the file, and nothing of its directory',
    holds: expires,
    why: LATE,
  },
  {
    topic: 'times',
    sentence: 'a write to a shared mapping moves mtime and ctime once it is synced',
    holds: expires,
    why: LATE,
  },
  { topic: 'times', sentence: 'pwrite moves mtime and ctime', holds: keeps, why: NEVER },
  { topic: 'times', sentence: 'a write moves the times of an unlinked file', holds: keeps, why: NEVER },
  { topic: 'times', sentence: 'a write after utimensat moves mtime on to now', holds: keeps, why: NEVER },
];

/** A report of a share by the client, which keeps as much as the daemon lets it, and a kernel would. */
export function throughClient(report: Report, mode: Pick<Mode, 'writeback' | 'dax'>): Report {
  return throughDriver(report, { ...mode, cache: 'always' });
}

/** A report of a share in a guest: what failed by a rule of the driver is not applicable. */
export function throughDriver(report: Report, mode: Mode): Report {
  const rules = DRIVER_RULES.filter(({ holds }) => holds(mode));
  const outcomes = report.outcomes.map((outcome) => {
    const rule = rules.find(({ topic, sentence }) => topic === outcome.topic && sentence === outcome.sentence);
    if (rule === undefined || outcome.verdict !== 'failed') return outcome;
    return { ...outcome, verdict: 'not applicable' as const, reason: rule.why };
  });
  return { ...report, outcomes };
}
