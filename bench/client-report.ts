/** The table of `npm run bench:client`. */
import type { Sample } from './client-contestant.ts';
import type { Row } from './client-rows.ts';
import { formatRatio, median, ratioOf, short } from './report/statistics.ts';

export interface Result {
  readonly row: Row;
  /** By round, then by contestant: ours, and the peer where there is one. */
  readonly samples: (readonly Sample[])[];
}

const MIB = 2 ** 20;

/** Ours to the peer's in the same round. */
function ratio(samples: readonly (readonly Sample[])[], of: (sample: Sample) => number): string {
  const all = ratioOf(
    samples.map(([ours]) => of(ours)),
    samples.map(([, theirs]) => of(theirs)),
  );
  return all === undefined ? '-' : formatRatio(all);
}

function cells({ row, samples }: Result): string[] {
  const [bytes, unit] = row.bytes === undefined ? [MIB, '/s'] : [row.bytes, ' MiB/s'];
  const count = samples[0].length;
  const of = (get: (sample: Sample) => number): number[] =>
    Array.from({ length: count }, (_, i) => median(samples.map((sample) => get(sample[i]))));
  const rates = of(({ perSecond }) => (perSecond * bytes) / MIB).map((each) => `${short(each)}${unit}`);
  const cpu = of(({ daemonUs }) => daemonUs).map(short);
  const p50 = of(({ p50Us }) => p50Us).map(short);
  const p99 = of(({ p99Us }) => p99Us).map(short);
  const client = of(({ clientUs }) => clientUs).map(short);
  if (count === 1) return [row.name, ...rates, ...cpu, `${p50[0]}/${p99[0]}`, ...client];
  const rate = ratio(samples, ({ perSecond }) => perSecond);
  const daemon = ratio(samples, ({ daemonUs }) => daemonUs);
  const latencies = p50.map((each, i) => `${each}/${p99[i]}`);
  return [row.name, ...rates, rate, ...cpu, daemon, ...latencies, ...client];
}

const ALONE = ['', 'rate', 'CPU us/op', 'p50/p99 us', 'client us/op'];
const BOTH = [
  ['', 'ours', 'peer', 'ours : peer', 'CPU us/op', 'peer', 'ours : peer'],
  ['p50/p99 us', 'peer', 'client us/op', 'peer'],
].flat();

/** Prints medians of the rounds. CPU: of the daemon, all its threads; client: of ours, asking that daemon. */
export function printTable(results: readonly Result[]): void {
  const title = results[0].samples[0].length === 1 ? ALONE : BOTH;
  const table = [title, ...results.map(cells)];
  const widths = title.map((_, i) => Math.max(...table.map((line) => line[i].length)));
  for (const line of table) {
    console.log(line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i] + 2))).join(''));
  }
  if (title === BOTH)
    console.log('ratios: the median and the middle half of the rounds; ~: nobody is clearly ahead, or too few rounds');
}
