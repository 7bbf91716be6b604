import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { type TestContext, test } from 'node:test';

import { PAGE_BYTES } from '../../core/index.ts';
import { close, isReceived, memfd, readMemory, sendMessage, socketPair } from '../../sys/index.ts';
import { BackendRequest, BackendRequests, Channel, HEADER_NEED_REPLY, Mmap } from '../../vhost/index.ts';
import { WindowThread } from './window-thread.ts';

const MAP = BackendRequest.SHMEM_MAP;
const SIZE = 4 * PAGE_BYTES;

/** A window and the daemon's end of its channel. */
class Pair {
  readonly daemon: Channel;
  readonly window: WindowThread;
  readonly refusals: string[] = [];
  #heard: () => void = () => undefined;

  constructor(t: TestContext) {
    const [ours, theirs] = socketPair();
    this.daemon = new Channel(theirs);
    const refused = (why: string): void => {
      this.refusals.push(why);
      this.#heard();
    };
    this.window = new WindowThread({ channel: new BackendRequests(ours), sizeBytes: SIZE, refused });
    t.after(() => {
      this.window.close();
      this.daemon.close();
    });
  }

  /** Has a page of a new file mapped; whether it was. Blocks until the thread has answered. */
  map(shmOffset: number): boolean {
    const view = new DataView(new ArrayBuffer(Mmap.bytes));
    Mmap.set.shmOffset(view, 0, shmOffset);
    Mmap.set.len(view, 0, PAGE_BYTES);
    const fd = memfd('file', PAGE_BYTES);
    this.daemon.send(MAP, HEADER_NEED_REPLY, new Uint8Array(view.buffer), [fd]);
    close(fd);
    return this.daemon.receive()?.payload.getUint8(0) === 0;
  }

  /** Waits for the next refusal. */
  hears(): Promise<void> {
    return new Promise((resolve) => {
      this.#heard = resolve;
    });
  }

  isThere(offset: number): boolean {
    return readMemory(this.window.address + offset, new Uint8Array(1), 0, 1) === 1;
  }
}

test('the thread serves while the one that started it blocks', (t) => {
  const pair = new Pair(t);
  assert.equal(pair.isThere(PAGE_BYTES), false);
  assert.equal(pair.map(PAGE_BYTES), true);
  assert.deepEqual([pair.isThere(0), pair.isThere(PAGE_BYTES)], [false, true]);
});

test('why something was not done is told', async (t) => {
  const pair = new Pair(t);
  const heard = pair.hears();
  assert.equal(pair.map(100), false);
  await heard;
  assert.match(pair.refusals[0], /4096 bytes at 100 of window 0.*whole pages/);
});

test('it is closed in the middle of a message, and a second time', async (t) => {
  const pair = new Pair(t);
  pair.map(0);
  assert.equal(sendMessage(pair.daemon.fd, Uint8Array.of(MAP)), 0);
  // It waits for the rest.
  while (!isReceived(pair.daemon.fd));
  pair.window.close();
  pair.window.close();
  await pair.window.awaitEnd();
  assert.equal(pair.daemon.receive(), undefined);
});

test('it is closed before its thread has begun', (t) => {
  const pair = new Pair(t);
  pair.window.close();
  assert.equal(pair.daemon.receive(), undefined);
});

test('when the daemon closes, what was mapped is gone before the window is closed', async (t) => {
  const pair = new Pair(t);
  pair.map(0);
  pair.daemon.close();
  await pair.window.awaitEnd();
  assert.equal(pair.isThere(0), false);
  assert.deepEqual(pair.refusals, []);
});

test('a window for which there are no addresses is an error, and its channel is closed', () => {
  const [ours, theirs] = socketPair();
  const daemon = new Channel(theirs);
  const channel = new BackendRequests(ours);
  const before = readdirSync('/proc/self/fd').length;
  assert.throws(() => new WindowThread({ channel, sizeBytes: 2 ** 52 }), /mmap.*ENOMEM/);
  assert.equal(daemon.receive(), undefined);
  assert.equal(readdirSync('/proc/self/fd').length, before - 1);
  daemon.close();
});

/** Runs a program with an open window, after `requests` of its daemon; its exit code. */
function run(requests: number, end: string): number | null {
  const url = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
  const program = `
    import { socketPair, memfd, close } from ${url('../../sys/index.ts')};
    import { BackendRequests, Channel, Mmap } from ${url('../../vhost/index.ts')};
    import { WindowThread } from ${url('window-thread.ts')};
    const [ours, theirs] = socketPair();
    const daemon = new Channel(theirs);
    const window = new WindowThread({ channel: new BackendRequests(ours), sizeBytes: ${SIZE} });
    const view = new DataView(new ArrayBuffer(Mmap.bytes));
    Mmap.set.len(view, 0, ${PAGE_BYTES});
    const fd = memfd('file', ${PAGE_BYTES});
    for (let i = 0; i < ${requests}; i += 1) {
      daemon.send(${MAP} + (i % 2), ${HEADER_NEED_REPLY}, new Uint8Array(view.buffer), i % 2 === 0 ? [fd] : []);
      if (daemon.receive().payload.getUint8(0) !== 0) process.exit(9);
    }
    ${end};
  `;
  const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', program];
  // A deadline, not a measure: without an end it would run for ever.
  return spawnSync(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'], timeout: 30_000 }).status;
}

test('a process ends with a window open: by itself, by process.exit, by an error', () => {
  assert.equal(run(2, ''), 0);
  assert.equal(run(2, 'process.exit(3)'), 3);
  assert.equal(run(2, 'process.exitCode = 4'), 4);
  assert.equal(run(0, 'process.exit(5)'), 5);
});

test('a process ends after so many requests that the code of the thread has been compiled', () => {
  assert.equal(run(5000, 'process.exit(3)'), 3);
});
