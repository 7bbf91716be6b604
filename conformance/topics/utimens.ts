import { O_CREAT, O_RDONLY, O_RDWR } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { S_IFIFO, SEEK_SET } from '../constants.ts';
import type { Face, Stat, Time } from '../face.ts';
import { equal, fails, ok } from '../verdicts.ts';

/** Times that are set, and the time of birth. */
export const settingTimes = new Topic('setting times');
const { test } = settingTimes;

/** In 2001: long ago for relatime, with nanoseconds. */
const OLD = 1_000_000_000_123_456_789n;
const NEXT = 1_100_000_000_987_654_321n;

test('utimensat sets atime and mtime to the nanosecond, and moves ctime to now', (t) => {
  t.file('f');
  t.utimens('f', OLD, NEXT);
  const { atime, mtime, ctime } = t.stat('f');
  equal([atime, mtime], [OLD, NEXT], 'atime and mtime');
  ok(ctime > NEXT, 'ctime is of long ago');
});

test('utimensat with UTIME_OMIT leaves that time as it is', (t) => {
  t.file('f');
  t.utimens('f', OLD, OLD);
  t.utimens('f', 'omit', NEXT);
  equal([t.stat('f').atime, t.stat('f').mtime], [OLD, NEXT], 'with atime omitted');
  t.utimens('f', NEXT, 'omit');
  equal([t.stat('f').atime, t.stat('f').mtime], [NEXT, NEXT], 'with mtime omitted');
});

/** The times of a file of long ago after they were set. */
function setOld(t: Face, atime: Time, mtime: Time): Stat {
  t.file('f');
  t.utimens('f', OLD, OLD);
  t.utimens('f', atime, mtime);
  return t.stat('f');
}

test('utimensat with UTIME_NOW for one sets that one to now', (t) => {
  const { atime, mtime } = setOld(t, 'now', 'omit');
  ok(atime > NEXT, 'atime is of long ago');
  equal(mtime, OLD, 'mtime');
});

test('utimensat with UTIME_NOW for both sets both to the same', (t) => {
  const { atime, mtime } = setOld(t, 'now', 'now');
  ok(mtime > NEXT, 'mtime is of long ago');
  equal(atime, mtime, 'atime');
});

test('utimensat with UTIME_OMIT for both moves nothing', (t) => {
  t.file('f');
  const before = t.stat('f');
  t.tick();
  t.utimens('f', 'omit', 'omit');
  const { atime, mtime, ctime } = t.stat('f');
  equal([atime, mtime, ctime], [before.atime, before.mtime, before.ctime], 'atime, mtime, ctime');
});

test('utimensat through a symlink sets the times of its target', (t) => {
  t.file('f');
  t.symlink('f', 'l');
  t.utimens('l', OLD, NEXT);
  equal(t.stat('f').mtime, NEXT, 'mtime of the target');
  ok(t.lstat('l').mtime !== NEXT, 'mtime of the symlink was set');
});

test('utimensat with AT_SYMLINK_NOFOLLOW sets the times of the symlink', (t) => {
  t.file('f');
  t.symlink('f', 'l');
  t.utimens('l', OLD, NEXT, true);
  equal(t.lstat('l').mtime, NEXT, 'mtime of the symlink');
  ok(t.stat('f').mtime !== NEXT, 'mtime of the target was set');
});

test('utimensat sets the times of a directory', (t) => {
  t.mkdir('d');
  t.utimens('d', OLD, NEXT);
  equal([t.stat('d').atime, t.stat('d').mtime], [OLD, NEXT], 'atime and mtime');
});

test('utimensat sets the times of a FIFO', (t) => {
  t.mknod('p', S_IFIFO | 0o644);
  t.utimens('p', OLD, NEXT);
  equal([t.stat('p').atime, t.stat('p').mtime], [OLD, NEXT], 'atime and mtime');
});

test('futimens sets the times by a descriptor that is open for reading', (t) => {
  t.file('f');
  t.futimens(t.open('f', O_RDONLY), OLD, NEXT);
  equal([t.stat('f').atime, t.stat('f').mtime], [OLD, NEXT], 'atime and mtime');
});

test('futimens sets the times of an unlinked file', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.unlink('f');
  t.futimens(fd, OLD, NEXT);
  equal([t.fstat(fd).atime, t.fstat(fd).mtime], [OLD, NEXT], 'atime and mtime');
});

test('utimensat of a name that does not exist fails with ENOENT', (t) => {
  fails('ENOENT', () => t.utimens('none', OLD, OLD));
});

test('a time before 1970 is kept', (t) => {
  t.file('f');
  const before1970 = -1_000_000_000_000_000_000n + 5n;
  t.utimens('f', before1970, before1970);
  equal([t.stat('f').atime, t.stat('f').mtime], [before1970, before1970], 'atime and mtime');
});

test('a time after 2038 is kept', (t) => {
  t.file('f');
  const after2038 = 3_000_000_000_000_000_001n;
  t.utimens('f', after2038, after2038);
  equal([t.stat('f').atime, t.stat('f').mtime], [after2038, after2038], 'atime and mtime');
});

test(
  'utimensat by the owner sets times of their file',
  (t) => {
    t.as({ uid: 5001, gid: 5001 }, () => t.file('f'));
    t.as({ uid: 5001, gid: 5001 }, () => t.utimens('f', OLD, NEXT));
    equal(t.stat('f').mtime, NEXT, 'mtime');
  },
  'users',
);

test(
  'the time of birth is that of the making, and stays when a file is written, renamed and given times',
  (t) => {
    t.file('f');
    const { btime, ctime } = t.stat('f');
    ok(btime !== undefined && btime <= ctime, `born at ${btime}, changed at ${ctime}`);
    t.tick();
    t.truncate('f', 1);
    t.utimens('f', OLD, OLD);
    t.rename('f', 'g');
    equal(t.stat('g').btime, btime, 'time of birth');
  },
  'btime',
);

test(
  'a new file of the name of a removed one is born later',
  (t) => {
    t.file('f');
    const { btime = 0n } = t.stat('f');
    t.unlink('f');
    t.tick();
    t.file('f');
    ok((t.stat('f').btime ?? 0n) > btime, 'it was born no later');
  },
  'btime',
);

test('fstat and stat give the same times after a write', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.write(fd, 'abc');
  t.lseek(fd, 0, SEEK_SET);
  const [open, named] = [t.fstat(fd), t.stat('f')];
  equal([open.mtime, open.ctime], [named.mtime, named.ctime], 'mtime and ctime');
});
