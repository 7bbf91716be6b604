import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';

import { GROUPS } from './groups.ts';

/** As often as something that is left behind, a name or a handle, would be in the way of the next. */
const TIMES = 3;

for (const open of GROUPS) {
  test(`${open.name}: each does what it is to measure, again and again`, () => {
    using group = open();
    assert.ok(group.benches.length > 0);
    for (const { name, run } of group.benches) {
      for (let i = 0; i < TIMES; i += 1) assert.doesNotThrow(run, name);
    }
  });

  test(`${open.name}: no descriptor is left when it is closed`, () => {
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    open()[Symbol.dispose]();
    const before = descriptors();
    const group = open();
    for (const { run } of group.benches) run();
    group[Symbol.dispose]();
    assert.equal(descriptors(), before);
  });
}

test('all have names of their own, by which figures are compared', () => {
  const names = GROUPS.flatMap((open) => {
    using group = open();
    return group.benches.map(({ name }) => name);
  });
  assert.deepEqual(names, [...new Set(names)]);
});
