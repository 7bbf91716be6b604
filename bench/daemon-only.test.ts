import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { silent } from '../lab/index.ts';
import { type ClientRow, ROWS } from './client-rows.ts';
import { type DaemonOnlyResult, runDaemonOnly } from './daemon-only.ts';
import type { RunProgress } from './run.ts';

const ROUNDS = 2;
const OPERATIONS = 5;

const PEER_THAT_ENDS = `#!/bin/sh
[ "$1" = --version ] && echo virtiofsd 1.2.3 && exit
echo so it goes
echo 'not on /some/machine: not today'
exit 3
`;

const BROKEN: ClientRow = {
  name: 'broken',
  noun: 'failures',
  inFlight: 1,
  most: 1,
  operation: (volume) => () => volume.unlink('there is no such file'),
};

/** Our daemon alone, few operations of each row: the result, and what was told on the way. */
async function measured(rows: readonly ClientRow[], virtiofsd?: string): Promise<[DaemonOnlyResult, RunProgress[]]> {
  const parent = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  const told: RunProgress[] = [];
  const rounds: [number, number][] = [];
  try {
    const result = await runDaemonOnly({
      parent,
      rounds: ROUNDS,
      limits: { seconds: Infinity, operations: OPERATIONS },
      rows,
      peer: virtiofsd !== undefined,
      virtiofsd,
      command: 'a test',
      version: '1.2.3',
      progress: silent,
      onProgress: (progress) => told.push(progress),
      onRound: (known) => rounds.push([known.rounds, known.rows.at(-1)?.samples.virtiofs?.length ?? 0]),
    });
    // What is known after each round, so that it can be kept.
    assert.deepEqual(rounds, [[0, 0], ...Array.from({ length: ROUNDS }, (_, i) => [i + 1, i + 1])]);
    assert.deepEqual(readdirSync(parent), []);
    return [result, told];
  } finally {
    rmSync(parent, { recursive: true });
  }
}

test('each row of daemon-only has a sample for each round, with the CPU time of both sides', async () => {
  const [{ rows, contestants }] = await measured(ROWS);
  assert.deepEqual(
    contestants.map(({ id, version }) => [id, version]),
    [['virtiofs', '1.2.3']],
  );
  assert.deepEqual(
    rows.map(({ name }) => name),
    ROWS.map(({ name }) => name),
  );
  const all = rows.flatMap(({ samples }) => samples.virtiofs);
  assert.ok(all.reduce((sum, { daemonCpuSeconds }) => sum + daemonCpuSeconds, 0) > 0);
  for (const { name, suite, samples, failures } of rows) {
    assert.equal(suite, 'daemon');
    assert.deepEqual(failures, {}, name);
    assert.deepEqual(
      samples.virtiofs.map(({ operations }) => operations),
      [OPERATIONS, OPERATIONS],
      name,
    );
    for (const { seconds, daemonCpuSeconds, clientCpuSeconds, p50Us, p99Us } of samples.virtiofs) {
      // The kernel adds up a thread's time when it sleeps, or by the tick: a run of five may find nothing new.
      assert.ok(seconds > 0 && daemonCpuSeconds >= 0 && clientCpuSeconds >= 0, name);
      assert.ok(p50Us > 0 && p99Us >= p50Us, name);
    }
  }
});

test('a daemon that does not start is left out with what it said last, and the other is measured', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  try {
    const program = join(folder, 'virtiofsd');
    writeFileSync(program, PEER_THAT_ENDS, { mode: 0o755 });
    const [{ contestants, leftOut, rows }] = await measured([ROWS[0]], program);
    assert.deepEqual([contestants.map(({ id }) => id), rows[0].samples.virtiofs.length], [['virtiofs'], ROUNDS]);
    const why = 'the daemon ended (exit code 3) before it was ready: not on PATH: not today';
    assert.deepEqual(leftOut, [{ label: 'Rust virtiofsd', why }]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a row that fails says why, and the others go on', async () => {
  const [{ rows }, told] = await measured([BROKEN, ROWS[0]]);
  assert.match(rows[0].failures.virtiofs, /ENOENT/);
  assert.deepEqual(rows[0].samples, {});
  assert.equal(rows[1].samples.virtiofs.length, ROUNDS);
  const parts = told.map(({ part }) => part);
  assert.deepEqual(
    parts,
    parts.toSorted((a, b) => a - b),
  );
  assert.deepEqual([parts.length, parts[0]], [2 * (ROUNDS + 1), 0]);
});
