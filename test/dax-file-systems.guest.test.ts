/** DAX over files of other file systems, which the host has mounted below the shared folder. It takes root. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { type Scene, type SceneOptions, scenes } from '../lab/index.ts';
import { mount, run, umount } from './host-mounts.ts';

const PROGRAM = 'node --disable-warning=ExperimentalWarning /opt/virtiofs/test/guest/mapped-counter.ts';
const SIZES = [1, 4097, 2 * 2 ** 20, 3 * 2 ** 20 + 123];
const MAKE_FILES = `for i in ${SIZES.join(' ')}; do head -c $i /dev/urandom > $i; done
  head -c 4096 /dev/urandom > counter; head -c 8 /dev/zero | dd of=counter conv=notrunc 2>&1
  truncate -s 6291456 sparse; printf data | dd of=sparse bs=1 seek=4200000 conv=notrunc 2>&1`;
const SUMS = 'md5sum [0-9]* sparse';

/** A loop device with a fresh file system. */
function mountDisk(type: string, path: string): void {
  const image = join(path, '..', `${type}.image`);
  writeFileSync(image, '');
  // The least that mkfs.xfs makes.
  truncateSync(image, 300 * 2 ** 20);
  run(`mkfs.${type}`, '-q', image);
  mount(path, '-t', type, '-o', 'loop', image);
}

function mountOverlay(path: string): void {
  const changes = `${path}-changes`;
  mount(changes, '-t', 'tmpfs', 'none');
  for (const each of ['lower', 'upper', 'work']) mkdirSync(join(changes, each));
  const folders = `lowerdir=${changes}/lower,upperdir=${changes}/upper,workdir=${changes}/work`;
  mount(path, '-t', 'overlay', '-o', folders, 'none');
}

const MOUNTS: Readonly<Record<string, (path: string) => void>> = {
  tmpfs: (path) => mount(path, '-t', 'tmpfs', 'none'),
  overlay: mountOverlay,
  ext4: (path) => mountDisk('ext4', path),
  xfs: (path) => mountDisk('xfs', path),
  btrfs: (path) => mountDisk('btrfs', path),
};

/** Why the host has no such file system, or undefined. */
function whyNot(type: string): string | undefined {
  if (process.getuid?.() !== 0) return 'mounting on the host takes root';
  const known = readFileSync('/proc/filesystems', 'utf8').split(/\s+/).includes(type);
  if (!known) return `this kernel has no ${type}`;
  const needsProgram = type !== 'tmpfs' && type !== 'overlay';
  const missing = needsProgram && spawnSync(`mkfs.${type}`, ['-V']).error !== undefined;
  return missing ? `mkfs.${type} is not in PATH` : undefined;
}

async function checkFiles(type: string, { vm, host }: Scene): Promise<void> {
  const there = `/mnt/share/${type}`;
  await host.sh(`cd ${type}; ${MAKE_FILES}`);
  assert.equal(await vm.sh(`cd ${there}; ${SUMS}`), await host.sh(`cd ${type}; ${SUMS}`));
  await vm.sh(`${PROGRAM} ${there}/counter 1000`);
  assert.equal(await host.sh(`od -An -t d4 -N 4 ${type}/counter | tr -d ' '`), '1000');
  // A store into a hole, into the range that was read before, and the rest of it stays zero.
  await vm.sh(`${PROGRAM} ${there}/sparse 77; printf more | dd of=${there}/sparse bs=1 seek=2100000 conv=notrunc`);
  assert.equal(
    await host.sh(`cd ${type}; od -An -t d4 -N 4 sparse | tr -d ' '; tail -c +2100001 sparse | head -c 4`),
    '77\nmore',
  );
  assert.equal(await host.sh(`tr -d '\\000' < ${type}/sparse | wc -c`), '9');
  assert.equal(await vm.sh(`cd ${there}; ${SUMS}`), await host.sh(`cd ${type}; ${SUMS}`));
}

const sentence = (type: string): string => `on ${type} they read right, holes too, and what is stored is on the host`;
const types = Object.keys(MOUNTS);
const mountable = types.filter((type) => whyNot(type) === undefined);
for (const type of types) {
  const skip = whyNot(type);
  if (skip !== undefined) test(sentence(type), { skip }, () => undefined);
}

const OPTIONS: SceneOptions = {
  ...{ daxWindow: '64M', mountOptions: 'dax=always', node: true, cpus: 2 },
  prepare: (shared) => {
    for (const type of mountable) MOUNTS[type](join(shared, type));
  },
};

if (mountable.length > 0) {
  scenes('files of other file systems, mapped', OPTIONS, (scene) => {
    for (const type of mountable) scene(sentence(type), (stage) => checkFiles(type, stage));
    scene(
      'a hole for which there is no room is an error in the guest, and not the end of its VM',
      async ({ vm, host }) => {
        mount(host.path('full'), '-t', 'tmpfs', '-o', 'size=1m', 'none');
        await host.sh('truncate -s 8388608 full/sparse; printf there > full/other');
        const wanted = await vm.run('dd if=/dev/zero of=/mnt/share/full/sparse bs=4k seek=1024 count=256 conv=notrunc');
        assert.match(wanted.stderr, /No space left on device/);
        assert.notEqual((await vm.run('cat /mnt/share/full/sparse > /dev/null')).code, 0);
        assert.equal(await vm.sh('cat /mnt/share/full/other'), 'there');
        await vm.sh('umount /mnt/share/full');
        umount(host.path('full'), '-l');
      },
    );

    scene('the host takes the mounts away', async ({ vm, host }) => {
      // Where it has been the guest has made mounts of its own, which go by themselves when the host has none there.
      for (const type of mountable) await vm.sh(`umount /mnt/share/${type}`);
      for (const type of mountable) umount(host.path(type), '-l');
      if (mountable.includes('overlay')) umount(host.path('overlay-changes'), '-l');
    });
  });
}
