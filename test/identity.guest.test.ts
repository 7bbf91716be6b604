/**
 * Users, groups, ACLs and set-id bits in a real guest. The yardstick is a file system of the guest's own (tmpfs): the
 * same script runs on it and on the share, and must say the same.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fetchTools, type Scene, scenes } from '../lab/index.ts';
import { Arena, CAP_FSETID, CAP_SETUID, coldString, hasCapability, listxattr } from '../src/sys/index.ts';

const able = hasCapability(CAP_SETUID) && hasCapability(CAP_FSETID);
const tools = able ? (await fetchTools(['acl', 'attr', 'util-linux', 'mount', 'libcap2-bin'])).tree : undefined;
if (!able) void test('users of a guest', { skip: 'this process may not act as others' });

/** Shell functions: a command as a user with groups (`as 1001 1001,3000 cmd`), and what a file looks like. */
const PRELUDE = `
  as() { u=$1; g=$2; shift 2; /usr/bin/setpriv --reuid $u --regid \${g%%,*} --groups $g "$@"; }
  look() { for f; do stat -c '%n %A %u:%g %F' "$f"; done; }
  try() { "$@" 2>/dev/null && echo "$1: yes" || echo "$1: no"; }`;

const CREATION = `
  mkdir -m 2777 group; chgrp 3000 group; mkdir -m 1777 open; cd open
  as 1001 1001 sh -c 'umask 027; touch file; mkdir dir; mkfifo fifo; ln -s x link'
  as 1002 1003 sh -c 'umask 0; touch wide; mkdir wider; umask 777; touch none; mkdir nothing'
  touch root; cd ../group
  as 1001 1001,3000 sh -c 'umask 0; touch member; mkdir m-dir; install -m 2775 /dev/null m-run'
  as 1002 1002 sh -c 'umask 0; touch stranger; mkdir s-dir; install -m 2775 /dev/null s-run; ln -s x s-link'
  install -m 2775 /dev/null r-run
  cd ..; look . open/* group group/*`;

const SET_IDS = `
  mkdir -m 777 bits; cd bits
  renew() { rm -f f; echo some data >f; chown 1001:1001 f; chmod $1 f; }
  show() { echo "$1: $(stat -c '%A %u:%g %s' f | sed 's/ [0-9]*$//')"; }
  for mode in 6777 2767 4666; do
    renew $mode; as 1002 1002 sh -c 'echo x >>f'; show "$mode appended by another"
    renew $mode; as 1002 1002 sh -c 'echo x 1<>f'; show "$mode written by another"
    renew $mode; as 1002 1002 sh -c ': >f'; show "$mode truncated on open by another"
    renew $mode; as 1002 1002 truncate -s 5 f; show "$mode truncated by another"
    renew $mode; as 1002 1002 fallocate -l 90000 f; show "$mode extended by another"
    renew $mode; as 1002 1002 dd if=/dev/zero of=f bs=4096 count=1 oflag=direct conv=notrunc 2>/dev/null
    show "$mode written directly by another"
    renew $mode; echo x >>f; show "$mode appended by root"
    renew $mode; : >f; show "$mode truncated on open by root"
    renew $mode; truncate -s 5 f; show "$mode truncated by root"
    renew $mode; fallocate -l 90000 f; show "$mode extended by root"
    renew $mode; chown 1005 f; show "$mode given away by root"
    renew $mode; as 1001 1001,1009 chgrp 1009 f; show "$mode given to another group by its owner"
    renew $mode; as 1001 1001 chmod g=u f; show "$mode changed by its owner"
  done
  renew 0644; chgrp 3000 f; as 1001 1001 chmod 2755 f; show 'set by an owner who is not in the group'
  caps() { getcap f | sed 's/^f *//'; }
  for how in 'echo x >>f' ': >f' 'truncate -s 5 f' 'fallocate -l 90000 f' 'chown 1005 f'; do
    renew 0777; setcap cap_net_raw+ep f; echo "capabilities: $(caps), after $how: $(sh -c "$how"; caps)"
  done
  renew 0777; setcap cap_net_raw+ep f; as 1002 1002 sh -c 'echo x >>f'; echo "written by another: $(caps)"`;

const ACLS = `
  mkdir -m 755 acls; cd acls
  acl() { getfacl -n "$@"; }
  echo secret >f; chmod 600 f; chown 1001:1001 f
  try as 1002 1002 cat f
  setfacl -m u:1002:rw,g:3000:r f; acl f; look f
  as 1002 1002 cat f; as 1002 1002 sh -c 'echo more >>f'; try as 1004 1004 cat f; as 1004 1004,3000 cat f
  try as 1004 1004,3000 sh -c 'echo no >>f'
  chmod 640 f; acl f; try as 1002 1002 sh -c 'echo no >>f'
  setfacl -x u:1002 f; acl f; setfacl -b f; acl f; look f
  mkdir -m 770 d; setfacl -d -m u::rwx,u:1002:rwx,g::r-x,o::- d; setfacl -m u:1001:rwx d; acl d
  as 1001 1001 sh -c 'umask 077; touch d/file; mkdir d/sub; mknod d/fifo p; echo x >d/data'
  acl d/file d/sub d/fifo d/data; look d/*
  as 1002 1002 sh -c 'echo y >>d/data'; cat d/data
  setfacl -k d; as 1001 1001 sh -c 'umask 077; touch d/later'; look d/later
  install -m 2770 -o 1001 -g 3000 /dev/null s; as 1001 1001 setfacl -m u:1002:r s; look s
  install -m 2770 -o 1001 -g 3000 /dev/null t; as 1001 1001,3000 setfacl -m u:1002:r t; look t`;

/** Ids 5000 to 5009 on the file system are 0 to 9 on the mount; others have no id there, and nobody has theirs. */
const IDMAPPED = `
  mkdir -m 777 d; chown 5000:5000 d; mkdir -p /mnt/mapped; touch d/before; cd d
  /usr/bin/mount --bind -o X-mount.idmap=b:5000:0:10 . /mnt/mapped
  cd /mnt/mapped; touch root; mkdir dir; ln -s x link; mknod fifo p; as 3 4 sh -c 'echo x >three; echo y >>three'
  try as 77 77 touch stranger; try as 3 77 mkdir stranger; chown 4:5 root; try chown 77 root; try chmod 600 before
  as 4 5 chmod 600 root; mv link moved; cat three; rm fifo; truncate -s 0 three
  setfacl -m u:7:r three; getfacl -n three
  look . *; cd - >/dev/null; look . *; getfacl -n three; umount /mnt/mapped`;

/** What a script prints in an empty folder on the share and on a tmpfs, and its exit code. Commands of it may fail. */
async function onBoth({ vm }: Scene, script: string): Promise<{ share: string; local: string }> {
  await vm.sh(
    'mkdir -p /mnt/local; grep -q " /mnt/local tmpfs" /proc/mounts || mount -t tmpfs -o size=300m x /mnt/local',
  );
  const run = async (folder: string): Promise<string> => {
    await vm.sh(`cd ${folder}; rm -rf stage; mkdir -m 755 stage`);
    const options = { timeoutMs: 120_000 };
    const { code, stdout } = await vm.run(`${PRELUDE}\ncd ${folder}/stage\n${script}`, options);
    return `${stdout}${code}`;
  };
  return { local: await run('/mnt/local'), share: await run('/mnt/share') };
}

interface Mode {
  readonly title: string;
  readonly kernel: string;
  readonly cache: string;
  readonly daemonArgs: readonly string[];
  /** Lines that differ, and why. */
  readonly differs?: RegExp;
}

/** A guest that clears the bits itself does not clear this one where the group may not execute (fuse_setattr). */
const PLAIN_TRUNCATION = /^2767 truncated .*by another: .*\n/gm;

/** Without a page cache the guest's kernel does not look at groups, and the daemon cannot (see Privileges). */
const DIRECT_WRITE = /^2767 (?:appended|written|written directly) by another: .*\n/gm;

const MODES: readonly Mode[] = [
  { title: 'cache auto', kernel: '7.3', cache: 'auto', daemonArgs: ['--posix-acl'] },
  {
    title: 'an older guest, cache never',
    kernel: '6.12',
    cache: 'never',
    daemonArgs: ['--posix-acl'],
    differs: DIRECT_WRITE,
  },
  { title: 'writeback', kernel: '7.3', cache: 'always', daemonArgs: ['--posix-acl', '--writeback'] },
  {
    title: 'no killpriv-v2',
    kernel: '7.3',
    cache: 'auto',
    daemonArgs: ['--posix-acl', '--no-killpriv-v2'],
    differs: PLAIN_TRUNCATION,
  },
];

for (const { title, differs = /$^/g, ...options } of able ? MODES : []) {
  scenes(`the same as on a file system of the guest's own: ${title}`, { tools, ...options }, (scene) => {
    const same = (what: string, script: string): void => {
      scene(what, async (stage) => {
        const { share, local } = await onBoth(stage, script);
        assert.ok(local.split('\n').length > 10, local);
        assert.equal(share.replaceAll(differs, ''), local.replaceAll(differs, ''));
      });
    };
    same('who owns what is created, and what the umask and a set-group-id directory make of it', CREATION);
    same('which changes take set-id bits and capabilities', SET_IDS);
    same('ACLs: set, read, enforced, inherited', ACLS);
    same('an idmapped mount', IDMAPPED);
  });
}

/** Attributes are asked for again each time: the host changes them. */
const TRANSLATED = {
  tools,
  daemonArgs: [
    ...['--attr-timeout', '0', '--xattrmap', '/map/trusted./user.virtiofs./'],
    ...['--translate-uid', 'map:1000:501:10', '--translate-uid', 'forbid-guest:66:1'],
    ...['--translate-gid', 'map:1000:20:1', '--translate-gid', 'host:99:0:1'],
  ],
};

if (able) scenes('other ids and other names on the host', TRANSLATED, translated);

function translated(scene: Parameters<Parameters<typeof scenes>[2]>[0]): void {
  scene('--translate-uid and --translate-gid, in all that a guest does with owners', async ({ vm, host }) => {
    const guest = await vm.sh(`${PRELUDE}
      cd /mnt/share; chmod 777 .; as 1001 1000 sh -c 'mkdir dir; echo x >dir/file; chmod 600 dir/file'
      as 1001 1000 cat dir/file; try as 501 20 cat dir/file; try as 66 66 touch forbidden; try chown 66 dir
      touch dir/given; chown 1002:1000 dir/given; look dir/*; ls -ln dir | tail -n +2 | cut -d ' ' -f 3-20 | wc -l`);
    const expected = ['x', 'as: no', 'as: no', 'chown: no', 'dir/file -rw------- 1001:1000 regular file'];
    const given = 'dir/given -rw-r--r-- 1002:1000 regular empty file';
    assert.deepEqual(guest.split('\n'), [...expected, given, '2']);
    assert.equal(await host.sh("stat -c '%u:%g' dir dir/file dir/given"), '502:20\n502:20\n503:20');
    await host.sh('chown 510:99 dir/given');
    assert.equal(await vm.sh("stat -c '%u:%g' /mnt/share/dir/given"), '1009:0');
  });

  scene('--xattrmap: trusted attributes of the guest are user attributes of the host', async ({ vm, host }) => {
    const guest =
      await vm.sh(`cd /mnt/share; touch file; setfattr -n trusted.one -v 1 file; setfattr -n user.two -v 2 file
      /usr/bin/getfattr -d -m - file; setfattr -n user.virtiofs.trusted.one -v 9 file 2>/dev/null || echo refused
      setfattr -x trusted.one file; /usr/bin/getfattr -d -m - file; setfattr -n trusted.three -v 3 file`);
    const file = '# file: file';
    assert.deepEqual(guest.split('\n').filter(Boolean), [
      ...[file, 'trusted.one="1"', 'user.two="2"', 'refused'],
      ...[file, 'user.two="2"'],
    ]);
    assert.deepEqual(attributesOf(host.path('file')), ['user.two', 'user.virtiofs.trusted.three']);
  });
}

/** The names of a file's attributes on the host. */
function attributesOf(path: string): string[] {
  const arena = new Arena(4096);
  const length = listxattr(coldString(path), arena.address, 4096);
  return Buffer.from(arena.u8.subarray(0, length)).toString().split('\0').slice(0, -1).toSorted();
}
