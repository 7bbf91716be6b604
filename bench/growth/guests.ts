/** Many guests, each with a share of our one process, and one of a Rust virtiofsd of its own. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { boot, type Progress, type Vm } from '../../lab/index.ts';
import { Daemons } from './daemons.ts';
import { memoryOf } from './memory.ts';
import type { GrowthFigure, GrowthPoint, GrowthSeries } from './series.ts';

const GUEST_MEMORY_MIB = 192;
const BOOT_LIMIT_MS = 180_000;
const RUN_LIMIT_MS = 120_000;
const TIME_LIMIT_MS = 900_000;
const FILES = 256;
const FILE_BYTES = 4096;
const ROUNDS = 4;

export interface GuestsOptions {
  /** An empty folder. */
  readonly folder: string;
  readonly counts: readonly number[];
  readonly peer?: readonly string[];
  readonly progress: Progress;
  readonly say: (what: string) => void;
}

/** Reads all files, with nothing in the guest's caches, and prints the seconds it took. */
function script(mountPoint: string): string {
  return `begin=$(cut -d' ' -f1 /proc/uptime)
    for round in $(seq ${ROUNDS}); do
      echo 3 > /proc/sys/vm/drop_caches
      cat ${mountPoint}/* > /dev/null
    done
    echo $begin $(cut -d' ' -f1 /proc/uptime)`;
}

/** Files a second that all guests together read, all at once. */
async function rateOf(vms: readonly Vm[], mountPoint: string): Promise<number> {
  const rates = await Promise.all(
    vms.map(async (vm) => {
      const [begin, end] = (await vm.sh(script(mountPoint), { timeoutMs: RUN_LIMIT_MS })).trim().split(' ').map(Number);
      return (ROUNDS * FILES) / (end - begin);
    }),
  );
  return rates.reduce((sum, rate) => sum + rate, 0);
}

async function figureOf(vms: readonly Vm[], mountPoint: string, daemons: Daemons): Promise<GrowthFigure> {
  const rates = { 'cat 4 KiB': await rateOf(vms, mountPoint) };
  return { processes: daemons.processes.length, memory: memoryOf(daemons.processes), rates };
}

async function pointOf(share: string, count: number, options: GuestsOptions): Promise<GrowthPoint> {
  const { folder, peer, progress, say } = options;
  await using ours = await Daemons.start(share, folder, count);
  await using theirs = await Daemons.start(share, folder, peer === undefined ? 0 : count, peer);
  await using vms = new AsyncDisposableStack();
  const booted: Vm[] = [];
  for (let i = 0; i < count; i += 1) {
    say(`${count} guests: guest ${i + 1}`);
    const shares = [{ socketPath: ours.socketPaths[i], tag: 'ours', mountPoint: '/mnt/ours' }];
    if (peer !== undefined)
      shares.push({ socketPath: theirs.socketPaths[i], tag: 'theirs', mountPoint: '/mnt/theirs' });
    const limits = { bootLimitMs: BOOT_LIMIT_MS, timeLimitMs: TIME_LIMIT_MS };
    booted.push(vms.use(await boot({ memoryMiB: GUEST_MEMORY_MIB, shares, ...limits, progress })));
  }
  say(`${count} guests: reading`);
  return {
    count,
    ours: await figureOf(booted, '/mnt/ours', ours),
    theirs: peer && (await figureOf(booted, '/mnt/theirs', theirs)),
  };
}

export async function growGuests(options: GuestsOptions): Promise<GrowthSeries> {
  const share = join(options.folder, 'share');
  mkdirSync(share);
  for (let i = 0; i < FILES; i += 1) writeFileSync(join(share, `${i}`), Buffer.alloc(FILE_BYTES, 7));
  const points: GrowthPoint[] = [];
  for (const count of options.counts) points.push(await pointOf(share, count, options));
  return { of: 'guests', points };
}
