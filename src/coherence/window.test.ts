import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { EINVAL, EIO } from '../core/index.ts';
import { DaxWindow, PENDING, RANGE_BYTES } from './window.ts';

const FILE = { nodeidLo: 5, nodeidHi: 7 };
const OTHER = { nodeidLo: 6, nodeidHi: 7 };
const RANGES = 4;
const KIB = 1024;

const newWindow = (): DaxWindow => new DaxWindow(DaxWindow.create(RANGES * RANGE_BYTES));

/** SETUPMAPPING of the `block`-th 2 MiB of a file in the `range`-th of the window. */
function setup(window: DaxWindow, range: number, file = FILE, block = 0, sizeBytes = 0): number {
  return window.setup(file, block * RANGE_BYTES, RANGE_BYTES, range * RANGE_BYTES, () => sizeBytes);
}

/** Does what the thread that speaks with the VMM does: the bytes of each range that is shown now. */
function fulfil(window: DaxWindow, result = 0): (number | undefined)[] {
  return Array.from({ length: RANGES }, (_, range) => {
    const { ticket, file } = window.wish(range);
    window.fulfil(range, ticket, result);
    return file?.bytes;
  });
}

function show(window: DaxWindow, range: number, block = 0, sizeBytes = 0): void {
  assert.equal(setup(window, range, FILE, block, sizeBytes), PENDING);
  fulfil(window);
  assert.equal(setup(window, range, FILE, block, sizeBytes), 0);
}

test('a range shows what was asked for when the VMM has mapped it, and not before', () => {
  const window = newWindow();
  assert.equal(setup(window, 2, FILE, 3), PENDING);
  assert.equal(setup(window, 2, FILE, 3), PENDING);
  assert.deepEqual(window.wish(2).file, { ...FILE, offset: 3 * RANGE_BYTES, bytes: RANGE_BYTES });
  fulfil(window);
  assert.equal(setup(window, 2, FILE, 3), 0);
  assert.equal(window.mapped, 1);
});

test('what cannot be mapped is said once, and tried again when it is asked for again', () => {
  const window = newWindow();
  setup(window, 0);
  fulfil(window, -EIO);
  assert.equal(setup(window, 0), -EIO);
  assert.equal(setup(window, 0), PENDING);
});

test('a range is taken for another file without having been given back, and an earlier answer is void', () => {
  const window = newWindow();
  setup(window, 0);
  const { ticket } = window.wish(0);
  assert.equal(setup(window, 0, OTHER), PENDING);
  window.fulfil(0, ticket, 0);
  assert.equal(setup(window, 0, OTHER), PENDING);
  fulfil(window);
  assert.equal(setup(window, 0, OTHER), 0);
});

test('what is given back, or was mapped before a reset, is shown no more', () => {
  const window = newWindow();
  for (const range of [0, 1, 2]) show(window, range);
  assert.equal(window.remove(0, RANGE_BYTES), 0);
  assert.equal(window.wish(0).file, undefined);
  window.reset();
  assert.deepEqual(fulfil(window), [undefined, undefined, undefined, undefined]);
  assert.equal(window.mapped, 0);
});

test('nothing outside the window, and nothing askew, is mapped or given back', () => {
  const window = newWindow();
  const at = (windowOffset: number, fileOffset = 0, length = RANGE_BYTES): number =>
    window.setup(FILE, fileOffset, length, windowOffset, () => 0);
  assert.deepEqual(
    [at(RANGES * RANGE_BYTES), at(4096), at(0, 4096), at(0, 2 ** 53), at(0, 0, 0), at(0, 0, RANGE_BYTES + 1)],
    [-EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL, -EINVAL],
  );
  assert.equal(window.remove(0, (RANGES + 1) * RANGE_BYTES), -EINVAL);
  assert.equal(window.remove(4096, RANGE_BYTES), -EINVAL);
  assert.equal(window.remove(0, 0), -EINVAL);
  assert.equal(window.remove(2 ** 60, RANGE_BYTES), -EINVAL);
});

test('others wait with making a file shorter until its end is shown no more', () => {
  const window = newWindow();
  show(window, 0);
  show(window, 1, 1);
  assert.equal(window.beginCut(FILE, 5 * KIB), false);
  assert.deepEqual(fulfil(window).slice(0, 2), [8 * KIB, 0]);
  assert.equal(window.beginCut(FILE, 5 * KIB), true);
  assert.equal(setup(window, 2, FILE, 2), PENDING);
  assert.equal(window.wish(2).file, undefined, 'more of the file is shown while it is made shorter');
  window.endCut(FILE);
  assert.equal(window.beginCut(OTHER, 0), true);
  assert.equal(setup(window, 0), 0, 'the guest has to ask for what it has');
});

test('of a file that others made shorter, only what it has is shown from then on', () => {
  const window = newWindow();
  assert.equal(window.beginCut(FILE, 0), true);
  window.endCut(FILE);
  show(window, 0, 0, 100);
  assert.equal(window.wish(0).file?.bytes, 4 * KIB);
  show(window, 1, 1, 100);
  assert.equal(window.wish(1).file?.bytes, 0);
  window.reset();
  assert.equal(setup(window, 0), PENDING);
  assert.equal(window.wish(0).file?.bytes, RANGE_BYTES, 'a guest that starts anew knows how long it is');
});

test('nothing more of a file is shown while it is made shorter, and what was cut afterwards', () => {
  const window = newWindow();
  show(window, 0);
  show(window, 1, 1);
  window.hold(FILE);
  assert.equal(window.cut(FILE, 5 * KIB), false);
  fulfil(window);
  assert.equal(window.cut(FILE, 5 * KIB), true);
  window.regrow(FILE, 10 * RANGE_BYTES);
  assert.equal(window.wish(0).file?.bytes, 8 * KIB);
  assert.equal(window.isCutFile(FILE.nodeidLo, FILE.nodeidHi), true);
  window.endCut(FILE);
  window.regrow(FILE, RANGE_BYTES + 1);
  assert.deepEqual(fulfil(window).slice(0, 2), [RANGE_BYTES, 4 * KIB]);
  window.regrow(FILE, 2 * RANGE_BYTES);
  assert.equal(window.isCutFile(FILE.nodeidLo, FILE.nodeidHi), false);
});

test('of a file whose length is known when it is mapped, no more is shown than it has', () => {
  const window = newWindow();
  setup(window, 0);
  const { ticket } = window.wish(0);
  assert.equal(window.limit(0, ticket, 5 * KIB), 8 * KIB);
  assert.equal(window.isCut, true);
  window.fulfil(0, ticket, 0);
  assert.equal(setup(window, 0), 0);
  assert.equal(window.limit(0, ticket + 1, 0), 0);
  assert.equal(window.wish(0).file?.bytes, 8 * KIB, 'that was for another wish');
});

test('what was cut is shown again as far as the file grows, and the guest hears of it afterwards', () => {
  const window = newWindow();
  show(window, 0);
  window.beginCut(FILE, 0);
  fulfil(window);
  assert.equal(window.isCut, true);
  assert.deepEqual(window.cutFiles(), [FILE]);
  window.extend(FILE, 0);
  assert.equal(window.wish(0).file?.bytes, 0);
  // Nobody fulfils it here: it goes on after a time, as it must when a VMM does not answer.
  window.extend(FILE, 9 * KIB);
  assert.equal(window.wish(0).file?.bytes, 12 * KIB);
  fulfil(window);
  window.remove(0, RANGE_BYTES);
  assert.equal(window.isCut, false);
});

test('what could not be shown again is tried again when the guest is told of the file', () => {
  const window = newWindow();
  show(window, 0);
  window.cut(FILE, 0);
  fulfil(window);
  window.regrow(FILE, RANGE_BYTES);
  fulfil(window, -EIO);
  assert.ok(window.isCutFile(FILE.nodeidLo, FILE.nodeidHi));
  window.regrow(FILE, RANGE_BYTES);
  assert.deepEqual(fulfil(window)[0], RANGE_BYTES);
  assert.equal(window.isCut, false);
});

test('who waits for the end of a cut sees it, and has all shown again', async () => {
  const shared = DaxWindow.create(RANGES * RANGE_BYTES);
  const window = new DaxWindow(shared);
  show(window, 0);
  window.hold(FILE);
  window.cut(FILE, 0);
  fulfil(window);
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.module).then(({ DaxWindow }) => {
      const window = new DaxWindow(workerData.shared);
      parentPort.postMessage('waits');
      window.awaitCuts(workerData.file);
      window.regrow(workerData.file, ${RANGE_BYTES});
    });`;
  const workerData = { module: new URL('./window.ts', import.meta.url).href, shared, file: FILE };
  const worker = new Worker(source, { eval: true, workerData });
  await once(worker, 'message');
  window.endCut(FILE);
  await once(worker, 'exit');
  assert.equal(window.wish(0).file?.bytes, RANGE_BYTES);
});
