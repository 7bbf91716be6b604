/** The table of `npm run bench:client`. */
import type { ClientSample } from './client-contestant.ts';
import type { DaemonOnlyResult, DaemonOnlyRow } from './daemon-only.ts';
import { formatRatio, median, ratioOf, short } from './report/statistics.ts';

const MIB = 2 ** 20;

type Get = (sample: ClientSample) => number;

const perSecond: Get = ({ operations, seconds }) => operations / seconds;
const daemonUs: Get = ({ operations, daemonCpuSeconds }) => (daemonCpuSeconds * 1e6) / operations;
const clientUs: Get = ({ operations, clientCpuSeconds }) => (clientCpuSeconds * 1e6) / operations;

/** Ours to the peer's in the same round. */
function ratio([ours, theirs]: readonly (readonly ClientSample[])[], of: Get): string {
  const all = ratioOf(ours.map(of), theirs.map(of));
  return all === undefined ? '-' : formatRatio(all);
}

function cells(row: DaemonOnlyRow, ids: readonly string[]): string[] {
  const [bytes, unit] = row.operationBytes === undefined ? [MIB, '/s'] : [row.operationBytes, ' MiB/s'];
  const samples = ids.map((id) => row.samples[id] ?? []);
  // Who failed has none; the reason is below the table.
  const of = (get: Get, after = ''): string[] =>
    samples.map((each) => (each.length === 0 ? 'failed' : `${short(median(each.map(get)))}${after}`));
  const rates = of((sample) => (perSecond(sample) * bytes) / MIB, unit);
  const cpu = of(daemonUs);
  const p99 = of((sample) => sample.p99Us);
  const latencies = of((sample) => sample.p50Us).map((p50, i) => `${p50}/${p99[i]}`);
  const client = of(clientUs);
  if (ids.length === 1) return [row.name, ...rates, ...cpu, ...latencies, ...client];
  return [row.name, ...rates, ratio(samples, perSecond), ...cpu, ratio(samples, daemonUs), ...latencies, ...client];
}

const ALONE = ['', 'rate', 'CPU us/op', 'p50/p99 us', 'client us/op'];
const BOTH = [
  ['', 'ours', 'peer', 'ours : peer', 'CPU us/op', 'peer', 'ours : peer'],
  ['p50/p99 us', 'peer', 'client us/op', 'peer'],
].flat();

/** Prints medians of the rounds. CPU: of the daemon, all its threads; client: of ours, asking that daemon. */
export function printTable({ rows, contestants }: DaemonOnlyResult): void {
  const ids = contestants.map(({ id }) => id);
  const title = ids.length === 1 ? ALONE : BOTH;
  const table = [title, ...rows.map((row) => cells(row, ids))];
  const widths = title.map((_, i) => Math.max(...table.map((line) => line[i].length)));
  for (const line of table) {
    console.log(line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i] + 2))).join(''));
  }
  if (title === BOTH) {
    console.log('ratios: the median and the middle half of the rounds; ~: nobody is clearly ahead, or too few rounds');
  }
  for (const { name, failures } of rows) {
    for (const [id, why] of Object.entries(failures)) console.log(`${name}, ${id}: ${why}`);
  }
}
