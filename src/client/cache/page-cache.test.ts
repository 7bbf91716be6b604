import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Backing, type CachedFile, PageCache, type PageCacheOptions } from './page-cache.ts';
import { start } from '../task.ts';
import { HostFile, joined, pattern } from './testing-backing.ts';

const PAGE = 4096;
const MIB = 2 ** 20;
const GENEROUS: PageCacheOptions = {
  limitBytes: 64 * MIB,
  maxReadaheadBytes: 128 * 1024,
  maxWriteBytes: MIB,
  maxReadBytes: MIB,
  writeback: false,
};

interface Opened {
  cache: PageCache;
  host: HostFile;
  file: CachedFile;
  backing: Backing;
}

function opened(content: Uint8Array, options: Partial<PageCacheOptions> = {}): Opened {
  const cache = new PageCache({ ...GENEROUS, ...options });
  const host = new HostFile(content);
  return { cache, host, file: cache.file(content.length), backing: host.open() };
}

function read({ host, file, backing }: Opened, position: number, length: number): Uint8Array {
  const into = new Uint8Array(length).fill(0xee);
  return into.subarray(0, host.run(file.read(backing, into, position)));
}

function write({ host, file, backing }: Opened, from: Uint8Array, position?: number): number {
  return host.run(file.write(backing, from, position));
}

test('a page is read once, whole, and nothing is read behind the end', () => {
  const content = pattern(3 * PAGE + 100);
  const share = opened(content, { maxReadaheadBytes: 0 });
  assert.deepEqual(read(share, PAGE + 10, 20), content.subarray(PAGE + 10, PAGE + 30));
  assert.deepEqual(read(share, PAGE + 4000, 96), content.subarray(PAGE + 4000, 2 * PAGE));
  assert.deepEqual(share.host.pieces('read'), [[PAGE, PAGE]]);
  assert.deepEqual(read(share, 3 * PAGE + 50, 1000), content.subarray(3 * PAGE + 50));
  assert.equal(read(share, content.length, 10).length, 0);
  assert.equal(share.host.count('read'), 2);
  assert.equal(share.cache.bytes, 2 * PAGE);
});

test('a mebibyte in pieces of 4 KiB makes few READs, each twice as large until the window is full', () => {
  const content = pattern(MIB);
  const share = opened(content);
  for (let at = 0; at < MIB; at += PAGE) {
    assert.deepEqual(read(share, at, PAGE), content.subarray(at, at + PAGE));
  }
  share.host.answerAll();
  const pages = share.host.pieces('read').map(([, length]) => length / PAGE);
  assert.deepEqual(pages.slice(0, 4), [4, 8, 16, 32]);
  assert.equal(Math.max(...pages), 32);
  assert.equal(pages.length, 11);
  assert.equal(share.cache.bytes, MIB);
});

test('the next window is asked for before it is needed', () => {
  const share = opened(pattern(MIB));
  read(share, 0, PAGE);
  assert.deepEqual(share.host.pieces('read'), [[0, 4 * PAGE]]);
  read(share, PAGE, 1);
  assert.deepEqual(share.host.pieces('read').slice(1), [[4 * PAGE, 8 * PAGE]]);
  assert.equal(share.host.waiting.length, 1);
  // It is not waited for as long as there are pages.
  read(share, 2 * PAGE, 2 * PAGE);
  assert.equal(share.host.waiting.length, 1);
});

test('somebody who jumps about gets what he asks for and no more', () => {
  const share = opened(pattern(MIB));
  for (const page of [100, 7, 200, 50]) read(share, page * PAGE + 5, 2 * PAGE - 10);
  assert.deepEqual(
    share.host.pieces('read'),
    [100, 7, 200, 50].map((page) => [page * PAGE, 2 * PAGE]),
  );
});

test('two who read one file in order at different places are both read ahead', () => {
  const share = opened(pattern(MIB));
  const other = { ...share, backing: share.host.open() };
  read(share, 0, PAGE);
  read(other, 128 * PAGE, PAGE);
  for (let page = 1; page < 64; page += 1) {
    read(share, page * PAGE, PAGE);
    read(other, (128 + page) * PAGE, PAGE);
  }
  assert(share.host.count('read') < 14, `${share.host.count('read')} READs`);
});

test('a large read is split into READs of the largest size, side by side', () => {
  const content = pattern(MIB);
  const share = opened(content, { maxReadBytes: 64 * 1024, maxReadaheadBytes: MIB });
  const into = new Uint8Array(MIB);
  const running = start(share.file.read(share.backing, into, 0));
  assert.equal(share.host.waiting.length, 16);
  while (share.host.waiting.length > 0) share.host.answer(share.host.waiting.length - 1);
  assert.equal(running.result, MIB);
  assert.deepEqual(into, content);
});

test('two who want the same page wait for one READ', () => {
  const content = pattern(10 * PAGE);
  const { host, file, backing } = opened(content);
  const [one, two] = [new Uint8Array(PAGE), new Uint8Array(10)];
  const first = start(file.read(backing, one, 0));
  const second = start(file.read(host.open(), two, 2 * PAGE));
  assert.equal(host.waiting.length, 1);
  host.answer();
  assert.deepEqual([first.result, second.result], [PAGE, 10]);
  assert.deepEqual([one, two], [content.subarray(0, PAGE), content.subarray(2 * PAGE, 2 * PAGE + 10)]);
});

test('the error of a READ comes to who asked, and who waited with him tries for himself', () => {
  const content = pattern(PAGE);
  const { host, file, backing } = opened(content);
  host.failures = [new Error('no luck')];
  const first = start(file.read(backing, new Uint8Array(10), 0));
  const second = start(file.read(backing, new Uint8Array(10), 0));
  host.answer();
  assert.throws(() => first.result, /no luck/);
  host.answer();
  assert.equal(second.result, 10);
  assert.equal(host.count('read'), 2);
});

test('what was read before a READ failed is returned, and the error comes with the next read', () => {
  const share = opened(pattern(4 * PAGE), { maxReadaheadBytes: 0 });
  read(share, 0, PAGE);
  share.host.failures = [new Error('no luck'), new Error('no luck again')];
  assert.equal(read(share, 0, 2 * PAGE).length, PAGE);
  assert.throws(() => read(share, PAGE, PAGE), /no luck again/);
  assert.equal(read(share, PAGE, PAGE).length, PAGE);
});

test('a failed READ ahead troubles nobody', () => {
  const content = pattern(MIB);
  const share = opened(content);
  read(share, 0, PAGE);
  share.host.failures = [new Error('no luck')];
  read(share, PAGE, 1);
  share.host.answerAll();
  assert.deepEqual(read(share, 4 * PAGE, PAGE), content.subarray(4 * PAGE, 5 * PAGE));
});

test('a short READ is the end of the file, but with write-back it is a hole', () => {
  const content = pattern(5000);
  const through = opened(content);
  through.file.truncate(3 * PAGE);
  assert.deepEqual(read(through, 0, 3 * PAGE), content);
  assert.equal(through.file.sizeBytes, 5000);
  assert.equal(through.cache.bytes, 2 * PAGE);
  const back = opened(content, { writeback: true });
  back.file.truncate(3 * PAGE);
  assert.deepEqual(
    read(back, 4990, 100),
    Uint8Array.from({ length: 100 }, (_, i) => content[4990 + i] ?? 0),
  );
  assert.equal(back.file.sizeBytes, 3 * PAGE);
});

test('a short READ says nothing about a file that grew while it was under way', () => {
  const { host, file, backing } = opened(pattern(100));
  file.truncate(200);
  const into = new Uint8Array(200);
  const running = start(file.read(backing, into, 0));
  host.serve();
  const writing = start(file.write(backing, pattern(50), 200));
  host.answer(1);
  assert.equal(writing.result, 200);
  host.answerAll();
  assert.equal(file.sizeBytes, 250);
  assert.equal(running.result, 200);
});

test('a short READ says nothing while somebody writes, either', () => {
  const { host, file, backing } = opened(pattern(100));
  file.truncate(200);
  const running = start(file.read(backing, new Uint8Array(200), 0));
  const writing = start(file.write(backing, pattern(50), 150));
  host.answer(0);
  assert.deepEqual([running.result, file.sizeBytes, writing.settled], [200, 200, false]);
});

test('what is behind the end that the guest knows of is not seen when the file grows', () => {
  const share = opened(pattern(200), { writeback: true });
  share.file.truncate(100);
  read(share, 0, 100);
  write(share, pattern(1), 300);
  assert.deepEqual(read(share, 90, 300), joined(pattern(200).subarray(90, 100), new Uint8Array(200), pattern(1)));
});

test('a READ that is under way brings nothing back that was cut off meanwhile', () => {
  const { host, file, backing } = opened(pattern(2 * PAGE), { writeback: true });
  const into = new Uint8Array(PAGE);
  const reading = start(file.read(backing, into, 0));
  host.serve();
  host.resize(100);
  file.truncate(100);
  host.run(
    file.resize(
      3 * PAGE,
      host.ask('write', 0, 0, () => host.resize(3 * PAGE)),
    ),
  );
  host.answerAll();
  assert.equal(reading.result, PAGE);
  assert.deepEqual(into, host.content.subarray(0, PAGE));
});

test('what changed on the host is seen after an invalidation, even where a READ was under way', () => {
  const share = opened(pattern(4 * PAGE));
  read(share, 0, 4 * PAGE);
  const changed = pattern(4 * PAGE, 1);
  share.host.content = changed.slice();
  share.file.invalidate(PAGE + 5, PAGE + 6);
  assert.deepEqual(read(share, 2 * PAGE, PAGE), pattern(4 * PAGE).subarray(2 * PAGE, 3 * PAGE));
  assert.deepEqual(read(share, PAGE, PAGE), changed.subarray(PAGE, 2 * PAGE));
  share.file.invalidate();
  const into = new Uint8Array(PAGE);
  const running = start(share.file.read(share.backing, into, 0));
  share.host.serve();
  share.host.content = pattern(4 * PAGE, 2);
  share.file.invalidate();
  share.host.answerAll();
  assert.equal(running.result, PAGE);
  assert.deepEqual(into, share.host.content.subarray(0, PAGE));
});

test('written through, pages that are there and whole pages have what was written', () => {
  const content = pattern(4 * PAGE);
  const share = opened(content, { maxReadaheadBytes: 0 });
  read(share, 0, PAGE);
  const piece = pattern(2 * PAGE, 5);
  assert.equal(write(share, piece, PAGE - 100), PAGE - 100);
  assert.deepEqual(share.host.content.subarray(PAGE - 100, 3 * PAGE - 100), piece);
  assert.deepEqual(read(share, PAGE - 200, PAGE + 200), share.host.content.subarray(PAGE - 200, 2 * PAGE));
  assert.equal(share.host.count('read'), 1);
  assert.deepEqual(read(share, 2 * PAGE, 2 * PAGE), share.host.content.subarray(2 * PAGE));
  assert.equal(share.host.count('read'), 2);
});

test('written through, a large write is cut where pages begin, and is at the end where no place is given', () => {
  const share = opened(pattern(100), { maxWriteBytes: 2 * PAGE + 7 });
  assert.equal(write(share, pattern(5 * PAGE)), 100);
  assert.deepEqual(share.host.pieces('write'), [
    [100, 2 * PAGE - 100],
    [2 * PAGE, 2 * PAGE],
    [4 * PAGE, PAGE + 100],
  ]);
  assert.equal(share.file.sizeBytes, 100 + 5 * PAGE);
});

test('written through, a READ that came before the WRITE brings back nothing old', () => {
  const { host, file, backing } = opened(pattern(PAGE));
  const into = new Uint8Array(PAGE);
  const reading = start(file.read(backing, into, 0));
  host.serve(0);
  const writing = start(file.write(backing, pattern(10, 3), 50));
  host.answer(1);
  assert.equal(writing.result, 50);
  host.answerAll();
  assert.equal(reading.result, PAGE);
  assert.deepEqual(into, host.content);
});

test('written through, nothing is kept that was invalidated while it was written', () => {
  const share = opened(pattern(2 * PAGE));
  read(share, 0, PAGE);
  const writing = start(share.file.write(share.backing, pattern(2 * PAGE, 3), 0));
  share.host.serve();
  share.host.content = pattern(2 * PAGE, 4);
  share.file.invalidate();
  share.host.answer();
  assert.equal(writing.result, 0);
  assert.deepEqual(read(share, 0, 2 * PAGE), pattern(2 * PAGE, 4));
});

test('written through, an error comes to who wrote, and what was in the cache is read again', () => {
  const share = opened(pattern(PAGE));
  read(share, 0, 1);
  share.host.failures = [new Error('no space')];
  assert.throws(() => write(share, pattern(10), 0), /no space/);
  assert.equal(share.file.sizeBytes, PAGE);
  read(share, 0, 1);
  assert.equal(share.host.count('read'), 2);
});

test('writers wait for each other, and those at the end come one behind the other', () => {
  const { host, file, backing } = opened(pattern(10));
  const running = [1, 2, 3].map((seed) => start(file.write(backing, pattern(100, seed))));
  assert.equal(host.waiting.length, 1);
  host.answerAll();
  assert.deepEqual(
    running.map(({ result }) => result),
    [10, 110, 210],
  );
  assert.deepEqual(host.content, joined(pattern(10), pattern(100, 1), pattern(100, 2), pattern(100, 3)));
});

test('a cache without room for a page, or for one in a READ or WRITE, is refused', () => {
  assert.throws(() => new PageCache({ ...GENEROUS, limitBytes: 4095 }), /limitBytes is 4095: a page has 4096 bytes/);
  assert.throws(() => new PageCache({ ...GENEROUS, maxReadBytes: 0 }), /maxReadBytes is 0/);
});

test('never is more kept than the limit says, and what was used last is kept', () => {
  const content = pattern(64 * PAGE);
  const share = opened(content, { limitBytes: 8 * PAGE, maxReadaheadBytes: 0 });
  for (let page = 0; page < 64; page += 1) {
    read(share, page * PAGE, PAGE);
    read(share, 0, 1);
    assert(share.cache.bytes <= 8 * PAGE);
  }
  assert.equal(share.host.count('read'), 64);
  read(share, 57 * PAGE, 7 * PAGE);
  assert.equal(share.host.count('read'), 64);
  assert.deepEqual(read(share, 56 * PAGE, PAGE), content.subarray(56 * PAGE, 57 * PAGE));
  assert.equal(share.host.count('read'), 65);
});

test('the limit is for all files together, and a large read fits into a small cache', () => {
  const content = pattern(64 * PAGE);
  const share = opened(content, { limitBytes: 8 * PAGE });
  const file = share.cache.file(content.length);
  for (const each of [share, { ...share, file }]) {
    assert.deepEqual(read(each, 0, 64 * PAGE), content);
    share.host.answerAll();
    assert(share.cache.bytes <= 8 * PAGE);
  }
  share.file.invalidate();
  file.invalidate();
  assert.equal(share.cache.bytes, 0);
});

test('who waits for a page that another one reads keeps nothing beyond the limit meanwhile', () => {
  const content = pattern(4 * PAGE);
  const { cache, host, file, backing } = opened(content, { limitBytes: PAGE, maxReadaheadBytes: 0 });
  const reading = [1, 3].flatMap((page) => [
    start(file.read(backing, new Uint8Array(PAGE), page * PAGE)),
    start(file.read(host.open(), new Uint8Array(2 * PAGE), (page - 1) * PAGE)),
  ]);
  assert.deepEqual(
    host.pieces('read').map(([position]) => position / PAGE),
    [1, 0, 3, 2],
  );
  host.answer(1);
  host.answer(2);
  assert.equal(host.waiting.length, 2);
  assert(cache.bytes <= 3 * PAGE, `${cache.bytes} bytes`);
  host.answerAll();
  assert.deepEqual(
    reading.map(({ result }) => result),
    [PAGE, 2 * PAGE, PAGE, 2 * PAGE],
  );
});
