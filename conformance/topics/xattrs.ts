import { O_CREAT, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR, O_WRONLY } from '../../src/sys/index.ts';
import { ACL_ACCESS, ACL_DEFAULT, aclValue } from '../acl.ts';
import { Topic } from '../behaviour.ts';
import { S_IFIFO, S_IFSOCK, XATTR_CREATE, XATTR_NAME_MAX, XATTR_REPLACE, XATTR_SIZE_MAX } from '../constants.ts';
import type { Face, Path } from '../face.ts';
import { equal, fails, modeIs, ok, supported } from '../verdicts.ts';

export const xattrs = new Topic('extended attributes', 'xattr');
const { test } = xattrs;

const value = (t: Face, path: Path | number, name: string): string =>
  Buffer.from(t.getxattr(path, name)).toString('latin1');
/** The names in the user's class: a host may add others. */
const mine = (t: Face, path: Path | number): string[] => t.listxattr(path).filter((name) => name.startsWith('user.'));

test('an attribute that is set is read back', (t) => {
  t.file('f');
  t.setxattr('f', 'user.color', 'blue');
  equal(value(t, 'f', 'user.color'), 'blue', 'value');
});

test('an attribute that is set again has its new value, longer or shorter', (t) => {
  t.file('f');
  for (const each of ['short', 'a good deal longer', 's', '']) {
    t.setxattr('f', 'user.color', each);
    equal(value(t, 'f', 'user.color'), each, 'value');
  }
});

test('an attribute of no bytes is there', (t) => {
  t.file('f');
  t.setxattr('f', 'user.empty', '');
  equal(t.getxattr('f', 'user.empty').length, 0, 'length');
  equal(mine(t, 'f'), ['user.empty'], 'names');
});

test('the value of an attribute is any bytes', (t) => {
  t.file('f');
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  t.setxattr('f', 'user.bytes', bytes);
  equal(t.getxattr('f', 'user.bytes'), bytes, 'value');
});

test('attributes are listed, each once', (t) => {
  t.file('f');
  const names = Array.from({ length: 20 }, (_, i) => `user.name-${i}`).toSorted();
  for (const name of names) t.setxattr('f', name, '1');
  equal(mine(t, 'f'), names, 'names');
});

test('a file without attributes lists none', (t) => {
  t.file('f');
  equal(mine(t, 'f'), [], 'names');
});

test('an attribute that is not there fails with ENODATA', (t) => {
  t.file('f');
  fails('ENODATA', () => t.getxattr('f', 'user.none'));
  fails('ENODATA', () => t.removexattr('f', 'user.none'));
});

test('an attribute that is removed is gone, and the others stay', (t) => {
  t.file('f');
  t.setxattr('f', 'user.a', '1');
  t.setxattr('f', 'user.b', '2');
  t.removexattr('f', 'user.a');
  fails('ENODATA', () => t.getxattr('f', 'user.a'));
  equal(mine(t, 'f'), ['user.b'], 'names');
});

test('XATTR_CREATE sets an attribute that is not there, and fails with EEXIST on one that is', (t) => {
  t.file('f');
  t.setxattr('f', 'user.a', '1', XATTR_CREATE);
  fails('EEXIST', () => t.setxattr('f', 'user.a', '2', XATTR_CREATE));
  equal(value(t, 'f', 'user.a'), '1', 'value');
});

test('XATTR_REPLACE sets an attribute that is there, and fails with ENODATA on one that is not', (t) => {
  t.file('f');
  fails('ENODATA', () => t.setxattr('f', 'user.a', '1', XATTR_REPLACE));
  t.setxattr('f', 'user.a', '1');
  t.setxattr('f', 'user.a', '2', XATTR_REPLACE);
  equal(value(t, 'f', 'user.a'), '2', 'value');
});

test('a flag that does not exist fails with EINVAL', (t) => {
  t.file('f');
  fails('EINVAL', () => t.setxattr('f', 'user.a', '1', 4));
});

test('getxattr with size 0 tells the length', (t) => {
  t.file('f');
  t.setxattr('f', 'user.a', '12345');
  equal(t.getxattr('f', 'user.a', 0).length, 5, 'length');
});

test('getxattr with room for less than the value fails with ERANGE', (t) => {
  t.file('f');
  t.setxattr('f', 'user.a', '12345');
  fails('ERANGE', () => t.getxattr('f', 'user.a', 4));
});

test('listxattr with room for less than the names fails with ERANGE', (t) => {
  t.file('f');
  t.setxattr('f', 'user.a', '1');
  fails('ERANGE', () => t.listxattr('f', 3));
});

test(
  'a name of 255 bytes is taken, one of 256 fails with ERANGE',
  (t) => {
    t.file('f');
    const longest = `user.${'x'.repeat(XATTR_NAME_MAX - 5)}`;
    t.setxattr('f', longest, '1');
    equal(mine(t, 'f'), [longest], 'names');
    fails(['ERANGE', 'ENAMETOOLONG'], () => t.setxattr('f', `${longest}x`, '1'));
  },
  'kernel',
);

test(
  'a value of more than 65536 bytes fails with E2BIG',
  (t) => {
    t.file('f');
    fails('E2BIG', () => t.setxattr('f', 'user.a', new Uint8Array(XATTR_SIZE_MAX + 1)));
  },
  'kernel',
);

test('a value of 1000 bytes is kept', (t) => {
  t.file('f');
  const bytes = Buffer.alloc(1000, 'a long value ');
  t.setxattr('f', 'user.a', bytes);
  equal(t.getxattr('f', 'user.a'), bytes, 'value');
});

test('a name without a class fails with EOPNOTSUPP', (t) => {
  t.file('f');
  fails(['EOPNOTSUPP', 'EINVAL'], () => t.setxattr('f', 'color', '1'));
});

test('a name of a class and nothing else fails with EINVAL', (t) => {
  t.file('f');
  fails(['EINVAL', 'EOPNOTSUPP'], () => t.setxattr('f', 'user.', '1'));
});

test('attributes of a directory are set, listed and read', (t) => {
  t.mkdir('d');
  t.setxattr('d', 'user.a', '1');
  equal([mine(t, 'd'), value(t, 'd', 'user.a')], [['user.a'], '1'], 'names and value');
});

test(
  'a descriptor sets and reads attributes',
  (t) => {
    const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
    t.setxattr(fd, 'user.a', '1');
    equal([value(t, fd, 'user.a'), mine(t, fd), value(t, 'f', 'user.a')], ['1', ['user.a'], '1'], 'values and names');
    t.removexattr(fd, 'user.a');
    equal(mine(t, 'f'), [], 'names');
  },
  'kernel',
);

test(
  'a descriptor that is open for reading only sets attributes of a file that may be written',
  (t) => {
    t.file('f');
    t.setxattr(t.open('f', O_RDONLY), 'user.a', '1');
    equal(value(t, 'f', 'user.a'), '1', 'value');
  },
  'kernel',
);

test(
  'a descriptor with O_PATH sets no attributes: EBADF',
  (t) => {
    t.file('f');
    fails('EBADF', () => t.setxattr(t.open('f', O_PATH), 'user.a', '1'));
  },
  'kernel',
);

test(
  'an unlinked file has attributes by its descriptor',
  (t) => {
    const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
    t.unlink('f');
    t.setxattr(fd, 'user.a', '1');
    equal(value(t, fd, 'user.a'), '1', 'value');
  },
  'kernel',
);

test(
  'a symlink itself takes no attribute of the user class: EPERM',
  (t) => {
    t.file('f');
    t.symlink('f', 'l');
    fails(['EPERM', 'EOPNOTSUPP'], () => t.setxattr('l', 'user.a', '1'));
    equal(mine(t, 'f'), [], 'names at its target');
  },
  'kernel',
);

test(
  'FIFOs and sockets take no attribute of the user class',
  (t) => {
    t.mknod('p', S_IFIFO | 0o666);
    t.mknod('s', S_IFSOCK | 0o666);
    fails(['EPERM', 'EOPNOTSUPP'], () => t.setxattr('p', 'user.a', '1'));
    // Newer kernels let sockets have some.
    try {
      t.setxattr('s', 'user.a', '1');
    } catch (error) {
      fails(['EPERM', 'EOPNOTSUPP'], () => {
        throw error;
      });
    }
  },
  'kernel',
);

test('an attribute of a name that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.setxattr('none', 'user.a', '1'));
  fails('ENOENT', () => t.getxattr('none', 'user.a'));
  fails('ENOENT', () => t.listxattr('none'));
});

test('attributes go with a file that is renamed, and are those of each of its names', (t) => {
  t.file('f');
  t.setxattr('f', 'user.a', '1');
  t.rename('f', 'g');
  t.link('g', 'h');
  equal([value(t, 'g', 'user.a'), value(t, 'h', 'user.a')], ['1', '1'], 'values');
});

test('attributes stay when a file is written, cut and its mode changed', (t) => {
  t.file('f', 'abc');
  t.setxattr('f', 'user.a', '1');
  t.truncate('f', 1);
  t.chmod('f', 0o600);
  t.write(t.open('f', O_WRONLY), 'xyz');
  equal(value(t, 'f', 'user.a'), '1', 'value');
});

test('a new file of the name of a removed one has none of its attributes', (t) => {
  t.file('f');
  t.setxattr('f', 'user.a', '1');
  t.unlink('f');
  t.file('f');
  equal(mine(t, 'f'), [], 'names');
});

const OWNER = { uid: 5001, gid: 5001 };
const OTHER = { uid: 5002, gid: 5002 };

test(
  'setting an attribute takes the right to write, reading it the right to read',
  (t) => {
    t.file('f', '', 0o644);
    t.setxattr('f', 'user.a', '1');
    fails('EACCES', () => t.as(OTHER, () => t.setxattr('f', 'user.a', '2')));
    equal(
      t.as(OTHER, () => value(t, 'f', 'user.a')),
      '1',
      'value',
    );
    t.chmod('f', 0o600);
    fails('EACCES', () => t.as(OTHER, () => t.getxattr('f', 'user.a')));
  },
  'users',
);

test(
  'removing an attribute takes the right to write',
  (t) => {
    t.file('f', '', 0o644);
    t.setxattr('f', 'user.a', '1');
    fails('EACCES', () => t.as(OTHER, () => t.removexattr('f', 'user.a')));
  },
  'users',
);

test(
  'in a sticky directory of another user attributes can be set by its owner alone',
  (t) => {
    t.mkdir('d', 0o1777);
    fails('EPERM', () => t.as(OTHER, () => t.setxattr('d', 'user.a', '1')));
    t.setxattr('d', 'user.a', '1');
  },
  'users',
);

test(
  'attributes of the trusted class are not for users',
  (t) => {
    t.file('f', '', 0o666);
    supported('trusted.*', () => t.setxattr('f', 'trusted.a', '1'), 'EPERM', 'EOPNOTSUPP');
    equal(value(t, 'f', 'trusted.a'), '1', 'value');
  },
  'kernel',
);

export const acls = new Topic('access control lists', 'acl', 'users');
const acl = acls.test;

acl('an ACL gives a named user rights that others have not', (t) => {
  t.file('f', 'abc', 0o600);
  t.setxattr('f', ACL_ACCESS, aclValue([{ user: 5002, rights: 4 }], { group: 0, other: 0 }));
  equal(
    t.as(OTHER, () => t.contents('f')),
    'abc',
    'contents',
  );
  fails('EACCES', () => t.as(OTHER, () => t.open('f', O_WRONLY)));
  fails('EACCES', () => t.as(OWNER, () => t.open('f', O_RDONLY)));
});

acl('an ACL gives a named group rights', (t) => {
  t.file('f', 'abc', 0o600);
  t.setxattr('f', ACL_ACCESS, aclValue([{ group: 6000, rights: 4 }], { group: 0, other: 0 }));
  equal(
    t.as({ ...OTHER, groups: [6000] }, () => t.contents('f')),
    'abc',
    'contents',
  );
  fails('EACCES', () => t.as(OTHER, () => t.open('f', O_RDONLY)));
});

acl('an ACL takes rights from a named user that others have', (t) => {
  t.file('f', 'abc', 0o644);
  t.setxattr('f', ACL_ACCESS, aclValue([{ user: 5002, rights: 0 }]));
  fails('EACCES', () => t.as(OTHER, () => t.open('f', O_RDONLY)));
  equal(
    t.as(OWNER, () => t.contents('f')),
    'abc',
    'contents for others',
  );
});

acl('the mask of an ACL bounds the rights of named users', (t) => {
  t.file('f', 'abc', 0o600);
  t.setxattr('f', ACL_ACCESS, aclValue([{ user: 5002, rights: 6 }], { other: 0, mask: 4 }));
  equal(
    t.as(OTHER, () => t.contents('f')),
    'abc',
    'contents',
  );
  fails('EACCES', () => t.as(OTHER, () => t.open('f', O_WRONLY)));
});

acl('the group bits of the mode are the mask of the ACL', (t) => {
  t.file('f', 'abc', 0o600);
  t.setxattr('f', ACL_ACCESS, aclValue([{ user: 5002, rights: 4 }], { group: 0, other: 0, mask: 6 }));
  modeIs(t.stat('f').mode, 0o660);
});

acl('chmod of the group bits changes the mask of the ACL', (t) => {
  t.file('f', 'abc', 0o600);
  t.setxattr('f', ACL_ACCESS, aclValue([{ user: 5002, rights: 4 }], { group: 0, other: 0 }));
  t.chmod('f', 0o600);
  fails('EACCES', () => t.as(OTHER, () => t.open('f', O_RDONLY)));
  t.chmod('f', 0o640);
  equal(
    t.as(OTHER, () => t.contents('f')),
    'abc',
    'contents',
  );
});

acl('an ACL that says no more than a mode is the mode', (t) => {
  t.file('f', '', 0o600);
  t.setxattr('f', ACL_ACCESS, aclValue([], { owner: 6, group: 4, other: 4 }));
  modeIs(t.stat('f').mode, 0o644);
  ok(!t.listxattr('f').includes(ACL_ACCESS), 'it is listed as an attribute');
});

acl('an ACL that is set is read back', (t) => {
  t.file('f');
  const set = aclValue([
    { user: 5002, rights: 4 },
    { group: 6000, rights: 6 },
  ]);
  t.setxattr('f', ACL_ACCESS, set);
  equal(t.getxattr('f', ACL_ACCESS), set, 'value');
  ok(t.listxattr('f').includes(ACL_ACCESS), 'it is not listed');
});

acl('an ACL that is removed leaves the mode alone to decide', (t) => {
  t.file('f', 'abc', 0o600);
  t.setxattr('f', ACL_ACCESS, aclValue([{ user: 5002, rights: 4 }], { group: 0, other: 0 }));
  t.removexattr('f', ACL_ACCESS);
  fails('ENODATA', () => t.getxattr('f', ACL_ACCESS));
});

acl('a default ACL is given to what is created in the directory', (t) => {
  t.mkdir('d', 0o777);
  t.setxattr('d', ACL_DEFAULT, aclValue([{ user: 5002, rights: 4 }], { owner: 7, group: 0, other: 0 }));
  t.file('d/f', 'abc', 0o666);
  equal(
    t.as(OTHER, () => t.contents('d/f')),
    'abc',
    'contents',
  );
  modeIs(t.stat('d/f').mode, 0o660);
});

acl('a default ACL is inherited by directories as their default, and not by files', (t) => {
  t.mkdir('d', 0o777);
  const set = aclValue([{ user: 5002, rights: 5 }], { owner: 7 });
  t.setxattr('d', ACL_DEFAULT, set);
  t.mkdir('d/e', 0o777);
  t.file('d/f');
  equal(t.getxattr('d/e', ACL_DEFAULT), set, 'value');
  fails(['ENODATA', 'EACCES'], () => t.getxattr('d/f', ACL_DEFAULT));
});

acl('a default ACL takes the place of the umask', (t) => {
  t.mkdir('d', 0o777);
  t.setxattr('d', ACL_DEFAULT, aclValue([], { owner: 7, group: 6, other: 6 }));
  t.umask(0o077);
  t.file('d/f', '', 0o666);
  modeIs(t.stat('d/f').mode, 0o666);
});

acl('a default ACL of a file fails with EACCES', (t) => {
  t.file('f');
  fails('EACCES', () => t.setxattr('f', ACL_DEFAULT, aclValue([])));
});

acl('an ACL is set by the owner alone', (t) => {
  t.file('f', '', 0o666);
  fails('EPERM', () => t.as(OTHER, () => t.setxattr('f', ACL_ACCESS, aclValue([{ user: 5002, rights: 7 }]))));
});

acl('an ACL that is none fails with EINVAL', (t) => {
  t.file('f');
  fails('EINVAL', () => t.setxattr('f', ACL_ACCESS, new Uint8Array([2, 0, 0, 0, 9, 9, 9, 9, 0, 0, 0, 0])));
});

acl('access follows the ACL', (t) => {
  t.file('f', '', 0o600);
  t.setxattr('f', ACL_ACCESS, aclValue([{ user: 5002, rights: 4 }], { group: 0, other: 0 }));
  t.as(OTHER, () => t.access('f', 4));
  fails('EACCES', () => t.as(OTHER, () => t.access('f', 2)));
});

acl('a directory lets in whom its ACL names', (t) => {
  t.mkdir('d', 0o700);
  t.file('d/f', 'abc', 0o644);
  t.setxattr('d', ACL_ACCESS, aclValue([{ user: 5002, rights: 5 }], { owner: 7, group: 0, other: 0 }));
  equal(
    t.as(OTHER, () => t.contents('d/f')),
    'abc',
    'contents',
  );
  fails('EACCES', () => t.as(OWNER, () => t.open('d', O_RDONLY | O_DIRECTORY)));
});
