import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, test } from 'node:test';

import { UserError } from '../../src/core/index.ts';
import type { BenchResult } from '../results.ts';
import { documentOf } from './document.ts';
import { htmlOf } from './html.ts';
import { readResult } from './read.ts';
import { RESULT, row } from './testing.ts';
import { makeReportFolder, writeReport } from './write.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtiofs-report-'));
after(() => rmSync(folder, { recursive: true }));

test('a report is Markdown, a page, the raw result, and a file for each chart that the Markdown shows', () => {
  const paths = writeReport(RESULT, join(folder, 'new', 'report'));
  const names = paths.map((path) => basename(path));
  assert.deepEqual(names.slice(0, 3), ['report.md', 'index.html', 'result.json']);
  const markdown = readFileSync(paths[0], 'utf8');
  const shown = [...markdown.matchAll(/!\[[^\]]*\]\(([^)]*)\)/g)].map(([, path]) => path);
  assert.deepEqual(shown, names.slice(3));
  for (const path of paths.slice(3)) assert.match(readFileSync(path, 'utf8'), /<svg .*<\/svg>\n$/s);
});

test('a report of a round that only counted has its counts, and no figures', () => {
  const counted = { ...RESULT, rounds: 0, rows: RESULT.rows.map((each) => ({ ...each, samples: {} })) };
  const [markdown] = writeReport(counted, join(folder, 'counted'));
  assert.match(readFileSync(markdown, 'utf8'), /0 rounds: .*Messages for an operation/s);
  assert.doesNotMatch(readFileSync(markdown, 'utf8'), /NaN|undefined|Infinity/);
});

test('a folder in which no report can be is refused, with why', () => {
  const file = join(folder, 'file');
  writeFileSync(file, '');
  for (const path of [file, join(file, 'below')]) {
    const refused = { name: 'UserError', message: /file.*: no report can be written there: a file is in the way/ };
    assert.throws(() => makeReportFolder(path), refused);
    assert.throws(() => writeReport(RESULT, path), refused);
  }
  assert.throws(() => makeReportFolder('/proc/none'), { name: 'UserError', message: /ENOENT.*--out names another/ });
  const inWay = join(folder, 'in-way');
  mkdirSync(join(inWay, 'result.json'), { recursive: true });
  assert.throws(() => writeReport(RESULT, inWay), { name: 'UserError', message: /EISDIR/ });
});

test('a result that was written is read as it was', () => {
  writeReport(RESULT, folder);
  assert.deepEqual(readResult(join(folder, 'result.json')), RESULT);
});

test('the page shows all charts and tables, runs nothing and needs nothing from elsewhere', () => {
  const page = htmlOf(documentOf(RESULT));
  assert.equal(page.match(/<svg /g)?.length, 7);
  assert.match(page, /<th scope="row">create, files\/s<\/th><td>110 \(105-115\)<\/td>/);
  assert.match(page, /<td>4\.09 \(3\.80-4\.25\)<\/td><td>3\.70<\/td><td>met<\/td>/);
  assert.doesNotMatch(page, /<script|<link|<img|<iframe|<object|@import|\bon\w+=|(?:src|href)=|url\(|:\/\//i);
});

test('the page shows texts as they are', () => {
  const evil = '</style><script>alert("1")</script>';
  const result: BenchResult = {
    ...RESULT,
    command: evil,
    machine: { ...RESULT.machine, cpuModel: evil },
    contestants: RESULT.contestants.map((each) => ({ ...each, label: evil, version: evil })),
    rows: [
      ...RESULT.rows,
      row({ name: evil, operation: evil, samples: RESULT.rows[0].samples, failures: { dax: evil } }),
    ],
  };
  const page = htmlOf(documentOf(result));
  assert.doesNotMatch(page, /<script/);
  assert.equal(page.match(/<\/style>/g)?.length, 1);
  assert.match(page, /&lt;script&gt;alert\(&quot;1&quot;\)/);
});

/** Reads a text as a result, and gives what the user is told. */
function refusal(text: string): string {
  const path = join(folder, 'other.json');
  writeFileSync(path, text);
  try {
    readResult(path);
  } catch (error) {
    assert.ok(error instanceof UserError);
    assert.ok(error.message.startsWith(`${path}: `), error.message);
    return error.message.slice(path.length + 2);
  }
  return assert.fail('it was read');
}

/** The made-up result with something in another's place. */
function changed(path: readonly (string | number)[], value: unknown): string {
  const result: unknown = JSON.parse(JSON.stringify(RESULT));
  let at = result as Record<string | number, unknown>;
  for (const step of path.slice(0, -1)) at = at[step] as Record<string | number, unknown>;
  at[path.at(-1) ?? ''] = value;
  return JSON.stringify(result);
}

test('what is no result is refused, with the place that is wrong', () => {
  assert.match(refusal('{'), /^no JSON: /);
  const refusals: [string, string][] = [
    ['null', 'it should be an object; it is null'],
    ['[]', 'it should be an object; it is []'],
    ['{}', 'it.format should be 1; it is missing'],
    [changed(['format'], 2), 'it.format should be 1; it is 2'],
    [changed(['machine', 'cores'], '3'), 'it.machine.cores should be a number of 0 or more; it is "3"'],
    [
      changed(['machine', 'guest', 'accelerator'], 'hvf'),
      'it.machine.guest.accelerator should be "kvm" or "tcg"; it is "hvf"',
    ],
    [changed(['contestants', 1, 'writeback'], 0), 'it.contestants[1].writeback should be true or false; it is 0'],
    [changed(['contestants', 1, 'daxWindow'], 5), 'it.contestants[1].daxWindow should be a text; it is 5'],
    [changed(['leftOut'], [{ label: 'dax' }]), 'it.leftOut[0].why should be a text; it is missing'],
    [changed(['contestants', 1, 'queues'], '4'), 'it.contestants[1].queues should be a number of 0 or more; it is "4"'],
    [changed(['rows'], {}), 'it.rows should be a list; it is {}'],
    [
      changed(['rows', 0, 'samples', 'auto', 1, 'seconds'], null),
      'it.rows[0].samples.auto[1].seconds should be a number of 0 or more; it is null',
    ],
    [
      changed(['rows', 0, 'counts', 'auto', 'messages'], -1),
      'it.rows[0].counts.auto.messages should be a number of 0 or more; it is -1',
    ],
    [changed(['rows', 2, 'failures', 'never'], []), 'it.rows[2].failures.never should be a text; it is []'],
  ];
  for (const [text, why] of refusals) assert.equal(refusal(text), `no result of virtiofs bench: ${why}`);
});

test('a file that is not there is said to be missing', () => {
  assert.throws(() => readResult(join(folder, 'none.json')), {
    name: 'UserError',
    message: /^cannot read a result of virtiofs bench: ENOENT.*none\.json/,
  });
});
