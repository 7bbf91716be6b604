/**
 * Daemons under our client, without a guest: `npm run bench:client -- [--peer virtiofsd=PROGRAM] [--peer-args=ARGS]
 * [--rounds N] [--seconds S | --operations N] [--rows TEXT] [--cache MODE] [--share FOLDER] [--json FILE]`. This
 * project's daemon and Rust virtiofsd serve the same folder and are asked for the same in turn: how many operations a
 * second, how much CPU time of the daemon each takes, how long one takes. Medians of the rounds; a ratio is that of the
 * two in the same round.
 *
 * The client keeps nothing unless `--cache` says so, so that the daemon does all. It spins for a reply before it
 * sleeps: on two cores what both daemons do is seen without most of the cost of waking threads.
 */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { removeAtExit } from '../lab/index.ts';
import { Contestant, type Limits, type Sample } from './client-contestant.ts';
import { printTable, type Result } from './client-report.ts';
import { fillShare, ROWS } from './client-rows.ts';

const CACHES = ['none', 'auto', 'always'] as const;

const { values } = parseArgs({
  options: {
    peer: { type: 'string' },
    'peer-args': { type: 'string', default: '' },
    rounds: { type: 'string', default: '7' },
    seconds: { type: 'string' },
    operations: { type: 'string' },
    rows: { type: 'string', default: '' },
    cache: { type: 'string', default: 'none' },
    share: { type: 'string', default: tmpdir() },
    json: { type: 'string' },
  },
});
const [peer, program] = values.peer?.split('=') ?? [];
if (values.peer !== undefined && (peer !== 'virtiofsd' || !program)) {
  throw new Error(`--peer ${values.peer}: it takes virtiofsd=PROGRAM`);
}
const cache = CACHES.find((mode) => mode === values.cache);
if (cache === undefined) throw new Error(`--cache ${values.cache}: it takes ${CACHES.join(', ')}`);
const rows = ROWS.filter(({ name }) => name.includes(values.rows));
if (rows.length === 0) throw new Error(`--rows ${values.rows}: there is none of that name`);
const { operations } = values;
const limits: Limits = {
  seconds: Number(values.seconds ?? (operations === undefined ? 0.25 : Infinity)),
  operations: Number(operations ?? Infinity),
};
/** Not counted, before the first round: until JavaScript is compiled on both sides. */
const warmUp: Limits = { ...limits, seconds: Math.max(limits.seconds, 0.5) };
const rounds = Number(values.rounds);

const folder = mkdtempSync(join(values.share, 'virtiofs-client-'));
const remove = removeAtExit(folder);
const share = join(folder, 'share');
mkdirSync(share);
fillShare(share);

const contestants: Contestant[] = [];
const common = { share, client: { cache } };
const results: Result[] = rows.map((row) => ({ row, samples: [] }));
try {
  contestants.push(await Contestant.open({ ...common, label: 'ours', socketPath: join(folder, 'ours'), args: [] }));
  if (program !== undefined) {
    const args = ['--sandbox', 'none', ...values['peer-args'].split(' ').filter((each) => each !== '')];
    const theirs = { ...common, label: 'peer', socketPath: join(folder, 'peer'), command: [program], args };
    contestants.push(await Contestant.open(theirs));
  }
  for (const { row } of results) for (const each of contestants) each.measure(row, warmUp);
  for (let round = 0; round < rounds; round += 1) {
    for (const { row, samples } of results) {
      const sample: Sample[] = [];
      // Who comes first has the machine as the row before has left it: each in turn.
      const order = round % 2 === 0 ? contestants : contestants.toReversed();
      for (const each of order) sample[contestants.indexOf(each)] = each.measure(row, limits);
      samples.push(sample);
    }
    console.error(`round ${round + 1} of ${rounds}`);
  }
} finally {
  for (const each of contestants) await each.close();
  remove();
}
printTable(results);
if (values.json !== undefined) {
  const labels = contestants.map(({ label }) => label);
  const table = results.map(({ row, samples }) => ({ row: row.name, samples }));
  writeFileSync(values.json, `${JSON.stringify({ contestants: labels, cache, rows: table }, null, 1)}\n`);
}
