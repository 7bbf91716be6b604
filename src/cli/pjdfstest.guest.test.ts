/** The command as a user starts it, with a suite of two tests in place of the public one. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';

const MAIN = join(import.meta.dirname, 'main.ts');
/** Longer than a boot and two runs ever take; a deadline. */
const DEADLINE_MS = 300_000;
const FILES = {
  pjdfstest: '#!/bin/sh\nexit 1\n',
  'tests/conf': '',
  'tests/misc.sh': '',
  'tests/good/00.t': '#!/bin/sh\necho 1..2\necho ok 1\n[ "$(echo x | openssl md5 | wc -c)" = 33 ] && echo ok 2\n',
  'tests/local/00.t': '#!/bin/sh\necho 1..1\ndf -T . | grep -q ext4 && echo ok 1 || echo "not ok 1 - not local"\n',
};

let suite = '';
let scratch = '';
beforeEach(() => {
  suite = mkdtempSync(join(tmpdir(), 'virtiofs-suite-'));
  scratch = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  for (const folder of ['good', 'local']) mkdirSync(join(suite, 'tests', folder), { recursive: true });
  for (const [path, text] of Object.entries(FILES)) writeFileSync(join(suite, path), text, { mode: 0o755 });
});
afterEach(() => {
  for (const each of [suite, scratch]) rmSync(each, { recursive: true, force: true });
});

function pjdfstest(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const command = ['--disable-warning=ExperimentalWarning', MAIN, 'conformance', 'pjdfstest', '--suite', suite];
  const env = { ...process.env, TMPDIR: scratch, NO_COLOR: '1' };
  return spawnSync(process.execPath, [...command, ...args], { env, encoding: 'utf8', timeout: DEADLINE_MS });
}

const needsRoot = process.geteuid?.() === 0 ? false : 'the suite needs root';

test('what passes on ext4 and fails on the share is told, and ends the command with 1', { skip: needsRoot }, () => {
  const { status, stdout, stderr } = pjdfstest('--cache', 'auto', '--no-writeback');
  const counts = stdout.split('\n').map((line) => line.split(/ +/).slice(0, 4).join(' '));
  assert.deepEqual(counts.slice(1, 3), ['ext4 2 3 0', 'auto 2 3 1'], stderr);
  assert.match(stdout, /Failing with auto:\n {2}local\/00\.t 1: not local \(ext4 passes\)\n/);
  assert.match(stderr, /^ext4: 2 files$[^]*^auto: 2 files in \d+ s$/m);
  assert.equal(status, 1);
  assert.deepEqual(readdirSync(scratch), []);
});

test('a share on which all passes ends the command with 0', { skip: needsRoot }, () => {
  const { status, stdout, stderr } = pjdfstest('--cache', 'auto', '--writeback', '--filter', 'good/00.t');
  assert.match(stdout, /^auto, writeback +1 +2 +0 +0 +\d+\n$/m, stderr);
  assert.equal(status, 0);
});

test('a program that does not start in the guest is told apart from a test that fails', { skip: needsRoot }, () => {
  writeFileSync(join(suite, 'pjdfstest'), '#!/nonexistent\n');
  const { status, stderr } = pjdfstest('--cache', 'auto', '--no-writeback');
  assert.match(stderr, /the suite's pjdfstest does not start in the guest: .*\nLink it statically/);
  assert.equal(status, 1);
});
