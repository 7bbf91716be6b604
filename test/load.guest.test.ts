/** Many processes at once, VMs that are killed, VMs side by side. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';

import { report } from '../bench/daemon-report.ts';
import { type Daemon, scenario } from '../lab/index.ts';

const MINUTES = 60_000;

const descriptors = (daemon: Daemon): number => readdirSync(`/proc/${daemon.pid}/fd`).length;

/** One of the eight: everything that a file can go through, in a folder of its own and in one that all share. */
const HAMMER = `
hammer() {
  cd /mnt/share; mkdir -p own$1 all; n=0
  while [ $(cut -d. -f1 /proc/uptime) -lt $2 ]; do
    echo "$1 $n" > own$1/f$n || exit 1
    [ "$(cat own$1/f$n)" = "$1 $n" ] || exit 2
    cp own$1/f$n all/$1.$n || exit 3
    mv all/$1.$n all/moved$1 || exit 4
    ln -f own$1/f$n own$1/link || exit 5
    dd if=/dev/zero of=own$1/block bs=64k count=4 2>/dev/null || exit 6
    truncate -s 1000 own$1/block || exit 7
    ls -l all > /dev/null || true
    mkdir own$1/d$n && rmdir own$1/d$n || exit 8
    [ $((n % 3)) -ne 0 ] || rm own$1/f$n || exit 9
    n=$((n+1))
  done
  echo $n
}
end=$(( $(cut -d. -f1 /proc/uptime) + 60 ))
pids=
for p in 1 2 3 4 5 6 7 8; do hammer $p $end & pids="$pids $!"; done
for p in $pids; do wait $p || exit $?; done`;

scenario(
  'eight processes hammer for a minute through four queues, without an error, and nothing is left behind',
  { queues: 4, cpus: 4, memoryMiB: 1024 },
  async ({ vm, daemon }) => {
    const before = (await report(daemon)).gauges;
    await vm.sh('umount /mnt/share && mount -t virtiofs share /mnt/share && ls /mnt/share');
    const descriptorsBefore = descriptors(daemon);
    const { code, stdout, stderr } = await vm.run(HAMMER, { timeoutMs: 3 * MINUTES });
    assert.equal(code, 0, stderr);
    const rounds = stdout.trim().split('\n').map(Number);
    assert.equal(rounds.length, 8);
    assert.ok(rounds.every((each) => each > 0));
    assert.notEqual((await report(daemon)).gauges, before, 'the gauges move');
    await vm.sh('rm -r /mnt/share/* && umount /mnt/share', { timeoutMs: MINUTES });
    assert.equal(
      (await report(daemon)).gauges,
      'inodes 1, inodeDescriptors 1, mounts 1, identitySwitches 0, handles 0',
    );
    assert.ok(descriptors(daemon) <= descriptorsBefore, `${descriptors(daemon)} descriptors`);
    await vm.sh('mount -t virtiofs share /mnt/share');
  },
);

scenario(
  'FORGET gives back what a guest drops from its caches',
  { queues: 2, cpus: 2 },
  async ({ vm, host, daemon }) => {
    await host.sh('mkdir d && cd d && for i in $(seq 500); do echo $i > $i; done');
    await vm.sh('ls -l /mnt/share/d > /dev/null');
    assert.match((await report(daemon)).gauges, /^inodes 502,/);
    await vm.sh('echo 2 > /proc/sys/vm/drop_caches');
    // Forgets are sent when the guest gets to it; the daemon hears of the last ones while it waits.
    let now = (await report(daemon)).gauges;
    for (let tries = 0; tries < 2000 && !now.startsWith('inodes 1,'); tries += 1) now = (await report(daemon)).gauges;
    assert.equal(now, 'inodes 1, inodeDescriptors 1, mounts 1, identitySwitches 0, handles 0');
  },
);

scenario(
  'killing the VM in the middle of writes ends the daemon cleanly, and what fsync confirmed is there',
  {},
  async (scene) => {
    const { vm, host, daemon } = scene;
    let confirmed = 0;
    let said = '';
    const writing = vm.run(
      `cd /mnt/share; i=1
       while :; do
         echo $i | dd of=w$i conv=fsync 2>/dev/null && echo $i
         dd if=/dev/zero of=noise bs=1M count=1 2>/dev/null
         i=$((i+1))
       done`,
      {
        timeoutMs: MINUTES,
        onStdout: (bytes) => {
          said += bytes.toString();
          confirmed = Number(said.trimEnd().split('\n').at(-1));
          if (confirmed >= 20 && said.endsWith('\n')) void vm.kill();
        },
      },
    );
    await assert.rejects(writing);
    const { code } = await daemon.waitForEnd();
    assert.equal(code, 0);
    assert.deepEqual(
      scene.socketPaths.filter((path) => statSync(path, { throwIfNoEntry: false })),
      [],
    );
    for (let i = 1; i <= confirmed; i += 1) assert.equal(readFileSync(host.path(`w${i}`), 'utf8'), `${i}\n`);
  },
);

scenario(
  'two VMs work in one directory, and one that is killed leaves the other undisturbed',
  { guests: 2 },
  async (scene) => {
    const [first, second] = scene.vms;
    const { host, daemon } = scene;
    writeFileSync(host.path('shared'), 'from the host\n');
    for (const vm of scene.vms) assert.equal(await vm.sh('cat /mnt/share/shared'), 'from the host');
    await first.sh('echo from the first > /mnt/share/a && sync');
    assert.equal(await second.sh('cat /mnt/share/a'), 'from the first');
    const going = second.run(
      `cd /mnt/share; i=0
       while [ ! -e stop ]; do echo $i > going; cat going > /dev/null || exit 1; i=$((i+1)); done
       echo $i`,
      {
        timeoutMs: MINUTES,
      },
    );
    void first.run('dd if=/dev/zero of=/mnt/share/big bs=1M count=500').catch(() => undefined);
    while (statSync(host.path('big'), { throwIfNoEntry: false }) === undefined) await nextTurn();
    await first.kill();
    assert.equal(await second.sh('echo still here > /mnt/share/b && cat /mnt/share/b'), 'still here');
    await host.sh(': > stop');
    const { code, stdout } = await going;
    assert.equal(code, 0);
    assert.ok(Number(stdout) > 0);
    assert.equal(daemon.ended, undefined);
  },
);
