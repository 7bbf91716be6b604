import {
  MAP_PRIVATE,
  MAP_SHARED,
  O_CREAT,
  O_DIRECTORY,
  O_RDONLY,
  O_RDWR,
  O_WRONLY,
  PROT_READ,
  PROT_WRITE,
} from '../../src/sys/index.ts';
import { Topic } from '../behaviour.ts';
import { MS_ASYNC, MS_SYNC, PAGE } from '../constants.ts';
import type { Face } from '../face.ts';
import { equal, fails, NotApplicable } from '../verdicts.ts';

export const mapping = new Topic('mmap', 'kernel', 'mmap');
const { test } = mapping;

/** linux/magic.h */
const TMPFS_MAGIC = 0x01021994;
const READ_WRITE = PROT_READ | PROT_WRITE;

function made(t: Face, bytes: number): number {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.write(fd, Buffer.alloc(bytes, 'mapped text '));
  return fd;
}

const at = (bytes: Uint8Array, from: number, length: number): string =>
  Buffer.from(bytes.slice(from, from + length)).toString('latin1');

const put = (bytes: Uint8Array, to: number, text: string): void => bytes.set(Buffer.from(text), to);

test('a private mapping shows the contents of the file', (t) => {
  const { bytes } = t.mmap(made(t, PAGE), PAGE, PROT_READ, MAP_PRIVATE);
  equal(at(bytes, 0, 12), 'mapped text ', 'bytes');
});

test('a shared mapping shows the contents of the file', (t) => {
  const { bytes } = t.mmap(made(t, PAGE), PAGE, PROT_READ, MAP_SHARED);
  equal(at(bytes, 0, 12), 'mapped text ', 'bytes');
});

test('the rest of the last page of a mapping is zero', (t) => {
  const { bytes } = t.mmap(made(t, 100), PAGE, PROT_READ, MAP_SHARED);
  equal(bytes.slice(100, PAGE), new Uint8Array(PAGE - 100), 'bytes');
});

test('a mapping at an offset shows the file from there', (t) => {
  const fd = made(t, PAGE);
  t.pwrite(fd, 'second page', PAGE);
  equal(at(t.mmap(fd, PAGE, PROT_READ, MAP_SHARED, PAGE).bytes, 0, 11), 'second page', 'bytes');
});

test('a mapping at an offset that is no multiple of a page fails with EINVAL', (t) => {
  fails('EINVAL', () => t.mmap(made(t, PAGE), PAGE, PROT_READ, MAP_SHARED, 100));
});

test('what is written to a shared mapping is read from the file', (t) => {
  const fd = made(t, PAGE);
  put(t.mmap(fd, PAGE, READ_WRITE, MAP_SHARED).bytes, 10, 'CHANGED');
  equal(at(t.pread(fd, 7, 10), 0, 7), 'CHANGED', 'bytes by pread');
  equal(t.contents('f').slice(10, 17), 'CHANGED', 'bytes by another descriptor');
});

test('what is written to the file is seen in a shared mapping', (t) => {
  const fd = made(t, PAGE);
  const { bytes } = t.mmap(fd, PAGE, PROT_READ, MAP_SHARED);
  equal(at(bytes, 0, 6), 'mapped', 'bytes before');
  t.pwrite(fd, 'NEWEST', 0);
  equal(at(bytes, 0, 6), 'NEWEST', 'bytes after');
});

test('what another descriptor writes is seen in a shared mapping', (t) => {
  const { bytes } = t.mmap(made(t, PAGE), PAGE, PROT_READ, MAP_SHARED);
  equal(at(bytes, 0, 6), 'mapped', 'bytes before');
  t.pwrite(t.open('f', O_WRONLY), 'NEWEST', 0);
  equal(at(bytes, 0, 6), 'NEWEST', 'bytes after');
});

test('two shared mappings of one file are one memory', (t) => {
  const fd = made(t, PAGE);
  const one = t.mmap(fd, PAGE, READ_WRITE, MAP_SHARED);
  const two = t.mmap(t.open('f', O_RDONLY), PAGE, PROT_READ, MAP_SHARED);
  put(one.bytes, 0, 'SHARED');
  equal(at(two.bytes, 0, 6), 'SHARED', 'bytes');
});

test('what is written to a private mapping stays there', (t) => {
  const fd = made(t, PAGE);
  const { bytes } = t.mmap(fd, PAGE, READ_WRITE, MAP_PRIVATE);
  put(bytes, 0, 'PRIVATE');
  equal(at(bytes, 0, 7), 'PRIVATE', 'bytes in the mapping');
  equal(t.contents('f').slice(0, 7), 'mapped ', 'bytes in the file');
});

test('a shared mapping for writing of a file that is open for reading only fails with EACCES', (t) => {
  made(t, PAGE);
  fails('EACCES', () => t.mmap(t.open('f', O_RDONLY), PAGE, READ_WRITE, MAP_SHARED));
});

test('a private mapping for writing of a file that is open for reading only succeeds', (t) => {
  made(t, PAGE);
  put(t.mmap(t.open('f', O_RDONLY), PAGE, READ_WRITE, MAP_PRIVATE).bytes, 0, 'x');
});

test('a mapping of a file that is open for writing only fails with EACCES', (t) => {
  made(t, PAGE);
  fails('EACCES', () => t.mmap(t.open('f', O_WRONLY), PAGE, PROT_WRITE, MAP_SHARED));
});

test('a mapping of a directory fails with ENODEV', (t) => {
  t.mkdir('d');
  fails(['ENODEV', 'EACCES'], () => t.mmap(t.open('d', O_RDONLY | O_DIRECTORY), PAGE, PROT_READ, MAP_SHARED));
});

test('a mapping of no bytes fails with EINVAL', (t) => {
  fails('EINVAL', () => t.mmap(made(t, PAGE), 0, PROT_READ, MAP_SHARED));
});

test('a mapping lasts when its descriptor is closed', (t) => {
  const fd = made(t, PAGE);
  const { bytes } = t.mmap(fd, PAGE, READ_WRITE, MAP_SHARED);
  t.close(fd);
  put(bytes, 0, 'LATER');
  equal(t.contents('f').slice(0, 5), 'LATER', 'contents');
});

test('a mapping lasts when its file is unlinked', (t) => {
  const fd = made(t, PAGE);
  const { bytes } = t.mmap(fd, PAGE, READ_WRITE, MAP_SHARED);
  t.unlink('f');
  put(bytes, 0, 'LATER');
  equal(at(t.pread(fd, 5, 0), 0, 5), 'LATER', 'contents');
});

test('what is written to a mapping is in the file after the mapping is gone', (t) => {
  const map = t.mmap(made(t, 3 * PAGE), 3 * PAGE, READ_WRITE, MAP_SHARED);
  for (const page of [0, 1, 2]) put(map.bytes, page * PAGE + 7, `page ${page}`);
  map.unmap();
  t.closeAll();
  const contents = t.contents('f');
  for (const page of [0, 1, 2]) equal(contents.slice(page * PAGE + 7, page * PAGE + 13), `page ${page}`, 'contents');
});

test('msync with MS_SYNC and MS_ASYNC succeeds', (t) => {
  const map = t.mmap(made(t, PAGE), PAGE, READ_WRITE, MAP_SHARED);
  put(map.bytes, 0, 'x');
  map.sync(MS_ASYNC);
  map.sync(MS_SYNC);
});

test('bytes that are written behind the end of the file, in its last page, do not get into the file', (t) => {
  if (t.statfs('.').type === TMPFS_MAGIC) throw new NotApplicable('a file system in memory writes no page back');
  const fd = made(t, 100);
  const map = t.mmap(fd, PAGE, READ_WRITE, MAP_SHARED);
  put(map.bytes, 200, 'beyond');
  map.sync(MS_SYNC);
  equal(t.stat('f').size, 100, 'size');
  map.unmap();
  t.ftruncate(fd, PAGE);
  equal(t.pread(fd, 6, 200), new Uint8Array(6), 'bytes once the file grew');
});

test('a mapping shows what the file grows by, in a page that it had', (t) => {
  const fd = made(t, 100);
  const { bytes } = t.mmap(fd, PAGE, PROT_READ, MAP_SHARED);
  equal(bytes[150], 0, 'byte before');
  t.pwrite(fd, 'grown', 150);
  equal(at(bytes, 150, 5), 'grown', 'bytes after');
});

test('a mapping beyond the end of the file shows what the file grows into', (t) => {
  const fd = made(t, PAGE);
  const { bytes } = t.mmap(fd, 2 * PAGE, PROT_READ, MAP_SHARED);
  t.pwrite(fd, Buffer.alloc(PAGE, 'n'), PAGE);
  equal(at(bytes, PAGE, 3), 'nnn', 'bytes');
});

test('a mapping shows zeros where truncate cut, once the file is grown again', (t) => {
  const fd = made(t, PAGE);
  const { bytes } = t.mmap(fd, PAGE, PROT_READ, MAP_SHARED);
  equal(at(bytes, 12, 6), 'mapped', 'bytes before');
  t.ftruncate(fd, 10);
  t.ftruncate(fd, PAGE);
  equal(bytes.slice(10, PAGE), new Uint8Array(PAGE - 10), 'bytes after');
});

test('a hole is written through a shared mapping', (t) => {
  const fd = t.open('f', O_CREAT | O_RDWR, 0o644);
  t.ftruncate(fd, 4 * PAGE);
  put(t.mmap(fd, 4 * PAGE, READ_WRITE, MAP_SHARED).bytes, 2 * PAGE, 'in the hole');
  equal(at(t.pread(fd, 11, 2 * PAGE), 0, 11), 'in the hole', 'bytes');
});

test('a file can be copied from one mapping to another', (t) => {
  const size = 64 * PAGE;
  const from = t.mmap(made(t, size), size, PROT_READ, MAP_SHARED);
  const fd = t.open('g', O_CREAT | O_RDWR, 0o644);
  t.ftruncate(fd, size);
  t.mmap(fd, size, READ_WRITE, MAP_SHARED).bytes.set(from.bytes);
  equal(t.pread(fd, size, 0), t.pread(t.open('f', O_RDONLY), size, 0), 'contents');
});
