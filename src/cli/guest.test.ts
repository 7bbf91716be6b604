import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';

import { Command, CommanderError } from 'commander';

import { type Inspection, LabError } from '../../lab/index.ts';
import { UserError } from '../core/index.ts';
import {
  capabilityFinding,
  descriptorFinding,
  formatFinding,
  guardFinding,
  guestFindings,
  lensFinding,
} from './doctor.ts';
import { daemonArguments, directoryOf, parseMemory, withGuestErrors } from './guest.ts';
import { registerVm, scriptOf } from './vm.ts';

/** What commander says to arguments of `virtiofs vm` that it does not take. */
async function complaint(...args: string[]): Promise<string> {
  let said = '';
  const program = new Command().exitOverride();
  program.configureOutput({ writeErr: (text) => (said += text) });
  registerVm(program);
  for (const command of program.commands) command.exitOverride().configureOutput(program.configureOutput());
  await assert.rejects(program.parseAsync(['vm', ...args], { from: 'user' }), CommanderError);
  return said;
}

test('memory is given in MiB or GiB', () => {
  assert.deepEqual(['512', '512M', '2G', '1g', '1GiB'].map(parseMemory), [512, 512, 2048, 1024, 1024]);
});

test('arguments that cannot be are refused with what can', async () => {
  assert.match(await complaint('/', '--memory', 'much'), /--memory <size>' argument 'much' is invalid.*512M or 2G/);
  assert.match(await complaint('/', '--memory', '16M'), /at least 192M/);
  assert.match(await complaint('/', '--queues', '0'), /--queues <n>' argument '0' is invalid.*from 1 on/);
  assert.match(await complaint('/', '--cache', 'maybe'), /Allowed choices are .*auto/);
  assert.match(await complaint(), /missing required argument 'dir'/);
});

test('a guest with DAX has a daemon with a window, which tells it the tag', () => {
  assert.deepEqual(daemonArguments({}), []);
  assert.deepEqual(daemonArguments({ dax: false, readonly: true }), ['--readonly']);
  const one = ['--tag', 'share', '--request-queues', '1'];
  assert.deepEqual(daemonArguments({ dax: true }), [...one, '--dax-window', '512M']);
  assert.deepEqual(daemonArguments({ daxWindow: '64M' }), [...one, '--dax-window', '64M']);
  assert.ok(daemonArguments({ dax: true, queues: 4 }).join(' ').includes('--request-queues 4'));
});

test('a directory that is none is refused by its name', () => {
  assert.throws(() => directoryOf('/nonexistent'), /\/nonexistent: there is no such directory/);
  assert.throws(() => directoryOf('/dev/null'), /\/dev\/null: this is not a directory/);
});

test('one word is a script, several are a command and its arguments', () => {
  assert.equal(scriptOf(['ls | wc -l']), 'ls | wc -l');
  assert.equal(scriptOf(['echo', "it's", '$HOME']), `'echo' 'it'\\''s' '$HOME'`);
});

test('no guest is exit code 125, a version that does not exist is wrong use, and a bug stays a bug', async () => {
  const exitCodeAfter = async (error: Error): Promise<unknown> => {
    try {
      return await withGuestErrors(async () => {
        throw error;
      });
    } catch (caught) {
      return caught instanceof UserError ? caught.exitCode : caught;
    }
  };
  assert.equal(await exitCodeAfter(new LabError('NO_QEMU', 'none')), 125);
  assert.equal(await exitCodeAfter(new LabError('VERSION', 'what?')), 1);
  const bug = new TypeError('ours');
  assert.equal(await exitCodeAfter(bug), bug);
});

test('the doctor names the capabilities that are missing', () => {
  assert.equal(capabilityFinding(0xffff_ffffn).state, 'good');
  assert.match(capabilityFinding(0n).found, /none/);
  assert.match(capabilityFinding(0xffff_ffffn & ~(1n << 27n)).found, /^without MKNOD$/);
});

test('the doctor says how to raise a limit that is low', () => {
  assert.equal(descriptorFinding({ soft: 1024, hard: 1_048_576 }).state, 'good');
  const { state, advice } = descriptorFinding({ soft: 1024, hard: 4096 });
  assert.equal(state, 'less');
  assert.match(advice ?? '', /ulimit -Hn/);
});

test('the doctor says whether guests can map files, and if not, why', () => {
  assert.equal(lensFinding(undefined).state, 'good');
  const { state, found, advice } = lensFinding('there is no /dev/fuse: modprobe fuse');
  assert.equal(state, 'less');
  assert.match(found, /cannot map/);
  assert.equal(advice, 'There is no /dev/fuse: modprobe fuse.');
});

test('the doctor says whether files can be guarded against truncation, and if not, why', () => {
  assert.equal(guardFinding(undefined).state, 'good');
  const { state, found, advice } = guardFinding('it takes Linux 6.14');
  assert.equal(state, 'less');
  assert.match(found, /cannot work/);
  assert.equal(advice, 'It takes Linux 6.14.');
});

const BARE: Inspection = {
  cache: '/cache',
  hostQemu: { why: 'qemu-system-x86_64 is not installed' },
  cachedQemus: [],
  cachedKernels: [],
  accelerator: { kind: 'tcg', why: 'the CPU has neither vmx nor svm' },
  canFetch: { why: 'there is no apt-get and dpkg-deb' },
};

test('the doctor tells a machine without QEMU, kernel and apt what to do about each', () => {
  const findings = guestFindings(BARE);
  assert.deepEqual(
    findings.map(({ state }) => state),
    ['less', 'less', 'less', 'less'],
  );
  for (const { advice } of findings) assert.ok(advice);
  assert.match(findings[0].advice ?? '', /VIRTIOFS_QEMU/);
  const fetching = guestFindings({ ...BARE, canFetch: true });
  assert.match(fetching[0].advice ?? '', /fetch/);
});

test('advice stands on a line of its own below its finding', () => {
  const text = formatFinding({ state: 'bad', what: 'Node.js', found: '20.1.0', advice: 'Get a newer one.' });
  // Colours are forced in CI.
  assert.match(stripVTControlCharacters(text), /^x Node\.js +20\.1\.0\n +Get a newer one\.$/);
});
