/** The open files and directories of one session, in memory shared by its workers. */
import { close } from '../../sys/index.ts';
import type { Inodes } from './inodes.ts';
import { SLOT_STATE_WORDS, Slots } from './slots.ts';

// A record. REFS is 1 while the guest has the handle open, plus 1 for each request that works on it.
const REFS = 0;
/** Generation above bit 4, flags below. */
const TAG = 1;
const FD = 2;
const LINK = 3;
/** Directories: the cookie at which the descriptor stands. */
const POSITION_LO = 4;
const POSITION_HI = 5;
const RECORD_WORDS = 6;

const CAPACITY = 1 << 22;
const GENERATION_MASK = 0x1fffff;

/** A directory: READDIR and friends take it, READ and WRITE do not. */
export const HANDLE_DIRECTORY = 1;
/** Opened with O_APPEND. The descriptor appends only where the host allows nothing else (chattr +a). */
export const HANDLE_APPEND = 2;

export interface SharedHandles {
  readonly control: SharedArrayBuffer;
  readonly records: SharedArrayBuffer;
}

const OPEN_COUNT = 0;
const SLOT_STATE = 1;

export class Handles {
  readonly #control: Int32Array;
  readonly #records: Int32Array;
  readonly #slots: Slots;

  readonly #inodes: Inodes;

  constructor(shared: SharedHandles, inodes: Inodes) {
    this.#inodes = inodes;
    this.#control = new Int32Array(shared.control);
    this.#records = new Int32Array(shared.records);
    const state = this.#control.subarray(SLOT_STATE, SLOT_STATE + SLOT_STATE_WORDS);
    this.#slots = new Slots(state, this.#records, RECORD_WORDS, LINK, 1);
  }

  static create(capacity = CAPACITY): SharedHandles {
    return {
      control: new SharedArrayBuffer((1 + SLOT_STATE_WORDS) * 4),
      records: new SharedArrayBuffer(capacity * RECORD_WORDS * 4),
    };
  }

  /** Handles that are open. */
  get open(): number {
    return Atomics.load(this.#control, OPEN_COUNT);
  }

  /** Takes over `fd`. The slot, or 0 when the table is full (`fd` is closed then). */
  add(fd: number, flags: number): number {
    const slot = this.#slots.take();
    if (slot === 0) {
      close(fd);
      return 0;
    }
    const records = this.#records;
    const at = slot * RECORD_WORDS;
    records[at + FD] = fd;
    records[at + TAG] = (records[at + TAG] & ~15) | flags;
    records[at + POSITION_LO] = 0;
    records[at + POSITION_HI] = 0;
    Atomics.store(records, at + REFS, 1);
    Atomics.add(this.#control, OPEN_COUNT, 1);
    this.#inodes.countHandle(1);
    return slot;
  }

  /** The high word of the handle as the guest gets it; the low word is the slot. */
  generation(slot: number): number {
    return this.#records[slot * RECORD_WORDS + TAG] >>> 4;
  }

  /** Pins a handle: the slot, or 0 when this session has no such handle. */
  pin(fhLo: number, fhHi: number): number {
    const slot = fhLo;
    const records = this.#records;
    const at = slot * RECORD_WORDS;
    if (slot <= 0 || at >= records.length) return 0;
    for (let refs = Atomics.load(records, at + REFS); refs !== 0; ) {
      const found = Atomics.compareExchange(records, at + REFS, refs, refs + 1);
      if (found === refs) {
        if (records[at + TAG] >>> 4 === fhHi) return slot;
        this.unpin(slot);
        return 0;
      }
      refs = found;
    }
    return 0;
  }

  unpin(slot: number): void {
    if (Atomics.sub(this.#records, slot * RECORD_WORDS + REFS, 1) === 1) this.#free(slot);
  }

  /** The descriptor of a pinned handle. */
  fd(slot: number): number {
    return this.#records[slot * RECORD_WORDS + FD];
  }

  flags(slot: number): number {
    return this.#records[slot * RECORD_WORDS + TAG] & 15;
  }

  /** Whether a directory's descriptor stands at this cookie, so that it need not be moved there. */
  standsAt(slot: number, lo: number, hi: number): boolean {
    const at = slot * RECORD_WORDS;
    return this.#records[at + POSITION_LO] === (lo | 0) && this.#records[at + POSITION_HI] === (hi | 0);
  }

  setPosition(slot: number, lo: number, hi: number): void {
    const at = slot * RECORD_WORDS;
    this.#records[at + POSITION_LO] = lo;
    this.#records[at + POSITION_HI] = hi;
  }

  /** RELEASE: false when this session has no such handle (any more). */
  release(fhLo: number, fhHi: number): boolean {
    const slot = this.pin(fhLo, fhHi);
    if (slot === 0) return false;
    const closed = this.#closeOnce(slot, fhHi);
    this.unpin(slot);
    return closed;
  }

  /** Of two releases of the same handle, the second finds another generation and drops nothing. */
  #closeOnce(slot: number, generation: number): boolean {
    const records = this.#records;
    const at = slot * RECORD_WORDS + TAG;
    const flags = records[at] & 15;
    const next = (((generation + 1) & GENERATION_MASK) << 4) | flags;
    const tag = (generation << 4) | flags;
    if (Atomics.compareExchange(records, at, tag, next) !== tag) return false;
    this.unpin(slot);
    return true;
  }

  releaseAll(): void {
    for (let slot = 1; slot < this.#slots.end; slot += 1) {
      if (Atomics.load(this.#records, slot * RECORD_WORDS + REFS) > 0) this.release(slot, this.generation(slot));
    }
  }

  #free(slot: number): void {
    close(this.#records[slot * RECORD_WORDS + FD]);
    Atomics.sub(this.#control, OPEN_COUNT, 1);
    this.#inodes.countHandle(-1);
    this.#slots.give(slot);
  }
}
