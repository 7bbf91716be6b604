import { O_CREAT, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_WRONLY } from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import {
  FIONREAD,
  FS_IOC_GETFLAGS,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  SEEK_SET,
  TCGETS,
} from '../constants.ts';
import type { Face } from '../face.ts';
import { equal, fails, modeIs, supported } from '../verdicts.ts';

/** FIFOs, sockets, device nodes, ioctl. */
export const special = new Topic('special files');
const { test } = special;

function openFifo(t: Face, access: number): number {
  t.mknod('p', S_IFIFO | 0o600);
  return t.open('p', access | O_NONBLOCK);
}

for (const [what, type] of [
  ['a FIFO', S_IFIFO],
  ['a socket', S_IFSOCK],
  ['a regular file', S_IFREG],
] as const) {
  test(`mknod makes ${what} with the mode that it is given`, (t) => {
    t.mknod('x', type | 0o640);
    const { mode, nlink, size } = t.lstat('x');
    equal([mode & S_IFMT, nlink, size], [type, 1, 0], 'type, links, size');
    modeIs(mode, 0o640);
  });

  test(`mknod of ${what} over a name that exists fails with EEXIST`, (t) => {
    t.file('x');
    fails('EEXIST', () => t.mknod('x', type | 0o640));
  });
}

for (const [what, type, major, minor] of [
  ['a character device', S_IFCHR, 1, 3],
  ['a block device', S_IFBLK, 7, 200],
  ['a character device with large numbers', S_IFCHR, 511, 262_143],
] as const) {
  test(
    `mknod makes ${what} with its numbers`,
    (t) => {
      t.mknod('x', type | 0o600, major, minor);
      const { mode, rdev } = t.lstat('x');
      equal([mode & S_IFMT, ...rdev], [type, major, minor], 'type and numbers');
    },
    'devices',
  );
}

test(
  'mknod of a directory fails with EPERM or EINVAL',
  (t) => {
    fails(['EPERM', 'EINVAL'], () => t.mknod('x', S_IFDIR | 0o755));
  },
  'kernel',
);

test(
  'a device node is opened as the device',
  (t) => {
    t.mknod('null', S_IFCHR | 0o666, 1, 3);
    const fd = supported('devices', () => t.open('null', O_RDWR), 'EACCES');
    equal([t.write(fd, 'abc'), t.read(fd, 10).length], [3, 0], 'bytes written and read');
  },
  'kernel',
  'devices',
);

test(
  'open of a device that does not exist fails with ENXIO or ENODEV',
  (t) => {
    t.mknod('x', S_IFCHR | 0o600, 511, 4095);
    fails(['ENXIO', 'ENODEV', 'EACCES'], () => t.open('x', O_RDWR));
  },
  'kernel',
  'devices',
);

test(
  'open of a FIFO for writing with O_NONBLOCK and no reader fails with ENXIO',
  (t) => {
    t.mknod('p', S_IFIFO | 0o600);
    fails('ENXIO', () => t.open('p', O_WRONLY | O_NONBLOCK));
  },
  'kernel',
);

test(
  'open of a FIFO for reading with O_NONBLOCK succeeds, and reads nothing',
  (t) => {
    equal(t.read(openFifo(t, O_RDONLY), 10).length, 0, 'bytes');
  },
  'kernel',
);

test(
  'what is written to a FIFO is read from it, by another name too',
  (t) => {
    t.mknod('p', S_IFIFO | 0o600);
    t.link('p', 'q');
    const reader = t.open('p', O_RDONLY | O_NONBLOCK);
    const writer = t.open('q', O_WRONLY | O_NONBLOCK);
    t.write(writer, 'abc');
    equal(t.read(reader, 10), Buffer.from('abc'), 'bytes');
  },
  'kernel',
);

test(
  'a FIFO cannot be sought: ESPIPE',
  (t) => {
    const fd = openFifo(t, O_RDONLY);
    fails('ESPIPE', () => t.lseek(fd, 0, SEEK_SET));
    fails('ESPIPE', () => t.pread(fd, 1, 0));
  },
  'kernel',
);

test(
  'a FIFO that is open lives on when it is unlinked',
  (t) => {
    const fd = openFifo(t, O_RDWR);
    t.unlink('p');
    t.write(fd, 'abc');
    equal([t.read(fd, 10), t.fstat(fd).nlink], [Buffer.from('abc'), 0], 'bytes and links');
  },
  'kernel',
);

test(
  'the size of a FIFO with bytes in it is 0 to stat',
  (t) => {
    const fd = openFifo(t, O_RDWR);
    t.write(fd, 'abc');
    equal([t.stat('p').size, t.ioctl(fd, FIONREAD) & 0xffff], [0, 3], 'size, and bytes to read');
  },
  'kernel',
);

test(
  'open of a FIFO asks for its rights',
  (t) => {
    t.mknod('p', S_IFIFO | 0o600);
    fails('EACCES', () => t.as({ uid: 5001, gid: 5001 }, () => t.open('p', O_RDONLY | O_NONBLOCK)));
  },
  'users',
);

test(
  'open of a socket fails with ENXIO',
  (t) => {
    t.mknod('s', S_IFSOCK | 0o600);
    fails('ENXIO', () => t.open('s', O_RDWR));
  },
  'kernel',
);

test(
  'bind makes a socket, and fails with EADDRINUSE where there is a name',
  (t) => {
    if (t.base.length > 90) supported('a path that a socket address has room for', () => t.lstat('none'), 'ENOENT');
    t.bindSocket('s');
    equal(t.lstat('s').mode & S_IFMT, S_IFSOCK, 'type');
    fails('EADDRINUSE', () => t.bindSocket('s'));
  },
  'kernel',
);

test(
  'O_PATH opens a FIFO and a socket',
  (t) => {
    t.mknod('p', S_IFIFO | 0o600);
    t.mknod('s', S_IFSOCK | 0o600);
    equal(t.fstat(t.open('p', O_PATH)).mode & S_IFMT, S_IFIFO, 'type of the FIFO');
    equal(t.fstat(t.open('s', O_PATH)).mode & S_IFMT, S_IFSOCK, 'type of the socket');
  },
  'kernel',
);

test(
  'chmod and chown of a FIFO, a socket and a device change these',
  (t) => {
    t.mknod('p', S_IFIFO | 0o600);
    t.mknod('s', S_IFSOCK | 0o600);
    t.mknod('c', S_IFCHR | 0o600, 1, 3);
    for (const name of ['p', 's', 'c']) {
      t.chmod(name, 0o640);
      t.chown(name, 5001, 5002);
      const { mode, uid, gid } = t.lstat(name);
      modeIs(mode, 0o640);
      equal([uid, gid], [5001, 5002], 'owner and group');
    }
  },
  'devices',
);

test('mknod of a regular file makes one that can be written', (t) => {
  t.mknod('f', S_IFREG | 0o644);
  t.file('f', 'abc');
  equal(t.contents('f'), 'abc', 'contents');
});

test(
  'ioctl with a request that no file knows fails with ENOTTY',
  (t) => {
    const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
    fails('ENOTTY', () => t.ioctl(fd, TCGETS));
  },
  'kernel',
);

test(
  'FS_IOC_GETFLAGS gives the flags of a new file: neither immutable nor append-only',
  (t) => {
    const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
    const flags = supported('FS_IOC_GETFLAGS', () => t.ioctl(fd, FS_IOC_GETFLAGS));
    equal(flags & 0x30, 0, 'immutable and append-only');
  },
  'kernel',
);

test(
  'a file that is executed by nobody cannot be executed by root: access says EACCES',
  (t) => {
    t.file('f', '#!/bin/sh\n', 0o644);
    fails('EACCES', () => t.access('f', 1));
  },
  'users',
);
