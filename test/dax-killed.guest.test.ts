/** VMs that end at once, with files mapped, and others after them on the same socket. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
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

const descriptors = ({ pid }: Daemon): number => readdirSync(`/proc/${pid}/fd`).length;

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
