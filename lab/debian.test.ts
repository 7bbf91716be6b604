import assert from 'node:assert/strict';
import { test } from 'node:test';
import { neededBy } from './assets.ts';
import { type PackageRecord, parsePrintUris, parseRecords } from './debian.ts';
import { compareVersions, upstreamVersion } from './versions.ts';

test('package records are read with all alternatives of what they need', () => {
  const [record, ...others] = parseRecords(`Package: qemu-system-x86
Version: 1:11.1.3+ds-1~bpo13+1
Depends: libc6 (>= 2.38), dracut | initramfs-tools:any (>= 1), zlib1g
Pre-Depends: linux-base
Size: 10377056
Description: emulator
 Package: not a field

`);
  assert.deepEqual(others, []);
  assert.deepEqual(record, {
    name: 'qemu-system-x86',
    version: '1:11.1.3+ds-1~bpo13+1',
    sizeBytes: 10_377_056,
    depends: ['linux-base', 'libc6', 'dracut', 'initramfs-tools', 'zlib1g'],
  });
});

test("apt's plan is read with epochs, which are escaped in file names", () => {
  const plan =
    "'http://mirror.test/pool/q.deb' libcap2_1%3a2.75-10+b3_amd64.deb 28988 SHA256:00\nE: no line of a plan\n";
  assert.deepEqual(parsePrintUris(plan), [{ name: 'libcap2', version: '1:2.75-10+b3' }]);
});

test('versions compare by number, and epochs and Debian parts do not count', () => {
  assert.equal(upstreamVersion('1:11.1.3+ds-1~bpo13+1'), '11.1.3');
  assert.equal(upstreamVersion('6.12.107-1'), '6.12.107');
  assert.ok(compareVersions('6.9', '6.12.3') < 0);
  assert.ok(compareVersions('7.2.22', '7.2') > 0);
  assert.equal(compareVersions('7.2', '7.2.0'), 0);
});

const record = (name: string, ...depends: string[]): PackageRecord => ({ name, version: '1', sizeBytes: 1, depends });

test('what is skipped is not taken, nor what only it needs', () => {
  const closure = [
    record('qemu', 'libc6', 'common'),
    record('libc6', 'libgcc'),
    record('libgcc', 'libc6'),
    record('common', 'sound', 'libc6'),
    record('sound'),
  ];
  const names = (skip: string[], leaves: string[]): string[] =>
    neededBy('qemu', closure, new Set(skip), new Set(leaves))
      .map(({ name }) => name)
      .toSorted();
  assert.deepEqual(names([], []), ['common', 'libc6', 'libgcc', 'qemu', 'sound']);
  assert.deepEqual(names(['common'], []), ['libc6', 'libgcc', 'qemu']);
  assert.deepEqual(names([], ['common']), ['common', 'libc6', 'libgcc', 'qemu']);
});
