import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { Command, CommanderError } from 'commander';

import { type FileResult, openPjdfstest, type PjdfstestResult } from '../../lab/index.ts';
import { registerConformance } from './conformance.ts';
import { chosenTests, parseModes } from './pjdfstest.ts';
import { newFailures, reportOf } from './pjdfstest-report.ts';

function resultOf(files: Record<string, FileResult>, seconds = 10): PjdfstestResult {
  return { files: new Map(Object.entries(files)), seconds };
}

const failing = (number: number): { number: number; text: string } => ({ number, text: `test ${number}` });

test('a filter names a folder or a file, with or without tests/ before it', () => {
  const tests = ['open/00.t', 'open/01.t', 'rename/00.t', 'rename2/00.t'];
  const chosen = (filter?: string): string[] => chosenTests(tests, filter);
  assert.deepEqual(chosen(), tests);
  for (const filter of ['rename', 'tests/rename', './tests/rename/']) assert.deepEqual(chosen(filter), ['rename/00.t']);
  assert.deepEqual(chosen('tests/open/01.t'), ['open/01.t']);
  assert.deepEqual(chosen('tests'), tests);
  assert.deepEqual(chosen('nothing'), []);
});

test('cache modes are a list, and an unknown one is refused with what there is', async () => {
  assert.deepEqual(parseModes('none,auto'), ['never', 'auto']);
  let said = '';
  const program = new Command().exitOverride().configureOutput({ writeErr: (text) => (said += text) });
  registerConformance(program);
  for (const command of program.commands.flatMap((each) => [each, ...each.commands])) {
    command.exitOverride().configureOutput(program.configureOutput());
  }
  const args = ['conformance', 'pjdfstest', '--suite', '/', '--cache', 'auto,sometimes'];
  await assert.rejects(program.parseAsync(args, { from: 'user' }), CommanderError);
  assert.match(said, /'auto,sometimes' is invalid. Each is one of never, metadata, auto, always/);
});

test('a folder that is no checkout, or is not built, is refused with what to do', () => {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-suite-'));
  try {
    assert.throws(() => openPjdfstest(folder), { code: 'SUITE', message: /no checkout of pjdfstest/ });
    mkdirSync(join(folder, 'tests/open'), { recursive: true });
    for (const name of ['tests/misc.sh', 'tests/open/01.t', 'tests/open/00.t']) writeFileSync(join(folder, name), '');
    assert.throws(() => openPjdfstest(folder), { code: 'SUITE', message: /not built[^]*as its README says/ });
    writeFileSync(join(folder, 'pjdfstest'), '', { mode: 0o755 });
    assert.deepEqual(openPjdfstest(folder).tests, ['open/00.t', 'open/01.t']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a test that fails on the share counts unless the same one fails on ext4', () => {
  const ext4 = resultOf({
    'a/0.t': { run: 5, failed: [failing(2)], todo: 0 },
    'b/0.t': { run: 9, failed: [failing(2)], todo: 0 },
    'c/0.t': { run: 1, failed: [], todo: 0 },
  });
  const share = resultOf({
    'a/0.t': { run: 5, failed: [failing(2), failing(3)], todo: 0 },
    // Fewer tests: number 2 is another one here.
    'b/0.t': { run: 8, failed: [failing(2)], todo: 0 },
    'c/0.t': { run: 0, failed: [], todo: 0, problem: 'did not run' },
  });
  const found = newFailures(ext4, share).map(({ file, number }) => [file, number]);
  assert.deepEqual(found, [
    ['a/0.t', 3],
    ['b/0.t', 2],
    ['c/0.t', undefined],
  ]);
});

test('the report has a row for each run, then what fails in the words of the suite', () => {
  const ext4 = resultOf({
    'a/0.t': { run: 12, failed: [], todo: 1 },
    'b/0.t': { run: 3, failed: [failing(3)], todo: 0 },
  });
  const share = resultOf({
    'a/0.t': { run: 11, failed: [failing(7)], todo: 1 },
    'b/0.t': { run: 3, failed: [failing(3)], todo: 0, problem: 'planned 4 tests, ran 3' },
  });
  const outcomes = [
    { name: 'auto, writeback', result: share },
    { name: 'always', error: 'it hung' },
  ];
  assert.equal(
    reportOf(ext4, outcomes),
    `                 files  tests  failed  todo  seconds
ext4                 2     15       1     1       10
auto, writeback      2     14       3     1       10

Failing with auto, writeback:
  a/0.t 7: test 7 (ext4 passes)
  b/0.t 3: test 3 (ext4 fails)
  b/0.t: planned 4 tests, ran 3 (ext4 passes)

always did not get to its end: it hung

Failing on ext4: b/0.t`,
  );
});
