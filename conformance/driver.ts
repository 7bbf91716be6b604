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
}

interface Rule {
  readonly topic: string;
  readonly sentence: string;
  readonly holds: (mode: Mode) => boolean;
  readonly why: string;
}

export const DRIVER_RULES: readonly Rule[] = [
  {
    topic: 'times',
    sentence: 'read moves atime alone',
    // FUSE inodes are S_NOATIME to the guest: the host moves atime when it is asked to read. Here it never is, as the
    // guest has every byte of what it wrote itself, and keeps it beyond the next open.
    holds: ({ cache, writeback }) => cache === 'always' && writeback,
    why: "what is read from the guest's page cache moves no atime",
  },
];

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
