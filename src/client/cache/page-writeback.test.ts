import assert from 'node:assert/strict';
import { test } from 'node:test';

import { type Backing, type CachedFile, PageCache, type PageCacheOptions } from './page-cache.ts';
import { start } from '../task.ts';
import { HostFile, joined, pattern } from './testing-backing.ts';

const PAGE = 4096;
const MIB = 2 ** 20;

interface Opened {
  cache: PageCache;
  host: HostFile;
  file: CachedFile;
  backing: Backing;
}

function opened(content: Uint8Array, options: Partial<PageCacheOptions> = {}): Opened {
  const limits = { limitBytes: 64 * MIB, maxReadaheadBytes: 0, maxWriteBytes: MIB, maxReadBytes: MIB };
  const cache = new PageCache({ ...limits, writeback: true, ...options });
  const host = new HostFile(content);
  return { cache, host, file: cache.file(content.length), backing: host.open() };
}

function read({ host, file, backing }: Opened, position: number, length: number): Uint8Array {
  const into = new Uint8Array(length).fill(0xee);
  return into.subarray(0, host.run(file.read(backing, into, position)));
}

function write({ host, file, backing }: Opened, from: Uint8Array, position?: number): void {
  host.run(file.write(backing, from, position));
}

test('64 writes of 4 KiB, one behind the other, become one WRITE of 256 KiB', () => {
  const share = opened(new Uint8Array(0));
  const content = pattern(64 * PAGE);
  for (let at = 0; at < content.length; at += PAGE) write(share, content.subarray(at, at + PAGE));
  assert.deepEqual(share.host.requests, []);
  assert.deepEqual([share.file.sizeBytes, share.cache.dirtyBytes], [64 * PAGE, 64 * PAGE]);
  assert.deepEqual(read(share, 0, 64 * PAGE), content);
  share.host.run(share.file.flush());
  assert.deepEqual(share.host.requests, [{ kind: 'write', position: 0, length: 256 * 1024 }]);
  assert.deepEqual(share.host.content, content);
  assert.deepEqual([share.file.isDirty, share.cache.dirtyBytes], [false, 0]);
  share.host.run(share.file.flush());
  assert.equal(share.host.requests.length, 1);
});

test('what was written in any order is sent in order, in pieces of the largest size, up to the end of the file', () => {
  const share = opened(new Uint8Array(0), { maxWriteBytes: 2 * PAGE + 100 });
  for (const page of [9, 2, 0, 1, 3, 4, 8]) write(share, pattern(page === 9 ? 10 : PAGE, page), page * PAGE);
  share.host.run(share.file.flush());
  assert.deepEqual(
    share.host.pieces('write'),
    [
      [0, 2],
      [2, 2],
      [4, 1],
      [8, 1 + 10 / PAGE],
    ].map(([page, pages]) => [page * PAGE, pages * PAGE]),
  );
  assert.deepEqual(share.host.content.subarray(8 * PAGE), joined(pattern(PAGE, 8), pattern(10, 9)));
});

test('eight WRITEs of a file are under way side by side, and no more', () => {
  const share = opened(new Uint8Array(0));
  for (let page = 0; page < 40; page += 2) write(share, pattern(PAGE, page), page * PAGE);
  const flush = start(share.file.flush());
  while (share.host.waiting.length > 0) {
    assert.equal(share.host.waiting.length, Math.min(8, 20 - (share.host.requests.length - share.host.waiting.length)));
    share.host.answer();
  }
  assert.equal(flush.settled, true);
});

test('only a page that is written in part, and has more in the file, is read first', () => {
  const content = pattern(2 * PAGE + 100);
  const share = opened(content);
  write(share, pattern(PAGE, 1), PAGE);
  write(share, pattern(200, 2), 2 * PAGE);
  write(share, pattern(10, 3), 5 * PAGE + 50);
  assert.equal(share.host.count('read'), 0);
  write(share, pattern(10, 4), 100);
  assert.deepEqual(share.host.pieces('read'), [[0, PAGE]]);
  share.host.run(share.file.flush());
  const expected = new Uint8Array(5 * PAGE + 60);
  expected.set(content);
  expected.set(pattern(PAGE, 1), PAGE);
  expected.set(pattern(200, 2), 2 * PAGE);
  expected.set(pattern(10, 3), 5 * PAGE + 50);
  expected.set(pattern(10, 4), 100);
  assert.deepEqual(share.host.content, expected);
});

test('the error of the READ that a write needs comes to who writes', () => {
  const share = opened(pattern(PAGE));
  share.host.failures = [new Error('no luck')];
  assert.throws(() => write(share, pattern(1), 5), /no luck/);
  assert.equal(share.file.isDirty, false);
});

test('the first error of a WRITE is thrown by the next flush, once, and what was lost is read again', () => {
  const content = pattern(3 * PAGE);
  const share = opened(content);
  write(share, pattern(PAGE, 1), 0);
  write(share, pattern(PAGE, 2), 2 * PAGE);
  share.host.failures = [new Error('first'), new Error('second')];
  assert.throws(() => share.host.run(share.file.flush()), /first/);
  assert.equal(share.host.count('write'), 2);
  share.host.run(share.file.flush());
  assert.deepEqual(read(share, 0, 3 * PAGE), content);
});

test('a flush of everything tells of an error, and that of the file does so, too', () => {
  const share = opened(pattern(PAGE));
  const other = { ...share, file: share.cache.file(0) };
  write(share, pattern(PAGE, 1), 0);
  write(other, pattern(PAGE, 2), 0);
  share.host.failures = [new Error('no luck')];
  assert.throws(() => share.host.run(share.cache.flushAll()), /no luck/);
  share.host.run(share.cache.flushAll());
  assert.throws(() => share.host.run(share.file.flush()), /no luck/);
  other.host.run(other.file.flush());
  assert.deepEqual(share.host.content, pattern(PAGE, 2));
});

test('a page that is written while it is sent is sent again, after that', () => {
  const share = opened(new Uint8Array(0));
  write(share, pattern(PAGE), 0);
  const flush = start(share.file.flush());
  share.host.serve();
  write(share, pattern(10, 7), 20);
  const second = start(share.file.flush());
  assert.equal(share.host.waiting.length, 1);
  share.host.answer();
  assert.equal(flush.settled, true);
  assert.equal(second.settled, false);
  share.host.answer();
  assert.equal(second.settled, true);
  assert.deepEqual(share.host.content, read(share, 0, PAGE));
});

test('a page that is being sent, and was written again, does not go with those before it', () => {
  const share = opened(new Uint8Array(0));
  write(share, pattern(PAGE), PAGE);
  const first = start(share.file.flush());
  write(share, pattern(2 * PAGE, 1), 0);
  const second = start(share.file.flush());
  assert.deepEqual(share.host.pieces('write'), [
    [PAGE, PAGE],
    [0, PAGE],
  ]);
  share.host.answer(1);
  share.host.answerAll();
  assert.deepEqual([first.settled, second.settled], [true, true]);
  assert.deepEqual(share.host.content, pattern(2 * PAGE, 1));
});

test('a page that was written again after an invalidation is as good as any', () => {
  const share = opened(new Uint8Array(0));
  write(share, pattern(PAGE), 0);
  const first = start(share.file.flush());
  share.file.invalidate();
  write(share, pattern(PAGE, 1), 0);
  share.host.answer();
  assert.equal(first.settled, true);
  share.host.run(share.file.flush());
  assert.deepEqual(read(share, 0, PAGE), pattern(PAGE, 1));
  assert.equal(share.host.count('read'), 0);
});

test('what one open file wrote goes back by that one', () => {
  const share = opened(new Uint8Array(0));
  const by: string[] = [];
  const named = (name: string): Backing => ({
    read: (into, position) => share.backing.read(into, position),
    *write(from, position) {
      by.push(`${name} ${position / PAGE}+${from.length / PAGE}`);
      yield* share.backing.write(from, position);
    },
  });
  const [a, b] = [named('a'), named('b')];
  write({ ...share, backing: a }, pattern(2 * PAGE), 0);
  write({ ...share, backing: b }, pattern(2 * PAGE), 2 * PAGE);
  write({ ...share, backing: b }, pattern(1), PAGE);
  share.host.run(share.file.flush());
  assert.deepEqual(by, ['a 0+1', 'b 1+3']);
});

test('writing back begins by itself when a quarter of the limit is dirty, and at a half a writer waits', () => {
  const share = opened(new Uint8Array(0), { limitBytes: 64 * PAGE });
  const { host, file, backing } = share;
  const content = pattern(64 * PAGE);
  const running = start(file.write(backing, content.subarray(0, 17 * PAGE), 0));
  assert.equal(running.settled, true);
  assert.deepEqual(host.pieces('write'), [[0, 17 * PAGE]]);
  const more = start(file.write(backing, content.subarray(17 * PAGE), 17 * PAGE));
  assert.equal(more.settled, false);
  assert(share.cache.bytes <= 33 * PAGE);
  host.run(file.flush());
  assert.equal(more.settled, true);
  host.run(file.flush());
  assert.deepEqual(host.content, content);
  assert(host.count('write') <= 6, `${host.count('write')} WRITEs`);
});

test('dirty pages of other files make room, too', () => {
  const share = opened(new Uint8Array(0), { limitBytes: 8 * PAGE });
  const others = Array.from({ length: 4 }, () => ({ ...share, host: new HostFile(), file: share.cache.file(0) }));
  others.forEach((other, i) => {
    other.backing = other.host.open();
    other.host.prompt = true;
    write(other, pattern(PAGE, i), 0);
  });
  assert(others[0].host.count('write') === 1);
  read({ ...share, file: share.cache.file(0) }, 0, 1);
  assert(share.cache.bytes <= 8 * PAGE);
});

test('a change of the size waits for what is being sent, and what it cuts off is not sent', () => {
  const share = opened(new Uint8Array(0));
  const { host, file } = share;
  write(share, pattern(3 * PAGE), 0);
  const flush = start(file.flush());
  write(share, pattern(3 * PAGE, 1), 0);
  const resize = start(
    file.resize(
      PAGE + 10,
      host.ask('write', 0, 0, () => host.resize(PAGE + 10)),
    ),
  );
  const again = start(file.flush());
  assert.equal(host.waiting.length, 1);
  host.answer();
  assert.equal(flush.settled, true);
  assert.equal(host.waiting.length, 1);
  host.answer();
  assert.equal(resize.settled, true);
  host.answerAll();
  assert.equal(again.settled, true);
  assert.deepEqual(host.pieces('write').at(-1), [0, PAGE + 10]);
  assert.deepEqual(host.content, pattern(3 * PAGE, 1).subarray(0, PAGE + 10));
  assert.equal(share.cache.bytes, 2 * PAGE);
});

test('a change of the size that fails leaves all as it was', () => {
  const share = opened(pattern(PAGE));
  write(share, pattern(PAGE, 1), PAGE);
  share.host.failures = [new Error('not permitted')];
  const change = share.host.ask('write', 0, 0, () => assert.fail());
  assert.throws(() => share.host.run(share.file.resize(5, change)), /not permitted/);
  assert.equal(share.file.sizeBytes, 2 * PAGE);
  assert.deepEqual(read(share, PAGE, PAGE), pattern(PAGE, 1));
});

test('behind a cut there are zeros when the file grows again', () => {
  const share = opened(pattern(2 * PAGE));
  read(share, 0, 2 * PAGE);
  share.host.resize(100);
  share.file.truncate(100);
  write(share, pattern(1, 9), PAGE + 5);
  const expected = new Uint8Array(PAGE + 6);
  expected.set(pattern(100));
  expected.set(pattern(1, 9), PAGE + 5);
  assert.deepEqual(read(share, 0, 2 * PAGE), expected);
  share.host.run(share.file.flush());
  assert.deepEqual(share.host.content, expected);
});

test('an invalidation leaves what is dirty, and drops what was being sent when that is done', () => {
  const share = opened(pattern(2 * PAGE));
  write(share, pattern(PAGE, 1), 0);
  share.file.invalidate();
  assert.deepEqual(read(share, 0, PAGE), pattern(PAGE, 1));
  assert.equal(share.host.count('read'), 0);
  const flush = start(share.file.flush());
  // The daemon has not seen it yet: nobody may read what was before.
  share.file.invalidate();
  assert.deepEqual(read(share, 0, PAGE), pattern(PAGE, 1));
  share.host.serve();
  share.host.content = pattern(2 * PAGE, 8);
  share.file.invalidate();
  share.host.answer();
  assert.equal(flush.settled, true);
  assert.deepEqual(read(share, 0, PAGE), pattern(2 * PAGE, 8).subarray(0, PAGE));
});

test('all is forgotten at the end of a file, and nothing of it is sent', () => {
  const share = opened(pattern(PAGE));
  write(share, pattern(5 * PAGE), 0);
  share.file.truncate(0);
  assert.deepEqual([share.file.isDirty, share.cache.bytes, share.cache.dirtyBytes], [false, 0, 0]);
  share.host.run(share.cache.flushAll());
  assert.deepEqual(share.host.requests, []);
});

test('a writer who waits for room goes on when a page was read, or when what is dirty is cut off', () => {
  for (const first of ['read', 'cut'] as const) {
    const share = opened(new Uint8Array(0), { limitBytes: 4 * PAGE });
    write(share, pattern(1), 0);
    const resize = start(
      share.file.resize(
        0,
        share.host.ask('write', 0, 0, () => undefined),
      ),
    );
    const [reading, writing] = [new HostFile(pattern(3 * PAGE)), new HostFile()];
    for (const page of [0, 1, 2]) {
      start(share.cache.file(3 * PAGE).read(reading.open(), new Uint8Array(PAGE), page * PAGE));
    }
    const waiter = start(share.cache.file(0).write(writing.open(), pattern(PAGE), 0));
    assert.deepEqual([waiter.settled, share.cache.bytes], [false, 4 * PAGE]);
    if (first === 'read') reading.answer();
    else share.host.answer();
    assert.deepEqual([waiter.settled, resize.settled], [true, first === 'cut']);
    assert.equal(share.cache.bytes, 4 * PAGE);
  }
});

test('a writer who waits for room takes the page that somebody has read meanwhile', () => {
  const share = opened(pattern(4 * PAGE), { limitBytes: 4 * PAGE });
  const held = { ...share, file: share.cache.file(0) };
  write(held, pattern(1), 0);
  const resize = start(
    held.file.resize(
      0,
      share.host.ask('write', 0, 0, () => undefined),
    ),
  );
  for (const page of [0, 1, 2]) start(share.file.read(share.backing, new Uint8Array(PAGE), page * PAGE));
  const waiter = start(share.file.write(share.backing, pattern(PAGE, 1), 3 * PAGE));
  const reader = start(share.file.read(share.backing, new Uint8Array(PAGE), 3 * PAGE));
  assert.deepEqual([waiter.settled, reader.settled], [false, false]);
  share.host.answerAll();
  assert.deepEqual([waiter.settled, reader.settled, resize.settled], [true, true, true]);
  share.host.run(share.cache.flushAll());
  assert.deepEqual(share.host.content.subarray(3 * PAGE), pattern(PAGE, 1));
  share.file.truncate(0);
  assert.equal(share.cache.bytes, 0);
});

test('with a daemon that answers at once nobody waits, however small the cache is', () => {
  for (const pages of [1, 2, 3, 5]) {
    const share = opened(pattern(20 * PAGE), { limitBytes: pages * PAGE, maxReadaheadBytes: 8 * PAGE });
    share.host.prompt = true;
    for (let at = 10; at < 20 * PAGE; at += 5000) write(share, pattern(3000, at), at);
    const expected = pattern(20 * PAGE);
    for (let at = 10; at < 20 * PAGE; at += 5000) expected.set(pattern(3000, at).subarray(0, 20 * PAGE - at), at);
    assert.deepEqual(read(share, 0, 20 * PAGE), expected);
    share.host.run(share.cache.flushAll());
    assert.deepEqual(share.host.content.subarray(0, 20 * PAGE), expected);
    assert(share.cache.bytes <= pages * PAGE);
  }
});

test('what went beyond the limit while others read ahead goes when its WRITE has ended', () => {
  const share = opened(pattern(2 * PAGE), { limitBytes: 2 * PAGE, maxReadaheadBytes: PAGE });
  const { cache, file, backing } = share;
  const other = new HostFile(pattern(2 * PAGE));
  const otherFile = cache.file(2 * PAGE);
  const otherBacking = other.open();
  // Both have the cache filled with pages ahead, whose READs nobody waits for.
  start(file.read(backing, new Uint8Array(1), 0));
  share.host.answer();
  start(otherFile.read(otherBacking, new Uint8Array(1), 0));
  other.answer();
  assert.deepEqual(
    [share.host.pieces('read').at(-1), other.pieces('read').at(-1)],
    [
      [PAGE, PAGE],
      [PAGE, PAGE],
    ],
  );
  start(file.write(backing, pattern(PAGE), 2 * PAGE));
  other.answer();
  share.host.answer();
  assert.deepEqual(
    share.host.waiting.map(({ kind }) => kind),
    ['write'],
  );
  share.host.answer();
  assert.equal(cache.bytes, 2 * PAGE);
});
