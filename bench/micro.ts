/**
 * The data plane in this process, piece by piece: `npm run bench:micro -- [--only TEXT] [--against FILE] [--json FILE]
 * [--save]`. Rings, requests through the gate, and the system calls they come down to, in nanoseconds, beside the
 * figures of FILE: by default those that are committed in bench/results/micro.json, which `--save` writes. Those are to
 * be measured on a machine that has nothing else to do.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { measure } from 'mitata';

import { UserError } from '../src/core/index.ts';
import { describeMachine } from './machine-info.ts';
import type { MicroBench } from './micro/bench.ts';
import { type Figure, type MicroFigures, parseFigures, remarksOn, tableOf } from './micro/figures.ts';
import { GROUPS } from './micro/groups.ts';

const COMMITTED = fileURLToPath(new URL('results/micro.json', import.meta.url));
/** Until the optimizing compiler is done with it. */
const WARM_UP_MS = 300;

async function figureOf({ name, run }: MicroBench): Promise<Figure> {
  const end = performance.now() + WARM_UP_MS;
  while (performance.now() < end) run();
  const { min, p25, p50, p75 } = await measure(run);
  return { name, leastNs: min, p25Ns: p25, p50Ns: p50, p75Ns: p75 };
}

async function measureAll(only: string): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const open of GROUPS) {
    using group = open();
    for (const bench of group.benches) {
      if (!bench.name.includes(only)) continue;
      process.stderr.write(`${bench.name}\n`);
      figures.push(await figureOf(bench));
    }
  }
  if (figures.length === 0) throw new UserError(`--only ${only}: nothing has that in its name`);
  return figures;
}

/** Absent where none are asked for and none are committed. Throws UserError. */
function readOld(path: string | undefined): MicroFigures | undefined {
  if (path === undefined && !existsSync(COMMITTED)) return undefined;
  const from = path ?? COMMITTED;
  if (!existsSync(from)) throw new UserError(`--against ${from}: there is no such file`);
  return parseFigures(readFileSync(from, 'utf8'), from);
}

function write(path: string, figures: MicroFigures): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(figures, null, 2)}\n`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: '' },
      against: { type: 'string' },
      json: { type: 'string' },
      save: { type: 'boolean', default: false },
    },
  });
  if (values.save && values.only !== '') throw new UserError('--save keeps all figures: leave --only out');
  const then = readOld(values.against);
  const now: MicroFigures = {
    format: 1,
    machine: describeMachine(tmpdir()),
    figures: await measureAll(values.only),
  };
  console.log(tableOf(now.figures, then?.figures).join('\n'));
  if (then !== undefined) console.log(remarksOn(now, then, values.only === '').join('\n'));
  if (values.json !== undefined) write(values.json, now);
  if (values.save) write(COMMITTED, now);
}

try {
  await main();
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = error.exitCode;
}
