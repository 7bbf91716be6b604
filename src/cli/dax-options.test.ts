import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Command, CommanderError } from 'commander';

import { UserError } from '../core/index.ts';
import { addDaxOptions, type DaxFlags, daxWindowOf } from './dax-options.ts';

const MIB = 2 ** 20;

function parse(...args: string[]): DaxFlags {
  const command = new Command().exitOverride().configureOutput({ writeErr: () => undefined });
  addDaxOptions(command);
  return { ...command.parse(args, { from: 'user' }).opts<DaxFlags>(), readonly: false, tag: 'share' };
}

test('a window is a power of two, 2M or more, and a size has a unit', () => {
  assert.equal(parse('--dax-window', '512M').daxWindow, 512 * MIB);
  assert.equal(parse('--dax-window', '2097152').daxWindow, 2 * MIB);
  assert.equal(parse('--dax-min-size', '4k').daxMinSize, 4096);
  for (const wrong of ['', '0', '1M', '3M', '300M', '512 M', '512MB', '-2M', 'a']) {
    assert.throws(() => parse('--dax-window', wrong), CommanderError, wrong);
  }
  assert.deepEqual(parse('--dax-name', '*-shm', '--dax-name', 'a*', '--dax-name', 'b').daxName, ['*-shm', 'a*', 'b']);
  for (const wrong of ['', 'a/b', '*a*', 'a*b']) assert.throws(() => parse('--dax-name', wrong), CommanderError, wrong);
  for (const wrong of ['0', '65', 'two']) assert.throws(() => parse('--request-queues', wrong), CommanderError, wrong);
});

test('a window that would end QEMU, or could be written through, is refused with what to do', () => {
  assert.equal(daxWindowOf(parse()), undefined);
  assert.throws(() => daxWindowOf(parse('--dax-window', '1G')), /1024M: QEMU ends.*--dax-large-window/);
  assert.throws(() => daxWindowOf({ ...parse('--dax-window', '2M'), readonly: true }), /--readonly/);
  assert.throws(() => daxWindowOf({ ...parse('--dax-window', '2M'), tag: undefined }), /needs --tag/);
});

test('where no lens can be made there is no window, and the message says why', () => {
  const flags = parse('--dax-window', '1G', '--dax-large-window');
  try {
    assert.equal(daxWindowOf(flags), 1024 * MIB);
  } catch (error) {
    assert.ok(error instanceof UserError);
    assert.match(error.message, /--dax-window 1024M cannot be had here: ./);
  }
});
