/** The commands that boot guests, as a user starts them. */
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';

const MAIN = join(import.meta.dirname, 'main.ts');
let folder = '';
let scratch = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  scratch = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  writeFileSync(join(folder, 'hello'), 'from the host\n');
});
afterEach(() => {
  for (const each of [folder, scratch]) rmSync(each, { recursive: true, force: true });
});

function start(args: readonly string[]): ChildProcessWithoutNullStreams {
  // Its own folder for temporary files, to see what is left behind; another working directory than the share.
  const env = { ...process.env, TMPDIR: scratch, NO_COLOR: '1' };
  return spawn(process.execPath, ['--disable-warning=ExperimentalWarning', MAIN, ...args], { cwd: '/', env });
}

interface Outcome {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function outcomeOf(child: ChildProcessWithoutNullStreams): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal, stdout, stderr };
}

function run(args: readonly string[], input = ''): Promise<Outcome> {
  const child = start(args);
  child.stdin.end(input);
  return outcomeOf(child);
}

test('vm runs a command in the directory and returns its output and its exit code', async () => {
  const script = 'cat hello; echo oops >&2; echo guest >made; exit 9';
  const { code, stdout, stderr } = await run(['vm', folder, '--', script]);
  assert.deepEqual({ code, stdout, stderr }, { code: 9, stdout: 'from the host\n', stderr: 'oops\n' });
  assert.equal(readFileSync(join(folder, 'made'), 'utf8'), 'guest\n');
  assert.deepEqual(readdirSync(scratch), []);
});

test('vm passes arguments as they are, and its input to the command', async () => {
  const { code, stdout } = await run(
    ['vm', folder, '--queues', '2', '--', 'sh', '-c', 'cat; echo "$0"', "it's"],
    'in\n',
  );
  assert.deepEqual({ code, stdout }, { code: 0, stdout: "in\nit's\n" });
});

test('vm without a command takes a script from its input', async () => {
  const { code, stdout } = await run(['vm', folder, '--readonly'], 'ls\ntouch new || exit 4\n');
  assert.deepEqual({ code, stdout }, { code: 4, stdout: 'hello\n' });
  assert.deepEqual(readdirSync(folder), ['hello']);
});

test('vm leaves nothing behind when it is interrupted, nor when nobody reads on', async () => {
  const interrupted = start(['vm', folder, '--', 'echo up; sleep 1000']);
  const outcome = outcomeOf(interrupted);
  await once(interrupted.stdout, 'data');
  interrupted.kill('SIGINT');
  assert.equal((await outcome).signal, 'SIGINT');
  assert.deepEqual(readdirSync(scratch), []);

  const unread = start(['vm', folder, '--', 'yes']);
  await once(unread.stdout, 'data');
  unread.stdout.destroy();
  const [code] = (await once(unread, 'exit')) as [number];
  assert.equal(code, 141);
  assert.deepEqual(readdirSync(scratch), []);
});

test('vm that gets no guest says why with exit code 125', async () => {
  const { code, stderr } = await run(['vm', folder, '--kernel', '/nonexistent/kernel', '--', 'true']);
  assert.equal(code, 125);
  assert.match(stderr, /there is no kernel at \/nonexistent\/kernel/);
});

test('start shows both sides reading what the other one wrote', async () => {
  const { code, stdout } = await run(['start']);
  assert.equal(code, 0);
  assert.match(stdout, /guest# ls -lR[^]*README\.txt[^]*written on the host[^]*written in the guest[^]*Each side read/);
  assert.deepEqual(readdirSync(scratch), []);
});

test('doctor finds that the daemon can work where it does', async () => {
  const { code, stdout } = await run(['doctor']);
  assert.equal(code, 0);
  for (const what of ['Node.js', 'system calls', 'capabilities', 'limits', 'DAX', 'QEMU', 'guest kernel', 'KVM']) {
    assert.ok(stdout.includes(what), `${what} is missing in\n${stdout}`);
  }
});
