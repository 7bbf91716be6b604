/** How long the daemon takes to be ready, what it weighs then, how long it takes to end: `npm run bench:start`. */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const RUNS = 15;
/** Until all threads are there. */
const SETTLE_MS = 500;
const VIRTIOFS = fileURLToPath(new URL('../bin/virtiofs', import.meta.url));

const folder = mkdtempSync(join(tmpdir(), 'virtiofs-bench-'));
const rows: { ready: number; rss: number; end: number }[] = [];
for (let run = 0; run < RUNS; run += 1) {
  const start = performance.now();
  const args = ['serve', '--shared-dir', folder, '--socket-path', join(folder, 'socket')];
  const daemon = spawn(VIRTIOFS, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  await once(daemon.stderr, 'data');
  const ready = performance.now() - start;
  await sleep(SETTLE_MS);
  const rss = Number(readFileSync(`/proc/${daemon.pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+)/m)?.[1]) / 1024;
  const stop = performance.now();
  daemon.kill('SIGTERM');
  await once(daemon, 'exit');
  rows.push({ ready, rss, end: performance.now() - stop });
}
rmSync(folder, { recursive: true });

function report(label: string, values: readonly number[], unit: string): void {
  const sorted = values.toSorted((a, b) => a - b);
  const [least, median, most] = [sorted[0], sorted[sorted.length >> 1], sorted[sorted.length - 1]];
  console.log(
    `${label.padEnd(34)}${[least, median, most].map((each) => each.toFixed(0).padStart(6)).join('')} ${unit}`,
  );
}

console.log(`${'least, median, most'.padEnd(34)}of ${RUNS} runs`);
report(
  "start to 'Waiting...'",
  rows.map(({ ready }) => ready),
  'ms',
);
report(
  'resident memory, idle',
  rows.map(({ rss }) => rss),
  'MiB',
);
report(
  'SIGTERM to the end',
  rows.map(({ end }) => end),
  'ms',
);
