/** How the client waits for replies: looking itself, asleep, or in its event loop, and from one to the other. */
import assert from 'node:assert/strict';
import { closeSync, constants, openSync, readdirSync, readlinkSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { mount, openTransport } from '../src/client/connect.ts';
import { all, finished, join as joined, promised, start, type Task, type Volume } from '../src/client/index.ts';
import { commonDaemon } from './daemon.ts';

const daemon = commonDaemon({ args: ['--stay'] });
const CALLS = 20_000;
/** Interrupts that may lie in the pipe: less than the smallest pipe of Linux holds. */
const MOST_BYTES = 4096;

function pipes(): string[] {
  const folder = '/proc/self/fd';
  return readdirSync(folder).filter((fd) => {
    try {
      return readlinkSync(join(folder, fd)).startsWith('pipe:');
    } catch {
      return false;
    }
  });
}

/** Bytes that lie in a pipe, which are taken out. */
function takeAll(fd: string): number {
  const own = openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY | constants.O_NONBLOCK);
  const into = new Uint8Array(65536);
  let sum = 0;
  try {
    for (let got = 1; got > 0; sum += got) got = readSync(own, into);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
  } finally {
    closeSync(own);
  }
  return sum;
}

function connected(body: (volume: Volume) => void): void {
  writeFileSync(join(daemon().share, 'file'), 'text');
  const transport = openTransport(daemon().socketPath, { cache: 'none' });
  const volume = finished(mount(transport, { cache: 'none' }), () => transport.idle());
  try {
    body(volume);
  } finally {
    finished(volume.close(), () => volume.idle());
  }
}

test('however much a caller asks for who never comes to the event loop, the interrupts find room', () => {
  const before = new Set(pipes());
  connected((volume) => {
    const [interrupts] = pipes().filter((fd) => !before.has(fd));
    const file = finished(volume.open('file', 0), () => volume.idle());
    for (let i = 0; i < CALLS; i += 1) finished(file.stat(), () => volume.idle());
    assert(takeAll(interrupts) <= MOST_BYTES);
    finished(file.close(), () => volume.idle());
  });
});

test('what a caller who blocks has left under way is heard of in the event loop', async () => {
  writeFileSync(join(daemon().share, 'file'), 'text');
  const before = new Set(pipes());
  const volume = await promised(mountLater());
  const [interrupts] = pipes().filter((fd) => !before.has(fd));
  // Each asks anew as soon as it is answered, so that something is under way whenever the other has returned.
  function* often(times: number): Task<number> {
    for (let i = 0; i < times; i += 1) yield* volume.stat('file', true);
    return times;
  }
  for (let i = 0; i < 50; i += 1) {
    const beside = start(often(20));
    finished(often(3), () => volume.idle());
    // What was left of interrupts that nobody needed does not wake the event loop.
    takeAll(interrupts);
    assert.equal(await promised(joined(beside)), 20);
  }
  assert.deepEqual(await promised(all([often(5), often(7)])), [5, 7]);
  await promised(volume.close());
});

function mountLater(): Task<Volume> {
  const options = { cache: 'none' } as const;
  return mount(openTransport(daemon().socketPath, options), options);
}
