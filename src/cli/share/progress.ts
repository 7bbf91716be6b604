/** How far a transfer is: one line on a terminal, drawn again and again. */
import type { Writable } from 'node:stream';

import { durationText, humanSize } from './format.ts';

const REDRAW_MS = 100;
const BAR_COLUMNS = 24;
const CLEAR_LINE = '\r\x1b[K';

export interface ProgressOptions {
  /** Absent: nothing is drawn. */
  readonly terminal?: Writable & { readonly columns?: number };
  /** Milliseconds from any start. */
  readonly now?: () => number;
}

export class Progress {
  readonly #terminal: ProgressOptions['terminal'];
  readonly #now: () => number;
  readonly #startedMs: number;
  #drawnMs = -Infinity;
  #drawn = false;
  /** Bytes, of what is known to be copied so far. */
  totalBytes = 0;
  /** Bytes that are where they belong. */
  doneBytes = 0;
  /** Of those, what was copied just now. */
  sentBytes = 0;
  files = 0;

  constructor({ terminal, now = () => performance.now() }: ProgressOptions) {
    this.#terminal = terminal;
    this.#now = now;
    this.#startedMs = now();
  }

  found(bytes: number): void {
    this.totalBytes += bytes;
    this.#draw();
  }

  done(bytes: number, sent: boolean): void {
    this.doneBytes += bytes;
    if (sent) this.sentBytes += bytes;
    this.#draw();
  }

  fileDone(): void {
    this.files += 1;
    this.#draw();
  }

  #rate(): number {
    return this.sentBytes / Math.max((this.#now() - this.#startedMs) / 1000, 0.001);
  }

  /** `[#####     ] 50% 12M of 24M, 6.0M/s, 0:02 left`. */
  line(): string {
    const share = this.totalBytes === 0 ? 0 : Math.min(this.doneBytes / this.totalBytes, 1);
    const bar = '#'.repeat(Math.floor(share * BAR_COLUMNS)).padEnd(BAR_COLUMNS);
    const percent = `${Math.floor(share * 100)}%`.padStart(4);
    const rate = this.#rate();
    const left = rate > 0 ? `, ${durationText((this.totalBytes - this.doneBytes) / rate)} left` : '';
    const sizes = `${humanSize(this.doneBytes)} of ${humanSize(this.totalBytes)}`;
    return `[${bar}]${percent} ${sizes}, ${humanSize(Math.round(rate))}/s${left}`;
  }

  #draw(): void {
    const now = this.#now();
    if (this.#terminal === undefined || now - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = now;
    this.#drawn = true;
    // A line that wraps could not be taken away again.
    this.#terminal.write(CLEAR_LINE + this.line().slice(0, (this.#terminal.columns ?? 80) - 1));
  }

  /** Takes the line away, for a message. */
  clear(): void {
    if (!this.#drawn) return;
    this.#drawn = false;
    this.#terminal?.write(CLEAR_LINE);
  }

  /** What it came to. */
  summary(): string {
    const seconds = (this.#now() - this.#startedMs) / 1000;
    const there = this.doneBytes - this.sentBytes;
    const before = there > 0 ? `, ${humanSize(there)} were there already` : '';
    const files = `${this.files} ${this.files === 1 ? 'file' : 'files'}`;
    const rate = `${humanSize(Math.round(this.#rate()))}/s`;
    const sent = `${humanSize(this.sentBytes)} sent in ${seconds.toFixed(1)} s (${rate})`;
    return `${files}, ${sent}${before}`;
  }
}
