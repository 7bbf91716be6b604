import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import type { Vm } from '../lab/index.ts';
import { PLANS } from './plans.ts';
import { fillFolders, runSuites } from './run.ts';
import type { Suite } from './workload.ts';

const [plan] = PLANS;
/** A guest that is asked for nothing that is looked at. */
const vm = { sh: async () => '' } as unknown as Vm;

test('what a round found is told before the next one, which may fail', async () => {
  let runs = 0;
  const suite: Suite = {
    name: 'everyday',
    packages: [],
    node: false,
    steps: [
      {
        name: 'ends',
        operation: 'runs',
        before: async () => {
          runs += 1;
          if (runs === 3) gone = true;
        },
        run: async () => {
          if (gone) throw new Error('the daemon has ended');
          return { operations: 7, seconds: 1 };
        },
      },
    ],
  };
  let gone = false;
  const daemon = {
    pid: process.pid,
    get ended() {
      return gone ? { code: 1, signal: null } : undefined;
    },
  };
  const contest = { sharedDir: '/nowhere', contestants: [{ plan, vm, mountPoint: '/mnt', daemon: daemon as never }] };
  const known: unknown[] = [];
  const run = runSuites(contest, {
    suites: [suite],
    rounds: 2,
    onProgress: () => {},
    onRound: ([{ counts, samples }], rounds) => {
      known.push([rounds, counts[plan.id].operations, samples[plan.id]?.map(({ operations }) => operations)]);
    },
  });
  await assert.rejects(run, /the daemon has ended/);
  assert.deepEqual(known, [
    [0, 7, undefined],
    [1, 7, [7]],
  ]);
});

test('each contestant has files of its own, or the same ones where a suite says so', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'fill-'));
  t.after(() => rmSync(root, { recursive: true }));
  const prepare = async (folder: string): Promise<void> => writeFileSync(join(folder, 'data'), 'data');
  const suite = { packages: [], node: false, prepare, steps: [] };
  await fillFolders(
    root,
    [
      { ...suite, name: 'everyday' },
      { ...suite, name: 'fio', sharesFiles: true },
    ],
    ['a', 'b'],
  );
  const inodes = (name: string): number =>
    new Set(['a', 'b'].map((id) => statSync(join(root, name, id, 'data')).ino)).size;
  assert.deepEqual([inodes('everyday'), inodes('fio')], [2, 1]);
});
