/**
 * The inodes of an export: one slot and at most one descriptor for a host inode, however many guests know it.
 *
 * Everything is in shared memory, for any number of workers: 13 words a slot, found by (mount, inode) through a linear
 * hash table that grows a bucket at a time, so that no request ever pays for a rehash. With the bucket (4 bytes) and a
 * session's lookup count (8 bytes) a known inode costs 64 bytes besides its descriptor, and 8 more once a session has
 * opened it (`Opened`).
 *
 * A slot lives while a session knows it or a request works on it (a pin). Descriptors are bounded: beyond `maxOpen` an
 * inode that no request works on gives its descriptor up for a file handle, where the host lets us reopen by handle.
 */
import { assert, EMFILE, ENFILE, lock, tryLock, unlock } from '../../core/index.ts';
import { close } from '../../sys/index.ts';
import { HANDLE_WORDS, openByHandle, takeHandle } from './file-handle.ts';
import { Mounts, type SharedMounts } from './mounts.ts';
import { SLOT_STATE_WORDS, Slots } from './slots.ts';

// A record. REFS counts sessions that know the inode in its high half and pins in its low half.
const REFS = 0;
/** Generation above bit 4, file type (mode >> 12) below. */
const TAG = 1;
const FD = 2;
/** Index in the table of mounts; its complement when the slot is no longer in the hash table. */
const MOUNT = 3;
const INO_LO = 4;
const INO_HI = 5;
const LINK = 6;
/** From here on the file handle that stands for a descriptor given up. */
const HANDLE_TAG = 7;
const RECORD_WORDS = HANDLE_TAG + HANDLE_WORDS;

const PIN = 1;
const SESSION = 0x10000;
const PINS_MASK = 0xffff;
/** In FD, beside the descriptor: it is open for reading, not O_PATH any more. */
const READABLE = 1 << 30;
const CLOSED = -1;
const BUSY = -2;

/** 21 bits: slot and generation make a node id below 2^53. */
const GENERATION_MASK = 0x1fffff;

const STRIPES = 256;
const FIRST_BUCKETS = 1024;

// Control words.
const BUCKETS = 0;
const SPLIT_LOCK = 1;
const KNOWN = 2;
const OPEN = 3;
const CLOCK_HAND = 4;
const MAX_OPEN = 5;
const HANDLES = 6;
const MAX_DESCRIPTORS = 7;
/** 1 once the user has been told that there are no descriptors left. */
const TOLD = 8;
const SLOT_STATE = 9;
const STRIPE_LOCKS = SLOT_STATE + SLOT_STATE_WORDS;
const CONTROL_WORDS = STRIPE_LOCKS + STRIPES;

export const ROOT_SLOT = 1;
/** Sixteen million inodes of address space; memory is used as slots are. */
const CAPACITY = 1 << 24;

/** What crosses threads. */
export interface SharedInodes {
  readonly control: SharedArrayBuffer;
  readonly records: SharedArrayBuffer;
  readonly buckets: SharedArrayBuffer;
  readonly mounts: SharedMounts;
}

export class Inodes {
  readonly #control: Int32Array;
  readonly #records: Int32Array;
  readonly #buckets: Int32Array;
  readonly #slots: Slots;
  readonly mounts: Mounts;
  readonly #whenFull: (maxDescriptors: number) => void;

  /** `whenFull` is told, once for all workers, when there are no descriptors left and some are wanted. */
  constructor(shared: SharedInodes, whenFull: (maxDescriptors: number) => void = () => undefined) {
    this.#whenFull = whenFull;
    this.mounts = new Mounts(shared.mounts);
    this.#control = new Int32Array(shared.control);
    this.#records = new Int32Array(shared.records);
    this.#buckets = new Int32Array(shared.buckets);
    this.#slots = new Slots(
      this.#control.subarray(SLOT_STATE, SLOT_STATE + SLOT_STATE_WORDS),
      this.#records,
      RECORD_WORDS,
      LINK,
      ROOT_SLOT,
    );
  }

  /**
   * An empty table. `maxOpen`: descriptors that inodes may hold before they give some up; `maxDescriptors`: what inodes
   * and handles of all sessions may hold together.
   */
  static create(maxOpen: number, maxDescriptors = 2 * maxOpen, capacity = CAPACITY): SharedInodes {
    const shared = {
      control: new SharedArrayBuffer(CONTROL_WORDS * 4),
      records: new SharedArrayBuffer(capacity * RECORD_WORDS * 4),
      buckets: new SharedArrayBuffer(capacity * 4),
      mounts: Mounts.create(),
    };
    const control = new Int32Array(shared.control);
    control[BUCKETS] = FIRST_BUCKETS;
    control[MAX_OPEN] = maxOpen;
    control[MAX_DESCRIPTORS] = maxDescriptors;
    return shared;
  }

  /** Inodes known to sessions or pinned, the root included. */
  get known(): number {
    return Atomics.load(this.#control, KNOWN);
  }

  /** Descriptors held by inodes. */
  get open(): number {
    return Atomics.load(this.#control, OPEN);
  }

  /**
   * Whether there is room for one more descriptor, made by inodes giving some up where it must be. The rest of the
   * process keeps what it needs: a guest that opens all it can must not keep another VM from connecting.
   */
  mayOpen(): boolean {
    if (this.#hasRoom() || (this.closeSome() > 0 && this.#hasRoom())) return true;
    if (Atomics.exchange(this.#control, TOLD, 1) === 0) this.#whenFull(this.#control[MAX_DESCRIPTORS]);
    return false;
  }

  #hasRoom(): boolean {
    const control = this.#control;
    return Atomics.load(control, OPEN) + Atomics.load(control, HANDLES) < control[MAX_DESCRIPTORS];
  }

  /** Counts a handle's descriptor in (1) or out (-1). */
  countHandle(change: 1 | -1): void {
    Atomics.add(this.#control, HANDLES, change);
  }

  /** One more than the highest slot ever used. */
  get end(): number {
    return this.#slots.end;
  }

  /** The high word of a slot's node id. */
  generation(slot: number): number {
    return this.#records[slot * RECORD_WORDS + TAG] >>> 4;
  }

  /** File type of a pinned slot: mode >> 12. */
  type(slot: number): number {
    return this.#records[slot * RECORD_WORDS + TAG] & 15;
  }

  /** The mount of a pinned slot: its index in `mounts`, held by the slot. */
  mount(slot: number): number {
    const mount = this.#records[slot * RECORD_WORDS + MOUNT];
    return mount < 0 ? ~mount : mount;
  }

  /** Pins a slot if it is alive with this generation. A pinned slot keeps its inode, and its descriptor once got. */
  pin(slot: number, generation: number): boolean {
    const at = slot * RECORD_WORDS;
    if (!this.#pinIfAlive(at)) return false;
    if (this.#records[at + TAG] >>> 4 === generation) return true;
    this.unpin(slot);
    return false;
  }

  #pinIfAlive(at: number): boolean {
    const records = this.#records;
    for (let refs = Atomics.load(records, at + REFS); refs !== 0; ) {
      const found = Atomics.compareExchange(records, at + REFS, refs, refs + PIN);
      if (found === refs) return true;
      refs = found;
    }
    return false;
  }

  unpin(slot: number): void {
    this.#drop(slot, PIN);
  }

  /** Turns a pin into a session's hold on the slot. */
  pinToSession(slot: number): void {
    Atomics.add(this.#records, slot * RECORD_WORDS + REFS, SESSION - PIN);
  }

  /** A session forgets the slot. */
  dropSession(slot: number): void {
    this.#drop(slot, SESSION);
  }

  #drop(slot: number, amount: number): void {
    if (Atomics.sub(this.#records, slot * RECORD_WORDS + REFS, amount) === amount) this.#free(slot);
  }

  /** The slot of a host inode, pinned, or 0 when it is not known. */
  find(mount: number, inoLo: number, inoHi: number): number {
    const hash = hashOf(mount, inoLo, inoHi);
    const stripe = STRIPE_LOCKS + (hash & (STRIPES - 1));
    lock(this.#control, stripe);
    const slot = this.#findInBucket(this.#bucketOf(hash), mount, inoLo, inoHi);
    unlock(this.#control, stripe);
    return slot;
  }

  /** Whether a host inode is known now. */
  knows(mount: number, inoLo: number, inoHi: number): boolean {
    const slot = this.find(mount, inoLo, inoHi);
    if (slot !== 0) this.unpin(slot);
    return slot !== 0;
  }

  /**
   * Adds a host inode on a mount that the caller holds, with its O_PATH descriptor, which the table then owns. Another
   * worker may have been quicker: its slot is given, and `fd` is closed. The slot, pinned, or -ENFILE when the table is
   * full (`fd` is closed then too).
   */
  insert(mount: number, inoLo: number, inoHi: number, mode: number, fd: number): number {
    const fresh = this.#slots.take();
    if (fresh === 0) {
      close(fd);
      return -ENFILE;
    }
    const records = this.#records;
    const at = fresh * RECORD_WORDS;
    records[at + TAG] = (records[at + TAG] & ~15) | ((mode >>> 12) & 15);
    records[at + MOUNT] = mount;
    records[at + INO_LO] = inoLo;
    records[at + INO_HI] = inoHi;
    records[at + HANDLE_TAG] = 0;
    Atomics.store(records, at + FD, fd);

    const hash = hashOf(mount, inoLo, inoHi);
    const stripe = STRIPE_LOCKS + (hash & (STRIPES - 1));
    lock(this.#control, stripe);
    const bucket = this.#bucketOf(hash);
    const existing = this.#findInBucket(bucket, mount, inoLo, inoHi);
    if (existing === 0) {
      records[at + LINK] = this.#buckets[bucket];
      Atomics.store(records, at + REFS, PIN);
      this.#buckets[bucket] = fresh;
    }
    unlock(this.#control, stripe);

    if (existing !== 0) {
      close(fd);
      records[at + FD] = CLOSED;
      this.#slots.give(fresh);
      return existing;
    }
    this.mounts.hold(mount);
    Atomics.add(this.#control, OPEN, 1);
    if (Atomics.add(this.#control, KNOWN, 1) + 1 > Atomics.load(this.#control, BUCKETS)) this.#split();
    if (Atomics.load(this.#control, OPEN) > this.#control[MAX_OPEN]) this.closeSome();
    return fresh;
  }

  /** The O_PATH descriptor of a pinned slot, reopened when it was given up. Negative: -ESTALE, -EMFILE and the like. */
  fd(slot: number): number {
    const records = this.#records;
    const at = slot * RECORD_WORDS + FD;
    for (;;) {
      const fd = Atomics.load(records, at);
      if (fd >= 0) return fd & ~READABLE;
      if (fd === BUSY) {
        Atomics.wait(records, at, BUSY, 1);
        continue;
      }
      const opened = this.#reopen(slot);
      if (opened < 0) return opened;
      if (Atomics.compareExchange(records, at, CLOSED, opened) === CLOSED) {
        if (Atomics.add(this.#control, OPEN, 1) >= this.#control[MAX_OPEN]) this.closeSome();
        return opened;
      }
      close(opened);
    }
  }

  /** Whether the descriptor of a pinned slot, which `fd` gave, is open for reading. */
  isReadable(slot: number): boolean {
    return (Atomics.load(this.#records, slot * RECORD_WORDS + FD) & READABLE) !== 0;
  }

  /** The descriptor of a pinned slot has become, under its number, one that is open for reading. */
  markReadable(slot: number): void {
    Atomics.or(this.#records, slot * RECORD_WORDS + FD, READABLE);
  }

  /** Whether some inodes have no descriptor now. */
  get anyClosed(): boolean {
    return this.open < this.known;
  }

  /** Whether the slot's descriptor was given up for a file handle. */
  isClosed(slot: number): boolean {
    return Atomics.load(this.#records, slot * RECORD_WORDS + FD) === CLOSED;
  }

  /**
   * Takes a pinned slot out of the hash table: its file is gone from the host (ESTALE by handle) and the host may have
   * given the inode number to another. Whoever still knows the slot gets ESTALE.
   */
  orphan(slot: number): void {
    const at = slot * RECORD_WORDS;
    const hash = this.#hashAt(at);
    const stripe = STRIPE_LOCKS + (hash & (STRIPES - 1));
    lock(this.#control, stripe);
    if (this.#records[at + MOUNT] >= 0) {
      this.#unlink(this.#bucketOf(hash), slot);
      this.#records[at + MOUNT] = ~this.#records[at + MOUNT];
    }
    unlock(this.#control, stripe);
  }

  #hashAt(at: number): number {
    const records = this.#records;
    return hashOf(records[at + MOUNT], records[at + INO_LO], records[at + INO_HI]);
  }

  /**
   * Lets the descriptors of a few inodes go that no request works on. The number closed; 0: the bound cannot be kept
   * (no capability for handles, or a file system without them).
   */
  closeSome(wanted = 16): number {
    const end = this.#slots.end;
    let closed = 0;
    for (let tries = 0; tries < 1024 && closed < wanted; tries += 1) {
      const slot = ROOT_SLOT + 1 + ((Atomics.add(this.#control, CLOCK_HAND, 1) >>> 0) % Math.max(1, end - 2));
      if (this.#giveUp(slot)) closed += 1;
    }
    return closed;
  }

  #giveUp(slot: number): boolean {
    const records = this.#records;
    const at = slot * RECORD_WORDS;
    const refs = Atomics.load(records, at + REFS);
    if (refs === 0 || (refs & PINS_MASK) !== 0) return false;
    const fd = Atomics.load(records, at + FD);
    if (fd < 0 || Atomics.compareExchange(records, at + FD, fd, BUSY) !== fd) return false;
    // Whoever pins from here on sees BUSY and waits; whoever pinned before is seen here (both words are in one order).
    const idle = (Atomics.load(records, at + REFS) & PINS_MASK) === 0 && Atomics.load(records, at + REFS) !== 0;
    const given = idle && this.mounts.reopens(this.mount(slot)) && takeHandle(fd & ~READABLE, records, at + HANDLE_TAG);
    Atomics.store(records, at + FD, given ? CLOSED : fd);
    Atomics.notify(records, at + FD);
    if (!given) return false;
    Atomics.sub(this.#control, OPEN, 1);
    close(fd & ~READABLE);
    return true;
  }

  #reopen(slot: number): number {
    const at = slot * RECORD_WORDS + HANDLE_TAG;
    const mountFd = this.mounts.fd(this.mount(slot));
    const fd = openByHandle(mountFd, this.#records, at);
    if (fd !== -EMFILE || this.closeSome() === 0) return fd;
    return openByHandle(mountFd, this.#records, at);
  }

  /** Closes every descriptor of the table. No worker may use it any more. */
  closeAll(): void {
    for (let slot = ROOT_SLOT; slot < this.end; slot += 1) {
      const at = slot * RECORD_WORDS;
      if (this.#records[at + REFS] !== 0 && this.#records[at + FD] >= 0) close(this.#records[at + FD] & ~READABLE);
    }
    this.mounts.closeAll();
  }

  #findInBucket(bucket: number, mount: number, inoLo: number, inoHi: number): number {
    const records = this.#records;
    for (let slot = this.#buckets[bucket]; slot !== 0; slot = records[slot * RECORD_WORDS + LINK]) {
      const at = slot * RECORD_WORDS;
      if (records[at + INO_LO] !== (inoLo | 0) || records[at + INO_HI] !== (inoHi | 0)) continue;
      // One that is being freed is passed over: its owner takes it out as soon as it gets this lock.
      if (records[at + MOUNT] === mount && this.#pinIfAlive(at)) return slot;
    }
    return 0;
  }

  /** Linear hashing: with n buckets, the first n - 2^k have been split already and use one more bit of the hash. */
  #bucketOf(hash: number): number {
    const buckets = Atomics.load(this.#control, BUCKETS);
    const half = 1 << (31 - Math.clz32(buckets));
    const bucket = hash & (half - 1);
    return bucket < buckets - half ? hash & (half * 2 - 1) : bucket;
  }

  /** Splits the next bucket in two. A bucket and its new half have the same low bits, hence the same lock. */
  #split(): void {
    const control = this.#control;
    if (!tryLock(control, SPLIT_LOCK)) return;
    const buckets = control[BUCKETS];
    if (buckets < this.#buckets.length) {
      const half = 1 << (31 - Math.clz32(buckets));
      const bucket = buckets - half;
      const stripe = STRIPE_LOCKS + (bucket & (STRIPES - 1));
      lock(control, stripe);
      this.#divide(bucket, buckets, half);
      Atomics.store(control, BUCKETS, buckets + 1);
      unlock(control, stripe);
    }
    unlock(control, SPLIT_LOCK);
  }

  #divide(bucket: number, upper: number, bit: number): void {
    const records = this.#records;
    let stay = 0;
    let move = 0;
    for (let slot = this.#buckets[bucket]; slot !== 0; ) {
      const at = slot * RECORD_WORDS;
      const next = records[at + LINK];
      const hash = this.#hashAt(at);
      if ((hash & bit) === 0) {
        records[at + LINK] = stay;
        stay = slot;
      } else {
        records[at + LINK] = move;
        move = slot;
      }
      slot = next;
    }
    this.#buckets[bucket] = stay;
    this.#buckets[upper] = move;
  }

  #free(slot: number): void {
    const records = this.#records;
    const at = slot * RECORD_WORDS;
    const mount = this.mount(slot);
    if (records[at + MOUNT] >= 0) {
      const hash = this.#hashAt(at);
      const stripe = STRIPE_LOCKS + (hash & (STRIPES - 1));
      lock(this.#control, stripe);
      this.#unlink(this.#bucketOf(hash), slot);
      unlock(this.#control, stripe);
    }
    const fd = this.#takeFd(at + FD);
    if (fd >= 0) {
      Atomics.sub(this.#control, OPEN, 1);
      close(fd);
    }
    const generation = ((records[at + TAG] >>> 4) + 1) & GENERATION_MASK;
    records[at + TAG] = generation << 4;
    Atomics.sub(this.#control, KNOWN, 1);
    this.#slots.give(slot);
    this.mounts.release(mount);
  }

  /** The descriptor of a slot that nobody holds any more; one that is being given up just now is waited for. */
  #takeFd(at: number): number {
    const records = this.#records;
    for (;;) {
      const fd = Atomics.load(records, at);
      if (fd === BUSY) Atomics.wait(records, at, BUSY, 1);
      else if (Atomics.compareExchange(records, at, fd, CLOSED) === fd) return fd < 0 ? fd : fd & ~READABLE;
    }
  }

  #unlink(bucket: number, slot: number): void {
    const records = this.#records;
    let at = -1;
    for (let each = this.#buckets[bucket]; each !== 0; each = records[at]) {
      const next = records[each * RECORD_WORDS + LINK];
      if (each === slot) {
        if (at === -1) this.#buckets[bucket] = next;
        else records[at] = next;
        return;
      }
      at = each * RECORD_WORDS + LINK;
    }
    assert(false, 'a known inode is not in its bucket');
  }
}

/** Mixes all the words; the multipliers are those of xxHash32. */
function hashOf(mount: number, inoLo: number, inoHi: number): number {
  let hash = Math.imul(inoLo ^ Math.imul(inoHi, 0x85ebca77) ^ Math.imul(mount, 0xc2b2ae3d), 0x9e3779b1);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x85ebca77);
  return (hash ^ (hash >>> 13)) & 0x7fffffff;
}
