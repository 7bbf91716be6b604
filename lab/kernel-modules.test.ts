import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { which } from './host.ts';
import { dependenciesOf, keepModules, modulesOfTree } from './kernel-modules.ts';

let tree = '';
beforeEach(() => {
  tree = mkdtempSync(join(tmpdir(), 'virtiofs-modules-'));
});
afterEach(() => rmSync(tree, { recursive: true }));

const modules = (): string => join(tree, 'usr/lib/modules/6.0');

function addModule(path: string, depends: string): string {
  const file = join(modules(), 'kernel', path);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, `ELF\0license=GPL\0depends=${depends}\0name=x\0`);
  return file;
}

test('a module says what it needs', () => {
  assert.deepEqual(dependenciesOf(readFileSync(addModule('a.ko', 'netfs,9pnet'))), ['netfs', '9pnet']);
  assert.deepEqual(dependenciesOf(readFileSync(addModule('b.ko', ''))), []);
  assert.deepEqual(dependenciesOf(Buffer.from('nothing of that kind')), []);
});

test('modules are kept after those that they need, each once, and the others are gone', async () => {
  addModule('fs/9p/9p.ko', 'netfs,9pnet');
  addModule('net/9p/9pnet.ko', 'netfs');
  addModule('net/9p/9pnet_virtio.ko', '9pnet');
  addModule('fs/netfs/netfs.ko', '');
  addModule('fs/xfs/xfs.ko', '');
  await keepModules(tree, ['9p', '9pnet-virtio']);
  assert.deepEqual(
    modulesOfTree(tree).map((path) => basename(path)),
    ['00-netfs.ko', '01-9pnet.ko', '02-9p.ko', '03-9pnet_virtio.ko'],
  );
  assert.ok(!existsSync(modules()));
});

test('a packed module is unpacked', { skip: which('xz') === undefined && 'this machine has no xz' }, async () => {
  execFileSync('xz', [addModule('fs/netfs/netfs.ko', '')]);
  await keepModules(tree, ['netfs']);
  assert.deepEqual(readFileSync(modulesOfTree(tree)[0]).subarray(0, 3).toString(), 'ELF');
});

test('a module that is not there, and one that cannot be unpacked, are named', async () => {
  writeFileSync(addModule('fs/netfs/netfs.ko.xz', ''), 'damaged');
  await assert.rejects(keepModules(tree, ['netfs']), {
    code: 'UNPACK',
    message: /the module netfs cannot be unpacked/,
  });
  rmSync(join(tree, 'modules'), { recursive: true });
  await assert.rejects(keepModules(tree, ['9p']), { code: 'BROKEN', message: /has no module 9p/ });
});

test('a kernel without modules has none to load', () => {
  assert.deepEqual(modulesOfTree(tree), []);
});
