/**
 * What DAX gives: `npm run bench:dax -- [--quick] [--rounds N] [--cache MODE] [--peer virtiofsd=PROGRAM]`. The same
 * files through windows of two sizes, without one, by Rust virtiofsd and by QEMU's 9p server, on one kernel: how fast
 * fio reads mapped files with nothing in the guest's caches and all in the host's, how much the guest's page cache
 * takes, how many messages the daemon gets. Contestants take turns in each round; medians of the rounds, and of their
 * ratios to 9p in the same round.
 */
import { parseArgs } from 'node:util';

import { type Contestant, Contest } from './contestants.ts';
import { fioMmap } from './fio.ts';
import { whenClosed } from './daemon-report.ts';

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

/** What is measured in one go: a value for each title, or none where a contestant does not tell. */
interface Measure {
  readonly titles: readonly string[];
  readonly run: (contestant: Contestant) => Promise<readonly (number | undefined)[]>;
}

function sequential(title: string, files: readonly string[]): Measure {
  const run = async ({ vm, mountPoint }: Contestant): Promise<number[]> => {
    const options = { rw: 'read', files, folder: mountPoint, sizeBytes: READ_MIB * MIB } as const;
    return [(await fioMmap(vm, options)).bytesPerSecond / MIB];
  };
  return { titles: [`mmap read, ${title} of ${READ_MIB} MiB: MiB/s`], run };
}

function random(file: string, sizeMiB: number, readMiB: number): Measure {
  const run = async ({ vm, mountPoint }: Contestant): Promise<number[]> => {
    const sizes = { sizeBytes: sizeMiB * MIB, readBytes: readMiB * MIB };
    return [(await fioMmap(vm, { rw: 'randread', files: [file], folder: mountPoint, ...sizes })).iops];
  };
  return { titles: [`mmap random read, ${readMiB} of ${sizeMiB} MiB: reads of 4 KiB/s`], run };
}

async function cached({ vm, mountPoint, daemon }: Contestant): Promise<(number | undefined)[]> {
  const cachedMiB = async (): Promise<number> =>
    Number(await vm.sh("sed -n 's/^Cached: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")) / 1024;
  const read = async (): Promise<number> => {
    const before = daemon === undefined ? 0 : await whenClosed(daemon);
    await vm.sh(`cat ${mountPoint}/cached > /dev/null`, { timeoutMs: LIMIT_MS });
    return daemon === undefined ? Number.NaN : (await whenClosed(daemon)) - before;
  };
  await vm.sh('sync; echo 3 > /proc/sys/vm/drop_caches');
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

function medianOf(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1];
}

/** A number for each round, by title and contestant. */
type Results = Map<string, Map<string, number[]>>;

function print(results: Results, contestants: readonly Contestant[]): void {
  const line = (label: string, cells: readonly string[]): void =>
    console.log([label.padEnd(34), ...cells.map((cell) => cell.padStart(10))].join(''));
  for (const [title, rows] of results) {
    console.log(`\n${title}`);
    line('', ['median', 'least', 'most', ...(title.endsWith('/s') ? ['times 9p'] : [])]);
    const base = rows.get(BASE) ?? [];
    for (const { label } of contestants) {
      const numbers = rows.get(label);
      if (numbers === undefined) continue;
      const cells = [medianOf(numbers), Math.min(...numbers), Math.max(...numbers)].map(
        (each) => `${Math.round(each)}`,
      );
      const ratio = medianOf(numbers.map((number, round) => number / base[round]));
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
const windows = ['512M', `${WINDOW_MIB}M`];
const contest = await Contest.open({ files, windows, cache: values.cache, virtiofsd: program });
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
            rows.getOrInsertComputed(contestant.label, () => []).push(number);
        }
      }
    }
    console.error(`round ${round + 1} of ${ROUNDS}`);
  }
} finally {
  await contest.close();
}
print(results, contest.contestants);
