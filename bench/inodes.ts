/**
 * What known inodes cost: `npm run bench:inodes -- [COUNT [DESCRIPTORS]]`. Makes so many files (a million by default),
 * has the daemon's request path look all of them up with a limit on its descriptors (4096 by default), and shows
 * memory, descriptors and the time of a LOOKUP on the way; then uses some of them all over the tree.
 */
import { closeSync, mkdirSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { opcodes } from '../src/fuse/index.ts';
import { InProcess } from './in-process.ts';

const COUNT = Number(process.argv[2] ?? 1_000_000);
const DESCRIPTORS = Number(process.argv[3] ?? 4096);
const FILES_PER_DIRECTORY = 1000;
const AT_RANDOM = 10_000;

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const daemon = new InProcess({ rlimitNofile: DESCRIPTORS });
const directories = Math.ceil(COUNT / FILES_PER_DIRECTORY);
for (let d = 0; d < directories; d += 1) {
  mkdirSync(join(daemon.share, `${d}`));
  for (let f = 0; f < FILES_PER_DIRECTORY; f += 1) closeSync(openSync(join(daemon.share, `${d}`, `${f}`), 'wx'));
}

const descriptors = (): number => readdirSync('/proc/self/fd').length;
/** Without what this program itself has thrown away: its requests are made of objects, unlike the daemon's. */
function resident(): number {
  collectGarbage();
  return process.memoryUsage.rss();
}
const row = (...cells: (string | number)[]): void =>
  console.log(cells.map((cell) => String(cell).padStart(14)).join(''));

row('inodes', 'RSS MiB', 'bytes/inode', 'descriptors', 'first, us', 'again, us');
const before = resident();
row(1, (before / 2 ** 20).toFixed(1), '', descriptors(), '', '');
let known = 0;
let next = 1;
const nodes = new Int32Array(COUNT + FILES_PER_DIRECTORY).fill(-1);
for (let d = 0; d < directories; d += 1) {
  const nodeid = daemon.lookup(`${d}`);
  const start = performance.now();
  for (let f = 0; f < FILES_PER_DIRECTORY; f += 1) nodes[d * FILES_PER_DIRECTORY + f] = daemon.lookup(`${f}`, nodeid);
  const first = ((performance.now() - start) * 1000) / FILES_PER_DIRECTORY;
  known += 1 + FILES_PER_DIRECTORY;
  if (d + 1 < next && d + 1 < directories) continue;
  next *= 4;
  const restart = performance.now();
  for (let f = 0; f < FILES_PER_DIRECTORY; f += 1) daemon.expect(opcodes.LOOKUP.code, nodeid, [], `${f}`);
  const again = ((performance.now() - restart) * 1000) / FILES_PER_DIRECTORY;
  const rss = resident();
  const each = ((rss - before) / known).toFixed(1);
  row(known, (rss / 2 ** 20).toFixed(1), each, descriptors(), first.toFixed(1), again.toFixed(1));
}
for (const [label, use] of [
  ['GETATTR', (nodeid: number) => daemon.expect(opcodes.GETATTR.code, nodeid, [0, 0, 0, 0])],
  ['OPEN, RELEASE', (nodeid: number) => daemon.openAndRelease(nodeid)],
] as const) {
  const begin = performance.now();
  for (let i = 0; i < AT_RANDOM; i += 1) use(nodes[(i * 7919) % COUNT]);
  const each = ((performance.now() - begin) * 1000) / AT_RANDOM;
  console.log(`${label} of ${AT_RANDOM} files all over the tree: ${each.toFixed(1)} us each`);
}
const start = performance.now();
daemon.close();
console.log(`forgotten and removed in ${((performance.now() - start) / 1000).toFixed(1)} s`);
