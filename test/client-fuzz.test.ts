/** Replies that are spoilt at random: the client says what is wrong, lives, and leaves nothing behind. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join as pathOf } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { join, ShareError, start, type Volume } from '../src/client/index.ts';
import { ConnectionError } from '../src/client/refusal.ts';
import { opcodes, opcodeName } from '../src/fuse/index.ts';
import { TestDaemon } from './daemon.ts';
import { CALLS, type CallName, type Way, WAYS } from './hostile-calls.ts';
import { Holdings } from './hostile-client.ts';
import { Random } from './random.ts';

const MESSAGES = 4000;
/** deadline: any of them is answered. */
const TIMEOUT_MS = 20_000;
/** Calls that are under way side by side with each. */
const BESIDE = 3;
const MOST_BYTES = 512 * 1024 * 1024;
const NAMES = Object.keys(CALLS) as CallName[];
const SHOWN = 20;

/** Those that no call of a guest's programs comes to here. */
const UNUSED = ['FORGET', 'ACCESS', 'INTERRUPT', 'BMAP', 'IOCTL', 'POLL', 'NOTIFY_REPLY', 'TMPFILE', 'STATX'];
const OF_WINDOW = ['SETUPMAPPING', 'REMOVEMAPPING'];
const LATER = ['COPY_FILE_RANGE_64'];

function opcodeOf(request: Uint8Array): string {
  return opcodeName(new DataView(request.buffer, request.byteOffset).getUint32(4, true));
}

async function hostile(t: TestContext, trick: string): Promise<TestDaemon> {
  const folder = mkdtempSync(pathOf(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const program = fileURLToPath(new URL('hostile-daemon.ts', import.meta.url));
  return await TestDaemon.start({ program, socketPaths: [pathOf(folder, `${trick}.sock`)] });
}

test('the calls make the client send every opcode that it has', async (t) => {
  const sent = new Set(await opcodesOf(t, 'none', NAMES));
  for (const name of await opcodesOf(t, 'init-without-plus', ['list'])) sent.add(name);
  const all = Object.values(opcodes).flatMap((each) => (typeof each === 'object' && 'name' in each ? [each.name] : []));
  const expected = all.filter((name) => ![...UNUSED, ...OF_WINDOW, ...LATER].includes(name));
  assert.deepEqual([...sent].toSorted(), expected.toSorted());
});

/** What is sent for some calls. */
async function opcodesOf(t: TestContext, trick: string, names: readonly CallName[]): Promise<Set<string>> {
  await using daemon = await hostile(t, trick);
  const sent = new Set<string>();
  const [way] = WAYS;
  const volume = await way.open(daemon.socketPath, { trace: (request) => sent.add(opcodeOf(request)) });
  for (const name of names) {
    const call = way.wait<unknown>(volume, CALLS[name](volume));
    if (name === 'removeXattr') await assert.rejects(call, { code: 'ENODATA' });
    else await call;
  }
  await way.wait(volume, volume.close());
  return sent;
}

/** An error that says what is wrong, whoever gets it. */
function checkError(error: unknown, what: string): void {
  const isClear = error instanceof ShareError || error instanceof ConnectionError;
  assert.ok(isClear, `${what}: ${error instanceof Error ? error.stack : String(error)}`);
}

/** Calls at random, some of them side by side, until the share is lost or has been asked for much. */
async function fuzz(random: Random, volume: Volume, way: Way): Promise<void> {
  for (let i = 0; i < SHOWN; i += 1) {
    const name = random.pick(NAMES);
    const besides = Array.from({ length: random.below(BESIDE) }, () => {
      const other = random.pick(NAMES);
      return { other, running: start<unknown>(CALLS[other](volume)) };
    });
    try {
      await way.wait<unknown>(volume, CALLS[name](volume));
    } catch (error) {
      checkError(error, name);
      if (error instanceof ConnectionError) i = SHOWN;
    }
    for (const { other, running } of besides) {
      try {
        await way.wait(volume, join(running));
      } catch (error) {
        checkError(error, other);
      }
    }
  }
}

test('whatever is in the replies, each call ends with a result or a clear error', async (t) => {
  const random = Random.fromEnvironment(t);
  await using daemon = await hostile(t, `fuzz.${random.seed}`);
  const holdings = new Holdings();
  const seen = { messages: 0, connections: 0 };
  const trace = (): void => {
    seen.messages += 1;
  };
  const unhandled = (error: unknown): void => assert.fail(`nobody has looked at ${String(error)}`);
  process.on('unhandledRejection', unhandled);
  t.after(() => process.off('unhandledRejection', unhandled));
  while (seen.messages < MESSAGES) {
    const way = WAYS[seen.connections % WAYS.length];
    seen.connections += 1;
    const writeback = random.below(2) === 0;
    try {
      const volume = await way.open(daemon.socketPath, { timeoutMs: TIMEOUT_MS, trace, writeback, cacheNames: 5 });
      await fuzz(random, volume, way);
      await way.wait(volume, volume.close());
    } catch (error) {
      checkError(error, 'opening or closing');
    }
    const { rss } = process.memoryUsage();
    assert.ok(rss < MOST_BYTES, `${rss} bytes after ${seen.messages} messages`);
  }
  console.log(`# ${seen.messages} messages, ${seen.connections} connections`);
  await holdings.check('spoilt replies');
});
