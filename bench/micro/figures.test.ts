import assert from 'node:assert/strict';
import { test } from 'node:test';

import { UserError } from '../../src/core/index.ts';
import { MACHINE } from '../report/testing.ts';
import { compare, type Figure, machineDifferences, type MicroFigures, parseFigures, remarksOn } from './figures.ts';
import { tableOf } from './figures.ts';

function figure(name: string, p50Ns: number, half = 10): Figure {
  return { name, leastNs: p50Ns - 2 * half, p25Ns: p50Ns - half, p50Ns, p75Ns: p50Ns + half };
}

function figures(...list: Figure[]): MicroFigures {
  return { format: 1, machine: MACHINE, figures: list };
}

test('a ratio is that of the medians, now to then', () => {
  assert.deepEqual(compare(figure('a', 150), figure('a', 100)), { ratio: 1.5, isClear: true });
  assert.deepEqual(compare(figure('a', 50), figure('a', 100)), { ratio: 0.5, isClear: true });
});

test('a ratio is not clear where the middle halves meet', () => {
  assert.equal(compare(figure('a', 115), figure('a', 100)).isClear, false);
  assert.equal(compare(figure('a', 85), figure('a', 100)).isClear, false);
  assert.equal(compare(figure('a', 121), figure('a', 100)).isClear, true);
});

test('the table shows then and the ratio, and what is new', () => {
  const [title, a, b] = tableOf([figure('a', 150), figure('b', 99.96)], [figure('a', 100)]).map((line) =>
    line.trim().split(/ {2,}/),
  );
  assert.deepEqual(title, ['median ns', 'middle half', 'least', 'then', 'now : then']);
  assert.deepEqual(a, ['a', '150', '140-160', '130', '100', '1.50']);
  assert.deepEqual(b, ['b', '100.0', '90.0-110', '80.0', 'new']);
});

test('without old figures there is nothing of them in the table', () => {
  assert.doesNotMatch(tableOf([figure('a', 150)]).join('\n'), /then|new/);
});

test('it is told where another machine was measured', () => {
  assert.deepEqual(machineDifferences(MACHINE, { ...MACHINE, date: 'x', memoryMiB: 1 }), []);
  const other = { ...MACHINE, kernel: '6.1.2', node: 'v26.9.0' };
  assert.deepEqual(machineDifferences(MACHINE, other), [
    'kernel: 6.12.1 now, 6.1.2 then',
    'node: v26.10.0 now, v26.9.0 then',
  ]);
  const remarks = remarksOn(figures(), { ...figures(), machine: other }, true);
  assert.ok(remarks.includes('another machine: the ratios mean little'), remarks.join('\n'));
});

test('what is not measured any more is named, where all was measured', () => {
  const [now, then] = [figures(figure('a', 1)), figures(figure('a', 1), figure('b', 1))];
  assert.ok(remarksOn(now, then, true).includes('not measured any more: b'));
  assert.ok(!remarksOn(now, then, false).join('\n').includes('not measured'));
});

test('figures that were written are read again', () => {
  const written = figures(figure('a', 150));
  assert.deepEqual(parseFigures(JSON.stringify(written), 'x.json'), written);
});

test('a file of something else is refused with its name', () => {
  for (const text of ['', 'null', '{}', '{"format":2,"machine":{},"figures":[]}']) {
    assert.throws(
      () => parseFigures(text, 'x.json'),
      (error) => error instanceof UserError && error.message.startsWith('x.json '),
    );
  }
  const bad = { ...figures(), figures: [{ name: 'a', leastNs: 1, p25Ns: 1, p50Ns: 'fast', p75Ns: 1 }] };
  assert.throws(() => parseFigures(JSON.stringify(bad), 'x.json'), UserError);
});
