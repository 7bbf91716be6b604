/** Files and trees of a real size and of every kind, seen from both sides. */
import assert from 'node:assert/strict';
import { lstatSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs';

import { report } from '../bench/daemon-report.ts';
import { scenes } from '../lab/index.ts';

const MINUTES = 60_000;
const GIB = 2 ** 30;

/** A shell script that prints a checksum over names and contents of the tree below the working directory. */
const TREE_SUM = 'find . -type f | sort | xargs cat | md5sum';

const GUEST = { kernel: '6.12', queues: 2, cpus: 2, memoryMiB: 1024 };

scenes('a guest and much data', GUEST, (scene) => {
  scene('copies a tree of 10,000 files in, lists, sums, renames and removes it', async ({ vm, host }) => {
    await vm.sh(
      `mkdir /tmp/tree && cd /tmp/tree && i=0 && while [ $i -lt 100 ]; do
         mkdir $i; j=0; while [ $j -lt 100 ]; do echo "$i $j" > $i/file$j; j=$((j+1)); done; i=$((i+1)); done`,
      { timeoutMs: 2 * MINUTES },
    );
    const sum = await vm.sh(`cd /tmp/tree && ${TREE_SUM}`, { timeoutMs: 2 * MINUTES });
    await vm.sh('cp -r /tmp/tree /mnt/share/tree', { timeoutMs: 3 * MINUTES });
    assert.equal(await host.sh(`cd tree && ${TREE_SUM}`), sum);
    assert.equal(await vm.sh(`cd /mnt/share/tree && ${TREE_SUM}`, { timeoutMs: 2 * MINUTES }), sum);
    const listed = await vm.sh('ls -lR /mnt/share/tree | grep -c "^-rw"', { timeoutMs: 2 * MINUTES });
    assert.equal(listed, '10000');
    await vm.sh('mv /mnt/share/tree /mnt/share/moved && mv /mnt/share/moved/1 /mnt/share/moved/1000');
    assert.equal(await host.sh('find moved -type f | wc -l'), '10000');
    assert.equal(readdirSync(host.path('moved', '1000')).length, 100);
    await vm.sh('rm -r /mnt/share/moved', { timeoutMs: 2 * MINUTES });
    assert.deepEqual(readdirSync(host.folder), []);
  });

  scene('reads a file of 1 GiB that the host wrote, and writes one that the host reads', async ({ vm, host }) => {
    await host.sh('head -c 1073741824 /dev/urandom > host');
    await vm.sh('cd /mnt/share && dd if=host of=guest bs=1M 2>/dev/null', { timeoutMs: 5 * MINUTES });
    assert.equal(statSync(host.path('guest')).size, GIB);
    await host.sh('cmp host guest; rm host guest');
  });

  scene('moves a megabyte in one request', async ({ vm, daemon, host }) => {
    const before = (await report(daemon)).requests;
    await vm.sh('cd /mnt/share && dd if=/dev/zero of=direct bs=1M count=8 oflag=direct');
    await vm.sh('cd /mnt/share && dd if=direct of=/dev/null bs=1M iflag=direct');
    const after = (await report(daemon)).requests;
    for (const opcode of ['READ', 'WRITE'])
      assert.equal((after.get(opcode) ?? 0) - (before.get(opcode) ?? 0), 8, opcode);
    await host.sh('rm direct');
  });
});

scenes('a guest and files of every kind', GUEST, (scene) => {
  scene('keeps holes, truncates, appends', async ({ vm, host }) => {
    await vm.sh('cd /mnt/share && dd if=/dev/zero of=holes bs=4096 count=1 seek=100000 2>/dev/null && sync');
    const { size, blocks } = statSync(host.path('holes'));
    assert.equal(size, 100_001 * 4096);
    assert.ok(blocks * 512 < 1_000_000, `${blocks} blocks for 4096 bytes of data`);
    await vm.sh('cd /mnt/share && truncate -s 5000 holes && printf end >> holes && truncate -s 6000 holes');
    assert.equal(
      await host.sh('stat -c %s holes; tail -c 1000 holes | head -c 3; tail -c 1 holes | od -An -tx1'),
      '6000\nend 00',
    );
    await host.sh('printf "from the host\\n" >> log');
    await vm.sh(
      'cd /mnt/share && for i in 1 2 3 4; do (for j in 1 2 3 4 5; do echo "$i $j" >> log; done) & done; wait',
    );
    assert.equal(await host.sh('wc -l < log; sort log | uniq -d | wc -l; rm log holes'), '21\n0');
  });

  scene('makes hard links, symlinks and FIFOs that are such on the host', async ({ vm, host }) => {
    await vm.sh('cd /mnt/share && echo x > file && ln file hard && ln -s "no such/target" soft && mkfifo -m 640 fifo');
    assert.equal(lstatSync(host.path('file')).ino, lstatSync(host.path('hard')).ino);
    assert.equal(lstatSync(host.path('hard')).nlink, 2);
    assert.equal(readlinkSync(host.path('soft')), 'no such/target');
    assert.ok(lstatSync(host.path('fifo')).isFIFO());
    assert.equal(lstatSync(host.path('fifo')).mode & 0o777, 0o640);
    assert.equal(
      await vm.sh('cd /mnt/share && (echo through > fifo &) && cat fifo && readlink soft'),
      'through\nno such/target',
    );
    await vm.sh('cd /mnt/share && ln soft soft2 && rm file && cat hard && rm hard soft soft2 fifo');
    assert.deepEqual(readdirSync(host.folder), []);
  });

  scene('takes names of 255 bytes and of every byte but / and NUL', async ({ vm, host }) => {
    const long = 'n'.repeat(255);
    await vm.sh(`cd /mnt/share && echo long > ${long} && cat ${long} && ! echo x > ${long}n 2>/dev/null`);
    assert.deepEqual(readdirSync(host.folder), [long]);
    await host.sh(`rm ${long}`);
    // One name for each byte, made in the guest by its octal number.
    await vm.sh(`cd /mnt/share && i=1 && while [ $i -lt 256 ]; do
      [ $i -eq 47 ] || [ $i -eq 10 ] || echo $i > "$(printf "x\\\\$(printf %o $i)y")"; i=$((i+1)); done; echo 10 > "x
y"`);
    const names = readdirSync(host.folder, { encoding: 'buffer' });
    const bytes = names.map((name) => name[1]).toSorted((a, b) => a - b);
    assert.deepEqual(
      bytes,
      Array.from({ length: 255 }, (_, i) => i + 1).filter((byte) => byte !== 47),
    );
    assert.equal(
      await vm.sh('cd /mnt/share && ls | wc -c; cat x*y | sort -n | tail -1; rm x*y; ls | wc -l'),
      '1022\n255\n0'.replace('1022', String(names.length * 4)),
    );
  });
});

scenes('a guest and crowds, and its users', GUEST, (scene) => {
  scene('lists a directory of 100,000 entries whole while others come and go', async ({ vm, host }) => {
    await host.sh('mkdir many');
    for (let i = 0; i < 100_000; i += 1) writeFileSync(host.path('many', `steady${i}`), '');
    const churn = vm.run(
      `cd /mnt/share/many && i=0
       while [ ! -e ../stop ]; do : > churn$i; [ $i -lt 20 ] || rm churn$((i-20)); i=$((i+1)); done
       echo $i`,
      { timeoutMs: 5 * MINUTES },
    );
    for (let round = 0; round < 2; round += 1) {
      const listed = await vm.sh('ls /mnt/share/many | grep steady | sort | uniq | wc -l', {
        timeoutMs: 3 * MINUTES,
      });
      assert.equal(listed, '100000');
    }
    const long = await vm.sh('ls -l /mnt/share/many | grep -c " steady"', { timeoutMs: 4 * MINUTES });
    assert.equal(long, '100000');
    await host.sh(': > stop');
    assert.ok(Number((await churn).stdout) > 20);
    await host.sh('rm -r many stop');
  });

  scene('creates files with the owner, the group and the mode that the guest gives', async ({ vm, host }) => {
    await vm.sh('chmod 777 /mnt/share && echo somebody:x:1234:1234::/:/bin/sh >> /etc/passwd');
    await vm.sh("su somebody -c 'cd /mnt/share && umask 027 && echo x > theirs && mkdir dir && ln -s a link'");
    for (const [name, mode] of [
      ['theirs', 0o640],
      ['dir', 0o750],
    ] as const) {
      const found = lstatSync(host.path(name));
      assert.deepEqual([found.uid, found.mode & 0o7777], [1234, mode], name);
    }
    assert.equal(lstatSync(host.path('link')).uid, 1234);
    await vm.sh('cd /mnt/share && chown 77:88 theirs && chmod 4755 theirs && touch -d "2001-02-03 04:05:06" theirs');
    const { uid, gid, mode, mtimeMs } = statSync(host.path('theirs'));
    assert.deepEqual([uid, gid, mode & 0o7777], [77, 88, 0o4755]);
    assert.equal(mtimeMs, Date.UTC(2001, 1, 3, 4, 5, 6));
    await vm.sh('cd /mnt/share && rm -r theirs dir link');
  });
});
