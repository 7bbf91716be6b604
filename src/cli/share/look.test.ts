import assert from 'node:assert/strict';
import { chmodSync, linkSync, mkdirSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { columns } from './ls.ts';
import { widthOf } from './names.ts';
import { folderShare, place } from './testing.ts';

test('ls lists names in order, without those that begin with a dot', async (t) => {
  const { root, run } = place(t);
  for (const name of ['b', 'a', '.hidden']) writeFileSync(join(root, name), '');
  mkdirSync(join(root, 'c'));
  assert.deepEqual(await run(['ls']).then(({ out, code }) => ({ out, code })), { out: 'a\nb\nc\n', code: 0 });
  assert.equal((await run(['ls', '-a', '/'])).out, '.\n..\n.hidden\na\nb\nc\n');
});

test('ls -l shows mode, links, owner, size, time and where a symlink points', async (t) => {
  const { root, run } = place(t);
  writeFileSync(join(root, 'file'), 'x'.repeat(1500));
  chmodSync(join(root, 'file'), 0o4751);
  linkSync(join(root, 'file'), join(root, 'other'));
  utimesSync(join(root, 'file'), 0, new Date(2020, 1, 3, 4, 5));
  symlinkSync('file', join(root, 'link'));
  const { out } = await run(['ls', '-lh', '/']);
  const lines = out.split('\n');
  assert.match(lines[0], /^total \S+$/);
  assert.match(lines[1], /^-rwsr-x--x 2 +\d+ +\d+ 1\.5K 2020-02-03 04:05 file$/);
  assert.match(lines[2], /^lrwxrwxrwx 1 .* link -> file$/);
  assert.match((await run(['ls', '-l', 'file'])).out, / 1500 /);
});

test('ls -R goes below, with a heading for each directory; several operands have one, too', async (t) => {
  const { root, run } = place(t);
  mkdirSync(join(root, 'a/b'), { recursive: true });
  writeFileSync(join(root, 'a/b/c'), '');
  writeFileSync(join(root, 'f'), '');
  assert.equal((await run(['ls', '-R', 'a'])).out, 'a:\nb\n\na/b:\nc\n');
  assert.equal((await run(['ls', 'a', 'f', 'a/b'])).out, 'f\n\na:\nb\n\na/b:\nc\n');
});

test('ls says what it cannot list, lists the others, and ends with 1', async (t) => {
  const { root, run } = place(t);
  writeFileSync(join(root, 'there'), '');
  const { code, out, err } = await run(['ls', '/x', 'there']);
  assert.equal(err, 'virtiofs ls: /x: no such file or directory (ENOENT)\n');
  assert.equal(out, 'there\n');
  assert.equal(code, 1);
});

test('ls --json has all attributes, of names of any bytes', async (t) => {
  const { root, run } = place(t);
  writeFileSync(Buffer.concat([Buffer.from(`${root}/bad`), Buffer.of(0xff)]), 'four');
  symlinkSync('else where', join(root, 'link'));
  const { out } = await run(['ls', '--json']);
  const [bad, link] = JSON.parse(out) as Record<string, unknown>[];
  assert.equal(bad.path, '/bad\udcff');
  assert.equal(bad.size, 4);
  assert.equal(bad.type, 'file');
  assert.match(bad.mtime as string, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
  assert.equal(link.target, 'else where');
});

test('on a terminal, ls writes columns, and quotes names as GNU ls does', async (t) => {
  const { root, run } = place(t);
  for (const name of ['a b', '\x1b]0;evil\x07', 'plain']) writeFileSync(join(root, name), '');
  const { out } = await run(['ls'], { terminal: true });
  assert.equal(out, "$'\\033'']0;evil'$'\\a'  'a b'  plain\n");
});

test('in a pipe, ls quotes only what would break a line', async (t) => {
  const { root, run } = place(t);
  for (const name of ['a b', 'c\nd']) writeFileSync(join(root, name), '');
  assert.equal((await run(['ls'])).out, "a b\n'c'$'\\n''d'\n");
});

test('columns are as many as fit, filled downwards', () => {
  const names = Array.from({ length: 20 }, (_, i) => 'n'.repeat((i % 5) + 1) + i);
  const text = columns(names, 40);
  for (const line of text.trimEnd().split('\n')) assert.ok(widthOf(line) <= 40, line);
  assert.deepEqual(text.split(/\s+/).filter(Boolean).toSorted(), names.toSorted());
  assert.equal(columns(['a', 'b', 'c', 'd'], 4), 'a  c\nb  d\n');
  assert.equal(columns(['long-name', 'x'], 5), 'long-name\nx\n');
});

test('a daemon that lists a name with a slash, or one twice, is not believed', async (t) => {
  const { root, run } = place(t);
  const share = folderShare(root);
  const entry = (name: string): object => ({
    name: Buffer.from(name),
    isDirectory: () => false,
    isFile: () => true,
    isSymbolicLink: () => false,
  });
  for (const [names, told] of [
    [['../etc'], /a name that none can be: \.\.\/etc/],
    [[''], /a name that none can be: ''/],
    [['a', 'a'], /a name twice: a/],
  ] as const) {
    const lying = { ...share, readdir: () => Promise.resolve(names.map(entry) as never) };
    const { code, err } = await run(['ls'], { share: lying });
    assert.equal(code, 1);
    assert.match(err, told);
  }
});

test('cat writes bytes as they are, one file after the other', async (t) => {
  const { root, run } = place(t);
  const bytes = Buffer.alloc(3_000_000, 7);
  bytes[0] = 0x1b;
  writeFileSync(join(root, 'a'), bytes);
  writeFileSync(join(root, 'b'), 'end');
  const said = await run(['cat', 'a', 'none', 'b']);
  assert.deepEqual(said.bytes, Buffer.concat([bytes, Buffer.from('end')]));
  assert.equal(said.err, 'virtiofs cat: none: no such file or directory (ENOENT)\n');
  assert.equal(said.code, 1);
});

test('on a terminal, cat shows control characters, and characters of several bytes whole', async (t) => {
  const { root, run } = place(t);
  // The euro sign lies across the border of two chunks.
  writeFileSync(join(root, 'a'), `${'x'.repeat(2 ** 20 - 1)}\u20ac\x1b[2J\n`);
  const { out } = await run(['cat', 'a'], { terminal: true });
  assert.equal(out.slice(2 ** 20 - 1), '\u20ac^[[2J\n');
});

test('stat shows all attributes', async (t) => {
  const { root, run } = place(t);
  writeFileSync(join(root, 'file'), 'hello');
  chmodSync(join(root, 'file'), 0o640);
  symlinkSync('file', join(root, 'link'));
  const { out } = await run(['stat', 'file']);
  assert.match(out, /File: file\n {2}Size: 5 .* file\n.*\n {2}Mode: 0640\/-rw-r----- {2}Uid: \d+ /);
  assert.match(out, /\nModify: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} [+-]\d{4}\n/);
  assert.match((await run(['stat', 'link'])).out, /link -> file\n.* symlink\n/);
  assert.match((await run(['stat', '-L', 'link'])).out, /Size: 5 /);
  const [{ mode, size }] = JSON.parse((await run(['stat', '--json', 'file'])).out) as Record<string, unknown>[];
  assert.deepEqual({ mode, size }, { mode: '0640', size: 5 });
});

test('tree draws what is below, as deep as is asked', async (t) => {
  const { root, run } = place(t);
  mkdirSync(join(root, 'a/b'), { recursive: true });
  writeFileSync(join(root, 'a/b/c'), '');
  writeFileSync(join(root, 'a/.d'), '');
  symlinkSync('a', join(root, 'z'));
  const [tee, end, bar] = ['\u251c\u2500\u2500 ', '\u2514\u2500\u2500 ', '\u2502   '];
  assert.equal(
    (await run(['tree', '/'])).out,
    `/\n${tee}a\n${bar}${end}b\n${bar}    ${end}c\n${end}z -> a\n\n2 directories, 2 files\n`,
  );
  assert.equal((await run(['tree', '-L', '1', '-a', 'a'])).out, `a\n${tee}.d\n${end}b\n\n1 directory, 1 file\n`);
});

test('df shows how full the file system is, in blocks and in files', async (t) => {
  const { root, run } = place(t);
  const numbers = { frsize: 4096n, blocks: 1000n, bfree: 600n, bavail: 500n, files: 50n, ffree: 10n };
  const share = { ...folderShare(root), statfs: () => Promise.resolve(numbers) };
  const rows = async (...words: string[]): Promise<string[][]> => {
    const { out } = await run(['df', ...words], { share });
    return out
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/ +/));
  };
  assert.deepEqual(await rows(), [
    ['Share', '1K-blocks', 'Used', 'Available', 'Use%', 'Path'],
    ['/run/test.sock', '4000', '1600', '2000', '45%', '/'],
  ]);
  assert.deepEqual((await rows('-h'))[1], ['/run/test.sock', '4.0M', '1.6M', '2.0M', '45%', '/']);
  assert.deepEqual((await rows('-i'))[1], ['/run/test.sock', '50', '40', '10', '80%', '/']);
});

test('df asks the real file system, too', async (t) => {
  const { run } = place(t);
  assert.match((await run(['df'])).out, /\n\/run\/test\.sock +\d+ +\d+ +\d+ +\d+% \/\n$/);
});

test('sizes beyond what a number holds exactly are shown', async (t) => {
  const { root, run } = place(t);
  writeFileSync(join(root, 'sparse'), '');
  truncateSync(join(root, 'sparse'), 2 ** 42);
  assert.match((await run(['ls', '-lh', 'sparse'])).out, / 4\.0T /);
});
