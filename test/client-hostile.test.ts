/** The client against daemons that answer wrongly, late or never: it says so, lives, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { all, connect, connectSync, ShareError, start, type Task } from '../src/client/index.ts';
import { ConnectionError } from '../src/client/refusal.ts';
import { O_RDWR } from '../src/sys/index.ts';
import { FrontEnd } from '../src/vhost/index.ts';
import { commonDaemon } from './daemon.ts';
import { CALLS, type CallName, type Way, WAYS } from './hostile-calls.ts';
import { Holdings } from './hostile-client.ts';
import { ANSWERED, HANDSHAKE, SAYINGS, type TrickName, TRICKS } from './hostile-tricks.ts';

const PATIENT = { timeoutMs: 20_000 };
/** More than can be under way. */
const WAITING = 200;
const HASTY = { timeoutMs: 300 };

const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const socketOf = (trick: string): string => join(folder, `${trick}.sock`);
const SPOILT = ANSWERED.flatMap((message) => Object.keys(SAYINGS).map((saying) => `${saying}.${message}`));
const LEAVING = HANDSHAKE.map((message) => `leaves.${message}`);
commonDaemon({
  program: fileURLToPath(new URL('hostile-daemon.ts', import.meta.url)),
  socketPaths: [...Object.keys(TRICKS), ...SPOILT, ...LEAVING].map(socketOf),
});

/** What a call, or the opening of the share, comes to. */
interface Outcome {
  readonly call: CallName | 'open' | 'close';
  /** Of a ConnectionError: the share is lost. */
  readonly breaks?: string;
  /** Of a ShareError: everything else goes on. */
  readonly refuses?: string;
  /** The share is lost right after the call. */
  readonly tooLate?: boolean;
  readonly hasty?: boolean;
}

const works = (call: Outcome['call']): Outcome => ({ call });
const refuses = (call: Outcome['call'], code: string): Outcome => ({ call, refuses: code });
const breaks = (call: Outcome['call'], code = 'EPROTO'): Outcome => ({ call, breaks: code });
const timesOut = (call: Outcome['call']): Outcome => ({ call, breaks: 'ETIMEDOUT', hasty: true });

const OUTCOMES: Record<Exclude<TrickName, 'replies-reversed' | 'no-lock' | `window-${string}`>, Outcome> = {
  none: works('stat'),
  'used-0': breaks('statfs'),
  'used-less-than-header': breaks('statfs'),
  'used-longer': breaks('statfs'),
  'used-huge': breaks('statfs'),
  'length-shorter': breaks('statfs'),
  'length-huge': breaks('statfs'),
  'both-huge': breaks('statfs'),
  'unique-0': breaks('statfs'),
  'unique-other': breaks('statfs'),
  'error-positive': breaks('statfs'),
  'error-512': breaks('statfs'),
  'error-least': breaks('statfs'),
  'error-with-body': breaks('statfs'),
  'error-unheard-of': refuses('statfs', 'errno 500'),
  'struct-short': breaks('statfs'),
  'struct-long': breaks('statfs'),
  'body-of-nothing': breaks('sync'),
  'init-major-6': breaks('open'),
  'init-major-8': breaks('open'),
  'init-minor-26': breaks('open'),
  'init-short': breaks('open'),
  'init-error': breaks('open'),
  'init-all-ones': works('write'),
  'init-all-zeros': works('write'),
  'init-without-plus': works('list'),
  'init-odd-write': works('write'),
  'root-is-file': breaks('open'),
  'read-too-much': breaks('read'),
  'write-nothing': refuses('write', 'EIO'),
  'write-too-much': refuses('write', 'EIO'),
  'copy-too-much': refuses('copy', 'EIO'),
  'seek-beyond-numbers': refuses('seek', 'EOVERFLOW'),
  'seek-negative': refuses('seek', 'EOVERFLOW'),
  'lock-backward': refuses('getLock', 'EIO'),
  'lock-of-no-type': refuses('getLock', 'EIO'),
  'xattr-too-long': breaks('getXattr'),
  'xattr-names-without-end': refuses('listXattrs', 'EIO'),
  'xattr-names-empty': refuses('listXattrs', 'EIO'),
  'link-with-nul': works('statLink'),
  'link-empty': refuses('statLink', 'ENOENT'),
  'link-of-4096': breaks('statLink'),
  'link-to-itself': refuses('statLink', 'ELOOP'),
  'handle-all-ones': works('read'),
  'mode-0': refuses('stat', 'EIO'),
  'size-negative': refuses('stat', 'EIO'),
  'size-beyond-numbers': works('read'),
  'type-changes': refuses('stat', 'EIO'),
  'set-type-changes': refuses('chmod', 'EIO'),
  'lookup-root': refuses('stat', 'EIO'),
  'lookup-0': refuses('stat', 'ENOENT'),
  'lookup-mode-0': refuses('stat', 'EIO'),
  'lookup-size-negative': refuses('stat', 'EIO'),
  'lookup-for-ever': works('stat'),
  'lookup-all-one-node': refuses('realpath', 'EIO'),
  'mkdir-0': refuses('mkdir', 'EIO'),
  'mkdir-root': refuses('mkdir', 'EIO'),
  'mkdir-makes-file': refuses('mkdir', 'EIO'),
  'create-0': refuses('create', 'EIO'),
  'create-makes-directory': refuses('create', 'EIO'),
  'create-all-ones': works('create'),
  'list-name-of-0': refuses('list', 'EIO'),
  'list-name-of-256': refuses('list', 'EIO'),
  'list-name-beyond-reply': refuses('list', 'EIO'),
  'list-name-huge': refuses('list', 'EIO'),
  'list-part-of-entry': refuses('list', 'EIO'),
  'list-slash': refuses('list', 'EIO'),
  'list-nul': refuses('list', 'EIO'),
  'list-root': works('list'),
  'list-clash': works('list'),
  'list-mode-0': works('list'),
  'list-too-long': breaks('list'),
  'list-dots-for-ever': refuses('list', 'EIO'),
  'ring-unknown-id': breaks('statfs'),
  'ring-id-outside': breaks('statfs'),
  'ring-id-twice': { ...breaks('statfs'), tooLate: true },
  'ring-index-jumps': breaks('statfs'),
  'ring-error': breaks('statfs'),
  'no-reply': timesOut('statfs'),
  'late-reply': timesOut('statfs'),
  'no-reply-to-init': timesOut('open'),
  'no-reply-to-destroy': timesOut('close'),
  'leaves-at-init': breaks('open', 'ECONNRESET'),
  'leaves-at-request': breaks('statfs', 'ECONNRESET'),
  'features-not-version-1': breaks('open'),
  'features-of-nothing': breaks('open'),
  'features-all': works('stat'),
  'features-without-protocol': works('stat'),
  'features-without-event-idx': works('stat'),
  'features-without-indirect': works('stat'),
  'protocol-without-mq': works('stat'),
  'protocol-without-ack': works('stat'),
  'protocol-without-slots': works('stat'),
  'protocol-without-config': works('stat'),
  'protocol-without-status': works('stat'),
  'config-tag-of-36': works('stat'),
  'config-tag-not-utf8': works('stat'),
  'config-tag-then-rubbish': works('stat'),
  'config-no-tag': breaks('open'),
  'config-tag-of-lines': breaks('open'),
  'config-queues-0': breaks('open'),
  'config-queues-2': breaks('open'),
  'config-queues-huge': breaks('open'),
  'config-of-39': breaks('open'),
  'config-says-39': breaks('open'),
  'config-elsewhere': breaks('open'),
  'queues-0': breaks('open'),
  'queues-1': breaks('open'),
  'queues-65535': works('stat'),
  'queues-huge': works('stat'),
  'memory-refused': breaks('open'),
  'ring-refused': breaks('open'),
  'never-stops': { call: 'close', hasty: true },
  'stops-with-short-answer': works('close'),
};

/** The error of a promise; undefined where it has none. */
async function errorOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return error;
  }
}

function checkError(error: unknown, { breaks: lost, refuses: refused }: Outcome): void {
  const code = lost ?? refused;
  if (code === undefined) assert.ifError(error);
  else if (lost === undefined) assert.ok(error instanceof ShareError, String(error));
  else assert.ok(error instanceof ConnectionError, String(error instanceof Error ? error.stack : error));
  assert.equal((error as { code?: string } | undefined)?.code, code);
}

/** Opens the share of a trick, does the call, looks at what becomes of everything else, and closes. */
async function play(trick: string, outcome: Outcome, way: Way): Promise<void> {
  const opening = way.open(socketOf(trick), outcome.hasty === true ? HASTY : PATIENT);
  if (outcome.call === 'open') {
    checkError(await errorOf(opening), outcome);
    return;
  }
  const volume = await opening;
  const others = [start(volume.stat('/pending', true)), start(volume.stat('/pending', true))];
  if (outcome.call !== 'close') {
    const error = await errorOf(way.wait<unknown>(volume, CALLS[outcome.call](volume)));
    if (outcome.tooLate === true) assert.ifError(error);
    else checkError(error, outcome);
    const isLost = outcome.breaks !== undefined;
    assert.deepEqual(
      others.map((each) => each.settled),
      [isLost, isLost],
    );
    if (isLost) checkError(await errorOf(way.wait(volume, volume.access('/directory', 4))), outcome);
    else await way.wait(volume, volume.access('/', 4));
  }
  const closed = await errorOf(way.wait(volume, volume.close()));
  if (outcome.call === 'close') checkError(closed, outcome);
  else if (outcome.breaks === undefined) assert.ifError(closed);
  const code = outcome.breaks ?? 'EBADF';
  for (const each of others) assert.throws(() => each.result, { code });
}

for (const way of WAYS) {
  for (const [trick, outcome] of Object.entries(OUTCOMES)) {
    const { call, refuses: refused, breaks: lost } = outcome;
    const what = lost ?? refused ?? 'success';
    test(`${trick}: ${call} ends with ${what} (${way.name}), and nothing is left behind`, async () => {
      const holdings = new Holdings();
      await play(trick, outcome, way);
      await holdings.check(trick);
    });
  }
}

for (const way of WAYS) {
  test(`replies in the reverse order go to those who asked (${way.name})`, async () => {
    const volume = await way.open(socketOf('replies-reversed'), PATIENT);
    const seen: number[] = [];
    const ask = [0, 1, 2, 3, 4, 5, 6, 7].map(function* (i): Task<void> {
      yield* volume.statfs('/');
      seen.push(i);
    });
    await way.wait(volume, all(ask));
    assert.deepEqual(seen, [7, 6, 5, 4, 3, 2, 1, 0]);
    await way.wait(volume, volume.close());
  });
}

for (const way of WAYS) {
  test(`however many wait for locks, others are served (${way.name})`, async () => {
    const volume = await way.open(socketOf('no-lock'), PATIENT);
    const file = await way.wait(volume, volume.open('/file', O_RDWR));
    const lock = { type: 1, start: 0n, end: 9n, pid: 1 };
    const locks = Array.from({ length: WAITING }, () => start(file.setLock(lock, true)));
    await way.wait(volume, volume.stat('/file', true));
    await way.wait(volume, all(Array.from({ length: WAITING }, () => volume.statfs('/'))));
    assert.ok(locks.every((each) => !each.settled));
    await way.wait(volume, volume.close());
    for (const each of locks) assert.throws(() => each.result, { code: 'EBADF' });
  });
}

/** Each takes as long as the client waits. */
const FEW = ['GET_FEATURES', 'SET_MEM_TABLE', 'SET_VRING_ENABLE'];
const UNANSWERED = new Set(['never', 'drip']);
const [BLOCKING] = WAYS.filter(({ name }) => name === 'blocking');

for (const saying of Object.keys(SAYINGS)) {
  const isUnanswered = UNANSWERED.has(saying);
  test(`no message may be answered with '${saying}' while the share is opened`, async () => {
    const holdings = new Holdings();
    for (const message of isUnanswered ? FEW : ANSWERED) {
      const outcome = { call: 'open', breaks: isUnanswered ? 'ETIMEDOUT' : 'EPROTO', hasty: isUnanswered } as const;
      await play(`${saying}.${message}`, outcome, BLOCKING);
    }
    await holdings.check(saying);
  });
}

test('the size of a window must make sense', async () => {
  const holdings = new Holdings();
  const sizesOf = (trick: TrickName): number[] => {
    const frontEnd = FrontEnd.connect(socketOf(trick), PATIENT.timeoutMs);
    try {
      return frontEnd.sharedMemory();
    } finally {
      frontEnd.close();
    }
  };
  assert.deepEqual(sizesOf('none'), [2 * 1024 * 1024]);
  for (const trick of ['window-odd', 'window-huge', 'window-short'] as const) {
    assert.throws(() => sizesOf(trick), { name: 'VhostError', code: 'MALFORMED' }, trick);
  }
  await holdings.check('windows');
});

test('a share has the tag that the daemon says, as far as the first NUL', async () => {
  const tags = {
    none: 'hostile',
    'config-tag-of-36': 't'.repeat(36),
    'config-tag-not-utf8': '\ufffd\ufffd',
    'config-tag-then-rubbish': 'short',
    'protocol-without-config': undefined,
  };
  for (const [trick, tag] of Object.entries(tags)) {
    const share = await connect(socketOf(trick), PATIENT);
    assert.equal(share.tag, tag);
    await share.close();
    using sync = connectSync(socketOf(trick), PATIENT);
    assert.equal(sync.tag, tag);
  }
});

test('what is wrong with the configuration of a daemon is said in words', async () => {
  const words: Partial<Record<TrickName, RegExp>> = {
    'config-no-tag': /configuration has no tag$/,
    'config-tag-of-lines': /a tag with a line break$/,
    'config-queues-0': /0 request queues; a file system has 1 or more$/,
    'config-queues-2': /2 request queues; with that for FORGET the back-end has 2 queues in all$/,
    'config-of-39': /GET_CONFIG was answered with 51 bytes, not 52$/,
    'config-says-39': /GET_CONFIG was answered with 39 bytes from 0 on, not 40 from 0 on$/,
    'config-elsewhere': /GET_CONFIG was answered with 40 bytes from 4 on, not 40 from 0 on$/,
  };
  for (const [trick, message] of Object.entries(words)) {
    await assert.rejects(connect(socketOf(trick), PATIENT), { code: 'EPROTO', message }, trick);
  }
});

test('a daemon may go at any message while the share is opened', async () => {
  const holdings = new Holdings();
  for (const message of HANDSHAKE) await play(`leaves.${message}`, breaks('open', 'ECONNRESET'), BLOCKING);
  await holdings.check('a daemon that went');
});
