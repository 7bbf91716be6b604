/** Counters of every worker, in shared memory: one writer each, so nothing is locked; readers add them up. */
// Not the global of that name, which is behind a getter: it would be called for each request.
import { performance } from 'node:perf_hooks';

import { OPCODE_COUNT, opcodeName } from '../fuse/index.ts';

/** Latency buckets: bucket i counts requests that took less than 2^i microseconds (the last: all others). */
export const LATENCY_BUCKETS = 24;
const REQUESTS = 0;
const ERRORS = 1;
const BYTES_IN = 2;
const BYTES_OUT = 3;
const LATENCY = 4;
const FIELDS = LATENCY + LATENCY_BUCKETS;
/** Opcodes that do not exist are counted as 0. */
const COUNTERS = OPCODE_COUNT * FIELDS;

export const COUNTERS_BYTES = COUNTERS * 8;

/** The bucket of what began at `start` (performance.now()) and ends now. */
export function latencyBucket(start: number): number {
  const bucket = 32 - Math.clz32((performance.now() - start) * 1000);
  return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

export class Counters {
  readonly #values: Float64Array;

  constructor(shared: SharedArrayBuffer) {
    this.#values = new Float64Array(shared);
  }

  count(opcode: number, failed: boolean, bytesIn: number, bytesOut: number, bucket: number): void {
    const values = this.#values;
    const at = (opcode < OPCODE_COUNT ? opcode : 0) * FIELDS;
    values[at + REQUESTS] += 1;
    if (failed) values[at + ERRORS] += 1;
    values[at + BYTES_IN] += bytesIn;
    values[at + BYTES_OUT] += bytesOut;
    values[at + LATENCY + bucket] += 1;
  }
}

/** What one opcode came to. */
export interface OpcodeStatistics {
  readonly requests: number;
  readonly errors: number;
  /** Of whole requests, headers included. */
  readonly bytesIn: number;
  /** Of whole replies. */
  readonly bytesOut: number;
  /** Upper bounds in microseconds: half of the requests took less, 99 of 100 took less. */
  readonly medianUs: number;
  readonly p99Us: number;
}

/** Sums over workers, by opcode name, for opcodes that occurred. */
export function statistics(shared: readonly SharedArrayBuffer[]): Record<string, OpcodeStatistics> {
  const sums = new Float64Array(COUNTERS);
  for (const buffer of shared) {
    const values = new Float64Array(buffer);
    for (let i = 0; i < COUNTERS; i += 1) sums[i] += values[i];
  }
  const result: Record<string, OpcodeStatistics> = {};
  for (let opcode = 0; opcode < OPCODE_COUNT; opcode += 1) {
    const fields = sums.subarray(opcode * FIELDS, (opcode + 1) * FIELDS);
    if (fields[REQUESTS] === 0) continue;
    result[opcode === 0 ? 'UNKNOWN' : opcodeName(opcode)] = {
      requests: fields[REQUESTS],
      errors: fields[ERRORS],
      bytesIn: fields[BYTES_IN],
      bytesOut: fields[BYTES_OUT],
      medianUs: quantile(fields, 0.5),
      p99Us: quantile(fields, 0.99),
    };
  }
  return result;
}

function quantile(fields: Float64Array, share: number): number {
  let left = fields[REQUESTS] * share;
  for (let bucket = 0; bucket < LATENCY_BUCKETS; bucket += 1) {
    left -= fields[LATENCY + bucket];
    if (left <= 0) return 2 ** bucket;
  }
  return Number.POSITIVE_INFINITY;
}

/** A table for people. */
export function formatStatistics(all: Record<string, OpcodeStatistics>): string {
  const row = (cells: readonly (string | number)[]): string =>
    cells.map((cell, i) => (i === 0 ? String(cell).padEnd(16) : String(cell).padStart(12))).join('');
  const lines = [row(['opcode', 'requests', 'errors', 'bytes in', 'bytes out', 'median <us', 'p99 <us'])];
  for (const [name, each] of Object.entries(all)) {
    lines.push(row([name, each.requests, each.errors, each.bytesIn, each.bytesOut, each.medianUs, each.p99Us]));
  }
  return lines.join('\n');
}
