/**
 * What DAX gives: `npm run bench:dax -- [--quick] [--rounds N] [--cache MODE] [--peer virtiofsd=PROGRAM]`. The same
 * files through windows of two sizes, without one, by Rust virtiofsd and by QEMU's 9p server, on one kernel: how fast
 * fio reads mapped files with nothing in the guest's caches and all in the host's, how much the guest's page cache
 * takes, how many messages the daemon gets. Contestants take turns in each round; medians of the rounds, and of their
 * ratios to 9p in the same round.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { progressTo } from '../lab/index.ts';
import { type Contestant, Contest } from './contest.ts';
import { whenClosed } from './daemon-report.ts';
import { findPeer } from './peer.ts';
import type { Plan } from './plans.ts';
import { median } from './report/statistics.ts';
import { runFio } from './suites/fio.ts';

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    cache: { type: 'string', default: 'always' },
    peer: { type: 'string' },
  },
});
const [peer, program] = values.peer?.split('=') ?? [];
if (values.peer !== undefined && (peer !== 'virtiofsd' || !program)) {
  throw new Error(`--peer ${values.peer}: it takes virtiofsd=PROGRAM`);
}

const MIB = 2 ** 20;
const ROUNDS = Number(values.rounds ?? (values.quick ? 1 : 5));
const READ_MIB = values.quick ? 16 : 64;
const READ_FILES = ['read0', 'read1', 'read2', 'read3'];
const CACHED_MIB = values.quick ? 64 : 256;
/** Of the smaller window; the larger one has room for everything. */
const WINDOW_MIB = 32;
const FITS_MIB = WINDOW_MIB / 2;
const LARGER_MIB = WINDOW_MIB * 4;
const RANDOM_MIB = values.quick ? 2 : 8;
const BASE = '9p, cache=mmap';
const LIMIT_MS = 300_000;
const BLOCK_BYTES = 4096;
const DROP_CACHES = 'sync; echo 3 > /proc/sys/vm/drop_caches';

/** What is measured in one go: a value for each title, or none where a contestant does not tell. */
interface Measure {
  readonly titles: readonly string[];
  readonly run: (contestant: Contestant) => Promise<readonly (number | undefined)[]>;
}

/** Files that nobody in the guest has in a cache, mapped and read 4 KiB at a time; a second. */
async function readsPerSecond(
  { vm, mountPoint }: Contestant,
  rw: 'read' | 'randread',
  files: readonly string[],
  sizes: { readonly fileBytes: number; readonly jobBytes?: number },
): Promise<number> {
  await vm.sh(DROP_CACHES);
  const job = { engine: 'mmap', rw, blockBytes: BLOCK_BYTES, files, ...sizes } as const;
  const { operations, seconds } = await runFio({ vm, folder: mountPoint }, job);
  return operations / seconds;
}

function sequential(title: string, files: readonly string[]): Measure {
  const run = async (contestant: Contestant): Promise<number[]> => {
    const reads = await readsPerSecond(contestant, 'read', files, { fileBytes: READ_MIB * MIB });
    return [(reads * BLOCK_BYTES) / MIB];
  };
  return { titles: [`mmap read, ${title} of ${READ_MIB} MiB: MiB/s`], run };
}

function random(file: string, sizeMiB: number, readMiB: number): Measure {
  const sizes = { fileBytes: sizeMiB * MIB, jobBytes: readMiB * MIB };
  const run = async (contestant: Contestant): Promise<number[]> => [
    await readsPerSecond(contestant, 'randread', [file], sizes),
  ];
  return { titles: [`mmap random read, ${readMiB} of ${sizeMiB} MiB: reads of 4 KiB/s`], run };
}

async function cached({ vm, mountPoint, plan, daemon: any }: Contestant): Promise<(number | undefined)[]> {
  // The others do not say how much they were asked.
  const daemon = plan.kind === 'virtiofs' ? any : undefined;
  const cachedMiB = async (): Promise<number> =>
    Number(await vm.sh("sed -n 's/^Cached: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) / 1024;
  const read = async (): Promise<number> => {
    const before = daemon === undefined ? 0 : await whenClosed(daemon);
    await vm.sh(`cat ${mountPoint}/cached > /dev/null`, { timeoutMs: LIMIT_MS });
    return daemon === undefined ? Number.NaN : (await whenClosed(daemon)) - before;
  };
  await vm.sh(DROP_CACHES);
  const before = await cachedMiB();
  const first = await read();
  return [(await cachedMiB()) - before, first, await read()];
}

const MEASURES: readonly Measure[] = [
  sequential('1 file', READ_FILES.slice(0, 1)),
  sequential('4 files', READ_FILES),
  random('fits', FITS_MIB, RANDOM_MIB),
  random('larger', LARGER_MIB, RANDOM_MIB),
  {
    titles: [
      `reading ${CACHED_MIB} MiB: the guest's page cache grows by MiB`,
      `reading ${CACHED_MIB} MiB: messages to the daemon`,
      `reading ${CACHED_MIB} MiB again: messages to the daemon`,
    ],
    run: cached,
  },
];

/** A number for each round, by title and contestant. */
type Results = Map<string, Map<string, number[]>>;

function print(results: Results, contestants: readonly Contestant[]): void {
  const line = (label: string, cells: readonly string[]): void =>
    console.log([label.padEnd(34), ...cells.map((cell) => cell.padStart(10))].join(''));
  for (const [title, rows] of results) {
    console.log(`\n${title}`);
    line('', ['median', 'least', 'most', ...(title.endsWith('/s') ? ['times 9p'] : [])]);
    const base = rows.get(BASE) ?? [];
    for (const {
      plan: { label },
    } of contestants) {
      const numbers = rows.get(label);
      if (numbers === undefined) continue;
      const cells = [median(numbers), Math.min(...numbers), Math.max(...numbers)].map((each) => `${Math.round(each)}`);
      const ratio = median(numbers.map((number, round) => number / base[round]));
      line(label, title.endsWith('/s') ? [...cells, ratio.toFixed(2)] : cells);
    }
  }
}

const files = new Map([
  ...READ_FILES.map((file) => [file, READ_MIB * MIB] as const),
  ['fits', FITS_MIB * MIB],
  ['larger', LARGER_MIB * MIB],
  ['cached', CACHED_MIB * MIB],
]);

const common = { cache: values.cache, writeback: false };
const PLANS: readonly Plan[] = [
  ...['512M', `${WINDOW_MIB}M`].map((daxWindow) => {
    const label = `virtiofs, DAX window of ${daxWindow}`;
    return { ...common, id: `dax${daxWindow}`, label, kind: 'virtiofs', daxWindow } as const;
  }),
  { ...common, id: 'ours', label: 'virtiofs, no DAX', kind: 'virtiofs' },
  { ...common, id: 'theirs', label: 'Rust virtiofsd', kind: 'virtiofsd' },
  ...['mmap', 'loose'].map((mode) => {
    return { id: mode, label: `9p, cache=${mode}`, kind: '9p', cache: mode, writeback: false } as const;
  }),
];

function fill(folder: string): void {
  for (const [name, sizeBytes] of files) {
    const fd = openSync(join(folder, name), 'w');
    for (let at = 0; at < sizeBytes; at += MIB) writeSync(fd, randomBytes(MIB));
    closeSync(fd);
  }
}

const progress = progressTo(process.stderr);
const contest = await Contest.open({
  plans: PLANS,
  peer: await findPeer(program, progress),
  packages: ['fio'],
  fill,
  progress,
});
const results: Results = new Map();
try {
  const { contestants } = contest;
  const [{ vm }] = contestants;
  const count = contestants.length;
  console.log(`QEMU ${vm.qemuVersion} (${vm.accel}), Linux ${await vm.sh('uname -r')}, --cache ${values.cache}`);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const { titles, run } of MEASURES) {
      // Who comes first has the machine as the measure before has left it: each in turn.
      for (const contestant of [...contestants.slice(round % count), ...contestants.slice(0, round % count)]) {
        const numbers = await run(contestant);
        for (const [index, title] of titles.entries()) {
          const rows = results.getOrInsertComputed(title, () => new Map<string, number[]>());
          const number = numbers[index];
          if (number !== undefined && !Number.isNaN(number))
            rows.getOrInsertComputed(contestant.plan.label, () => []).push(number);
        }
      }
    }
    console.error(`round ${round + 1} of ${ROUNDS}`);
  }
} finally {
  await contest.close();
}
print(results, contest.contestants);
