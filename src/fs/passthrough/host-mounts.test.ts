import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseMounts } from './host-mounts.ts';

test('mounts are read with their optional fields and with blanks in their names', () => {
  const text =
    '22 27 0:21 / /proc rw,relatime - proc proc rw\n' +
    '36 35 98:0 /mnt1 /a\\040b\\011c rw,noatime master:1 shared:2 - ext4 /dev/root rw,errors=continue\n';
  assert.deepEqual(parseMounts(text), [
    { id: 22, point: '/proc', type: 'proc' },
    { id: 36, point: '/a b\tc', type: 'ext4' },
  ]);
});
