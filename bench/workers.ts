/**
 * Requests per second of 1, 2 and 4 workers of one session, on one share: `npm run bench:workers`. Each worker is a
 * thread with the request path of a queue's thread, and asks for a file of its own; the same rounds for each number in
 * turn, and the median of them.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import { opcodes } from '../src/fuse/index.ts';
import { InProcess } from './in-process.ts';
import { GO, READY, type WorkerData } from './worker-thread.ts';

const COUNTS = [1, 2, 4];
const MOST = Math.max(...COUNTS);
const ROUNDS = 9;
const REQUESTS = 400_000;
const BLOCK_BYTES = 4096;

const daemon = new InProcess();
const files = Array.from({ length: MOST }, (_, i) => {
  writeFileSync(join(daemon.share, `file${i}`), Buffer.alloc(65536, 7));
  const nodeid = daemon.lookup(`file${i}`);
  return { nodeid, fh: daemon.open(nodeid) };
});
/** Waits until a cell has a value. */
function awaitCell(cells: Int32Array, cell: number, value: number): void {
  for (let now = Atomics.load(cells, cell); now !== value; now = Atomics.load(cells, cell)) {
    Atomics.wait(cells, cell, now);
  }
}

/** Starts a worker for each file; the function that has the first `count` of them serve, in requests per second. */
function start(opcode: number, body: (file: { nodeid: number; fh: number }) => number[]): (count: number) => number {
  const cells = new Int32Array(new SharedArrayBuffer(8));
  for (const [index, file] of files.entries()) {
    const data: WorkerData = {
      shared: daemon.shared,
      cells,
      index,
      requests: REQUESTS,
      opcode,
      nodeid: file.nodeid,
      body: body(file),
    };
    new Worker(new URL('./worker-thread.ts', import.meta.url), { workerData: data, execArgv: [] }).unref();
  }
  awaitCell(cells, READY, MOST);
  let round = 0;
  return (count) => {
    round += 1;
    Atomics.store(cells, READY, MOST - count);
    const begin = performance.now();
    Atomics.store(cells, GO, round * 8 + count);
    Atomics.notify(cells, GO);
    awaitCell(cells, READY, MOST);
    return (count * REQUESTS) / ((performance.now() - begin) / 1000);
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

console.log(`${availableParallelism()} cores; requests per second, and times those of one worker`);
console.log(['request     ', ...COUNTS.map((count) => `${count} workers`.padStart(22))].join(''));
for (const [label, opcode, body] of [
  ['GETATTR', opcodes.GETATTR.code, () => [0, 0, 0, 0]],
  ['READ 4 KiB', opcodes.READ.code, ({ fh }: { fh: number }) => [fh, 0, 0, 0, BLOCK_BYTES, 0, 0, 0, 0, 0]],
] as const) {
  const serve = start(opcode, body);
  for (const count of COUNTS) serve(count);
  const rates = COUNTS.map((): number[] => []);
  for (let i = 0; i < ROUNDS; i += 1) for (const [j, count] of COUNTS.entries()) rates[j].push(serve(count));
  const medians = rates.map(median);
  const shown = medians.map((rate) => `${rate.toFixed(0)} (${(rate / medians[0]).toFixed(2)})`.padStart(22));
  console.log([label.padEnd(12), ...shown].join(''));
}
daemon.close();
process.exit();
