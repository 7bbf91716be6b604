/** What `virtiofs bench` has guests do, in a guest, at the smallest size. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import { everyday } from '../bench/suites/everyday.ts';
import { ownSmallfile } from '../bench/suites/smallfile.ts';
import type { Outcome, Place, Suite } from '../bench/workload.ts';
import { scenes } from '../lab/index.ts';

const THREADS = 2;
const FILES = 4;
const smallfile = ownSmallfile({ threads: THREADS, files: FILES, fileKiB: 4 });
const daily = everyday({ commits: 5, historyFiles: 10, treeFiles: 40, packageFiles: 20, inserts: 5 });

const ROUNDS = 2;
/** Of each suite: names of its steps, in their order. */
const SMALLFILE = ['create', 'ls-l', 'ls-l cached', 'read', 'append', 'rename', 'rename cached', 'delete-renamed'];
const EVERYDAY = ['git clone', 'git status', 'tar x', 'find', 'grep -r', 'npm ci', 'rm -rf node_modules'];

/** Does all steps, in every round; calls `after` when a step is done. */
async function doAll(suite: Suite, place: Place, after: (name: string, outcome: Outcome) => void): Promise<string[]> {
  const names: string[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const step of suite.steps) {
      await step.before?.(place);
      if (step.cached !== true) await place.vm.sh('sync; echo 3 > /proc/sys/vm/drop_caches');
      const outcome = await step.run(place);
      assert.ok(outcome.operations > 0 && outcome.seconds > 0, `${step.name}: ${JSON.stringify(outcome)}`);
      after(step.name, outcome);
      names.push(step.name);
    }
  }
  return names;
}

function filesBelow(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length;
}

const twice = (names: readonly string[]): string[] => [...names, ...names];
const files = await daily.files?.();

scenes('a guest that is measured', { node: true, cpus: 2, files }, (scene) => {
  scene('makes small files as many as were asked for, moves them, and removes them', async ({ vm, host }) => {
    const place = { vm, folder: '/mnt/share/small', hostFolder: host.path('small') };
    mkdirSync(place.hostFolder);
    const found: Record<string, number> = {};
    const names = await doAll(smallfile, place, (name, { operations }) => {
      assert.equal(operations, THREADS * FILES, name);
      found[name] = filesBelow(join(place.hostFolder, 'file_srcdir'));
    });
    assert.deepEqual(names, twice(SMALLFILE));
    const all = THREADS * FILES;
    const kept = { create: all, 'ls-l': all, 'ls-l cached': all, read: all, append: all };
    assert.deepEqual(found, { ...kept, rename: 0, 'rename cached': 0, 'delete-renamed': 0 });
    assert.equal(filesBelow(place.hostFolder), 0);
  });

  scene('tells in one line why a step failed', async ({ vm, host }) => {
    const place = { vm, folder: '/mnt/share/nothing', hostFolder: host.path('nothing') };
    mkdirSync(place.hostFolder);
    const failed = async (suite: Suite, name: string, message: RegExp): Promise<void> => {
      const step = suite.steps.find((each) => each.name === name);
      await assert.rejects(async () => step?.run(place), { message });
    };
    await failed(smallfile, 'read', /^ENOENT: open '.*'$/);
    await failed(daily, 'git status', /^[^\n]*clone[^\n]*$/);
    await failed(daily, 'tar x', /^tar: [^\n]*$/);
  });

  scene('starts the program for small files anew when it has ended', async ({ vm, host }) => {
    const place = { vm, folder: '/mnt/share/again', hostFolder: host.path('again') };
    mkdirSync(place.hostFolder);
    const [create] = smallfile.steps;
    await create.before?.(place);
    await vm.sh(`kill $(pidof node); while [ -e /tmp/smallfile-${THREADS}/running ]; do usleep 10000; done`);
    await assert.rejects(() => create.run(place), { message: /^smallfile's program has ended: / });
    await create.before?.(place);
    assert.equal((await create.run(place)).operations, THREADS * FILES);
  });

  scene('does what people do all day, and does it again', async ({ vm, host }) => {
    const place = { vm, folder: '/mnt/share/daily', hostFolder: host.path('daily') };
    mkdirSync(place.hostFolder);
    await daily.prepare?.(place.hostFolder);
    const found: Record<string, number> = {};
    const names = await doAll(daily, place, (name) => {
      if (name === 'git clone')
        found[name] = filesBelow(host.path('daily', 'clone')) - filesBelow(host.path('daily', 'clone/.git'));
      if (name === 'tar x') found[name] = filesBelow(host.path('daily', 'tree'));
      if (name === 'rm -rf node_modules') found[name] = filesBelow(host.path('daily', 'project'));
    });
    assert.deepEqual(names, twice([...EVERYDAY, 'SQLite inserts']));
    assert.deepEqual(found, { 'git clone': 10, 'tar x': 40, 'rm -rf node_modules': 2 });
    assert.equal(await host.sh('head -c 15 daily/data.db'), 'SQLite format 3');
  });
});
