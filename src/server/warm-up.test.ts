import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { type CacheMode, cachePolicy } from '../coherence/index.ts';
import { ENOSYS } from '../core/index.ts';
import type { FileSystemModule } from '../fs/file-system.ts';
import * as passthrough from '../fs/passthrough/index.ts';
import { OPCODES } from '../fuse/index.ts';
import { descriptorLimit, setDescriptorLimit } from '../sys/index.ts';
import { initOffer } from './offer.ts';
import { createPool } from './pool.ts';
import { WarmUp, WarmUpTurn } from './warm-up.ts';

let share = '';
before(() => {
  share = mkdtempSync(join(tmpdir(), 'virtiofs-warm-up-test-'));
});
after(() => rmSync(share, { recursive: true, force: true }));

const module = passthrough as unknown as FileSystemModule;
const silent = (): void => undefined;
const pool = createPool(2);

/** A warm-up for an export with such options. */
function open(t: { after: (what: () => void) => void }, mode: CacheMode = 'auto', readonly = false): WarmUp {
  const policy = cachePolicy(mode);
  const exported = passthrough.openExport({ ...policy, sharedDir: share, readonly, xattr: true });
  const warmUp = WarmUp.open(module, { exported, offer: initOffer(policy), pool });
  assert.ok(warmUp !== undefined);
  t.after(() => {
    warmUp.end();
    passthrough.closeExport(exported);
  });
  return warmUp;
}

function finish(warmUp: WarmUp): void {
  while (warmUp.step());
}

const descriptors = (): number => readdirSync('/proc/self/fd').length;
const mounts = (): string => readFileSync('/proc/self/mountinfo', 'utf8');
const temporary = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith('virtiofs-warm-up-'));

/** What guests send all the time. */
const NAMES =
  'INIT LOOKUP FORGET BATCH_FORGET GETATTR SETATTR STATX ACCESS CREATE OPEN READ WRITE FLUSH FSYNC RELEASE MKDIR ' +
  'RMDIR UNLINK RENAME RENAME2 LINK SYMLINK READLINK OPENDIR READDIR READDIRPLUS RELEASEDIR STATFS SETXATTR GETXATTR ' +
  'LISTXATTR DESTROY';

test('every kind of request is made up many times, and answered as a guest wants it', (t) => {
  const warmUp = open(t);
  finish(warmUp);
  // A local file system has nothing to say on close, and tells the guest to spare it the question.
  assert.deepEqual([...warmUp.refusals], [['FLUSH', -ENOSYS]]);
  const known = OPCODES.flatMap((record) => record?.name ?? []);
  for (const name of NAMES.split(' ')) {
    assert.ok(known.some((each) => each === name));
    // In a temporary folder, which is where it works without CAP_SYS_ADMIN, it spares the disk.
    if (name === 'FSYNC' && process.getuid?.() !== 0) continue;
    assert.ok((warmUp.asked.get(name) ?? 0) >= (name === 'FLUSH' ? 1 : 20), `${name} is not made up`);
  }
});

test('what a guest learns not to send is not made up either', (t) => {
  const warmUp = open(t, 'always');
  finish(warmUp);
  const refusals = [...warmUp.refusals].toSorted(([a], [b]) => a.localeCompare(b));
  const spared = process.getuid?.() === 0 ? ['FLUSH', 'OPEN', 'OPENDIR'] : ['FLUSH', 'OPENDIR'];
  assert.deepEqual(
    refusals.filter(([name]) => name !== 'FLUSH'),
    spared.filter((name) => name !== 'FLUSH').map((name) => [name, -ENOSYS]),
  );
  assert.ok((warmUp.asked.get('READ') ?? 0) >= 30);
});

test('for a share that nobody may change it makes its files all the same', (t) => {
  const warmUp = open(t, 'auto', true);
  finish(warmUp);
  assert.ok((warmUp.asked.get('WRITE') ?? 0) >= 30);
  assert.deepEqual([...warmUp.refusals.keys()], ['FLUSH']);
});

for (const [when, steps] of [
  ['at its end', Infinity],
  ['in the middle', 5],
  ['before it has begun', 0],
] as const) {
  test(`it leaves nothing behind ${when}`, (t) => {
    const policy = cachePolicy('auto');
    const exported = passthrough.openExport({ ...policy, sharedDir: share, readonly: false, xattr: true });
    t.after(() => passthrough.closeExport(exported));
    const found = { descriptors: descriptors(), mounts: mounts(), temporary: temporary() };
    const warmUp = WarmUp.open(module, { exported, offer: initOffer(policy), pool });
    assert.ok(warmUp !== undefined && descriptors() > found.descriptors);
    for (let i = 0; i < steps && warmUp.step(); i += 1);
    warmUp.end();
    assert.deepEqual({ descriptors: descriptors(), mounts: mounts(), temporary: temporary() }, found);
    assert.deepEqual(readdirSync(share), []);
    assert.equal(warmUp.step(), false);
  });
}

test('what it practises on is let go where it cannot begin', () => {
  let closed = 0;
  const broken = {
    openScratch: () => ({
      get fileSystem(): never {
        throw new Error('there are no descriptors left');
      },
      close: () => {
        closed += 1;
      },
    }),
  } as unknown as FileSystemModule;
  const options = { exported: {}, offer: initOffer(cachePolicy('auto')), pool };
  assert.throws(() => WarmUp.open(broken, options), /no descriptors left/);
  assert.equal(closed, 1);
});

test('where descriptors run out, however far it came, it has let go of all that it took', (t) => {
  const policy = cachePolicy('auto');
  const exported = passthrough.openExport({ ...policy, sharedDir: share, readonly: false, xattr: true });
  t.after(() => passthrough.closeExport(exported));
  const { soft, hard } = descriptorLimit();
  const found = { descriptors: descriptors(), mounts: mounts(), temporary: temporary() };
  const taken = new Set(readdirSync('/proc/self/fd'));
  let limit = 0;
  while (taken.has(`${limit}`)) limit += 1;
  let failures = 0;
  for (let warmUp: WarmUp | undefined; warmUp === undefined; warmUp?.end()) {
    assert.equal(setDescriptorLimit(limit + failures, hard), 0);
    try {
      warmUp = WarmUp.open(module, { exported, offer: initOffer(policy), pool });
    } catch (error) {
      assert.match((error as Error).message, /EMFILE/);
      failures += 1;
    } finally {
      setDescriptorLimit(soft, hard);
    }
    if (warmUp === undefined) {
      assert.deepEqual({ descriptors: descriptors(), mounts: mounts(), temporary: temporary() }, found);
    }
  }
  assert.ok(failures > 5, 'the limit was never in the way of the eventfds');
});

test('one thread of a process warms up at a time, the next when it has ended or given up', (t) => {
  const shared = WarmUpTurn.create();
  let opened = 0;
  const make = (): WarmUpTurn => {
    const openOne = (): WarmUp => {
      opened += 1;
      return open(t);
    };
    return new WarmUpTurn(shared, openOne, silent);
  };
  const [one, two, three] = [make(), make(), make()];
  one.step();
  assert.equal(one.patienceMs(-1), 0);
  two.step();
  assert.ok(two.patienceMs(-1) > 0, 'it looks again');
  assert.equal(two.patienceMs(1), 1);
  assert.equal(opened, 1);
  while (one.patienceMs(-1) >= 0) one.step();
  two.step();
  assert.equal(opened, 2);
  two.step();
  two.end();
  assert.equal(two.patienceMs(-1), -1);
  three.step();
  assert.equal(opened, 3);
  three.end();
});

test('a file system with nothing to practise on, or none now, gets no warm-up, and keeps no other from it', (t) => {
  const shared = WarmUpTurn.create();
  const said: string[] = [];
  const failing = (): WarmUp => {
    throw new Error('there are no descriptors left');
  };
  for (const openNone of [(): undefined => undefined, failing]) {
    const turn = new WarmUpTurn(shared, openNone, (message) => said.push(message));
    turn.step();
    assert.equal(turn.patienceMs(-1), -1);
    turn.step();
  }
  assert.deepEqual(said, ['no warm-up: there are no descriptors left']);
  const turn = new WarmUpTurn(shared, () => open(t), silent);
  turn.step();
  assert.equal(turn.patienceMs(-1), 0);
  turn.end();
  assert.equal(new WarmUpTurn(undefined, () => open(t), silent).patienceMs(7), 7);
});
