/** DAX in real guests, on stock QEMU: the guest maps the host's page cache. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { report } from '../bench/daemon-report.ts';
import { type Scene, type SceneOptions, scenario, scenes } from '../lab/index.ts';

const MIB = 2 ** 20;
/** Where the last page, and the last range, begin and end. */
const SIZES = [
  ...[0, 1, 4095, 4096, 4097, 5000],
  ...[2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 3 * MIB + 123, 100 * MIB + 123],
];
const ALWAYS = 'dax=always';
const DRIVER = '/sys/bus/virtio/drivers/virtiofs';
const SUMS = 'md5sum *';
const LONG = { timeoutMs: 120_000 };

const fill = (folder: string): void => {
  for (const size of SIZES) writeFileSync(join(folder, `${size}`), randomBytes(size));
};

const checkSums = async ({ vm, host }: Scene): Promise<void> =>
  assert.equal(await vm.sh(`cd /mnt/share; ${SUMS}`, LONG), await host.sh(SUMS));

/** How often the guest asked for something. */
async function requests({ daemon }: Scene, opcode: string): Promise<number> {
  return (await report(daemon)).requests.get(opcode) ?? 0;
}

const DAX: SceneOptions = { daxWindow: '512M', mountOptions: ALWAYS, cache: 'always', prepare: fill };

scenes('a window in which all files have room', DAX, (scene) => {
  scene('files of every size read right, and what was read once takes no message', async (stage) => {
    const { vm, host } = stage;
    assert.match(await vm.sh('dmesg'), /virtiofs virtio\d+: Cache len: 0x20000000/);
    await checkSums(stage);
    const before = await requests(stage, 'SETUPMAPPING');
    await checkSums(stage);
    assert.equal(await requests(stage, 'SETUPMAPPING'), before);
    assert.equal(await requests(stage, 'READ'), 0);
    assert.equal(await host.sh('stat -c %s 0'), '0', 'an empty file has grown');
  });

  scene(
    'what the guest writes is on the host at once, and what the host writes is in the guest',
    async ({ vm, host }) => {
      await vm.sh('cd /mnt/share; printf there | dd of=5000 bs=1 seek=4990 conv=notrunc 2>/dev/null');
      assert.equal(await host.sh('tail -c 10 5000 | head -c 5; stat -c %s 5000'), 'there5000');
      await host.sh('printf here! | dd of=5000 bs=1 seek=10 conv=notrunc 2>/dev/null');
      assert.equal(await vm.sh('tail -c +11 /mnt/share/5000 | head -c 5'), 'here!');
    },
  );

  scene('files that grow and shrink in the guest are right, tails included', async (stage) => {
    await stage.vm.sh(`cd /mnt/share; set -e
      for i in 1 2 3 4 5 6 7 8; do head -c 1777 /dev/urandom >> grown; cat grown > /dev/null; done
      dd if=/dev/urandom of=grown bs=1k seek=2040 count=20 conv=notrunc 2>/dev/null; cat grown > /dev/null
      truncate -s 3000 3145851; cat 3145851 > /dev/null; truncate -s 9000 3145851; cat 3145851 > /dev/null
      cp 2097151 copy; printf x >> copy; cat copy > /dev/null`);
    await checkSums(stage);
  });

  scene('goes on while the VM stands still', async (stage) => {
    await stage.vm.qmp('stop');
    await stage.vm.qmp('cont');
    await checkSums(stage);
  });

  scene('is unmounted and mounted, and its driver unbound and bound, after that', async (stage) => {
    const { vm } = stage;
    const device = await vm.sh(`ls ${DRIVER} | grep virtio`);
    await vm.sh(`umount /mnt/share && echo ${device} > ${DRIVER}/unbind && echo ${device} > ${DRIVER}/bind`);
    await vm.sh(`mount -t virtiofs -o ${ALWAYS} share /mnt/share`);
    await checkSums(stage);
  });

  scene('is there again after a reset and a reboot with ranges mapped', async (stage) => {
    await stage.vm.reset();
    await checkSums(stage);
    await stage.vm.reboot();
    await checkSums(stage);
  });
});

scenario(
  'a window too small for a file shows it all the same',
  { ...DAX, daxWindow: '32M', queues: 2, cpus: 2 },
  async (stage) => {
    await checkSums(stage);
    await checkSums(stage);
    assert.ok((await requests(stage, 'REMOVEMAPPING')) > 0);
    assert.equal(await requests(stage, 'READ'), 0);
  },
);

scenario(
  'without a mount option files of --dax-min-size and more are mapped, and the others read',
  { ...DAX, mountOptions: undefined, daemonArgs: ['--dax-min-size', '5000'] },
  async (stage) => {
    const { vm } = stage;
    await vm.sh('cd /mnt/share; cat 4095 4096 4097 > /dev/null');
    assert.equal(await requests(stage, 'SETUPMAPPING'), 0);
    await vm.sh('cd /mnt/share; cat 5000 2097152 > /dev/null');
    assert.equal(await requests(stage, 'SETUPMAPPING'), 2);
    await checkSums(stage);
  },
);

const PROGRAMS = 'node --disable-warning=ExperimentalWarning /opt/virtiofs/test/guest';
const COUNT = `${PROGRAMS}/mapped-counter.ts`;
const WRITE_MAPPED = `${PROGRAMS}/write-mapped.ts`;
/** With one CPU, QEMU's emulation takes no instruction for atomic. */
const COUNTERS: SceneOptions = { ...DAX, guests: 2, cpus: 2, node: true, prepare: undefined };

scenes('two guests of one daemon', COUNTERS, (scene) => {
  scene('count together in one mapped page, and lose nothing', async ({ vms, host }) => {
    await host.sh('head -c 4096 /dev/zero > page');
    await Promise.all(vms.map((vm) => vm.sh(`${COUNT} /mnt/share/page 1000000 2`, LONG)));
    assert.equal(await host.sh("od -An -t d4 -N 8 page | tr -s ' '"), ' 2000000 2');
  });

  scene('take what is mapped for a buffer as good as any', async ({ vms: [vm], host }) => {
    await host.sh('head -c 3145851 /dev/urandom > source');
    await vm.sh(`cd /mnt/share; ${WRITE_MAPPED} source written; ${WRITE_MAPPED} source direct --direct`);
    assert.equal(await host.sh('cmp source written && cmp source direct && echo same'), 'same');
  });

  scene('live on when one makes a file shorter that the other has mapped, and see it grow again', async (stage) => {
    const { host } = stage;
    const [first, second] = stage.vms;
    const sum = 'md5sum < /mnt/share/file';
    await host.sh('head -c 5000000 /dev/urandom > file; cp file whole; head -c 5000 file > start');
    for (const vm of stage.vms) assert.equal(await vm.sh(sum), await host.sh('md5sum < file'));
    await second.sh('truncate -s 5000 /mnt/share/file');
    // The first believes the file to be as long as ever, and touches all of it: its VMM would be killed.
    assert.equal(
      await first.sh('wc -c < /mnt/share/file; head -c 5000 /mnt/share/file | md5sum'),
      await host.sh('echo 5000000; md5sum < start'),
    );
    assert.equal(await first.sh('tail -c +8193 /mnt/share/file | tr -d "\\000" | wc -c'), '0');
    await second.sh('cat /mnt/share/whole > /mnt/share/file');
    for (const vm of stage.vms) {
      // Names and attributes are the guest's for a day. Any answer of the daemon puts back what was taken out.
      await vm.sh('echo 3 > /proc/sys/vm/drop_caches; touch /mnt/share/other');
      assert.equal(await vm.sh(sum), await host.sh('md5sum < whole'));
    }
    assert.equal(await second.sh(': > /mnt/share/file; wc -c < /mnt/share/file'), '0');
    assert.equal(await first.sh('cat /mnt/share/file | wc -c'), '5000000');
  });

  scene('one goes without a word, and the other goes on', async ({ vms, host }) => {
    await host.sh('head -c 5000000 /dev/urandom > last');
    for (const vm of vms) await vm.sh('md5sum < /mnt/share/last');
    await vms[0].kill();
    await host.sh('head -c 5000000 /dev/urandom > new');
    assert.equal(await vms[1].sh('md5sum < /mnt/share/new'), await host.sh('md5sum < new'));
  });
});
