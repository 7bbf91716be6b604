/** Shared memory regions (windows): the channel on which the back-end asks for them, and what comes back of them. */
import assert from 'node:assert/strict';
import { mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { EAGAIN, type Fd } from '../src/core/index.ts';
import {
  accept,
  close,
  duplicate,
  eventfd,
  fileIdentity,
  listenUnix,
  memfd,
  O_PATH,
  receiveMessage,
  sendMessage,
  setNonblocking,
  socketPair,
} from '../src/sys/index.ts';
import {
  Backend,
  BackendChannel,
  BackendRequests,
  Channel,
  FrontEnd,
  HEADER_REPLY,
  LENS_BYTES,
  MappedFiles,
  type MappedRegion,
  type RingSetup,
  type VhostDevice,
} from '../src/vhost/index.ts';
import { concat, words } from './fuse.ts';
import { RawFrontEnd, type RawQueue, regionPayload, u64 } from './raw-front-end.ts';

const MIB = 1024 * 1024;
const RANGE = 2 * MIB;
const HEADER_BYTES = 12;
const MESSAGE_BYTES = HEADER_BYTES + 40;
const MAP = 9;
const UNMAP = 10;
const NAMES: Record<number, string> = { [MAP]: 'map', [UNMAP]: 'unmap' };
const P = { REPLY_ACK: 3n, BACKEND_REQ: 5n, BACKEND_SEND_FD: 10n, SHMEM: 22n };
const bit = (number: bigint): bigint => 1n << number;

const descriptors = (): number => readdirSync('/proc/self/fd').length;

/** A file for as long as the test. */
function file(t: TestContext, sizeBytes = RANGE): number {
  const fd = memfd('file', sizeBytes);
  t.after(() => close(fd));
  return fd;
}

/** A device that runs, and a VMM that has done what it says. */
const PLAIN = { running: true, saysCommits: false };

/** What a VMM took: a request, or what had become of one that it had only begun to take. */
interface Taken {
  readonly code: number;
  readonly flags: number;
  readonly payload: DataView;
  readonly fds: readonly Fd[];
}

/** Takes a request as QEMU does: it begins, and waits for the rest. Undefined when there is none. */
function take(vmmFd: Fd, channel: BackendChannel | undefined): Taken | undefined {
  const bytes = new Uint8Array(MESSAGE_BYTES);
  const view = new DataView(bytes.buffer);
  const fds: Fd[] = [];
  for (let at = 0, end = HEADER_BYTES; at < end; ) {
    const got = receiveMessage(vmmFd, bytes, at, end - at, fds);
    // Nothing has come, or no more will.
    if ((got === -EAGAIN && at === 0) || (got === 0 && at <= 1)) return undefined;
    assert.ok(got > 0, `after ${at} bytes`);
    at += got;
    // The kernel says that it was read.
    if (at === 1) channel?.receive();
    if (at === HEADER_BYTES) end += view.getUint32(8, true);
  }
  const payload = new DataView(bytes.buffer.slice(HEADER_BYTES, HEADER_BYTES + view.getUint32(8, true)));
  return { code: view.getUint32(0, true), flags: view.getUint32(4, true), payload, fds };
}

/** A channel with the VMM's end of it, and what became of each request in the order in which that was heard. */
class Wire {
  readonly files = new MappedFiles();
  readonly heard: string[] = [];
  readonly channel: BackendChannel;
  readonly vmm: BackendRequests;
  readonly file: number;
  readonly #taken: string[] = [];

  constructor(t: TestContext, options = PLAIN) {
    const [ours, theirs] = socketPair();
    this.channel = new BackendChannel(ours, this.files, options);
    this.vmm = new BackendRequests(theirs);
    // A mistake in a test must not wait for ever for what does not come.
    setNonblocking(theirs);
    this.file = file(t);
    t.after(() => {
      this.channel.close();
      this.vmm.close();
    });
  }

  map(range: number, fd = this.file): void {
    this.channel.map(0, fd, 0, range * RANGE, RANGE, (ok) => this.heard.push(`map ${range} ${ok}`));
  }

  unmap(range: number): void {
    this.channel.unmap(0, range * RANGE, RANGE, (ok) => this.heard.push(`unmap ${range} ${ok}`));
  }

  /** The VMM takes what there is. */
  #take(): void {
    for (let taken = take(this.vmm.fd, this.channel); taken !== undefined; taken = take(this.vmm.fd, this.channel)) {
      for (const fd of taken.fds) close(fd);
      const range = taken.payload.byteLength === 0 ? taken.code : Number(taken.payload.getBigUint64(16, true)) / RANGE;
      this.#taken.push(`${NAMES[taken.code] ?? 'nothing'} ${range}`);
    }
  }

  /** The requests that the VMM has taken since it was asked last: `map 3`. */
  waiting(): string[] {
    this.#take();
    return this.#taken.splice(0);
  }

  answer(code: number, ok = true): void {
    this.#take();
    this.vmm.reply({ code }, ok);
  }

  say(bytes: Uint8Array, fds: readonly number[] = []): void {
    this.#take();
    assert.equal(sendMessage(this.vmm.fd, bytes, fds), 0);
  }
}

const reply = (code: number, value: number | bigint = 0): Uint8Array =>
  RawFrontEnd.message(code, u64(value), HEADER_REPLY);

/** A payload as hexadecimal digits, eight bytes at a time. */
function quads(message: Pick<Taken, 'payload'> | undefined): string {
  assert.ok(message);
  const digits = Buffer.from(message.payload.buffer as ArrayBuffer).toString('hex');
  return digits.match(/.{16}/g)?.join(' ') ?? '';
}

test('SHMEM_MAP and SHMEM_UNMAP have the bytes of the specification', (t) => {
  const [ours, theirs] = socketPair();
  const channel = new BackendChannel(ours, new MappedFiles(), PLAIN);
  const vmm = new Channel(theirs);
  setNonblocking(theirs);
  t.after(() => channel.close());
  t.after(() => vmm.close());
  const fd = file(t);
  channel.map(3, fd, 2 ** 52 + 4096, 6 * RANGE, RANGE, () => undefined);
  channel.unmap(3, 6 * RANGE, RANGE, () => undefined);
  const map = take(theirs, channel);
  assert.deepEqual([map?.code, map?.flags, map?.fds.length], [9, 1 | 8, 1]);
  assert.equal(
    quads(map),
    // shmid and padding, fd_offset, shm_offset, len, flags: RW.
    '0300000000000000 0010000000001000 0000c00000000000 0000200000000000 0100000000000000',
  );
  const passed = map?.fds[0] as Fd;
  assert.equal(fileIdentity(passed).key, fileIdentity(fd).key);
  close(passed);
  vmm.send(MAP, HEADER_REPLY, u64(0));
  assert.ok(channel.receive());
  const unmap = take(theirs, channel);
  assert.deepEqual([unmap?.code, unmap?.flags, unmap?.fds.length], [10, 1 | 8, 0]);
  assert.equal(quads(unmap), '0300000000000000 0000000000000000 0000c00000000000 0000200000000000 0000000000000000');
});

test('what a VMM has not begun to take when it stops the device becomes nothing, and is asked for again', (t) => {
  const wire = new Wire(t);
  wire.map(0);
  wire.channel.setRunning(false);
  assert.deepEqual(wire.waiting(), [`nothing ${0x100 + MAP}`]);
  wire.channel.setRunning(true);
  assert.deepEqual(wire.waiting(), ['map 0']);
  wire.answer(MAP);
  assert.ok(wire.channel.receive());
  wire.unmap(0);
  wire.channel.setRunning(false);
  wire.channel.setRunning(true);
  assert.deepEqual(wire.waiting(), [`nothing ${0x100 + UNMAP}`, 'unmap 0']);
  wire.answer(UNMAP);
  assert.ok(wire.channel.receive());
  assert.deepEqual(wire.heard, ['map 0 true', 'unmap 0 true']);
});

test('answers belong to requests in their order, whatever they say', (t) => {
  const wire = new Wire(t);
  wire.map(0);
  wire.map(1);
  wire.unmap(0);
  assert.deepEqual(wire.waiting(), ['map 0']);
  assert.ok(wire.channel.receive(), 'nothing has come, and nothing is waited for');
  wire.answer(MAP);
  assert.ok(wire.channel.receive());
  assert.deepEqual(wire.heard, ['map 0 true']);
  assert.equal(wire.channel.pending, 2);
  assert.deepEqual(wire.waiting(), ['map 1']);
  wire.answer(MAP, false);
  assert.ok(wire.channel.receive());
  assert.deepEqual(wire.waiting(), ['unmap 0']);
  wire.answer(UNMAP);
  assert.ok(wire.channel.receive());
  assert.deepEqual(wire.heard, ['map 0 true', 'map 1 false', 'unmap 0 true']);
  wire.map(2);
  wire.say(reply(MAP, 2n ** 64n - 1n));
  assert.ok(wire.channel.receive());
  assert.equal(wire.heard.at(-1), 'map 2 false', 'any number but 0 is a refusal');
  assert.equal(wire.channel.pending, 0);
});

test('an answer may come in any pieces', (t) => {
  const wire = new Wire(t);
  wire.map(0);
  wire.unmap(0);
  for (const byte of concat(reply(MAP), reply(UNMAP, 1))) {
    wire.say(new Uint8Array([byte]));
    assert.ok(wire.channel.receive());
  }
  assert.deepEqual(wire.heard, ['map 0 true', 'unmap 0 false']);
});

test('a VMM has one request at a time: what it has not taken when it stops the device would be its end', (t) => {
  const wire = new Wire(t);
  for (let range = 0; range < 100; range += 1) wire.map(range);
  for (let range = 0; range < 100; range += 1) {
    assert.deepEqual(wire.waiting(), [`map ${range}`]);
    wire.answer(MAP);
    assert.ok(wire.channel.receive());
  }
  assert.equal(wire.channel.pending, 0);
});

test('a VMM is asked for nothing while the device stands still', (t) => {
  const wire = new Wire(t, { ...PLAIN, running: false });
  wire.map(0);
  assert.deepEqual(wire.waiting(), []);
  wire.channel.setRunning(true);
  wire.unmap(0);
  assert.deepEqual(wire.waiting(), ['map 0']);
  wire.channel.setRunning(false);
  wire.answer(MAP);
  assert.ok(wire.channel.receive());
  assert.deepEqual(wire.waiting(), []);
  wire.channel.setRunning(true);
  wire.channel.setRunning(true);
  assert.deepEqual(wire.waiting(), ['unmap 0']);
  assert.equal(wire.channel.starts, 2);
});

test('what a VMM has answered for is there when it says so, as a memory region', (t) => {
  const wire = new Wire(t, { ...PLAIN, saysCommits: true });
  const { key } = fileIdentity(wire.file);
  const { commits } = wire.files;
  assert.ok(commits);
  wire.map(3);
  assert.equal(commits.offsetOf(key, 0, RANGE), -1, 'that was another');
  wire.answer(MAP);
  assert.ok(wire.channel.receive());
  assert.equal(commits.offsetOf(key, RANGE, RANGE), -1);
  assert.equal(commits.offsetOf(key, 0, 4096), -1);
  assert.equal(commits.offsetOf('another file', 0, RANGE), -1);
  assert.deepEqual(wire.heard, []);
  assert.ok(wire.channel.patienceMs > 0);
  wire.channel.expire();
  assert.deepEqual(wire.heard, [], 'it has time left');
  assert.equal(commits.offsetOf(key, 0, RANGE), 3 * RANGE);
  commits.commit();
  assert.deepEqual(wire.heard, ['map 3 true']);
  assert.equal(wire.channel.patienceMs, -1);
  commits.commit();
  wire.map(2);
  assert.equal(commits.offsetOf(key, 0, RANGE), -1);
  commits.commit();
  assert.deepEqual(wire.heard, ['map 3 true'], 'it has not answered');
  wire.answer(MAP);
  assert.equal(commits.offsetOf('what it was refused before', 0, RANGE), -1);
  commits.commit();
  assert.equal(wire.heard.at(-1), 'map 2 true', 'the answer has come before, by another way');
  wire.unmap(3);
  wire.answer(UNMAP);
  assert.ok(wire.channel.receive());
  assert.equal(wire.heard.at(-1), 'unmap 3 true', 'of what is gone it says nothing');
});

test('a VMM that never says so is believed', (t) => {
  const wire = new Wire(t, { ...PLAIN, saysCommits: true });
  t.mock.method(performance, 'now', () => 0);
  wire.map(0);
  wire.answer(MAP);
  assert.ok(wire.channel.receive());
  t.mock.method(performance, 'now', () => 1_000_000);
  assert.equal(wire.channel.patienceMs, 0);
  wire.channel.expire();
  wire.map(1);
  wire.answer(MAP);
  assert.ok(wire.channel.receive());
  assert.deepEqual(wire.heard, ['map 0 true', 'map 1 true']);
});

test('a VMM that goes without an answer leaves nobody waiting', (t) => {
  const wire = new Wire(t);
  for (let range = 0; range < 40; range += 1) wire.map(range);
  wire.vmm.close();
  assert.equal(wire.channel.receive(), false);
  assert.deepEqual(
    wire.heard,
    Array.from({ length: 40 }, (_, range) => `map ${range} false`),
  );
  wire.unmap(0);
  assert.equal(wire.heard.at(-1), 'unmap 0 false');
  assert.equal(wire.channel.pending, 0);
});

test('a VMM that has gone is noticed by the request after that', (t) => {
  const wire = new Wire(t);
  wire.vmm.close();
  wire.map(0);
  wire.map(1);
  assert.deepEqual(wire.heard, ['map 0 false', 'map 1 false']);
  assert.equal(wire.channel.receive(), false);
});

/** What a VMM cannot mean, by name: after two SHMEM_MAP. */
const NONSENSE: Record<string, (fd: number) => [Uint8Array, number[]]> = {
  'the answer to another request': () => [reply(UNMAP), []],
  'the answer to a request that does not exist': () => [reply(4711), []],
  'more answers than requests': () => [concat(reply(MAP), reply(MAP), reply(MAP)), []],
  'an answer without a number': () => [RawFrontEnd.message(MAP, new Uint8Array(0), HEADER_REPLY), []],
  'an answer of 16 bytes': () => [RawFrontEnd.message(MAP, new Uint8Array(16), HEADER_REPLY), []],
  'an answer of 4 GiB': () => [RawFrontEnd.message(MAP, u64(0), HEADER_REPLY, 0xffff_ffff), []],
  'a request': () => [RawFrontEnd.message(MAP, u64(0)), []],
  'a version that is not 1': () => [concat(words(MAP, 2 | HEADER_REPLY, 8), u64(0)), []],
  'a descriptor with the answer': (fd) => [reply(MAP), [fd]],
  'descriptors with a piece of it': (fd) => [reply(MAP).subarray(0, 5), [fd, fd, fd]],
};

for (const [what, make] of Object.entries(NONSENSE)) {
  test(`a channel is over for good after nonsense: ${what}`, (t) => {
    const wire = new Wire(t);
    wire.map(0);
    wire.map(1);
    const before = descriptors();
    wire.say(...make(wire.file));
    assert.equal(wire.channel.receive(), false);
    assert.equal(wire.heard.length, 2, 'everybody has heard');
    assert.equal(wire.channel.pending, 0);
    wire.map(2);
    assert.equal(wire.heard.at(-1), 'map 2 false');
    assert.equal(wire.channel.receive(), false);
    assert.equal(descriptors(), before, 'descriptors leak');
    assert.ok(!wire.waiting().includes('map 2'), 'something more was sent');
  });
}

test('an answer that nobody asked for is the end of the channel', (t) => {
  const wire = new Wire(t);
  wire.say(reply(MAP));
  assert.equal(wire.channel.receive(), false);
});

test('who hears of an answer may ask again, or give the channel up', (t) => {
  const wire = new Wire(t);
  const { channel, heard } = wire;
  const length = RANGE;
  channel.map(0, wire.file, 0, 0, length, (ok) => {
    heard.push(`first ${ok}`);
    channel.unmap(0, 0, length, (last) => {
      heard.push(`last ${last}`);
      channel.close();
    });
  });
  wire.map(1);
  wire.map(2);
  for (const code of [MAP, MAP, MAP]) {
    wire.answer(code);
    assert.ok(channel.receive());
  }
  assert.deepEqual(wire.waiting(), ['map 0', 'map 1', 'map 2', 'unmap 0']);
  wire.answer(UNMAP);
  wire.map(3);
  assert.equal(channel.receive(), false);
  assert.deepEqual(heard, ['first true', 'map 1 true', 'map 2 true', 'last true', 'map 3 false']);
});

test('a channel that is closed says so to all who wait, once, and closes its descriptor once', (t) => {
  const wire = new Wire(t);
  const before = descriptors();
  wire.map(0);
  wire.map(1);
  wire.channel.close();
  const reused = eventfd();
  wire.channel.close();
  assert.equal(wire.channel.receive(), false);
  assert.deepEqual(wire.heard, ['map 0 false', 'map 1 false']);
  assert.equal(descriptors(), before);
  close(reused);
});

test('what QEMU would take to no good, or with the end of the channel, is not sent', (t) => {
  const wire = new Wire(t);
  const { channel } = wire;
  const nothing = (): void => undefined;
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const unusable = [openSync(folder, O_PATH), openSync('/proc/self/exe', 'r')];
  for (const fd of unusable) assert.throws(() => channel.map(0, fd, 0, 0, RANGE, nothing), /reading and writing/);
  for (const fd of unusable) close(fd);
  for (const bad of [1, 100, 4095, -4096, 0.5, NaN, 2 ** 53]) {
    assert.throws(() => channel.map(0, wire.file, bad, 0, RANGE, nothing), /no offset/, `fd_offset ${bad}`);
    assert.throws(() => channel.map(0, wire.file, 0, bad, RANGE, nothing), /no pages/, `shm_offset ${bad}`);
    assert.throws(() => channel.map(0, wire.file, 0, 0, bad, nothing), /no pages/, `length ${bad}`);
    assert.throws(() => channel.unmap(0, bad, RANGE, nothing), /no pages/);
    assert.throws(() => channel.unmap(0, 0, bad, nothing), /no pages/);
  }
  assert.throws(() => channel.map(0, wire.file, 0, 0, 0, nothing), /no pages/);
  assert.throws(() => channel.map(256, wire.file, 0, 0, RANGE, nothing), /no window 256/);
  assert.deepEqual(wire.waiting(), []);
  assert.equal(channel.pending, 0);
});

/** A device that only remembers. */
class Device implements VhostDevice {
  readonly queueCount = 2;
  readonly sharedMemory?: readonly number[];
  regions: readonly MappedRegion[] = [];
  channel: BackendChannel | undefined;
  readonly events: string[] = [];
  readonly warnings: string[] = [];

  constructor(sharedMemory: readonly number[] | undefined) {
    this.sharedMemory = sharedMemory;
  }

  setMemory(regions: readonly MappedRegion[]): void {
    this.regions = regions;
  }

  startQueue(_index: number, _ring: RingSetup): void {}

  stopQueue(): number {
    return 0;
  }

  reset(): void {
    this.events.push('reset');
  }

  setBackendChannel(channel: BackendChannel | undefined): void {
    this.channel = channel;
    this.events.push(channel === undefined ? 'channel goes' : 'channel comes');
  }

  warn(message: string): void {
    this.warnings.push(message);
  }
}

/** A VMM whose back-end is here: each message is served before the answer is waited for. */
class Vmm extends RawFrontEnd {
  readonly device: Device;
  readonly #backend: Backend;

  constructor(t: TestContext, windows: readonly number[] | undefined) {
    const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
    const path = join(folder, 'socket');
    const listening = listenUnix(path);
    super(path);
    this.device = new Device(windows);
    this.#backend = new Backend(new Channel(accept(listening) as Fd), this.device);
    close(listening);
    rmSync(folder, { recursive: true });
    t.after(() => this.close());
  }

  override send(...message: Parameters<RawFrontEnd['send']>): void {
    super.send(...message);
    assert.ok(this.#backend.serveMessage());
  }

  /** Opens the backend channel; the VMM's end. */
  openBackendChannel(t: TestContext): BackendRequests {
    const [ours, theirs] = socketPair();
    assert.ok(this.does('SET_BACKEND_REQ_FD', undefined, [theirs]));
    close(theirs);
    const requests = new BackendRequests(ours);
    setNonblocking(ours);
    t.after(() => requests.close());
    return requests;
  }

  /** The connection ends; the back-end with it. */
  end(): void {
    this.#backend.end();
  }

  /** A region as QEMU describes a range of a window. */
  range(index: number): { guestAddress: number; sizeBytes: number; userAddress: number; mmapOffset: number } {
    const at = index * RANGE;
    const userAddress = 0x7000_0000_0000 + at;
    return { guestAddress: 0xff_0000_0000 + at, sizeBytes: RANGE, userAddress, mmapOffset: at };
  }

  addRange(index: number, fd: number): boolean {
    return this.does('ADD_MEM_REG', regionPayload(this.range(index)), [fd]);
  }

  removeRange(index: number): boolean {
    return this.does('REM_MEM_REG', regionPayload(this.range(index)));
  }
}

/** A VMM with memory and a queue that is laid in it. */
function start(t: TestContext, windows: readonly number[] | undefined): { vmm: Vmm; device: Device; queue: RawQueue } {
  const vmm = new Vmm(t, windows);
  vmm.negotiate();
  vmm.addRegion(0, MIB);
  return { vmm, device: vmm.device, queue: vmm.makeQueue(1, 0) };
}

test('SHMEM is offered by a device with windows, and their sizes are told', (t) => {
  const vmm = new Vmm(t, [512 * MIB, 0, 2 * MIB]);
  assert.equal(vmm.askNumber('GET_PROTOCOL_FEATURES') & bit(P.SHMEM), bit(P.SHMEM));
  const answer = vmm.ask('GET_SHMEM_CONFIG');
  assert.equal(answer.byteLength, 2056);
  const expected = concat(words(2, 0), u64(512 * MIB), u64(0), u64(2 * MIB), new Uint8Array(253 * 8));
  assert.deepEqual(new Uint8Array(answer.buffer), expected);
});

test('a device without windows does not offer SHMEM, and says to who asks nevertheless that it has none', (t) => {
  const vmm = new Vmm(t, undefined);
  assert.equal(vmm.askNumber('GET_PROTOCOL_FEATURES') & bit(P.SHMEM), 0n);
  assert.deepEqual(new Uint8Array(vmm.ask('GET_SHMEM_CONFIG').buffer), new Uint8Array(2056));
  vmm.negotiate();
  vmm.openBackendChannel(t);
  assert.deepEqual(vmm.device.events, []);
});

test('a device can map when the front-end has given a channel and agreed to all that it takes', (t) => {
  const vmm = new Vmm(t, [RANGE]);
  const offered = vmm.askNumber('GET_PROTOCOL_FEATURES');
  for (const missing of [P.REPLY_ACK, P.BACKEND_REQ, P.BACKEND_SEND_FD, P.SHMEM]) {
    vmm.send('SET_PROTOCOL_FEATURES', u64(offered & ~bit(missing)));
    const [ours, theirs] = socketPair();
    vmm.send('SET_BACKEND_REQ_FD', undefined, 0, [theirs]);
    close(ours);
    close(theirs);
    assert.equal(vmm.device.channel, undefined, `without bit ${missing}`);
  }
  vmm.send('SET_PROTOCOL_FEATURES', u64(offered));
  assert.ok(vmm.device.channel, 'the features may come after the channel');
});

test('a channel that another replaces, or whose connection ends, is taken from the device and closed', (t) => {
  const { vmm, device } = start(t, [RANGE]);
  const before = descriptors();
  const first = vmm.openBackendChannel(t);
  const heard: boolean[] = [];
  const fd = file(t);
  assert.ok(vmm.does('SET_VRING_ENABLE', words(0, 1)));
  device.channel?.map(0, fd, 0, 0, RANGE, (ok) => heard.push(ok));
  for (const passed of take(first.fd, device.channel)?.fds ?? []) close(passed);
  vmm.openBackendChannel(t);
  assert.deepEqual(device.events, ['channel comes', 'channel goes', 'channel comes']);
  assert.deepEqual(heard, [false]);
  assert.equal(first.receive(), undefined, 'the VMM sees its end');
  vmm.end();
  assert.deepEqual(device.events.slice(3), ['channel goes', 'reset']);
  // The VMM's two ends and the file are still here; its memory and the connection are not.
  assert.ok(descriptors() <= before + 3);
});

test('ranges of a window are refused in silence while a ring runs, and never are memory', (t) => {
  const { vmm, device, queue } = start(t, [512 * MIB]);
  const lens = file(t, LENS_BYTES);
  vmm.startQueue(queue);
  const { regions } = device;
  for (let round = 0; round < 3; round += 1) {
    // QEMU says what was refused again at its next change.
    assert.equal(vmm.addRange(0, lens), false);
    assert.equal(vmm.addRange(0, lens), false);
    assert.equal(vmm.addRange(7, lens), false);
    assert.ok(vmm.removeRange(7));
    assert.ok(vmm.removeRange(0));
  }
  assert.equal(device.regions, regions);
  vmm.addRegion(64 * MIB, MIB);
  assert.equal(device.regions.length, 2, 'guest memory is added as ever');
  assert.deepEqual(device.warnings, []);
  assert.equal(vmm.removeRange(0), false);
  assert.match(device.warnings.join(), /REM_MEM_REG: no region/);
});

test('while no ring runs (at a start, or at cont) ranges of a window are accepted, and are no memory', (t) => {
  const { vmm, device, queue } = start(t, [512 * MIB]);
  const lens = file(t, LENS_BYTES);
  const before = descriptors();
  assert.ok(vmm.addRange(0, lens));
  assert.ok(vmm.addRange(1, lens));
  assert.equal(descriptors(), before, 'a range of a window keeps no descriptor');
  vmm.startQueue(queue);
  assert.equal(vmm.addRange(2, lens), false);
  assert.ok(vmm.removeRange(1), 'it may go while the ring runs');
  vmm.stopQueue(queue);
  assert.ok(vmm.removeRange(0));
  assert.ok(vmm.addRange(2, lens));
  assert.equal(device.regions.length, 1);
  // A ring cannot lie there.
  const { userAddress } = vmm.range(2);
  assert.equal(vmm.does('SET_VRING_ADDR', vmm.addresses(queue, { usedUserAddr: userAddress })), false);
  assert.equal(device.warnings.length, 1);
});

test('a range at an address where guest memory comes later is not mistaken for it', (t) => {
  const { vmm, device } = start(t, [512 * MIB]);
  assert.ok(vmm.addRange(0, file(t, LENS_BYTES)));
  assert.ok(vmm.does('ADD_MEM_REG', regionPayload({ ...vmm.range(0), mmapOffset: 0 }), [file(t)]));
  assert.equal(device.regions.length, 2);
  assert.ok(vmm.removeRange(0));
  assert.equal(device.regions.length, 1);
  assert.equal(vmm.removeRange(0), false);
});

test('a file that this back-end has had mapped is known as such, as long as it is mapped', (t) => {
  const { vmm, device, queue } = start(t, [512 * MIB]);
  const channel = vmm.openBackendChannel(t);
  vmm.startQueue(queue);
  const fd = file(t, 8 * MIB);
  const other = file(t, 8 * MIB);
  const isMemory = (which: number): boolean => {
    if (!vmm.addRange(1, which)) return false;
    assert.equal(device.regions.length, 2);
    assert.ok(vmm.removeRange(1));
    return true;
  };
  const done = (code: number, ok = true): void => {
    for (const passed of take(channel.fd, device.channel)?.fds ?? []) close(passed);
    channel.reply({ code }, ok);
    assert.ok(device.channel?.receive());
    // So QEMU says that it has mapped it.
    const range = { ...vmm.range(7), mmapOffset: 0 };
    if (code === MAP && ok) assert.equal(vmm.does('ADD_MEM_REG', regionPayload(range), [fd]), false);
    assert.equal(device.channel?.pending, 0);
  };
  const ask = (range: number): void => device.channel?.map(0, fd, 0, range * RANGE, RANGE, () => undefined);
  const give = (range: number): void => device.channel?.unmap(0, range * RANGE, RANGE, () => undefined);
  assert.ok(isMemory(fd));
  ask(0);
  assert.equal(isMemory(fd), false, 'QEMU may speak of it before we have its answer');
  // Another descriptor of the same file is as good.
  const second = duplicate(fd);
  assert.equal(isMemory(second), false);
  close(second);
  assert.ok(isMemory(other));
  done(MAP);
  ask(1);
  done(MAP);
  give(0);
  done(UNMAP);
  assert.equal(isMemory(fd), false, 'one range of it is left');
  give(1);
  done(UNMAP);
  assert.ok(isMemory(fd), 'it is a file as others');
  ask(0);
  done(MAP, false);
  assert.ok(isMemory(fd), 'it was not mapped');
  // The guest was reset, and QEMU has unmapped all: the range is mapped anew, and unmapped once.
  ask(0);
  done(MAP);
  ask(0);
  done(MAP);
  give(0);
  done(UNMAP);
  assert.ok(isMemory(fd));
  ask(0);
  done(MAP);
  vmm.openBackendChannel(t);
  assert.equal(isMemory(fd), false, 'what is mapped stays so when the channel goes');
  assert.deepEqual(device.warnings, []);
});

test('a device without windows sees those of another device of its VM, and takes none for memory', (t) => {
  const { vmm, device, queue } = start(t, undefined);
  const lens = file(t, LENS_BYTES);
  assert.ok(vmm.addRange(0, lens));
  vmm.startQueue(queue);
  assert.equal(vmm.addRange(1, lens), false);
  assert.ok(vmm.removeRange(1));
  assert.ok(vmm.removeRange(0));
  assert.equal(device.regions.length, 1);
  assert.deepEqual(device.warnings, []);
});

test('ranges of a window in a whole table are passed over', (t) => {
  const { vmm, device, queue } = start(t, [512 * MIB]);
  const lens = file(t, LENS_BYTES);
  const memory = vmm.makeRegion(64 * MIB, MIB);
  const described = [vmm.range(0), memory, vmm.range(1)].map((each) => regionPayload(each).subarray(8));
  const table = concat(words(3, 0), ...described);
  vmm.startQueue(queue);
  const before = descriptors();
  assert.ok(vmm.does('SET_MEM_TABLE', table, [lens, memory.fd, lens]));
  assert.deepEqual(
    device.regions.map((each) => each.guestAddress),
    [64 * MIB],
  );
  assert.equal(descriptors(), before);
});

test('what cannot be looked at is refused as memory', (t) => {
  const { vmm, device } = start(t, [512 * MIB]);
  const before = descriptors();
  const event = eventfd();
  assert.equal(vmm.addRange(0, event), false);
  close(event);
  assert.equal(descriptors(), before);
  assert.equal(device.warnings.length, 1);
});

test('a thousand refused ranges that are never taken back are forgotten in their order', (t) => {
  const { vmm, device, queue } = start(t, [512 * MIB]);
  const lens = file(t, LENS_BYTES);
  vmm.startQueue(queue);
  for (let range = 0; range < 1000; range += 1) assert.equal(vmm.addRange(range, lens), false);
  assert.ok(vmm.removeRange(999));
  assert.ok(vmm.removeRange(488));
  assert.equal(vmm.removeRange(487), false);
  assert.equal(device.regions.length, 1);
});

test('a front-end is asked for a map, does it and says so', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'socket');
  const listening = listenUnix(path);
  t.after(() => close(listening));
  const backend = new Worker(new URL('window-server.ts', import.meta.url), { workerData: { listening } });
  const heard = new Promise((resolve, reject) => backend.on('message', resolve).on('error', reject));
  const frontEnd = FrontEnd.connect(path);
  t.after(() => frontEnd.close());
  assert.deepEqual(frontEnd.sharedMemory(), [0, 4 * MIB]);
  const requests = frontEnd.openBackendChannel();
  t.after(() => requests.close());
  // A device that stands still asks for nothing: QEMU would not survive it.
  frontEnd.request('SET_VRING_ENABLE', words(0, 1));
  const request = requests.receive();
  assert.ok(request?.fd);
  const { fd, ...rest } = request;
  const place = { shmid: 1, fdOffset: 4096, shmOffset: RANGE, length: RANGE };
  assert.deepEqual(rest, { code: MAP, ...place, writable: true, needsReply: true });
  requests.reply(request, true);
  const { guestAddress, userAddress } = { guestAddress: 2 ** 33, userAddress: 2 ** 40 };
  frontEnd.request('ADD_MEM_REG', regionPayload({ guestAddress, userAddress, sizeBytes: RANGE, mmapOffset: 4096 }), [
    fd,
  ]);
  close(fd);
  assert.equal(await heard, true);
});
