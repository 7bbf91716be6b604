/** A real guest on a host whose disk is full, and one that changes the attributes of files on the host. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { test } from 'node:test';

import { report } from '../bench/daemon-report.ts';
import { type Scene, type SceneOptions, scenario } from '../lab/index.ts';

const MINUTE = 60_000;
const PIECE = 256 * 1024;
/** Text of which no two pieces are alike. */
const PATTERN = Buffer.from(
  Array.from({ length: 80 * 1024 }, (_, i) => `line ${String(i).padStart(10, '0')}`).join('\n'),
);

/** A scenario with a small ext4 as `disk` in the share. */
function onSmallDisk(sentence: string, options: SceneOptions, body: (scene: Scene) => Promise<void>): void {
  const skip = process.getuid?.() !== 0 || spawnSync('mkfs.ext4', ['-V']).error !== undefined;
  if (skip) {
    test(sentence, { skip: 'a small disk on the host takes root and mkfs.ext4' }, () => undefined);
    return;
  }
  scenario(sentence, options, async (scene) => {
    const { host } = scene;
    try {
      await host.sh(
        'truncate -s 16M ../image; mkfs.ext4 -q -m 0 -N 64 ../image; mkdir disk; mount -o loop ../image disk',
      );
      await body(scene);
      // A guest takes a mount away by itself when the host has none there any more.
      await scene.vm.sh('umount /mnt/share/disk');
    } finally {
      await host.sh('if mountpoint -q disk; then umount -l disk; fi');
    }
  });
}

async function fillAndGoOn({ vm, host }: Scene): Promise<void> {
  writeFileSync(host.path('pattern'), PATTERN);
  writeFileSync(host.path('disk', 'filler'), Buffer.alloc(2 << 20, 1));
  await vm.sh('cp /mnt/share/pattern /tmp; cat /tmp/pattern > /mnt/share/disk/first; sync');
  // Piece by piece, each acknowledged by fsync(2), until one is not.
  const script = `cd /mnt/share/disk; i=0
    while dd if=/tmp/pattern of=log bs=${PIECE} count=1 skip=$((i % 3)) seek=$i conv=notrunc,fsync 2>/tmp/said
    do i=$((i + 1)); done
    echo $i; cat /tmp/said`;
  const said = await vm.sh(script, { timeoutMs: 2 * MINUTE });
  assert.match(said, /No space left on device/);
  const pieces = Number(said.split('\n')[0]);
  assert.ok(pieces > 10 && pieces < 60, `${pieces} pieces`);
  const expected = Buffer.concat(
    Array.from({ length: pieces }, (_, i) => PATTERN.subarray((i % 3) * PIECE, ((i % 3) + 1) * PIECE)),
  );
  writeFileSync(host.path('expected'), expected);
  await host.sh(`cmp -n ${expected.length} expected disk/log; cmp pattern disk/first`);
  // A disk may be full of names as well.
  assert.match(
    await vm.sh('cd /mnt/share/disk; i=0; while touch name$i; do i=$((i + 1)); done 2>&1'),
    /No space left on device/,
  );
  for (const make of ['mkdir dir', 'ln -s target link', 'mkfifo fifo']) {
    assert.match(await vm.sh(`cd /mnt/share/disk; ! ${make} 2>&1`), /No space left on device/);
  }
  await host.sh('rm disk/filler; sync -f disk');
  await vm.sh('rm /mnt/share/disk/name*');
  // The host has those names' inodes to give again when the guest's FORGETs have arrived, for which nobody waits.
  await vm.sh(
    'cd /mnt/share/disk; until mkdir dir 2>/dev/null; do :; done; until touch dir/after 2>/dev/null; do :; done',
  );
  await vm.sh('dd if=/tmp/pattern of=/mnt/share/disk/dir/after conv=fsync 2>/dev/null');
  await host.sh('cmp pattern disk/dir/after');
}

onSmallDisk('a full disk: what was acknowledged is there, and the guest goes on when there is room', {}, fillAndGoOn);

onSmallDisk(
  'a full disk with writeback: fsync tells, and what it has not complained of is there',
  { cache: 'always', daemonArgs: ['--writeback'] },
  fillAndGoOn,
);

/** Puts programs of the host and what they are linked with into a folder; how to run one there, or undefined. */
function bring(folder: string, ...programs: string[]): string | undefined {
  mkdirSync(folder);
  let loader = '';
  for (const program of programs) {
    const path = spawnSync('which', [program], { encoding: 'utf8' }).stdout.trim();
    const linked = spawnSync('ldd', [path], { encoding: 'utf8' }).stdout ?? '';
    const libraries = linked.match(/\/\S+/g);
    if (path === '' || libraries === null) return undefined;
    for (const file of [path, ...libraries]) copyFileSync(file, `${folder}/${basename(file)}`);
    loader = basename(libraries.find((each) => basename(each).startsWith('ld-')) ?? '');
  }
  return `/mnt/share/bin/${loader} --library-path /mnt/share/bin /mnt/share/bin/`;
}

const hasAttributes = process.getuid?.() === 0 && spawnSync('lsattr', ['-d', '/tmp']).status === 0;
const attributes = 'chattr and lsattr in the guest are chattr and lsattr on the host';
if (!hasAttributes) {
  test(attributes, { skip: 'that takes root, e2fsprogs and a file system with attributes' }, () => undefined);
} else {
  for (const kernel of ['6.12', '7.3']) {
    scenario(`${attributes} (Linux ${kernel})`, { kernel, cache: 'never' }, async ({ vm, host }) => {
      const run = bring(host.path('bin'), 'chattr', 'lsattr');
      if (run === undefined) return;
      await vm.sh('cd /mnt/share; mkdir dir; echo one > file');
      await vm.sh(`cd /mnt/share; ${run}chattr +d dir; ${run}chattr +a file`);
      const flagsOf = async (path: string): Promise<string> => (await host.sh(`lsattr -d ${path}`)).split(' ')[0];
      try {
        assert.match(await flagsOf('dir'), /d/);
        assert.match(await flagsOf('file'), /a/);
        assert.equal((await vm.sh(`cd /mnt/share; ${run}lsattr -d file`)).split(' ')[0], await flagsOf('file'));
        await vm.sh('cd /mnt/share; ! echo two > file; ! rm file; echo three >> file');
        assert.equal(await host.sh('cat file'), 'one\nthree');
        await vm.sh(`cd /mnt/share; ${run}chattr -a +i file; ! echo four >> file`);
      } finally {
        await host.sh('chattr -ia file');
      }
    });
  }
}

scenario('a program that polls a file finds it ready, and the host is asked once', {}, async ({ vm, host, daemon }) => {
  writeFileSync(host.path('file'), 'line\n');
  const polls = async (): Promise<number> => (await report(daemon)).requests.get('POLL') ?? 0;
  // With a timeout the shell polls before it reads.
  const read = 'read -t 5 line < /mnt/share/file; echo $line';
  for (let i = 0; i < 3; i += 1) assert.equal(await vm.sh(read), 'line');
  assert.equal(await polls(), 1);
});
