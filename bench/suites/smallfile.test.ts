import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { publicSmallfile, SMALLFILE_SIZES } from './smallfile.ts';

function folderWith(names: readonly string[]): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), 'virtiofs-smallfile-'));
  for (const name of names) writeFileSync(join(path, name), `# ${name}\n`);
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

test('a folder that is no checkout of smallfile is refused', () => {
  using folder = folderWith(['smallfile.py']);
  const error = { name: 'UserError', message: /: this is no checkout of smallfile: it has no smallfile_cli\.py\.$/ };
  assert.throws(() => publicSmallfile(folder.path, SMALLFILE_SIZES.quick), error);
  assert.throws(() => publicSmallfile(join(folder.path, 'missing'), SMALLFILE_SIZES.quick), error);
});

test("a checkout's programs are brought into the guest, which needs Python to run them", async () => {
  using folder = folderWith(['README.md', 'smallfile_cli.py', 'smallfile.py']);
  const suite = publicSmallfile(folder.path, SMALLFILE_SIZES.quick);
  const paths = (await suite.files?.())?.map(({ path }) => path) ?? [];
  assert.ok(paths.includes('opt/smallfile/smallfile_cli.py') && paths.includes('opt/smallfile/smallfile.py'));
  assert.ok(!paths.includes('opt/smallfile/README.md'));
  assert.deepEqual(suite.packages, ['python3']);
});
