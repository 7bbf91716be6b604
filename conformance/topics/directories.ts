import { O_DIRECTORY, O_RDONLY } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import {
  DT_CHR,
  DT_DIR,
  DT_FIFO,
  DT_LNK,
  DT_REG,
  DT_SOCK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFSOCK,
  SEEK_CUR,
  SEEK_SET,
} from '../constants.ts';
import type { Entry, Face } from '../face.ts';
import { equal, fails, modeIs, ok } from '../verdicts.ts';

export const directories = new Topic('directories');
const { test } = directories;

const READ = O_RDONLY | O_DIRECTORY;
const MANY = 2000;

function fill(t: Face, folder: string, count: number): void {
  t.mkdir(folder);
  for (let i = 0; i < count; i += 1) t.mknod(`${folder}/entry-${i}`, 0o100644);
}

/** Names less the dots, sorted; a name that comes twice is twice there. */
function namesOf(entries: readonly Entry[]): string[] {
  return entries
    .map(({ name }) => name)
    .filter((name) => name !== '.' && name !== '..')
    .toSorted();
}

const expectedNames = (count: number): string[] => Array.from({ length: count }, (_, i) => `entry-${i}`).toSorted();

test('mkdir makes a directory with the mode that it is given', (t) => {
  for (const mode of [0o700, 0o755, 0o777, 0o000, 0o1777]) {
    t.mkdir(`d${mode}`, mode);
    const found = t.stat(`d${mode}`);
    equal(found.mode & S_IFMT, S_IFDIR, 'type');
    modeIs(found.mode, mode);
  }
});

test('mkdir of a name that exists fails with EEXIST, whatever it is', (t) => {
  t.mkdir('d');
  t.file('f');
  t.symlink('none', 'l');
  t.mknod('p', S_IFIFO | 0o644);
  for (const name of ['d', 'f', 'l', 'p']) fails('EEXIST', () => t.mkdir(name));
});

test(
  'mkdir of . and .. fails with EEXIST',
  (t) => {
    fails('EEXIST', () => t.mkdir('.'));
    fails('EEXIST', () => t.mkdir('..'));
  },
  'kernel',
);

test(
  'mkdir with a trailing slash makes the directory',
  (t) => {
    t.mkdir('d/');
    equal(t.names(), ['d'], 'names');
  },
  'kernel',
);

test('mkdir below a name that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.mkdir('none/d'));
});

test('mkdir below a file fails with ENOTDIR', (t) => {
  t.file('f');
  fails('ENOTDIR', () => t.mkdir('f/d'));
});

test(
  'mkdir in a directory that was removed fails with ENOENT',
  (t) => {
    t.mkdir('d');
    const fd = t.open('d', READ);
    t.rmdir('d');
    fails('ENOENT', () => t.mkdirat(fd, 'e', 0o755));
  },
  'kernel',
);

test('mkdirat makes a directory below a descriptor', (t) => {
  t.mkdir('d');
  t.mkdirat(t.open('d', READ), 'e', 0o755);
  equal(t.names('d'), ['e'], 'names');
});

test('rmdir removes an empty directory', (t) => {
  t.mkdir('d');
  t.rmdir('d');
  equal(t.names(), [], 'names');
});

test('rmdir of a directory with a file, a directory, a symlink or a FIFO in it fails with ENOTEMPTY', (t) => {
  for (const [i, make] of [
    () => t.file('d0/x'),
    () => t.mkdir('d1/x'),
    () => t.symlink('none', 'd2/x'),
    () => t.mknod('d3/x', S_IFIFO | 0o644),
  ].entries()) {
    t.mkdir(`d${i}`);
    make();
    fails(['ENOTEMPTY', 'EEXIST'], () => t.rmdir(`d${i}`));
  }
});

test('rmdir succeeds once the last entry is removed', (t) => {
  t.mkdir('d');
  t.file('d/f');
  fails(['ENOTEMPTY', 'EEXIST'], () => t.rmdir('d'));
  t.unlink('d/f');
  t.rmdir('d');
  ok(!t.exists('d'), 'it still exists');
});

test('rmdir of a file, a symlink to a directory or a FIFO fails with ENOTDIR', (t) => {
  t.file('f');
  t.mkdir('d');
  t.symlink('d', 'l');
  t.mknod('p', S_IFIFO | 0o644);
  for (const name of ['f', 'l', 'p']) fails('ENOTDIR', () => t.rmdir(name));
});

test('rmdir of a name that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.rmdir('none'));
});

test(
  'rmdir of a path that ends in . fails with EINVAL',
  (t) => {
    t.mkdir('d');
    fails('EINVAL', () => t.rmdir('d/.'));
  },
  'kernel',
);

test(
  'rmdir of a path that ends in .. fails with ENOTEMPTY',
  (t) => {
    t.mkdir('d');
    t.mkdir('d/e');
    fails(['ENOTEMPTY', 'EEXIST'], () => t.rmdir('d/e/..'));
  },
  'kernel',
);

test(
  'rmdir with a trailing slash removes the directory',
  (t) => {
    t.mkdir('d');
    t.rmdir('d/');
    equal(t.names(), [], 'names');
  },
  'kernel',
);

test(
  'rmdir of a symlink to a directory with a trailing slash fails with ENOTDIR',
  (t) => {
    t.mkdir('d');
    t.symlink('d', 'l');
    fails('ENOTDIR', () => t.rmdir('l/'));
  },
  'kernel',
);

test('unlinkat with AT_REMOVEDIR removes a directory below a descriptor', (t) => {
  t.mkdir('d');
  t.mkdir('d/e');
  t.unlinkat(t.open('d', READ), 'e', 0x200);
  equal(t.names('d'), [], 'names');
});

test('nothing is created in a directory that was removed while open', (t) => {
  t.mkdir('d');
  const fd = t.open('d', READ);
  t.rmdir('d');
  fails('ENOENT', () => t.openat(fd, 'f', 0o101, 0o644));
});

test(
  'the entries of a directory that was removed while open cannot be read: ENOENT',
  (t) => {
    t.mkdir('d');
    const fd = t.open('d', READ);
    t.rmdir('d');
    fails('ENOENT', () => t.getdents(fd));
  },
  'kernel',
);

test('fstat of a directory that was removed while open gives a directory still', (t) => {
  t.mkdir('d');
  const fd = t.open('d', READ);
  t.rmdir('d');
  equal(t.fstat(fd).mode & S_IFMT, S_IFDIR, 'type');
});

test('a new directory of the name of a removed one is another', (t) => {
  t.mkdir('d');
  const fd = t.open('d', READ);
  t.rmdir('d');
  t.mkdir('d');
  t.file('d/f');
  ok(t.fstat(fd).ino !== t.stat('d').ino, 'both are one inode');
});

test('an empty directory lists . and .. alone, each once', (t) => {
  t.mkdir('d');
  equal(
    t
      .entries('d')
      .map(({ name }) => name)
      .toSorted(),
    ['.', '..'],
    'names',
  );
});

test('. and .. are listed with the inode numbers of the directory and of its parent', (t) => {
  t.mkdir('d');
  const entries = t.entries('d');
  const ino = (name: string): bigint | undefined => entries.find((entry) => entry.name === name)?.ino;
  equal([ino('.'), ino('..')], [t.stat('d').ino, t.stat('.').ino], 'inode numbers');
});

test('entries are listed with the inode numbers that stat gives', (t) => {
  t.file('f');
  t.mkdir('d');
  t.symlink('x', 'l');
  for (const { name, ino } of t.entries('.')) {
    if (!name.startsWith('.')) equal(ino, t.lstat(name).ino, `inode number of ${name}`);
  }
});

test('entries are listed with their types', (t) => {
  t.file('reg');
  t.mkdir('dir');
  t.symlink('x', 'lnk');
  t.mknod('fifo', S_IFIFO | 0o644);
  t.mknod('sock', S_IFSOCK | 0o644);
  const types: Readonly<Record<string, number>> = {
    reg: DT_REG,
    dir: DT_DIR,
    lnk: DT_LNK,
    fifo: DT_FIFO,
    sock: DT_SOCK,
  };
  for (const { name, type } of t.entries('.')) {
    // 0: a file system may say that it does not know.
    if (name in types && type !== 0) equal(type, types[name], `type of ${name}`);
  }
});

test(
  'a device node is listed with its type',
  (t) => {
    t.mknod('chr', S_IFCHR | 0o644, 1, 3);
    const type = t.entries('.').find(({ name }) => name === 'chr')?.type;
    ok(type === DT_CHR || type === 0, `type ${type}`);
  },
  'devices',
);

test(`${MANY} entries are listed, each once`, (t) => {
  fill(t, 'd', MANY);
  equal(namesOf(t.entries('d')), expectedNames(MANY), 'names');
});

test('entries are listed, each once, with a buffer for two or three of them', (t) => {
  fill(t, 'd', 100);
  equal(namesOf(t.restOfEntries(t.open('d', READ), 80)), expectedNames(100), 'names');
});

test(
  'a buffer that is too small for an entry fails with EINVAL',
  (t) => {
    t.mkdir('d');
    t.file(`d/${'x'.repeat(200)}`);
    const fd = t.open('d', READ);
    fails('EINVAL', () => t.restOfEntries(fd, 64));
  },
  'kernel',
);

test('a directory that is read to its end stays at its end', (t) => {
  t.mkdir('d');
  const fd = t.open('d', READ);
  t.restOfEntries(fd);
  equal(t.getdents(fd).length, 0, 'entries');
});

test('lseek to 0 starts the listing anew', (t) => {
  fill(t, 'd', 10);
  const fd = t.open('d', READ);
  t.restOfEntries(fd);
  t.lseek(fd, 0, SEEK_SET);
  equal(namesOf(t.restOfEntries(fd)), expectedNames(10), 'names');
});

test('lseek to 0 shows what was created and what was removed since', (t) => {
  fill(t, 'd', 5);
  const fd = t.open('d', READ);
  t.restOfEntries(fd);
  t.file('d/new');
  t.unlink('d/entry-0');
  t.lseek(fd, 0, SEEK_SET);
  equal(namesOf(t.restOfEntries(fd)), ['entry-1', 'entry-2', 'entry-3', 'entry-4', 'new'], 'names');
});

test('lseek to the position of an entry goes on behind it', (t) => {
  fill(t, 'd', 150);
  const fd = t.open('d', READ);
  const all = t.restOfEntries(fd);
  for (const i of [0, 1, 75, 149]) {
    t.lseek(fd, all[i].off, SEEK_SET);
    const rest = t.restOfEntries(fd).map(({ name }) => name);
    equal(
      rest,
      all.slice(i + 1).map(({ name }) => name),
      `names behind entry ${i}`,
    );
  }
});

test(
  'the position of a directory, as lseek tells it, can be gone back to',
  (t) => {
    fill(t, 'd', 150);
    const fd = t.open('d', READ);
    t.getdents(fd, 1024);
    const position = t.lseek(fd, 0, SEEK_CUR);
    const rest = t.restOfEntries(fd);
    t.lseek(fd, position, SEEK_SET);
    equal(namesOf(t.restOfEntries(fd)), namesOf(rest), 'names');
  },
  'kernel',
);

test('positions stay good in a directory from which entries before them are removed', (t) => {
  fill(t, 'd', 150);
  const fd = t.open('d', READ);
  const all = t.restOfEntries(fd);
  for (const { name } of all.slice(0, 75)) if (name.startsWith('entry')) t.unlink(`d/${name}`);
  t.lseek(fd, all[74].off, SEEK_SET);
  equal(namesOf(t.restOfEntries(fd)), namesOf(all.slice(75)), 'names');
});

test('two descriptors of a directory list it each by itself', (t) => {
  fill(t, 'd', 150);
  const [one, two] = [t.open('d', READ), t.open('d', READ)];
  t.getdents(one, 2048);
  equal(namesOf(t.restOfEntries(two)), expectedNames(150), 'names of the second');
});

test('what is there from first to last is listed once while others are removed', (t) => {
  fill(t, 'd', 300);
  const fd = t.open('d', READ);
  const seen = t.getdents(fd, 2048);
  for (let i = 0; i < 300; i += 2) t.unlink(`d/entry-${i}`);
  seen.push(...t.restOfEntries(fd, 2048));
  const kept = namesOf(seen).filter((name) => Number(name.slice(6)) % 2 === 1);
  equal(kept.length, 150, 'entries that stayed');
  equal(new Set(kept).size, 150, 'different ones of them');
});

test('what is there from first to last is listed once while others are created', (t) => {
  fill(t, 'd', 150);
  const fd = t.open('d', READ);
  const seen = t.getdents(fd, 2048);
  for (let i = 0; i < 150; i += 1) t.file(`d/new-${i}`);
  seen.push(...t.restOfEntries(fd, 2048));
  const kept = namesOf(seen).filter((name) => name.startsWith('entry'));
  equal(kept, expectedNames(150), 'entries that stayed');
});

test('a tree of files is removed while it is listed, and none is left', (t) => {
  fill(t, 'd', 200);
  const fd = t.open('d', READ);
  for (let some = t.getdents(fd, 1024); some.length > 0; some = t.getdents(fd, 1024)) {
    for (const { name } of some) if (name.startsWith('entry')) t.unlink(`d/${name}`);
  }
  equal(t.names('d'), [], 'names that are left');
});

test('entries that are renamed within the directory while it is listed are not lost', (t) => {
  fill(t, 'd', 150);
  const fd = t.open('d', READ);
  const seen = t.getdents(fd, 2048);
  for (let i = 0; i < 50; i += 1) t.rename(`d/entry-${i}`, `d/moved-${i}`);
  seen.push(...t.restOfEntries(fd, 2048));
  const untouched = namesOf(seen).filter((name) => name.startsWith('entry') && Number(name.slice(6)) >= 50);
  equal(untouched.length, 100, 'entries that were not renamed');
});

test('a file that is created after a full listing is in the next', (t) => {
  t.mkdir('d');
  t.names('d');
  t.file('d/f');
  equal(t.names('d'), ['f'], 'names');
  t.unlink('d/f');
  equal(t.names('d'), [], 'names after it went');
});

test(
  'read of a directory fails with EISDIR',
  (t) => {
    t.mkdir('d');
    fails('EISDIR', () => t.read(t.open('d', READ), 10));
  },
  'kernel',
);

test(
  'getdents of a file fails with ENOTDIR',
  (t) => {
    t.file('f');
    fails('ENOTDIR', () => t.getdents(t.open('f', O_RDONLY)));
  },
  'kernel',
);

test('a directory that is moved while it is listed is listed on', (t) => {
  fill(t, 'd', 150);
  const fd = t.open('d', READ);
  const seen = t.getdents(fd, 2048);
  t.rename('d', 'e');
  seen.push(...t.restOfEntries(fd, 2048));
  equal(namesOf(seen), expectedNames(150), 'names');
});

test('directories lie 100 deep in one another', (t) => {
  let path = '.';
  for (let i = 0; i < 100; i += 1) {
    path += '/d';
    t.mkdir(path);
  }
  t.file(`${path}/f`, 'deep');
  equal(t.contents(`${path}/f`), 'deep', 'contents');
});

test('.. leads up as far as names lead down', (t) => {
  t.mkdir('a');
  t.mkdir('a/b');
  t.mkdir('a/b/c');
  t.file('f', 'abc');
  equal(t.contents('a/b/c/../../../f'), 'abc', 'contents');
});
