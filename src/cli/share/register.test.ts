import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { type TestContext, test } from 'node:test';

import { place } from './testing.ts';

/** What a process runs: one command, on a folder as the share. `endless` never ends when it is read. */
const PROGRAM = `
import { Command } from 'commander';
import { registerShareCommand } from '${import.meta.resolve('./register.ts')}';
import { folderShare } from '${import.meta.resolve('./testing.ts')}';

const open = async (socketPath, options) => {
  process.stderr.write(JSON.stringify({ socketPath, ...options }) + '\\n');
  const share = folderShare(process.env.TEST_ROOT);
  const endless = {
    read: (buffer) => new Promise((resolve) => setImmediate(resolve, { bytesRead: buffer.length })),
    close: async () => {},
  };
  return {
    ...share,
    open: (path, ...more) => (path.endsWith('endless') ? Promise.resolve(endless) : share.open(path, ...more)),
    [Symbol.asyncDispose]: async () => void process.stderr.write('closed\\n'),
  };
};
const program = new Command('virtiofs');
registerShareCommand(program, process.argv[1], open);
await program.parseAsync(process.argv.slice(1), { from: 'user' });
`;

function start(t: TestContext, root: string, words: readonly string[], socket?: string): ChildProcess {
  const env = { ...process.env, TEST_ROOT: root, VIRTIOFS_SOCKET: socket };
  if (socket === undefined) delete env.VIRTIOFS_SOCKET;
  const flags = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', PROGRAM, '--'];
  const child = spawn(process.execPath, [...flags, ...words], { env, cwd: import.meta.dirname, timeout: 60_000 });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

async function finished(child: ChildProcess): Promise<{ code: number | null; out: string; err: string }> {
  const [out, err, [code]] = await Promise.all([
    text(child.stdout as NodeJS.ReadableStream),
    text(child.stderr as NodeJS.ReadableStream),
    once(child, 'close') as Promise<[number | null]>,
  ]);
  return { code, out, err };
}

test('the options of all commands say how to connect, and the share is closed in the end', async (t) => {
  const { root } = place(t);
  writeFileSync(join(root, 'f'), '');
  const words = ['ls', '-la', '--socket', '/s', '--cache', 'none', '--writeback', '--dax', '64M', '--queues', '2'];
  const { code, out, err } = await finished(start(t, root, [...words, '--timeout', '2.5', '/none', '/']));
  assert.match(out, / f\n$/);
  const [options, failed, closed] = err.split('\n');
  assert.deepEqual(JSON.parse(options), {
    socketPath: '/s',
    cache: 'none',
    writeback: true,
    daxBytes: 64 * 2 ** 20,
    queues: 2,
    timeoutMs: 2500,
  });
  assert.deepEqual([failed, closed], ['virtiofs ls: /none: no such file or directory (ENOENT)', 'closed']);
  assert.equal(code, 1);
});

test('the socket can stand in the environment, and must stand somewhere', async (t) => {
  const { root } = place(t);
  mkdirSync(join(root, 'd'));
  const good = await finished(start(t, root, ['ls'], '/from/environment'));
  assert.equal(good.out, 'd\n');
  assert.deepEqual(JSON.parse(good.err.split('\n')[0]), {
    socketPath: '/from/environment',
    cache: 'auto',
    writeback: false,
    queues: 1,
  });
  const none = await finished(start(t, root, ['ls']));
  assert.match(none.err, /required option '--socket <path>' not specified/);
  assert.equal(none.code, 1);
});

test('-h is the one of ls and df; wrong values are refused with what is right', async (t) => {
  const { root } = place(t);
  assert.equal((await finished(start(t, root, ['df', '-h', '--socket', '/s']))).code, 0);
  for (const [option, value, told] of [
    ['--dax', '3M', /multiple of 2M/],
    ['--queues', '0', /number of queues/],
    ['--timeout', '0', /number of seconds/],
    ['--cache', 'some', /none, auto, always/],
  ] as const) {
    const { code, err } = await finished(start(t, root, ['df', '--socket', '/s', option, value]));
    assert.equal(code, 1);
    assert.match(err, told);
  }
});

test('Ctrl-C ends a command with 130, SIGTERM with 143, and the share is closed', async (t) => {
  const { root } = place(t);
  for (const [signal, ends] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const child = start(t, root, ['cat', '--socket', '/s', '/endless']);
    child.stdout?.once('data', () => child.kill(signal));
    const { code, err } = await finished(child);
    assert.equal(code, ends);
    assert.match(err, /\nclosed\n$/);
  }
});

test('exit leaves sh while its standard input is open', async (t) => {
  const { root } = place(t);
  const child = start(t, root, ['sh', '--socket', '/s']);
  child.stdin?.write('pwd\nexit 3\n');
  const { code, out } = await finished(child);
  assert.deepEqual([code, out], [3, '/\n']);
});

test('a reader that goes ends a command without a word', async (t) => {
  const { root } = place(t);
  const child = start(t, root, ['cat', '--socket', '/s', '/endless']);
  child.stdout?.once('data', () => child.stdout?.destroy());
  const [err, [code]] = await Promise.all([text(child.stderr as NodeJS.ReadableStream), once(child, 'exit')]);
  assert.equal(code, 141);
  assert.match(err, /^\{.*\}\nclosed\n$/);
});
