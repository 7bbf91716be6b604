/** The suite in a guest, on a share as it is served by default, beside ext4. Other modes: npm run conformance. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { test } from 'node:test';

import { differences, formatDifferences, type Report } from '../conformance/index.ts';

const MAIN = resolve(import.meta.dirname, '../src/cli/main.ts');
/** A deadline: emulated, on a busy machine, it takes two minutes. */
const DEADLINE_MS = 600_000;

/** What a share does otherwise, and why. */
const KNOWN: readonly string[] = [
  // Without --preserve-noatime the flag does not reach the host.
  'read with O_NOATIME moves nothing',
  // The kernel leaves this one to a daemon that says it can.
  'open with O_TRUNC by a user clears the set-id bits',
];

test('a share behaves as ext4 does in the same guest', () => {
  const args = ['--disable-warning=ExperimentalWarning', MAIN, 'conformance', '--guest', '--json', '--', '--xattr'];
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
  assert.deepEqual(
    failed(report).filter((sentence) => !KNOWN.includes(sentence)),
    [],
    formatDifferences(report, yardstick),
  );
  assert.equal(status, failed(report).length === 0 ? 0 : 1);
  assert.ok(differences(report, yardstick).length < 60, formatDifferences(report, yardstick));
});
