import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DRIVER_RULES, type Mode, throughDriver } from './driver.ts';
import type { Verdict } from './run.ts';
import { ALL_BEHAVIOURS } from './topics/index.ts';

const NONE: Mode = { cache: 'never', writeback: false, dax: false };
const WRITEBACK: Mode = { cache: 'always', writeback: true, dax: true };

function verdictsOf(verdict: Verdict, mode: Mode): string[] {
  const outcomes = ALL_BEHAVIOURS.map(({ topic, sentence }) => ({ topic, sentence, verdict, reason: 'seen', ms: 1 }));
  const report = throughDriver({ target: 'share', outcomes, seconds: 1 }, mode);
  return report.outcomes.map((each) => `${each.verdict}: ${each.reason}`);
}

test('each rule of the driver is about a sentence that there is, and holds in some modes only', () => {
  for (const { topic, sentence, holds } of DRIVER_RULES) {
    assert.ok(
      ALL_BEHAVIOURS.some((each) => each.topic === topic && each.sentence === sentence),
      `${topic}: ${sentence}`,
    );
    assert.deepEqual([holds(WRITEBACK), holds(NONE)], [true, false]);
  }
});

test('what fails by a rule is not applicable with its reason, and nothing else changes', () => {
  const changed = verdictsOf('failed', WRITEBACK).filter((each) => each !== 'failed: seen');
  assert.deepEqual(changed.toSorted(), DRIVER_RULES.map(({ why }) => `not applicable: ${why}`).toSorted());
  assert.ok(verdictsOf('failed', NONE).every((each) => each === 'failed: seen'));
  assert.ok(verdictsOf('passed', WRITEBACK).every((each) => each === 'passed: seen'));
});
