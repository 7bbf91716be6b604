import {
  O_CREAT,
  O_DIRECTORY,
  O_NOATIME,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
  PROT_READ,
  PROT_WRITE,
  MAP_SHARED,
  RENAME_EXCHANGE,
} from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { FALLOC_FL_KEEP_SIZE, MS_SYNC, S_IFIFO } from '../constants.ts';
import type { Face } from '../face.ts';
import { equal, fails, Mismatch, ok, supported } from '../verdicts.ts';

export const times = new Topic('times');
const { test } = times;

/** In 2001: long ago for relatime, with nanoseconds. */
const OLD = 1_000_000_000_123_456_789n;
const NEXT = 1_100_000_000_987_654_321n;

/**
 * Sets atime and mtime of names to long ago, acts, and holds what moved against `expected`: for each name the letters
 * of the times that move, of `a`, `m` and `c`; a time in brackets, as in `(a)`, may.
 */
function moves(t: Face, expected: Readonly<Record<string, string>>, act: () => void): void {
  const names = Object.keys(expected);
  for (const name of names) t.utimens(name, OLD, OLD, true);
  const before = names.map((name) => t.lstat(name));
  t.tick();
  act();
  for (const [i, name] of names.entries()) {
    const after = t.lstat(name);
    for (const [letter, key] of [
      ['a', 'atime'],
      ['m', 'mtime'],
      ['c', 'ctime'],
    ] as const) {
      if (expected[name].includes(`(${letter})`)) continue;
      const moved = after[key] !== before[i][key];
      const wanted = expected[name].includes(letter);
      if (moved === wanted) continue;
      throw new Mismatch(`${key} of ${name}: expected ${wanted ? 'to move' : 'to stay'}, got the contrary`);
    }
  }
}

test('write moves mtime and ctime of the file, and nothing of its directory', (t) => {
  t.file('f', 'abc');
  const fd = t.open('f', O_WRONLY);
  moves(t, { f: 'mc', '.': '' }, () => t.write(fd, 'x'));
});

test('pwrite moves mtime and ctime', (t) => {
  t.file('f', 'abc');
  const fd = t.open('f', O_WRONLY);
  moves(t, { f: 'mc' }, () => t.pwrite(fd, 'x', 100));
});

test('a write of no bytes moves nothing', (t) => {
  t.file('f', 'abc');
  const fd = t.open('f', O_WRONLY);
  moves(t, { f: '' }, () => t.write(fd, ''));
});

test(
  'read moves atime alone',
  (t) => {
    t.file('f', 'abc');
    const fd = t.open('f', O_RDONLY);
    moves(t, { f: 'a' }, () => t.read(fd, 3));
  },
  'atime',
);

test(
  'read with O_NOATIME moves nothing',
  (t) => {
    t.file('f', 'abc');
    const fd = t.open('f', O_RDONLY | O_NOATIME);
    moves(t, { f: '' }, () => t.read(fd, 3));
  },
  'atime',
);

test('opening and closing a file moves nothing', (t) => {
  t.file('f', 'abc');
  moves(t, { f: '', '.': '' }, () => t.close(t.open('f', O_RDWR)));
});

test('open with O_CREAT of a file that exists moves nothing', (t) => {
  t.file('f', 'abc');
  moves(t, { f: '', '.': '' }, () => t.close(t.open('f', O_RDWR | O_CREAT, 0o644)));
});

test('open with O_CREAT of a new file moves mtime and ctime of the directory', (t) => {
  moves(t, { '.': 'mc' }, () => t.close(t.open('f', O_RDWR | O_CREAT, 0o644)));
});

test('a new file has its three times from when it was made', (t) => {
  t.file('clock');
  t.tick();
  t.close(t.open('f', O_CREAT | O_WRONLY, 0o644));
  const { atime, mtime, ctime } = t.stat('f');
  equal([atime, mtime], [ctime, ctime], 'atime and mtime');
  ok(ctime > t.stat('clock').ctime, 'the time is not later than that of a file made before');
});

test('open with O_TRUNC of a file with contents moves mtime and ctime', (t) => {
  t.file('f', 'abc');
  moves(t, { f: 'mc', '.': '' }, () => t.close(t.open('f', O_WRONLY | O_TRUNC)));
});

test('open with O_TRUNC of an empty file moves mtime and ctime', (t) => {
  t.file('f');
  moves(t, { f: 'mc' }, () => t.close(t.open('f', O_WRONLY | O_TRUNC)));
});

test('truncate to another size moves mtime and ctime', (t) => {
  t.file('f', 'abc');
  moves(t, { f: 'mc' }, () => t.truncate('f', 1));
});

test('ftruncate to another size moves mtime and ctime', (t) => {
  t.file('f', 'abc');
  const fd = t.open('f', O_WRONLY);
  moves(t, { f: 'mc' }, () => t.ftruncate(fd, 10));
});

test('ftruncate to the size that the file has moves mtime and ctime', (t) => {
  t.file('f', 'abc');
  const fd = t.open('f', O_WRONLY);
  moves(t, { f: 'mc' }, () => t.ftruncate(fd, 3));
});

test('fallocate that grows a file moves mtime and ctime', (t) => {
  t.file('f', 'abc');
  const fd = t.open('f', O_WRONLY);
  supported('fallocate', () => t.fallocate(fd, 0, 0, 3));
  moves(t, { f: '(m)c' }, () => t.fallocate(fd, 0, 0, 10_000));
});

test('fallocate that keeps the size moves ctime, and not atime', (t) => {
  t.file('f', 'abc');
  const fd = t.open('f', O_WRONLY);
  moves(t, { f: '(m)c' }, () => supported('KEEP_SIZE', () => t.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 10_000)));
});

test('chmod moves ctime alone', (t) => {
  t.file('f');
  moves(t, { f: 'c', '.': '' }, () => t.chmod('f', 0o600));
});

test('chmod to the mode that the file has moves ctime', (t) => {
  t.file('f', '', 0o644);
  moves(t, { f: 'c' }, () => t.chmod('f', 0o644));
});

test('fchmod moves ctime alone', (t) => {
  t.file('f');
  const fd = t.open('f', O_RDONLY);
  moves(t, { f: 'c' }, () => t.fchmod(fd, 0o600));
});

test(
  'chown moves ctime alone',
  (t) => {
    t.file('f');
    moves(t, { f: 'c', '.': '' }, () => t.chown('f', 5001, 5001));
  },
  'owners',
);

test(
  'lchown of a symlink moves ctime of the symlink alone',
  (t) => {
    t.file('f');
    t.symlink('f', 'l');
    moves(t, { l: 'c(a)', f: '' }, () => t.lchown('l', 5001, 5001));
  },
  'owners',
);

test(
  'a chmod that fails moves nothing',
  (t) => {
    t.file('f');
    moves(t, { f: '' }, () => fails('EPERM', () => t.as({ uid: 5001, gid: 5001 }, () => t.chmod('f', 0o600))));
  },
  'users',
);

test('link moves ctime of the file, and mtime and ctime of the directory', (t) => {
  t.file('f');
  moves(t, { f: 'c', '.': 'mc' }, () => t.link('f', 'g'));
});

test('link into another directory moves nothing of the first', (t) => {
  t.mkdir('d');
  t.file('f');
  moves(t, { f: 'c', d: 'mc', '.': '' }, () => t.link('f', 'd/g'));
});

test('unlink moves mtime and ctime of the directory, and ctime of the file that has another name', (t) => {
  t.file('f');
  t.link('f', 'g');
  moves(t, { g: 'c', '.': 'mc' }, () => t.unlink('f'));
});

test('unlink moves ctime of a file that is open', (t) => {
  t.file('f');
  const fd = t.open('f', O_RDONLY);
  const before = t.fstat(fd);
  t.tick();
  t.unlink('f');
  ok(t.fstat(fd).ctime !== before.ctime, 'ctime did not move');
  equal(t.fstat(fd).mtime, before.mtime, 'mtime');
});

test('mkdir moves mtime and ctime of the directory', (t) => {
  moves(t, { '.': 'mc' }, () => t.mkdir('d'));
});

test('rmdir moves mtime and ctime of the directory', (t) => {
  t.mkdir('d');
  moves(t, { '.': 'mc' }, () => t.rmdir('d'));
});

test('symlink moves mtime and ctime of the directory', (t) => {
  moves(t, { '.': 'mc' }, () => t.symlink('x', 'l'));
});

test('mknod moves mtime and ctime of the directory', (t) => {
  moves(t, { '.': 'mc' }, () => t.mknod('p', S_IFIFO | 0o644));
});

test('rename within a directory moves mtime and ctime of the directory, and not mtime of the file', (t) => {
  t.file('f');
  const before = t.stat('f');
  moves(t, { '.': 'mc' }, () => t.rename('f', 'g'));
  equal([t.stat('g').atime, t.stat('g').mtime], [before.atime, before.mtime], 'atime and mtime of the file');
});

test('rename moves ctime of the file', (t) => {
  t.file('f');
  const { ctime } = t.stat('f');
  t.tick();
  t.rename('f', 'g');
  ok(t.stat('g').ctime !== ctime, 'ctime did not move');
});

test('rename into another directory moves mtime and ctime of both', (t) => {
  t.mkdir('a');
  t.mkdir('b');
  t.file('a/f');
  moves(t, { a: 'mc', b: 'mc', '.': '' }, () => t.rename('a/f', 'b/f'));
});

test('rename over a file with another name moves ctime of that file', (t) => {
  t.file('f');
  t.file('g');
  t.link('g', 'h');
  moves(t, { h: 'c' }, () => t.rename('f', 'g'));
});

test('rename with RENAME_EXCHANGE moves mtime and ctime of both directories', (t) => {
  t.mkdir('a');
  t.mkdir('b');
  t.file('a/f');
  t.file('b/g');
  moves(t, { a: 'mc', b: 'mc' }, () => {
    supported('RENAME_EXCHANGE', () => t.rename('a/f', 'b/g', RENAME_EXCHANGE), 'EINVAL');
  });
});

test('rename of a name to itself moves nothing', (t) => {
  t.file('f');
  moves(t, { f: '', '.': '' }, () => t.rename('f', 'f'));
});

test('a rename that fails moves nothing', (t) => {
  t.file('f');
  t.mkdir('d');
  moves(t, { f: '', d: '', '.': '' }, () => fails('EISDIR', () => t.rename('f', 'd')));
});

test('an open with O_EXCL that fails moves nothing', (t) => {
  t.file('f');
  moves(t, { f: '', '.': '' }, () => fails('EEXIST', () => t.open('f', O_CREAT | 0o200, 0o644)));
});

test('a rmdir that fails moves nothing', (t) => {
  t.mkdir('d');
  t.file('d/f');
  moves(t, { d: '', '.': '' }, () => fails(['ENOTEMPTY', 'EEXIST'], () => t.rmdir('d')));
});

test('stat, access and readlink move neither mtime nor ctime', (t) => {
  t.file('f');
  t.symlink('f', 'l');
  moves(t, { f: '', l: '(a)', '.': '' }, () => {
    t.stat('f');
    t.readlink('l');
  });
});

test(
  'reading a directory moves atime of it alone',
  (t) => {
    t.mkdir('d');
    t.file('d/f');
    const fd = t.open('d', O_RDONLY | O_DIRECTORY);
    moves(t, { d: 'a' }, () => t.restOfEntries(fd));
  },
  'atime',
);

test(
  'reading a symlink moves its atime',
  (t) => {
    t.symlink('x', 'l');
    moves(t, { l: 'a' }, () => t.readlink('l'));
  },
  'atime',
  'kernel',
);

test('a write in a directory below moves nothing above', (t) => {
  t.mkdir('d');
  t.file('d/f');
  moves(t, { d: '', '.': '' }, () => t.truncate('d/f', 10));
});

test(
  'setxattr moves ctime alone',
  (t) => {
    t.file('f');
    moves(t, { f: 'c' }, () => t.setxattr('f', 'user.a', '1'));
  },
  'xattr',
);

test(
  'removexattr moves ctime alone',
  (t) => {
    t.file('f');
    t.setxattr('f', 'user.a', '1');
    moves(t, { f: 'c' }, () => t.removexattr('f', 'user.a'));
  },
  'xattr',
);

test(
  'getxattr and listxattr move nothing',
  (t) => {
    t.file('f');
    t.setxattr('f', 'user.a', '1');
    moves(t, { f: '' }, () => {
      t.getxattr('f', 'user.a');
      t.listxattr('f');
    });
  },
  'xattr',
);

test('fsync moves nothing', (t) => {
  t.file('f', 'abc');
  const fd = t.open('f', O_RDWR);
  moves(t, { f: '' }, () => t.fsync(fd));
});

test(
  'a write to a shared mapping moves mtime and ctime once it is synced',
  (t) => {
    t.file('f', 'abc');
    const fd = t.open('f', O_RDWR);
    const mapping = t.mmap(fd, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
    moves(t, { f: '(a)mc' }, () => {
      mapping.bytes[0] = 0x58;
      mapping.sync(MS_SYNC);
    });
  },
  'mmap',
);

test('copy_file_range moves mtime and ctime of the target, and neither of the source', (t) => {
  t.file('f', 'abc');
  t.file('g', 'xyz');
  const [from, to] = [t.open('f', O_RDONLY), t.open('g', O_RDWR)];
  moves(t, { f: '(a)', g: 'mc' }, () => t.copyFileRange(from, 0, to, 0, 3));
});

test('a write moves the times of an unlinked file', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.unlink('f');
  t.futimens(fd, OLD, OLD);
  const before = t.fstat(fd);
  t.tick();
  t.write(fd, 'x');
  ok(t.fstat(fd).mtime > before.mtime && t.fstat(fd).ctime > before.ctime, 'mtime or ctime did not move');
});

test(
  'making a file of O_TMPFILE moves nothing of the directory',
  (t) => {
    moves(t, { '.': '' }, () => t.close(t.open('.', O_TMPFILE | O_RDWR, 0o600)));
  },
  'tmpfile',
);

test('mtime of two writes one after the other does not go back', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  let last = 0n;
  for (let i = 0; i < 20; i += 1) {
    t.write(fd, 'x');
    const { mtime } = t.fstat(fd);
    ok(mtime >= last, `mtime went from ${last} to ${mtime}`);
    last = mtime;
  }
});

test('a write after utimensat moves mtime on to now', (t) => {
  t.file('f', 'abc');
  t.utimens('f', OLD, OLD);
  const fd = t.open('f', O_WRONLY);
  t.write(fd, 'x');
  t.close(fd);
  ok(t.stat('f').mtime > NEXT, 'mtime is of long ago');
});

test('utimensat after a write to an open file stays as it was set when the file is closed', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.write(fd, 'abc');
  t.utimens('f', OLD, NEXT);
  t.close(fd);
  equal([t.stat('f').atime, t.stat('f').mtime], [OLD, NEXT], 'atime and mtime');
});
