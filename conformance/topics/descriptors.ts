import { O_CREAT, O_DIRECTORY, O_EXCL, O_RDONLY, O_RDWR, O_TMPFILE, O_WRONLY } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { F_OK, S_IFMT, S_IFREG } from '../constants.ts';
import { equal, fails, modeIs, ok } from '../verdicts.ts';

/** Files without names, paths below descriptors, many descriptors. */
export const descriptors = new Topic('descriptors');
const { test } = descriptors;

test(
  'open with O_TMPFILE makes a file without a name',
  (t) => {
    const fd = t.open('.', O_TMPFILE | O_RDWR, 0o640);
    const { nlink, mode } = t.fstat(fd);
    equal([nlink, mode & S_IFMT], [0, S_IFREG], 'links, type');
    modeIs(mode, 0o640);
    equal(t.names(), [], 'names in the directory');
  },
  'tmpfile',
);

test(
  'a file of O_TMPFILE holds what is written to it',
  (t) => {
    const fd = t.open('.', O_TMPFILE | O_RDWR, 0o600);
    t.write(fd, 'abc');
    equal(t.pread(fd, 10, 0), Buffer.from('abc'), 'contents');
    equal(t.fstat(fd).size, 3, 'size');
  },
  'tmpfile',
);

test(
  'a file of O_TMPFILE is given a name by linkat through /proc',
  (t) => {
    const fd = t.open('.', O_TMPFILE | O_RDWR, 0o600);
    t.write(fd, 'abc');
    t.linkFd(fd, 'f');
    equal(t.contents('f'), 'abc', 'contents');
    equal(t.fstat(fd).nlink, 1, 'links');
  },
  'tmpfile',
);

test(
  'a file of O_TMPFILE with O_EXCL cannot be given a name: ENOENT',
  (t) => {
    const fd = t.open('.', O_TMPFILE | O_RDWR | O_EXCL, 0o600);
    fails('ENOENT', () => t.linkFd(fd, 'f'));
  },
  'tmpfile',
);

test(
  'open with O_TMPFILE for reading only fails with EINVAL',
  (t) => {
    fails('EINVAL', () => t.open('.', O_TMPFILE | O_RDONLY, 0o600));
  },
  'tmpfile',
  'kernel',
);

test(
  'open with O_TMPFILE of a file fails with ENOTDIR',
  (t) => {
    t.file('f');
    fails('ENOTDIR', () => t.open('f', O_TMPFILE | O_RDWR, 0o600));
  },
  'tmpfile',
  'kernel',
);

test(
  'open with O_TMPFILE in a directory that does not exist fails with ENOENT',
  (t) => {
    fails('ENOENT', () => t.open('none', O_TMPFILE | O_RDWR, 0o600));
  },
  'tmpfile',
);

test(
  'open with O_TMPFILE in a directory without the right to write fails with EACCES',
  (t) => {
    t.mkdir('d', 0o755);
    fails('EACCES', () => t.as({ uid: 5001, gid: 5001 }, () => t.open('d', O_TMPFILE | O_RDWR, 0o600)));
  },
  'tmpfile',
  'users',
);

test(
  'a file of O_TMPFILE belongs to the user who made it',
  (t) => {
    const fd = t.as({ uid: 5001, gid: 5002 }, () => t.open('.', O_TMPFILE | O_RDWR, 0o600));
    const { uid, gid } = t.fstat(fd);
    equal([uid, gid], [5001, 5002], 'owner and group');
  },
  'tmpfile',
  'owners',
);

test('open of a path below a descriptor finds it there', (t) => {
  t.mkdir('d');
  t.file('d/f', 'abc');
  const dir = t.open('d', O_RDONLY | O_DIRECTORY);
  equal(t.rest(t.openat(dir, 'f', O_RDONLY)), 'abc', 'contents');
});

test('a path below a descriptor follows the directory where it is moved', (t) => {
  t.mkdir('d');
  t.file('d/f', 'abc');
  const dir = t.open('d', O_RDONLY | O_DIRECTORY);
  t.mkdir('e');
  t.rename('d', 'e/moved');
  t.close(t.openat(dir, 'g', O_CREAT | O_WRONLY, 0o644));
  equal(t.names('e/moved'), ['f', 'g'], 'names');
});

test('open below a descriptor of a file fails with ENOTDIR', (t) => {
  t.file('f');
  fails('ENOTDIR', () => t.openat(t.open('f', O_RDONLY), 'g', O_RDONLY));
});

test('open below a directory that was removed fails with ENOENT', (t) => {
  t.mkdir('d');
  const dir = t.open('d', O_RDONLY | O_DIRECTORY);
  t.rmdir('d');
  fails('ENOENT', () => t.openat(dir, 'f', O_CREAT | O_WRONLY, 0o644));
});

test(
  'open of the empty path fails with ENOENT',
  (t) => {
    fails('ENOENT', () => t.open('', O_RDONLY));
  },
  'kernel',
);

test('unlink and open with O_CREAT of the same name give a new file', (t) => {
  t.file('f', 'old');
  const old = t.open('f', O_RDONLY);
  t.unlink('f');
  t.file('f', 'new');
  equal(t.contents('f'), 'new', 'contents by name');
  equal(t.rest(old), 'old', 'contents of the open file');
  ok(t.fstat(old).ino !== t.stat('f').ino, 'both are one inode');
});

test(
  'close of a descriptor that is closed fails with EBADF',
  (t) => {
    t.file('f');
    const fd = t.open('f', O_RDONLY);
    t.close(fd);
    fails('EBADF', () => t.close(fd));
  },
  'kernel',
);

test('100 files are open at once, each with its own contents', (t) => {
  const fds = Array.from({ length: 100 }, (_, i) => {
    const fd = t.open(`f${i}`, O_CREAT | O_RDWR, 0o644);
    t.write(fd, `file ${i}`);
    return fd;
  });
  for (const [i, fd] of fds.entries()) equal(t.pread(fd, 100, 0), Buffer.from(`file ${i}`), `file ${i}`);
});

test(
  'access with F_OK says whether a name exists',
  (t) => {
    t.file('f', '', 0);
    t.access('f', F_OK);
    fails('ENOENT', () => t.access('none', F_OK));
  },
  'kernel',
);
