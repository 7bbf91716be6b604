import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'virtiofs-server-'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** Far more than the second that it may take: for a process that hangs, which is what these tests look for. */
const DEADLINE_MS = 10_000;

/** A program that starts a server and then does `deed`; how the program ends, and what it says. */
async function endOf(deed: string): Promise<{ code: number | null; signal: string | null; said: string }> {
  const url = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
  const socket = join(folder, 'socket');
  const source = `
    import { connect } from 'node:net';
    import { initOffer, Server } from ${url('./index.ts')};
    import { moduleUrl } from ${url('../fs/passthrough/index.ts')};
    const options = { sharedDir: ${JSON.stringify(folder)}, readonly: false, entryTtlMs: 0, attributeTtlMs: 0 };
    const server = await Server.start({
      fileSystem: { module: moduleUrl, options }, socketPaths: [${JSON.stringify(socket)}],
      offer: initOffer({}), stay: true, logLevel: 'error',
    });
    const threadsRun = () => new Promise((resolve) => {
      const client = connect(${JSON.stringify(socket)}, () => client.write('no vhost-user message'));
      client.on('error', () => undefined).on('close', resolve);
    });
    ${deed}`;
  const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', source];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'], timeout: DEADLINE_MS });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  assert.equal(existsSync(socket), false, 'the socket is left behind');
  return { code, signal, said };
}

// Its threads sleep in the kernel in all of these; Node alone would wait for them for ever.

test('process.exit ends a program with a server, with its exit code', async () => {
  const { code, said } = await endOf('await threadsRun(); process.exit(7);');
  assert.equal(code, 7);
  assert.match(said, /the connection .* is closed/);
});

test('process.exit ends it also while its threads are only starting', async () => {
  assert.deepEqual(await endOf('process.exit(7);'), { code: 7, signal: null, said: '' });
});

test('an uncaught error ends a program with a server', async () => {
  const { code, said } = await endOf("await threadsRun(); setImmediate(() => { throw new Error('uncaught'); });");
  assert.equal(code, 1);
  assert.match(said, /Error: uncaught/);
});

test('stop ends the sessions, and then the program has nothing left to do', async () => {
  assert.deepEqual(await endOf('server.stop(); await server.finished;'), { code: 0, signal: null, said: '' });
});
