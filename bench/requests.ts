/**
 * What a request costs in the daemon: `npm run bench:requests`. Time of our own code is the time of a whole request
 * less the time of its system call alone, called in the same process; the least of several rounds each.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GCProfiler } from 'node:v8';

import { opcodes } from '../src/fuse/index.ts';
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  Arena,
  coldString,
  O_PATH,
  O_RDONLY,
  openat,
  preadv,
  STATX_BASIC_STATS,
  statx,
} from '../src/sys/index.ts';
import { InProcess } from './in-process.ts';

const ROUNDS = 8;
const REQUESTS = 125_000;
const BLOCK_BYTES = 4096;

function leastNs(work: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round += 1) {
    const start = performance.now();
    for (let i = 0; i < REQUESTS; i += 1) work();
    least = Math.min(least, ((performance.now() - start) * 1e6) / REQUESTS);
  }
  return least;
}

/** The system calls that the requests come down to, with nothing around them. */
function systemCalls(share: string): { statFd: number; statName: number; read: number } {
  const arena = new Arena(65536);
  const file = openat(AT_FDCWD, coldString(join(share, 'file')), O_RDONLY, 0);
  const directory = openat(AT_FDCWD, coldString(share), O_PATH, 0);
  const empty = arena.address + arena.reserve(1);
  const nameAt = arena.reserve(8);
  arena.u8.set(new TextEncoder().encode('file'), nameAt);
  const name = arena.address + nameAt;
  const buffer = arena.address + arena.reserve(256);
  const vectorAt = arena.reserve(16);
  arena.view.setBigUint64(vectorAt, BigInt(arena.address + arena.reserve(BLOCK_BYTES)), true);
  arena.view.setBigUint64(vectorAt + 8, BigInt(BLOCK_BYTES), true);
  const vector = arena.address + vectorAt;
  return {
    statFd: leastNs(() => statx(file, empty, AT_EMPTY_PATH, STATX_BASIC_STATS, buffer)),
    statName: leastNs(() => statx(directory, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, buffer)),
    read: leastNs(() => preadv(file, vector, 1, 0, 0)),
  };
}

const daemon = new InProcess();
writeFileSync(join(daemon.share, 'file'), Buffer.alloc(65536, 7));
const calls = systemCalls(daemon.share);
const nodeid = daemon.lookup('file');
const fh = daemon.open(nodeid);

function report(label: string, call: number, prepare: () => void): void {
  prepare();
  const ns = leastNs(() => daemon.serve());
  const profiler = new GCProfiler();
  profiler.start();
  for (let i = 0; i < 1_000_000; i += 1) daemon.serve();
  const collections = profiler.stop()?.statistics.length ?? 0;
  const cells = [ns, call, ns - call].map((each) => each.toFixed(0).padStart(10));
  console.log(`${label.padEnd(16)}${cells.join('')}${String(collections).padStart(12)}`);
}

console.log('request           ns each  sys. call  our code  collections in 1,000,000');
report('GETATTR', calls.statFd, () => daemon.prepare(opcodes.GETATTR.code, nodeid, [0, 0, 0, 0]));
report('LOOKUP (known)', calls.statName, () => daemon.prepare(opcodes.LOOKUP.code, 1, [], 'file'));
report('READ 4 KiB', calls.read, () => {
  daemon.prepare(opcodes.READ.code, nodeid, [fh, 0, 0, 0, BLOCK_BYTES, 0, 0, 0, 0, 0]);
});
report('ENOSYS', 0, () => daemon.prepare(99, 1, []));
daemon.close();
