import assert from 'node:assert/strict';
import { arch, tmpdir } from 'node:os';
import { test } from 'node:test';

import { caveatOf, describeMachine, hasNoJournal, parseCpuModel, parseMount } from './machine-info.ts';

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
  assert.equal(parseMount(MOUNTS, '/home/a').type, 'ext4');
  assert.equal(parseMount(MOUNTS, '/srv/a').type, 'btrfs');
  assert.equal(parseMount(MOUNTS, '/srv/two words/a').type, 'xfs');
  assert.equal(parseMount(MOUNTS, '/srvother').type, 'ext4');
});

test('of two mounts on one place the later one counts', () => {
  assert.equal(parseMount(MOUNTS, '/tmp/a').type, 'tmpfs');
});

test('a mount tells its device', () => {
  assert.equal(parseMount(MOUNTS, '/home/a').device, '8:1');
});

test('ext4 without a journal is told by its options', () => {
  assert.equal(hasNoJournal('rw\nbsddf\ndelalloc\nbarrier\ndata=ordered\nauto_da_alloc\n'), false);
  assert.equal(hasNoJournal('rw\nbsddf\ndelalloc\nbarrier\nauto_da_alloc\n'), true);
});

test('a file system that distorts measurements has a caveat, others have none', () => {
  assert.match(caveatOf('ext4 without a journal') ?? '', /deleted in the last minutes/);
  assert.equal(caveatOf('ext4'), undefined);
});

test('a machine is described without its name', () => {
  const machine = describeMachine(tmpdir());
  assert.notEqual(machine.fileSystem, 'unknown');
  assert.ok(machine.cores >= 1 && machine.memoryMiB > 0, JSON.stringify(machine));
  assert.match(machine.kernel, /^\d+\.\d+/);
  assert.equal(machine.guest, undefined);
});
