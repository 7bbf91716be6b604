import { O_APPEND, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { RWF_APPEND, RWF_DSYNC, RWF_SYNC, S_IFIFO, SEEK_CUR, SEEK_SET } from '../constants.ts';
import type { Face } from '../face.ts';
import { equal, fails, supported } from '../verdicts.ts';

/** Reading, writing, sizes, holes. */
export const data = new Topic('data');
const { test } = data;

const NEW = O_CREAT | O_RDWR;
const zeros = (length: number): Uint8Array => new Uint8Array(length);

function made(t: Face, contents: string | Uint8Array = ''): number {
  const fd = t.open('f', NEW, 0o644);
  if (contents.length > 0) t.write(fd, contents);
  return fd;
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

test('a read at the end of the file gives nothing', (t) => {
  const fd = made(t, 'abc');
  equal(t.read(fd, 10).length, 0, 'bytes');
});

test('a read across the end of the file gives what there is', (t) => {
  const fd = made(t, 'abcdef');
  equal(text(t.pread(fd, 10, 4)), 'ef', 'bytes');
});

test('a read far beyond the end gives nothing', (t) => {
  const fd = made(t, 'abc');
  equal(t.pread(fd, 10, 2 ** 40).length, 0, 'bytes');
});

test('read moves the position by what it read', (t) => {
  const fd = made(t, 'abcdef');
  t.lseek(fd, 1, SEEK_SET);
  t.read(fd, 3);
  equal(t.lseek(fd, 0, SEEK_CUR), 4n, 'position');
  t.read(fd, 100);
  equal(t.lseek(fd, 0, SEEK_CUR), 6n, 'position at the end');
});

test('pread and pwrite leave the position', (t) => {
  const fd = made(t, 'abcdef');
  t.lseek(fd, 2, SEEK_SET);
  t.pread(fd, 3, 0);
  t.pwrite(fd, 'X', 5);
  equal(t.lseek(fd, 0, SEEK_CUR), 2n, 'position');
});

test(
  'pread and pwrite at a negative offset fail with EINVAL',
  (t) => {
    const fd = made(t, 'abc');
    fails('EINVAL', () => t.pread(fd, 1, -1));
    fails('EINVAL', () => t.pwrite(fd, 'x', -1));
  },
  'kernel',
);

test('a write within a file changes these bytes alone', (t) => {
  const fd = made(t, 'abcdef');
  t.pwrite(fd, 'XY', 2);
  equal([t.contents('f'), t.stat('f').size], ['abXYef', 6], 'contents and size');
});

test('a write beyond the end leaves zeros between', (t) => {
  const fd = made(t, 'ab');
  t.pwrite(fd, 'z', 5);
  equal(t.contents('f'), 'ab\0\0\0z', 'contents');
});

test('a write at 4 GiB and at 1 TiB is read back there', (t) => {
  const fd = made(t);
  for (const offset of [2 ** 32 - 1, 2 ** 40]) {
    t.pwrite(fd, 'abc', offset);
    equal(text(t.pread(fd, 10, offset).slice(0, 3)), 'abc', `bytes at ${offset}`);
    equal(t.stat('f').size, offset + 3, 'size');
  }
});

test('a write of no bytes beyond the end does not grow the file', (t) => {
  const fd = made(t, 'abc');
  equal(t.pwrite(fd, '', 100), 0, 'bytes written');
  equal(t.stat('f').size, 3, 'size');
});

test('1 MiB that is written at once is read at once', (t) => {
  const bytes = Buffer.alloc(1 << 20, 'one mebibyte of text, ');
  const fd = made(t);
  equal(t.write(fd, bytes), 1 << 20, 'bytes written');
  equal(t.pread(fd, 1 << 20, 0), bytes, 'contents');
});

test('a megabyte in pieces of odd sizes is what was written', (t) => {
  const fd = made(t);
  const parts: Buffer[] = [];
  for (let i = 0; i < 150; i += 1) {
    const part = Buffer.alloc(1 + ((i * 7919) % 13_001), 65 + (i % 26));
    parts.push(part);
    t.write(fd, part);
  }
  equal(Buffer.from(t.contents('f'), 'latin1'), Buffer.concat(parts), 'contents');
});

test('readv fills one piece after the other', (t) => {
  const fd = made(t, 'abcdefgh');
  t.lseek(fd, 0, SEEK_SET);
  equal(t.readv(fd, [3, 1, 10]).map(text), ['abc', 'd', 'efgh'], 'pieces');
});

test('writev writes one piece after the other', (t) => {
  const fd = made(t);
  equal(t.writev(fd, ['abc', '', 'de', 'f']), 6, 'bytes written');
  equal(t.contents('f'), 'abcdef', 'contents');
});

test('writev with O_APPEND appends all pieces together', (t) => {
  made(t, '123');
  const fd = t.open('f', O_WRONLY | O_APPEND);
  t.writev(fd, ['abc', 'def']);
  equal(t.contents('f'), '123abcdef', 'contents');
});

test('preadv2 and pwritev2 with offset -1 use the position and move it', (t) => {
  const fd = made(t, 'abcdef');
  t.lseek(fd, 2, SEEK_SET);
  equal(text(t.preadv2(fd, 2, -1, 0)), 'cd', 'bytes');
  t.pwritev2(fd, 'X', -1, 0);
  equal(t.lseek(fd, 0, SEEK_CUR), 5n, 'position');
  equal(t.contents('f'), 'abcdXf', 'contents');
});

test('pwritev2 with RWF_APPEND appends, whatever the offset is', (t) => {
  const fd = made(t, 'abc');
  supported('RWF_APPEND', () => t.pwritev2(fd, 'XY', 0, RWF_APPEND));
  equal(t.contents('f'), 'abcXY', 'contents');
});

test('pwritev2 with RWF_SYNC and RWF_DSYNC writes', (t) => {
  const fd = made(t);
  supported('RWF_DSYNC', () => t.pwritev2(fd, 'abc', 0, RWF_DSYNC));
  supported('RWF_SYNC', () => t.pwritev2(fd, 'X', 0, RWF_SYNC));
  equal(t.contents('f'), 'Xbc', 'contents');
});

test('pwritev2 with a flag that does not exist fails with EOPNOTSUPP', (t) => {
  const fd = made(t);
  fails(['EOPNOTSUPP', 'EINVAL'], () => t.pwritev2(fd, 'abc', 0, 0x4000_0000));
});

test('O_APPEND writes at the end, wherever the position is', (t) => {
  made(t, 'abc');
  const fd = t.open('f', O_RDWR | O_APPEND);
  t.lseek(fd, 0, SEEK_SET);
  t.write(fd, 'd');
  equal(t.contents('f'), 'abcd', 'contents');
  equal(t.lseek(fd, 0, SEEK_CUR), 4n, 'position');
});

test('two descriptors with O_APPEND lose none of what the other wrote', (t) => {
  const [one, two] = [t.open('f', NEW | O_APPEND, 0o644), t.open('f', NEW | O_APPEND, 0o644)];
  for (let i = 0; i < 10; i += 1) {
    t.write(one, `a${i}`);
    t.write(two, `b${i}`);
  }
  const expected = Array.from({ length: 10 }, (_, i) => `a${i}b${i}`).join('');
  equal(t.contents('f'), expected, 'contents');
});

test('O_APPEND goes to the end that truncate left', (t) => {
  const fd = t.open('f', NEW | O_APPEND, 0o644);
  t.write(fd, 'abcdef');
  t.truncate('f', 2);
  t.write(fd, 'X');
  equal(t.contents('f'), 'abX', 'contents');
});

test('O_APPEND goes to the end that another descriptor wrote', (t) => {
  const fd = t.open('f', NEW | O_APPEND, 0o644);
  t.write(fd, 'abc');
  const other = t.open('f', O_RDWR);
  t.pwrite(other, 'x', 9);
  t.write(fd, '!');
  equal(t.contents('f'), 'abc\0\0\0\0\0\0x!', 'contents');
});

test('pwrite with O_APPEND appends, as Linux has it', (t) => {
  const fd = t.open('f', NEW | O_APPEND, 0o644);
  t.write(fd, 'abc');
  t.pwrite(fd, 'X', 0);
  equal(t.contents('f'), 'abcX', 'contents');
});

test('what one descriptor writes another reads at once', (t) => {
  const one = made(t, 'abc');
  const two = t.open('f', O_RDONLY);
  equal(text(t.pread(two, 10, 0)), 'abc', 'first');
  t.pwrite(one, 'ABCDEF', 0);
  equal(text(t.pread(two, 10, 0)), 'ABCDEF', 'second');
});

for (const [size, what] of [
  [0, 'to nothing'],
  [2, 'within the file'],
  [3, 'to its own size'],
  [5000, 'beyond its end'],
] as const) {
  test(`truncate ${what} sets the size, and what is new is zero`, (t) => {
    t.file('f', 'abc');
    t.truncate('f', size);
    equal(t.stat('f').size, size, 'size');
    equal(t.contents('f'), 'abc'.slice(0, size) + '\0'.repeat(Math.max(0, size - 3)), 'contents');
  });
}

test('what truncate cut off does not come back when the file grows again', (t) => {
  const fd = made(t, 'abcdef'.repeat(2000));
  t.ftruncate(fd, 5);
  t.ftruncate(fd, 8000);
  equal(t.pread(fd, 8000, 5), zeros(7995), 'bytes behind the cut');
});

test('a write behind the place of a cut finds zeros between', (t) => {
  const fd = made(t, 'abcdef'.repeat(2000));
  t.ftruncate(fd, 100);
  t.pwrite(fd, 'X', 6000);
  equal(t.pread(fd, 5900, 100), zeros(5900), 'bytes between');
});

test('ftruncate leaves the position', (t) => {
  const fd = made(t, 'abcdef');
  t.ftruncate(fd, 2);
  equal(t.lseek(fd, 0, SEEK_CUR), 6n, 'position');
});

test(
  'truncate to a negative size fails with EINVAL',
  (t) => {
    const fd = made(t, 'abc');
    fails('EINVAL', () => t.truncate('f', -1));
    fails('EINVAL', () => t.ftruncate(fd, -1));
  },
  'kernel',
);

test(
  'truncate of a directory fails with EISDIR',
  (t) => {
    t.mkdir('d');
    fails('EISDIR', () => t.truncate('d', 0));
  },
  'kernel',
);

test(
  'truncate of a FIFO fails with EINVAL',
  (t) => {
    t.mknod('p', S_IFIFO | 0o644);
    fails('EINVAL', () => t.truncate('p', 0));
  },
  'kernel',
);

test('truncate of a name that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.truncate('none', 0));
});

test('truncate follows a symlink', (t) => {
  t.file('f', 'abc');
  t.symlink('f', 'l');
  t.truncate('l', 1);
  equal(t.contents('f'), 'a', 'contents');
});

test('ftruncate to 2^62 fails with EFBIG, or sets that size where the file system has room for it', (t) => {
  const fd = made(t, 'abc');
  let size: number;
  try {
    t.ftruncate(fd, 2n ** 62n);
    size = t.fstat(fd).size;
    t.ftruncate(fd, 3);
    // tmpfs, xfs and btrfs do take it.
    equal(size, 2 ** 62, 'size');
  } catch (error) {
    fails('EFBIG', () => {
      throw error;
    });
  }
});

test(
  'a write at the largest offset fails with EFBIG, or EINVAL where it overflows',
  (t) => {
    const fd = made(t, 'abc');
    fails(['EFBIG', 'EINVAL'], () => t.pwrite(fd, 'xy', 2n ** 63n - 1n));
  },
  'kernel',
);
