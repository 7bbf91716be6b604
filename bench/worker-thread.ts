/** One worker of `bench/workers.ts`. */
import { workerData } from 'node:worker_threads';

import { InProcess, type SharedSession } from './in-process.ts';

// Cells: how many are ready, and which round it is (times 8, and how many workers serve in it).
export const READY = 0;
export const GO = 1;

export interface WorkerData {
  readonly shared: SharedSession;
  readonly cells: Int32Array;
  readonly index: number;
  readonly requests: number;
  readonly opcode: number;
  readonly nodeid: number;
  readonly body: readonly number[];
}

function run({ shared, cells, index, requests, opcode, nodeid, body }: WorkerData): void {
  const worker = new InProcess({}, () => undefined, shared);
  worker.prepare(opcode, nodeid, body);
  for (let round = 0; ; round = Atomics.load(cells, GO)) {
    if (round === 0 || index < (round & 7)) {
      for (let i = 0; i < requests; i += 1) worker.serve();
      Atomics.add(cells, READY, 1);
      Atomics.notify(cells, READY);
    }
    Atomics.wait(cells, GO, round);
  }
}

if (workerData !== null) run(workerData as WorkerData);
