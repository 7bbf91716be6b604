/** A queue between a front-end and a back-end that is watched: its ring, and eventfds of ours in place of theirs. */
import type { Fd } from '../core/index.ts';
import type { GuestMemory } from '../memory/index.ts';
import { close, drainEventfd, type Epoll, eventfd, setNonblocking, signalEventfd } from '../sys/index.ts';
import { QueueError, RingWatch, type RingWatchOptions } from '../virtio/index.ts';

/** From one side to the other: what we hear is drained, and what it stands for is told later. */
class Bell {
  /** What rings. */
  #heard: Fd | -1 = -1;
  /** What is to be rung for it. */
  #told: Fd | -1 = -1;
  #rings = false;

  get heard(): Fd | -1 {
    return this.#heard;
  }

  get told(): Fd | -1 {
    return this.#told;
  }

  set(heard: Fd | -1, told: Fd | -1): void {
    this.#heard = heard;
    this.#told = told;
  }

  hear(): void {
    if (this.#heard >= 0 && drainEventfd(this.#heard) > 0) this.#rings = true;
  }

  tell(): void {
    if (this.#rings && this.#told >= 0) signalEventfd(this.#told);
    this.#rings = false;
  }
}

export interface RingAddressesOfUser {
  readonly descriptor: number;
  readonly available: number;
  readonly used: number;
}

export class WatchedQueue {
  readonly index: number;
  readonly watch: RingWatch;
  size = 0;
  /** Addresses of the front-end. */
  addresses: RingAddressesOfUser | undefined;
  readonly #memory: GuestMemory;
  readonly #epoll: Epoll;
  readonly #kick = new Bell();
  readonly #call = new Bell();
  readonly #keys: { readonly kick: number; readonly call: number };
  /** Where the watch goes on. */
  #nextAvailable = 0;
  #nextUsed: number | undefined;

  constructor(
    index: number,
    memory: GuestMemory,
    epoll: Epoll,
    keys: { readonly kick: number; readonly call: number },
    options: RingWatchOptions,
  ) {
    this.index = index;
    this.#memory = memory;
    this.#epoll = epoll;
    this.#keys = keys;
    this.watch = new RingWatch(memory, options);
  }

  /** SET_VRING_KICK: takes the front-end's descriptor; the one to give to the back-end. Throws SysError. */
  setKick(theirs: Fd): Fd {
    this.dropKick();
    const { told } = this.#kick;
    const ours = told >= 0 ? (told as Fd) : eventfd();
    this.#kick.set(-1, ours);
    setNonblocking(theirs);
    this.#epoll.add(theirs, this.#keys.kick);
    this.#kick.set(theirs, ours);
    return ours;
  }

  /** What may have been rung with it is passed on. */
  dropKick(): void {
    const { heard, told } = this.#kick;
    if (heard === -1) return;
    this.#kick.hear();
    this.#kick.tell();
    // Others have it open, so that closing it would not take it out of the set.
    this.#epoll.remove(heard);
    close(heard);
    this.#kick.set(-1, told);
  }

  /** SET_VRING_CALL: takes the front-end's descriptor; the one to give to the back-end. Throws SysError. */
  setCall(theirs: Fd): Fd {
    const { heard, told } = this.#call;
    const ours = heard >= 0 ? (heard as Fd) : eventfd();
    this.#call.set(ours, told);
    if (heard === -1) this.#epoll.add(ours, this.#keys.call);
    setNonblocking(theirs);
    this.#call.set(ours, theirs);
    if (told >= 0) close(told);
    return ours;
  }

  /** Takes what was rung: `look` before `tell`. */
  hear(): void {
    this.#kick.hear();
    this.#call.hear();
  }

  tell(): void {
    this.#kick.tell();
    this.#call.tell();
  }

  /** SET_VRING_BASE, or the answer to GET_VRING_BASE. */
  setBase(base: number): void {
    this.#nextAvailable = base & 0xffff;
    this.#nextUsed = undefined;
  }

  /** Begins to watch, where all is there that it takes; '' or why it cannot. */
  start(features: { readonly eventIdx: boolean; readonly indirect: boolean }): string {
    if (this.watch.started || this.addresses === undefined || this.#kick.heard === -1) return '';
    const { descriptor, available, used } = this.addresses;
    try {
      this.watch.start({
        ...features,
        size: this.size,
        descriptorTable: this.#memory.hostOfUser(descriptor, 1),
        availableRing: this.#memory.hostOfUser(available, 1),
        usedRing: this.#memory.hostOfUser(used, 1),
        nextAvailable: this.#nextAvailable,
        nextUsed: this.#nextUsed,
      });
      return '';
    } catch (error) {
      if (error instanceof QueueError) return error.message;
      throw error;
    }
  }

  /** Watches no more; `start` goes on from here. */
  suspend(): void {
    if (!this.watch.started) return;
    const { nextAvailable, nextUsed } = this.watch.stop();
    this.#nextAvailable = nextAvailable;
    this.#nextUsed = nextUsed;
  }

  /** The device is reset: the guest does with its rings what it likes until it has set up new ones. */
  forget(): void {
    this.suspend();
    this.addresses = undefined;
  }

  close(): void {
    if (this.watch.started) this.watch.stop();
    this.watch.abandon();
    this.dropKick();
    const { heard, told } = this.#call;
    if (heard >= 0) this.#epoll.remove(heard);
    for (const fd of [heard, told, this.#kick.told]) if (fd >= 0) close(fd);
  }
}
