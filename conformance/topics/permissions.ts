import { O_CREAT, O_DIRECTORY, O_EXCL, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { F_OK, R_OK, S_IFCHR, S_IFIFO, S_IFSOCK, W_OK, X_OK } from '../constants.ts';
import type { Face, User } from '../face.ts';
import { equal, fails, modeIs } from '../verdicts.ts';

export const permissions = new Topic('permissions', 'users');
const { test } = permissions;

const OWNER: User = { uid: 5001, gid: 5001 };
const MEMBER: User = { uid: 5002, gid: 5001 };
const SUPPLEMENTARY: User = { uid: 5003, gid: 5003, groups: [6000, 5001] };
const STRANGER: User = { uid: 5004, gid: 5004, groups: [6000] };
const ROOT: User = { uid: 0, gid: 0 };

const CLASSES = [
  ['the owner', OWNER, 6],
  ["a member of the file's group", MEMBER, 3],
  ["a supplementary member of the file's group", SUPPLEMENTARY, 3],
  ['a user of no relation', STRANGER, 0],
] as const;

/** A file or a directory of 5001:5001. */
function owned(t: Face, name: string, mode: number, kind: 'file' | 'directory' = 'file'): void {
  if (kind === 'file') t.file(name, 'abc', mode);
  else t.mkdir(name, mode);
  t.chown(name, 5001, 5001);
  t.chmod(name, mode);
}

for (const [who, user, shift] of CLASSES) {
  const only = (bit: number): number => bit << shift;
  const allBut = (bit: number): number => 0o777 & ~(bit << shift);

  test(`${who} reads a file with the right to read alone, and not with all other rights`, (t) => {
    owned(t, 'yes', only(4));
    owned(t, 'no', allBut(4));
    equal(
      t.as(user, () => t.contents('yes')),
      'abc',
      'contents',
    );
    fails('EACCES', () => t.as(user, () => t.open('no', O_RDONLY)));
  });

  test(`${who} writes a file with the right to write alone, and not with all other rights`, (t) => {
    owned(t, 'yes', only(2));
    owned(t, 'no', allBut(2));
    t.as(user, () => t.write(t.open('yes', O_WRONLY), 'x'));
    fails('EACCES', () => t.as(user, () => t.open('no', O_WRONLY)));
    fails('EACCES', () => t.as(user, () => t.open('no', O_RDWR)));
  });

  test(`${who} opens a file for reading and writing with both rights, and not with one`, (t) => {
    owned(t, 'yes', only(6));
    owned(t, 'no', only(4));
    t.as(user, () => t.open('yes', O_RDWR));
    fails('EACCES', () => t.as(user, () => t.open('no', O_RDWR)));
  });

  test(`${who} truncates a file with the right to write, and not with all other rights`, (t) => {
    owned(t, 'yes', only(2));
    owned(t, 'no', allBut(2));
    t.as(user, () => t.truncate('yes', 1));
    fails('EACCES', () => t.as(user, () => t.truncate('no', 1)));
    fails('EACCES', () => t.as(user, () => t.open('no', O_RDONLY | O_TRUNC)));
    equal([t.stat('yes').size, t.stat('no').size], [1, 3], 'sizes');
  });

  test(`access tells ${who} each right alone`, (t) => {
    for (const [wanted, bit] of [
      [R_OK, 4],
      [W_OK, 2],
      [X_OK, 1],
    ]) {
      owned(t, `yes${bit}`, only(bit));
      owned(t, `no${bit}`, allBut(bit));
      t.as(user, () => t.access(`yes${bit}`, wanted));
      fails('EACCES', () => t.as(user, () => t.access(`no${bit}`, wanted)));
    }
  });

  test(`${who} lists a directory with the right to read alone, and not with all other rights`, (t) => {
    for (const [name, mode] of [
      ['yes', only(4)],
      ['no', allBut(4)],
    ] as const) {
      owned(t, name, mode, 'directory');
      t.file(`${name}/f`);
    }
    equal(
      t.as(user, () => t.names('yes')),
      ['f'],
      'names',
    );
    fails('EACCES', () => t.as(user, () => t.open('no', O_RDONLY | O_DIRECTORY)));
  });

  test(`${who} reaches what is in a directory with the right to search alone, and not with all other rights`, (t) => {
    for (const [name, mode] of [
      ['yes', only(1)],
      ['no', allBut(1)],
    ] as const) {
      owned(t, name, mode, 'directory');
      t.file(`${name}/f`, 'abc', 0o666);
    }
    equal(
      t.as(user, () => t.contents('yes/f')),
      'abc',
      'contents',
    );
    fails('EACCES', () => t.as(user, () => t.open('no/f', O_RDONLY)));
    fails('EACCES', () => t.as(user, () => t.stat('no/f')));
    fails('EACCES', () => t.as(user, () => t.stat('no/none')));
  });

  test(`${who} creates and removes names with the rights to write and search, and not with one of them`, (t) => {
    owned(t, 'yes', only(3), 'directory');
    owned(t, 'searched', allBut(2), 'directory');
    owned(t, 'written', allBut(1), 'directory');
    t.as(user, () => t.file('yes/f'));
    t.as(user, () => t.unlink('yes/f'));
    for (const no of ['searched', 'written']) {
      t.file(`${no}/there`);
      fails('EACCES', () => t.as(user, () => t.open(`${no}/f`, O_CREAT | O_WRONLY, 0o644)));
      fails('EACCES', () => t.as(user, () => t.unlink(`${no}/there`)));
    }
  });
}

const CREATIONS: readonly (readonly [string, (t: Face, name: string) => void])[] = [
  ['mkdir', (t, name) => t.mkdir(name)],
  ['symlink', (t, name) => t.symlink('target', name)],
  ['mknod of a FIFO', (t, name) => t.mknod(name, S_IFIFO | 0o644)],
  ['mknod of a socket', (t, name) => t.mknod(name, S_IFSOCK | 0o644)],
  ['link', (t, name) => t.link('mine', name)],
  ['rename', (t, name) => t.rename('mine', name)],
];
for (const [what, make] of CREATIONS) {
  test(`${what} into a directory without the right to write fails with EACCES`, (t) => {
    t.mkdir('d', 0o755);
    owned(t, 'mine', 0o644);
    fails('EACCES', () => t.as(OWNER, () => make(t, 'd/new')));
    equal(t.names('d'), [], 'names');
  });
}

test('rename out of a directory without the right to write fails with EACCES', (t) => {
  t.mkdir('d', 0o755);
  t.file('d/f');
  fails('EACCES', () => t.as(STRANGER, () => t.rename('d/f', 'f')));
});

test('rename over a name in a directory without the right to write fails with EACCES', (t) => {
  t.mkdir('d', 0o755);
  t.file('d/f', 'kept');
  owned(t, 'mine', 0o644);
  fails('EACCES', () => t.as(OWNER, () => t.rename('mine', 'd/f')));
  equal(t.contents('d/f'), 'kept', 'contents');
});

test('rmdir in a directory without the right to write fails with EACCES', (t) => {
  t.mkdir('d', 0o755);
  t.mkdir('d/e', 0o777);
  fails('EACCES', () => t.as(STRANGER, () => t.rmdir('d/e')));
});

test('a directory of another user is moved within a directory that may be written, although it may not', (t) => {
  t.mkdir('d', 0o755);
  t.as(STRANGER, () => t.rename('d', 'moved'));
  equal(t.names(), ['moved'], 'names');
});

test("moving another user's directory elsewhere fails with EACCES without the right to write to it", (t) => {
  t.mkdir('other', 0o777);
  t.mkdir('d', 0o755);
  fails('EACCES', () => t.as(STRANGER, () => t.rename('d', 'other/d')));
});

test('a file without any rights is removed by who may write to its directory', (t) => {
  t.file('f', 'abc', 0);
  t.as(STRANGER, () => t.unlink('f'));
  equal(t.names(), [], 'names');
});

test('readlink takes no right to the symlink itself', (t) => {
  t.symlink('target', 'l');
  equal(
    t.as(STRANGER, () => t.readlink('l')),
    'target',
    'target',
  );
});

test('stat takes no right to the file itself', (t) => {
  t.file('f', 'abc', 0);
  equal(
    t.as(STRANGER, () => t.stat('f').size),
    3,
    'size',
  );
});

test('open with O_PATH takes no right to the file itself', (t) => {
  t.file('f', 'abc', 0);
  t.as(STRANGER, () => t.open('f', O_PATH));
});

test('a search right that is taken away does not close what is open', (t) => {
  t.mkdir('d', 0o777);
  t.file('d/f', 'abc', 0o644);
  const fd = t.as(STRANGER, () => t.open('d/f', O_RDONLY));
  t.chmod('d', 0o700);
  equal(
    t.as(STRANGER, () => t.rest(fd)),
    'abc',
    'contents',
  );
  fails('EACCES', () => t.as(STRANGER, () => t.stat('d/f')));
});

test('a right that chmod gives counts at once', (t) => {
  t.file('f', 'abc', 0o600);
  fails('EACCES', () => t.as(STRANGER, () => t.open('f', O_RDONLY)));
  t.chmod('f', 0o604);
  equal(
    t.as(STRANGER, () => t.contents('f')),
    'abc',
    'contents',
  );
});

test('a right that chown takes away is gone at once', (t) => {
  owned(t, 'f', 0o600);
  t.as(OWNER, () => t.close(t.open('f', O_RDONLY)));
  t.chown('f', 5002, 5002);
  fails('EACCES', () => t.as(OWNER, () => t.open('f', O_RDONLY)));
});

test('write through a descriptor goes on after its right was taken away', (t) => {
  owned(t, 'f', 0o600);
  const fd = t.as(OWNER, () => t.open('f', O_WRONLY));
  t.chmod('f', 0o400);
  t.as(OWNER, () => t.write(fd, 'xyz'));
  equal(t.contents('f'), 'xyz', 'contents');
});

test('root reads, writes and lists whatever the mode says', (t) => {
  owned(t, 'f', 0);
  owned(t, 'd', 0, 'directory');
  t.as(ROOT, () => t.file('d/g', 'abc', 0));
  t.as(ROOT, () => t.write(t.open('f', O_RDWR), 'x'));
  equal(
    t.as(ROOT, () => t.names('d')),
    ['g'],
    'names',
  );
});

test('root may execute a file only where somebody may', (t) => {
  owned(t, 'no', 0o666);
  owned(t, 'yes', 0o676);
  fails('EACCES', () => t.as(ROOT, () => t.access('no', X_OK)));
  t.as(ROOT, () => t.access('yes', X_OK));
});

test('root may search any directory', (t) => {
  owned(t, 'd', 0, 'directory');
  t.as(ROOT, () => t.access('d', X_OK | R_OK | W_OK));
});

test('access with F_OK below a directory that may not be searched fails with EACCES', (t) => {
  t.mkdir('d', 0o700);
  t.file('d/f');
  fails('EACCES', () => t.as(STRANGER, () => t.access('d/f', F_OK)));
});

test('access follows a symlink to what it asks about', (t) => {
  t.file('f', '', 0o600);
  t.symlink('f', 'l');
  fails('EACCES', () => t.as(STRANGER, () => t.access('l', R_OK)));
});

test('chmod by the owner succeeds, by anybody else fails with EPERM', (t) => {
  owned(t, 'f', 0o666);
  t.as(OWNER, () => t.chmod('f', 0o600));
  modeIs(t.stat('f').mode, 0o600);
  for (const user of [MEMBER, SUPPLEMENTARY, STRANGER]) fails('EPERM', () => t.as(user, () => t.chmod('f', 0o666)));
});

test('fchmod by the owner succeeds, by anybody else fails with EPERM', (t) => {
  owned(t, 'f', 0o666);
  const fd = t.open('f', O_RDWR);
  t.as(OWNER, () => t.fchmod(fd, 0o640));
  modeIs(t.stat('f').mode, 0o640);
  fails('EPERM', () => t.as(STRANGER, () => t.fchmod(fd, 0o666)));
});

test('chown to another owner fails with EPERM for all but root', (t) => {
  owned(t, 'f', 0o666);
  for (const user of [OWNER, MEMBER, STRANGER]) fails('EPERM', () => t.as(user, () => t.chown('f', 5002, -1)));
  t.chown('f', 5002, -1);
  equal(t.stat('f').uid, 5002, 'owner');
});

test('chown by the owner to the owner itself succeeds', (t) => {
  owned(t, 'f', 0o666);
  t.as(OWNER, () => t.chown('f', 5001, -1));
});

test("chown by the owner to a group of the owner's succeeds", (t) => {
  owned(t, 'f', 0o666);
  const owner = { ...OWNER, groups: [6001] };
  t.as(owner, () => t.chown('f', -1, 6001));
  equal(t.stat('f').gid, 6001, 'group');
});

test("chown by the owner to a group that is not the owner's fails with EPERM", (t) => {
  owned(t, 'f', 0o666);
  fails('EPERM', () => t.as(OWNER, () => t.chown('f', -1, 6002)));
  equal(t.stat('f').gid, 5001, 'group');
});

test('chown to a group of one user who does not own the file fails with EPERM', (t) => {
  owned(t, 'f', 0o666);
  fails('EPERM', () => t.as(SUPPLEMENTARY, () => t.chown('f', -1, 6000)));
});

test('utimensat with times fails with EPERM for a user who may write but does not own', (t) => {
  owned(t, 'f', 0o666);
  t.as(OWNER, () => t.utimens('f', 1n, 1n));
  fails('EPERM', () => t.as(STRANGER, () => t.utimens('f', 2n, 2n)));
});

test('utimensat with UTIME_NOW for both succeeds for a user who may write', (t) => {
  owned(t, 'f', 0o666);
  t.utimens('f', 1n, 1n);
  t.as(STRANGER, () => t.utimens('f', 'now', 'now'));
  equal(t.stat('f').mtime > 1_000_000_000_000_000_000n, true, 'mtime is of now');
});

test('utimensat with UTIME_NOW for both fails with EACCES for a user who may not write', (t) => {
  owned(t, 'f', 0o644);
  fails('EACCES', () => t.as(STRANGER, () => t.utimens('f', 'now', 'now')));
});

test('utimensat with UTIME_NOW for one and UTIME_OMIT for the other fails with EPERM for who does not own', (t) => {
  owned(t, 'f', 0o666);
  fails('EPERM', () => t.as(STRANGER, () => t.utimens('f', 'now', 'omit')));
});

test('utimensat with UTIME_OMIT for both succeeds for everybody', (t) => {
  owned(t, 'f', 0);
  const before = t.stat('f');
  t.as(STRANGER, () => t.utimens('f', 'omit', 'omit'));
  equal(t.stat('f').ctime, before.ctime, 'ctime');
});

test('what a user creates belongs to that user and their group', (t) => {
  t.as(STRANGER, () => t.file('f'));
  t.as(STRANGER, () => t.mkdir('d'));
  t.as(STRANGER, () => t.symlink('x', 'l'));
  t.as(STRANGER, () => t.mknod('p', S_IFIFO | 0o644));
  for (const name of ['f', 'd', 'l', 'p']) {
    const { uid, gid } = t.lstat(name);
    equal([uid, gid], [5004, 5004], `owner and group of ${name}`);
  }
});

test('mknod of a device fails with EPERM for all but root', (t) => {
  fails('EPERM', () => t.as(STRANGER, () => t.mknod('c', S_IFCHR | 0o644, 1, 3)));
});

test('an owner without rights who is in the group has no rights: the classes are not added up', (t) => {
  owned(t, 'f', 0o077);
  fails('EACCES', () => t.as(OWNER, () => t.open('f', O_RDONLY)));
  fails('EACCES', () => t.as(OWNER, () => t.open('f', O_WRONLY)));
});

test('open with O_CREAT of a file that exists asks the file for its rights, and the directory for none', (t) => {
  t.mkdir('d', 0o755);
  t.file('d/f', 'abc', 0o666);
  t.chmod('d/f', 0o666);
  t.as(STRANGER, () => t.open('d/f', O_CREAT | O_RDWR, 0o600));
});

test('open with O_CREAT and O_EXCL of a file that exists fails with EEXIST where nothing may be created', (t) => {
  t.mkdir('d', 0o755);
  t.file('d/f', 'abc', 0o600);
  fails('EEXIST', () => t.as(STRANGER, () => t.open('d/f', O_CREAT | O_EXCL | O_RDWR, 0o600)));
});

test('mkdir of a name that exists fails with EEXIST where nothing may be created', (t) => {
  t.mkdir('d', 0o755);
  t.mkdir('d/e');
  fails('EEXIST', () => t.as(STRANGER, () => t.mkdir('d/e')));
});

test('statfs takes the right to search the way, and none to the file', (t) => {
  t.file('f', '', 0);
  t.mkdir('d', 0o700);
  t.as(STRANGER, () => t.statfs('f'));
  fails('EACCES', () => t.as(STRANGER, () => t.statfs('d/none')));
});

test('link to a file takes the right to search its directory', (t) => {
  t.mkdir('d', 0o700);
  t.file('d/f', '', 0o666);
  fails('EACCES', () => t.as(STRANGER, () => t.link('d/f', 'g')));
});

test('a walk through a directory asks anew for the right to search each time', (t) => {
  t.mkdir('d', 0o711);
  t.file('d/f', 'abc', 0o644);
  equal(
    t.as(STRANGER, () => t.contents('d/f')),
    'abc',
    'a stranger reads',
  );
  t.chmod('d', 0o710);
  fails('EACCES', () => t.as(STRANGER, () => t.contents('d/f')));
  t.chown('d', 0, 6000);
  equal(
    t.as(STRANGER, () => t.contents('d/f')),
    'abc',
    'a member of the group reads',
  );
});
