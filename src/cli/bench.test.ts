import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { PLANS } from '../../bench/index.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));

const PACKAGE = fileURLToPath(new URL('../../package.json', import.meta.url));
const RESULT = fileURLToPath(new URL('../../bench/results/result.json', import.meta.url));
const FOLDER = mkdtempSync(join(tmpdir(), 'virtiofs-bench-'));
after(() => rmSync(FOLDER, { recursive: true }));

function bench(...args: string[]): { status: number | null; stderr: string; stdout: string } {
  const command = ['--disable-warning=ExperimentalWarning', MAIN, 'bench', ...args];
  return spawnSync(process.execPath, command, { encoding: 'utf8', timeout: 60_000 });
}

test('bench --help names all contestants, and has examples', () => {
  const { stdout, status } = bench('--help');
  assert.equal(status, 0);
  for (const { id } of PLANS) assert.match(stdout, new RegExp(`\\b${id}\\b`));
  assert.match(stdout, /# virtiofs bench --quick/);
});

test('bench --from makes the report of a result anew', () => {
  const out = join(FOLDER, 'again');
  const { status, stdout, stderr } = bench('--from', RESULT, '--out', out);
  assert.deepEqual([status, stderr], [0, '']);
  const paths = stdout.trim().split('\n');
  assert.deepEqual(paths.map((path) => basename(path)).slice(0, 3), ['report.md', 'index.html', 'result.json']);
  assert.deepEqual(readdirSync(out).toSorted(), paths.map((path) => basename(path)).toSorted());
  assert.equal(readFileSync(join(out, 'result.json'), 'utf8'), readFileSync(RESULT, 'utf8'));
  assert.match(readFileSync(join(out, 'report.md'), 'utf8'), /^# virtiofs bench\n/);
});

test('bench --help fits into 100 columns, and shows defaults as they are typed', () => {
  const { stdout } = bench('--help');
  assert.deepEqual(
    stdout.split('\n').filter((line) => line.length > 100),
    [],
  );
  const text = stdout.replaceAll(/\s+/g, ' ');
  assert.match(text, /--peers <names> .*\(default: 9p,virtiofsd\).*\(default: smallfile,fio,everyday\)/);
});

for (const [title, args, error] of [
  ['a peer that there is not', ['--peers', '9p,nfs'], /'nfs' is none of 9p, virtiofsd/],
  ['a workload that there is not', ['--workloads', 'fio,dbench'], /'dbench' is none of smallfile, fio, everyday/],
  [
    'a contestant that there is not',
    ['--contestants', 'virtiofs'],
    /There is no contestant virtiofs: there are 9p-none/,
  ],
  [
    'a suite without a folder',
    ['--suite', 'smallfile'],
    /--suite smallfile: it takes the name smallfile and the folder/,
  ],
  ['a folder that is no checkout', ['--suite', 'smallfile', '/'], /this is no checkout of smallfile/],
  [
    'a virtiofsd that is not there',
    ['--virtiofsd', '/nowhere', '--out', FOLDER],
    /\/nowhere: Rust virtiofsd cannot be run: .*ENOENT/,
  ],
  ['a report where a file is', ['--out', MAIN], /main\.ts: no report can be written there: a file is in the way/],
  [
    'workloads and contestants without a guest',
    ['--daemon-only', '--contestants', '9p-none', '--workloads', 'fio'],
    /--daemon-only does not go with --workloads, --contestants: there is no guest/,
  ],
  [
    'a suite without a guest',
    ['--daemon-only', '--suite', 'smallfile', '/'],
    /--daemon-only does not go with --suite: there is no guest/,
  ],
  [
    '9p without a guest',
    ['--daemon-only', '--peers', '9p,virtiofsd'],
    /--daemon-only does not go with --peers 9p,virtiofsd: 9p is for guests/,
  ],
  [
    'to measure what it has the result of',
    ['--from', RESULT, '--quick', '--dir', '/', '--out', FOLDER],
    /--from does not go with --quick, --dir: it measures nothing/,
  ],
  [
    'a result that is none',
    ['--from', PACKAGE, '--out', FOLDER],
    /package\.json: no result of virtiofs bench: it\.format/,
  ],
  ['a result that is no JSON', ['--from', MAIN, '--out', FOLDER], /main\.ts: no JSON: /],
  ['a result that is not there', ['--from', '/nowhere'], /cannot read a result of virtiofs bench: ENOENT.*'\/nowhere'/],
  ['a folder that is not there', ['--dir', '/nowhere'], /\/nowhere: there is no such directory/],
] as const) {
  test(`bench refuses ${title} before anything is booted`, () => {
    const { status, stderr } = bench(...args);
    assert.equal(status, 1);
    assert.match(stderr, error);
  });
}
