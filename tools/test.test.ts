import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

const folder = mkdtempSync(join(tmpdir(), 'virtiofs-runner-'));
after(() => rmSync(folder, { recursive: true }));

const HEAD = "import assert from 'node:assert/strict';\nimport { describe, test } from 'node:test';\n";

/** Writes test files and runs the runner on them; its lines, and its exit code. */
function runner(files: Readonly<Record<string, string>>, ...options: string[]) {
  const paths = Object.keys(files).map((name) => join(folder, name));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), HEAD + text);
  // A runner inside a test must not think that it is one.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const script = join(import.meta.dirname, 'test.ts');
  const { stdout, status } = spawnSync(process.execPath, [script, ...options, ...paths], { env, encoding: 'utf8' });
  return { code: status, text: stdout, last: stdout.trimEnd().split('\n').at(-1) };
}

test('passed tests are counted, suites and skipped ones are not', () => {
  const result = runner({
    'a.test.ts': "describe('s', () => { test('in', () => {}); });\ntest('skip', { skip: 'why' }, () => {});\n",
    'b.test.ts': "test('one', async (t) => { await t.test('two', () => {}); });\n",
  });
  assert.equal(result.last, '3 passed, 0 failed');
  assert.match(result.text, /^1 skipped$/m);
  assert.equal(result.code, 0);
});

test('a failure is shown in full, with what the file printed, and fails the run', () => {
  const result = runner({
    'bad.test.ts': "console.log('said this');\ntest('sums', () => assert.equal(1 + 1, 3));\ntest('ok', () => {});\n",
  });
  assert.equal(result.last, '1 passed, 1 failed');
  assert.match(result.text, /bad\.test\.ts:4: sums\nAssertionError/);
  assert.match(result.text, /2 !== 3/);
  assert.match(result.text, /said this/);
  assert.equal(result.code, 1);
});

test('a file that does not load, or holds no test, fails the run', () => {
  const crash = runner({ 'crash.test.ts': "throw new Error('at load');\n" });
  assert.equal(crash.last, '0 passed, 1 failed');
  assert.match(crash.text, /at load/);
  const empty = runner({ 'empty.test.ts': '', 'good.test.ts': "test('ok', () => {});\n" });
  assert.equal(empty.last, '1 passed, 1 failed');
  assert.match(empty.text, /empty\.test\.ts: holds no test/);
  assert.deepEqual([crash.code, empty.code], [1, 1]);
});

test('a file that does not end is ended, and the test that hung is named', () => {
  const result = runner(
    { 'hang.test.ts': "test('waits', () => new Promise(() => setInterval(() => {}, 1000)));\n" },
    '--timeout',
    '2',
  );
  assert.equal(result.last, '0 passed, 1 failed');
  assert.match(result.text, /did not end within 2 s; at that time it ran: waits/);
  assert.equal(result.code, 1);
});

test('a file that hangs for good, and does not heed SIGTERM, is killed', () => {
  const stubborn = "process.on('SIGTERM', () => {});\ntest('spins', () => { for (;;); });\n";
  const result = runner({ 'stubborn.test.ts': stubborn, 'next.test.ts': "test('ok', () => {});\n" }, '--timeout', '2');
  assert.equal(result.last, '1 passed, 1 failed');
  assert.match(result.text, /did not end within 2 s/);
});

test('guest tests and unit tests can be asked for alone, and no test at all is a failure', () => {
  const files = { 'x.guest.test.ts': "test('guest', () => {});\n", 'y.test.ts': "test('unit', () => {});\n" };
  assert.match(runner(files, '--unit').text, /^ok {3}.*y\.test\.ts: 1 passed.*\n1 passed, 0 failed\n$/);
  assert.match(runner(files, '--guest').text, /^ok {3}.*x\.guest\.test\.ts: 1 passed.*\n1 passed, 0 failed\n$/);
  const none = runner({ 'y.test.ts': '' }, '--guest');
  assert.equal(none.last, '0 passed, 0 failed');
  assert.equal(none.code, 1);
});
