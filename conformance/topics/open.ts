import {
  O_APPEND,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_DSYNC,
  O_EXCL,
  O_NOATIME,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_SYNC,
  O_TRUNC,
  O_WRONLY,
} from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { S_IFIFO, S_IFMT, S_IFREG, SEEK_CUR, SEEK_SET } from '../constants.ts';
import { equal, fails, modeIs, ok, supported } from '../verdicts.ts';

export const opening = new Topic('open');
const { test } = opening;

const NEW = O_CREAT | O_EXCL | O_WRONLY;

test('open of a name that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.open('none', O_RDONLY));
});

test('open with O_CREAT makes an empty regular file', (t) => {
  t.open('f', O_CREAT | O_WRONLY, 0o644);
  const { mode, size, nlink } = t.stat('f');
  equal([mode & S_IFMT, size, nlink], [S_IFREG, 0, 1], 'type, size, links');
});

for (const mode of [0o000, 0o400, 0o640, 0o755, 0o777, 0o1644, 0o2755, 0o4755, 0o7777]) {
  test(`open with O_CREAT and mode 0${mode.toString(8)} gives the file that mode`, (t) => {
    t.close(t.open('f', O_CREAT | O_RDWR, mode));
    modeIs(t.stat('f').mode, mode);
  });
}

test('a file created with mode 0 can be written through the descriptor that created it', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0);
  equal(t.write(fd, 'abc'), 3, 'bytes written');
  equal(t.pread(fd, 10, 0), Buffer.from('abc'), 'contents');
});

test('a file created read-only can be written through the descriptor that created it', (t) => {
  const fd = t.open('f', O_CREAT | O_WRONLY, 0o444);
  t.write(fd, 'abc');
  equal(t.contents('f'), 'abc', 'contents');
});

test('open with O_CREAT leaves the mode and the contents of a file that exists', (t) => {
  t.file('f', 'abc', 0o640);
  t.open('f', O_CREAT | O_RDWR, 0o777);
  modeIs(t.stat('f').mode, 0o640);
  equal(t.contents('f'), 'abc', 'contents');
});

test('open with O_CREAT and O_EXCL on a file fails with EEXIST', (t) => {
  t.file('f');
  fails('EEXIST', () => t.open('f', NEW, 0o644));
});

test('open with O_CREAT and O_EXCL on a directory fails with EEXIST', (t) => {
  t.mkdir('d');
  fails('EEXIST', () => t.open('d', NEW, 0o644));
});

test('open with O_CREAT and O_EXCL on a symlink to a file fails with EEXIST', (t) => {
  t.file('f');
  t.symlink('f', 'l');
  fails('EEXIST', () => t.open('l', NEW, 0o644));
});

test('open with O_CREAT and O_EXCL on a dangling symlink fails with EEXIST', (t) => {
  t.symlink('none', 'l');
  fails('EEXIST', () => t.open('l', NEW, 0o644));
  ok(!t.exists('none'), 'the target was created');
});

test('open with O_CREAT and O_EXCL on a FIFO fails with EEXIST', (t) => {
  t.mknod('p', S_IFIFO | 0o644);
  fails('EEXIST', () => t.open('p', NEW, 0o644));
});

test('open with O_CREAT on a dangling symlink creates its target', (t) => {
  t.symlink('target', 'l');
  t.close(t.open('l', O_CREAT | O_WRONLY, 0o600));
  equal(t.lstat('target').mode & S_IFMT, S_IFREG, 'type of the target');
});

test('open with O_CREAT on a directory fails with EISDIR', (t) => {
  t.mkdir('d');
  fails('EISDIR', () => t.open('d', O_CREAT | O_RDONLY, 0o644));
});

test('open with O_CREAT in a directory that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.open('none/f', NEW, 0o644));
});

test('open with O_CREAT below a file fails with ENOTDIR', (t) => {
  t.file('f');
  fails('ENOTDIR', () => t.open('f/g', NEW, 0o644));
});

test(
  'open with O_CREAT of a name with a trailing slash fails with EISDIR',
  (t) => {
    fails('EISDIR', () => t.open('f/', O_CREAT | O_WRONLY, 0o644));
  },
  'kernel',
);

test('open with O_TRUNC empties a file', (t) => {
  t.file('f', 'abc');
  t.close(t.open('f', O_WRONLY | O_TRUNC));
  equal(t.stat('f').size, 0, 'size');
});

test('open with O_TRUNC and O_CREAT empties a file that exists', (t) => {
  t.file('f', 'abc');
  t.close(t.open('f', O_WRONLY | O_TRUNC | O_CREAT, 0o644));
  equal(t.stat('f').size, 0, 'size');
});

test('open with O_TRUNC leaves the mode and the links', (t) => {
  t.file('f', 'abc', 0o640);
  t.link('f', 'g');
  t.close(t.open('f', O_WRONLY | O_TRUNC));
  modeIs(t.stat('f').mode, 0o640);
  equal(t.stat('g').nlink, 2, 'links');
});

test('open with O_TRUNC is seen through a descriptor that was open before', (t) => {
  t.file('f', 'abc');
  const before = t.open('f', O_RDONLY);
  t.close(t.open('f', O_WRONLY | O_TRUNC));
  equal(t.fstat(before).size, 0, 'size');
  equal(t.read(before, 10).length, 0, 'bytes to read');
});

test('open for writing of a directory fails with EISDIR', (t) => {
  t.mkdir('d');
  fails('EISDIR', () => t.open('d', O_WRONLY));
  fails('EISDIR', () => t.open('d', O_RDWR));
});

test('open with O_DIRECTORY of a directory succeeds', (t) => {
  t.mkdir('d');
  t.open('d', O_RDONLY | O_DIRECTORY);
});

test('open with O_DIRECTORY of a file fails with ENOTDIR', (t) => {
  t.file('f');
  fails('ENOTDIR', () => t.open('f', O_RDONLY | O_DIRECTORY));
});

test('open with O_DIRECTORY of a FIFO fails with ENOTDIR, and does not block', (t) => {
  t.mknod('p', S_IFIFO | 0o644);
  fails('ENOTDIR', () => t.open('p', O_RDONLY | O_DIRECTORY));
});

test('open with O_DIRECTORY follows a symlink to a directory', (t) => {
  t.mkdir('d');
  t.symlink('d', 'l');
  t.open('l', O_RDONLY | O_DIRECTORY);
});

test(
  'open with O_NOFOLLOW of a symlink fails with ELOOP',
  (t) => {
    t.file('f');
    t.symlink('f', 'l');
    fails('ELOOP', () => t.open('l', O_RDONLY | O_NOFOLLOW));
  },
  'kernel',
);

test(
  'open with O_NOFOLLOW and O_DIRECTORY of a symlink to a directory fails with ENOTDIR',
  (t) => {
    t.mkdir('d');
    t.symlink('d', 'l');
    fails(['ENOTDIR', 'ELOOP'], () => t.open('l', O_RDONLY | O_NOFOLLOW | O_DIRECTORY));
  },
  'kernel',
);

test('open with O_NOFOLLOW follows symlinks before the last name', (t) => {
  t.mkdir('d');
  t.file('d/f', 'abc');
  t.symlink('d', 'l');
  const fd = t.open('l/f', O_RDONLY | O_NOFOLLOW);
  equal(t.rest(fd), 'abc', 'contents');
});

test(
  'open with O_PATH and O_NOFOLLOW of a symlink opens the symlink',
  (t) => {
    t.symlink('none', 'l');
    const fd = t.open('l', O_PATH | O_NOFOLLOW);
    equal(t.fstat(fd).ino, t.lstat('l').ino, 'inode');
  },
  'kernel',
);

test(
  'a descriptor with O_PATH can be neither read nor written: EBADF',
  (t) => {
    t.file('f', 'abc');
    const fd = t.open('f', O_PATH);
    fails('EBADF', () => t.read(fd, 1));
    fails('EBADF', () => t.write(fd, 'x'));
  },
  'kernel',
);

test(
  'a descriptor with O_PATH of a file without rights gives its attributes',
  (t) => {
    t.file('f', 'abc', 0);
    const fd = t.open('f', O_PATH);
    equal(t.fstat(fd).size, 3, 'size');
  },
  'kernel',
);

test(
  'a descriptor with O_PATH can be opened anew through /proc',
  (t) => {
    t.file('f', 'abc');
    const fd = t.open('f', O_PATH);
    equal(t.contents(`/proc/self/fd/${fd}`), 'abc', 'contents');
  },
  'kernel',
);

test(
  'fchmod of a descriptor with O_PATH fails with EBADF',
  (t) => {
    t.file('f');
    fails('EBADF', () => t.fchmod(t.open('f', O_PATH), 0o600));
  },
  'kernel',
);

test(
  'O_PATH ignores O_CREAT: a name that does not exist is ENOENT',
  (t) => {
    fails('ENOENT', () => t.open('none', O_PATH | O_CREAT, 0o644));
  },
  'kernel',
);

test(
  'a read of a descriptor that is open for writing only fails with EBADF',
  (t) => {
    t.file('f', 'abc');
    fails('EBADF', () => t.read(t.open('f', O_WRONLY), 1));
  },
  'kernel',
);

test(
  'a write to a descriptor that is open for reading only fails with EBADF',
  (t) => {
    t.file('f', 'abc');
    fails('EBADF', () => t.write(t.open('f', O_RDONLY), 'x'));
  },
  'kernel',
);

test(
  'ftruncate of a descriptor that is open for reading only fails with EINVAL',
  (t) => {
    t.file('f', 'abc');
    fails(['EINVAL', 'EBADF'], () => t.ftruncate(t.open('f', O_RDONLY), 0));
  },
  'kernel',
);

test('every descriptor of a file has a position of its own', (t) => {
  t.file('f', 'abcdef');
  const [one, two] = [t.open('f', O_RDONLY), t.open('f', O_RDONLY)];
  t.read(one, 4);
  equal(t.read(two, 2), Buffer.from('ab'), 'the second reads');
  equal(t.lseek(one, 0, SEEK_CUR), 4n, 'position of the first');
});

test('a duplicated descriptor shares the position', (t) => {
  t.file('f', 'abcdef');
  const one = t.open('f', O_RDONLY);
  const two = t.dup(one);
  t.read(one, 4);
  equal(t.read(two, 2), Buffer.from('ef'), 'the second reads');
});

test(
  'F_GETFL gives the access mode and O_APPEND, and not O_CREAT',
  (t) => {
    const fd = t.open('f', O_CREAT | O_RDWR | O_APPEND, 0o644);
    const flags = t.getFlags(fd);
    equal(flags & (O_RDWR | O_APPEND | O_CREAT), O_RDWR | O_APPEND, 'flags');
  },
  'kernel',
);

test(
  'O_APPEND can be set and cleared with F_SETFL',
  (t) => {
    t.file('f', 'abc');
    const fd = t.open('f', O_RDWR);
    t.setFlags(fd, O_APPEND);
    t.write(fd, 'd');
    equal(t.contents('f'), 'abcd', 'after setting it');
    t.setFlags(fd, 0);
    t.lseek(fd, 0, SEEK_SET);
    t.write(fd, 'X');
    equal(t.contents('f'), 'Xbcd', 'after clearing it');
  },
  'kernel',
);

for (const [name, flag] of [
  ['O_SYNC', O_SYNC],
  ['O_DSYNC', O_DSYNC],
  ['O_NONBLOCK', O_NONBLOCK],
  ['O_NOATIME', O_NOATIME],
] as const) {
  test(`what is written with ${name} is read back`, (t) => {
    const fd = t.open('f', O_CREAT | O_RDWR | flag, 0o644);
    t.write(fd, 'abc');
    equal(t.pread(fd, 10, 0), Buffer.from('abc'), 'contents');
  });
}

test(
  'whole blocks that are written with O_DIRECT are read back',
  (t) => {
    const fd = supported('O_DIRECT', () => t.open('f', O_CREAT | O_RDWR | O_DIRECT, 0o644), 'EINVAL');
    const block = Buffer.alloc(4096, 'direct ');
    t.pwrite(fd, block, 4096);
    equal(t.pread(fd, 4096, 4096), block, 'contents');
    equal(t.stat('f').size, 8192, 'size');
  },
  'kernel',
);

test(
  'what is written with O_DIRECT is seen without it',
  (t) => {
    const fd = supported('O_DIRECT', () => t.open('f', O_CREAT | O_RDWR | O_DIRECT, 0o644), 'EINVAL');
    const plain = t.open('f', O_RDWR);
    t.pwrite(plain, Buffer.alloc(4096, 'plain'), 0);
    t.pwrite(fd, Buffer.alloc(4096, 'direct'), 0);
    equal(t.pread(plain, 4096, 0), Buffer.alloc(4096, 'direct'), 'contents');
  },
  'kernel',
);

test(
  'open with O_NOATIME by the owner succeeds, and by another user fails with EPERM',
  (t) => {
    t.file('f', 'abc', 0o666);
    t.chown('f', 5001, 5001);
    t.as({ uid: 5001, gid: 5001 }, () => t.open('f', O_RDONLY | O_NOATIME));
    fails('EPERM', () => t.as({ uid: 5002, gid: 5001 }, () => t.open('f', O_RDONLY | O_NOATIME)));
  },
  'users',
);
