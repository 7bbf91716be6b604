import assert from 'node:assert/strict';
import { test } from 'node:test';

import { formatRatio, judge, median, quantile, ratioOf, short, spreadOf } from './statistics.ts';

test('a median is the middle figure, or half way between the two in the middle', () => {
  assert.equal(median([30, 10, 20]), 20);
  assert.equal(median([40, 10, 20, 30]), 25);
  assert.equal(median([7]), 7);
  assert.ok(Number.isNaN(median([])));
});

test('quartiles lie between figures in proportion', () => {
  const numbers = [50, 10, 40, 20];
  assert.deepEqual(
    [0, 0.25, 0.75, 1].map((part) => quantile(numbers, part)),
    [10, 17.5, 42.5, 50],
  );
  assert.deepEqual(spreadOf([1, undefined, 3, Number.NaN, 2]), { median: 2, low: 1.5, high: 2.5 });
  assert.equal(spreadOf([undefined]), undefined);
});

test('a ratio is the median of those of the rounds, not that of the medians', () => {
  assert.deepEqual(ratioOf([10, 200, 3], [5, 50, 1]), { median: 3, low: 2.5, high: 3.5, rounds: 3, noisy: false });
});

test('rounds that one of the two lacks, or in which theirs is 0, do not count', () => {
  assert.deepEqual(ratioOf([4, undefined, 6, 8, 9], [2, 1, undefined, 4, 0]), {
    median: 2,
    low: 2,
    high: 2,
    rounds: 2,
    noisy: true,
  });
  assert.equal(ratioOf([1, 2], [0, 0]), undefined);
  assert.equal(ratioOf([], [1]), undefined);
  assert.equal(ratioOf([0, 0, 0], [1, 2, 3])?.median, 0);
});

test('two are too near to be told apart where 1 lies in the middle half, and in fewer than 3 rounds', () => {
  const noisy = (ours: readonly number[]): boolean | undefined => ratioOf(ours, Array(ours.length).fill(1))?.noisy;
  assert.equal(noisy([0.9, 1.2, 1.3]), false);
  assert.equal(noisy([0.7, 1.2, 1.3]), true);
  assert.equal(noisy([0.7, 0.8, 1.2]), true);
  assert.equal(noisy([0.7, 0.8, 0.9]), false);
  assert.equal(noisy([1, 1, 1]), true);
  assert.equal(noisy([5, 5]), true);
  assert.equal(noisy([5, 5, 5]), false);
});

test('a goal is met on its side by the median, and clearly so where it is not in the middle half', () => {
  const ratio = { median: 4, low: 3.5, high: 4.5, rounds: 3, noisy: false };
  assert.deepEqual(judge(ratio, 3.4, 'more'), { met: true, clear: true });
  assert.deepEqual(judge(ratio, 3.5, 'more'), { met: true, clear: false });
  assert.deepEqual(judge(ratio, 4.2, 'more'), { met: false, clear: false });
  assert.deepEqual(judge(ratio, 4.6, 'more'), { met: false, clear: true });
  assert.deepEqual(judge(ratio, 4.6, 'less'), { met: true, clear: true });
  assert.deepEqual(judge(ratio, 3, 'less'), { met: false, clear: true });
  assert.deepEqual(judge({ ...ratio, rounds: 2 }, 3, 'more'), { met: true, clear: false });
});

test('figures are shown with three digits, and next to nothing is not shown as nothing', () => {
  const numbers = [12_345.6, 100, 99.96, 99.94, 10, 9.996, 9.994, 1, 0.5, 0.1, 0.0123, 0.000_04, 0];
  assert.deepEqual(numbers.map(short), [
    ...['12346', '100', '100', '99.9', '10.0', '10.0', '9.99', '1.00'],
    ...['0.50', '0.10', '0.012', '0.00004', '0'],
  ]);
  const ratio = { median: 1.25, low: 1.2, high: 13.14, rounds: 3, noisy: false };
  assert.equal(formatRatio(ratio), '1.25 (1.20-13.1)');
  assert.equal(formatRatio({ ...ratio, noisy: true }), '1.25~ (1.20-13.1)');
});
