import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import type { Report } from '../../conformance/index.ts';

const MAIN = join(import.meta.dirname, 'main.ts');

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtiofs-conformance-'));
  for (const name of ['a', 'b']) mkdirSync(join(folder, name));
});
after(() => rmSync(folder, { recursive: true, force: true }));

function conformance(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const command = ['--disable-warning=ExperimentalWarning', MAIN, 'conformance', ...args];
  return spawnSync(process.execPath, command, { encoding: 'utf8', env: { ...process.env, NO_COLOR: '1' } });
}

test('a directory is told about by topic, and left as it was', () => {
  const { status, stdout, stderr } = conformance(join(folder, 'a'), '--filter', 'readlink of');
  assert.match(stdout, /^.*\/a: 1 behaviours in .* s\n[^]*^paths +1 +0 +0\nall +1 +0 +0\n$/m, stderr);
  assert.equal(status, 0);
  assert.deepEqual(readdirSync(join(folder, 'a')), []);
});

test('two directories are told about side by side, and what is made can be kept', () => {
  const { status, stdout } = conformance(
    ...[join(folder, 'a'), '--yardstick', join(folder, 'b'), '--filter', 'readlink', '--keep'],
  );
  assert.match(stdout, /Every behaviour comes out the same on .*\/a and on .*\/b\.\n$/);
  assert.equal(status, 0);
  for (const name of ['a', 'b']) assert.match(readdirSync(join(folder, name)).join(), /^conformance-[^,]+$/);
});

test('--json gives each sentence with what came of it', () => {
  const { stdout } = conformance(join(folder, 'b'), '--json', '--filter', 'directories: mkdir of a name');
  const { report } = JSON.parse(stdout) as { report: Report };
  assert.deepEqual(
    report.outcomes.map(({ topic, verdict }) => [topic, verdict]),
    [['directories', 'passed']],
  );
});

test('a directory that cannot be tested is refused with why', () => {
  const none = conformance(join(folder, 'none'));
  assert.deepEqual([none.status, none.stderr], [1, `virtiofs: ${join(folder, 'none')}: there is no such directory.\n`]);
  const wrong = conformance();
  assert.deepEqual([wrong.status, wrong.stderr], [1, 'virtiofs: one directory is wanted, not 0 (--help shows how).\n']);
  assert.match(conformance('--guest', '--yardstick', '/').stderr, /--yardstick is ext4 with --guest/);
  const filtered = conformance(folder, '--filter', 'no such words');
  assert.match(filtered.stderr, /^virtiofs: --filter no such words: no behaviour has that in its sentence\.\n$/);
});
