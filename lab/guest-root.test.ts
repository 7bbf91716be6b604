import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { guestRoot, writeGuestRoot } from './guest-root.ts';

let folder = '';
let busybox = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtiofs-root-'));
  busybox = join(folder, 'busybox');
  writeFileSync(busybox, '#!/bin/sh\necho busybox\necho sh\necho cat\n', { mode: 0o755 });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A tree as an unpacked package: a program, a link, and a /bin beside /usr/bin. */
function makeTools(): string {
  const tools = join(folder, 'tools');
  mkdirSync(join(tools, 'usr/bin'), { recursive: true });
  mkdirSync(join(tools, 'usr/share/deep/er'), { recursive: true });
  mkdirSync(join(tools, 'bin'));
  writeFileSync(join(tools, 'usr/bin/cat'), 'a real cat', { mode: 0o755 });
  writeFileSync(join(tools, 'bin/old'), 'old', { mode: 0o755 });
  symlinkSync('cat', join(tools, 'usr/bin/dog'));
  return tools;
}

test('every file comes after the folder that it is in, for the kernel makes none', () => {
  const seen = new Set(['.']);
  for (const { path } of guestRoot({ busybox, tools: makeTools() })) {
    assert.ok(seen.has(dirname(path)), `${path} comes before ${dirname(path)}`);
    seen.add(path);
  }
});

test('a fetched program takes the place of the BusyBox one, and /bin stays a link', () => {
  const entries = new Map(guestRoot({ busybox, tools: makeTools() }).map((entry) => [entry.path, entry]));
  assert.deepEqual(entries.get('usr/bin/sh'), { kind: 'symlink', path: 'usr/bin/sh', target: 'busybox' });
  assert.equal(entries.get('usr/bin/cat')?.kind, 'file');
  assert.equal(entries.get('bin')?.kind, 'symlink');
});

test("modules are where process 1 loads them from, and a guest's root without any has none", () => {
  const module = join(folder, '00-netfs.ko');
  writeFileSync(module, 'ELF');
  const modules = (options: { modules?: string[] }): string[] =>
    guestRoot({ busybox, ...options }).flatMap(({ path }) => (path.endsWith('.ko') ? [path] : []));
  assert.deepEqual(modules({ modules: [module] }), ['usr/lib/modules/00-netfs.ko']);
  assert.deepEqual(modules({}), []);
});

test('given files win', () => {
  const mine = { kind: 'file', path: 'etc/passwd', bytes: Buffer.from('me') } as const;
  const found = guestRoot({ busybox, files: [mine] }).filter(({ path }) => path === 'etc/passwd');
  assert.deepEqual(found, [mine]);
});

test('a root filesystem to be served is written into a folder', () => {
  const root = join(folder, 'root');
  mkdirSync(root);
  writeGuestRoot(root, { busybox });
  assert.match(readFileSync(join(root, 'init'), 'utf8'), /^#!\/bin\/busybox sh\n/);
  assert.equal(lstatSync(join(root, 'init')).mode & 0o777, 0o755);
  assert.ok(lstatSync(join(root, 'usr/bin/cat')).isSymbolicLink());
  assert.ok(lstatSync(join(root, 'proc')).isDirectory());
});
