/** What processes weigh: /proc/PID/smaps_rollup. */
import { readFileSync } from 'node:fs';

export interface Memory {
  readonly rssBytes: number;
  /** A page that several processes map counts in parts. */
  readonly pssBytes: number;
  /** The same without shared memory: guests' memory is not the daemon's, whoever has touched it. */
  readonly ownBytes: number;
}

const KIB = 1024;

/** Reads the text of an smaps_rollup. */
export function parseRollup(text: string): Memory {
  const bytes = (field: string): number => {
    const found = text.match(new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm'));
    if (found === null) throw new Error(`smaps_rollup has no ${field}: it takes Linux 5.9\n${text}`);
    return Number(found[1]) * KIB;
  };
  const pssBytes = bytes('Pss');
  return { rssBytes: bytes('Rss'), pssBytes, ownBytes: pssBytes - bytes('Pss_Shmem') };
}

/** All of them together. */
export function memoryOf(processes: readonly { readonly pid: number }[]): Memory {
  return processes
    .map(({ pid }) => parseRollup(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')))
    .reduce((sum, each) => ({
      rssBytes: sum.rssBytes + each.rssBytes,
      pssBytes: sum.pssBytes + each.pssBytes,
      ownBytes: sum.ownBytes + each.ownBytes,
    }));
}
