import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FsConfig } from './fs-config.ts';

test('the configuration of a file system is a tag of 36 bytes and le32 request queues', () => {
  const config = new Uint8Array(FsConfig.bytes);
  FsConfig.set.numRequestQueues(new DataView(config.buffer), 0, 0x0403_0201);
  assert.deepEqual([FsConfig.offsets.tag, config.length], [0, 40]);
  assert.deepEqual(
    [...config.subarray(0, 36)],
    Array.from({ length: 36 }, () => 0),
  );
  assert.deepEqual([...config.subarray(36)], [1, 2, 3, 4]);
});
