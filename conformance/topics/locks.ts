import { O_CREAT, O_RDONLY, O_RDWR, O_WRONLY } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import {
  F_GETLK,
  F_OFD_GETLK,
  F_OFD_SETLK,
  F_RDLCK,
  F_SETLK,
  F_SETLKW,
  F_UNLCK,
  F_WRLCK,
  LOCK_EX,
  LOCK_NB,
  LOCK_SH,
  LOCK_UN,
  SEEK_CUR,
  SEEK_END,
  SEEK_SET,
} from '../constants.ts';
import type { Face, Other } from '../face.ts';
import { equal, fails } from '../verdicts.ts';

export const locks = new Topic('locks', 'kernel', 'locks');
const { test } = locks;

const BUSY = ['EAGAIN', 'EACCES'] as const;

/** A file that this process and another have open. */
function both(t: Face): { mine: number; theirs: number; other: Other } {
  // First: it starts with what is open here.
  const other = t.other();
  const mine = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.write(mine, '0123456789');
  return { mine, theirs: other.call('open', 'f', O_RDWR), other };
}

test('a read lock does not keep another process from a read lock', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_RDLCK });
  other.call('lock', theirs, F_SETLK, { type: F_RDLCK });
  other.call('close', theirs);
});

test('a read lock keeps another process from a write lock', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_RDLCK });
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK }));
  other.call('close', theirs);
});

test('a write lock keeps another process from any lock', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_RDLCK }));
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK }));
  other.call('close', theirs);
});

test('a lock of one process is no obstacle to itself, by any descriptor', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  t.lock(t.open('f', O_RDWR), F_SETLK, { type: F_WRLCK });
  other.call('close', theirs);
});

test('an unlocked file can be locked by another process', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  t.lock(mine, F_SETLK, { type: F_UNLCK });
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK });
  other.call('close', theirs);
});

test('locks of ranges that do not touch are no obstacle to each other', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK, start: 0, length: 10 });
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 10, length: 10 });
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 9, length: 1 }));
  other.call('close', theirs);
});

test('a lock of length 0 goes to the end of the file, however far', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK, start: 100, length: 0 });
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 2 ** 40, length: 1 }));
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 0, length: 100 });
  other.call('close', theirs);
});

test('a lock of negative length covers what is before its start', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK, start: 10, length: -5 });
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 5, length: 1 }));
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 10, length: 1 });
  other.call('close', theirs);
});

test('locks count from the position and from the end of the file', (t) => {
  const { mine, theirs, other } = both(t);
  t.lseek(mine, 4, SEEK_SET);
  t.lock(mine, F_SETLK, { type: F_WRLCK, whence: SEEK_CUR, start: 1, length: 1 });
  t.lock(mine, F_SETLK, { type: F_WRLCK, whence: SEEK_END, start: -1, length: 1 });
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 5, length: 1 }));
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 9, length: 1 }));
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 6, length: 3 });
  other.call('close', theirs);
});

test('unlocking the middle of a lock splits it', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK, start: 0, length: 30 });
  t.lock(mine, F_SETLK, { type: F_UNLCK, start: 10, length: 10 });
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 10, length: 10 });
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 9, length: 1 }));
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 20, length: 1 }));
  other.call('close', theirs);
});

test('a read lock in the middle of a write lock lets another process read there alone', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK, start: 0, length: 30 });
  t.lock(mine, F_SETLK, { type: F_RDLCK, start: 10, length: 10 });
  other.call('lock', theirs, F_SETLK, { type: F_RDLCK, start: 10, length: 10 });
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_RDLCK, start: 0, length: 1 }));
  other.call('close', theirs);
});

test('a read lock becomes a write lock where nobody else reads', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_RDLCK });
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_RDLCK }));
  other.call('close', theirs);
});

test('a read lock does not become a write lock while another process reads', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_RDLCK });
  other.call('lock', theirs, F_SETLK, { type: F_RDLCK });
  fails(BUSY, () => t.lock(mine, F_SETLK, { type: F_WRLCK }));
  other.call('close', theirs);
});

test('a write lock that becomes a read lock lets another process read', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  t.lock(mine, F_SETLK, { type: F_RDLCK });
  other.call('lock', theirs, F_SETLK, { type: F_RDLCK });
  other.call('close', theirs);
});

test('close of any descriptor of the file releases all locks of the process', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  t.close(t.open('f', O_RDONLY));
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK });
  other.call('close', theirs);
});

test('locks of a process that closes the file are gone', (t) => {
  const { mine, theirs, other } = both(t);
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK });
  fails(BUSY, () => t.lock(mine, F_SETLK, { type: F_WRLCK }));
  other.call('close', theirs);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
});

test('F_GETLK tells the type, the range and the process of a lock in the way', (t) => {
  const { mine, theirs, other } = both(t);
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK, start: 5, length: 7 });
  const { type, start, length, pid } = t.lock(mine, F_GETLK, { type: F_RDLCK });
  equal([type, start, length, pid], [F_WRLCK, 5, 7, process.pid], 'type, start, length, process');
  other.call('close', theirs);
});

test('F_GETLK says F_UNLCK where nothing is in the way', (t) => {
  const { mine, theirs, other } = both(t);
  other.call('lock', theirs, F_SETLK, { type: F_RDLCK });
  equal(t.lock(mine, F_GETLK, { type: F_RDLCK }).type, F_UNLCK, 'type for reading');
  equal(t.lock(mine, F_GETLK, { type: F_WRLCK }).type, F_RDLCK, 'type for writing');
  other.call('close', theirs);
});

test('a write lock takes a descriptor that is open for writing, a read lock one for reading: EBADF', (t) => {
  t.file('f');
  fails('EBADF', () => t.lock(t.open('f', O_RDONLY), F_SETLK, { type: F_WRLCK }));
  fails('EBADF', () => t.lock(t.open('f', O_WRONLY), F_SETLK, { type: F_RDLCK }));
});

test('a lock that would start before the file fails with EINVAL', (t) => {
  const { mine, theirs, other } = both(t);
  fails('EINVAL', () => t.lock(mine, F_SETLK, { type: F_WRLCK, start: -1, length: 1 }));
  fails('EINVAL', () => t.lock(mine, F_SETLK, { type: F_WRLCK, start: 3, length: -4 }));
  other.call('close', theirs);
});

test('F_SETLKW waits until the lock in the way is gone', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  other.start('lock', theirs, F_SETLKW, { type: F_WRLCK });
  t.lock(mine, F_SETLK, { type: F_UNLCK });
  other.finish();
  fails(BUSY, () => t.lock(mine, F_SETLK, { type: F_RDLCK }));
  other.call('close', theirs);
});

test('F_SETLKW waits until the process that holds the lock closes the file', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  other.start('lock', theirs, F_SETLKW, { type: F_WRLCK });
  t.close(mine);
  other.finish();
  other.call('close', theirs);
});

test('locks are of the inode: two names of a file are one', (t) => {
  const { mine, theirs, other } = both(t);
  t.link('f', 'g');
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  const byOtherName = other.call('open', 'g', O_RDWR);
  fails(BUSY, () => other.call('lock', byOtherName, F_SETLK, { type: F_WRLCK }));
  other.call('close', byOtherName);
  other.call('close', theirs);
});

test('locks stay on a file that is renamed and on one that is unlinked', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  t.rename('f', 'g');
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK }));
  t.unlink('g');
  fails(BUSY, () => other.call('lock', theirs, F_SETLK, { type: F_WRLCK }));
  other.call('close', theirs);
});

test('locks do not keep anybody from reading and writing', (t) => {
  const { mine, theirs, other } = both(t);
  t.lock(mine, F_SETLK, { type: F_WRLCK });
  equal(other.call('pwrite', theirs, 'X', 0), 1, 'bytes written');
  other.call('close', theirs);
});

test('OFD locks of two descriptors of one process exclude each other', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const two = t.open('f', O_RDWR);
  t.lock(one, F_OFD_SETLK, { type: F_WRLCK, start: 0, length: 10 });
  fails(BUSY, () => t.lock(two, F_OFD_SETLK, { type: F_WRLCK, start: 5, length: 10 }));
  t.lock(two, F_OFD_SETLK, { type: F_WRLCK, start: 10, length: 10 });
});

test('OFD locks are shared by duplicates, and last until the last is closed', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const copy = t.dup(one);
  const two = t.open('f', O_RDWR);
  t.lock(one, F_OFD_SETLK, { type: F_WRLCK });
  t.lock(copy, F_OFD_SETLK, { type: F_WRLCK });
  t.close(one);
  fails(BUSY, () => t.lock(two, F_OFD_SETLK, { type: F_WRLCK }));
  t.close(copy);
  t.lock(two, F_OFD_SETLK, { type: F_WRLCK });
});

test('OFD locks and POSIX locks exclude each other', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const two = t.open('f', O_RDWR);
  t.lock(one, F_OFD_SETLK, { type: F_WRLCK });
  fails(BUSY, () => t.lock(two, F_SETLK, { type: F_WRLCK }));
});

test('F_OFD_GETLK tells a lock in the way, with process -1 for one of a descriptor', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const two = t.open('f', O_RDWR);
  t.lock(one, F_OFD_SETLK, { type: F_WRLCK, start: 3, length: 4 });
  const { type, start, length, pid } = t.lock(two, F_OFD_GETLK, { type: F_WRLCK });
  equal([type, start, length, pid], [F_WRLCK, 3, 4, -1], 'type, start, length, process');
});

test('OFD locks survive the closing of another descriptor of the file', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const two = t.open('f', O_RDWR);
  t.lock(one, F_OFD_SETLK, { type: F_WRLCK });
  t.close(t.open('f', O_RDONLY));
  fails(BUSY, () => t.lock(two, F_OFD_SETLK, { type: F_RDLCK }));
});

test('flock with LOCK_EX keeps another descriptor from any lock', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const two = t.open('f', O_RDWR);
  t.flock(one, LOCK_EX);
  fails('EAGAIN', () => t.flock(two, LOCK_EX | LOCK_NB));
  fails('EAGAIN', () => t.flock(two, LOCK_SH | LOCK_NB));
});

test('flock with LOCK_SH is shared, and keeps others from LOCK_EX', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const two = t.open('f', O_RDONLY);
  t.flock(one, LOCK_SH);
  t.flock(two, LOCK_SH | LOCK_NB);
  fails('EAGAIN', () => t.flock(two, LOCK_EX | LOCK_NB));
});

test('flock with LOCK_UN, and the close of the descriptor, let others lock', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const two = t.open('f', O_RDWR);
  t.flock(one, LOCK_EX);
  t.flock(one, LOCK_UN);
  t.flock(two, LOCK_EX | LOCK_NB);
  t.close(two);
  t.flock(one, LOCK_EX | LOCK_NB);
});

test('flock goes from shared to exclusive and back', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const two = t.open('f', O_RDWR);
  t.flock(one, LOCK_SH);
  t.flock(one, LOCK_EX | LOCK_NB);
  fails('EAGAIN', () => t.flock(two, LOCK_SH | LOCK_NB));
  t.flock(one, LOCK_SH | LOCK_NB);
  t.flock(two, LOCK_SH | LOCK_NB);
});

test('a duplicate of a descriptor holds its flock, and can release it', (t) => {
  const one = t.open('f', O_CREAT | O_RDWR, 0o644);
  const copy = t.dup(one);
  const two = t.open('f', O_RDWR);
  t.flock(one, LOCK_EX);
  t.close(one);
  fails('EAGAIN', () => t.flock(two, LOCK_EX | LOCK_NB));
  t.flock(copy, LOCK_UN);
  t.flock(two, LOCK_EX | LOCK_NB);
});

test('flock excludes another process, and waits for it', (t) => {
  const { mine, theirs, other } = both(t);
  t.flock(mine, LOCK_EX);
  fails('EAGAIN', () => other.call('flock', theirs, LOCK_EX | LOCK_NB));
  other.start('flock', theirs, LOCK_EX);
  t.flock(mine, LOCK_UN);
  other.finish();
  fails('EAGAIN', () => t.flock(mine, LOCK_SH | LOCK_NB));
  other.call('close', theirs);
});

test('flock works on a descriptor that is open for reading only, and on a directory', (t) => {
  t.file('f');
  t.mkdir('d');
  t.flock(t.open('f', O_RDONLY), LOCK_EX | LOCK_NB);
  t.flock(t.open('d', O_RDONLY), LOCK_EX | LOCK_NB);
  fails('EAGAIN', () => t.flock(t.open('d', O_RDONLY), LOCK_EX | LOCK_NB));
});

test('flock and POSIX locks of a local file do not see each other', (t) => {
  const { mine, theirs, other } = both(t);
  t.flock(mine, LOCK_EX);
  other.call('lock', theirs, F_SETLK, { type: F_WRLCK });
  other.call('close', theirs);
});
