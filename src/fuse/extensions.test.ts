import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';

import { EINVAL } from '../core/errno.ts';
import { type Extensions, layExtensions, MAX_GROUPS, secctxBytes } from './extensions.ts';

const words = (...values: number[]): Buffer => Buffer.from(Uint32Array.from(values).buffer);
const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc((8 - (bytes.length % 8)) % 8)]);

function groups(...gids: number[]): Buffer {
  const body = padded(words(gids.length, ...gids));
  return Buffer.concat([words(8 + body.length, 32), body]);
}

function contexts(...pairs: [string, string][]): Buffer {
  const all = pairs.map(([name, value]) =>
    padded(Buffer.concat([words(Buffer.byteLength(value), 0), Buffer.from(`${name}\0${value}`)])),
  );
  const body = Buffer.concat(all);
  return Buffer.concat([words(8 + body.length, pairs.length), body]);
}

/** Lays what follows a name of 3 bytes, so that nothing is aligned. */
function lay(...parts: Buffer[]): { result: number; found: Extensions; view: DataView; u8: Uint8Array } {
  const u8 = new Uint8Array(Buffer.concat([Buffer.from('ab\0'), ...parts]));
  const view = new DataView(u8.buffer);
  const found = { groups: 0, groupCount: 7, contexts: 0, contextCount: 7 };
  return { result: layExtensions(view, u8, 3, u8.length, found), found, view, u8 };
}

test('groups and security contexts are found, in either order', () => {
  const labels = contexts(['security.selinux', 'system_u:object_r:user_home_t:s0'], ['security.smack', '_']);
  for (const parts of [
    [labels, groups(4711)],
    [groups(4711), labels],
  ]) {
    const { result, found, view, u8 } = lay(...parts);
    assert.deepEqual([result, found.groupCount, found.contextCount], [0, 1, 2]);
    assert.equal(view.getUint32(found.groups, true), 4711);
    const second = found.contexts + secctxBytes(32, 16);
    assert.equal(Buffer.from(u8.subarray(second + 8, second + 24)).toString(), 'security.smack\0_');
  }
});

test('a request without any has none, and an empty list of contexts is one', () => {
  assert.deepEqual(lay().found, { groups: 0, groupCount: 0, contexts: 0, contextCount: 0 });
  assert.deepEqual([lay(contexts()).result, lay(contexts()).found.contextCount], [0, 0]);
});

test('lengths that do not fit are refused', () => {
  const wrong = [
    words(8),
    words(0, 0),
    words(4, 32),
    words(12, 32, 0),
    words(24, 32, 1, 5),
    words(16, 32, 3, 5),
    words(8, 32),
    words(8, 1),
    words(16, 2, 0, 0),
    Buffer.concat([words(24, 1, 9, 0), Buffer.from('a\x00123456')]),
    Buffer.concat([words(24, 1, 1, 0), Buffer.from('abcdefgh')]),
    Buffer.concat([words(24, 1, 1, 0), Buffer.from('\0bcdefgh')]),
  ];
  for (const each of wrong) assert.equal(lay(each).result, -EINVAL, each.toString('hex'));
});

test('unknown kinds, kinds that come twice and too many groups are refused', () => {
  assert.equal(lay(words(8, 33)).result, -EINVAL);
  assert.equal(lay(groups(1), groups(2)).result, -EINVAL);
  assert.equal(lay(contexts(), contexts()).result, -EINVAL);
  assert.equal(lay(groups(...Array.from({ length: MAX_GROUPS }, (_, i) => i))).result, 0);
  assert.equal(lay(groups(...Array.from({ length: MAX_GROUPS + 1 }, (_, i) => i))).result, -EINVAL);
});

test('whatever bytes come, what is laid out lies in them', () => {
  const any = fc.uint8Array({ maxLength: 96 });
  const near = fc
    .tuple(fc.nat(40), fc.nat(34), any)
    .map(([size, type, rest]) => Buffer.concat([words(size, type), rest]));
  fc.assert(
    fc.property(fc.oneof(any, near), (bytes) => {
      const { result, found, view, u8 } = lay(Buffer.from(bytes));
      if (result < 0) return;
      assert.ok(found.groupCount === 0 || found.groups + found.groupCount * 4 <= u8.length);
      let at = found.contexts;
      for (let i = 0; i < found.contextCount; i += 1) {
        const nul = u8.indexOf(0, at + 8);
        assert.ok(nul > at + 8 && nul + 1 + view.getUint32(at, true) <= u8.length);
        at += secctxBytes(view.getUint32(at, true), nul - at - 8);
      }
    }),
  );
});
