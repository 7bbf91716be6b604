/**
 * How rate and memory grow: `npm run bench:growth -- [--peer virtiofsd[=PROGRAM]] [--only SERIES] [--most N]
 * [--share FOLDER] [--json FILE]`. Shares in one process of this project's daemon, against as many of Rust virtiofsd
 * (this machine's, or fetched); guests with a share each; files that one guest knows. Prints Markdown. SERIES is
 * shares, guests or files; `--most` leaves out what is more.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

import { findVirtiofsd, progressTo, removeAtExit } from '../lab/index.ts';
import { growFiles } from './growth/files.ts';
import { growGuests } from './growth/guests.ts';
import { type GrowthResult, type GrowthSeries, markdownOf } from './growth/series.ts';
import { growShares } from './growth/shares.ts';
import { describeMachine } from './machine-info.ts';

const COUNTS = { shares: [1, 8, 64], guests: [1, 4, 16], files: [10_000, 100_000, 1_000_000] } as const;
const SECONDS = 2;

const { values } = parseArgs({
  options: {
    peer: { type: 'string' },
    only: { type: 'string' },
    most: { type: 'string', default: 'Infinity' },
    share: { type: 'string', default: tmpdir() },
    json: { type: 'string' },
  },
});
const [name, program] = values.peer?.split('=') ?? [];
if (values.peer !== undefined && (name !== 'virtiofsd' || program === '')) {
  throw new Error(`--peer ${values.peer}: it takes virtiofsd, or virtiofsd=PROGRAM`);
}
const { only } = values;
if (only !== undefined && !(only in COUNTS))
  throw new Error(`--only ${only}: it takes ${Object.keys(COUNTS).join(', ')}`);
const most = Number(values.most);
if (!(most >= 1)) throw new Error(`--most ${values.most}: it takes a count`);
const progress = progressTo(process.stderr);
const found = program === undefined ? undefined : [program];
const peer = values.peer === undefined ? undefined : (found ?? (await findVirtiofsd({ progress })));
const say = (what: string): void => progress.note(what);

const parent = mkdtempSync(join(values.share, 'virtiofs-growth-'));
const remove = removeAtExit(parent);
const series: GrowthSeries[] = [];
try {
  const machine = describeMachine(parent);
  for (const [key, grow] of [
    ['shares', (folder, counts) => growShares({ folder, counts, peer, seconds: SECONDS, say })],
    ['guests', (folder, counts) => growGuests({ folder, counts, peer, progress, say })],
    ['files', (folder, counts) => growFiles({ folder, counts, peer, say })],
  ] as [keyof typeof COUNTS, (folder: string, counts: readonly number[]) => Promise<GrowthSeries>][]) {
    const counts = COUNTS[key].filter((count) => count <= most);
    if (counts.length === 0 || (only !== undefined && only !== key)) continue;
    const folder = join(parent, key);
    mkdirSync(folder);
    series.push(await grow(folder, counts));
    rmSync(folder, { recursive: true });
  }
  const result: GrowthResult = { format: 1, machine, series };
  console.log(markdownOf(result));
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(result, null, 1)}\n`);
} finally {
  remove();
}
