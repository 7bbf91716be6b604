/** bin/: the command reaches a Node.js that is new enough, and then looks as if that had been started directly. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type ChildProcess, spawn, type StdioOptions } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';

const BIN = resolve(import.meta.dirname, '../bin');
const folder = mkdtempSync(join(tmpdir(), 'virtiofs-launcher-'));
after(() => rmSync(folder, { recursive: true }));

/** Stands for the command line: says who it is, or does what its first argument tells. */
const MAIN = `
import { readFileSync } from 'node:fs';
const args = process.argv.slice(2);
const descriptor = args.includes('--fd=3') ? readFileSync(3, 'utf8') : undefined;
if (args[0] === 'exit') process.exit(7);
if (args[0] === 'die') process.kill(process.pid, 'SIGKILL');
if (args[0] === 'wait') {
  process.on('SIGTERM', () => process.exit(9));
  setInterval(() => {}, 1000);
  console.log('ready');
} else {
  console.log(JSON.stringify({ args, pid: process.pid, descriptor, cache: process.env.NODE_COMPILE_CACHE }));
}
`;

/** A package as npm lays it out. 'old' makes its JavaScript think that this Node.js is too old. */
function install(name: string, options: { node: boolean; old: boolean; built?: boolean }): string {
  const root = join(folder, name);
  cpSync(BIN, join(root, 'bin'), { recursive: true });
  writeFileSync(join(root, 'package.json'), '{ "type": "module" }');
  const main = join(root, options.built ? 'dist/src/cli/main.js' : 'src/cli/main.ts');
  mkdirSync(resolve(main, '..'), { recursive: true });
  writeFileSync(main, MAIN);
  if (options.node) {
    const packaged = join(root, `node_modules/node-linux-${process.arch}`);
    mkdirSync(join(packaged, 'bin'), { recursive: true });
    writeFileSync(join(packaged, 'package.json'), '{}');
    // In an 'old' package the launcher would be asked again by the Node.js that it starts, and think the same.
    const direct = `#!/bin/sh\nshift 2\nexec '${process.execPath}' '${main}' "$@"\n`;
    if (options.old) writeFileSync(join(packaged, 'bin/node'), direct);
    else symlinkSync(process.execPath, join(packaged, 'bin/node'));
    if (options.old) chmodSync(join(packaged, 'bin/node'), 0o755);
  }
  if (options.old) {
    const launch = join(root, 'bin/launch.js');
    const code = readFileSync(launch, 'utf8');
    assert.match(code, /const NEEDED = \[26, 10\];/);
    writeFileSync(launch, code.replace('[26, 10]', '[999, 0]'));
  }
  return root;
}

const current = install('current', { node: true, old: false });
const old = install('old', { node: true, old: true });
const home = join(folder, 'home');
mkdirSync(home);

function start(command: readonly string[], descriptor?: string): ChildProcess {
  const { NODE_COMPILE_CACHE: _, XDG_CACHE_HOME: __, ...env } = process.env;
  const stdio: StdioOptions = ['ignore', 'pipe', 'pipe'];
  if (descriptor !== undefined) {
    writeFileSync(join(folder, 'passed'), descriptor);
    stdio.push(openSync(join(folder, 'passed'), 'r'));
  }
  return spawn(command[0], command.slice(1), { stdio, env: { ...env, HOME: home } });
}

async function end(child: ChildProcess) {
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  const [output, errors] = await Promise.all([text(child.stdout!), text(child.stderr!)]);
  const [code, signal] = await closed;
  return { output, errors, code, signal };
}

/** Runs to the end; what the command line said of itself. */
async function say(command: readonly string[], descriptor?: string) {
  const child = start(command, descriptor);
  const { output, errors, code } = await end(child);
  assert.equal(errors, '', 'a launcher is silent');
  assert.equal(code, 0);
  const said = JSON.parse(output) as { args: string[]; pid: number; descriptor?: string; cache?: string };
  return { ...said, samePid: said.pid === child.pid };
}

const HARD = ['a b', "it's", '"$HOME"', '', '*', '--', '-x'];

/** Each way in, by name. */
const WAYS: readonly (readonly [string, readonly string[]])[] = [
  ['the shell script', [join(current, 'bin/virtiofs')]],
  ['the shell script, from a package whose JavaScript is not asked', [join(old, 'bin/virtiofs')]],
  ['virtiofs.js on a Node.js that is new enough', [process.execPath, join(current, 'bin/virtiofs.js')]],
  ['virtiofs.js on an old Node.js', [process.execPath, join(old, 'bin/virtiofs.js')]],
];

for (const [name, command] of WAYS) {
  test(`${name} hands on the arguments as they are and stays the same process`, async () => {
    const { args, samePid, cache } = await say([...command, ...HARD]);
    assert.deepEqual(args, HARD);
    assert.ok(samePid);
    // In process the cache is switched on by a call.
    if (cache !== undefined) assert.equal(cache, join(home, '.cache/virtiofs/compile'));
  });

  test(`${name} hands on a descriptor that --fd names`, async () => {
    assert.equal((await say([...command, '--fd=3'], 'passed on')).descriptor, 'passed on');
  });

  test(`${name} ends with the exit code of the command, or by its signal`, async () => {
    assert.equal((await end(start([...command, 'exit']))).code, 7);
    assert.equal((await end(start([...command, 'exit', '--fd=3'], ''))).code, 7);
    assert.equal((await end(start([...command, 'die']))).signal, 'SIGKILL');
    assert.equal((await end(start([...command, 'die', '--fd=3'], ''))).signal, 'SIGKILL');
  });

  test(`${name} hands on a signal`, async () => {
    const child = start([...command, 'wait', '--fd=3'], '');
    await once(child.stdout!, 'data');
    child.kill('SIGTERM');
    assert.equal((await end(child)).code, 9);
  });
}

test('virtiofsd is virtiofs serve, from the shell and from JavaScript', async () => {
  assert.deepEqual((await say([join(current, 'bin/virtiofsd'), '--x'])).args, ['serve', '--x']);
  assert.deepEqual((await say([process.execPath, join(current, 'bin/virtiofsd.js'), '--x'])).args, ['serve', '--x']);
});

test('the links that npm makes lead to the package', async () => {
  symlinkSync(join(current, 'bin/virtiofsd'), join(folder, 'virtiofsd'));
  assert.deepEqual((await say([join(folder, 'virtiofsd'), 'x'])).args, ['serve', 'x']);
});

test('what was built is run where there are no sources', async () => {
  const built = install('built', { node: true, old: false, built: true });
  assert.deepEqual((await say([join(built, 'bin/virtiofs'), 'x'])).args, ['x']);
});

test('without a Node.js that is new enough it says what it looked for and what to do', async () => {
  const bare = install('bare', { node: false, old: true });
  const { errors, code } = await end(start([process.execPath, join(bare, 'bin/virtiofs.js')]));
  assert.equal(code, 126);
  assert.match(errors, /needs Node\.js 999\.0 or newer/);
  assert.match(errors, new RegExp(`Looked for the package node-linux-${process.arch}, which is not installed`));
  assert.match(errors, /Install virtiofs again without --omit=optional/);
});

test('a packaged Node.js that is itself too old does not start itself for ever', async () => {
  const same = install('same', { node: false, old: true });
  const packaged = join(same, `node_modules/node-linux-${process.arch}`);
  mkdirSync(join(packaged, 'bin'), { recursive: true });
  writeFileSync(join(packaged, 'package.json'), '{}');
  symlinkSync(process.execPath, join(packaged, 'bin/node'));
  const { errors, code } = await end(start([process.execPath, join(same, 'bin/virtiofs.js')]));
  assert.equal(code, 126);
  assert.match(errors, /which this is/);
});
