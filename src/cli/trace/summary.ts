/** Buckets of latencies: eight for each doubling, from a microsecond to beyond a day. */
const BUCKETS_A_DOUBLING = 8;
const BUCKETS = 300;

class Tally {
  requests = 0;
  errors = 0;
  bytesIn = 0;
  bytesOut = 0;
  #timed = 0;
  #longestUs = 0;
  readonly #buckets = new Uint32Array(BUCKETS);

  time(latencyUs: number): void {
    const bucket = Math.ceil(Math.log2(Math.max(1, latencyUs)) * BUCKETS_A_DOUBLING);
    this.#buckets[Math.min(BUCKETS - 1, bucket)] += 1;
    this.#timed += 1;
    this.#longestUs = Math.max(this.#longestUs, latencyUs);
  }

  /** So many microseconds at most took that part of the requests; '-' where none was timed. */
  quantile(part: number): string {
    let left = Math.ceil(this.#timed * part);
    if (left === 0) return '-';
    let bucket = 0;
    for (; bucket < BUCKETS - 1; bucket += 1) {
      left -= this.#buckets[bucket];
      if (left <= 0) break;
    }
    return `${Math.min(this.#longestUs, Math.round(2 ** (bucket / BUCKETS_A_DOUBLING)))}`;
  }
}

/** What one message adds to the summary. */
export interface Counted {
  readonly opcode: string;
  readonly failed: boolean;
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Undefined: it was not timed. */
  readonly latencyUs: number | undefined;
}

/** Counts by opcode. */
export class Summary {
  readonly #tallies = new Map<string, Tally>();
  missed = 0;

  add({ opcode, failed, bytesIn, bytesOut, latencyUs }: Counted): void {
    let tally = this.#tallies.get(opcode);
    if (tally === undefined) {
      tally = new Tally();
      this.#tallies.set(opcode, tally);
    }
    tally.requests += 1;
    if (failed) tally.errors += 1;
    tally.bytesIn += bytesIn;
    tally.bytesOut += bytesOut;
    if (latencyUs !== undefined) tally.time(latencyUs);
  }

  /** The table, those that came most often first. */
  toString(): string {
    const row = (cells: readonly (string | number)[]): string =>
      cells.map((cell, i) => (i === 0 ? `${cell}`.padEnd(18) : `${cell}`.padStart(12))).join('');
    const lines = [row(['opcode', 'count', 'errors', 'p50 us', 'p99 us', 'bytes in', 'bytes out'])];
    for (const [name, tally] of [...this.#tallies].toSorted(([, a], [, b]) => b.requests - a.requests)) {
      const { requests, errors, bytesIn, bytesOut } = tally;
      lines.push(row([name, requests, errors, tally.quantile(0.5), tally.quantile(0.99), bytesIn, bytesOut]));
    }
    if (this.missed > 0) lines.push(`${this.missed} messages went by unseen`);
    return lines.join('\n');
  }
}
