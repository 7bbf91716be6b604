import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { silent } from '../lab/index.ts';
import { Contest } from './contest.ts';
import { PLANS } from './plans.ts';

test('nobody is left when no daemon starts: the error says why of each, and nothing stays behind', async () => {
  const parent = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  const notes: string[] = [];
  const plans = PLANS.filter(({ kind }) => kind === 'virtiofsd').slice(0, 2);
  const peer = { command: ['/bin/false'], version: '1' };
  const progress = { ...silent, note: (line: string) => void notes.push(line) };
  try {
    await assert.rejects(Contest.open({ plans, peer, parent, packages: [], progress }), (error: Error) => {
      assert.equal(error.name, 'LabError');
      const [what, ...whys] = error.message.split('\n');
      assert.equal(what, 'no contestant could be started');
      assert.deepEqual(
        whys,
        plans.map(({ label }) => `${label}: the daemon ended (exit code 1) before it was ready`),
      );
      return true;
    });
    assert.deepEqual(
      notes.map((note) => note.split(': ').slice(0, 2)),
      plans.map(({ label }) => ['left out', label]),
    );
    assert.deepEqual(readdirSync(parent), []);
  } finally {
    rmSync(parent, { recursive: true });
  }
});
