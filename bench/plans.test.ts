import assert from 'node:assert/strict';
import { test } from 'node:test';

import { UserError } from '../src/core/index.ts';
import { plansOf } from './bench.ts';
import { PLANS, QUICK_IDS } from './plans.ts';

const ids = (plans: readonly { id: string }[]): string[] => plans.map(({ id }) => id);

test('each contestant has an id of its own, which says how it is served', () => {
  assert.equal(new Set(ids(PLANS)).size, PLANS.length);
  const writeback = PLANS.find(({ id }) => id === 'virtiofs-always-writeback');
  assert.deepEqual([writeback?.kind, writeback?.cache, writeback?.writeback], ['virtiofs', 'always', true]);
});

test('who takes part is named by id, in any order, and reports keep theirs', () => {
  assert.deepEqual(ids(plansOf(['virtiofs-auto', '9p-none'], ['9p', 'virtiofsd'])), ['9p-none', 'virtiofs-auto']);
  assert.deepEqual(ids(plansOf(QUICK_IDS, ['9p', 'virtiofsd'])), ids(PLANS.filter(({ id }) => QUICK_IDS.includes(id))));
});

test('without a peer its contestants stay away, and this project does not', () => {
  const left = plansOf(ids(PLANS), ['9p']);
  assert.deepEqual([...new Set(left.map(({ kind }) => kind))], ['9p', 'virtiofs']);
});

test('contestants of peers that stay away are refused when there is no other', () => {
  assert.throws(() => plansOf(['9p-none', '9p-loose'], ['virtiofsd']), {
    name: 'UserError',
    message: 'Of the contestants 9p-none, 9p-loose none is left with the peers virtiofsd.',
  });
  assert.throws(() => plansOf(['9p-none'], []), { message: /with the peers none\.$/ });
});

test('an id that nobody has is refused with all that there are', () => {
  assert.throws(
    () => plansOf(['virtiofs-never', 'virtiofs-nerver'], []),
    (error) =>
      error instanceof UserError && /no contestant virtiofs-nerver: .*9p-none.*virtiofs-auto/.test(error.message),
  );
});
