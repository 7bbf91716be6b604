/** Mounts on the host below the share, seen from a real guest. They take root. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';

import { type Scene, type SceneOptions, scenario } from '../lab/index.ts';

const MOUNT = 'mkdir -p a b plain/inner bound; mount -t tmpfs -o size=1m none a; mount -t tmpfs -o size=2m none b';
const UNMOUNT = 'for i in a b bound; do while mountpoint -q $i; do umount -l $i; done; done';

/** A scenario with two tmpfs and a bind mount, which are gone from the host at its end. */
function mounted(sentence: string, options: SceneOptions, body: (scene: Scene) => Promise<void>): void {
  if (process.getuid?.() !== 0) {
    test(sentence, { skip: 'mounting on the host takes root' }, () => undefined);
    return;
  }
  scenario(sentence, options, async (scene) => {
    const { host } = scene;
    try {
      await host.sh(`${MOUNT}; mount --bind plain bound`);
      for (const name of ['a', 'b', 'plain']) writeFileSync(host.path(name, 'file'), name);
      await body(scene);
      // A guest takes a mount away by itself when the host has none there any more.
      await scene.vm.sh('for i in a b bound; do umount /mnt/share/$i 2>/dev/null || true; done');
    } finally {
      await host.sh(UNMOUNT);
    }
  });
}

/** `stat -c` of each path, after its mount has been entered. */
const statEach = (format: string, ...paths: string[]): string =>
  `cd /mnt/share; for i in ${paths.join(' ')}; do ls $i/ > /dev/null; stat -c ${format} $i/.; done`;

mounted('mounts on the host are mounts in the guest', { kernel: '6.12' }, async ({ vm, host }) => {
  const devices = (await vm.sh(statEach('%d', '.', 'a', 'b', 'bound'))).split('\n');
  assert.equal(new Set(devices).size, 4, `device numbers ${devices.join(', ')}`);
  const sizes = (await vm.sh('df -k /mnt/share/a /mnt/share/b | tail -n 2')).split('\n');
  assert.deepEqual(
    sizes.map((line) => line.split(/ +/)[1]),
    ['1024', '2048'],
  );
  // A mount that nobody has entered yet, and one that somebody has, stay out of what keeps to one device.
  const found = await vm.sh('cd /mnt/share; find . -xdev -name file; find a -xdev -name file');
  assert.deepEqual(found.split('\n'), ['./plain/file', 'a/file']);
  await vm.sh('cd /mnt/share; dd if=/dev/zero of=b/zeros bs=1M count=1 2>/dev/null; sync');
  assert.ok(Number((await vm.sh('cd /mnt/share; du -xs -k .')).split('\t')[0]) < 1000, 'du -x counts b in');
  assert.equal(await vm.sh('cd /mnt/share; cat a/file b/file bound/file'), 'abplain');
  await vm.sh('cd /mnt/share; if ln a/file b/hard 2>/dev/null; then exit 1; fi; mv a/file b/moved; cat b/moved');
  assert.equal(await host.sh('ls a b; cat b/moved'), 'a:\n\nb:\nfile\nmoved\nzeros\na');
});

mounted('a mount that the guest lets go of can be unmounted on the host', { cache: 'never' }, async ({ vm, host }) => {
  await vm.sh('cat /mnt/share/a/file');
  assert.equal(await host.sh('umount a 2>/dev/null && echo gone || echo busy'), 'busy');
  await vm.sh('umount /mnt/share/a; echo 3 > /proc/sys/vm/drop_caches');
  // The guest's FORGETs are answered by nobody: the host hears of them when it can unmount.
  await host.sh('until umount a 2>/dev/null; do sleep 0.01; done; echo under > a/under');
  assert.equal(await vm.sh('cat /mnt/share/a/under'), 'under');
  await host.sh('mount -t tmpfs -o size=3m none a; echo anew > a/file');
  assert.equal(await vm.sh('cat /mnt/share/a/file'), 'anew');
});

mounted(
  'without announcing, one device has all files, and none has the number of another',
  { kernel: '6.12', daemonArgs: ['--no-announce-submounts'] },
  async ({ vm, host }) => {
    assert.equal(await host.sh('stat -c %i a/file b/file | uniq | wc -l'), '1', 'the host has the same number twice');
    const devices = await vm.sh(statEach('%d', '.', 'a', 'b', 'bound'));
    assert.equal(new Set(devices.split('\n')).size, 1);
    const numbers = (await vm.sh('cd /mnt/share; stat -c %i . a b a/file b/file plain/file')).split('\n');
    assert.equal(new Set(numbers).size, 6, numbers.join(', '));
    const listed = (await vm.sh('cd /mnt/share; ls -i a/file b/file; ls -i a b')).match(/\d+(?= )/g) ?? [];
    assert.deepEqual(listed.slice(0, 2), numbers.slice(3, 5));
    // Copied as one thing, two files that were taken for one would be links of each other.
    await vm.sh('cd /mnt/share; cp -a a b /tmp; cat /tmp/a/file /tmp/b/file');
  },
);
