import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeDisk } from './disk.ts';
import { boot } from './index.ts';

const MOUNTED = `for point in big small; do
  grep " /mnt/$point ext4 " /proc/mounts | cut -d ' ' -f 2,4 && df -Pm /mnt/$point | awk 'NR == 2 { print ($2 > 1000) }'
done`;

for (const kernel of ['6.12', '7.3']) {
  test(`Linux ${kernel} has its disks mounted, each in its place, and they are gone with the guest`, async () => {
    const big = { mountPoint: '/mnt/big', fileSystem: 'ext4', sizeMiB: 2048 } as const;
    const small = { mountPoint: '/mnt/small', fileSystem: 'ext4', sizeMiB: 64, mountOptions: 'noatime' } as const;
    const vm = await boot({ kernel, disks: [big, small] });
    let image = '';
    try {
      const mounted = ['/mnt/big rw,relatime,noinit_itable', '1', '/mnt/small rw,noatime,noinit_itable', '0'];
      assert.deepEqual((await vm.sh(MOUNTED)).split('\n'), mounted);
      await vm.sh('touch /mnt/small/a; sync');
      image = /file=([^,\0]+disk0)/.exec(readFileSync(`/proc/${vm.pid}/cmdline`, 'utf8'))?.[1] ?? '';
      assert.ok(existsSync(image));
      await vm.reset();
      assert.deepEqual((await vm.sh('ls /mnt/small')).split('\n'), ['a', 'lost+found']);
    } finally {
      await vm.stop();
    }
    assert.ok(!existsSync(image));
  });
}

test('a machine without mke2fs fetches one', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-disk-'));
  try {
    const path = join(folder, 'image');
    await makeDisk(path, { mountPoint: '/mnt', fileSystem: 'ext4', sizeMiB: 64 }, {}, '');
    // s_magic of the superblock (Documentation/filesystems/ext4/super.rst).
    assert.equal(readFileSync(path).readUInt16LE(1024 + 0x38), 0xef53);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a disk that is too small to be formatted is refused in the words of mke2fs', async () => {
  const disk = { mountPoint: '/mnt/disk', fileSystem: 'ext4', sizeMiB: 0 } as const;
  await assert.rejects(boot({ disks: [disk] }), {
    code: 'MKFS',
    message: /0 MiB for \/mnt\/disk cannot be formatted: /,
  });
});
