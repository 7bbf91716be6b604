/**
 * Daemons under our client, without a guest: `npm run bench:client -- [--peer virtiofsd[=PROGRAM]] [--peer-args=ARGS]
 * [--rounds N] [--seconds S | --operations N] [--rows TEXT] [--cache MODE] [--share FOLDER] [--json FILE]`. This
 * project's daemon and Rust virtiofsd (this machine's, or fetched) serve the same folder and are asked for the same in
 * turn: how many operations a second, how much CPU time of the daemon each takes, how long one takes. Medians of the
 * rounds; a ratio is that of the two in the same round.
 *
 * The client keeps nothing unless `--cache` says so, so that the daemon does all. It spins for a reply before it
 * sleeps: on two cores what both daemons do is seen without most of the cost of waking threads.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';

import { progressTo } from '../lab/index.ts';
import { printTable } from './client-report.ts';
import { ROWS } from './client-rows.ts';
import { runDaemonOnly } from './daemon-only.ts';
import type { RunProgress } from './run.ts';

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
if (values.peer !== undefined && (peer !== 'virtiofsd' || program === '')) {
  throw new Error(`--peer ${values.peer}: it takes virtiofsd, or virtiofsd=PROGRAM`);
}
const cache = CACHES.find((mode) => mode === values.cache);
if (cache === undefined) throw new Error(`--cache ${values.cache}: it takes ${CACHES.join(', ')}`);
const rows = ROWS.filter(({ name }) => name.includes(values.rows));
if (rows.length === 0) throw new Error(`--rows ${values.rows}: there is none of that name`);
const { operations } = values;
const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

let said = -1;
/** A line for each round. */
function tell({ round, rounds }: RunProgress): void {
  if (round === said) return;
  said = round;
  console.error(round === 0 ? 'warming up' : `round ${round} of ${rounds}`);
}

const result = await runDaemonOnly({
  parent: values.share,
  rounds: Number(values.rounds),
  limits: {
    seconds: Number(values.seconds ?? (operations === undefined ? 0.25 : Infinity)),
    operations: Number(operations ?? Infinity),
  },
  cache,
  rows,
  peer: peer !== undefined,
  virtiofsd: program,
  virtiofsdArgs: values['peer-args'].split(' ').filter((each) => each !== ''),
  command: ['bench:client', ...process.argv.slice(2)].join(' '),
  version,
  progress: progressTo(process.stderr),
  onProgress: tell,
});
printTable(result);
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(result, null, 1)}\n`);
