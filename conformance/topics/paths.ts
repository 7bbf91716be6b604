import { O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_PATH, O_RDONLY, O_WRONLY } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { F_OK, NAME_MAX, PATH_MAX, S_IFIFO, S_IFLNK, S_IFMT } from '../constants.ts';
import type { Face } from '../face.ts';
import { equal, fails, ok, supported } from '../verdicts.ts';

/** Names, paths, symlinks, limits. */
export const paths = new Topic('paths');
const { test } = paths;

/** Calls that take a path to something that exists. */
const CALLS: readonly (readonly [string, (t: Face, path: string) => unknown])[] = [
  ['open', (t, path) => t.open(path, O_RDONLY)],
  ['stat', (t, path) => t.stat(path)],
  ['lstat', (t, path) => t.lstat(path)],
  ['access', (t, path) => t.access(path, F_OK)],
  ['chmod', (t, path) => t.chmod(path, 0o644)],
  ['chown', (t, path) => t.chown(path, -1, -1)],
  ['utimensat', (t, path) => t.utimens(path, 'now', 'now')],
  ['truncate', (t, path) => t.truncate(path, 0)],
  ['readlink', (t, path) => t.readlink(path)],
  ['unlink', (t, path) => t.unlink(path)],
  ['rmdir', (t, path) => t.rmdir(path)],
  ['statfs', (t, path) => t.statfs(path)],
  ['getxattr', (t, path) => t.getxattr(path, 'user.none')],
  ['rename', (t, path) => t.rename(path, 'target')],
  ['link', (t, path) => t.link(path, 'target')],
];
/** Calls that make a name. */
const MAKERS: readonly (readonly [string, (t: Face, path: string) => unknown])[] = [
  ['open with O_CREAT', (t, path) => t.open(path, O_CREAT | O_WRONLY, 0o644)],
  ['mkdir', (t, path) => t.mkdir(path)],
  ['mknod', (t, path) => t.mknod(path, S_IFIFO | 0o644)],
  ['symlink', (t, path) => t.symlink('x', path)],
];

for (const [what, call] of [...CALLS, ...MAKERS]) {
  test(`${what}: a file within the path is ENOTDIR, a missing directory ENOENT`, (t) => {
    t.file('f');
    fails('ENOTDIR', () => call(t, 'f/name'));
    fails('ENOENT', () => call(t, 'none/name'));
  });

  test(`${what}: a name of 256 bytes is ENAMETOOLONG, as the last and as one within the path`, (t) => {
    const long = 'x'.repeat(NAME_MAX + 1);
    fails('ENAMETOOLONG', () => call(t, long));
    fails('ENAMETOOLONG', () => call(t, `${long}/name`));
  });

  test(
    `${what}: a symlink to itself within the path is ELOOP`,
    (t) => {
      t.symlink('loop', 'loop');
      fails('ELOOP', () => call(t, 'loop/name'));
    },
    'kernel',
  );
}

for (const [what, make] of MAKERS) {
  test(`${what}: a name of 255 bytes is made, found and listed`, (t) => {
    const long = 'x'.repeat(NAME_MAX);
    make(t, long);
    t.lstat(long);
    equal(t.names(), [long], 'names');
  });
}

test(
  'a path of 4095 bytes is taken, one of 4096 is ENAMETOOLONG',
  (t) => {
    t.file('f', 'abc');
    const room = PATH_MAX - 1 - (t.base.length + 1) - 1;
    const way = './'.repeat(Math.floor(room / 2)) + (room % 2 === 1 ? '/' : '');
    equal(t.contents(`${way}f`), 'abc', 'contents');
    fails('ENAMETOOLONG', () => t.open(`${way}/f`, O_RDONLY));
  },
  'kernel',
);

test(
  'empty paths fail with ENOENT',
  (t) => {
    for (const [, call] of CALLS) fails('ENOENT', () => call(t, ''));
    for (const [, call] of MAKERS) fails('ENOENT', () => call(t, ''));
  },
  'kernel',
);

test('. and many slashes within a path change nothing', (t) => {
  t.mkdir('d');
  t.file('d/f', 'abc');
  equal(t.contents('.//d/././/f'), 'abc', 'contents');
});

test(
  'a file with a trailing slash is ENOTDIR for open, stat, chmod, truncate and access',
  (t) => {
    t.file('f', 'abc');
    fails('ENOTDIR', () => t.open('f/', O_RDONLY));
    fails('ENOTDIR', () => t.stat('f/'));
    fails('ENOTDIR', () => t.chmod('f/', 0o600));
    fails('ENOTDIR', () => t.truncate('f/', 0));
    fails('ENOTDIR', () => t.access('f/', F_OK));
  },
  'kernel',
);

test(
  'a symlink to a directory with a trailing slash is the directory',
  (t) => {
    t.mkdir('d');
    t.symlink('d', 'l');
    equal(t.lstat('l/').ino, t.stat('d').ino, 'inode');
  },
  'kernel',
);

test(
  'a symlink to a file with a trailing slash is ENOTDIR',
  (t) => {
    t.file('f');
    t.symlink('f', 'l');
    fails('ENOTDIR', () => t.lstat('l/'));
  },
  'kernel',
);

test(
  'a trailing slash is refused by symlink, link and mknod',
  (t) => {
    t.file('f');
    fails(['ENOENT', 'ENOTDIR'], () => t.symlink('x', 'l/'));
    fails(['ENOENT', 'ENOTDIR'], () => t.link('f', 'm/'));
    fails(['ENOENT', 'ENOTDIR'], () => t.mknod('p/', S_IFIFO | 0o644));
    equal(t.names(), ['f'], 'names');
  },
  'kernel',
);

test(
  'mkdir and open with O_CREAT through a dangling symlink with a trailing slash make nothing',
  (t) => {
    t.symlink('none', 'l');
    fails(['ENOENT', 'EISDIR'], () => t.open('l/', O_CREAT | O_WRONLY, 0o644));
    fails('EEXIST', () => t.mkdir('l'));
    equal(t.names(), ['l'], 'names');
  },
  'kernel',
);

const STRANGE = [
  ['a newline', 'a\nb'],
  ['a blank at each end', ' a '],
  ['quotes and a backslash', '\'"\\'],
  ['shell characters', '*?[$`;|&<>'],
  ['umlauts', '\u00e4\u00f6\u00fc\u00df'],
  ['Chinese', '\u4e2d\u6587'],
  ['an emoji', '\u{1f600}'],
  ['three dots', '...'],
  ['a leading hyphen', '-rf'],
  ['all bytes below the blank', String.fromCodePoint(...Array.from({ length: 31 }, (_, i) => i + 1))],
] as const;
for (const [what, name] of STRANGE) {
  test(`a name of ${what} is made, listed, renamed and removed`, (t) => {
    t.file(name, 'abc');
    equal(t.names(), [Buffer.from(name).toString('latin1')], 'names');
    t.rename(name, `${name}2`);
    equal(t.contents(`${name}2`), 'abc', 'contents');
    t.unlink(`${name}2`);
    equal(t.names(), [], 'names once it is removed');
  });
}

test('a name of bytes that are no UTF-8 is kept as it is', (t) => {
  const bytes = Uint8Array.from([0xff, 0xfe, 0x80, 0xc3, 0x28]);
  t.file(bytes, 'abc');
  equal(t.names(), [Buffer.from(bytes).toString('latin1')], 'names');
  equal(t.contents(bytes), 'abc', 'contents');
});

test('names in two Unicode forms, and in two cases, are different names', (t) => {
  for (const name of ['\u00e9', 'e\u0301', 'name', 'Name', 'NAME']) t.file(name, name);
  equal(t.names().length, 5, 'names');
  equal(t.contents('Name'), 'Name', 'contents');
});

test('255 bytes of UTF-8 are a name', (t) => {
  const name = '\u4e2d'.repeat(85);
  t.file(name);
  equal(t.names(), [Buffer.from(name).toString('latin1')], 'names');
});

test('a symlink keeps its target as it is, and its size is the length of it', (t) => {
  for (const [i, target] of ['x', '../a/b', '/absolute/path', 'a//b/./c/', '\n \u4e2d', '.'].entries()) {
    t.symlink(target, `l${i}`);
    equal(t.readlink(`l${i}`), Buffer.from(target).toString('latin1'), 'target');
    equal(t.lstat(`l${i}`).size, Buffer.byteLength(target), 'size');
  }
});

for (const length of [1, 59, 60, 61, 255, 1023, 4000, 4095]) {
  test(`a symlink has a target of ${length} bytes`, (t) => {
    const target = 'x'.repeat(length);
    supported(`a target of ${length} bytes`, () => t.symlink(target, 'l'), 'ENAMETOOLONG');
    equal(t.readlink('l'), target, 'target');
  });
}

test(
  'a target of 4096 bytes is ENAMETOOLONG',
  (t) => {
    fails('ENAMETOOLONG', () => t.symlink('x'.repeat(4096), 'l'));
  },
  'kernel',
);

test(
  'an empty target is ENOENT',
  (t) => {
    fails('ENOENT', () => t.symlink('', 'l'));
  },
  'kernel',
);

test('symlink over a name that exists fails with EEXIST', (t) => {
  t.file('f');
  t.symlink('none', 'l');
  fails('EEXIST', () => t.symlink('x', 'f'));
  fails('EEXIST', () => t.symlink('x', 'l'));
});

test(
  'readlink with too little room gives the beginning',
  (t) => {
    t.symlink('abcdef', 'l');
    equal(t.readlink('l', 3), 'abc', 'target');
  },
  'kernel',
);

test('readlink of a file or a directory fails with EINVAL', (t) => {
  t.file('f');
  t.mkdir('d');
  fails('EINVAL', () => t.readlink('f'));
  fails('EINVAL', () => t.readlink('d'));
});

test('stat follows a symlink, lstat does not', (t) => {
  t.file('f', 'abc');
  t.symlink('f', 'l');
  equal(t.stat('l').ino, t.stat('f').ino, 'inode by stat');
  equal(t.lstat('l').mode & S_IFMT, S_IFLNK, 'type by lstat');
});

test('stat of a dangling symlink fails with ENOENT', (t) => {
  t.symlink('none', 'l');
  fails('ENOENT', () => t.stat('l'));
  fails('ENOENT', () => t.open('l', O_RDONLY));
});

test('the mode of a symlink is 0777', (t) => {
  t.symlink('x', 'l');
  equal(t.lstat('l').mode & 0o777, 0o777, 'mode');
});

test('a symlink leads on relative to where it lies', (t) => {
  t.mkdir('a');
  t.mkdir('b');
  t.file('b/f', 'abc');
  t.symlink('../b/f', 'a/l');
  equal(t.contents('a/l'), 'abc', 'contents');
  t.rename('a/l', 'l');
  fails('ENOENT', () => t.open('l', O_RDONLY));
});

test('a symlink whose target is replaced leads to the new file', (t) => {
  t.file('f', 'old');
  t.symlink('f', 'l');
  equal(t.contents('l'), 'old', 'contents before');
  t.unlink('f');
  t.file('f', 'new');
  equal(t.contents('l'), 'new', 'contents after');
});

test('a symlink that is replaced by another leads elsewhere at once', (t) => {
  t.file('one', '1');
  t.file('two', '2');
  t.symlink('one', 'l');
  equal(t.contents('l'), '1', 'contents before');
  t.unlink('l');
  t.symlink('two', 'l');
  equal([t.contents('l'), t.readlink('l')], ['2', 'two'], 'contents and target after');
});

test(
  '40 symlinks in a row are followed, 41 are ELOOP',
  (t) => {
    t.file('l0', 'abc');
    for (let i = 1; i <= 41; i += 1) t.symlink(`l${i - 1}`, `l${i}`);
    equal(t.contents('l40'), 'abc', 'contents');
    fails('ELOOP', () => t.open('l41', O_RDONLY));
  },
  'kernel',
);

test('two symlinks that lead to each other are ELOOP', (t) => {
  t.symlink('b', 'a');
  t.symlink('a', 'b');
  fails('ELOOP', () => t.stat('a'));
  equal(t.readlink('a'), 'b', 'target');
});

test(
  'a symlink with O_PATH and O_NOFOLLOW can be read by its descriptor',
  (t) => {
    t.symlink('target', 'l');
    const fd = t.open('l', O_PATH | O_NOFOLLOW);
    ok((t.fstat(fd).mode & S_IFMT) === S_IFLNK, 'it is no symlink');
  },
  'kernel',
);

test('a name that changes from file to directory and back is what it is each time', (t) => {
  for (let i = 0; i < 5; i += 1) {
    t.file('x', 'abc');
    equal(t.contents('x'), 'abc', 'contents');
    t.unlink('x');
    t.mkdir('x');
    t.open('x', O_RDONLY | O_DIRECTORY);
    fails('EISDIR', () => t.open('x', O_WRONLY));
    t.rmdir('x');
  }
});

test('statfs gives blocks, files and the longest name', (t) => {
  const { bsize, blocks, bfree, bavail, namelen } = t.statfs('.');
  ok(bsize > 0 && blocks > 0, `${blocks} blocks of ${bsize}`);
  ok(bfree <= blocks && bavail <= bfree, `${bfree} blocks free, ${bavail} for users`);
  equal(namelen, NAME_MAX, 'longest name');
});

test('statfs and fstatfs agree', (t) => {
  t.file('f');
  const [one, two] = [t.statfs('f'), t.fstatfs(t.open('f', O_RDONLY))];
  equal([two.type, two.bsize, two.blocks, two.files], [one.type, one.bsize, one.blocks, one.files], 'type and sizes');
});
