import { performance } from 'node:perf_hooks';

import { EFAULT, EINTR } from '../core/index.ts';
import type { GuestMemory } from '../memory/index.ts';
import { signalEventfd } from '../sys/index.ts';
import type { RingSetup } from '../vhost/index.ts';
import { Chain, DeviceQueue, POP_BAD_CHAIN, POP_BROKEN, POP_CHAIN } from '../virtio/index.ts';
import { type Gate, SERVE_AGAIN, SERVE_ELSEWHERE } from './gate.ts';
import { Linger } from './linger.ts';
import type { PoolClient } from './pool.ts';
import type { QueueWaits, Wakers } from './waits.ts';

/** Chains after which the thread looks at its other duties, and used entries for which there is one interrupt. */
const BATCH = 64;
const PUBLISH_EVERY = 8;
/** So many bytes take long enough to serve that the driver is woken to work on them meanwhile. */
const PUBLISH_BYTES = 256 * 1024;
/** How long a waiting request is left before it is asked again: locks of other processes are given up unheard. */
const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 20;

/** What it takes to let requests wait, and to have some done by others. */
export interface Waiting {
  readonly pool: PoolClient;
  readonly waits: QueueWaits;
  readonly wakers: Wakers;
  /** An eventfd that ends this thread's sleep. */
  readonly wakeFd: number;
}

type Ring = Pick<RingSetup, 'kickFd' | 'callFd'>;

/** One virtqueue at work on the thread that calls it: takes chains, has the gate serve them, gives them back. */
export class QueueRunner {
  readonly #queue: DeviceQueue;
  readonly #gate: Gate;
  readonly #chain = new Chain();
  readonly #hiprio: boolean;
  readonly #warn: (message: string) => void;
  readonly #waiting: Waiting | undefined;
  readonly #defers: boolean;
  readonly #linger = new Linger();
  /** Whether the thread has nothing else to serve: what sleeps, or looks for the next request, holds nobody up then. */
  alone = true;
  #ring: Ring | undefined;
  #pauseMs = FIRST_PAUSE_MS;
  /** When waiting requests are asked again. */
  #askAt = 0;
  #registered = false;

  /** `waiting`: absent on the hiprio queue, which nothing may hold up. */
  constructor(memory: GuestMemory, index: number, gate: Gate, warn: (message: string) => void, waiting?: Waiting) {
    this.#queue = new DeviceQueue(memory, index);
    this.#gate = gate;
    this.#hiprio = index === 0;
    this.#warn = warn;
    this.#waiting = waiting;
    this.#defers = waiting !== undefined && waiting.pool.size > 0;
  }

  /** -1 while it is stopped. Watched edge-triggered: it is never read, which would cost each request a system call. */
  get kickFd(): number {
    return this.#ring?.kickFd ?? -1;
  }

  /** Throws QueueError. Requests that waited when the queue was stopped go on waiting, if it is the same ring. */
  start(ring: RingSetup): void {
    this.#queue.start(ring);
    // Of one shape, whoever made it and whatever way it came: code that was compiled for another is thrown away.
    this.#ring = { kickFd: ring.kickFd, callFd: ring.callFd };
    this.#waiting?.pool.start(ring);
    const waits = this.#waiting?.waits;
    if (waits !== undefined && waits.count > 0 && !this.#queue.carry(waits.count)) waits.dropAll();
  }

  /**
   * The next available index. What is under way in the pool is waited for; requests that wait for something else are
   * not touched until the next start.
   */
  stop(): number {
    if (this.#ring !== undefined && this.#waiting !== undefined) this.#drain(this.#ring, this.#waiting.pool);
    const next = this.#queue.stop();
    this.#ring = undefined;
    return next;
  }

  /** The next available index. */
  get next(): number {
    return this.#queue.next;
  }

  /**
   * After a kick, or to go on: serves what is there, BATCH chains at most. True when more may be waiting. `quiet`: the
   * driver is not asked for a kick with the next one.
   */
  run(quiet = false): boolean {
    const ring = this.#ring;
    if (ring === undefined) return false;
    const queue = this.#queue;
    let served = 0;
    let bytes = 0;
    // The outer loop is for what came while kicks were being asked for, which is seldom: it has no code of its own that
    // would not be compiled until then.
    for (let more = true; more; more = !quiet && queue.enableNotify()) {
      queue.disableNotify();
      for (let popped = queue.pop(this.#chain); ; popped = queue.pop(this.#chain)) {
        if (popped === POP_CHAIN) {
          this.#serve();
        } else if (popped === POP_BAD_CHAIN) {
          this.#warn(`queue ${queue.index}: a request is dropped: ${queue.lastError}`);
          queue.push(this.#chain.head, this.#gate.refuse(this.#chain, -EFAULT));
        } else {
          this.#publish(ring);
          if (popped === POP_BROKEN) {
            this.#warn(`queue ${queue.index} is broken until the guest resets it: ${queue.lastError}`);
            return false;
          }
          if (served > 0 && this.alone && !this.#hiprio && this.#linger.until(queue)) continue;
          break;
        }
        served += 1;
        bytes += this.#chain.readable.bytes + this.#chain.writable.bytes;
        if (served % PUBLISH_EVERY === 0 || bytes >= PUBLISH_BYTES) {
          this.#publish(ring);
          bytes = 0;
        } else {
          // A driver that looks for itself works on it while we serve the next.
          queue.show();
        }
        if (served >= BATCH) {
          this.#publish(ring);
          return true;
        }
      }
    }
    return false;
  }

  /** Serves the chain that was popped, unless it has to wait. */
  #serve(): void {
    const waits = this.#waiting?.waits;
    const { head } = this.#chain;
    if (waits !== undefined && waits.count > 0 && waits.has(head)) {
      this.#warn(`queue ${this.#queue.index}: a request is dropped: its descriptor ${head} is that of one that waits`);
      this.#queue.push(head, 0);
      return;
    }
    this.#serveChain(this.#defers && (!this.alone || this.#queue.more));
  }

  #serveChain(defer: boolean): void {
    const waiting = this.#waiting;
    const { head } = this.#chain;
    const drops = waiting === undefined ? 0 : waiting.waits.drops;
    const written = this.#gate.serve(this.#chain, this.#hiprio, defer);
    if (written >= 0) this.#queue.push(head, written);
    else if (written === SERVE_AGAIN) this.#wait(head, drops);
    else if (written === SERVE_ELSEWHERE && !waiting?.pool.offer(head)) this.#serveChain(false);
  }

  /** Serves the chain at `head`, which was popped before, here and now. */
  #serveHere(head: number): void {
    if (this.#queue.again(this.#chain, head) === POP_CHAIN) this.#serveChain(false);
    else this.#queue.push(head, 0);
  }

  #takeDone(pool: PoolClient): void {
    // What must be asked again, or not even there, is served here: only here it can wait.
    if (pool.length >= 0) this.#queue.push(pool.head, pool.length);
    else this.#serveHere(pool.head);
  }

  #drain(ring: Ring, pool: PoolClient): void {
    for (let head = pool.takeBack(); head >= 0; head = pool.takeBack()) this.#serveHere(head);
    while (pool.awaitOne()) this.#takeDone(pool);
    this.#publish(ring);
  }

  #wait(head: number, drops: number): void {
    const waiting = this.#waiting as Waiting;
    waiting.waits.add(head, this.#gate.uniqueLo, this.#gate.uniqueHi, drops);
    if (!this.#registered) waiting.wakers.add(waiting.wakeFd);
    this.#registered = true;
    // Soon: what it waits for may have been released just before this was known.
    this.#pauseMs = FIRST_PAUSE_MS;
    this.#askAt = performance.now() + FIRST_PAUSE_MS;
  }

  /** How long the thread may sleep before `attend`; -1: until it is woken. */
  get patienceMs(): number {
    if (this.#ring === undefined || this.#waiting === undefined || this.#waiting.waits.count === 0) return -1;
    return Math.max(0, Math.ceil(this.#askAt - performance.now()));
  }

  /**
   * Gives back what the pool has done, and serves again what waits: `woken`, as something may have been released or
   * interrupted, or when it is time.
   */
  attend(woken: boolean): void {
    const ring = this.#ring;
    if (this.#waiting === undefined || ring === undefined) return;
    const { pool } = this.#waiting;
    if (woken && pool.underWay > 0) {
      while (pool.collect()) this.#takeDone(pool);
      this.#publish(ring);
    }
    if (this.#registered) this.#attendWaits(ring, this.#waiting, woken);
  }

  #attendWaits(ring: Ring, { waits, wakers, wakeFd }: Waiting, now: boolean): void {
    if (now || performance.now() >= this.#askAt) {
      this.#askAll(waits);
      this.#publish(ring);
      this.#pauseMs = Math.min(2 * this.#pauseMs, LONGEST_PAUSE_MS);
      this.#askAt = performance.now() + this.#pauseMs;
    }
    if (waits.count > 0) return;
    wakers.remove(wakeFd);
    this.#registered = false;
  }

  #askAll(waits: QueueWaits): void {
    const queue = this.#queue;
    const chain = this.#chain;
    for (let i = 0; i < waits.count; ) {
      const { drops } = waits;
      const head = waits.head(i);
      let written = 0;
      if (queue.again(chain, head) === POP_CHAIN) {
        written = waits.isInterrupted(i) ? this.#gate.refuse(chain, -EINTR) : this.#gate.serve(chain, false);
      }
      if (written === SERVE_AGAIN) i += 1;
      else if (waits.remove(i, drops)) queue.push(head, written);
      else return;
    }
  }

  /** The thread ends: nobody may wake it any more. */
  end(): void {
    this.#waiting?.wakers.remove(this.#waiting.wakeFd);
  }

  #publish(ring: Ring): void {
    if (this.#queue.publish() && ring.callFd >= 0) signalEventfd(ring.callFd);
  }
}
