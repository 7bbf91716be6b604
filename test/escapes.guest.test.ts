/** A guest never sees a file outside of what is shared with it. */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { scenes } from '../lab/index.ts';

const SECRET = 'the secret outside';

scenes('a guest that wants out', { cache: 'never', queues: 2, cpus: 2 }, (scene) => {
  scene("does not get there by '..' or by symlinks of any kind", async ({ vm, host }) => {
    const outside = `${host.folder}-outside`;
    mkdirSync(outside);
    writeFileSync(`${outside}/secret`, SECRET);
    mkdirSync(host.path('in'));
    symlinkSync(`${outside}/secret`, host.path('absolute'));
    symlinkSync(`../${outside.split('/').at(-1)}/secret`, host.path('relative'));
    symlinkSync('/proc/1/root', host.path('magic'));
    symlinkSync('/etc', host.path('etc'));
    // The guest follows symlinks by itself: they lead into the guest's own file system, where nothing of that is.
    const seen = await vm.run(
      `cd /mnt/share/in
       cat ../../../../../..${outside}/secret ../absolute ../relative ../magic${outside}/secret
       cat ../../share-outside/secret /mnt/share/..${outside}/secret
       ls -la /mnt/share/ /mnt/share/in/.. ; readlink ../absolute`,
    );
    assert.doesNotMatch(seen.stdout, new RegExp(SECRET));
    assert.match(seen.stdout, /absolute/);
    assert.notEqual(
      await vm.sh('cat /mnt/share/etc/hostname 2>/dev/null || echo none'),
      await host.sh('cat /etc/hostname'),
    );
    await host.sh(`rm -r ${outside} in absolute relative magic etc`);
  });

  scene('does not get there in the moment in which the host swaps a directory for a symlink', async ({ vm, host }) => {
    const outside = `${host.folder}-outside`;
    mkdirSync(outside);
    writeFileSync(`${outside}/file`, SECRET);
    mkdirSync(host.path('dir'));
    writeFileSync(host.path('dir', 'file'), 'inside');
    const looking = vm.run(
      `cd /mnt/share; i=0
       while [ $i -lt 300 ]; do cat dir/file; cat aside/file; echo x > dir/made; i=$((i+1)); done 2>/dev/null`,
    );
    const looked = { over: false };
    const over = (): void => {
      looked.over = true;
    };
    looking.then(over, over);
    let swaps = 0;
    while (!looked.over) {
      renameSync(host.path('dir'), host.path('aside'));
      symlinkSync(outside, host.path('dir'));
      await nextTurn();
      unlinkSync(host.path('dir'));
      renameSync(host.path('aside'), host.path('dir'));
      await nextTurn();
      swaps += 1;
    }
    const { stdout } = await looking;
    assert.ok(swaps > 100, `${swaps} swaps`);
    assert.match(stdout, /inside/);
    assert.doesNotMatch(stdout, new RegExp(SECRET));
    assert.equal(await host.sh(`ls ${outside}; rm -r ${outside}`), 'file');
  });
});
