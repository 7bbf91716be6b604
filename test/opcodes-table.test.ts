/** docs/OPCODES.md says what becomes of each opcode: it names all of them, and is right about those not served. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { cachePolicy } from '../src/coherence/index.ts';
import { closeExport, openExport, openSession, openWorker } from '../src/fs/passthrough/index.ts';
import { OPCODES } from '../src/fuse/index.ts';

const TEXT = readFileSync(new URL('../docs/OPCODES.md', import.meta.url), 'utf8');
/** Served by the gate, and for the DAX window, without the file system. */
const GATE = ['INIT', 'DESTROY', 'INTERRUPT', 'SETUPMAPPING', 'REMOVEMAPPING'];

/** Rows that start with a number: code, name, what it does. */
const ROWS = TEXT.matchAll(/^\| (\d+) \| ([A-Z_0-9]+) \| ([^|]+) \|/gm).toArray();

test('the table of opcodes names those that there are, in their order', () => {
  const known = OPCODES.filter((record) => record !== undefined);
  assert.deepEqual(
    ROWS.map(([, code, name]) => `${code} ${name}`),
    known.map(({ code, name }) => `${code} ${name}`),
  );
  assert.ok(TEXT.includes(`has ${known.length} opcodes`));
});

test('the table of opcodes says ENOSYS of those that no option serves, and of no others', () => {
  const share = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  const options = { sharedDir: share, readonly: false, xattr: true, posixLocks: true, flock: true };
  const exported = openExport({ ...cachePolicy('auto'), ...options });
  const worker = openWorker(exported, openSession());
  const served = new Set([...Object.keys(worker.handlers), ...GATE]);
  worker.reset();
  closeExport(exported);
  rmSync(share, { recursive: true });
  for (const [, , name, what] of ROWS) assert.equal(what.startsWith('ENOSYS'), !served.has(name), name);
});
