import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findQemu } from './host.ts';

/** A program that says to be a QEMU. */
function qemuThatSays(t: TestContext, version: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'qemu');
  writeFileSync(path, `#!/bin/sh\necho 'QEMU emulator version ${version} (somebody)'\n`, { mode: 0o755 });
  return path;
}

test('a QEMU without a device for DAX is refused by its version', async (t) => {
  const path = qemuThatSays(t, '10.0.13');
  assert.equal((await findQemu(path)).version, '10.0.13');
  await assert.rejects(findQemu(path, { dax: true }), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'VERSION');
    assert.match(error.message, /DAX takes QEMU 11\.1 or newer, and .*qemu\) is 10\.0\.13/);
    return true;
  });
});

test('a QEMU with one is taken', async (t) => {
  const path = qemuThatSays(t, '11.1.3');
  assert.deepEqual(await findQemu(path, { dax: true }), { command: [path], version: '11.1.3', origin: 'given' });
});
