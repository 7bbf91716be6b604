/**
 * Inode numbers for guests that see one device where the host has several. What is unique on the host is the pair of
 * device and number; the guest is given 64 bits for both. Numbers hardly ever use their upper 16 bits, so every pair of
 * (device, upper 16 bits) that is met gets 16 bits of its own, which stand there instead. They are given once, in the
 * order in which the pairs are met, and stay for as long as the daemon runs; the share's own device keeps its numbers
 * (0 gives 0). After 65,535 others there is no number left.
 */
import { lock, unlock } from '../../core/index.ts';

const PREFIXES = 0x10000;
/** Twice as many, so that there is always a free place near. */
const PLACES = 2 * PREFIXES;

// Control words, before the places.
const LOCK = 0;
const GIVEN = 1;
const OWN_DEVICE = 2;
const TABLE = 3;

// A place: the device, the upper bits with USED, and what they get.
const DEV = 0;
const HIGH = 1;
const PREFIX = 2;
const PLACE_WORDS = 3;
const USED = 1 << 30;
/** In HIGH: of what is mounted in a directory of another device. */
const FOREIGN = 1 << 16;

export type SharedInodeNumbers = SharedArrayBuffer;

export class InodeNumbers {
  readonly #table: Int32Array;

  constructor(shared: SharedInodeNumbers) {
    this.#table = new Int32Array(shared);
  }

  static create(): SharedInodeNumbers {
    return new SharedArrayBuffer((TABLE + PLACES * PLACE_WORDS) * 4);
  }

  setOwnDevice(dev: number): void {
    this.#table[OWN_DEVICE] = dev;
  }

  /** What stands for a device and the upper 16 bits of an inode number: 0 to 65535, or -1 when all are given. */
  prefix(dev: number, high: number, foreign: boolean): number {
    const table = this.#table;
    if (high === 0 && dev === table[OWN_DEVICE] && !foreign) return 0;
    const key = high | USED | (foreign ? FOREIGN : 0);
    const found = this.#place(dev, key);
    if (Atomics.load(table, found + HIGH) !== 0) return table[found + PREFIX];
    lock(table, LOCK);
    // Another worker may have met it meanwhile.
    const place = this.#place(dev, key);
    if (table[place + HIGH] === 0 && table[GIVEN] < PREFIXES - 1) {
      table[GIVEN] += 1;
      table[place + DEV] = dev;
      table[place + PREFIX] = table[GIVEN];
      // Last: from here on other workers read the rest.
      Atomics.store(table, place + HIGH, key);
    }
    const prefix = table[place + HIGH] === 0 ? -1 : table[place + PREFIX];
    unlock(table, LOCK);
    return prefix;
  }

  /** Where a pair is, or where it belongs. */
  #place(dev: number, key: number): number {
    const table = this.#table;
    const hash = Math.imul(dev ^ Math.imul(key, 0x85ebca77), 0x9e3779b1) >>> 15;
    for (let probe = hash; ; probe += 1) {
      const place = TABLE + (probe % PLACES) * PLACE_WORDS;
      const high = Atomics.load(table, place + HIGH);
      if (high === 0 || (high === key && table[place + DEV] === dev)) return place;
    }
  }
}
