/** What each cache mode keeps, counted in messages, in a real guest. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';

import { report } from '../bench/daemon-report.ts';
import { type Scene, scenario } from '../lab/index.ts';

/** Requests of some opcodes that a script in the guest causes. */
async function requestsOf({ vm, daemon }: Scene, script: string, ...opcodes: string[]): Promise<number> {
  const sum = async (): Promise<number> => {
    const { requests } = await report(daemon);
    return opcodes.reduce((all, opcode) => all + (requests.get(opcode) ?? 0), 0);
  };
  const before = await sum();
  await vm.sh(`cd /mnt/share; ${script}`);
  return (await sum()) - before;
}

scenario('metadata: names and attributes are kept, data is not', { cache: 'metadata' }, async (scene) => {
  writeFileSync(scene.host.path('file'), 'one');
  await scene.vm.sh('cat /mnt/share/file; stat /mnt/share/file');
  assert.equal(await requestsOf(scene, 'stat file; stat file', 'LOOKUP', 'GETATTR'), 0);
  assert.ok((await requestsOf(scene, 'cat file', 'READ')) > 0);
});

scenario(
  'writeback: small writes go to the host together',
  { cache: 'always', daemonArgs: ['--writeback'] },
  async (scene) => {
    const script = 'dd if=/dev/zero of=zeros bs=1000 count=1000 2>/dev/null; printf end >> zeros; sync';
    assert.ok((await requestsOf(scene, script, 'WRITE')) < 50);
    assert.equal(await scene.host.sh('stat -c %s zeros; tail -c 3 zeros'), '1000003\nend');
    await scene.vm.sh('cd /mnt/share; printf XY | dd of=zeros bs=1 seek=10 conv=notrunc 2>/dev/null; sync');
    assert.equal(
      await scene.host.sh('head -c 14 zeros | od -An -c | tr -d " "'),
      '\\0\\0\\0\\0\\0\\0\\0\\0\\0\\0XY\\0\\0',
    );
  },
);

scenario(
  'a name that does not exist is asked for once, when that may be kept',
  { daemonArgs: ['--negative-timeout', '60'] },
  async (scene) => {
    assert.equal(await requestsOf(scene, 'for i in 1 2 3 4; do [ -e absent ] || true; done', 'LOOKUP'), 1);
    await scene.vm.sh('cd /mnt/share; echo there > absent; cat absent');
  },
);

scenario(
  'times set by hand come before those of the mode',
  { cache: 'never', daemonArgs: ['--entry-timeout', '60', '--attr-timeout', '60'] },
  async (scene) => {
    writeFileSync(scene.host.path('file'), 'one');
    await scene.vm.sh('stat /mnt/share/file');
    assert.equal(await requestsOf(scene, 'stat file; stat file', 'LOOKUP', 'GETATTR'), 0);
  },
);
