import assert from 'node:assert/strict';
import { test } from 'node:test';
import { countOf, differences, fallsShort, formatDifferences, formatReport } from './report.ts';
import type { Outcome, Report, Verdict } from './run.ts';

function outcome(sentence: string, verdict: Verdict, reason?: string): Outcome {
  return { topic: sentence.startsWith('rename') ? 'rename' : 'open', sentence, verdict, reason, ms: 1 };
}

function report(target: string, ...outcomes: readonly Outcome[]): Report {
  return { target, outcomes, seconds: 1.25 };
}

const ext4 = report(
  'ext4',
  outcome('open one', 'passed'),
  outcome('rename two', 'passed'),
  outcome('open three', 'passed'),
);

test('a report has a row for each topic, what failed in full, and each reason not to apply once', () => {
  const share = report(
    'share',
    outcome('open one', 'passed'),
    outcome('rename two', 'failed', 'expected EXDEV, got success'),
    outcome('open three', 'not applicable', 'no locks'),
    outcome('open four', 'not applicable', 'no locks'),
  );
  assert.equal(
    formatReport(share),
    `share: 4 behaviours in 1.3 s

                         passed  failed  not applicable
open                          1       0               2
rename                        0       1               0
all                           1       1               2

Failed:
  rename: rename two
      expected EXDEV, got success

Not applicable:
     2  no locks`,
  );
  assert.equal(countOf(share, 'not applicable'), 2);
});

test('a failure counts where the yardstick passes, and is told beside it', () => {
  const share = report(
    'share',
    outcome('open one', 'passed'),
    outcome('rename two', 'failed', 'expected EXDEV, got success'),
    outcome('open three', 'not applicable', 'no locks'),
  );
  assert.ok(fallsShort(differences(share, ext4)));
  assert.equal(
    formatDifferences(share, ext4),
    `Behaviours that come out otherwise on share than on ext4:
  rename: rename two
      failed (passed on ext4)
      expected EXDEV, got success
  open: 1 not applicable (no locks)`,
  );
});

test('what fails on the yardstick too, or does not apply, is no shortcoming', () => {
  const failing = report('ext4', outcome('rename two', 'failed', 'why'));
  assert.ok(!fallsShort(differences(failing, failing)));
  assert.ok(!fallsShort(differences(report('share', outcome('rename two', 'not applicable', 'why')), ext4)));
  assert.equal(formatDifferences(ext4, ext4), 'Every behaviour comes out the same on ext4 and on ext4.');
});
