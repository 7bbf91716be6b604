import assert from 'node:assert/strict';
import { arch, tmpdir } from 'node:os';
import { test } from 'node:test';

import { describeMachine, parseCpuModel, parseFileSystem } from './machine-info.ts';

const MOUNTS = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid shared:2 master:7 - proc proc rw
24 22 0:22 / /srv/two\\040words rw - xfs /dev/sdb rw
25 22 0:23 / /srv rw - btrfs /dev/sdc rw
26 22 0:24 / /tmp rw - ext4 /dev/sdd rw
27 26 0:25 / /tmp rw - tmpfs tmpfs rw
`;

test('the model of a CPU is what the kernel calls it', () => {
  const cpuinfo =
    'processor\t: 0\nvendor_id\t: Good\nmodel\t\t: 85\nmodel name\t: Good  CPU @ 2.20GHz\n\nprocessor\t: 1\n';
  assert.equal(parseCpuModel(cpuinfo), 'Good CPU @ 2.20GHz');
});

test('a CPU that the kernel has no name for is told by its part number', () => {
  const cpuinfo = 'processor\t: 0\nCPU implementer\t: 0x41\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n';
  assert.equal(parseCpuModel(cpuinfo), `${arch()} 0x41/0xd0c`);
  assert.equal(parseCpuModel('model name\t: unknown\n'), `unnamed ${arch()}`);
});

test('the file system of a folder is that of the innermost mount', () => {
  assert.equal(parseFileSystem(MOUNTS, '/home/a'), 'ext4');
  assert.equal(parseFileSystem(MOUNTS, '/srv/a'), 'btrfs');
  assert.equal(parseFileSystem(MOUNTS, '/srv/two words/a'), 'xfs');
  assert.equal(parseFileSystem(MOUNTS, '/srvother'), 'ext4');
});

test('of two mounts on one place the later one counts', () => {
  assert.equal(parseFileSystem(MOUNTS, '/tmp/a'), 'tmpfs');
});

test('a machine is described without its name', () => {
  const machine = describeMachine(tmpdir());
  assert.notEqual(machine.fileSystem, 'unknown');
  assert.ok(machine.cores >= 1 && machine.memoryMiB > 0, JSON.stringify(machine));
  assert.match(machine.kernel, /^\d+\.\d+/);
  assert.equal(machine.guest, undefined);
});
