import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { lock, tryLock, unlock } from './mutex.ts';

test('a lock is held by one thread at a time', async () => {
  const words = new Int32Array(new SharedArrayBuffer(8));
  const rounds = 50_000;
  const source = `
    const { workerData } = require('node:worker_threads');
    import(workerData.module).then(({ lock, unlock }) => {
      const words = new Int32Array(workerData.shared);
      for (let i = 0; i < ${rounds}; i += 1) {
        lock(words, 0);
        words[1] += 1;
        unlock(words, 0);
      }
    });`;
  const workerData = { module: new URL('./mutex.ts', import.meta.url).href, shared: words.buffer };
  const workers = [1, 2, 3].map(() => new Worker(source, { eval: true, workerData }));
  await Promise.all(workers.map((worker) => new Promise((resolve) => worker.on('exit', resolve))));
  assert.equal(words[1], 3 * rounds);
  assert.equal(words[0], 0);
});

test('a lock that is held is not taken by tryLock', () => {
  const words = new Int32Array(new SharedArrayBuffer(4));
  lock(words, 0);
  assert.equal(tryLock(words, 0), false);
  unlock(words, 0);
  assert.equal(tryLock(words, 0), true);
});
