import {
  O_DIRECTORY,
  O_RDONLY,
  O_RDWR,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
} from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG } from '../constants.ts';
import type { Face } from '../face.ts';
import { equal, fails, supported } from '../verdicts.ts';

export const renaming = new Topic('rename');
const { test } = renaming;

const kindOf = (t: Face, path: string): number => t.lstat(path).mode & S_IFMT;

test('rename gives a file another name and takes the old one', (t) => {
  t.file('f', 'abc');
  const { ino } = t.stat('f');
  t.rename('f', 'g');
  equal(t.names(), ['g'], 'names');
  equal([t.stat('g').ino, t.stat('g').nlink], [ino, 1], 'inode and links');
  equal(t.contents('g'), 'abc', 'contents');
});

test('rename of a name that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.rename('none', 'g'));
});

test('rename into a directory that does not exist fails with ENOENT', (t) => {
  t.file('f');
  fails('ENOENT', () => t.rename('f', 'none/g'));
});

test('rename of a file over a file replaces it', (t) => {
  t.file('f', 'new');
  t.file('g', 'old');
  t.rename('f', 'g');
  equal(t.names(), ['g'], 'names');
  equal(t.contents('g'), 'new', 'contents');
});

test('rename over a file takes one link from it', (t) => {
  t.file('f');
  t.file('g', 'old');
  t.link('g', 'h');
  t.rename('f', 'g');
  equal(t.stat('h').nlink, 1, 'links');
  equal(t.contents('h'), 'old', 'contents');
});

test('rename over an open file leaves that open file as it was, without a name', (t) => {
  t.file('f', 'new');
  t.file('g', 'old');
  const fd = t.open('g', O_RDWR);
  t.rename('f', 'g');
  equal(t.rest(fd), 'old', 'contents');
  equal(t.fstat(fd).nlink, 0, 'links');
});

test('rename of an open file leaves it open', (t) => {
  t.file('f', 'abc');
  const fd = t.open('f', O_RDWR);
  t.rename('f', 'g');
  t.pwrite(fd, 'X', 0);
  equal(t.contents('g'), 'Xbc', 'contents');
});

test('rename of a file over a directory fails with EISDIR', (t) => {
  t.file('f');
  t.mkdir('d');
  fails('EISDIR', () => t.rename('f', 'd'));
});

test('rename of a directory over a file fails with ENOTDIR', (t) => {
  t.mkdir('d');
  t.file('f');
  fails('ENOTDIR', () => t.rename('d', 'f'));
});

test('rename of a directory over an empty directory replaces it', (t) => {
  t.mkdir('d');
  t.file('d/f');
  t.mkdir('e');
  t.rename('d', 'e');
  equal(t.names(), ['e'], 'names');
  equal(t.names('e'), ['f'], 'names in it');
});

test('rename of a directory over one that is not empty fails with ENOTEMPTY or EEXIST', (t) => {
  t.mkdir('d');
  t.mkdir('e');
  t.file('e/f');
  fails(['ENOTEMPTY', 'EEXIST'], () => t.rename('d', 'e'));
  equal(t.names(), ['d', 'e'], 'names');
});

test('rename over an open empty directory leaves that one without entries', (t) => {
  t.mkdir('d');
  t.mkdir('e');
  const fd = t.open('e', O_RDONLY | O_DIRECTORY);
  t.rename('d', 'e');
  fails('ENOENT', () => t.getdents(fd));
});

test('rename of a directory into itself fails with EINVAL', (t) => {
  t.mkdir('d');
  fails('EINVAL', () => t.rename('d', 'd/e'));
});

test('rename of a directory into a directory far below fails with EINVAL', (t) => {
  t.mkdir('d');
  t.mkdir('d/e');
  t.mkdir('d/e/f');
  fails('EINVAL', () => t.rename('d', 'd/e/f/g'));
});

test('rename of a directory over one that it lies in fails with ENOTEMPTY or EEXIST', (t) => {
  t.mkdir('d');
  t.mkdir('d/e');
  fails(['ENOTEMPTY', 'EEXIST'], () => t.rename('d/e', 'd'));
});

test('rename of a name to itself changes nothing', (t) => {
  t.file('f', 'abc');
  t.rename('f', 'f');
  equal(t.contents('f'), 'abc', 'contents');
});

test('rename between two names of one file changes nothing, and both stay', (t) => {
  t.file('f', 'abc');
  t.link('f', 'g');
  t.rename('f', 'g');
  equal(t.names(), ['f', 'g'], 'names');
  equal(t.stat('f').nlink, 2, 'links');
});

test('rename of a symlink moves the symlink', (t) => {
  t.file('f');
  t.symlink('f', 'l');
  t.rename('l', 'm');
  equal([kindOf(t, 'm'), t.readlink('m')], [S_IFLNK, 'f'], 'type and target');
});

test('rename over a symlink replaces the symlink, and not its target', (t) => {
  t.file('f', 'new');
  t.file('target', 'old');
  t.symlink('target', 'l');
  t.rename('f', 'l');
  equal(kindOf(t, 'l'), S_IFREG, 'type');
  equal(t.contents('target'), 'old', 'contents of the target');
});

test('rename of a directory over a symlink to a directory fails with ENOTDIR', (t) => {
  t.mkdir('d');
  t.mkdir('e');
  t.symlink('e', 'l');
  fails('ENOTDIR', () => t.rename('d', 'l'));
});

test('rename of a FIFO keeps it a FIFO', (t) => {
  t.mknod('p', S_IFIFO | 0o644);
  t.rename('p', 'q');
  equal(kindOf(t, 'q'), S_IFIFO, 'type');
});

test('rename over a FIFO replaces it', (t) => {
  t.mknod('p', S_IFIFO | 0o644);
  t.file('f');
  t.rename('f', 'p');
  equal(kindOf(t, 'p'), S_IFREG, 'type');
});

test('rename moves a file from one directory to another', (t) => {
  t.mkdir('a');
  t.mkdir('b');
  t.file('a/f', 'abc');
  t.rename('a/f', 'b/g');
  equal([t.names('a'), t.names('b')], [[], ['g']], 'names');
});

test('rename moves a directory with all that is in it', (t) => {
  t.mkdir('a');
  t.mkdir('a/d');
  t.file('a/d/f', 'abc');
  t.mkdir('b');
  t.rename('a/d', 'b/e');
  equal(t.contents('b/e/f'), 'abc', 'contents');
});

test('.. of a moved directory is its new parent', (t) => {
  t.mkdir('a');
  t.mkdir('a/d');
  t.mkdir('b');
  t.rename('a/d', 'b/d');
  equal(t.stat('b/d/..').ino, t.stat('b').ino, 'inode of ..');
});

test(
  '.. of a directory that is open follows when it is moved',
  (t) => {
    t.mkdir('a');
    t.mkdir('a/d');
    t.mkdir('b');
    t.file('b/f', 'abc');
    const fd = t.open('a/d', O_RDONLY | O_DIRECTORY);
    t.rename('a/d', 'b/d');
    equal(t.rest(t.openat(fd, '../f', O_RDONLY)), 'abc', 'contents by ..');
  },
  'kernel',
);

/** Links of directories count their subdirectories; some file systems say 1 for all. */
function countsDirectories(t: Face, path: string): boolean {
  return t.stat(path).nlink > 1;
}

test('a directory that moves takes a link from the old parent to the new one', (t) => {
  t.mkdir('a');
  t.mkdir('b');
  t.mkdir('a/d');
  const counted = countsDirectories(t, 'a');
  t.rename('a/d', 'b/d');
  equal([t.stat('a').nlink, t.stat('b').nlink], counted ? [2, 3] : [1, 1], 'links of the parents');
});

test('a directory that replaces another takes a link from their parent', (t) => {
  t.mkdir('a');
  t.mkdir('a/d');
  t.mkdir('a/e');
  const counted = countsDirectories(t, 'a');
  t.rename('a/d', 'a/e');
  equal(t.stat('a').nlink, counted ? 3 : 1, 'links');
});

test('a file that moves leaves the links of both directories', (t) => {
  t.mkdir('a');
  t.mkdir('b');
  t.file('a/f');
  const before = [t.stat('a').nlink, t.stat('b').nlink];
  t.rename('a/f', 'b/f');
  equal([t.stat('a').nlink, t.stat('b').nlink], before, 'links');
});

test(
  'rename of . and .. fails with EBUSY or EINVAL',
  (t) => {
    t.mkdir('d');
    fails(['EBUSY', 'EINVAL'], () => t.rename('d/.', 'e'));
    fails(['EBUSY', 'EINVAL', 'ENOTEMPTY'], () => t.rename('d/..', 'e'));
  },
  'kernel',
);

test(
  'rename to . and .. fails',
  (t) => {
    t.mkdir('d');
    t.mkdir('e');
    fails(['EBUSY', 'EINVAL', 'EEXIST', 'ENOTEMPTY'], () => t.rename('e', 'd/.'));
    fails(['EBUSY', 'EINVAL', 'EEXIST', 'ENOTEMPTY'], () => t.rename('e', 'd/..'));
  },
  'kernel',
);

test(
  'rename of a file with a trailing slash fails with ENOTDIR',
  (t) => {
    t.file('f');
    fails('ENOTDIR', () => t.rename('f/', 'g'));
    fails('ENOTDIR', () => t.rename('f', 'g/'));
  },
  'kernel',
);

test(
  'rename of a directory with trailing slashes succeeds',
  (t) => {
    t.mkdir('d');
    t.rename('d/', 'e/');
    equal(t.names(), ['e'], 'names');
  },
  'kernel',
);

test('rename to a name of 256 bytes fails with ENAMETOOLONG', (t) => {
  t.file('f');
  fails('ENAMETOOLONG', () => t.rename('f', 'x'.repeat(256)));
});

test('rename below a file fails with ENOTDIR', (t) => {
  t.file('f');
  t.file('g');
  fails('ENOTDIR', () => t.rename('g', 'f/g'));
  fails('ENOTDIR', () => t.rename('f/none', 'h'));
});

test('rename with RENAME_NOREPLACE to a free name succeeds', (t) => {
  t.file('f', 'abc');
  supported('RENAME_NOREPLACE', () => t.rename('f', 'g', RENAME_NOREPLACE), 'EINVAL');
  equal(t.names(), ['g'], 'names');
});

test('rename with RENAME_NOREPLACE over a name fails with EEXIST', (t) => {
  t.file('f', 'new');
  t.file('g', 'old');
  fails('EEXIST', () => supported('RENAME_NOREPLACE', () => t.rename('f', 'g', RENAME_NOREPLACE), 'EINVAL'));
  equal([t.contents('f'), t.contents('g')], ['new', 'old'], 'contents');
});

test('rename with RENAME_NOREPLACE over a dangling symlink fails with EEXIST', (t) => {
  t.file('f');
  t.symlink('none', 'l');
  fails('EEXIST', () => supported('RENAME_NOREPLACE', () => t.rename('f', 'l', RENAME_NOREPLACE), 'EINVAL'));
});

test('rename with RENAME_NOREPLACE over an empty directory fails with EEXIST', (t) => {
  t.mkdir('d');
  t.mkdir('e');
  fails('EEXIST', () => supported('RENAME_NOREPLACE', () => t.rename('d', 'e', RENAME_NOREPLACE), 'EINVAL'));
});

function exchange(t: Face, a: string, b: string): void {
  supported('RENAME_EXCHANGE', () => t.rename(a, b, RENAME_EXCHANGE), 'EINVAL');
}

test('rename with RENAME_EXCHANGE swaps two files', (t) => {
  t.file('f', 'F');
  t.file('g', 'G');
  exchange(t, 'f', 'g');
  equal([t.contents('f'), t.contents('g')], ['G', 'F'], 'contents');
});

test('rename with RENAME_EXCHANGE swaps a file and a directory', (t) => {
  t.file('f', 'F');
  t.mkdir('d');
  t.file('d/inner');
  exchange(t, 'f', 'd');
  equal([kindOf(t, 'f'), kindOf(t, 'd')], [S_IFDIR, S_IFREG], 'types');
  equal(t.names('f'), ['inner'], 'names');
});

test('rename with RENAME_EXCHANGE swaps directories that are not empty', (t) => {
  t.mkdir('d');
  t.file('d/f');
  t.mkdir('e');
  t.file('e/g');
  exchange(t, 'd', 'e');
  equal([t.names('d'), t.names('e')], [['g'], ['f']], 'names');
});

test('rename with RENAME_EXCHANGE across directories moves the links of their parents', (t) => {
  t.mkdir('a');
  t.mkdir('b');
  t.mkdir('a/d');
  t.file('b/f');
  const counted = countsDirectories(t, 'a');
  exchange(t, 'a/d', 'b/f');
  equal([t.stat('a').nlink, t.stat('b').nlink], counted ? [2, 3] : [1, 1], 'links of the parents');
  equal(t.stat('b/f/..').ino, t.stat('b').ino, 'inode of ..');
});

test('rename with RENAME_EXCHANGE where one name does not exist fails with ENOENT', (t) => {
  t.file('f');
  fails('ENOENT', () => exchange(t, 'f', 'none'));
  fails('ENOENT', () => exchange(t, 'none', 'f'));
});

test('rename with RENAME_EXCHANGE of a directory and one that it lies in fails with EINVAL', (t) => {
  t.mkdir('d');
  t.mkdir('d/e');
  fails('EINVAL', () => t.rename('d', 'd/e', RENAME_EXCHANGE));
  fails(['EINVAL', 'ENOTEMPTY'], () => t.rename('d/e', 'd', RENAME_EXCHANGE));
});

test('rename with RENAME_EXCHANGE and RENAME_NOREPLACE fails with EINVAL', (t) => {
  t.file('f');
  t.file('g');
  fails('EINVAL', () => t.rename('f', 'g', RENAME_EXCHANGE | RENAME_NOREPLACE));
});

test('rename with a flag that does not exist fails with EINVAL', (t) => {
  t.file('f');
  fails('EINVAL', () => t.rename('f', 'g', 0x80));
});

test(
  'rename with RENAME_WHITEOUT leaves a character device 0:0 at the old name',
  (t) => {
    t.file('f', 'abc');
    supported('RENAME_WHITEOUT', () => t.rename('f', 'g', RENAME_WHITEOUT), 'EINVAL');
    const { mode, rdev } = t.lstat('f');
    equal([mode & S_IFMT, ...rdev], [S_IFCHR, 0, 0], 'type and device');
    equal(t.contents('g'), 'abc', 'contents');
  },
  'devices',
);

test('renameat goes from one directory descriptor to another', (t) => {
  t.mkdir('a');
  t.mkdir('b');
  t.file('a/f', 'abc');
  t.renameat(t.open('a', O_RDONLY | O_DIRECTORY), 'f', t.open('b', O_RDONLY | O_DIRECTORY), 'g');
  equal(t.contents('b/g'), 'abc', 'contents');
});

test('a name that was seen to be absent is there after a rename to it', (t) => {
  fails('ENOENT', () => t.stat('g'));
  t.file('f', 'abc');
  t.rename('f', 'g');
  equal(t.contents('g'), 'abc', 'contents');
  fails('ENOENT', () => t.stat('f'));
});

test('names below a directory that was renamed are found below the new name alone', (t) => {
  t.mkdir('d');
  t.file('d/f', 'abc');
  t.stat('d/f');
  t.rename('d', 'e');
  equal(t.contents('e/f'), 'abc', 'contents');
  fails('ENOENT', () => t.stat('d/f'));
});

test('two directories that change places by three renames hold what they held', (t) => {
  for (const name of ['a', 'b']) {
    t.mkdir(name);
    t.file(`${name}/f`, name);
  }
  t.rename('a', 'c');
  t.rename('b', 'a');
  t.rename('c', 'b');
  equal([t.contents('a/f'), t.contents('b/f')], ['b', 'a'], 'contents');
});
