import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bit, flags } from './flags.ts';

const MODE = flags({ READ: bit(0), WRITE: bit(1), LAST: bit(31) });

test('each name is its bit, unsigned', () => {
  assert.equal(MODE.READ, 1);
  assert.equal(MODE.LAST, 2 ** 31);
  assert.equal(MODE.mask, 0x8000_0003);
});

test('format names the known bits and shows the others in hexadecimal', () => {
  assert.equal(MODE.format(0), '0');
  assert.equal(MODE.format(MODE.READ | MODE.LAST), 'READ|LAST');
  assert.equal(MODE.format(MODE.WRITE | 0x40 | 0x100), 'WRITE|0x140');
  assert.equal(MODE.format(0x4000_0000), '0x40000000');
});

test('a value of no bit, of two bits, or with a name already does not load', () => {
  assert.throws(() => flags({ NONE: 0 }), /NONE: 0 is not one bit/);
  assert.throws(() => flags({ TWO: 3 }), /TWO: 3 is not one bit/);
  assert.throws(() => flags({ WIDE: 2 ** 32 }), /WIDE: 4294967296 is not one bit/);
  assert.throws(() => flags({ A: 1, B: 1 }), /B: bit 1 has a name already/);
});
