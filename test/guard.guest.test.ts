/** Programs on the host that make files shorter while real guests have them mapped. */
import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';

import { guardRefusal } from '../src/coherence/index.ts';
import { type SceneOptions, scenes } from '../lab/index.ts';

const GUARDED: SceneOptions = {
  daxWindow: '512M',
  mountOptions: 'dax=always',
  cache: 'always',
  daemonArgs: ['--guard-truncate'],
};
const FILE = '/mnt/share/file';

/** Waits until a file has that sum. The guest is told nothing: it looks. */
const shows = (command: string, sum: string): string => `until [ "$(${command} | md5sum)" = '${sum}' ]; do :; done`;

const refusal = guardRefusal(tmpdir());

if (refusal !== undefined) test('a guest whose files are guarded', { skip: refusal }, () => undefined);
else
  scenes('a guest whose files are guarded', GUARDED, (scene) => {
    const shortened: Record<string, string> = {
      'truncate(2)': 'truncate -s 5000 file',
      'an open with O_TRUNC, and a write': 'cp start file',
    };
    for (const [how, command] of Object.entries(shortened)) {
      scene(
        `lives on when a file that it has mapped is made shorter by ${how}, and sees it grow again`,
        async ({ vm, host }) => {
          await host.sh('head -c 5000000 /dev/urandom > file; cp file whole; head -c 5000 file > start');
          await vm.sh('echo 3 > /proc/sys/vm/drop_caches');
          await vm.sh(shows(`cat ${FILE}`, await host.sh('md5sum < whole')));
          await host.sh(command);
          // The guest believes the file to be as long as ever, and touches all of it: its VMM would be killed.
          assert.equal(await vm.sh(`wc -c < ${FILE}; cat ${FILE} | wc -c`), '5000000\n5000000');
          await vm.sh(shows(`head -c 5000 ${FILE}`, await host.sh('md5sum < start')));
          await host.sh('cat whole > file');
          await vm.sh(shows(`cat ${FILE}`, await host.sh('md5sum < whole')));
        },
      );
    }

    scene('lives on when a file was made shorter before it mapped what it knows of it', async ({ vm, host }) => {
      await host.sh('head -c 5000000 /dev/urandom > early; head -c 5000 early > start');
      assert.equal(await vm.sh('stat -c %s /mnt/share/early'), '5000000');
      await host.sh('truncate -s 5000 early');
      assert.equal(await vm.sh('cat /mnt/share/early | wc -c'), '5000000');
      assert.equal(await vm.sh('head -c 5000 /mnt/share/early | md5sum'), await host.sh('md5sum < start'));
    });
  });
