import { O_APPEND, O_CREAT, O_DIRECTORY, O_RDONLY, O_RDWR, O_WRONLY } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
} from '../constants.ts';
import type { Face } from '../face.ts';
import { equal, fails, ok, supported } from '../verdicts.ts';

/** Holes, allocation, copies within the kernel, syncs. */
export const space = new Topic('space');
const { test } = space;

const NEW = O_CREAT | O_RDWR;

const KIB = 1024;

function made(t: Face, contents: string | Uint8Array = ''): number {
  const fd = t.open('f', NEW, 0o644);
  if (contents.length > 0) t.write(fd, contents);
  return fd;
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');

const zeros = (length: number): Uint8Array => new Uint8Array(length);

test('the size of an empty file is 0, and so are its blocks', (t) => {
  made(t);
  equal([t.stat('f').size, t.stat('f').blocks], [0, 0], 'size and blocks');
});

test('a file with 64 KiB of data takes about 128 blocks of 512 bytes', (t) => {
  const fd = made(t, Buffer.alloc(64 * KIB, 'x'));
  t.fsync(fd);
  const { blocks } = t.stat('f');
  ok(blocks >= 128 && blocks <= 1024, `${blocks} blocks`);
});

test('a hole of 64 MiB takes hardly any blocks', (t) => {
  const fd = made(t);
  t.pwrite(fd, 'x', 64 << 20);
  t.fsync(fd);
  ok(t.stat('f').blocks < 4096, `${t.stat('f').blocks} blocks`);
});

test('a hole reads as zeros', (t) => {
  const fd = made(t);
  t.pwrite(fd, 'x', 1 << 20);
  equal(t.pread(fd, 8192, 500_000), zeros(8192), 'bytes');
});

test('lseek with SEEK_SET, SEEK_CUR and SEEK_END gives the new position', (t) => {
  const fd = made(t, 'abcdef');
  equal(t.lseek(fd, 2, SEEK_SET), 2n, 'SEEK_SET');
  equal(t.lseek(fd, 3, SEEK_CUR), 5n, 'SEEK_CUR');
  equal(t.lseek(fd, -1, SEEK_END), 5n, 'SEEK_END');
  equal(t.lseek(fd, 100, SEEK_END), 106n, 'beyond the end');
});

test('lseek with SEEK_END sees what another descriptor appended', (t) => {
  const fd = made(t, 'abc');
  t.lseek(fd, 0, SEEK_END);
  t.pwrite(t.open('f', O_WRONLY), 'defgh', 3);
  equal(t.lseek(fd, 0, SEEK_END), 8n, 'position');
});

test(
  'lseek to a negative position fails with EINVAL and leaves the position',
  (t) => {
    const fd = made(t, 'abc');
    fails('EINVAL', () => t.lseek(fd, -1, SEEK_SET));
    fails('EINVAL', () => t.lseek(fd, -10, SEEK_END));
    equal(t.lseek(fd, 0, SEEK_CUR), 3n, 'position');
  },
  'kernel',
);

test(
  'lseek with a whence that does not exist fails with EINVAL',
  (t) => {
    const fd = made(t, 'abc');
    fails('EINVAL', () => t.lseek(fd, 0, 9));
  },
  'kernel',
);

test('SEEK_DATA in data stays where it is', (t) => {
  const fd = made(t, Buffer.alloc(64 * KIB, 'x'));
  equal(t.lseek(fd, 1000, SEEK_DATA), 1000n, 'position');
});

test('SEEK_HOLE in a file without holes finds its end', (t) => {
  const fd = made(t, Buffer.alloc(64 * KIB, 'x'));
  equal(t.lseek(fd, 0, SEEK_HOLE), BigInt(64 * KIB), 'position');
});

test('SEEK_DATA in a hole finds the data behind it, not beyond it', (t) => {
  const fd = made(t);
  t.pwrite(fd, Buffer.alloc(64 * KIB, 'x'), 1 << 20);
  const found = Number(t.lseek(fd, 0, SEEK_DATA));
  // Without support for holes all of the file is data.
  ok(found === 0 || (found > (1 << 20) - 65_536 && found <= 1 << 20), `found at ${found}`);
});

test('SEEK_HOLE finds a hole between data', (t) => {
  const fd = made(t, Buffer.alloc(64 * KIB, 'x'));
  t.pwrite(fd, Buffer.alloc(64 * KIB, 'y'), 1 << 20);
  const found = Number(t.lseek(fd, 0, SEEK_HOLE));
  ok(found >= 64 * KIB && found <= (1 << 20) + 64 * KIB, `found at ${found}`);
});

test('SEEK_DATA and SEEK_HOLE at the end and beyond fail with ENXIO', (t) => {
  const fd = made(t, 'abc');
  for (const offset of [3, 100]) {
    fails('ENXIO', () => t.lseek(fd, offset, SEEK_DATA));
    fails('ENXIO', () => t.lseek(fd, offset, SEEK_HOLE));
  }
});

test('SEEK_DATA in a file that is nothing but hole fails with ENXIO', (t) => {
  const fd = made(t);
  t.ftruncate(fd, 1 << 20);
  let found = -1n;
  try {
    found = t.lseek(fd, 0, SEEK_DATA);
  } catch (error) {
    fails('ENXIO', () => {
      throw error;
    });
  }
  // Where holes are not known, all is data.
  ok(found <= 0n, `found data at ${found}`);
});

function allocate(t: Face, fd: number, mode: number, offset: number, length: number): void {
  supported(`fallocate with mode ${mode}`, () => t.fallocate(fd, mode, offset, length));
}

test('fallocate grows a file by zeros', (t) => {
  const fd = made(t, 'abc');
  allocate(t, fd, 0, 0, 10_000);
  equal(t.stat('f').size, 10_000, 'size');
  equal(t.pread(fd, 10_000, 0), Buffer.concat([Buffer.from('abc'), zeros(9997)]), 'contents');
});

test('fallocate takes blocks', (t) => {
  const fd = made(t);
  allocate(t, fd, 0, 0, 1 << 20);
  ok(t.stat('f').blocks >= 2048, `${t.stat('f').blocks} blocks`);
});

test('fallocate within a file leaves its contents', (t) => {
  const fd = made(t, 'abc');
  allocate(t, fd, 0, 0, 2);
  equal([t.contents('f'), t.stat('f').size], ['abc', 3], 'contents and size');
});

test('fallocate with KEEP_SIZE leaves the size', (t) => {
  const fd = made(t, 'abc');
  allocate(t, fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
  equal(t.stat('f').size, 3, 'size');
});

test('fallocate with PUNCH_HOLE makes zeros, and leaves the size', (t) => {
  const fd = made(t, Buffer.alloc(32 * KIB, 'x'));
  allocate(t, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192);
  equal(t.pread(fd, 8192, 4096), zeros(8192), 'the hole');
  equal(text(t.pread(fd, 2, 4095)), 'x\0', 'the edge before');
  equal(text(t.pread(fd, 2, 12_287)), '\0x', 'the edge behind');
  equal(t.stat('f').size, 32 * KIB, 'size');
});

test('fallocate with PUNCH_HOLE of odd bytes zeroes these alone', (t) => {
  const fd = made(t, 'abcdefghij');
  allocate(t, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3, 4);
  equal(t.contents('f'), 'abc\0\0\0\0hij', 'contents');
});

test('fallocate with PUNCH_HOLE gives blocks back', (t) => {
  const fd = made(t, Buffer.alloc(1 << 20, 'x'));
  t.fsync(fd);
  const before = t.stat('f').blocks;
  allocate(t, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20);
  t.fsync(fd);
  ok(t.stat('f').blocks < before, `${before} blocks before, ${t.stat('f').blocks} after`);
});

test('fallocate with PUNCH_HOLE without KEEP_SIZE fails with EOPNOTSUPP', (t) => {
  const fd = made(t, 'abc');
  fails(['EOPNOTSUPP', 'EINVAL'], () => t.fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 1));
});

test('fallocate with ZERO_RANGE makes zeros and grows the file', (t) => {
  const fd = made(t, Buffer.alloc(8192, 'x'));
  allocate(t, fd, FALLOC_FL_ZERO_RANGE, 4096, 8192);
  equal(t.pread(fd, 8192, 4096), zeros(8192), 'zeros');
  equal(t.stat('f').size, 12_288, 'size');
});

test('fallocate with ZERO_RANGE and KEEP_SIZE leaves the size', (t) => {
  const fd = made(t, Buffer.alloc(8192, 'x'));
  allocate(t, fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 4096, 8192);
  equal(t.stat('f').size, 8192, 'size');
});

/** A file of blocks as large as the file system's, each of a letter. */
function blocksOf(t: Face, letters: string): { fd: number; size: number } {
  const fd = made(t);
  const size = Math.max(4096, t.fstat(fd).blksize > 65_536 ? 4096 : t.fstat(fd).blksize);
  for (const letter of letters) t.write(fd, Buffer.alloc(size, letter));
  return { fd, size };
}

const lettersOf = (t: Face, fd: number, size: number): string =>
  Array.from({ length: t.fstat(fd).size / size }, (_, i) => text(t.pread(fd, 1, i * size))).join('');

test('fallocate with COLLAPSE_RANGE takes a part out of a file', (t) => {
  const { fd, size } = blocksOf(t, 'abcd');
  allocate(t, fd, FALLOC_FL_COLLAPSE_RANGE, size, size);
  equal(lettersOf(t, fd, size), 'acd', 'blocks');
});

test('fallocate with COLLAPSE_RANGE to the end of the file fails with EINVAL', (t) => {
  const { fd, size } = blocksOf(t, 'ab');
  fails('EINVAL', () => allocate(t, fd, FALLOC_FL_COLLAPSE_RANGE, size, size));
});

test('fallocate with INSERT_RANGE puts a hole into a file', (t) => {
  const { fd, size } = blocksOf(t, 'abc');
  allocate(t, fd, FALLOC_FL_INSERT_RANGE, size, size);
  equal(lettersOf(t, fd, size), 'a\0bc', 'blocks');
});

test('fallocate with INSERT_RANGE beyond the end fails with EINVAL', (t) => {
  const { fd, size } = blocksOf(t, 'ab');
  fails('EINVAL', () => allocate(t, fd, FALLOC_FL_INSERT_RANGE, size * 2, size));
});

test(
  'fallocate of no bytes, or of a negative offset, fails with EINVAL',
  (t) => {
    const fd = made(t, 'abc');
    fails('EINVAL', () => t.fallocate(fd, 0, 0, 0));
    fails('EINVAL', () => t.fallocate(fd, 0, -1, 10));
  },
  'kernel',
);

test(
  'fallocate of a descriptor that is open for reading only fails with EBADF',
  (t) => {
    t.file('f', 'abc');
    fails('EBADF', () => t.fallocate(t.open('f', O_RDONLY), 0, 0, 10));
  },
  'kernel',
);

test('fallocate with a mode that does not exist fails with EOPNOTSUPP', (t) => {
  const fd = made(t, 'abc');
  fails(['EOPNOTSUPP', 'EINVAL'], () => t.fallocate(fd, 0x4000, 0, 10));
});

test('a write into allocated space reads back, with zeros around it', (t) => {
  const fd = made(t);
  allocate(t, fd, 0, 0, 65_536);
  t.pwrite(fd, 'abc', 30_000);
  equal(text(t.pread(fd, 5, 29_999)), '\0abc\0', 'bytes');
});

test('copy_file_range copies between files at offsets, and leaves positions', (t) => {
  t.file('from', 'abcdefgh');
  const from = t.open('from', O_RDONLY);
  const fd = made(t, '0123456789');
  equal(t.copyFileRange(from, 2, fd, 4, 3), 3, 'bytes copied');
  equal(t.contents('f'), '0123cde789', 'contents');
  equal([t.lseek(from, 0, SEEK_CUR), t.lseek(fd, 0, SEEK_CUR)], [0n, 10n], 'positions');
});

test(
  'copy_file_range without offsets uses the positions and moves them',
  (t) => {
    t.file('from', 'abcdefgh');
    const from = t.open('from', O_RDONLY);
    const fd = made(t);
    t.read(from, 2);
    t.copyFileRange(from, null, fd, null, 3);
    equal([t.lseek(from, 0, SEEK_CUR), t.lseek(fd, 0, SEEK_CUR)], [5n, 3n], 'positions');
    equal(t.contents('f'), 'cde', 'contents');
  },
  'kernel',
);

test('copy_file_range at the end of the source copies nothing', (t) => {
  t.file('from', 'abc');
  equal(t.copyFileRange(t.open('from', O_RDONLY), 3, made(t), 0, 10), 0, 'bytes copied');
});

test('copy_file_range of more than there is copies what there is', (t) => {
  t.file('from', 'abc');
  equal(t.copyFileRange(t.open('from', O_RDONLY), 1, made(t), 0, 1000), 2, 'bytes copied');
  equal(t.contents('f'), 'bc', 'contents');
});

test('copy_file_range copies a megabyte whole', (t) => {
  const bytes = Buffer.alloc(1 << 20, 'copied by the kernel, ');
  t.file('from', bytes);
  const [from, fd] = [t.open('from', O_RDONLY), made(t)];
  let done = 0;
  while (done < bytes.length) {
    const some = t.copyFileRange(from, done, fd, done, bytes.length - done);
    ok(some > 0, `it stopped after ${done} bytes`);
    done += some;
  }
  equal(t.pread(fd, bytes.length, 0), bytes, 'contents');
});

test('copy_file_range sees what was written to the source just before', (t) => {
  t.file('from', 'abc');
  const from = t.open('from', O_RDWR);
  t.pwrite(from, 'XYZ', 0);
  t.copyFileRange(from, 0, made(t), 0, 3);
  equal(t.contents('f'), 'XYZ', 'contents');
});

test('copy_file_range within a file copies to where it does not overlap', (t) => {
  const fd = made(t, 'abcdefgh');
  t.copyFileRange(fd, 0, fd, 4, 4);
  equal(t.contents('f'), 'abcdabcd', 'contents');
});

test(
  'copy_file_range within a file where it overlaps fails with EINVAL',
  (t) => {
    const fd = made(t, 'abcdefgh');
    fails('EINVAL', () => t.copyFileRange(fd, 0, fd, 2, 4));
  },
  'kernel',
);

test(
  'copy_file_range to a descriptor with O_APPEND fails with EBADF',
  (t) => {
    t.file('from', 'abc');
    t.file('to');
    fails('EBADF', () => t.copyFileRange(t.open('from', O_RDONLY), 0, t.open('to', O_WRONLY | O_APPEND), 0, 3));
  },
  'kernel',
);

test(
  'copy_file_range from a directory fails with EISDIR',
  (t) => {
    t.mkdir('d');
    fails('EISDIR', () => t.copyFileRange(t.open('d', O_RDONLY | O_DIRECTORY), 0, made(t), 0, 3));
  },
  'kernel',
);

test('sendfile copies from a file to a file', (t) => {
  t.file('from', 'abcdef');
  const fd = made(t);
  equal(t.sendfile(fd, t.open('from', O_RDONLY), 2, 3), 3, 'bytes sent');
  equal(t.contents('f'), 'cde', 'contents');
});

test('sendfile without an offset moves the position of the source', (t) => {
  t.file('from', 'abcdef');
  const from = t.open('from', O_RDONLY);
  t.sendfile(made(t), from, null, 4);
  equal(t.lseek(from, 0, SEEK_CUR), 4n, 'position');
});

test('fsync and fdatasync of files succeed, for descriptors that read too', (t) => {
  const fd = made(t, 'abc');
  const reading = t.open('f', O_RDONLY);
  for (const each of [fd, reading]) {
    t.fsync(each);
    t.fdatasync(each);
  }
});

test('fsync and fdatasync of a directory succeed', (t) => {
  t.mkdir('d');
  t.file('d/f', 'abc');
  const fd = t.open('d', O_RDONLY | O_DIRECTORY);
  t.fsync(fd);
  t.fdatasync(fd);
});

test('fsync of an unlinked file succeeds', (t) => {
  const fd = made(t, 'abc');
  t.unlink('f');
  t.fsync(fd);
});

test('syncfs succeeds', (t) => {
  t.syncfs(made(t, 'abc'));
});

test('a file that is written, closed and opened again holds what was written', (t) => {
  for (let i = 0; i < 20; i += 1) {
    t.file('f', `round ${i}`);
    equal(t.contents('f'), `round ${i}`, 'contents');
  }
});

test('the size that stat gives follows every write', (t) => {
  const fd = made(t);
  for (let i = 1; i <= 20; i += 1) {
    t.write(fd, 'x'.repeat(i * 100));
    equal(t.stat('f').size, 50 * i * (i + 1), `size after ${i} writes`);
  }
});

test('every byte value is kept, at every place of a page', (t) => {
  const bytes = Uint8Array.from({ length: 3 * 4096 + 17 }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
  const fd = made(t, bytes);
  equal(t.pread(fd, bytes.length, 0), bytes, 'contents');
  equal(t.pread(fd, 100, 4090), bytes.slice(4090, 4190), 'across a page');
});
