/** The suite in a guest, on a share as it is served by default, beside ext4. Other modes: npm run conformance. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { test } from 'node:test';

import { differences, formatDifferences, type Report } from '../conformance/index.ts';

const MAIN = resolve(import.meta.dirname, '../src/cli/main.ts');
/** A deadline: emulated, on a busy machine, it takes two minutes. */
const DEADLINE_MS = 600_000;

test('a share behaves as ext4 does in the same guest', () => {
  const args = ['--disable-warning=ExperimentalWarning', MAIN, 'conformance', '--guest', '--json'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    timeout: DEADLINE_MS,
    maxBuffer: 1 << 26,
  });
  assert.ok(status === 0 || status === 1, stderr);
  const { report, yardstick } = JSON.parse(stdout) as { report: Report; yardstick: Report };
  const failed = (of: Report): string[] =>
    of.outcomes.filter(({ verdict }) => verdict === 'failed').map(({ sentence }) => sentence);
  assert.deepEqual(failed(yardstick), []);
  assert.deepEqual(failed(report), [], formatDifferences(report, yardstick));
  assert.equal(status, 0);
  assert.ok(differences(report, yardstick).length < 20, formatDifferences(report, yardstick));
});
