/** The conformance suite itself: on this machine's file system, and on ours without a guest. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';

import {
  directoryTarget,
  fileSystemTarget,
  formatReport,
  type Report,
  runConformance,
  selectBehaviours,
} from '../conformance/index.ts';
import { type CacheMode, cachePolicy } from '../src/coherence/index.ts';
import type { FileSystemModule } from '../src/fs/file-system.ts';
import * as passthrough from '../src/fs/passthrough/index.ts';

// A worker that ends while TurboFan compiles its FFI calls in the background crashes Node (see `park` in src/server).
setFlagsFromString('--no-concurrent-recompilation');

/** Fewer would mean that a topic has got lost. */
const LEAST_BEHAVIOURS = 700;

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtiofs-conformance-'));
  // Other users shall get in.
  chmodSync(folder, 0o755);
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** With `always` files have no handles. */
function options(cache: CacheMode = 'never'): passthrough.PassthroughOptions {
  return { ...cachePolicy(cache), sharedDir: folder, readonly: false, xattr: true, preserveNoatime: true };
}

function failed(report: Report): string[] {
  return report.outcomes.filter(({ verdict }) => verdict === 'failed').map(({ sentence }) => sentence);
}

test('every behaviour has a sentence of its own', () => {
  const sentences = selectBehaviours().map(({ topic, sentence }) => `${topic}: ${sentence}`);
  assert.ok(sentences.length >= LEAST_BEHAVIOURS, `${sentences.length} behaviours`);
  assert.deepEqual(
    sentences.filter((sentence, i) => sentences.indexOf(sentence) !== i),
    [],
  );
});

test('every behaviour holds on the file system of this machine, and nothing is left of it', () => {
  const report = runConformance(directoryTarget(folder));
  assert.deepEqual(failed(report), [], formatReport(report));
  assert.deepEqual(readdirSync(folder), []);
});

test('every behaviour that needs no kernel holds on the shared directory in process, and nothing is left', () => {
  const report = runConformance(fileSystemTarget(passthrough, options('always')));
  assert.deepEqual(failed(report), [], formatReport(report));
  assert.ok(report.outcomes.filter(({ verdict }) => verdict === 'passed').length > 400);
  assert.deepEqual(readdirSync(folder), []);
});

test('every count is given back: nothing but the root is known at the end', () => {
  let known = -1;
  const counting: FileSystemModule = {
    ...(passthrough as FileSystemModule),
    closeExport: (exported) => {
      known = passthrough.gauges(exported as passthrough.PassthroughExport, []).inodes;
      (passthrough as FileSystemModule).closeExport(exported);
    },
    openWorker: (exported, session, services) => ({
      ...(passthrough as FileSystemModule).openWorker(exported, session, services),
      // What is left is to be seen, not dropped.
      reset: () => {},
    }),
  };
  runConformance(fileSystemTarget(counting, options()), { filter: 'rename' });
  assert.equal(known, 1);
});

/** The shared directory with one handler replaced. */
function broken(opcode: 'UNLINK' | 'READ', result: number): FileSystemModule {
  const module = passthrough as FileSystemModule;
  return {
    ...module,
    openWorker: (exported, session, services) => {
      const whole = module.openWorker(exported, session, services);
      return { handlers: { ...whole.handlers, [opcode]: () => result }, reset: () => whole.reset() };
    },
  };
}

const LEFT_OUT = [
  ...['CREATE', 'TMPFILE', 'RENAME2', 'READDIRPLUS', 'STATX'],
  ...['LSEEK', 'COPY_FILE_RANGE', 'COPY_FILE_RANGE_64', 'FLUSH', 'FSYNC', 'FSYNCDIR'],
];

test('what a file system leaves out is done as a kernel does it then', () => {
  const module = passthrough as FileSystemModule;
  const least: FileSystemModule = {
    ...module,
    openWorker: (exported, session, services) => {
      const whole = module.openWorker(exported, session, services);
      const rest = Object.fromEntries(Object.entries(whole.handlers).filter(([name]) => !LEFT_OUT.includes(name)));
      return { handlers: rest, reset: () => whole.reset() };
    },
  };
  const report = runConformance(fileSystemTarget(least, options()));
  assert.deepEqual(failed(report), [], formatReport(report));
});

test('a file system that does not do what it says is found out, in the words of a sentence', () => {
  const report = runConformance(fileSystemTarget(broken('UNLINK', 0), options()), { filter: 'unlink of' });
  const outcome = report.outcomes.find(({ sentence }) => sentence === 'unlink of FIFOs and sockets removes them');
  assert.deepEqual([outcome?.verdict, outcome?.reason], ['failed', 'names: expected [], got ["p"]']);
  assert.ok(failed(report).includes('unlink of a name that does not exist fails with ENOENT'));
});

test('an error that a behaviour does not expect fails it, and the others go on', () => {
  const report = runConformance(fileSystemTarget(passthrough, options()), { filter: 'symlink' });
  assert.deepEqual(failed(report), []);
  const { outcomes } = runConformance(fileSystemTarget(broken('READ', -5), options()), { filter: 'appends' });
  assert.ok(outcomes.length > 1);
  assert.match(String(outcomes.find(({ verdict }) => verdict === 'failed')?.reason), /unexpected error READ.*EIO/);
});
