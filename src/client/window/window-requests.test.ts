import assert from 'node:assert/strict';
import { mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { type Fd, PAGE_BYTES } from '../../core/index.ts';
import {
  close,
  eventfd,
  memfd,
  munmap,
  O_PATH,
  readMemory,
  reserveAddresses,
  sendMessage,
  shutdown,
  signalEventfd,
  socketPair,
  writeMemory,
} from '../../sys/index.ts';
import {
  BackendRequest,
  BackendRequests,
  Channel,
  HEADER_NEED_REPLY,
  Mmap,
  type WindowRequest,
} from '../../vhost/index.ts';
import { MappedWindow, serveWindow } from './window-requests.ts';

const SIZE = 16 * PAGE_BYTES;
const MAP = BackendRequest.SHMEM_MAP;
const UNMAP = BackendRequest.SHMEM_UNMAP;

class Window {
  readonly address = reserveAddresses(SIZE);
  readonly mapped = new MappedWindow({ address: this.address, sizeBytes: SIZE });

  constructor(t: TestContext) {
    t.after(() => munmap(this.address, SIZE));
  }

  /** The refusal, if any. */
  map(fields: Partial<WindowRequest> = {}, fd = memfd('file', SIZE)): string | undefined {
    const place = { code: MAP, shmid: 0, fdOffset: 0, shmOffset: 0, length: PAGE_BYTES };
    return this.mapped.serve({ ...place, writable: true, needsReply: true, fd: fd as Fd, ...fields });
  }

  unmap(shmOffset: number, length: number): string | undefined {
    return this.map({ code: UNMAP, shmOffset, length, fd: undefined });
  }

  /** The byte at an offset; undefined where there is nothing. */
  at(offset: number): number | undefined {
    const into = new Uint8Array(1);
    return readMemory(this.address + offset, into, 0, 1) === 1 ? into[0] : undefined;
  }
}

const descriptors = (): number => readdirSync('/proc/self/fd').length;

test('a file is mapped where it is asked for, and its descriptor is closed', (t) => {
  const window = new Window(t);
  const before = descriptors();
  assert.equal(window.map({ shmOffset: PAGE_BYTES, length: 2 * PAGE_BYTES }), undefined);
  assert.equal(descriptors(), before);
  assert.deepEqual([window.at(0), window.at(PAGE_BYTES), window.at(3 * PAGE_BYTES)], [undefined, 0, undefined]);
  assert.equal(writeMemory(window.address + PAGE_BYTES, Uint8Array.of(7), 0, 1), 1);
  assert.equal(window.at(PAGE_BYTES), 7);
});

test('what is not mapped to be written is not written', (t) => {
  const window = new Window(t);
  assert.equal(window.map({ writable: false }), undefined);
  assert.equal(writeMemory(window.address, Uint8Array.of(7), 0, 1), 0);
  assert.equal(window.at(0), 0);
});

test('a range goes as a whole, and its place is free again', (t) => {
  const window = new Window(t);
  assert.equal(window.map({ length: 2 * PAGE_BYTES }), undefined);
  assert.match(window.unmap(0, PAGE_BYTES) ?? '', /no such range/);
  assert.match(window.unmap(PAGE_BYTES, PAGE_BYTES) ?? '', /no such range/);
  assert.equal(window.unmap(0, 2 * PAGE_BYTES), undefined);
  assert.equal(window.at(0), undefined);
  assert.match(window.unmap(0, 2 * PAGE_BYTES) ?? '', /no such range/);
  assert.equal(window.map({ length: PAGE_BYTES }), undefined);
});

test('what makes no sense is refused and not done, and no descriptor stays', (t) => {
  const window = new Window(t);
  assert.equal(window.map({ shmOffset: 4 * PAGE_BYTES, length: 2 * PAGE_BYTES }), undefined);
  const before = descriptors();
  const wrong: [Partial<WindowRequest>, RegExp][] = [
    [{ shmid: 1 }, /no such window/],
    [{ shmOffset: 100 }, /whole pages/],
    [{ length: 0 }, /whole pages/],
    [{ length: 100 }, /whole pages/],
    [{ shmOffset: 2 ** 60 }, /whole pages/],
    [{ shmOffset: SIZE }, /it has 65536 bytes/],
    [{ length: SIZE + PAGE_BYTES }, /it has 65536 bytes/],
    [{ length: 2 ** 53 - PAGE_BYTES }, /it has 65536 bytes/],
    [{ fdOffset: 100 }, /no page of a file/],
    [{ fdOffset: 2 ** 53 - PAGE_BYTES }, /no page of a file/],
    [{ fdOffset: 2 ** 62 }, /no page of a file/],
    [{ shmOffset: 4 * PAGE_BYTES }, /is mapped/],
    [{ shmOffset: 3 * PAGE_BYTES, length: 2 * PAGE_BYTES }, /is mapped/],
    [{ shmOffset: 5 * PAGE_BYTES, length: 2 * PAGE_BYTES }, /is mapped/],
    [{ length: SIZE }, /is mapped/],
  ];
  for (const [fields, why] of wrong) assert.match(window.map(fields) ?? 'done', why, JSON.stringify(fields));
  assert.equal(descriptors(), before);
  assert.equal(window.at(0), undefined);
});

test('only regular files are mapped, and only as they are open', (t) => {
  const window = new Window(t);
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'file');
  const written = openSync(path, 'w+');
  close(written);
  const before = descriptors();
  assert.match(window.map({}, eventfd()) ?? '', /not a regular file/);
  assert.match(window.map({}, openSync(folder, 'r')) ?? '', /not a regular file/);
  assert.match(window.map({}, openSync('/dev/zero', 'r+')) ?? '', /not a regular file/);
  assert.match(window.map({}, openSync(path, 'r')) ?? '', /EACCES/);
  assert.match(window.map({}, openSync(path, O_PATH)) ?? '', /EBADF/);
  assert.equal(window.map({ writable: false }, openSync(path, 'r')), undefined);
  assert.equal(descriptors(), before);
});

test('addresses stay reserved when a file cannot be mapped there', (t) => {
  const window = new Window(t);
  assert.match(window.map({ length: SIZE, writable: false }, openSync('/sys/kernel/uevent_seqnum', 'r')) ?? '', /mmap/);
  const start = window.address.toString(16);
  const line = readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .find((each) => {
      const [from, to] = each.split(/[- ]/).map((text) => Number.parseInt(text, 16));
      return from <= window.address && window.address + SIZE <= to;
    });
  assert.match(line ?? 'nothing', /---p/, start);
});

test('when all is unmapped nothing is left, and everything may come again', (t) => {
  const window = new Window(t);
  window.map();
  window.map({ shmOffset: 5 * PAGE_BYTES });
  window.mapped.clear();
  assert.deepEqual([window.at(0), window.at(5 * PAGE_BYTES)], [undefined, undefined]);
  assert.equal(window.map(), undefined);
});

/** A channel with what a daemon has sent before it is served, and what it hears then. */
function serve(t: TestContext, send: (daemon: Channel) => void): { codes: number[]; refused: string[] } {
  const window = new Window(t);
  const [ours, theirs] = socketPair();
  const stopFd = eventfd();
  const daemon = new Channel(theirs);
  const requests = new BackendRequests(ours);
  send(daemon);
  const refused: string[] = [];
  serveWindow(requests, stopFd, window.mapped, (why) => refused.push(why));
  requests.close();
  const codes: number[] = [];
  for (let reply = daemon.receive(); reply !== undefined; reply = daemon.receive()) {
    codes.push(reply.request, reply.payload.getUint8(0));
  }
  daemon.close();
  close(stopFd);
  return { codes, refused };
}

function payload(shmOffset: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(Mmap.bytes));
  Mmap.set.shmOffset(view, 0, shmOffset);
  Mmap.set.len(view, 0, PAGE_BYTES);
  return new Uint8Array(view.buffer);
}

/** Sends SHMEM_MAP. */
function ask(daemon: Channel, shmOffset: number, flags = HEADER_NEED_REPLY): void {
  const fd = memfd('file', PAGE_BYTES);
  daemon.send(MAP, flags, payload(shmOffset), [fd]);
  close(fd);
}

test('who asks hears whether it was done, where it wants to, until there is a request that nobody can read', (t) => {
  const { codes, refused } = serve(t, (daemon) => {
    ask(daemon, 0);
    ask(daemon, 0);
    ask(daemon, PAGE_BYTES, 0);
    // What ours sends when it takes a request back.
    daemon.send(0x100 + MAP, 0, new Uint8Array(0));
    daemon.send(UNMAP, HEADER_NEED_REPLY, payload(PAGE_BYTES));
    daemon.send(MAP, HEADER_NEED_REPLY, payload(0));
  });
  assert.deepEqual(codes, [MAP, 0, MAP, 1, UNMAP, 0]);
  assert.equal(refused.length, 2);
  assert.match(refused[0], /some of that is mapped/);
  assert.match(refused[1], /40 bytes and 0 descriptors/);
});

test('what is wrong on the channel is told of the back-end', (t) => {
  const { refused } = serve(t, (daemon) => {
    sendMessage(daemon.fd, new Uint8Array(4));
    shutdown(daemon.fd);
  });
  assert.deepEqual(refused, ['the back-end closed the connection in the middle of a message']);
});

test('the channel is served until it is closed, or until it is stopped', (t) => {
  const window = new Window(t);
  const [ours, theirs] = socketPair();
  const stopFd = eventfd();
  const requests = new BackendRequests(ours);
  t.after(() => {
    requests.close();
    close(stopFd);
  });
  signalEventfd(stopFd);
  serveWindow(requests, stopFd, window.mapped, assert.fail);
  close(theirs);
  const never = eventfd();
  serveWindow(requests, never, window.mapped, assert.fail);
  close(never);
});
