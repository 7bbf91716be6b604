/**
 * How many FUSE messages common operations take: `npm run bench:messages -- [--cache MODE ...]`. Boots a guest for each
 * cache mode, runs each operation in it, and counts what the daemon was sent meanwhile, FORGETs apart.
 */
import { parseArgs } from 'node:util';

import { openScene } from '../lab/index.ts';
import { report } from './report.ts';

const { values } = parseArgs({
  options: { cache: { type: 'string', multiple: true, default: ['never', 'auto', 'always'] } },
});

interface Operation {
  readonly name: string;
  /** Not counted. */
  readonly before?: string;
  readonly script: string;
}

const DROP = 'sync; echo 3 > /proc/sys/vm/drop_caches';
/** So long that names and attributes of `auto` are out of date. */
const EXPIRE = 'sleep 1.2';

const OPERATIONS: readonly Operation[] = [
  { name: 'create+write+close', script: 'echo x > new' },
  { name: 'stat, known', before: 'stat one > /dev/null', script: 'stat one > /dev/null' },
  { name: 'stat, expired', before: `stat one > /dev/null; ${EXPIRE}`, script: 'stat one > /dev/null' },
  { name: 'cat small, first', before: DROP, script: 'cat one > /dev/null' },
  { name: 'cat small, again', before: 'cat one > /dev/null', script: 'cat one > /dev/null' },
  { name: 'mv', before: 'stat one > /dev/null', script: 'mv one two' },
  { name: 'rm', before: 'stat two > /dev/null', script: 'rm two' },
  { name: 'ls -l 100, first', before: DROP, script: 'ls -l hundred > /dev/null' },
  { name: 'ls -l 100, again', before: 'ls -l hundred > /dev/null', script: 'ls -l hundred > /dev/null' },
  { name: 'ls -l 100, expired', before: EXPIRE, script: 'ls -l hundred > /dev/null' },
  { name: 'cat 100, first', before: DROP, script: 'cat hundred/* > /dev/null' },
  { name: 'cat 100, again', before: 'cat hundred/* > /dev/null', script: 'cat hundred/* > /dev/null' },
  { name: 'append', before: 'cat log > /dev/null', script: 'echo x >> log' },
  { name: 'cp 3 MB', before: 'cat big > /dev/null', script: 'cp big copy' },
];

async function measure(cache: string): Promise<Map<string, string>> {
  const prepare = 'echo 1 > one; echo log > log; mkdir hundred; for i in $(seq 100); do echo $i > hundred/$i; done';
  const scene = await openScene({ cache, kernel: '6.12' });
  const results = new Map<string, string>();
  try {
    await scene.host.sh(`${prepare}; head -c 3000000 /dev/urandom > big`);
    for (const { name, before, script } of OPERATIONS) {
      if (before !== undefined) await scene.vm.sh(`cd /mnt/share; ${before}`);
      const { messages } = await report(scene.daemon);
      await scene.vm.sh(`cd /mnt/share; ${script}`);
      results.set(name, String((await report(scene.daemon)).messages - messages));
    }
    await scene.close();
  } finally {
    await scene.abandon();
  }
  return results;
}

const columns: (readonly [string, Map<string, string>])[] = [];
for (const cache of values.cache) columns.push([cache, await measure(cache)]);
console.log(['operation'.padEnd(22), ...columns.map(([cache]) => cache.padStart(8))].join(''));
for (const { name } of OPERATIONS) {
  console.log([name.padEnd(22), ...columns.map(([, results]) => (results.get(name) ?? '').padStart(8))].join(''));
}
