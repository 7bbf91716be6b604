import { O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_TMPFILE } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { S_IFCHR, S_IFIFO, S_IFLNK, S_IFMT, SEEK_SET } from '../constants.ts';
import { equal, fails, modeIs } from '../verdicts.ts';

export const links = new Topic('links');
const { test } = links;

test('link gives a file a second name: one inode, two links', (t) => {
  t.file('f', 'abc');
  t.link('f', 'g');
  const [one, two] = [t.stat('f'), t.stat('g')];
  equal([two.ino, one.nlink, two.nlink], [one.ino, 2, 2], 'inode and links');
  equal(t.contents('g'), 'abc', 'contents');
});

test('what is written by one name is read by the other', (t) => {
  t.file('f', 'abc');
  t.link('f', 'g');
  t.file('f', 'changed');
  equal(t.contents('g'), 'changed', 'contents');
  equal(t.stat('g').size, 7, 'size');
});

test('a mode that is set by one name is that of the other', (t) => {
  t.file('f');
  t.link('f', 'g');
  t.chmod('f', 0o600);
  modeIs(t.stat('g').mode, 0o600);
});

test('unlink of one name leaves the other', (t) => {
  t.file('f', 'abc');
  t.link('f', 'g');
  t.unlink('f');
  equal(t.contents('g'), 'abc', 'contents');
  equal(t.stat('g').nlink, 1, 'links');
});

test('link over a name that exists fails with EEXIST', (t) => {
  t.file('f');
  t.file('g');
  t.symlink('none', 'l');
  fails('EEXIST', () => t.link('f', 'g'));
  fails('EEXIST', () => t.link('f', 'l'));
  fails('EEXIST', () => t.link('f', 'f'));
});

test('link of a name that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.link('none', 'g'));
});

test('link into a directory that does not exist fails with ENOENT', (t) => {
  t.file('f');
  fails('ENOENT', () => t.link('f', 'none/g'));
});

test('link of a directory fails with EPERM', (t) => {
  t.mkdir('d');
  fails('EPERM', () => t.link('d', 'e'));
});

test('link of a symlink links the symlink itself', (t) => {
  t.file('f');
  t.symlink('f', 'l');
  t.link('l', 'm');
  equal([t.lstat('m').mode & S_IFMT, t.lstat('m').nlink, t.readlink('m')], [S_IFLNK, 2, 'f'], 'type, links, target');
  equal(t.stat('f').nlink, 1, 'links of the target');
});

test('link with AT_SYMLINK_FOLLOW links what the symlink leads to', (t) => {
  t.file('f', 'abc');
  t.symlink('f', 'l');
  t.link('l', 'm', true);
  equal(t.lstat('m').ino, t.stat('f').ino, 'inode');
});

test('link of a dangling symlink links it', (t) => {
  t.symlink('none', 'l');
  t.link('l', 'm');
  equal(t.readlink('m'), 'none', 'target');
});

test('link of a FIFO gives it a second name', (t) => {
  t.mknod('p', S_IFIFO | 0o644);
  t.link('p', 'q');
  equal([t.lstat('q').mode & S_IFMT, t.lstat('q').nlink], [S_IFIFO, 2], 'type and links');
});

test(
  'link of a device node gives it a second name',
  (t) => {
    t.mknod('c', S_IFCHR | 0o644, 1, 3);
    t.link('c', 'd');
    equal(t.lstat('d').rdev, [1, 3], 'device');
  },
  'devices',
);

test('links across directories are one file', (t) => {
  t.mkdir('a');
  t.mkdir('b');
  t.file('a/f', 'abc');
  t.link('a/f', 'b/f');
  equal(t.stat('a/f').ino, t.stat('b/f').ino, 'inode');
});

test('link below a file fails with ENOTDIR', (t) => {
  t.file('f');
  t.file('g');
  fails('ENOTDIR', () => t.link('g', 'f/h'));
  fails('ENOTDIR', () => t.link('f/none', 'h'));
});

test('link to a name of 256 bytes fails with ENAMETOOLONG', (t) => {
  t.file('f');
  fails('ENAMETOOLONG', () => t.link('f', 'x'.repeat(256)));
});

test(
  'link to a name with a trailing slash fails with ENOENT',
  (t) => {
    t.file('f');
    fails('ENOENT', () => t.link('f', 'g/'));
  },
  'kernel',
);

test('a file has 300 names, and as many links', (t) => {
  t.file('f');
  for (let i = 1; i < 300; i += 1) t.link('f', `f${i}`);
  equal(t.stat('f299').nlink, 300, 'links');
  for (let i = 1; i < 300; i += 1) t.unlink(`f${i}`);
  equal(t.stat('f').nlink, 1, 'links after all others went');
});

test('a new directory has two links, and its parent one more', (t) => {
  t.mkdir('d');
  const before = t.stat('d').nlink;
  t.mkdir('d/e');
  const after = t.stat('d').nlink;
  // Some file systems count no subdirectories and say 1.
  equal([before, after], before === 1 ? [1, 1] : [2, 3], 'links');
});

test('rmdir takes a link from the parent', (t) => {
  t.mkdir('d');
  const before = t.stat('d').nlink;
  t.mkdir('d/e');
  t.rmdir('d/e');
  equal(t.stat('d').nlink, before, 'links');
});

test('a file that is opened by one name shows the links that come and go', (t) => {
  t.file('f');
  const fd = t.open('f', O_RDONLY);
  const seen = [t.fstat(fd).nlink];
  t.link('f', 'g');
  seen.push(t.fstat(fd).nlink);
  t.unlink('f');
  seen.push(t.fstat(fd).nlink);
  t.unlink('g');
  seen.push(t.fstat(fd).nlink);
  equal(seen, [1, 2, 1, 0], 'links');
});

test('an unlinked open file can be read, written, grown and cut', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.write(fd, 'abcdef');
  t.unlink('f');
  equal(t.pread(fd, 10, 0), Buffer.from('abcdef'), 'contents');
  t.pwrite(fd, 'XY', 4);
  equal(t.pread(fd, 10, 0), Buffer.from('abcdXY'), 'contents after a write');
  t.ftruncate(fd, 2);
  equal([t.fstat(fd).size, t.fstat(fd).nlink], [2, 0], 'size and links');
});

test('two descriptors of an unlinked file are one file', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const two = t.open('f', O_RDWR);
  t.unlink('f');
  t.write(one, 'abc');
  equal(t.rest(two), 'abc', 'contents');
});

test(
  'an unlinked open file can be opened again through /proc',
  (t) => {
    const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
    t.write(fd, 'abc');
    t.unlink('f');
    equal(t.contents(`/proc/self/fd/${fd}`), 'abc', 'contents');
  },
  'kernel',
);

test('an unlinked open file cannot be given a name again: ENOENT', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.unlink('f');
  fails('ENOENT', () => t.linkFd(fd, 'g'));
});

test(
  'an open file with another name can be given one more through /proc',
  (t) => {
    t.file('f', 'abc');
    const fd = t.open('f', O_RDONLY);
    t.linkFd(fd, 'g');
    equal(t.stat('g').nlink, 2, 'links');
  },
  'kernel',
);

test('an unlinked file stays itself when its name is taken by another', (t) => {
  t.file('f', 'old');
  const fd = t.open('f', O_RDWR | O_APPEND);
  t.unlink('f');
  t.file('f', 'new');
  t.write(fd, '+');
  t.lseek(fd, 0, SEEK_SET);
  equal([t.rest(fd), t.contents('f')], ['old+', 'new'], 'contents');
});

test('attributes of an unlinked file can be set by its descriptor', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.unlink('f');
  t.fchmod(fd, 0o600);
  t.futimens(fd, 5n, 6n);
  t.fsync(fd);
  modeIs(t.fstat(fd).mode, 0o600);
  equal(t.fstat(fd).mtime, 6n, 'mtime');
});

test('unlink of a name that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.unlink('none'));
});

test('unlink of a directory fails with EISDIR', (t) => {
  t.mkdir('d');
  fails(['EISDIR', 'EPERM'], () => t.unlink('d'));
  equal(t.names(), ['d'], 'names');
});

test('unlink of a symlink removes the symlink alone', (t) => {
  t.file('f', 'abc');
  t.symlink('f', 'l');
  t.unlink('l');
  equal(t.names(), ['f'], 'names');
});

test('unlink of a symlink to a directory removes the symlink alone', (t) => {
  t.mkdir('d');
  t.symlink('d', 'l');
  t.unlink('l');
  equal(t.names(), ['d'], 'names');
});

test(
  'unlink of a symlink to a directory with a trailing slash fails with ENOTDIR',
  (t) => {
    t.mkdir('d');
    t.symlink('d', 'l');
    fails(['ENOTDIR', 'EISDIR'], () => t.unlink('l/'));
  },
  'kernel',
);

test(
  'unlink of a file with a trailing slash fails with ENOTDIR',
  (t) => {
    t.file('f');
    fails('ENOTDIR', () => t.unlink('f/'));
  },
  'kernel',
);

test('unlink below a file fails with ENOTDIR', (t) => {
  t.file('f');
  fails('ENOTDIR', () => t.unlink('f/g'));
});

test(
  'unlink of . and .. fails',
  (t) => {
    t.mkdir('d');
    fails(['EISDIR', 'EPERM', 'EINVAL'], () => t.unlink('d/.'));
    fails(['EISDIR', 'EPERM', 'EINVAL'], () => t.unlink('d/..'));
  },
  'kernel',
);

test('unlink of FIFOs and sockets removes them', (t) => {
  t.mknod('p', S_IFIFO | 0o644);
  t.unlink('p');
  equal(t.names(), [], 'names');
});

test('a file that is removed twice is ENOENT the second time', (t) => {
  t.file('f');
  t.unlink('f');
  fails('ENOENT', () => t.unlink('f'));
  fails('ENOENT', () => t.stat('f'));
});

test(
  'a nameless file that is linked twice has two links',
  (t) => {
    const fd = t.open('.', O_TMPFILE | O_RDWR, 0o600);
    t.linkFd(fd, 'f');
    t.linkFd(fd, 'g');
    equal([t.fstat(fd).nlink, t.stat('f').ino], [2, t.stat('g').ino], 'links and inode');
  },
  'tmpfile',
);

test('inode numbers of files that are there at once differ', (t) => {
  const seen = new Set<bigint>();
  for (let i = 0; i < 60; i += 1) {
    t.file(`f${i}`);
    seen.add(t.stat(`f${i}`).ino);
  }
  equal(seen.size, 60, 'different inode numbers');
});

test('stat, lstat and fstat of one file agree', (t) => {
  t.file('f', 'abc', 0o640);
  const [one, two, three] = [t.stat('f'), t.lstat('f'), t.fstat(t.open('f', O_RDONLY))];
  for (const each of [two, three]) {
    equal(
      [each.ino, each.dev, each.mode, each.size],
      [one.ino, one.dev, one.mode, one.size],
      'inode, device, mode, size',
    );
  }
});
