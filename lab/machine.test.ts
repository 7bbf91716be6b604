import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { whyNoKvm } from './accelerator.ts';
import { Console } from './console.ts';
import { initScript } from './guest-init.ts';
import { kernelArguments, type MachineOptions, machineArguments } from './machine.ts';
import { unpackedKernel } from './kernel-image.ts';

const MACHINE: MachineOptions = {
  accel: 'tcg',
  qemuVersion: '11.1.3',
  memoryMiB: 512,
  cpus: 2,
  kernelPath: '/kernel',
  initramfsPath: '/initramfs',
  kernelArguments: 'quiet',
  shares: [{ socketPath: '/run/a,b.sock', tag: 'share', queues: 4 }],
  lanes: 1,
  inputPath: (lane) => `/run/in${lane}`,
};

/** The values of an option. */
function valuesOf(args: readonly string[], option: string): string[] {
  return args.filter((_, i) => args[i - 1] === option);
}

test('guest memory is shared, or the daemon could not reach it', () => {
  assert.deepEqual(valuesOf(machineArguments(MACHINE), '-object'), [
    'memory-backend-memfd,id=memory,size=512M,share=on',
  ]);
});

test('a share is a device with its queues, and a comma in its path does not end the option', () => {
  const args = machineArguments(MACHINE);
  assert.ok(valuesOf(args, '-chardev').includes('socket,id=fs0,path=/run/a,,b.sock'));
  const device = 'vhost-user-fs-pci,tag=share,num-request-queues=4,queue-size=1024,chardev=fs0';
  assert.ok(valuesOf(args, '-device').includes(device));
});

test('a share with DAX is a device of any kind, with all its queues', () => {
  const shares = [{ socketPath: '/s', tag: 't', queues: 4, dax: true }];
  const device = 'vhost-user-test-device-pci,virtio-id=26,num_vqs=5,vq_size=1024,config_size=44,chardev=fs0';
  assert.ok(valuesOf(machineArguments({ ...MACHINE, shares }), '-device').includes(device));
});

test('a share may bring a device of its own', () => {
  const shares = [{ socketPath: '/s', tag: 't', device: (chardev: string) => `other-device,chardev=${chardev}` }];
  assert.ok(valuesOf(machineArguments({ ...MACHINE, shares }), '-device').includes('other-device,chardev=fs0'));
});

test('a folder that QEMU serves by 9p is a device, and takes no socket', () => {
  const args = machineArguments({ ...MACHINE, shares: [{ kind: '9p', sharedDir: '/srv/a,b', tag: 'nine' }] });
  assert.deepEqual(valuesOf(args, '-fsdev'), ['local,id=fs0,path=/srv/a,,b,security_model=none,multidevs=remap']);
  assert.ok(valuesOf(args, '-device').includes('virtio-9p-pci,fsdev=fs0,mount_tag=nine'));
  assert.ok(!valuesOf(args, '-chardev').some((each) => each.includes('id=fs0')));
});

test('an old QEMU emulates a CPU without the instruction that it gets wrong', () => {
  assert.deepEqual(valuesOf(machineArguments({ ...MACHINE, qemuVersion: '7.2.22' }), '-cpu'), ['Nehalem,-cx16']);
  assert.deepEqual(valuesOf(machineArguments(MACHINE), '-cpu'), ['Nehalem']);
});

test('a served root filesystem takes the place of the initramfs', () => {
  assert.match(kernelArguments('share', ''), / rootfstype=virtiofs root=share rw init=\/init$/);
  assert.deepEqual(valuesOf(machineArguments({ ...MACHINE, initramfsPath: undefined }), '-initrd'), []);
});

test('KVM counts only where the CPU has it, whatever /dev holds', () => {
  assert.match(whyNoKvm('flags\t\t: fpu sse svm_lock\n', '/dev/null') ?? '', /neither vmx nor svm/);
  assert.equal(whyNoKvm('flags\t\t: fpu vmx sse\n', '/dev/null'), undefined);
  assert.match(whyNoKvm('flags\t\t: fpu svm\n', '/nonexistent') ?? '', /missing/);
});

test('the console tells why the kernel gave up, and its last lines without colors', () => {
  const console = new Console();
  console.add('one\r\n\u001b[31mtwo\u001b[0m\r\n[ 1.0] Kernel panic - not ');
  assert.equal(console.panic, undefined);
  console.add('syncing: no root\r\nthree\r\n');
  assert.equal(console.panic, 'Kernel panic - not syncing: no root');
  assert.equal(console.tail(3), 'two\n[ 1.0] Kernel panic - not syncing: no root\nthree');
});

test('the script of process 1 is one that a shell can read', () => {
  assert.equal(execFileSync('sh', ['-n'], { input: initScript(3), encoding: 'utf8' }), '');
});

test('what is not a packed kernel is left alone', () => {
  assert.equal(unpackedKernel(Buffer.alloc(4096)), undefined);
  assert.equal(unpackedKernel(Buffer.from('short')), undefined);
  const damaged = Buffer.alloc(4096);
  damaged.write('HdrS', 0x202);
  damaged.writeUInt32LE(0xffffff00, 0x248);
  assert.equal(unpackedKernel(damaged), undefined);
});
