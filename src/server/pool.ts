/**
 * Operations that may sleep for long (FSYNC and its like) are done by pool threads while more requests wait behind
 * them. The process has one pool, in shared memory: the worker of a queue names the head of a chain, a pool thread
 * walks it, serves it and hands head and length back. Only the queue's worker touches the queue's rings.
 */
import { assert, lock, MAX_REQUEST_QUEUES, unlock } from '../core/index.ts';
import { signalEventfd } from '../sys/index.ts';
import type { MappedRegion, RingSetup } from '../vhost/index.ts';

/** What is handed over and not yet taken, of all queues; and what one queue has under way. */
const JOBS_MAX = 256;
/** As many as a front-end may have. */
const REGIONS_MAX = 509;
export const POOL_THREADS_MAX = 64;

// Words of the pool. The ends of rings count modulo 2^32.
const LOCK = 0;
/** Changes with each job, and at the end. */
const CALL = 1;
const ENDED = 2;
const JOBS_PUT = 3;
const JOBS_TAKEN = 4;
const THREADS = 5;
const IDLE = 6;
const JOBS = 7;
// A job.
const SESSION = 0;
const QUEUE = 1;
const HEAD = 2;
const JOB_WORDS = 3;
const WORDS = JOBS + JOB_WORDS * JOBS_MAX;

// Words of a session, after its LOCK.
/** Changes with the memory table. */
const MEMORY = 1;
const REGIONS = 2;
const QUEUES = 3;

// A queue.
/** Changes with each start. */
const RING = 0;
const SIZE = 1;
const INDIRECT = 2;
const WAKE_FD = 3;
const DONE_PUT = 4;
const DONE = 5;
const QUEUE_WORDS = DONE + 2 * JOBS_MAX;
const SESSION_WORDS = QUEUES + (1 + MAX_REQUEST_QUEUES) * QUEUE_WORDS;

// Numbers of a session: four for a region, then the host address of each queue's descriptor table.
const REGION_NUMBERS = 4;
const TABLES = REGIONS_MAX * REGION_NUMBERS;
const NUMBERS = TABLES + 1 + MAX_REQUEST_QUEUES;

export interface SharedPool {
  readonly words: SharedArrayBuffer;
  /** Threads that there may be. */
  readonly size: number;
}

/** What pool threads have to know of a session. */
export interface PoolSession {
  /** Among those of the process. */
  readonly index: number;
  readonly words: SharedArrayBuffer;
  readonly numbers: SharedArrayBuffer;
}

const queueAt = (queue: number): number => QUEUES + queue * QUEUE_WORDS;
const jobAt = (i: number): number => JOBS + JOB_WORDS * (i & (JOBS_MAX - 1));

export function createPool(size: number): SharedPool {
  return { words: new SharedArrayBuffer(WORDS * 4), size };
}

export function createPoolSession(index: number): PoolSession {
  return { index, words: new SharedArrayBuffer(SESSION_WORDS * 4), numbers: new SharedArrayBuffer(NUMBERS * 8) };
}

/** The memory that pool threads see from now on. No ring of the session runs meanwhile, so none is at work there. */
export function setPoolMemory({ words, numbers }: PoolSession, regions: readonly MappedRegion[]): void {
  const control = new Int32Array(words);
  const table = new Float64Array(numbers);
  assert(regions.length <= REGIONS_MAX, 'more regions than a front-end may have');
  lock(control, LOCK);
  for (const [i, region] of regions.entries()) {
    const { guestAddress, sizeBytes, userAddress, hostAddress } = region;
    table.set([guestAddress, sizeBytes, userAddress, hostAddress], i * REGION_NUMBERS);
  }
  control[REGIONS] = regions.length;
  control[MEMORY] = (control[MEMORY] + 1) | 0;
  unlock(control, LOCK);
}

/** Tells the threads of a pool to end. */
export function endPool({ words }: SharedPool): void {
  const control = new Int32Array(words);
  Atomics.store(control, ENDED, 1);
  Atomics.add(control, CALL, 1);
  Atomics.notify(control, CALL);
}

/** The pool as the worker of one queue sees it. */
export class PoolClient {
  /** What the last `collect` found. */
  head = 0;
  /** What `Gate.serve` returned for it. */
  length = 0;
  /** Handed over and not collected. */
  underWay = 0;
  /** Of the pool, and of the session. */
  readonly #pool: Int32Array;
  readonly #words: Int32Array;
  readonly #numbers: Float64Array;
  /** Threads that there may be; 0: nothing can be handed over. */
  readonly size: number;
  readonly #session: number;
  readonly #queue: number;
  readonly #at: number;
  readonly #spawn: () => void;
  #collected = 0;

  /** `wakeFd`: an eventfd that ends the worker's sleep. `spawn` has one more pool thread started. */
  constructor(pool: SharedPool, session: PoolSession, queue: number, wakeFd: number, spawn: () => void) {
    this.#pool = new Int32Array(pool.words);
    this.#words = new Int32Array(session.words);
    this.#numbers = new Float64Array(session.numbers);
    this.size = pool.size;
    this.#session = session.index;
    this.#queue = queue;
    this.#at = queueAt(queue);
    this.#spawn = spawn;
    this.#words[this.#at + WAKE_FD] = wakeFd;
  }

  /** The queue has been started on this ring. */
  start(ring: RingSetup): void {
    const words = this.#words;
    this.#numbers[TABLES + this.#queue] = ring.descriptorTable;
    words[this.#at + SIZE] = ring.size;
    words[this.#at + INDIRECT] = ring.indirect ? 1 : 0;
    Atomics.add(words, this.#at + RING, 1);
  }

  /** Hands a chain over; false when there is no room, or no pool. */
  offer(head: number): boolean {
    const pool = this.#pool;
    if (this.size === 0 || this.underWay === JOBS_MAX) return false;
    lock(pool, LOCK);
    const waiting = (pool[JOBS_PUT] - pool[JOBS_TAKEN]) | 0;
    const room = waiting < JOBS_MAX;
    // One more thread where all are busy. They start in their own time; the chain waits for any.
    const more = room && waiting >= pool[IDLE] && pool[THREADS] < this.size;
    if (room) {
      const job = jobAt(pool[JOBS_PUT]);
      pool[job + SESSION] = this.#session;
      pool[job + QUEUE] = this.#queue;
      pool[job + HEAD] = head;
      pool[JOBS_PUT] = (pool[JOBS_PUT] + 1) | 0;
      if (more) pool[THREADS] += 1;
    }
    unlock(pool, LOCK);
    if (!room) return false;
    this.underWay += 1;
    Atomics.add(pool, CALL, 1);
    Atomics.notify(pool, CALL, 1);
    if (more) this.#spawn();
    return true;
  }

  /** Takes the next chain that is done: `head` and `length`. False when there is none. */
  collect(): boolean {
    const words = this.#words;
    if (Atomics.load(words, this.#at + DONE_PUT) === this.#collected) return false;
    const done = this.#at + DONE + 2 * (this.#collected & (JOBS_MAX - 1));
    this.head = words[done];
    this.length = words[done + 1];
    this.#collected = (this.#collected + 1) | 0;
    this.underWay -= 1;
    return true;
  }

  /** As `collect`, but waits for it while any is under way. */
  awaitOne(): boolean {
    while (this.underWay > 0) {
      if (this.collect()) return true;
      Atomics.wait(this.#words, this.#at + DONE_PUT, this.#collected);
    }
    return false;
  }

  /** Takes back a chain that no thread has taken: its head, or -1. There may be no thread left to take it. */
  takeBack(): number {
    const pool = this.#pool;
    lock(pool, LOCK);
    let head = -1;
    // Those of other queues keep their order.
    for (let at = pool[JOBS_TAKEN]; at !== pool[JOBS_PUT]; at = (at + 1) | 0) {
      const job = jobAt(at);
      if (head !== -1) pool.copyWithin(jobAt(at - 1), job, job + JOB_WORDS);
      else if (pool[job + SESSION] === this.#session && pool[job + QUEUE] === this.#queue) head = pool[job + HEAD];
    }
    if (head !== -1) {
      pool[JOBS_PUT] = (pool[JOBS_PUT] - 1) | 0;
      this.underWay -= 1;
    }
    unlock(pool, LOCK);
    return head;
  }
}

/** The pool as one of its threads sees it. */
export class PoolJobs {
  /** The chain that `next` has found. */
  session = 0;
  queue = 0;
  head = 0;
  readonly #pool: Int32Array;
  /** By session. */
  readonly #words: readonly Int32Array[];
  readonly #numbers: readonly Float64Array[];

  constructor(pool: SharedPool, sessions: readonly PoolSession[]) {
    this.#pool = new Int32Array(pool.words);
    this.#words = sessions.map(({ words }) => new Int32Array(words));
    this.#numbers = sessions.map(({ numbers }) => new Float64Array(numbers));
  }

  /** Waits for a chain; false when the pool has ended. */
  next(): boolean {
    const pool = this.#pool;
    for (;;) {
      const call = Atomics.load(pool, CALL);
      if (Atomics.load(pool, ENDED) !== 0) return false;
      if (this.#take()) return true;
      Atomics.add(pool, IDLE, 1);
      Atomics.wait(pool, CALL, call);
      Atomics.sub(pool, IDLE, 1);
    }
  }

  #take(): boolean {
    const pool = this.#pool;
    lock(pool, LOCK);
    const found = pool[JOBS_PUT] !== pool[JOBS_TAKEN];
    if (found) {
      const job = jobAt(pool[JOBS_TAKEN]);
      this.session = pool[job + SESSION];
      this.queue = pool[job + QUEUE];
      this.head = pool[job + HEAD];
      pool[JOBS_TAKEN] = (pool[JOBS_TAKEN] + 1) | 0;
    }
    unlock(pool, LOCK);
    return found;
  }

  /** Of the session whose chain was taken: changes with its memory table. */
  get memoryVersion(): number {
    return Atomics.load(this.#words[this.session], MEMORY);
  }

  regions(): MappedRegion[] {
    const numbers = this.#numbers[this.session];
    return Array.from({ length: this.#words[this.session][REGIONS] }, (_, i) => {
      const [guestAddress, sizeBytes, userAddress, hostAddress] = numbers.subarray(i * REGION_NUMBERS);
      return { guestAddress, sizeBytes, userAddress, hostAddress };
    });
  }

  /** Changes with each start of the queue whose chain was taken. */
  get ringVersion(): number {
    return Atomics.load(this.#words[this.session], queueAt(this.queue) + RING);
  }

  get descriptorTable(): number {
    return this.#numbers[this.session][TABLES + this.queue];
  }

  get ringSize(): number {
    return this.#words[this.session][queueAt(this.queue) + SIZE];
  }

  get indirect(): boolean {
    return this.#words[this.session][queueAt(this.queue) + INDIRECT] !== 0;
  }

  /** Hands the chain back, with what `Gate.serve` returned for it. */
  done(length: number): void {
    const words = this.#words[this.session];
    const at = queueAt(this.queue);
    lock(words, LOCK);
    const put = words[at + DONE_PUT];
    const entry = at + DONE + 2 * (put & (JOBS_MAX - 1));
    words[entry] = this.head;
    words[entry + 1] = length;
    Atomics.store(words, at + DONE_PUT, (put + 1) | 0);
    unlock(words, LOCK);
    Atomics.notify(words, at + DONE_PUT);
    signalEventfd(words[at + WAKE_FD]);
  }
}
