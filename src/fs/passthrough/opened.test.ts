import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Opened } from './opened.ts';

const LONG_AGO = Math.floor(Date.now() / 1000) - 1000;

test('a file is as before from its second open on, until its ctime moves', () => {
  const opened = new Opened(Opened.create(8));
  assert.equal(opened.isAsBefore(3, LONG_AGO, 5), false);
  assert.equal(opened.isAsBefore(3, LONG_AGO, 5), true);
  assert.equal(opened.isAsBefore(3, LONG_AGO, 6), false);
  assert.equal(opened.isAsBefore(3, LONG_AGO, 6), true);
  assert.equal(opened.isAsBefore(3, LONG_AGO + 1, 6), false);
  assert.equal(opened.isAsBefore(4, LONG_AGO + 1, 6), false, 'each file for itself');
});

test('a file that changed within the last minute, or in the future, is never as before', () => {
  const opened = new Opened(Opened.create(8));
  for (const seconds of [Math.floor(Date.now() / 1000) - 10, LONG_AGO + 100_000]) {
    assert.equal(opened.isAsBefore(1, seconds, 7), false);
    assert.equal(opened.isAsBefore(1, seconds, 7), false);
  }
});

test('a slot beyond the table is never as before', () => {
  const opened = new Opened(Opened.create(8));
  assert.equal(opened.isAsBefore(8, LONG_AGO, 1), false);
  assert.equal(opened.isAsBefore(8, LONG_AGO, 1), false);
});
