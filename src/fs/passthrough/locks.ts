/**
 * The POSIX locks of one session, in memory shared by its workers. The host tells lock owners apart by open file
 * descriptions, so each owner of a guest that has locks on an inode has one there, opened for its locks alone.
 */
import { lock, unlock } from '../../core/index.ts';
import { close } from '../../sys/index.ts';
import type { Inodes } from './inodes.ts';
import { SLOT_STATE_WORDS, Slots } from './slots.ts';

// A record: an owner's locks on an inode. The node id stands for the inode: its slot may get another generation.
const NEXT = 0;
const NODE_LO = 1;
const NODE_HI = 2;
const OWNER_LO = 3;
const OWNER_HI = 4;
const FD = 5;
/** Who asked for a lock last, as the guest counts its processes. */
const PID = 6;
/** By which handle. */
const HANDLE_LO = 7;
const HANDLE_HI = 8;
const RECORD_WORDS = 9;

const CAPACITY = 1 << 20;
const BUCKETS = 256;

// Control words; then a lock and the first record of each bucket.
const OWNERS = 0;
const SLOT_STATE = 1;
const LOCKS = SLOT_STATE + SLOT_STATE_WORDS;
const FIRST = LOCKS + BUCKETS;
const CONTROL_WORDS = FIRST + BUCKETS;

export interface SharedLocks {
  readonly control: SharedArrayBuffer;
  readonly records: SharedArrayBuffer;
}

export class Locks {
  readonly #control: Int32Array;
  readonly #records: Int32Array;
  readonly #slots: Slots;
  readonly #inodes: Inodes;

  constructor(shared: SharedLocks, inodes: Inodes) {
    this.#inodes = inodes;
    this.#control = new Int32Array(shared.control);
    this.#records = new Int32Array(shared.records);
    const state = this.#control.subarray(SLOT_STATE, SLOT_STATE + SLOT_STATE_WORDS);
    this.#slots = new Slots(state, this.#records, RECORD_WORDS, NEXT, 1);
  }

  static create(capacity = CAPACITY): SharedLocks {
    return {
      control: new SharedArrayBuffer(CONTROL_WORDS * 4),
      records: new SharedArrayBuffer(capacity * RECORD_WORDS * 4),
    };
  }

  /** Owners that have locks, once for each inode. */
  get owners(): number {
    return Atomics.load(this.#control, OWNERS);
  }

  /** From here to `leave` nobody else works on the locks of this inode. What it returns goes to the other methods. */
  enter(nodeLo: number, nodeHi: number): number {
    const bucket = (Math.imul(nodeLo, 0x9e3779b1) ^ nodeHi) & (BUCKETS - 1);
    lock(this.#control, LOCKS + bucket);
    return bucket;
  }

  leave(bucket: number): void {
    unlock(this.#control, LOCKS + bucket);
  }

  /** The record of an owner, or 0. */
  find(bucket: number, nodeLo: number, nodeHi: number, ownerLo: number, ownerHi: number): number {
    const records = this.#records;
    for (let at = this.next(bucket, 0, nodeLo, nodeHi); at !== 0; at = this.next(bucket, at, nodeLo, nodeHi)) {
      const words = at * RECORD_WORDS;
      if (records[words + OWNER_LO] === ownerLo && records[words + OWNER_HI] === ownerHi) return at;
    }
    return 0;
  }

  /** The record of an inode after `record`, or the first one after 0; 0 after the last. */
  next(bucket: number, record: number, nodeLo: number, nodeHi: number): number {
    const records = this.#records;
    let at = record === 0 ? this.#control[FIRST + bucket] : records[record * RECORD_WORDS + NEXT];
    for (; at !== 0; at = records[at * RECORD_WORDS + NEXT]) {
      const words = at * RECORD_WORDS;
      if (records[words + NODE_LO] === nodeLo && records[words + NODE_HI] === nodeHi) return at;
    }
    return 0;
  }

  /** Adds an owner with its descriptor, which is the table's from now on; 0 when the table is full (`fd` is closed). */
  add(bucket: number, nodeLo: number, nodeHi: number, ownerLo: number, ownerHi: number, fd: number): number {
    const record = this.#slots.take();
    if (record === 0) {
      close(fd);
      return 0;
    }
    const records = this.#records;
    const at = record * RECORD_WORDS;
    records[at + NODE_LO] = nodeLo;
    records[at + NODE_HI] = nodeHi;
    records[at + OWNER_LO] = ownerLo;
    records[at + OWNER_HI] = ownerHi;
    records[at + FD] = fd;
    records[at + PID] = 0;
    records[at + HANDLE_LO] = 0;
    records[at + HANDLE_HI] = 0;
    records[at + NEXT] = this.#control[FIRST + bucket];
    this.#control[FIRST + bucket] = record;
    Atomics.add(this.#control, OWNERS, 1);
    this.#inodes.countHandle(1);
    return record;
  }

  fd(record: number): number {
    return this.#records[record * RECORD_WORDS + FD];
  }

  pid(record: number): number {
    return this.#records[record * RECORD_WORDS + PID];
  }

  /** Notes who got a lock, and by which handle. */
  setHolder(record: number, pid: number, handleLo: number, handleHi: number): void {
    const at = record * RECORD_WORDS;
    this.#records[at + PID] = pid;
    this.#records[at + HANDLE_LO] = handleLo;
    this.#records[at + HANDLE_HI] = handleHi;
  }

  /** Whether an owner got its last lock by this handle. */
  isBy(record: number, handleLo: number, handleHi: number): boolean {
    const at = record * RECORD_WORDS;
    return this.#records[at + HANDLE_LO] === handleLo && this.#records[at + HANDLE_HI] === handleHi;
  }

  /** Takes an owner out: with its open file its locks go. */
  remove(bucket: number, record: number): void {
    const records = this.#records;
    const next = records[record * RECORD_WORDS + NEXT];
    let before = this.#control[FIRST + bucket];
    if (before === record) {
      this.#control[FIRST + bucket] = next;
    } else {
      while (records[before * RECORD_WORDS + NEXT] !== record) before = records[before * RECORD_WORDS + NEXT];
      records[before * RECORD_WORDS + NEXT] = next;
    }
    close(records[record * RECORD_WORDS + FD]);
    Atomics.sub(this.#control, OWNERS, 1);
    this.#inodes.countHandle(-1);
    this.#slots.give(record);
  }

  releaseAll(): void {
    if (this.owners === 0) return;
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      lock(this.#control, LOCKS + bucket);
      while (this.#control[FIRST + bucket] !== 0) this.remove(bucket, this.#control[FIRST + bucket]);
      unlock(this.#control, LOCKS + bucket);
    }
  }
}
