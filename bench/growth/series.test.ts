import assert from 'node:assert/strict';
import { test } from 'node:test';

import { MACHINE } from '../report/testing.ts';
import { conclusionsOf, crossingOf, type GrowthFigure, type GrowthSeries, markdownOf } from './series.ts';

const MIB = 2 ** 20;

function figure(ownMiB: number, processes = 1): GrowthFigure {
  const ownBytes = ownMiB * MIB;
  return {
    processes,
    memory: { rssBytes: ownBytes + 9 * MIB, pssBytes: ownBytes + MIB, ownBytes },
    rates: { stat: 1234.5 },
  };
}

function shares(...points: [count: number, ours: number, theirs?: number][]): GrowthSeries {
  return {
    of: 'shares',
    points: points.map(([count, ours, theirs]) => ({
      count,
      ours: figure(ours),
      theirs: theirs === undefined ? undefined : figure(theirs, count),
    })),
  };
}

test('lines cross between the points where the lower one changes, at the next whole count', () => {
  const points = [
    { count: 1, ours: 60, theirs: 10 },
    { count: 11, ours: 70, theirs: 110 },
  ];
  // 60 + n = 10 + 10 n, from the first point on.
  assert.deepEqual(crossingOf(points), { count: 7, lower: 'ours', isExtrapolated: false });
});

test('a point where both are the same is where they cross', () => {
  const points = [
    { count: 1, ours: 20, theirs: 10 },
    { count: 4, ours: 40, theirs: 40 },
    { count: 8, ours: 60, theirs: 80 },
  ];
  const crossing = { count: 4, lower: 'ours', isExtrapolated: false };
  assert.deepEqual(crossingOf(points), crossing);
  assert.deepEqual(crossingOf(points.slice(0, 2)), crossing);
});

test('lines that come closer are carried on beyond what was measured', () => {
  const points = [
    { count: 1, ours: 100, theirs: 10 },
    { count: 11, ours: 150, theirs: 110 },
  ];
  assert.deepEqual(crossingOf(points), { count: 19, lower: 'ours', isExtrapolated: true });
});

test('lines that go apart, or side by side, never cross', () => {
  const apart = [
    { count: 1, ours: 100, theirs: 10 },
    { count: 11, ours: 300, theirs: 110 },
  ];
  const beside = [
    { count: 1, ours: 100, theirs: 10 },
    { count: 11, ours: 200, theirs: 110 },
  ];
  assert.equal(crossingOf(apart), undefined);
  assert.equal(crossingOf(beside), undefined);
  assert.equal(crossingOf(apart.slice(1)), undefined);
});

test('where ours is lower first, it is told from where the other one is', () => {
  const points = [
    { count: 1, ours: 10, theirs: 20 },
    { count: 11, ours: 110, theirs: 70 },
  ];
  assert.deepEqual(crossingOf(points), { count: 3, lower: 'theirs', isExtrapolated: false });
});

test('the conclusions say what one more costs, and from where on who has less', () => {
  assert.deepEqual(conclusionsOf(shares([1, 60, 10], [11, 70, 110])), [
    'In own memory one share more than 1 costs virtiofs 1.0 MiB, Rust virtiofsd 10.0 MiB. ' +
      'The lines cross: from 7 shares on virtiofs has less.',
    'In RSS one share more than 1 costs virtiofs 1.0 MiB, Rust virtiofsd 10.0 MiB. ' +
      'The lines cross: from 7 shares on virtiofs has less.',
  ]);
  assert.deepEqual(conclusionsOf(shares([1, 100, 10], [11, 300, 110])), [
    'In own memory one share more than 1 costs virtiofs 20.0 MiB, Rust virtiofsd 10.0 MiB. ' +
      'The lines do not cross: Rust virtiofsd has less at any count.',
    'In RSS one share more than 1 costs virtiofs 20.0 MiB, Rust virtiofsd 10.0 MiB. ' +
      'The lines do not cross: Rust virtiofsd has less at any count.',
  ]);
});

test('what one more costs is what it costs where there are most', () => {
  const [own] = conclusionsOf(shares([1, 50, 10], [11, 150, 110], [111, 160, 1110]));
  assert.match(own, /one share more than 11 costs virtiofs 0\.1 MiB, Rust virtiofsd 10\.0 MiB/);
});

test('without a peer nothing is said of one, and of one point nothing at all', () => {
  assert.deepEqual(conclusionsOf(shares([1, 60], [11, 70])), [
    'In own memory one share more than 1 costs virtiofs 1.0 MiB.',
    'In RSS one share more than 1 costs virtiofs 1.0 MiB.',
  ]);
  assert.deepEqual(conclusionsOf(shares([1, 60, 10])), []);
});

test('the table has a row for each daemon at each count', () => {
  const text = markdownOf({ format: 1, machine: MACHINE, series: [shares([1, 60, 10], [8, 70])] });
  const rows = text.split('\n').filter((line) => line.startsWith('|'));
  assert.deepEqual(rows, [
    '| shares | daemon | processes | RSS MiB | Pss MiB | own MiB | stat, /s |',
    '| ---: | --- | ---: | ---: | ---: | ---: | ---: |',
    '| 1 | virtiofs | 1 | 69.0 | 61.0 | 60.0 | 1235 |',
    '| 1 | Rust virtiofsd | 1 | 19.0 | 11.0 | 10.0 | 1235 |',
    '| 8 | virtiofs | 1 | 79.0 | 71.0 | 70.0 | 1235 |',
  ]);
});
