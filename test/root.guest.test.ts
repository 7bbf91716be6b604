/** The guest's root file system itself comes from the daemon. */
import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';

import { scenario } from '../lab/index.ts';

scenario(
  'a guest runs from a root file system that the daemon serves',
  { root: true, kernel: '7.3' },
  async (scene) => {
    const { vm, host } = scene;
    assert.match(await vm.sh('cat /proc/mounts'), /^\S+ \/ virtiofs rw/m);
    await vm.sh('echo written by the guest > /etc/note && mkdir -p /var/lib/x && cp /bin/busybox /var/lib/x/cat');
    assert.equal(readFileSync(host.path('etc', 'note'), 'utf8'), 'written by the guest\n');
    assert.equal(statSync(host.path('var/lib/x/cat')).size, statSync(host.path('bin/busybox')).size);
    assert.equal(await vm.sh('/var/lib/x/cat /etc/note'), 'written by the guest');
  },
);
