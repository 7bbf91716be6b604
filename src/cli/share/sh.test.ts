import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';

import { SHARE_COMMANDS } from './register.ts';
import type { Context, Input, Output } from './run.ts';
import { shCommand } from './sh.ts';
import { place } from './testing.ts';

test('sh -c runs commands one after the other, and ends with the code of the last', async (t) => {
  const { root, run } = place(t);
  writeFileSync(join(root, 'f'), 'text\n');
  const { code, out, err } = await run(['sh', '-c', 'ls; cat none; cat f']);
  assert.deepEqual([code, out], [0, 'f\ntext\n']);
  assert.equal(err, 'virtiofs cat: none: no such file or directory (ENOENT)\n');
  assert.equal((await run(['sh', '-c', 'ls; cat none'])).code, 1);
  assert.equal((await run(['sh', '-c', ''])).code, 0);
});

test('sh reads commands from standard input', async (t) => {
  const { root, run } = place(t);
  const input = "mkdir -p 'a b/c'\ncd 'a b'\npwd\n# nothing\nmkdir d; cd ..; ls -R\nls none";
  const { code, out } = await run(['sh'], { input });
  assert.equal(out, '/a b\n/:\na b\n\n/a b:\nc\nd\n\n/a b/c:\n\n/a b/d:\n');
  assert.equal(code, 1);
  assert.deepEqual(readdirSync(join(root, 'a b')), ['c', 'd']);
});

test('cd goes where a symlink leads, stays where it cannot go, and without a name to the root', async (t) => {
  const { root, run } = place(t);
  mkdirSync(join(root, 'a/b'), { recursive: true });
  writeFileSync(join(root, 'f'), '');
  symlinkSync('a/b', join(root, 'link'));
  const { out, err } = await run(['sh', '-c', 'cd link; pwd; cd none; cd /f; pwd; cd ..; pwd; cd; pwd']);
  assert.equal(out, '/a/b\n/a/b\n/a\n/\n');
  assert.equal(
    err,
    'virtiofs cd: none: no such file or directory (ENOENT)\nvirtiofs cd: /f: is not a directory (ENOTDIR)\n',
  );
});

test('exit leaves with a code, or that of the last command', async (t) => {
  const { run } = place(t);
  assert.deepEqual(await run(['sh', '-c', 'exit 7; ls none']).then(({ code, err }) => [code, err]), [7, '']);
  assert.equal((await run(['sh'], { input: 'ls none\nexit\nls\n' })).code, 1);
  assert.match((await run(['sh', '-c', 'exit 256'])).err, /^virtiofs sh: exit: 256 is no exit code/);
});

test('what sh does not know has the exit codes of a shell', async (t) => {
  const { run } = place(t);
  const unknown = await run(['sh', '-c', "$'\\e[2J'"]);
  assert.equal(unknown.code, 127);
  assert.equal(unknown.err, "virtiofs sh: $'\\033''[2J': there is no such command; help lists them\n");
  const open = await run(['sh', '-c', "ls 'a"]);
  assert.deepEqual([open.code, open.err], [2, "virtiofs sh: ' without another: something is missing\n"]);
  const option = await run(['sh', '-c', 'ls --wrong; pwd']);
  assert.match(option.err, /^virtiofs ls: unknown option '--wrong'\n/);
  assert.equal(option.out, '/\n');
  assert.match(
    (await run(['sh', '-c', 'cp a'])).err,
    /^virtiofs cp: where to\? Two paths are needed, and a is the only one\n$/,
  );
});

test('help lists all commands, and each has its own', async (t) => {
  const { run } = place(t);
  const { out } = await run(['sh', '-c', 'help']);
  for (const { name } of SHARE_COMMANDS.slice(0, -1)) assert.match(out, new RegExp(`^ {2}${name} +[a-z]`, 'm'));
  const ls = await run(['sh', '-c', 'ls --help']);
  assert.match(ls.out, /-h, --human-readable/);
  assert.equal(ls.code, 0);
});

test('rm in a directory refuses the directory where one is', async (t) => {
  const { root, run } = place(t);
  mkdirSync(join(root, 'd'));
  assert.match((await run(['sh', '-c', 'cd d; rm -r .'])).err, /are not removed/);
  assert.deepEqual(readdirSync(root), ['d']);
});

interface Terminal {
  readonly keys: (text: string) => void;
  /** Waits until this was written. */
  readonly sees: (text: string) => Promise<string>;
  readonly code: Promise<number>;
}

/** sh on a terminal that the test types at. */
function terminal(context: Pick<Context, 'share' | 'host'>): Terminal {
  const keyboard = new PassThrough();
  const stdin: Input = Object.assign(keyboard, { isTTY: true, setRawMode: () => {} });
  let seen = '';
  let waiting = (): void => {};
  const screen = new PassThrough();
  screen.on('data', (chunk: Buffer) => {
    seen += chunk.toString();

    waiting();
  });
  const stdout: Output = Object.assign(screen, { isTTY: true, columns: 80, rows: 24 });
  const simple = SHARE_COMMANDS.filter(({ name }) => name !== 'sh');
  const { signal } = new AbortController();
  const code = shCommand(simple).run(
    { ...context, label: 's', cwd: '/', stdin, stdout, stderr: stdout, signal },
    [],
    {},
  );
  return {
    keys: (text) => void keyboard.write(text),
    sees: (text) =>
      new Promise((resolve) => {
        waiting = () => {
          const at = seen.indexOf(text);
          if (at < 0) return;
          const before = seen.slice(0, at);
          seen = seen.slice(at + text.length);
          waiting = () => {};
          resolve(before);
        };
        waiting();
      }),
    code,
  };
}

test('at a prompt, tab completes commands and paths, quoted where they must be', async (t) => {
  const { root, local, share, run } = place(t);
  mkdirSync(join(root, 'some dir'));
  writeFileSync(join(root, 'some dir/file one'), 'found it');
  await run(['pwd']);
  const { keys, sees, code } = terminal({ share, host: share });
  await sees('virtiofs:/> ');
  keys('tre\t');
  await sees('tree ');
  keys('s\t');
  await sees('some\\ dir/');
  keys('\n');
  await sees('0 directories, 1 file\n');
  keys('cat "some d\t');
  await sees('"ir/');
  keys('f\t');
  await sees('ile\\ one ');
  keys('\n');
  await sees('found it');
  await sees('virtiofs:/> ');
  keys('cd some\\ dir\n');
  await sees("virtiofs:'/some dir'> ");
  keys('\x04');
  assert.equal(await code, 0);
  assert.deepEqual(readdirSync(local), []);
});

test('at a prompt, Ctrl-C ends the command, or gives up the line, and the prompt comes back', async (t) => {
  const { root, share } = place(t);
  writeFileSync(join(root, 'endless'), 'x');
  const endless: typeof share.open = async (...given) => {
    const handle = await share.open(...given);
    return Object.assign(handle, { read: () => new Promise((resolve) => setImmediate(resolve, { bytesRead: 1 })) });
  };
  const { keys, sees, code } = terminal({ share: { ...share, open: endless }, host: share });
  await sees('virtiofs:/> ');
  keys('cat endless\n');
  await sees('cat endless');
  keys('\x03');
  await sees('virtiofs:/> ');
  keys('rm endless');
  await sees('rm endless');
  keys('\x03');
  await sees('^C');
  keys('pwd\n');
  await sees('\n/\n');
  keys('exit 3\n');
  assert.equal(await code, 3);
  assert.equal(readFileSync(join(root, 'endless'), 'utf8'), 'x');
});
