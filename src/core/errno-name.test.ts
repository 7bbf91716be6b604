import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';

import * as errnos from './errno.ts';
import { errnoName } from './errno-name.ts';

test('every error number is the one that the system has', () => {
  for (const [name, value] of Object.entries(constants.errno)) {
    const ours = (errnos as Record<string, number>)[name];
    if (ours !== undefined) assert.equal(ours, value, name);
  }
});

test('an error number has a name, negative or not', () => {
  assert.equal(errnoName(-2), 'ENOENT');
  assert.equal(errnoName(95), 'EOPNOTSUPP');
  assert.equal(errnoName(4000), 'errno 4000');
});
