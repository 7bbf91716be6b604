/** The client on a daemon of ours: which messages it sends, and what it believes for how long. */
import assert from 'node:assert/strict';
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';

import {
  all,
  connect,
  type ConnectOptions,
  connectSync,
  openVolume,
  type OpenFile,
  promised,
  type Task,
  type Volume,
} from '../src/client/index.ts';
import { lensRefusal } from '../src/coherence/index.ts';
import { InHeader, opcodeName } from '../src/fuse/index.ts';
import { O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TRUNC } from '../src/sys/index.ts';
import { TestDaemon } from './daemon.ts';

/** A share and a client of it that counts its messages. */
class Stage {
  readonly daemon: TestDaemon;
  readonly volume: Volume;
  readonly #sent: string[];

  private constructor(daemon: TestDaemon, volume: Volume, sent: string[]) {
    this.daemon = daemon;
    this.volume = volume;
    this.#sent = sent;
  }

  static async open(t: TestContext, args: string[], options: ConnectOptions = {}): Promise<Stage> {
    const daemon = await TestDaemon.start({ args });
    const sent: string[] = [];
    const trace = (request: Uint8Array): void => {
      sent.push(opcodeName(InHeader.opcode(new DataView(request.buffer, request.byteOffset), 0)));
    };
    const volume = await promised(openVolume(daemon.socketPath, { umask: 0, ...options, trace }));
    t.after(async () => {
      await promised(volume.close());
      await daemon[Symbol.asyncDispose]();
    });
    sent.length = 0;
    return new Stage(daemon, volume, sent);
  }

  path(...names: string[]): string {
    return join(this.daemon.share, ...names);
  }

  /** What a task takes: the names of its messages, but for FORGETs. */
  async messages(...tasks: Task<unknown>[]): Promise<string[]> {
    this.#sent.length = 0;
    for (const task of tasks) await promised(task);
    return this.#sent.filter((name) => !name.endsWith('FORGET'));
  }
}

function* read(file: OpenFile, length: number, position = 0): Task<string> {
  const bytes = Buffer.alloc(length);
  const count = yield* file.read(bytes, position);
  return bytes.toString('latin1', 0, count);
}

test('without a cache every question is asked', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'always'], { cache: 'none' });
  const { volume } = stage;
  mkdirSync(stage.path('a'));
  writeFileSync(stage.path('a', 'b'), 'content');
  for (let i = 0; i < 2; i += 1) {
    assert.deepEqual(await stage.messages(volume.stat('/a/b', true)), ['GETATTR', 'LOOKUP', 'LOOKUP', 'GETATTR']);
  }
  const file = await promised(volume.open('/a/b', O_RDONLY));
  for (let i = 0; i < 2; i += 1) assert.deepEqual(await stage.messages(read(file, 7)), ['READ']);
  await promised(file.close());
});

test('names, attributes and targets are believed as long as the daemon says', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'always', '--negative-timeout', '1000']);
  const { volume } = stage;
  mkdirSync(stage.path('a'));
  writeFileSync(stage.path('a', 'b'), 'content');
  symlinkSync('b', stage.path('a', 'link'));
  assert.deepEqual(await stage.messages(volume.stat('/a/b', true)), ['LOOKUP', 'LOOKUP']);
  assert.deepEqual(await stage.messages(volume.stat('/a/b', true), volume.stat('/a', true)), []);
  assert.deepEqual(await stage.messages(volume.stat('/a/link', true)), ['LOOKUP', 'READLINK']);
  assert.deepEqual(await stage.messages(volume.stat('/a/link', true), volume.readlink('/a/link')), []);
  // A name that is not there is remembered, too.
  await assert.rejects(promised(volume.stat('/a/none', true)), { code: 'ENOENT', syscall: 'stat', path: '/a/none' });
  const again = volume.stat('/a/none', true);
  await assert.rejects(stage.messages(again), { code: 'ENOENT', errno: -2 });
  writeFileSync(stage.path('a', 'none'), 'now it is');
  await assert.rejects(promised(volume.stat('/a/none', true)), { code: 'ENOENT' });
});

test('with --cache never nothing is believed, and changes on the host are seen at once', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'never']);
  const { volume } = stage;
  writeFileSync(stage.path('file'), 'short');
  assert.equal((await promised(volume.stat('/file', true))).size, 5n);
  writeFileSync(stage.path('file'), 'longer');
  assert.equal((await promised(volume.stat('/file', true))).size, 6n);
  rmSync(stage.path('file'));
  await assert.rejects(promised(volume.stat('/file', true)), { code: 'ENOENT' });
});

test('what a directory lists is known, and costs nothing to look at', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'always']);
  const { volume } = stage;
  for (let i = 0; i < 50; i += 1) writeFileSync(stage.path(`f${i}`), '');
  const directory = await promised(volume.openDirectory('/'));
  const names: string[] = [];
  for (let at = 0n; ; ) {
    const entries = await promised(directory.read(at));
    if (entries.length === 0) break;
    names.push(...entries.map(({ name }) => Buffer.from(name).toString()));
    at = entries[entries.length - 1].next;
  }
  await promised(directory.close());
  assert.deepEqual(names.toSorted(), Array.from({ length: 50 }, (_, i) => `f${i}`).toSorted());
  assert.deepEqual(await stage.messages(...names.map((name) => volume.stat(`/${name}`, true))), []);
});

test('a daemon that does without OPEN is asked once', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'always']);
  const { volume } = stage;
  for (const name of ['one', 'two']) writeFileSync(stage.path(name), name);
  const openAndRead = function* (path: string): Task<string> {
    const file = yield* volume.open(path, O_RDONLY);
    const text = yield* read(file, 10);
    yield* file.close();
    return text;
  };
  assert.deepEqual(await stage.messages(openAndRead('/one')), ['LOOKUP', 'OPEN', 'READ']);
  assert.deepEqual(await stage.messages(openAndRead('/two')), ['LOOKUP', 'READ']);
  assert.deepEqual(await stage.messages(openAndRead('/two')), []);
  assert.equal(await promised(openAndRead('/two')), 'two');
});

test('a file that is read in order takes few messages, and none when it is read again', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'always']);
  const content = Buffer.alloc(1024 * 1024, 'some text. ');
  writeFileSync(stage.path('file'), content);
  const file = await promised(stage.volume.open('/file', O_RDONLY));
  const whole = function* (): Task<void> {
    for (let at = 0; at < content.length; at += 4096) {
      assert.equal(yield* read(file, 4096, at), content.toString('latin1', at, at + 4096));
    }
  };
  const first = await stage.messages(whole());
  assert.ok(first.length <= 16, `${first.length} messages`);
  assert.deepEqual(await stage.messages(whole()), []);
  await promised(file.close());
});

test('close-to-open: what was written on the host before a file is opened is read', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'auto']);
  const { volume } = stage;
  for (const text of ['first', 'other', 'third one']) {
    writeFileSync(stage.path('file'), text);
    const file = await promised(volume.open('/file', O_RDONLY));
    assert.equal(await promised(read(file, 20)), text);
    await promised(file.close());
  }
});

test('with write-back small writes become one, on close, and the client knows the size meanwhile', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'auto', '--writeback'], { writeback: true });
  const { volume } = stage;
  const file = await promised(volume.open('/file', O_CREAT | O_RDWR));
  const writes = Array.from({ length: 64 }, (_, i) => file.write(Buffer.alloc(1000, `${i % 10}`), i * 1000));
  assert.deepEqual(await stage.messages(...writes), []);
  assert.equal((await promised(volume.stat('/file', true))).size, 64_000n);
  assert.equal(statSync(stage.path('file')).size, 0);
  const sent = await stage.messages(file.close());
  assert.deepEqual(
    sent.filter((name) => name === 'WRITE'),
    ['WRITE'],
  );
  const text = readFileSync(stage.path('file'), 'latin1');
  assert.equal(text, Array.from({ length: 64 }, (_, i) => `${i % 10}`.repeat(1000)).join(''));
});

test('without write-back a write is there when it returns', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'auto']);
  const file = await promised(stage.volume.open('/file', O_CREAT | O_RDWR | O_APPEND));
  await promised(file.write(Buffer.from('one'), 0));
  writeFileSync(stage.path('file'), ' two', { flag: 'a' });
  await promised(file.write(Buffer.from(' three'), 0));
  assert.equal(readFileSync(stage.path('file'), 'latin1'), 'one two three');
  assert.equal(await promised(read(file, 100)), 'one two three');
  await promised(file.close());
  const emptied = await promised(stage.volume.open('/file', O_RDWR | O_TRUNC));
  assert.equal(statSync(stage.path('file')).size, 0);
  assert.equal(await promised(read(emptied, 100)), '');
  await promised(emptied.close());
});

test('many requests are under way at once, more than there are slots and descriptors', async (t) => {
  const stage = await Stage.open(t, ['--cache', 'auto'], { cache: 'none', queues: 2 });
  const content = Buffer.alloc(4096 * 500);
  for (let i = 0; i < content.length; i += 4) content.writeUInt32LE(i, i);
  writeFileSync(stage.path('file'), content);
  const file = await promised(stage.volume.open('/file', O_RDONLY));
  const pieces = Array.from({ length: 500 }, (_, i) => read(file, 4096, i * 4096));
  const texts = await promised(all(pieces));
  assert.ok(Buffer.from(texts.join(''), 'latin1').equals(content));
  await promised(file.close());
});

test('through the window what is there is read and written without a message, and coherent with the host', {
  skip: lensRefusal() ?? false,
}, async (t) => {
  const args = ['--cache', 'always', '--dax-window', '8M', '--tag', 'share'];
  const stage = await Stage.open(t, args, { dax: 8 * 1024 * 1024, daxFiles: 'always' });
  const content = Buffer.alloc(5_000_000);
  for (let i = 0; i < content.length; i += 4) content.writeUInt32LE(i, i);
  writeFileSync(stage.path('file'), content);
  const file = await promised(stage.volume.open('/file', O_RDWR));
  const whole = read(file, content.length + 1);
  assert.deepEqual(await stage.messages(whole), ['SETUPMAPPING', 'SETUPMAPPING', 'SETUPMAPPING']);
  assert.deepEqual(await stage.messages(file.write(Buffer.from('by the client'), 4_999_000)), ['SETUPMAPPING']);
  assert.equal(readFileSync(stage.path('file'), 'latin1').slice(4_999_000, 4_999_013), 'by the client');
  const fd = openSync(stage.path('file'), 'r+');
  writeSync(fd, 'by the host', 0);
  closeSync(fd);
  assert.equal(await promised(read(file, 11)), 'by the host');
  assert.deepEqual(await stage.messages(file.write(Buffer.from('over the end'), 4_999_995)), ['WRITE']);
  assert.equal(await promised(read(file, 100, 4_999_995)), 'over the end');
  // Nobody tells us: what is gone reads as nothing, and the process lives.
  truncateSync(stage.path('file'), 100);
  assert.equal((await promised(read(file, 5000))).length, 100);
  await promised(file.close());
});

test('a share whose daemon has gone is given up with the error of who used it, and no other', async (t) => {
  const daemon = await TestDaemon.start({});
  t.after(() => daemon[Symbol.asyncDispose]());
  const use = async (): Promise<void> => {
    await using share = await connect(daemon.socketPath);
    daemon.process.kill('SIGKILL');
    await daemon.ended;
    await share.stat('/');
    await share.readdir('/');
  };
  await assert.rejects(use, { code: 'ECONNRESET' });
  const useSync = async (): Promise<void> => {
    await using other = await TestDaemon.start({});
    using share = connectSync(other.socketPath);
    other.process.kill('SIGKILL');
    await other.ended;
    share.readdirSync('/');
  };
  await assert.rejects(useSync, { code: 'ECONNRESET' });
});

test('options that cannot be are refused with the reason, and nothing is left', async (t) => {
  const daemon = await TestDaemon.start({ args: ['--stay'] });
  t.after(() => daemon[Symbol.asyncDispose]());
  const { socketPath } = daemon;
  const before = readdirSync('/proc/self/fd').length;
  await assert.rejects(connect(socketPath, { dax: '64M' }), /no DAX window/);
  await assert.rejects(connect(socketPath, { queues: 0 }), /0 queues: give 1 or more/);
  await assert.rejects(connect(socketPath, { timeoutMs: Number.NaN }), /time-out of NaN ms/);
  await assert.rejects(connect(socketPath, { cache: 'never' as 'none' }), /cache 'never': give none, auto or always/);
  await assert.rejects(connect(socketPath, { cacheBytes: 100 }), /cacheBytes|limitBytes/);
  await assert.rejects(connect(join(daemon.share, 'nothing')), /is a virtio-fs daemon listening there/);
  await setImmediate();
  assert.equal(readdirSync('/proc/self/fd').length, before);
});
