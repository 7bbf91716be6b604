import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ROOMS, roomOf } from './rooms.ts';
import { check, type Files } from './tidy.ts';

const CHANGELOG = '# Changelog\n\n## Unreleased\n\n### Safety\n';

/** A small repository without a breach, and what is put into it. */
function repository(files: Readonly<Record<string, string>>): Files {
  const all = new Map<string, string>([['CHANGELOG.md', CHANGELOG]]);
  for (const [path, text] of Object.entries(files)) all.set(path, text);
  for (const room of new Set([...all.keys()].map(roomOf))) {
    if (room === undefined) continue;
    const { imports, door, starts = [] } = ROOMS[room];
    const up = '../'.repeat(room.split('/').length);
    const references = imports.map((name) => ({ path: up + name }));
    if (!all.has(`${room}/tsconfig.json`)) all.set(`${room}/tsconfig.json`, JSON.stringify({ references }));
    for (const entry of [door, ...starts]) {
      if (entry !== undefined && !all.has(`${room}/${entry}`)) all.set(`${room}/${entry}`, '');
    }
  }
  return all;
}

function breaches(files: Readonly<Record<string, string>>): string[] {
  return check(repository(files));
}

test('a repository that keeps the rules has no breach', () => {
  const files = {
    'src/core/index.ts': "export * from './errno.ts';\n",
    'src/core/errno.ts': 'export const EIO = 5;\n',
    'src/sys/index.ts': "import { EIO } from '../core/index.ts';\nimport fs from 'node:fs';\nconsole.log(EIO, fs);\n",
  };
  assert.deepEqual(breaches(files), []);
});

test('a room imports only what stands to its right', () => {
  assert.deepEqual(breaches({ 'src/core/index.ts': "import '../sys/index.ts';\n" }), [
    'src/core/index.ts:1: src/core may not import src/sys',
  ]);
  assert.deepEqual(breaches({ 'src/fs/file-system.ts': "\nexport * from '../sys/index.ts';\n" }), [
    'src/fs/file-system.ts:2: src/fs may not import src/sys',
  ]);
  const passthrough = { 'src/fs/passthrough/index.ts': "await import('../../sys/index.ts');\n" };
  assert.deepEqual(breaches(passthrough), []);
  assert.deepEqual(breaches({ 'src/server/index.ts': "import '../cli/main.ts';\n" }), [
    'src/server/index.ts:1: src/server may not import src/cli',
  ]);
});

test('a room is entered through its door', () => {
  const files = { 'src/sys/index.ts': "import '../core/errno.ts';\n", 'src/core/errno.ts': '' };
  assert.deepEqual(breaches(files), ['src/sys/index.ts:1: src/core is entered through index.ts alone']);
});

test('only src/sys/ffi.ts imports node:ffi, and pure rooms import nothing of Node', () => {
  const files = {
    'src/sys/index.ts': "import './ffi.ts';\nimport 'node:ffi';\n",
    'src/sys/ffi.ts': "import ffi from 'node:ffi';\n",
    'src/wire/index.ts': "import 'node:util';\n",
    'src/wire/wire.test.ts': "import 'node:test';\nimport 'fast-check';\n",
  };
  assert.deepEqual(breaches(files), [
    'src/sys/index.ts:2: only src/sys/ffi.ts imports node:ffi',
    'src/wire/index.ts:1: src/wire is pure and imports nothing of Node',
  ]);
});

test('packages are for the rooms that are allowed to have them', () => {
  assert.deepEqual(breaches({ 'src/server/index.ts': "import 'commander';\n" }), [
    'src/server/index.ts:1: src/server may not import the package commander',
  ]);
  assert.deepEqual(breaches({ 'src/cli/main.ts': "import 'commander';\n" }), []);
});

test('long files and long functions are found, but not tests in a describe', () => {
  const lines = (count: number): string => '0;\n'.repeat(count);
  const body = (count: number): string => `{\n${lines(count)}}`;
  assert.deepEqual(breaches({ 'src/core/index.ts': lines(501) }), ['src/core/index.ts:1: 501 lines, over 500']);
  assert.deepEqual(breaches({ 'src/core/a.test.ts': lines(501) }), []);
  assert.deepEqual(breaches({ 'src/core/index.ts': `\nfunction f() ${body(69)}` }), [
    'src/core/index.ts:2: a function of 71 lines, over 70',
  ]);
  assert.deepEqual(breaches({ 'src/core/index.ts': `const f = () => ${body(68)};\nclass A { m() ${body(69)} }\n` }), [
    'src/core/index.ts:71: a function of 71 lines, over 70',
  ]);
  assert.deepEqual(breaches({ 'src/core/a.test.ts': `describe('x', () => ${body(90)});\n` }), []);
});

test('lines are ASCII, at most 120 columns, and finished', () => {
  const unfinished = ['TO', 'DO'].join('');
  assert.deepEqual(
    breaches({ 'src/core/index.ts': `// caf\u00e9\n// ${'x'.repeat(118)}\n// ${unfinished}: later\n` }),
    [
      'src/core/index.ts:1: not ASCII: "\u00e9"',
      'src/core/index.ts:2: 121 columns',
      `src/core/index.ts:3: ${unfinished}: finish it, or write an issue`,
    ],
  );
  assert.deepEqual(breaches({ 'docs/A.md': `| ${'wide '.repeat(40)} |\n` }), []);
});

test('a test does not sleep', () => {
  const sleep = ['set', 'Timeout'].join('');
  const files = {
    'src/core/a.test.ts': `await new Promise((end) => ${sleep}(end, 50));\n`,
    'src/core/b.test.ts': `// The deadline of the whole test.\n${sleep}(fail, 5000);\n`,
    'src/core/index.ts': `${sleep}(go, 1);\n`,
  };
  const found = breaches(files);
  assert.equal(found.length, 1);
  assert.match(found[0], /^src\/core\/a\.test\.ts:1: a sleep in a test/);
});

test('a file that only its own test imports is dead, workers and tests are not', () => {
  const files = {
    'src/core/lost.ts': '',
    'src/core/lost.test.ts': "import './lost.ts';\n",
    'src/core/index.ts': "new Worker(new URL('./worker.ts', import.meta.url));\n",
    'src/core/worker.ts': '',
    'src/core/testing.ts': '',
    'src/core/index.test.ts': "import './testing.ts';\n",
    'bench/reads.ts': '',
    'src/nowhere.ts': '',
  };
  assert.deepEqual(breaches(files), [
    'src/core/lost.ts:1: nothing imports it',
    'src/nowhere.ts:1: belongs to no room (tools/rooms.ts)',
  ]);
});

test('project references are the table of rooms', () => {
  const references = (...paths: string[]): string => JSON.stringify({ references: paths.map((path) => ({ path })) });
  assert.deepEqual(breaches({ 'src/fuse/tsconfig.json': references('../core', '../wire') }), []);
  assert.deepEqual(breaches({ 'src/fuse/tsconfig.json': references('../core', '../sys') }), [
    'src/fuse/tsconfig.json:1: references src/core src/sys, not src/core src/wire',
  ]);
});

test('the changelog has a place for what comes next, in three kinds', () => {
  assert.deepEqual(breaches({ 'CHANGELOG.md': '# Changelog\n\n## 1.0.0\n\n### Fixes\n' }), [
    "CHANGELOG.md:1: the first section is not '## Unreleased'",
    "CHANGELOG.md:5: 'Fixes' is none of Safety, Features, Internals",
  ]);
  const files = new Map(repository({}));
  files.delete('CHANGELOG.md');
  assert.deepEqual(check(files), ['CHANGELOG.md:1: is missing']);
});
