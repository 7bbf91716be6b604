import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { findPeer, sandboxOf } from './peer.ts';

const folder = mkdtempSync(join(tmpdir(), 'virtiofs-peer-'));
after(() => rmSync(folder, { recursive: true }));

function program(name: string, script: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

test('a peer is known by what it says of its version', async () => {
  const path = program('good', '[ "$*" = --version ] && echo "virtiofsd 1.2.3"');
  assert.deepEqual(await findPeer(path), { command: [path], version: '1.2.3' });
});

test('a peer that cannot be run is refused with its path, why, and what to do', async () => {
  const missing = join(folder, 'missing');
  for (const [path, why] of [
    [missing, 'ENOENT'],
    [folder, 'EACCES'],
    [program('failing', 'echo no such library >&2; exit 1'), 'no such library'],
  ]) {
    await assert.rejects(findPeer(path), ({ name, message }: Error) => {
      assert.equal(name, 'UserError');
      assert.ok(message.startsWith(`${path}: Rust virtiofsd cannot be run: `), message);
      assert.ok(message.includes(why) && message.includes('Name the program of Rust virtiofsd'), message);
      return true;
    });
  }
});

test('the sandbox of a peer is one that its user may have', () => {
  assert.deepEqual([sandboxOf(0), sandboxOf(1000), sandboxOf(undefined)], ['chroot', 'none', 'none']);
});

test('a program that is something else is no peer', async () => {
  await assert.rejects(findPeer(program('other', 'echo other 2.0')), {
    name: 'UserError',
    message: /other: with --version it says 'other 2\.0', which Rust virtiofsd does not\./,
  });
});
