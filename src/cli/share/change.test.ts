import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, readlinkSync, statSync, symlinkSync } from 'node:fs';
import { readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { folderShare, place } from './testing.ts';

test('rm removes files, says what it cannot, and goes on', async (t) => {
  const { root, run } = place(t);
  for (const name of ['a', 'b']) writeFileSync(join(root, name), '');
  mkdirSync(join(root, 'd'));
  const { code, err } = await run(['rm', 'a', 'none', 'd', 'b']);
  assert.equal(code, 1);
  assert.equal(
    err,
    'virtiofs rm: none: no such file or directory (ENOENT)\nvirtiofs rm: d: is a directory (EISDIR); -r removes it\n',
  );
  assert.deepEqual(readdirSync(root), ['d']);
  assert.deepEqual(await run(['rm', '-f', 'none']).then(({ code: c, err: e }) => [c, e]), [0, '']);
});

test('rm -r removes trees with names of any bytes, and never goes through a symlink', async (t) => {
  const { root, local, run } = place(t);
  mkdirSync(join(root, 'd/e'), { recursive: true });
  writeFileSync(Buffer.concat([Buffer.from(`${root}/d/e/`), Buffer.of(0xff, 0x0a)]), '');
  writeFileSync(join(local, 'kept'), '');
  symlinkSync(local, join(root, 'd/away'));
  const { code, out } = await run(['rm', '-rv', 'd']);
  assert.equal(code, 0);
  assert.match(out, /removed 'd\/e\/'\$'\\377\\n'\nremoved directory d\/e\nremoved directory d\n$/);
  assert.deepEqual([readdirSync(root), readdirSync(local)], [[], ['kept']]);
});

test('rm refuses the root, and what stands for where one is', async (t) => {
  const { root, run } = place(t);
  writeFileSync(join(root, 'a'), '');
  for (const path of ['/', '//', '.', '..', 'x/..']) {
    const { code, err } = await run(['rm', '-rf', path]);
    assert.equal(code, 1);
    assert.match(err, /a root, \. and \.\. are not removed/);
  }
  assert.deepEqual(readdirSync(root), ['a']);
});

test('rm -r tells of what stays in the way, once', async (t) => {
  const { root, run } = place(t);
  mkdirSync(join(root, 'd/e'), { recursive: true });
  writeFileSync(join(root, 'd/e/stuck'), '');
  writeFileSync(join(root, 'd/loose'), '');
  const share = folderShare(root);
  const busy = Object.assign(new Error('busy'), { code: 'EBUSY', errno: -16 });
  const stuck = {
    ...share,
    unlink: (path: string) => (path.endsWith('stuck') ? Promise.reject(busy) : share.unlink(path)),
  };
  const { code, err } = await run(['rm', '-r', 'd'], { share: stuck });
  assert.equal(code, 1);
  assert.equal(err, 'virtiofs rm: d/e/stuck: resource busy or locked (EBUSY)\n');
  assert.deepEqual(readdirSync(join(root, 'd')), ['e']);
});

test('mkdir makes directories, with their parents and a mode if wanted', async (t) => {
  const { root, run } = place(t);
  assert.equal((await run(['mkdir', 'a'])).code, 0);
  const again = await run(['mkdir', 'a', 'b']);
  assert.equal(again.err, 'virtiofs mkdir: a: file already exists (EEXIST)\n');
  assert.ok(existsSync(join(root, 'b')));
  assert.equal((await run(['mkdir', '-p', '-m', '2751', 'x/y/z/', 'a'])).code, 0);
  assert.equal(statSync(join(root, 'x/y/z')).mode & 0o7777, 0o2751);
  assert.notEqual(statSync(join(root, 'a')).mode & 0o7777, 0o2751);
  writeFileSync(join(root, 'file'), '');
  assert.match((await run(['mkdir', '-p', 'file'])).err, /EEXIST/);
  assert.match((await run(['mkdir', '-p', 'file/x'])).err, /ENOTDIR/);
});

test('mv renames, and moves into directories', async (t) => {
  const { root, run } = place(t);
  for (const name of ['a', 'b', 'c']) writeFileSync(join(root, name), name);
  mkdirSync(join(root, 'd'));
  assert.equal((await run(['mv', '-v', 'a', 'b'])).out, 'renamed /a -> /b\n');
  assert.equal((await run(['mv', 'b', 'none', 'c', 'd'])).code, 1);
  assert.deepEqual(readdirSync(root), ['d']);
  assert.equal(readFileSync(join(root, 'd/b'), 'utf8'), 'a');
  assert.equal((await run(['mv', 'd', 'e/'])).code, 0);
  const several = await run(['mv', 'e/b', 'e/c', 'nowhere']);
  assert.match(several.err, /^virtiofs mv: nowhere: several files go into a directory/);
});

test('mv -n keeps what is there', async (t) => {
  const { root, run } = place(t);
  for (const name of ['a', 'b']) writeFileSync(join(root, name), name);
  assert.equal((await run(['mv', '-n', 'a', 'b'])).code, 0);
  assert.equal(readFileSync(join(root, 'b'), 'utf8'), 'b');
  assert.ok(existsSync(join(root, 'a')));
});

test('mv to another file system copies all of it, and then removes it', async (t) => {
  const { root, run } = place(t);
  mkdirSync(join(root, 'd/e'), { recursive: true });
  writeFileSync(join(root, 'd/e/f'), 'there');
  utimesSync(join(root, 'd/e/f'), 1000, 2000);
  const share = folderShare(root);
  const across = Object.assign(new Error('across'), { code: 'EXDEV', errno: -18 });
  const rename = (from: string, to: string): Promise<void> =>
    from.endsWith('.part-virtiofs') ? share.rename(from, to) : Promise.reject(across);
  const split = { ...share, rename };
  assert.equal((await run(['mv', 'd', 'other'], { share: split })).code, 0);
  assert.deepEqual(readdirSync(root), ['other']);
  assert.equal(readFileSync(join(root, 'other/e/f'), 'utf8'), 'there');
  assert.equal(statSync(join(root, 'other/e/f')).mtimeMs, 2_000_000);
  const broken = {
    ...split,
    copyFile: () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC', errno: -28 })),
  };
  const { code, err } = await run(['mv', 'other', 'back'], { share: broken });
  assert.equal(code, 1);
  assert.match(err, /ENOSPC[^]*it stays where it is/);
  assert.equal(readFileSync(join(root, 'other/e/f'), 'utf8'), 'there');
});

test('cp copies files, and with -r directories and symlinks', async (t) => {
  const { root, run } = place(t);
  mkdirSync(join(root, 'd/e'), { recursive: true });
  writeFileSync(join(root, 'd/e/f'), 'text');
  chmodSync(join(root, 'd/e/f'), 0o750);
  utimesSync(join(root, 'd/e/f'), 1000, 2000);
  symlinkSync('e/f', join(root, 'd/link'));
  assert.match((await run(['cp', 'd', 'x'])).err, /d: is a directory \(EISDIR\); -r copies it/);
  assert.equal((await run(['cp', '-r', 'd', 'x'])).code, 0);
  assert.equal(readFileSync(join(root, 'x/e/f'), 'utf8'), 'text');
  assert.equal(readlinkSync(join(root, 'x/link')), 'e/f');
  assert.equal(statSync(join(root, 'x/e/f')).mode & 0o777, 0o750);
  assert.notEqual(statSync(join(root, 'x/e/f')).mtimeMs, 2_000_000);
  assert.equal((await run(['cp', '-rp', 'd', 'x'])).code, 0);
  assert.equal(statSync(join(root, 'x/d/e/f')).mtimeMs, 2_000_000);
});

test('cp refuses a file onto itself, a directory into itself, and a file over a directory', async (t) => {
  const { root, run } = place(t);
  mkdirSync(join(root, 'd/e'), { recursive: true });
  writeFileSync(join(root, 'f'), 'text');
  mkdirSync(join(root, 'd/f'));
  symlinkSync('d', join(root, 'alias'));
  assert.match((await run(['cp', 'f', 'f'])).err, /is the same file/);
  assert.match((await run(['cp', 'f', 'd'])).err, /there is a directory of that name/);
  for (const target of ['d/e', 'd/new', 'alias/e']) {
    assert.match((await run(['cp', '-r', 'd', target])).err, /not copied into itself/, target);
  }
  assert.equal(readFileSync(join(root, 'f'), 'utf8'), 'text');
  assert.deepEqual(readdirSync(join(root, 'd/e')), []);
});

test('a copy that fails leaves nothing', async (t) => {
  const { root, run } = place(t);
  writeFileSync(join(root, 'a'), 'text');
  const share = folderShare(root);
  const full = Object.assign(new Error('full'), { code: 'ENOSPC', errno: -28 });
  const copyFile = async (_from: unknown, to: string): Promise<never> => {
    writeFileSync(join(root, to), 'te');
    throw full;
  };
  const { code, err } = await run(['cp', 'a', 'b'], { share: { ...share, copyFile } });
  assert.equal(code, 1);
  assert.match(err, /^virtiofs cp: \/a: no space left on device \(ENOSPC\)\n$/);
  assert.deepEqual(readdirSync(root), ['a']);
});
