import { O_CREAT, O_RDWR, O_TMPFILE, O_WRONLY, RENAME_EXCHANGE } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { S_IFIFO } from '../constants.ts';
import type { Face, User } from '../face.ts';
import { equal, fails, modeIs } from '../verdicts.ts';

/** Sticky directories, set-id bits and umask. */
export const modeBits = new Topic('mode bits');
const { test } = modeBits;

const ONE: User = { uid: 5001, gid: 5001 };
const TWO: User = { uid: 5002, gid: 5002 };

/** A sticky directory of root that everybody may write to, with a file of each user. */
function stickyDirectory(t: Face): void {
  t.mkdir('d', 0o1777);
  t.as(ONE, () => t.file('d/one', '1', 0o666));
  t.as(TWO, () => t.file('d/two', '2', 0o666));
}

test(
  'a sticky directory lets a user remove their own file',
  (t) => {
    stickyDirectory(t);
    t.as(ONE, () => t.unlink('d/one'));
    equal(t.names('d'), ['two'], 'names');
  },
  'users',
);

test(
  "a sticky directory lets nobody remove another user's file: EPERM",
  (t) => {
    stickyDirectory(t);
    fails(['EPERM', 'EACCES'], () => t.as(ONE, () => t.unlink('d/two')));
  },
  'users',
);

test(
  "a sticky directory lets nobody rename another user's file",
  (t) => {
    stickyDirectory(t);
    fails(['EPERM', 'EACCES'], () => t.as(ONE, () => t.rename('d/two', 'd/mine')));
  },
  'users',
);

test(
  "a sticky directory lets nobody rename over another user's file",
  (t) => {
    stickyDirectory(t);
    fails(['EPERM', 'EACCES'], () => t.as(ONE, () => t.rename('d/one', 'd/two')));
    equal(t.contents('d/two'), '2', 'contents');
  },
  'users',
);

test(
  "a sticky directory lets nobody exchange their file for another user's",
  (t) => {
    stickyDirectory(t);
    fails(['EPERM', 'EACCES'], () => t.as(ONE, () => t.rename('d/one', 'd/two', RENAME_EXCHANGE)));
  },
  'users',
);

test(
  "a sticky directory lets nobody remove another user's directory",
  (t) => {
    t.mkdir('d', 0o1777);
    t.as(ONE, () => t.mkdir('d/e'));
    fails(['EPERM', 'EACCES'], () => t.as(TWO, () => t.rmdir('d/e')));
  },
  'users',
);

test(
  'the owner of a sticky directory removes what is in it',
  (t) => {
    stickyDirectory(t);
    t.chown('d', 5003, 5003);
    t.as({ uid: 5003, gid: 5003 }, () => t.unlink('d/one'));
    equal(t.names('d'), ['two'], 'names');
  },
  'users',
);

test(
  'root removes what is in a sticky directory',
  (t) => {
    stickyDirectory(t);
    t.unlink('d/one');
    equal(t.names('d'), ['two'], 'names');
  },
  'users',
);

test(
  "the sticky bit of a directory does not keep a user from writing another's file that they may write",
  (t) => {
    stickyDirectory(t);
    t.as(ONE, () => t.write(t.open('d/two', O_WRONLY), 'x'));
    equal(t.contents('d/two'), 'x', 'contents');
  },
  'users',
);

test('a file keeps its sticky bit', (t) => {
  t.file('f');
  t.chmod('f', 0o1644);
  modeIs(t.stat('f').mode, 0o1644);
});

test('mkdir with the sticky bit makes a sticky directory', (t) => {
  t.mkdir('d', 0o1777);
  modeIs(t.stat('d').mode, 0o1777);
});

/** A set-group-id directory of group 6000. */
function groupDirectory(t: Face): void {
  t.mkdir('d', 0o777);
  t.chown('d', 0, 6000);
  t.chmod('d', 0o2777);
}

test(
  'a file created in a set-group-id directory gets the group of the directory',
  (t) => {
    groupDirectory(t);
    t.as(ONE, () => t.file('d/f'));
    const { uid, gid } = t.stat('d/f');
    equal([uid, gid], [5001, 6000], 'owner and group');
  },
  'owners',
);

test(
  'a directory created in a set-group-id directory gets its group and its set-group-id bit',
  (t) => {
    groupDirectory(t);
    t.as(ONE, () => t.mkdir('d/e', 0o755));
    const { gid, mode } = t.stat('d/e');
    equal(gid, 6000, 'group');
    modeIs(mode, 0o2755);
  },
  'owners',
);

test(
  'a symlink created in a set-group-id directory gets the group of the directory',
  (t) => {
    groupDirectory(t);
    t.as(ONE, () => t.symlink('x', 'd/l'));
    equal(t.lstat('d/l').gid, 6000, 'group');
  },
  'owners',
);

test(
  'a FIFO created in a set-group-id directory gets the group of the directory',
  (t) => {
    groupDirectory(t);
    t.as(ONE, () => t.mknod('d/p', S_IFIFO | 0o644));
    equal(t.lstat('d/p').gid, 6000, 'group');
  },
  'owners',
);

test(
  'a file of O_TMPFILE in a set-group-id directory gets the group of the directory',
  (t) => {
    groupDirectory(t);
    const fd = t.as(ONE, () => t.open('d', O_TMPFILE | O_RDWR, 0o600));
    equal(t.fstat(fd).gid, 6000, 'group');
  },
  'tmpfile',
  'owners',
);

test(
  'a file created in a directory without the set-group-id bit gets the group of its user',
  (t) => {
    t.mkdir('d', 0o777);
    t.chown('d', 0, 6000);
    t.as(ONE, () => t.file('d/f'));
    equal(t.stat('d/f').gid, 5001, 'group');
  },
  'owners',
);

test(
  "a set-group-id file of a group that is not the user's loses the bit when it is created",
  (t) => {
    groupDirectory(t);
    t.as(ONE, () => t.close(t.open('d/f', O_CREAT | O_WRONLY, 0o2775)));
    modeIs(t.stat('d/f').mode, 0o775);
  },
  'users',
);

test(
  'a file moved into a set-group-id directory keeps its group',
  (t) => {
    groupDirectory(t);
    t.as(ONE, () => t.file('f'));
    t.rename('f', 'd/f');
    equal(t.stat('d/f').gid, 5001, 'group');
  },
  'owners',
);

test('chmod of a directory keeps the set-group-id bit that it names', (t) => {
  t.mkdir('d');
  t.chmod('d', 0o2750);
  modeIs(t.stat('d').mode, 0o2750);
});

test(
  "chmod by an owner who is not in the file's group drops the set-group-id bit",
  (t) => {
    t.file('f');
    t.chown('f', 5001, 6000);
    t.as(ONE, () => t.chmod('f', 0o2755));
    modeIs(t.stat('f').mode, 0o755);
  },
  'users',
);

test(
  "chmod by an owner in the file's group by a supplementary group keeps the set-group-id bit",
  (t) => {
    t.file('f');
    t.chown('f', 5001, 6000);
    t.as({ ...ONE, groups: [6000] }, () => t.chmod('f', 0o2755));
    modeIs(t.stat('f').mode, 0o2755);
  },
  'users',
);

test(
  'chmod by the owner keeps the set-user-id bit',
  (t) => {
    t.as(ONE, () => t.file('f'));
    t.as(ONE, () => t.chmod('f', 0o4755));
    modeIs(t.stat('f').mode, 0o4755);
  },
  'users',
);
