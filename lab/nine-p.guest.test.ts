import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { boot } from './index.ts';

test('the generic kernel has the same folder by 9p twice, in two cache modes, and a disk', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-9p-'));
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'file'), 'there');
  const share = (cache: string) =>
    ({
      kind: '9p',
      sharedDir: folder,
      tag: cache,
      mountPoint: `/mnt/${cache}`,
      mountOptions: `cache=${cache}`,
    }) as const;
  const disks = [{ mountPoint: '/mnt/disk', fileSystem: 'ext4', sizeMiB: 64 }] as const;
  try {
    await using vm = await boot({ kernel: '6.12-generic', shares: [share('mmap'), share('loose')], disks });
    const mounted = await vm.sh("grep ' 9p ' /proc/mounts");
    assert.match(mounted, /^mmap \/mnt\/mmap 9p [^\n]*cache=0x5,[^\n]*msize=512000/m);
    assert.match(mounted, /^loose \/mnt\/loose 9p [^\n]*cache=0xf,/m);
    assert.equal(await vm.sh('cat /mnt/mmap/file /mnt/loose/file'), 'therethere');
    assert.equal(await vm.sh("grep -c ' /mnt/disk ext4 ' /proc/mounts"), '1');
  } finally {
    rmSync(folder, { recursive: true });
  }
});
