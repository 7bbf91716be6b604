import { O_CREAT, O_DIRECTORY, O_RDONLY, O_RDWR, O_TMPFILE, O_WRONLY } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { S_IFIFO } from '../constants.ts';
import type { Face, User } from '../face.ts';
import { equal, fails, modeIs, supported } from '../verdicts.ts';

/** What clears set-id bits; owners, modes and the umask. */
export const setId = new Topic('owners and modes');
const { test } = setId;

const ONE: User = { uid: 5001, gid: 5001 };

/** What takes the set-id bits from a file of 5001, when that user does it. */
const CLEARING: readonly (readonly [string, (t: Face) => void])[] = [
  ['write', (t) => void t.write(t.open('f', O_WRONLY), 'x')],
  ['pwrite', (t) => void t.pwrite(t.open('f', O_RDWR), 'x', 1)],
  ['writev', (t) => void t.writev(t.open('f', O_RDWR), ['x', 'y'])],
  ['truncate', (t) => t.truncate('f', 1)],
  ['ftruncate', (t) => t.ftruncate(t.open('f', O_RDWR), 1)],
  ['truncate to a larger size', (t) => t.truncate('f', 100)],
  ['fallocate', (t) => supported('fallocate', () => t.fallocate(t.open('f', O_RDWR), 0, 0, 100))],
  [
    'copy_file_range',
    (t) => {
      t.file('from', 'abcdef');
      t.copyFileRange(t.open('from', O_RDONLY), 0, t.open('f', O_RDWR), 0, 3);
    },
  ],
];
for (const [what, act] of CLEARING) {
  test(
    `${what} by a user clears the set-user-id bit and the set-group-id bit of a file`,
    (t) => {
      t.file('f', 'abc');
      t.chown('f', 5001, 5001);
      t.chmod('f', 0o6755);
      t.as(ONE, () => act(t));
      modeIs(t.stat('f').mode, 0o755);
    },
    'users',
  );
}

/** What `bytes`, written by `by`, make of the mode of a file of `owner` and its group: `mode` becomes `then`. */
function writing(t: Face, by: User, bytes: string, owner: number, mode: number, then: number): void {
  t.file('f', 'abc');
  t.chown('f', owner, owner);
  t.chmod('f', mode);
  t.as(by, () => t.write(t.open('f', O_WRONLY), bytes));
  modeIs(t.stat('f').mode, then);
}

test(
  'write by a user clears set-id bits of a file that they do not own',
  (t) => writing(t, ONE, 'x', 5002, 0o6777, 0o777),
  'users',
);

test(
  'write by a user leaves the set-group-id bit of a file that its group cannot execute',
  (t) => writing(t, ONE, 'x', 5001, 0o2664, 0o2664),
  'users',
);

test(
  'write by root leaves the set-id bits',
  (t) => {
    t.file('f', 'abc');
    t.chmod('f', 0o6755);
    t.write(t.open('f', O_WRONLY), 'x');
    modeIs(t.stat('f').mode, 0o6755);
  },
  'users',
);

test('a write of no bytes leaves the set-id bits', (t) => writing(t, ONE, '', 5001, 0o6755, 0o6755), 'users');

test(
  'open with O_TRUNC by a user clears the set-id bits',
  (t) => {
    t.file('f', 'abc');
    t.chown('f', 5001, 5001);
    t.chmod('f', 0o6755);
    t.as(ONE, () => t.open('f', O_WRONLY | 0o1000));
    modeIs(t.stat('f').mode, 0o755);
  },
  'users',
);

test(
  'a write through one descriptor clears the bits that another descriptor shows',
  (t) => {
    t.file('f', 'abc');
    t.chown('f', 5001, 5001);
    t.chmod('f', 0o4755);
    const looking = t.open('f', O_RDONLY);
    t.as(ONE, () => t.write(t.open('f', O_WRONLY), 'x'));
    modeIs(t.fstat(looking).mode, 0o755);
  },
  'users',
);

test(
  'chown by root clears the set-id bits of a file that can be executed',
  (t) => {
    t.file('f');
    t.chmod('f', 0o6755);
    t.chown('f', 5001, 5001);
    modeIs(t.stat('f').mode, 0o755);
  },
  'owners',
);

test(
  'chown of the group alone clears the set-id bits',
  (t) => {
    t.file('f');
    t.chown('f', 5001, 5001);
    t.chmod('f', 0o6755);
    t.as({ ...ONE, groups: [6000] }, () => t.chown('f', -1, 6000));
    modeIs(t.stat('f').mode, 0o755);
  },
  'users',
);

test(
  'chown of a directory leaves its set-group-id bit',
  (t) => {
    t.mkdir('d');
    t.chmod('d', 0o2755);
    t.chown('d', 5001, 5001);
    modeIs(t.stat('d').mode, 0o2755);
  },
  'owners',
);

test(
  'chown with -1 and -1 changes neither owner nor group',
  (t) => {
    t.file('f');
    t.chown('f', 5001, 6000);
    t.chown('f', -1, -1);
    const { uid, gid } = t.stat('f');
    equal([uid, gid], [5001, 6000], 'owner and group');
  },
  'owners',
);

test(
  'chown through a symlink changes its target',
  (t) => {
    t.file('f');
    t.symlink('f', 'l');
    t.chown('l', 5001, 5002);
    equal([t.stat('f').uid, t.lstat('l').uid], [5001, 0], 'owners of the target and of the symlink');
  },
  'owners',
);

test(
  'lchown changes the symlink, and not its target',
  (t) => {
    t.file('f');
    t.symlink('f', 'l');
    t.lchown('l', 5001, 5002);
    equal([t.stat('f').uid, t.lstat('l').uid], [0, 5001], 'owners of the target and of the symlink');
  },
  'owners',
);

test(
  'lchown changes a dangling symlink',
  (t) => {
    t.symlink('none', 'l');
    t.lchown('l', 5001, 5002);
    const { uid, gid } = t.lstat('l');
    equal([uid, gid], [5001, 5002], 'owner and group');
  },
  'owners',
);

test(
  'large numbers of users and groups are kept',
  (t) => {
    t.file('f');
    t.chown('f', 0x7fff_fffe, 0xffff_fffd);
    const { uid, gid } = t.stat('f');
    equal([uid, gid], [0x7fff_fffe, 0xffff_fffd], 'owner and group');
  },
  'owners',
);

test('chmod through a symlink changes its target', (t) => {
  t.file('f');
  t.symlink('f', 'l');
  t.chmod('l', 0o600);
  modeIs(t.stat('f').mode, 0o600);
});

test('chmod of a dangling symlink fails with ENOENT', (t) => {
  t.symlink('none', 'l');
  fails('ENOENT', () => t.chmod('l', 0o600));
});

for (const mode of [0o0000, 0o0111, 0o0644, 0o1777, 0o2755, 0o4711, 0o7777]) {
  test(`chmod to 0${mode.toString(8)} is what stat then says`, (t) => {
    t.file('f');
    t.chmod('f', mode);
    modeIs(t.stat('f').mode, mode);
  });
}

test('fchmod changes an unlinked file', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.unlink('f');
  t.fchmod(fd, 0o600);
  modeIs(t.fstat(fd).mode, 0o600);
});

test(
  'fchmod and fchown of a directory by its descriptor',
  (t) => {
    t.mkdir('d');
    const fd = t.open('d', O_RDONLY | O_DIRECTORY);
    t.fchown(fd, 5001, 5002);
    t.fchmod(fd, 0o700);
    const { uid, gid, mode } = t.stat('d');
    equal([uid, gid], [5001, 5002], 'owner and group');
    modeIs(mode, 0o700);
  },
  'owners',
);

const MASKED: readonly (readonly [string, (t: Face) => void, number])[] = [
  ['open', (t) => t.close(t.open('n', O_CREAT | O_WRONLY, 0o777)), 0o750],
  ['mkdir', (t) => t.mkdir('n', 0o777), 0o750],
  ['mknod', (t) => t.mknod('n', S_IFIFO | 0o666), 0o640],
];
for (const [what, make, mode] of MASKED) {
  test(
    `${what} takes the bits of umask 027 from the mode`,
    (t) => {
      t.umask(0o027);
      make(t);
      modeIs(t.lstat('n').mode, mode);
    },
    'kernel',
  );
}

test(
  'umask 0777 leaves a new file no rights',
  (t) => {
    t.umask(0o777);
    t.close(t.open('f', O_CREAT | O_RDWR, 0o666));
    modeIs(t.stat('f').mode, 0);
  },
  'kernel',
);

test(
  'umask does not touch a symlink',
  (t) => {
    t.umask(0o077);
    t.symlink('x', 'l');
    modeIs(t.lstat('l').mode, 0o777);
  },
  'kernel',
);

test(
  'umask does not touch what chmod sets',
  (t) => {
    t.file('f');
    t.umask(0o077);
    t.chmod('f', 0o666);
    modeIs(t.stat('f').mode, 0o666);
  },
  'kernel',
);

test(
  'umask takes bits from the mode of a file of O_TMPFILE',
  (t) => {
    t.umask(0o077);
    modeIs(t.fstat(t.open('.', O_TMPFILE | O_RDWR, 0o666)).mode, 0o600);
  },
  'kernel',
  'tmpfile',
);
