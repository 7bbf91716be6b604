/** Mounting, unmounting and everything that takes the device away and gives it back, on each kernel and QEMU. */
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { type Scene, type SceneOptions, scenario, scenes } from '../lab/index.ts';

const UNMOUNT_AND_MOUNT = 'umount /mnt/share && mount -t virtiofs share /mnt/share';
const DRIVER = '/sys/bus/virtio/drivers/virtiofs';
async function work({ vm, host }: Scene, folder: string): Promise<void> {
  await host.sh(`mkdir ${folder} && echo from the host > ${folder}/h`);
  assert.equal(
    await vm.sh(`cat /mnt/share/${folder}/h && echo from the guest > /mnt/share/${folder}/g`),
    'from the host',
  );
  assert.equal(await host.sh(`cat ${folder}/g`), 'from the guest');
  const sum = await vm.sh(
    `cd /mnt/share/${folder} && dd if=/dev/urandom of=big bs=1M count=5 2>/dev/null && md5sum big`,
  );
  assert.equal(await host.sh(`cd ${folder} && md5sum big`), sum);
}

const MACHINES: readonly SceneOptions[] = [
  { kernel: '6.12', qemu: '11.1', queues: 1, cpus: 1 },
  { kernel: '6.12', qemu: '7.2', queues: 4, cpus: 4 },
  { kernel: '7.3', qemu: '11.1', queues: 4, cpus: 4 },
  { kernel: '7.3', qemu: '7.2', queues: 1, cpus: 1 },
];

for (const machine of MACHINES) {
  const title = `Linux ${machine.kernel}, QEMU ${machine.qemu}, ${machine.queues} request queues`;
  scenes(title, machine, (scene) => {
    scene('mounts, works, unmounts and mounts again', async (stage) => {
      await work(stage, 'first');
      await stage.vm.sh(UNMOUNT_AND_MOUNT);
      await work(stage, 'second');
    });

    scene('works after the driver was taken from the device and bound again', async (stage) => {
      const { vm } = stage;
      const device = await vm.sh(`ls ${DRIVER} | grep virtio`);
      await vm.sh(`umount /mnt/share && echo ${device} > ${DRIVER}/unbind && echo ${device} > ${DRIVER}/bind`);
      await vm.sh('mount -t virtiofs share /mnt/share');
      await work(stage, 'rebound');
    });

    scene('works after the guest has rebooted', async (stage) => {
      await stage.vm.reboot();
      await work(stage, 'rebooted');
    });

    scene('goes on where it was after the VM was reset, without a word from the guest', async (stage) => {
      await stage.vm.reset();
      await work(stage, 'reset');
    });

    scene('goes on with files open while the VM stands still', async ({ vm, host }) => {
      await host.sh('echo before > open && mkfifo pipe');
      // The guest holds the file open until somebody writes to the FIFO; how long it is it may know for a second.
      const reading = vm.sh(
        `cd /mnt/share; exec 3< open; read a <&3; touch reading; read go < pipe; echo "$a $go"
         until grep . <&3; do usleep 10000; done`,
      );
      await vm.sh('until [ -e /mnt/share/reading ]; do usleep 10000; done');
      await vm.qmp('stop');
      await host.sh('echo after >> open');
      await vm.qmp('cont');
      await vm.sh('echo go > /mnt/share/pipe');
      assert.equal(await reading, 'before go\nafter');
    });
  });
}

scenario(
  'a guest whose memory is not shared gets a message that says share=on',
  { sharedMemory: false, mount: false },
  async ({ vm, daemon }) => {
    // The mount itself succeeds: FUSE_INIT is asynchronous. Nothing answers it.
    await vm.sh('mount -t virtiofs share /mnt/share');
    while (!daemon.output.includes('share=on') && daemon.ended === undefined) await nextTurn();
    assert.match(daemon.output, /share=on/);
    await vm.kill();
  },
);
