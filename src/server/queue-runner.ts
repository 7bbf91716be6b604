import type { GuestMemory } from '../memory/index.ts';
import { drainEventfd, signalEventfd } from '../sys/index.ts';
import type { RingSetup } from '../vhost/index.ts';
import { Chain, DeviceQueue, POP_BAD_CHAIN, POP_BROKEN, POP_CHAIN } from '../virtio/index.ts';
import type { Gate } from './gate.ts';

/** Chains after which the thread looks at its other duties, and used entries that are published together. */
const BATCH = 64;
const PUBLISH_EVERY = 8;

/** One virtqueue at work on the thread that calls it: takes chains, has the gate serve them, gives them back. */
export class QueueRunner {
  readonly #queue: DeviceQueue;
  readonly #gate: Gate;
  readonly #chain = new Chain();
  readonly #hiprio: boolean;
  readonly #warn: (message: string) => void;
  #ring: RingSetup | undefined;

  constructor(memory: GuestMemory, index: number, gate: Gate, warn: (message: string) => void) {
    this.#queue = new DeviceQueue(memory, index);
    this.#gate = gate;
    this.#hiprio = index === 0;
    this.#warn = warn;
  }

  get kickFd(): number {
    return this.#ring?.kickFd ?? -1;
  }

  /** Throws QueueError. */
  start(ring: RingSetup): void {
    this.#queue.start(ring);
    this.#ring = ring;
  }

  /** The next available index. */
  stop(): number {
    const next = this.#queue.stop();
    this.#ring = undefined;
    return next;
  }

  /** Takes note of a kick: only when there is one, as the VMM may have made the descriptor one that blocks. */
  acknowledge(): void {
    if (this.#ring !== undefined) drainEventfd(this.#ring.kickFd);
  }

  /** After a kick, or to go on: serves what is there, BATCH chains at most. True when more may be waiting. */
  run(): boolean {
    const ring = this.#ring;
    if (ring === undefined) return false;
    const queue = this.#queue;
    queue.disableNotify();
    let served = 0;
    for (;;) {
      const popped = queue.pop(this.#chain);
      if (popped === POP_CHAIN) {
        queue.push(this.#chain.head, this.#gate.serve(this.#chain, this.#hiprio));
      } else if (popped === POP_BAD_CHAIN) {
        this.#warn(`queue ${queue.index}: a request is dropped: ${queue.lastError}`);
        queue.push(this.#chain.head, 0);
      } else {
        this.#publish(ring);
        if (popped === POP_BROKEN) {
          this.#warn(`queue ${queue.index} is broken until the guest resets it: ${queue.lastError}`);
          return false;
        }
        if (!queue.enableNotify()) return false;
        queue.disableNotify();
        continue;
      }
      served += 1;
      if (served % PUBLISH_EVERY === 0) this.#publish(ring);
      if (served >= BATCH) {
        this.#publish(ring);
        return true;
      }
    }
  }

  #publish(ring: RingSetup): void {
    if (this.#queue.publish() && ring.callFd >= 0) signalEventfd(ring.callFd);
  }
}
