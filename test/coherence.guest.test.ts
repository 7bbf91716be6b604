/** Who sees what, and when: two guests on one directory, the host, and mappings within one guest, by cache mode. */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import type { Report } from '../conformance/index.ts';
import { boot, type Daemon, GUEST_PROJECT, scenario, scenes, startDaemon, type Vm } from '../lab/index.ts';

/** Until a guest's command says what is expected: names and attributes may be kept for a second. */
async function comes(vm: Vm, command: string, expected: string): Promise<void> {
  await vm.sh(`cd /mnt/share; until [ "$(${command} 2>&1)" = '${expected}' ]; do usleep 20000; done`);
}

/** Through read(2): cat has the kernel splice, which goes by the size and the pages that the guest has. */
const READ = 'dd bs=100 count=1 <&3 2>/dev/null';

/** Writes, says so, and keeps the file open until somebody has looked. */
const HOLD = 'exec 3>direct; printf now >&3; touch said; until [ -e seen ]; do :; done';

const at = (vm: Vm, command: string): Promise<string> => vm.sh(`cd /mnt/share; ${command}`);

scenes('two guests, --cache never', { guests: 2, cache: 'never' }, (scene) => {
  scene('what one writes the other reads at once, by a file that it has open', async ({ vms: [one, two] }) => {
    await at(one, 'printf first > open');
    // One command: the descriptor is the shell's.
    const reading = at(two, `exec 3<open; ${READ}; touch opened; until [ -e written ]; do :; done; ${READ}`);
    await at(one, 'until [ -e opened ]; do :; done; printf -- -second >> open; touch written');
    assert.equal(await reading, 'first-second');
  });

  scene('what one writes over the other reads at once', async ({ vms: [one, two] }) => {
    for (const text of ['a', 'b', 'longer', 'c']) {
      await at(one, `printf ${text} > over`);
      assert.equal(await at(two, 'cat over; stat -c " %s" over'), `${text} ${text.length}`);
    }
  });

  scene('names that one makes, renames and removes are so for the other at once', async ({ vms: [one, two] }) => {
    await at(one, 'mkdir names; touch names/a');
    assert.equal(await at(two, 'ls names'), 'a');
    await at(two, 'mv names/a names/b');
    assert.equal(
      await at(one, 'ls names; cat names/a 2>&1 || true'),
      "b\ncat: can't open 'names/a': No such file or directory",
    );
    await at(one, 'rm names/b');
    assert.equal(await at(two, 'ls names'), '');
    await at(two, 'rmdir names');
    assert.equal(await at(one, '[ -e names ] || echo gone'), 'gone');
  });

  scene('modes, owners and times that one sets are so for the other at once', async ({ vms: [one, two] }) => {
    await at(one, 'touch attributes; chmod 640 attributes; chown 12:34 attributes; touch -d @1000000000 attributes');
    assert.equal(await at(two, 'stat -c "%a %u %g %Y" attributes'), '640 12 34 1000000000');
    await at(two, 'chmod 600 attributes');
    assert.equal(await at(one, 'stat -c %a attributes'), '600');
  });
});

scenes('two guests and the host, --cache never', { guests: 2, cache: 'never' }, (scene) => {
  scene('what both append to one file is all there', async ({ vms: [one, two] }) => {
    await Promise.all(
      [one, two].map((vm, i) => at(vm, `n=0; while [ $n -lt 200 ]; do echo ${i} >> log; n=$((n + 1)); done`)),
    );
    assert.equal(await at(one, 'sort log | uniq -c | tr -s " "'), ' 200 0\n 200 1');
  });

  scene('a file that one removes stays open for the other', async ({ vms: [one, two] }) => {
    await at(one, 'printf kept > removed');
    const reading = at(
      two,
      'exec 3<removed; touch held; until [ -e dropped ]; do :; done; cat <&3; ls removed 2>&1 || true',
    );
    await at(one, 'until [ -e held ]; do :; done; rm removed; touch dropped');
    assert.equal(await reading, 'keptls: removed: No such file or directory');
  });

  scene('what the host writes, renames and removes is so at once', async ({ vms: [one], host }) => {
    for (const text of ['x', 'host wrote this', 'y']) {
      writeFileSync(host.path('host'), text);
      assert.equal(await at(one, 'cat host'), text);
    }
    renameSync(host.path('host'), host.path('host2'));
    assert.equal(await at(one, 'ls host* '), 'host2');
  });

  scene('a mode that the host sets is so at once for whoever names the directory', async ({ vms: [one], host }) => {
    mkdirSync(host.path('walked'));
    // Somebody goes in and out all the time: what comes with the name holds for a tick.
    const walking = at(one, 'until [ -e walked/enough ]; do [ ! -e walked/x ]; done');
    for (const mode of ['700', '755', '711', '750', '700', '777', '701', '755']) {
      chmodSync(host.path('walked'), Number.parseInt(mode, 8));
      assert.equal(await at(one, 'stat -c %a walked'), mode);
    }
    writeFileSync(host.path('walked/enough'), '');
    await walking;
  });

  scene('what a guest writes the host has when the write returns', async ({ vms: [one], host }) => {
    const writing = at(one, HOLD);
    await at(one, 'until [ -e said ]; do :; done');
    assert.equal(readFileSync(host.path('direct'), 'utf8'), 'now');
    writeFileSync(host.path('seen'), '');
    await writing;
  });
});

scenes('two guests, --cache auto', { guests: 2, cache: 'auto' }, (scene) => {
  scene('what one writes and closes the other reads when it opens the file next', async ({ vms: [one, two] }) => {
    await at(one, 'printf first > file');
    await comes(two, 'cat file', 'first');
    await at(one, 'printf second > file');
    await comes(two, 'cat file', 'second');
    await at(two, 'printf "third, longer" > file');
    await comes(one, 'cat file', 'third, longer');
  });

  scene('pages that are kept are those of the file as it is: of the same size too', async ({ vms: [one, two] }) => {
    await at(one, 'dd if=/dev/zero of=pages bs=64k count=16 2>/dev/null');
    const zeros = await at(two, 'md5sum < pages');
    assert.equal(await at(two, 'md5sum < pages'), zeros);
    await at(one, 'printf X | dd of=pages bs=1 seek=500000 conv=notrunc 2>/dev/null');
    await comes(two, 'md5sum < pages', await at(one, 'md5sum < pages'));
    assert.notEqual(await at(two, 'md5sum < pages'), zeros);
  });

  scene('names that one makes and removes come and go for the other', async ({ vms: [one, two] }) => {
    await at(one, 'mkdir d; touch d/a');
    await comes(two, 'ls d', 'a');
    await at(two, 'mv d/a d/b');
    await comes(one, 'ls d', 'b');
    await at(one, 'rm -r d');
    await comes(two, 'ls -d d', 'ls: d: No such file or directory');
  });

  scene('modes that one sets come to the other', async ({ vms: [one, two] }) => {
    await at(one, 'touch mode; chmod 640 mode');
    await comes(two, 'stat -c %a mode', '640');
    await at(two, 'chmod 600 mode');
    await comes(one, 'stat -c %a mode', '600');
  });

  scene('what the host writes is read at the next open', async ({ vms: [one], host }) => {
    writeFileSync(host.path('host'), 'one');
    await comes(one, 'cat host', 'one');
    writeFileSync(host.path('host'), 'two, longer');
    await comes(one, 'cat host', 'two, longer');
    appendFileSync(host.path('host'), '!');
    await comes(one, 'cat host', 'two, longer!');
  });

  scene('what a guest writes and closes the host has', async ({ vms: [one], host }) => {
    await at(one, 'printf closed > written');
    assert.equal(readFileSync(host.path('written'), 'utf8'), 'closed');
    await at(one, 'chmod 600 written');
    assert.equal(statSync(host.path('written')).mode & 0o777, 0o600);
  });
});

scenario(
  'always: what the host wrote is read at the latest when the guest has dropped what it keeps',
  { cache: 'always' },
  async ({ vm, host }) => {
    writeFileSync(host.path('file'), 'before');
    assert.equal(await at(vm, 'cat file'), 'before');
    writeFileSync(host.path('file'), 'after, and longer');
    // What was used of late survives the first time, and maybe the next.
    await at(vm, 'until [ "$(cat file)" = "after, and longer" ]; do echo 3 > /proc/sys/vm/drop_caches; done');
  },
);

/** Modes of shares that one guest has at once; auto is that of test/conformance.guest.test.ts. */
const MODES = [['always'], ['always', '--writeback'], ['never', '--allow-mmap']] as const;

test('mappings, reads and writes of one guest see one file, in every mode that has mappings', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-coherence-'));
  const daemons: Daemon[] = [];
  try {
    const shares = MODES.map((_, i) => ({
      socketPath: join(folder, `${i}.sock`),
      tag: `share${i}`,
      mountPoint: `/mnt/${i}`,
    }));
    for (const [i, [cache, ...args]] of MODES.entries()) {
      const sharedDir = join(folder, `share${i}`);
      mkdirSync(sharedDir);
      daemons.push(await startDaemon({ sharedDir, socketPaths: [shares[i].socketPath], cache, args }));
    }
    await using vm = await boot({ shares, node: true });
    const points = shares.map(({ mountPoint }) => mountPoint);
    const pairs = [points.slice(0, 2), points.slice(2)].map(([one, two]) => (two ? [one, '--yardstick', two] : [one]));
    for (const words of pairs) {
      const command = `node --disable-warning=ExperimentalWarning ${GUEST_PROJECT}/src/cli/main.ts conformance`;
      const out = await vm.sh(`${command} ${words.join(' ')} --filter mmap: --json || true`, { timeoutMs: 120_000 });
      const { report, yardstick } = JSON.parse(out) as { report: Report; yardstick?: Report };
      for (const { outcomes, target } of [report, yardstick ?? report]) {
        assert.ok(outcomes.length >= 20, `${outcomes.length} behaviours`);
        assert.deepEqual(
          outcomes.filter(({ verdict }) => verdict !== 'passed'),
          [],
          target,
        );
      }
    }
  } finally {
    await Promise.all(daemons.map((daemon) => daemon.kill()));
    rmSync(folder, { recursive: true, force: true });
  }
});
