import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';

import { findNpm, npmProject } from './npm.ts';
import { history, NEEDLE, needlesIn, sourceTree } from './source-tree.ts';
import { tarOf } from './tar.ts';

interface LockedPackage {
  readonly version: string;
  readonly integrity: string;
  readonly dependencies?: Record<string, string>;
}

function temporary(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), 'virtiofs-suites-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

function write(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

/** An npm that depends on `small` (2 files), and on `large` (5 files) with a `small` of its own. */
function fakeNpm(folder: string): void {
  const manifest = (path: string, value: object): void =>
    write(join(folder, path, 'package.json'), JSON.stringify(value));
  manifest('', { name: 'npm', version: '1.0.0', dependencies: { '@scope/large': '^1.0.0', small: '^2.0.0' } });
  manifest('node_modules/small', { name: 'small', version: '2.0.0' });
  write(join(folder, 'node_modules/small/index.js'), 'small 2');
  const large = 'node_modules/@scope/large';
  manifest(large, { name: '@scope/large', version: '1.0.0', bin: 'run.js', dependencies: { small: '^1.0.0' } });
  for (const name of ['run.js', 'a.js', 'lib/b.js', 'lib/c.js']) write(join(folder, large, name), name);
  manifest(`${large}/node_modules/small`, { name: 'small', version: '1.0.0' });
  write(join(folder, 'bin/npm-cli.js'), '');
}

test('the source tree is the same every time, in files of its own, and what is searched is in it', () => {
  const tree = sourceTree(200);
  assert.deepEqual(sourceTree(200), tree);
  assert.equal(new Set(tree.map(({ path }) => path)).size, 200);
  assert.equal(tree.filter(({ text }) => text.includes(NEEDLE)).length, needlesIn(200));
  const sizes = tree.map(({ text }) => text.length);
  assert.ok(Math.max(...sizes) > 10_000 && Math.min(...sizes) < 1000, 'small and large files');
});

test('the history is the same every time, and each commit changes files', () => {
  const stream = history(20, 5);
  assert.equal(history(20, 5), stream);
  assert.equal(stream.match(/^commit refs\/heads\/main$/gm)?.length, 5);
  assert.equal(stream.match(/^M 100644 inline /gm)?.length, 20 + 4 * 3);
});

test('tar unpacks what is archived, long paths and programs too', () => {
  const long = `${'folder/'.repeat(20)}file`;
  const files = [
    { path: 'a/b', bytes: Buffer.from('x'.repeat(1000)) },
    { path: 'run', bytes: Buffer.from('#!'), executable: true },
    { path: long, bytes: Buffer.alloc(0) },
  ];
  const listed = execFileSync('tar', ['-tvf', '-'], { input: tarOf(files), encoding: 'utf8' });
  const lines = listed.trim().split('\n');
  assert.deepEqual(
    lines.map((line) => line.split(/\s+/).at(-1)),
    ['a/b', 'run', long],
  );
  assert.match(lines[0] ?? '', /^-rw-r--r--.* 1000 /);
  assert.match(lines[1] ?? '', /^-rwxr-xr-x/);
  assert.throws(() => tarOf([{ path: 'n'.repeat(101), bytes: Buffer.alloc(0) }]), RangeError);
});

test('npm is found by the link that PATH has, or by the program that npm says it is', () => {
  using folder = temporary();
  const npm = join(folder.path, 'lib/node_modules/npm');
  fakeNpm(npm);
  mkdirSync(join(folder.path, 'bin'));
  symlinkSync(join(npm, 'bin/npm-cli.js'), join(folder.path, 'bin/npm'));
  assert.equal(findNpm({ PATH: `/nowhere:${folder.path}/bin` }), npm);
  assert.equal(findNpm({ PATH: '', npm_execpath: join(npm, 'bin/npm-cli.js') }), npm);
});

test('a lock file has packages with all that they need where npm has it, and the cache has them by digest', () => {
  using folder = temporary();
  fakeNpm(folder.path);
  const { files, lockFile, packageJson, tarballs } = npmProject(folder.path, 10);
  const { packages } = JSON.parse(lockFile) as { packages: Record<string, LockedPackage> };
  const large = 'node_modules/@scope/large';
  assert.deepEqual(Object.keys(packages), ['', large, `${large}/node_modules/small`, 'node_modules/small']);
  assert.equal(packages[`${large}/node_modules/small`]?.version, '1.0.0');
  assert.deepEqual(JSON.parse(packageJson).dependencies, { '@scope/large': '1.0.0', small: '2.0.0' });
  assert.equal(files, 8);
  assert.equal(tarballs.size, 3);
  for (const [path, bytes] of tarballs) {
    const digest = createHash('sha512').update(bytes).digest();
    assert.equal(path.replace(/^content-v2\/sha512/, '').replaceAll('/', ''), digest.toString('hex'));
    assert.ok(Object.values(packages).some(({ integrity }) => integrity === `sha512-${digest.toString('base64')}`));
    assert.match(gunzipSync(bytes).toString('latin1'), /^package\//);
  }
});

test('packages that would be too many files with what they need are left out', () => {
  using folder = temporary();
  fakeNpm(folder.path);
  const { files, packageJson } = npmProject(folder.path, 5);
  assert.deepEqual(JSON.parse(packageJson).dependencies, { small: '2.0.0' });
  assert.equal(files, 2);
});
