/**
 * The client against daemons that ask for nonsense on the channel by which files are mapped into its window: they are
 * refused, the program lives, and closing leaves nothing behind.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { type OpenFile, ShareError, type Task } from '../src/client/index.ts';
import { O_RDWR } from '../src/sys/index.ts';
import { commonDaemon } from './daemon.ts';
import { type Way, WAYS } from './hostile-calls.ts';
import { Holdings } from './hostile-client.ts';
import { FILE_BYTES } from './hostile-share.ts';
import { WINDOW_TRICKS, type WindowTrick } from './hostile-window.ts';

const OPTIONS = { timeoutMs: 30_000, dax: '2M', daxFiles: 'always' } as const;
/** deadline: for a thread to end. It parks for a second. */
const THREADS_LIMIT_MS = 10_000;

const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const socketOf = (trick: string): string => join(folder, `${trick}.sock`);
const daemon = commonDaemon({
  program: fileURLToPath(new URL('hostile-daemon.ts', import.meta.url)),
  socketPaths: [...Object.keys(WINDOW_TRICKS), 'none'].map(socketOf),
});

const threads = (): number => readdirSync('/proc/self/task').length;

/** A thread of a window ends some time after the share is closed. */
async function threadsEnd(most: number): Promise<void> {
  const deadline = performance.now() + THREADS_LIMIT_MS;
  while (threads() > most && performance.now() < deadline) await turn();
  assert.ok(threads() <= most, `${threads()} threads, not ${most}`);
}

/** What the file holds, as far as it can be read. */
function* contentOf(file: OpenFile): Task<string> {
  const into = new Uint8Array(FILE_BYTES);
  const count = yield* file.read(into, 0);
  return Buffer.from(into.buffer, 0, count).toString('latin1');
}

/** Reads the file, has the daemon do what it does later, writes the file, and reads it again. */
async function play(name: string, trick: WindowTrick, way: Way): Promise<void> {
  const volume = await way.open(socketOf(name), OPTIONS);
  const wait = <T>(task: Task<T>): Promise<T> => way.wait(volume, task);
  try {
    const file = await wait(volume.open('/file', O_RDWR));
    const reading = wait(contentOf(file));
    if (trick.reads === 'EIO') {
      await assert.rejects(reading, (error) => error instanceof ShareError && error.code === 'EIO');
      await wait(volume.statfs('/'));
    } else {
      const seen = await reading;
      await wait(volume.statfs('/'));
      assert.match(trick.later === undefined ? seen : await wait(contentOf(file)), trick.reads);
      // Wherever it goes, it comes to an end.
      await wait(file.write(new Uint8Array(FILE_BYTES), 0));
    }
    await wait(file.close());
    await wait(volume.stat('/file', true));
  } finally {
    await wait(volume.close());
  }
}

test('without tricks of the daemon the window stays empty, and files are read all the same', async () => {
  const [way] = WAYS;
  const before = threads();
  await play('none', { reads: /^a{10000}$/, setup: () => 0 }, way);
  await threadsEnd(before);
});

for (const way of WAYS) {
  for (const [name, trick] of Object.entries<WindowTrick>(WINDOW_TRICKS)) {
    const end = trick.reads === 'EIO' ? 'cannot be mapped' : 'is read';
    test(`${name}: the file ${end}, all else goes on, and nothing is left behind (${way.name})`, async () => {
      const holdings = new Holdings();
      const before = threads();
      const said = daemon().said.length;
      await play(name, trick, way);
      assert.equal(daemon().said.slice(said), '');
      await threadsEnd(before);
      await holdings.check(name);
    });
  }
}
