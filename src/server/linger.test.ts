import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Linger } from './linger.ts';

const LOOKS = 10;

/** A driver whose next request is there with the look of that number. */
class Driver {
  looks = 0;
  readonly #at: number;

  constructor(at: number) {
    this.#at = at;
  }

  get more(): boolean {
    this.looks += 1;
    return this.looks >= this.#at;
  }
}

/** How many of so many times it was looked for a driver at all. */
function stays(linger: Linger, times: number, at: number): number {
  let count = 0;
  for (let i = 0; i < times; i += 1) {
    const driver = new Driver(at);
    linger.until(driver);
    if (driver.looks > 0) count += 1;
  }
  return count;
}

test('a request that comes soon is waited for', () => {
  const driver = new Driver(3);
  assert.equal(new Linger(LOOKS).until(driver), true);
  assert.equal(driver.looks, 3);
});

test('a request that comes too late is given up after the looks that were allowed', () => {
  const driver = new Driver(LOOKS + 1);
  assert.equal(new Linger(LOOKS).until(driver), false);
  assert.equal(driver.looks, LOOKS);
});

test('a driver that always comes in time is always waited for', () => {
  assert.equal(stays(new Linger(LOOKS), 1000, LOOKS), 1000);
});

test('a driver that never comes in time is waited for once in 65 times in the end', () => {
  const linger = new Linger(LOOKS);
  stays(linger, 1000, Infinity);
  assert.equal(stays(linger, 650, Infinity), 10);
});

test('a driver that comes in time but every other time is not worth the wait', () => {
  const linger = new Linger(LOOKS);
  const stayed = Array.from({ length: 1000 }, (_, i) => stays(linger, 1, i % 2 === 0 ? 1 : Infinity));
  assert.ok(stayed.slice(500).filter((count) => count > 0).length < 50);
});

test('a driver that comes in time nearly always is waited for nearly always', () => {
  const linger = new Linger(LOOKS);
  const stayed = Array.from({ length: 1000 }, (_, i) => stays(linger, 1, i % 20 === 0 ? Infinity : 1));
  assert.ok(stayed.filter((count) => count > 0).length > 900);
});

test('a driver that has become quick is waited for again', () => {
  const linger = new Linger(LOOKS);
  stays(linger, 1000, Infinity);
  stays(linger, 65, 1);
  assert.equal(stays(linger, 1000, 1), 1000);
});

test('nobody is waited for where there is but one processor', () => {
  assert.equal(stays(new Linger(0), 10, 1), 0);
});
