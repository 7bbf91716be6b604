/** Many shares, and a client without a guest on each, all at work at once. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { connect, type Share } from '../../src/client/index.ts';
import { Daemons } from './daemons.ts';
import { memoryOf } from './memory.ts';
import type { GrowthFigure, GrowthPoint, GrowthSeries } from './series.ts';

const KIB = 2 ** 10;
const FILE_BYTES = 64 * KIB;
const BLOCK_BYTES = 4 * KIB;
const FILE = 'file';

export interface SharesOptions {
  /** An empty folder. */
  readonly folder: string;
  readonly counts: readonly number[];
  /** The command line of Rust virtiofsd; absent: it is not measured. */
  readonly peer?: readonly string[];
  /** Of each rate. */
  readonly seconds: number;
  readonly say: (what: string) => void;
}

/** How often a second all clients together do it, each one after another. */
async function rateOf(
  shares: readonly Share[],
  seconds: number,
  work: (share: Share) => Promise<void>,
): Promise<number> {
  const begin = performance.now();
  const end = begin + seconds * 1000;
  let done = 0;
  const lane = async (share: Share): Promise<void> => {
    do {
      await work(share);
      done += 1;
    } while (performance.now() < end);
  };
  await Promise.all(shares.map(lane));
  return (done * 1000) / (performance.now() - begin);
}

async function readRate(shares: readonly Share[], seconds: number): Promise<number> {
  const files = new Map(await Promise.all(shares.map(async (share) => [share, await share.open(FILE, 'r')] as const)));
  const into = new Uint8Array(BLOCK_BYTES);
  const rate = await rateOf(shares, seconds, async (share) => {
    const read = await files.get(share)?.read(into, 0, BLOCK_BYTES, 0);
    if (read?.bytesRead !== BLOCK_BYTES) throw new Error(`${read?.bytesRead} bytes were read, not ${BLOCK_BYTES}`);
  });
  for (const file of files.values()) await file.close();
  return rate;
}

async function figureOf(
  share: string,
  count: number,
  options: SharesOptions,
  peer?: readonly string[],
): Promise<GrowthFigure> {
  const { folder, seconds } = options;
  await using daemons = await Daemons.start(share, folder, count, peer);
  const shares: Share[] = [];
  try {
    for (const path of daemons.socketPaths) shares.push(await connect(path, { cache: 'none' }));
    const stat = await rateOf(shares, seconds, async (each) => void (await each.stat(FILE)));
    const rates = { stat, 'read 4 KiB': await readRate(shares, seconds) };
    return { processes: daemons.processes.length, memory: memoryOf(daemons.processes), rates };
  } finally {
    for (const each of shares) await each.close();
  }
}

export async function growShares(options: SharesOptions): Promise<GrowthSeries> {
  const share = join(options.folder, 'share');
  mkdirSync(share);
  writeFileSync(join(share, FILE), Buffer.alloc(FILE_BYTES, 7));
  const points: GrowthPoint[] = [];
  for (const count of options.counts) {
    options.say(`${count} shares`);
    const ours = await figureOf(share, count, options);
    const theirs = options.peer && (await figureOf(share, count, options, options.peer));
    points.push({ count, ours, theirs });
  }
  return { of: 'shares', points };
}
