/**
 * The client beside QEMU: both have the same share, through the same tracer. What they say over vhost-user until the
 * first request, and from the stop of the rings on, is the same but for the differences that are named here.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { boot, findVirtiofsd, startDaemon } from '../lab/index.ts';
import { connect } from '../src/client/index.ts';
import { FrontEnd } from '../src/vhost/index.ts';
import { TestTracer } from './tracer.ts';

type Side = 'QEMU' | 'client';

/** Messages that one says and the other does not, or not there. */
interface Difference {
  readonly of: Side;
  readonly says: RegExp;
  /** How often it is said by both: what comes after that is the difference. */
  readonly shared: number;
  readonly because: string;
}

const QUEUES = 2;
const MOUNT_POINT = '/mnt/share';
/** deadline: what takes longer is stuck. */
const LIMIT_MS = 120_000;
const EACH_RING = [0, 1, 2];
/** In place of one of FUSE. */
const REQUEST = 'a request';

/** The messages of a front-end, such as `SET_VRING_NUM 1`. */
interface Recording {
  readonly opening: readonly string[];
  readonly ending: readonly string[];
}

const difference = (of: Side, says: RegExp, because: string, shared = 0): Difference => ({ of, says, shared, because });

const OPENING: readonly Difference[] = [
  difference('QEMU', /^GET_FEATURES$/, 'two of its layers ask, one after the other', 1),
  difference('QEMU', /^GET_MAX_MEM_SLOTS$/, 'it adds memory region by region; the client has a table that stays'),
  ...EACH_RING.map((index) => {
    const says = new RegExp(`^SET_VRING_CALL ${index}$`);
    return difference('QEMU', says, 'its guest masks interrupts; the client needs but one descriptor for them', 1);
  }),
];

const WITHOUT_WINDOW: readonly Difference[] = [
  ...OPENING,
  difference('QEMU', /^SET_BACKEND_REQ_FD$/, 'without a window the client has nothing that a daemon could ask for'),
  difference('QEMU', /^RESET_DEVICE$/, 'the machine and its firmware begin with a reset; a connection is new'),
  difference('client', /^GET_CONFIG$/, 'vhost-user-fs-pci has its tag and queues from the command line'),
];

const WITH_WINDOW: readonly Difference[] = [
  ...OPENING,
  difference('QEMU', /^GET_CONFIG$/, 'it asks again whenever its guest reads a byte', 1),
];

const ENDING: readonly Difference[] = EACH_RING.map((index) =>
  difference('QEMU', new RegExp(`^SET_VRING_CALL ${index}$`), 'its guest gives interrupts back; the client ends'),
);

/** The front-end's messages of each connection, and the first of its requests. */
function recordings(trace: string): Recording[] {
  const said = trace.split('\n').flatMap((line) => {
    if (!line.startsWith('vhost ')) return [REQUEST];
    const [, name, says] = /^vhost > (\S+) ?(.*)$/.exec(line) ?? [];
    if (name === undefined) return [];
    const [, ring] = /^index=(\d+)/.exec(says) ?? [];
    const parts = ring === undefined ? [name] : [name, ring];
    if (name === 'SET_VRING_ENABLE') parts.push(says.endsWith('num=1') ? 'on' : 'off');
    return [parts.join(' ')];
  });
  const begins = said.flatMap((each, at) => (each === 'GET_PROTOCOL_FEATURES' ? [at - 1] : []));
  return begins.map((begin, i) => {
    const connection = said.slice(begin, begins[i + 1]);
    const stop = connection.findIndex((each) => /^SET_VRING_ENABLE \d off$/.test(each));
    return {
      opening: connection.slice(0, connection.indexOf(REQUEST)),
      ending: stop < 0 ? [] : connection.slice(stop),
    };
  });
}

/** Both are the same without the differences, each of which is there. */
function compare(said: Record<Side, readonly string[]>, differences: readonly Difference[]): void {
  const left = { QEMU: [...said.QEMU], client: [...said.client] };
  for (const { of, says, shared, because } of differences) {
    let count = 0;
    left[of] = left[of].filter((each) => !says.test(each) || ++count <= shared);
    assert.ok(
      count > shared,
      `${of} does not say ${says} more than ${shared} times: ${because}; ${said[of].join(', ')}`,
    );
  }
  // Memory is a table here, and its regions there.
  const inOneWord = left.QEMU.map((each) => (each === 'ADD_MEM_REG' ? 'SET_MEM_TABLE' : each));
  assert.deepEqual(left.client, inOneWord);
}

/** Has a guest, then the client, open the share, read a file, and end. */
async function record(t: TestContext, window?: string): Promise<Record<Side, Recording>> {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const share = join(folder, 'share');
  mkdirSync(share);
  writeFileSync(join(share, 'file'), 'what both read');
  const args = ['--stay', '--tag', 'share', '--request-queues', `${QUEUES}`];
  const daemon = await startDaemon({
    sharedDir: share,
    socketPaths: [join(folder, 'fs')],
    args: window === undefined ? args : [...args, '--dax-window', window],
  });
  t.after(() => daemon.stop());
  const file = join(folder, 'trace');
  await using tracer = await TestTracer.start(join(folder, 'fs'), ['--vhost', '-o', file]);
  const { socketPath } = tracer;
  const dax = window === undefined ? {} : { dax: true, mountOptions: 'dax=always' };
  {
    await using vm = await boot({
      qemu: '11.1',
      cpus: QUEUES,
      shares: [{ socketPath, tag: 'share', queues: QUEUES, mountPoint: MOUNT_POINT, ...dax }],
      timeLimitMs: LIMIT_MS,
    });
    assert.equal(await vm.sh(`cat ${MOUNT_POINT}/file && umount ${MOUNT_POINT}`), 'what both read');
    vm.run('poweroff -f').catch(() => {});
    assert.equal((await vm.exited).code, 0);
  }
  {
    const wanted = window === undefined ? {} : ({ dax: window, daxFiles: 'always' } as const);
    await using client = await connect(socketPath, { queues: QUEUES, ...wanted });
    assert.equal(await client.readFile('/file', 'utf8'), 'what both read');
    assert.equal(client.tag, 'share');
  }
  // The tracer has one connection after the other: when this is answered, all of those before is told.
  FrontEnd.connect(socketPath, LIMIT_MS).close();
  assert.equal(await tracer.stop(), 0);
  const [qemu, client] = recordings(readFileSync(file, 'utf8'));
  return { QEMU: qemu, client };
}

test('the client says what QEMU says, in the same order, from the connection to the first request', async (t) => {
  const { QEMU, client } = await record(t);
  compare({ QEMU: QEMU.opening, client: client.opening }, WITHOUT_WINDOW);
  compare({ QEMU: QEMU.ending, client: client.ending }, ENDING);
});

test('so it does with a DAX window, on the device that has one', async (t) => {
  const { QEMU, client } = await record(t, '64M');
  compare({ QEMU: QEMU.opening, client: client.opening }, WITH_WINDOW);
  compare({ QEMU: QEMU.ending, client: client.ending }, [
    difference('client', /^RESET_DEVICE$/, 'vhost-user-test-device-pci leaves it at the stop of the rings'),
  ]);
});

test('Rust virtiofsd says its tag to the client, too', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const share = join(folder, 'share');
  mkdirSync(share);
  for (const [name, args, tag] of [
    ['named', ['--tag', 'of-rust'], 'of-rust'],
    ['nameless', [], undefined],
  ] as const) {
    const socketPath = join(folder, name);
    const sandbox = ['--sandbox', 'none'];
    const daemon = await startDaemon({
      command: await findVirtiofsd(),
      sharedDir: share,
      socketPaths: [socketPath],
      args: [...sandbox, ...args],
    });
    t.after(() => daemon.stop());
    await using client = await connect(socketPath);
    assert.equal(client.tag, tag);
    assert.deepEqual(await client.readdir('/'), []);
  }
});
