/** What is left of a client when it goes, here and in the daemon. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import type { ConnectOptions } from '../src/client/connect.ts';
import { type Task, type Volume } from '../src/client/index.ts';
import { ConnectionError } from '../src/client/refusal.ts';
import { BatchForgetIn, CreateOut, Direntplus, direntplusBytes, EntryOut, InHeader } from '../src/fuse/index.ts';
import { opcodeName, OutHeader } from '../src/fuse/index.ts';
import { O_CREAT, O_RDONLY, O_RDWR } from '../src/sys/index.ts';
import { commonDaemon, TestDaemon } from './daemon.ts';
import { type Way, WAYS } from './hostile-calls.ts';
import { Holdings } from './hostile-client.ts';

const HASTY_MS = 300;
/** Enough for a daemon that goes on. */
const STILL_MS = 700;
/** deadline: nothing of it takes long. */
const PROCESS_LIMIT_MS = 10_000;
const FILES: Readonly<Record<string, number>> = { awaiting: 10_000, blocking: 1000 };
const CHANGED = 500;
const NAMES = 100;
const KEPT = 50;

const daemon = commonDaemon({ args: ['--stay'] });

/** The daemon has heard of the end. */
async function awaitNothing(): Promise<void> {
  for (let known = -1; known !== 0; ) {
    const { inodes, handles } = await daemon().gauges();
    known = inodes - 1 + handles;
  }
}

/** Stops all threads of a daemon. */
function stop({ process: child }: TestDaemon): void {
  const tasks = `/proc/${child.pid}/task`;
  const isStopped = (id: string): boolean => / T (?!.*\))/.test(readFileSync(`${tasks}/${id}/stat`, 'utf8'));
  child.kill('SIGSTOP');
  while (!readdirSync(tasks).every(isStopped));
}

/** Something of everything: files open, pages kept and dirty, names known, a listing half read. */
function* use(volume: Volume): Task<void> {
  yield* volume.mkdir('/made', 0o755);
  const file = yield* volume.open('/made/file', O_CREAT | O_RDWR, 0o644);
  yield* file.write(new Uint8Array(100_000), 0);
  yield* file.read(new Uint8Array(1000), 10);
  const directory = yield* volume.openDirectory('/');
  yield* directory.read(0n);
  yield* volume.stat('/made', true);
}

async function open(way: Way, { socketPath, share }: TestDaemon, options: ConnectOptions = {}): Promise<Volume> {
  rmSync(join(share, 'made'), { recursive: true, force: true });
  const volume = await way.open(socketPath, { writeback: true, queues: 2, ...options });
  await way.wait(volume, use(volume));
  return volume;
}

for (const way of WAYS) {
  test(`nothing is left of a share that was closed (${way.name})`, async () => {
    const holdings = new Holdings();
    for (const queues of [1, 2]) {
      const volume = await open(way, daemon(), { queues });
      await way.wait(volume, volume.close());
      await holdings.check(`a share with ${queues} queues`);
      await assert.rejects(way.wait(volume, volume.stat('/', true)), { code: 'EBADF' });
      await assert.rejects(way.wait(volume, volume.close()), { code: 'EBADF' });
      await holdings.check('a share that was closed twice');
      await awaitNothing();
    }
  });

  test(`nothing is left when the daemon is killed (${way.name})`, async () => {
    await using mortal = await TestDaemon.start();
    const holdings = new Holdings();
    const volume = await open(way, mortal);
    mortal.process.kill('SIGKILL');
    await mortal.ended;
    for (let i = 0; i < 2; i += 1) {
      await assert.rejects(way.wait(volume, volume.statfs('/')), { code: 'ECONNRESET' });
    }
    // What was written is lost.
    await assert.rejects(way.wait(volume, volume.close()), ConnectionError);
    await holdings.check('a daemon that was killed');
  });

  test(`nothing is left when the daemon stands still (${way.name})`, async (t) => {
    const holdings = new Holdings();
    const volume = await open(way, daemon(), { timeoutMs: STILL_MS });
    stop(daemon());
    t.after(() => daemon().process.kill('SIGCONT'));
    await assert.rejects(way.wait(volume, volume.statfs('/')), { code: 'ETIMEDOUT' });
    daemon().process.kill('SIGCONT');
    // What was written is lost.
    await assert.rejects(way.wait(volume, volume.close()), ConnectionError);
    await holdings.check('a daemon that stood still');
  });

  test(`nothing is left of a share that could not be opened (${way.name})`, async () => {
    const { socketPath: taken } = daemon();
    const first = await way.open(taken, {});
    const holdings = new Holdings();
    const refused = async (socketPath: string, options: ConnectOptions, error: object): Promise<void> => {
      await assert.rejects(way.open(socketPath, options), error);
      await holdings.check('what was refused');
    };
    await refused(`${taken}.none`, {}, { name: 'UserError' });
    await refused(taken, { queues: 0 }, { name: 'UserError' });
    // The daemon has its client.
    await refused(taken, { timeoutMs: HASTY_MS }, { code: 'ETIMEDOUT' });
    await way.wait(first, first.close());
  });
}

const PROGRAM = `
  import { openTransport, openVolume, mount } from './src/client/connect.ts';
  import { finished, promised } from './src/client/index.ts';
  const [way, socketPath] = process.argv.slice(1);
  if (way === 'blocking') {
    const transport = openTransport(socketPath, {});
    const volume = finished(mount(transport, {}), () => transport.idle());
    finished(volume.stat('/', true), () => volume.idle());
    finished(volume.open('/file', 0), () => volume.idle());
  } else {
    const volume = await promised(openVolume(socketPath, {}));
    await promised(volume.stat('/', true));
    await promised(volume.open('/file', 0));
  }
  console.log('done');
`;

for (const way of WAYS) {
  test(`a process that does not close its share ends by itself (${way.name})`, async () => {
    const { share, socketPath } = daemon();
    writeFileSync(join(share, 'file'), 'x');
    const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', PROGRAM, way.name];
    const cwd = join(import.meta.dirname, '..');
    const child = spawn(process.execPath, [...args, socketPath], { cwd, timeout: PROCESS_LIMIT_MS });
    let said = '';
    child.stdout.on('data', (text) => (said += text));
    child.stderr.on('data', (text) => (said += text));
    const [code, signal] = await once(child, 'close');
    assert.deepEqual({ code, signal, said }, { code: 0, signal: null, said: 'done\n' });
  });
}

/** Holds lookups against FORGETs, by what is on the wire. */
class Ledger {
  /** By node id. */
  readonly lookups = new Map<bigint, bigint>();
  /** A FORGET of what was not known. */
  wrong = '';
  /** What was still known when the client said good-bye. */
  left: number | undefined;

  /** Hears of every message. */
  readonly trace = (request: Uint8Array, reply: Uint8Array | undefined): void => {
    const asked = new DataView(request.buffer, request.byteOffset, request.length);
    const name = opcodeName(InHeader.opcode(asked, 0));
    if (name === 'DESTROY') this.left ??= this.lookups.size;
    if (name === 'BATCH_FORGET') this.#forget(asked);
    if (reply === undefined || new DataView(reply.buffer, reply.byteOffset).getInt32(4, true) !== 0) return;
    const answer = new DataView(reply.buffer, reply.byteOffset + OutHeader.bytes, reply.length - OutHeader.bytes);
    if (['LOOKUP', 'MKDIR', 'MKNOD', 'SYMLINK', 'LINK'].includes(name)) this.#count(answer, 0);
    if (name === 'CREATE') this.#count(answer, CreateOut.offsets.entry);
    if (name === 'READDIRPLUS') this.#countAll(answer);
  };

  #count(view: DataView, at: number): void {
    const nodeid = view.getBigUint64(at + EntryOut.offsets.nodeid, true);
    if (nodeid !== 0n) this.lookups.set(nodeid, (this.lookups.get(nodeid) ?? 0n) + 1n);
  }

  #countAll(view: DataView): void {
    for (let at = 0; at < view.byteLength; ) {
      this.#count(view, at);
      at += direntplusBytes(view.getUint32(at + Direntplus.offsets.dirent + 16, true));
    }
  }

  #forget(view: DataView): void {
    const count = view.getUint32(InHeader.bytes, true);
    for (let i = 0; i < count; i += 1) {
      const at = InHeader.bytes + BatchForgetIn.bytes + 16 * i;
      const [nodeid, forgotten] = [view.getBigUint64(at, true), view.getBigUint64(at + 8, true)];
      const left = (this.lookups.get(nodeid) ?? 0n) - forgotten;
      if (left < 0n) this.wrong = `${forgotten} lookups of ${nodeid} are forgotten; there were ${left + forgotten}`;
      if (left === 0n) this.lookups.delete(nodeid);
      else this.lookups.set(nodeid, left);
    }
  }
}

function* listAll(volume: Volume, folder: string): Task<number> {
  const directory = yield* volume.openDirectory(folder);
  let count = 0;
  for (let [position, more] = [0n, true]; more; ) {
    const entries = yield* directory.read(position);
    count += entries.length;
    more = entries.length > 0;
    position = entries.at(-1)?.next ?? 0n;
  }
  yield* directory.close();
  return count;
}

/** Each of many files looked up and listed; some of them read, renamed and removed. */
function* visit(volume: Volume, folder: string, files: number): Task<void> {
  assert.equal(yield* listAll(volume, folder), files);
  for (let i = 0; i < files; i += 1) yield* volume.stat(`${folder}/${i}`, true);
  for (let i = 0; i < CHANGED; i += 1) {
    const file = yield* volume.open(`${folder}/${i}`, O_RDONLY);
    assert.equal(yield* file.read(new Uint8Array(100), 0), 1);
    yield* file.close();
    yield* volume.rename(`${folder}/${i}`, `${folder}/renamed-${i}`);
    if (i % 2 === 0) yield* volume.unlink(`${folder}/renamed-${i}`);
    else yield* volume.link(`${folder}/renamed-${i}`, `${folder}/linked-${i}`);
  }
  yield* listAll(volume, folder);
  for (let i = 0; i < KEPT; i += 1) yield* volume.stat(`${folder}/${files - 1 - i}`, true);
}

for (const way of WAYS) {
  test(`the daemon knows as many inodes as the client, which keeps few of many (${way.name})`, async () => {
    const folder = join(daemon().share, way.name);
    mkdirSync(folder);
    for (let i = 0; i < FILES[way.name]; i += 1) writeFileSync(join(folder, `${i}`), 'x');
    const ledger = new Ledger();
    const volume = await way.open(daemon().socketPath, { cacheNames: NAMES, trace: ledger.trace });
    await way.wait(volume, visit(volume, `/${way.name}`, FILES[way.name]));
    // What was put off is sent.
    for (;;) {
      await way.wait(volume, volume.stat('/', true));
      const { inodes } = await daemon().gauges();
      assert.equal(ledger.wrong, '');
      assert.ok(inodes > KEPT, `${inodes} inodes`);
      if (inodes === ledger.lookups.size + 1 && inodes <= NAMES + 2) break;
    }
    await way.wait(volume, volume.close());
    assert.equal(ledger.left, 0);
  });
}
