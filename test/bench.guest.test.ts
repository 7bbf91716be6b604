/** `virtiofs bench` in a guest: what it counts, and what it makes of steps that fail. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { plansOf, runBench, type RunProgress } from '../bench/index.ts';
import type { Suite } from '../bench/workload.ts';
import { silent } from '../lab/index.ts';

const FILES = 20;
const IDS = ['9p-none', 'virtiofs-never', 'virtiofs-always'];

const temporary = mkdtempSync(join(tmpdir(), 'virtiofs-bench-'));
after(() => rmSync(temporary, { recursive: true }));

/** Says that it is Rust virtiofsd, and ends when it shall serve. */
function peerThatEnds(): string {
  const path = join(temporary, 'virtiofsd');
  writeFileSync(path, '#!/bin/sh\n[ "$1" = --version ] && echo virtiofsd 1.2.3 && exit\nexit 3\n', { mode: 0o755 });
  return path;
}

function suite(seen: string[]): Suite {
  return {
    name: 'everyday',
    packages: [],
    node: false,
    prepare: async (folder) => {
      for (let i = 0; i < FILES; i += 1) writeFileSync(join(folder, `${i}`), `${i}`);
    },
    steps: [
      {
        name: 'cat',
        operation: 'files',
        run: async ({ vm, folder, hostFolder }) => {
          assert.equal(readdirSync(hostFolder).length, FILES);
          seen.push(folder);
          await vm.sh(`cat ${folder}/* > /dev/null`);
          return { operations: FILES, seconds: 1 };
        },
      },
      {
        name: 'cat cached',
        operation: 'files',
        cached: true,
        run: async ({ vm, folder }) => {
          await vm.sh(`cat ${folder}/* > /dev/null`);
          return { operations: FILES, seconds: 1 };
        },
      },
      {
        name: 'fails',
        operation: 'runs',
        run: ({ folder }) => {
          if (folder.includes('9p')) throw new Error('not here\nand more of it');
          return Promise.resolve({ operations: 1, seconds: 1 });
        },
      },
    ],
  };
}

test('contestants that start take turns: each has its rates, its messages, its CPU time or its failure', async () => {
  const seen: string[] = [];
  const told: RunProgress[] = [];
  const samples: number[] = [];
  const result = await runBench({
    plans: plansOf([...IDS, 'virtiofsd-auto'], ['9p', 'virtiofsd']),
    virtiofsd: peerThatEnds(),
    suites: [suite(seen)],
    rounds: 2,
    parent: tmpdir(),
    command: 'virtiofs bench',
    version: '1.2.3',
    progress: silent,
    onProgress: (progress) => told.push(progress),
    onRound: ({ rounds, rows: [row] }) => samples.push(rounds, row.samples['9p-none']?.length ?? 0),
  });
  const [cat, cached, fails] = result.rows;
  const turns = (round: number): string[] => seen.slice(round * 3, round * 3 + 3).map((each) => each.split('/')[2]);
  assert.deepEqual(turns(0), IDS);
  assert.deepEqual(turns(1), [...IDS.slice(1), IDS[0]]);
  for (const id of IDS) assert.equal(cat.samples[id].length, 2);

  // A READ of each file at least, or what 9p has for it; with `always` next to nothing the second time.
  for (const id of IDS) assert(Number(cat.counts[id].messages) >= FILES, `${id}: ${cat.counts[id].messages}`);
  assert(Number(cached.counts['virtiofs-never'].messages) >= FILES);
  assert(Number(cached.counts['virtiofs-always'].messages) < FILES / 4);
  assert.equal(cat.samples['9p-none'][0].daemonCpuSeconds, undefined);
  assert(Number(cat.samples['virtiofs-never'][0].daemonCpuSeconds) > 0);

  assert.deepEqual(fails.failures, { '9p-none': 'not here' });
  assert.equal(fails.samples['virtiofs-never'].length, 2);
  assert.deepEqual(
    result.contestants.map(({ version }) => version === '1.2.3'),
    [false, true, true],
  );
  const why = 'the daemon ended (exit code 3) before it was ready';
  assert.deepEqual(result.leftOut, [{ label: 'Rust virtiofsd auto', why }]);
  assert.deepEqual(samples, [0, 0, 1, 1, 2, 2]);
  assert.equal(told.length, 27);
  assert.equal(told[0].part, 0);
  assert(told[26].part < 1 && told[26].part > 0.9);
});
