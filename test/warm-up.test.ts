/** The warm-up in the daemon as users have it. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';

import { mount, openTransport } from '../src/client/connect.ts';
import { finished, type Volume } from '../src/client/index.ts';
import { O_CREAT, O_EXCL, O_RDWR } from '../src/sys/index.ts';
import { TestDaemon } from './daemon.ts';

const ARGS = ['--log-level', 'info', '--stay', '--warm-up'];
const FILES = 50;
const WARM = 'warmed up';

async function start(t: TestContext, ...args: string[]): Promise<TestDaemon> {
  const daemon = await TestDaemon.start({ args: [...ARGS, ...args] });
  t.after(() => daemon[Symbol.asyncDispose]());
  return daemon;
}

function enter(daemon: TestDaemon): Volume {
  const options = { cache: 'none', queues: 1 } as const;
  const transport = openTransport(daemon.socketPath, options);
  return finished(mount(transport, options), () => transport.idle());
}

const leave = (volume: Volume): void => finished(volume.close(), () => volume.idle());

/** Makes a file of that name, reads it back and removes it. */
function useFile(volume: Volume, name: string): void {
  const written = Buffer.from(`what is in ${name}`);
  const task = function* () {
    const file = yield* volume.open(name, O_RDWR | O_CREAT | O_EXCL, 0o644);
    yield* file.write(written, 0);
    const read = Buffer.alloc(written.length);
    yield* file.read(read, 0);
    yield* file.close();
    yield* volume.unlink(name);
    return read;
  };
  assert.deepEqual(
    finished(task(), () => volume.idle()),
    written,
  );
}

test('a guest that comes while a thread warms up is served, and sees nothing of it', async (t) => {
  const daemon = await start(t);
  const volume = enter(daemon);
  for (let i = 0; i < FILES; i += 1) {
    useFile(volume, `file ${i}`);
  }
  await daemon.hears(WARM);
  useFile(volume, 'file');
  assert.deepEqual(readdirSync(daemon.share), []);
  leave(volume);
});

test('a daemon that has warmed up holds the same descriptors and mounts as one that has not', async (t) => {
  const cold = await start(t, '--no-warm-up');
  const warm = await start(t);
  // Then their threads have all been started.
  for (const daemon of [cold, warm]) leave(enter(daemon));
  await warm.hears(WARM);
  assert.ok(!cold.said.includes('warmed up'));
  const mounts = ({ process: { pid } }: TestDaemon): string => readFileSync(`/proc/${pid}/mountinfo`, 'utf8');
  assert.equal(mounts(warm), mounts(cold));
  for (let equal = false; !equal; equal = warm.descriptors() === cold.descriptors()) {
    const said = [cold.gauges(), warm.gauges()];
    await Promise.all(said);
  }
  const [one, other] = await Promise.all([cold.gauges(), warm.gauges()]);
  assert.deepEqual(other, one);
});

test('a daemon ends in the middle of a warm-up', async (t) => {
  const daemon = await start(t);
  leave(enter(daemon));
  daemon.process.kill('SIGTERM');
  assert.deepEqual(await daemon.awaitEnd(), { code: 0, signal: null });
});
