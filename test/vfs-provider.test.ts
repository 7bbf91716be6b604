import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';

import { shareProvider } from '../src/client/index.ts';
import { HostVolume } from './host-volume.ts';
import { seededFolder } from './share-bed.ts';

const vfs = process.getBuiltinModule('node:vfs');

/** A share mounted in this process; `at`: where. */
function mounted(t: TestContext): { readonly at: string; readonly folder: string; readonly volume: HostVolume } {
  assert(vfs !== undefined);
  const folder = seededFolder();
  const volume = new HostVolume(folder);
  const system = vfs.create(shareProvider(volume), { emitExperimentalWarning: false });
  // @types/node does not know mount() yet.
  const { mount, unmount } = system as unknown as Record<'mount' | 'unmount', () => string>;
  const at = mount.call(system);
  t.after(() => {
    unmount.call(system);
    fs.rmSync(folder, { recursive: true });
    assert.equal(volume.opened.size, 0, 'files are left open');
  });
  return { at, folder, volume };
}

/** Runs these very tests in a process that has node:vfs. */
function inOtherProcess(): void {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const args = ['--experimental-vfs', '--disable-warning=ExperimentalWarning', import.meta.filename];
  // deadline: it takes a second
  const { status, stdout } = spawnSync(process.execPath, args, { env, encoding: 'utf8', timeout: 60_000 });
  assert.equal(status, 0, stdout);
}

if (vfs === undefined) {
  test('without --experimental-vfs there is no provider, and the error says what to do', () => {
    const volume = new HostVolume('/');
    assert.throws(() => shareProvider(volume), /--experimental-vfs/);
  });
  test('a share is mounted in a process that has node:vfs', inOtherProcess);
} else {
  test('node:fs reads and writes a mounted share', async (t) => {
    const { at, folder } = mounted(t);
    assert.equal(fs.readFileSync(join(at, 'file'), 'utf8'), 'hello, world\n');
    assert.equal(await fs.promises.readFile(join(at, 'link'), 'utf8'), 'hello, world\n');
    fs.writeFileSync(join(at, 'new'), 'one');
    await fs.promises.appendFile(join(at, 'new'), ' two');
    assert.equal(fs.readFileSync(join(folder, 'new'), 'utf8'), 'one two');
    await fs.promises.truncate(join(at, 'new'), 2);
    assert.equal(fs.statSync(join(at, 'new')).size, 2);
  });

  test('names are made, moved, linked and taken away', async (t) => {
    const { at, folder } = mounted(t);
    assert.equal(await fs.promises.mkdir(join(at, 'a/b'), { recursive: true }), join(at, 'a'));
    fs.renameSync(join(at, 'file'), join(at, 'a/file'));
    await fs.promises.symlink('file', join(at, 'a/sym'));
    assert.equal(fs.readlinkSync(join(at, 'a/sym')), 'file');
    fs.copyFileSync(join(at, 'a/sym'), join(at, 'a/copy'));
    fs.linkSync(join(at, 'a/copy'), join(at, 'a/hard'));
    assert.equal(fs.realpathSync(join(at, 'a/sym')), join(at, 'a/file'));
    assert.deepEqual(fs.readdirSync(join(folder, 'a')).toSorted(), ['b', 'copy', 'file', 'hard', 'sym']);
    await fs.promises.rm(join(at, 'a'), { recursive: true });
    assert.equal(fs.existsSync(join(at, 'a')), false);
    assert.equal(fs.existsSync(join(folder, 'a')), false);
  });

  test('directories are listed, down to the last', async (t) => {
    const { at } = mounted(t);
    const expected = ['one', 'sub', 'sub/deep', 'sub/deep/three.txt', 'sub/two.txt', 'sub/up'];
    assert.deepEqual(fs.readdirSync(join(at, 'dir'), { recursive: true }).map(String).toSorted(), expected);
    const entries = fs.readdirSync(join(at, 'dir'), { recursive: true, withFileTypes: true });
    const paths = entries.map((entry) => join(entry.parentPath, entry.name));
    assert.deepEqual(
      paths.toSorted(),
      expected.map((name) => join(at, 'dir', name)),
    );
    const found = await Array.fromAsync(fs.promises.glob('**/*.txt', { cwd: at }));
    assert.deepEqual(found.toSorted(), ['dir/sub/deep/three.txt', 'dir/sub/two.txt']);
  });

  test('attributes are changed and seen', async (t) => {
    const { at, folder } = mounted(t);
    fs.chmodSync(join(at, 'file'), 0o600);
    await fs.promises.utimes(join(at, 'file'), 10, 20);
    const stats = fs.statSync(join(folder, 'file'));
    assert.deepEqual([stats.mode & 0o777, stats.atimeMs, stats.mtimeMs], [0o600, 10_000, 20_000]);
    assert.equal(fs.lstatSync(join(at, 'link')).isSymbolicLink(), true);
    assert.equal((await fs.promises.stat(join(at, 'file'), { bigint: true })).mtimeMs, 20_000n);
  });

  test('open files have descriptors, and streams work', async (t) => {
    const { at, folder } = mounted(t);
    const fd = fs.openSync(join(at, 'file'), 'r+');
    const bytes = Buffer.alloc(5);
    assert.equal(fs.readSync(fd, bytes, 0, 5, 0), 5);
    assert.equal(bytes.toString(), 'hello');
    fs.writeSync(fd, 'J', 0);
    fs.ftruncateSync(fd, 5);
    assert.equal(fs.fstatSync(fd).size, 5);
    fs.closeSync(fd);
    assert.equal(fs.readFileSync(join(folder, 'file'), 'utf8'), 'Jello');
    const handle = await fs.promises.open(join(at, 'file'));
    assert.equal((await handle.read(bytes, 0, 5, 0)).bytesRead, 5);
    await handle.close();
    const pieces: Buffer[] = [];
    for await (const piece of fs.createReadStream(join(at, 'file'))) pieces.push(piece as Buffer);
    assert.equal(Buffer.concat(pieces).toString(), 'Jello');
  });

  test('a module is loaded from a share', (t) => {
    const { at, folder } = mounted(t);
    fs.writeFileSync(join(folder, 'answer.cjs'), 'module.exports = 42;');
    assert.equal(createRequire(import.meta.url)(join(at, 'answer.cjs')), 42);
  });

  test('errors have the code of node:fs', (t) => {
    const { at } = mounted(t);
    assert.throws(() => fs.readdirSync(join(at, 'no')), { code: 'ENOENT', syscall: 'scandir' });
    assert.throws(() => fs.rmdirSync(join(at, 'dir')), { code: 'ENOTEMPTY' });
    assert.throws(() => fs.watch(join(at, 'dir')), /no notifications/);
  });
}
