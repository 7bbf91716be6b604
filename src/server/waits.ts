/**
 * Requests that wait to be asked again (SETLKW), in memory shared by the workers of a session: the worker of a queue
 * keeps those of its queue, INTERRUPT marks one, and the end of the FUSE session drops all.
 */
import { lock, MAX_QUEUE_SIZE, MAX_REQUEST_QUEUES, unlock } from '../core/index.ts';
import { signalEventfd } from '../sys/index.ts';

/** Interrupts that found nobody, which may have come before the request was seen to wait. */
const EARLY_COUNT = 16;

const LOCK = 0;
const EARLY_NEXT = 1;
const EARLY = 2;
const QUEUES = EARLY + 2 * EARLY_COUNT;

// A queue.
const COUNT = 0;
/** How often the waiting requests were dropped. */
const DROPS = 1;
const WAKE_FD = 2;
const ENTRIES = 3;
const QUEUE_WORDS = ENTRIES + 4 * MAX_QUEUE_SIZE;

// A request.
const HEAD = 0;
const UNIQUE_LO = 1;
const UNIQUE_HI = 2;
const INTERRUPTED = 3;
const ENTRY_WORDS = 4;

const QUEUE_COUNT = 1 + MAX_REQUEST_QUEUES;

export class Waits {
  readonly words: Int32Array;

  constructor(shared: SharedArrayBuffer) {
    this.words = new Int32Array(shared);
  }

  /** As large as needed for every ring there may be; only what is used becomes memory. */
  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer((QUEUES + QUEUE_COUNT * QUEUE_WORDS) * 4);
  }

  /** Requests that wait. */
  get count(): number {
    let sum = 0;
    for (let queue = 0; queue < QUEUE_COUNT; queue += 1) sum += this.words[queueAt(queue) + COUNT];
    return sum;
  }

  /** INTERRUPT: the request of this `unique` is to be answered EINTR, now or when it comes to wait. */
  interrupt(uniqueLo: number, uniqueHi: number): void {
    const { words } = this;
    lock(words, LOCK);
    if (!this.#mark(uniqueLo, uniqueHi)) {
      const at = EARLY + 2 * (words[EARLY_NEXT] % EARLY_COUNT);
      words[at] = uniqueLo;
      words[at + 1] = uniqueHi;
      words[EARLY_NEXT] = (words[EARLY_NEXT] + 1) & 0xffff;
    }
    unlock(words, LOCK);
  }

  #mark(uniqueLo: number, uniqueHi: number): boolean {
    const { words } = this;
    for (let queue = 0; queue < QUEUE_COUNT; queue += 1) {
      const at = queueAt(queue);
      for (let i = 0; i < words[at + COUNT]; i += 1) {
        const entry = at + ENTRIES + i * ENTRY_WORDS;
        if (words[entry + UNIQUE_LO] !== uniqueLo || words[entry + UNIQUE_HI] !== uniqueHi) continue;
        words[entry + INTERRUPTED] = 1;
        signalEventfd(words[at + WAKE_FD]);
        return true;
      }
    }
    return false;
  }

  /** The FUSE session is void: nothing waits any more, and nothing is answered. */
  dropAll(): void {
    const { words } = this;
    lock(words, LOCK);
    for (let queue = 0; queue < QUEUE_COUNT; queue += 1) drop(words, queueAt(queue));
    words.fill(0, EARLY, EARLY + 2 * EARLY_COUNT);
    unlock(words, LOCK);
  }
}

function queueAt(queue: number): number {
  return QUEUES + queue * QUEUE_WORDS;
}

function drop(words: Int32Array, at: number): void {
  words[at + DROPS] = (words[at + DROPS] + 1) | 0;
  words[at + COUNT] = 0;
}

/** The waiting requests of one queue, oldest first, for the queue's worker. */
export class QueueWaits {
  readonly #words: Int32Array;
  readonly #at: number;

  /** `wakeFd`: an eventfd that ends the worker's sleep. */
  constructor(waits: Waits, queue: number, wakeFd: number) {
    this.#words = waits.words;
    this.#at = queueAt(queue);
    this.#words[this.#at + WAKE_FD] = wakeFd;
  }

  get count(): number {
    return this.#words[this.#at + COUNT];
  }

  /** Changes when the requests are dropped: what was begun before that must not be added or answered. */
  get drops(): number {
    return Atomics.load(this.#words, this.#at + DROPS);
  }

  has(head: number): boolean {
    for (let i = 0; i < this.count; i += 1) if (this.head(i) === head) return true;
    return false;
  }

  head(i: number): number {
    return this.#words[this.#at + ENTRIES + i * ENTRY_WORDS + HEAD];
  }

  isInterrupted(i: number): boolean {
    return Atomics.load(this.#words, this.#at + ENTRIES + i * ENTRY_WORDS + INTERRUPTED) !== 0;
  }

  /** Adds a request that was begun when `drops` was so. */
  add(head: number, uniqueLo: number, uniqueHi: number, drops: number): void {
    const words = this.#words;
    lock(words, LOCK);
    if (words[this.#at + DROPS] === drops) {
      const entry = this.#at + ENTRIES + words[this.#at + COUNT] * ENTRY_WORDS;
      words[entry + HEAD] = head;
      words[entry + UNIQUE_LO] = uniqueLo;
      words[entry + UNIQUE_HI] = uniqueHi;
      words[entry + INTERRUPTED] = takeEarly(words, uniqueLo, uniqueHi) ? 1 : 0;
      words[this.#at + COUNT] += 1;
    }
    unlock(words, LOCK);
  }

  /** Takes the i-th out; false when all were dropped after `drops`. */
  remove(i: number, drops: number): boolean {
    const words = this.#words;
    lock(words, LOCK);
    const kept = words[this.#at + DROPS] === drops;
    if (kept) {
      const entry = this.#at + ENTRIES + i * ENTRY_WORDS;
      words.copyWithin(entry, entry + ENTRY_WORDS, this.#at + ENTRIES + words[this.#at + COUNT] * ENTRY_WORDS);
      words[this.#at + COUNT] -= 1;
    }
    unlock(words, LOCK);
    return kept;
  }

  dropAll(): void {
    lock(this.#words, LOCK);
    drop(this.#words, this.#at);
    unlock(this.#words, LOCK);
  }
}

/** Whether an interrupt came before its request did; it counts for this one then, and no more. */
function takeEarly(words: Int32Array, uniqueLo: number, uniqueHi: number): boolean {
  // No request has the unique 0.
  if ((uniqueLo | uniqueHi) === 0) return false;
  for (let at = EARLY; at < EARLY + 2 * EARLY_COUNT; at += 2) {
    if (words[at] !== uniqueLo || words[at + 1] !== uniqueHi) continue;
    words[at] = 0;
    words[at + 1] = 0;
    return true;
  }
  return false;
}

// The list of wakers.
const WAKERS = 1;
const FIRST_WAKER = 2;
/** More workers than these look after their requests by the clock alone. */
const WAKERS_MAX = 1024;

/** The workers of an export in which requests wait, by the eventfds that end their sleep. Shared by all sessions. */
export class Wakers {
  readonly #words: Int32Array;

  constructor(shared: SharedArrayBuffer) {
    this.#words = new Int32Array(shared);
  }

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer((FIRST_WAKER + WAKERS_MAX) * 4);
  }

  add(fd: number): void {
    const words = this.#words;
    lock(words, LOCK);
    if (words[WAKERS] < WAKERS_MAX) {
      words[FIRST_WAKER + words[WAKERS]] = fd;
      words[WAKERS] += 1;
    }
    unlock(words, LOCK);
  }

  remove(fd: number): void {
    const words = this.#words;
    lock(words, LOCK);
    const end = FIRST_WAKER + words[WAKERS];
    const at = words.subarray(FIRST_WAKER, end).indexOf(fd);
    if (at >= 0) {
      words[FIRST_WAKER + at] = words[end - 1];
      words[WAKERS] -= 1;
    }
    unlock(words, LOCK);
  }

  /** Something was released: whoever waits is to ask again. */
  wake(): void {
    const words = this.#words;
    if (Atomics.load(words, WAKERS) === 0) return;
    lock(words, LOCK);
    for (let i = 0; i < words[WAKERS]; i += 1) signalEventfd(words[FIRST_WAKER + i]);
    unlock(words, LOCK);
  }
}
