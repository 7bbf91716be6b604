/** QEMU's device for back-ends of any kind, which can have a window: a share must work there without one, too. */
import assert from 'node:assert/strict';

import { scenes } from '../lab/index.ts';

scenes('vhost-user-test-device-pci, the share without a window', { dax: true }, (scene) => {
  scene('the guest finds the tag in the configuration space, mounts, reads and writes', async ({ vm, host }) => {
    assert.match(await vm.sh('dmesg'), /virtiofs virtio\d+: discovered new tag: share/);
    assert.match(await vm.sh('dmesg'), /No cache capability/);
    const sum = await host.sh('dd if=/dev/urandom of=big bs=1M count=5 2>/dev/null && md5sum big');
    assert.equal(await vm.sh('cd /mnt/share && md5sum big && echo from the guest >new'), sum);
    assert.equal(await host.sh('cat new'), 'from the guest');
  });

  scene('goes on after stop and cont', async ({ vm, host }) => {
    await vm.qmp('stop');
    await vm.qmp('cont');
    await host.sh('echo after it >later');
    assert.equal(await vm.sh('cat /mnt/share/later'), 'after it');
  });

  scene('is there again after the guest has rebooted', async ({ vm, host }) => {
    await host.sh('echo still here >file');
    await vm.reboot();
    assert.equal(await vm.sh('cat /mnt/share/file'), 'still here');
    assert.equal(vm.qemuMessages, '');
  });
});
