/** VMs that stand still while they map, or end at once with files mapped, and others after them on the same socket. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { bootGuest, type Daemon, type SceneOptions, scenario } from '../lab/index.ts';

const OPTIONS: SceneOptions = {
  ...{ daxWindow: '64M', mountOptions: 'dax=always', cache: 'always', daemonArgs: ['--stay'] },
  prepare: (shared) => {
    for (const name of ['a', 'b', 'c']) writeFileSync(join(shared, name), randomBytes(5_000_000));
  },
};
const SUMS = 'md5sum a b c';
const VMS = 3;

/** Open files of the daemon, lenses included; not what its threads have of their own and get in their own time. */
function descriptors({ pid }: Daemon): number {
  const folder = `/proc/${pid}/fd`;
  const targets = readdirSync(folder).map((fd) => {
    try {
      return readlinkSync(join(folder, fd));
    } catch {
      // Closed meanwhile.
      return 'pipe:';
    }
  });
  return targets.filter((target) => !/^(anon_inode|pipe|socket):/.test(target)).length;
}

scenario('VMs that are killed with files mapped leave nothing in a daemon that stays', OPTIONS, async (scene) => {
  const { daemon, host, socketPaths } = scene;
  const sums = await host.sh(SUMS);
  let { vm } = scene;
  const mapped: number[] = [];
  for (let i = 0; i < VMS; i += 1) {
    if (i > 0) vm = await bootGuest(OPTIONS, socketPaths[0]);
    // What was open when the VM before was killed is closed when the next one is served.
    try {
      assert.equal(await vm.sh(`cd /mnt/share; ${SUMS}`), sums);
      await host.sh(`head -c 5000000 /dev/urandom > new${i}`);
      assert.equal(await vm.sh(`md5sum < /mnt/share/new${i}`), await host.sh(`md5sum < new${i}; rm new${i}`));
      mapped.push(descriptors(daemon));
    } finally {
      await vm.kill();
    }
    while (descriptors(daemon) >= mapped[i]) {
      assert.equal(daemon.ended, undefined, daemon.output);
      await nextTurn();
    }
  }
  assert.deepEqual(
    mapped,
    mapped.map(() => mapped[0]),
  );
  daemon.signal('SIGTERM');
});

const LARGE: SceneOptions = {
  ...{ daxWindow: '32M', mountOptions: 'dax=always', cache: 'always', cpus: 2 },
  prepare: (shared) => {
    writeFileSync(join(shared, 'large'), '');
    truncateSync(join(shared, 'large'), 512 * 2 ** 20);
  },
};
const STOPS = 60;

// One request in forty is under way when QEMU stops, and would end it.
scenario('a VM is stopped again and again while it maps, and goes on', LARGE, async ({ vm }) => {
  let stops = 0;
  const { code, stderr } = await vm.run(
    `cd /mnt/share; i=0
     while [ ! -e /tmp/enough ]; do
       i=$(((i + 1) % 256)); dd if=large bs=8 count=1 skip=$((i * 262144)) of=/dev/null 2>/dev/null || exit 1
       [ $((i % 4)) -gt 0 ] || echo $i
     done`,
    {
      onStdout: async () => {
        stops += 1;
        if (stops > STOPS) return;
        await vm.qmp('stop');
        await vm.qmp('cont');
        if (stops === STOPS) await vm.sh(': > /tmp/enough');
      },
    },
  );
  assert.equal(code, 0, stderr);
  assert.ok(stops >= STOPS);
});
