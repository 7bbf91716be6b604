import { performance } from 'node:perf_hooks';

import type { RingSetup } from '../vhost/index.ts';

/** How long requests are left to gather. Nobody waits for a FORGET, and an INTERRUPT is for who has waited before. */
const GATHER_MS = 4;
/** So many at a time make up for a kick. */
const MANY = 32;

/** What serves the ring; see QueueRunner. */
interface Runner {
  readonly kickFd: number;
  readonly next: number;
  start(ring: RingSetup): void;
  stop(): number;
  run(quiet: boolean): boolean;
}

/**
 * The hiprio queue. Who deletes files has its FORGETs come one by one, each with a kick that wakes a thread for less
 * work than it takes to wake it. So while they come often, the driver is not asked for kicks, and they are served when
 * a few milliseconds are over. What goes on in request queues holds none of them up.
 */
export class HiprioQueue {
  readonly #runner: Runner;
  readonly #now: () => number;
  #kicked = false;
  /** When it is served next; 0: with the next kick. */
  #gatherUntil = 0;
  #servedAt = Number.NEGATIVE_INFINITY;

  /** `now`: for tests. */
  constructor(runner: Runner, now = (): number => performance.now()) {
    this.#runner = runner;
    this.#now = now;
  }

  /** -1 while it is stopped. */
  get kickFd(): number {
    return this.#runner.kickFd;
  }

  /** Throws QueueError. */
  start(ring: RingSetup): void {
    this.#runner.start(ring);
    // It may have missed its kick.
    this.#kicked = true;
    this.#gatherUntil = 0;
    this.#servedAt = Number.NEGATIVE_INFINITY;
  }

  /** The next available index. */
  stop(): number {
    // What it was kicked for comes first.
    this.#runner.run(false);
    this.#kicked = false;
    this.#gatherUntil = 0;
    return this.#runner.stop();
  }

  /** There is, or may be, something in the ring. */
  kick(): void {
    this.#kicked = true;
  }

  /** How long the thread may sleep before `serve`; -1: until a kick. */
  get patienceMs(): number {
    if (this.#kicked) return 0;
    return this.#gatherUntil === 0 ? -1 : Math.max(0, Math.ceil(this.#gatherUntil - this.#now()));
  }

  /** Serves what is there, if it is time. */
  serve(): void {
    const gathers = this.#gatherUntil !== 0;
    if (!this.#kicked && !gathers) return;
    const now = this.#now();
    if (!this.#kicked && now < this.#gatherUntil) return;
    const before = this.#runner.next;
    const comeOften = gathers || now - this.#servedAt < GATHER_MS;
    const more = this.#runner.run(comeOften);
    const served = (this.#runner.next - before) & 0xffff;
    const goesOn = comeOften && served > 0 && served < MANY && !more;
    this.#gatherUntil = goesOn ? now + GATHER_MS : 0;
    // From here on it is asked for kicks again.
    this.#kicked = goesOn || !comeOften ? more : this.#runner.run(false);
    if (served > 0) this.#servedAt = now;
  }
}
