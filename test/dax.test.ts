/** The DAX window, from a guest without a VM: the test is the VMM that maps, or does not. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { lensRefusal, RANGE_BYTES } from '../src/coherence/index.ts';
import { EBADF, EINVAL, EIO, ESTALE } from '../src/core/index.ts';
import { opcodes, RemovemappingIn, RemovemappingOne, SetupmappingIn } from '../src/fuse/index.ts';
import { close, mapShared, munmap, O_CREAT, O_RDWR, O_TRUNC, viewMemory, waitReadable } from '../src/sys/index.ts';
import { BackendRequest, type BackendRequests, type WindowRequest } from '../src/vhost/index.ts';
import { commonDaemon } from './daemon.ts';
import { body, concat } from './fuse.ts';
import type { FuseRequest, Posted } from './guest.ts';
import { Mount, ROOT } from './mount.ts';
import { regionPayload } from './raw-front-end.ts';

const RANGES = 4;
/** Where this machine has its window. */
const WINDOW_AT = 2 ** 36;
const refusal = lensRefusal();
const skip = refusal === undefined ? false : `no lens can be made here: ${refusal}`;

const ARGS = ['--tag', 'share', '--dax-window', `${RANGES * RANGE_BYTES}`, '--stay', '--log-level', 'error'];
const daemon = skip === false ? commonDaemon({ args: ARGS }) : (): never => assert.fail();

/** A guest with two files, and its VMM. */
class Machine {
  readonly mount = Mount.connect(daemon().socketPath);
  readonly vmm: BackendRequests;
  readonly a: bigint;
  readonly b: bigint;
  /** What it shows, by the offset in the window. */
  readonly #mapped = new Map<number, WindowRequest>();

  constructor(t: TestContext) {
    for (const file of ['a', 'b']) writeFileSync(join(daemon().share, file), file.repeat(5000));
    this.vmm = this.mount.guest.frontEnd.openBackendChannel();
    this.a = this.mount.lookup(ROOT, 'a').nodeid;
    this.b = this.mount.lookup(ROOT, 'b').nodeid;
    t.after(() => {
      for (const { fd } of this.#mapped.values()) close(fd as number);
      this.vmm.close();
      this.mount.guest.close();
    });
  }

  /** The request of the daemon that is next. */
  next(code: number): WindowRequest {
    const request = this.vmm.receive();
    assert.ok(request, 'the daemon has closed the channel');
    assert.equal(request.code, code);
    return request;
  }

  /** Does as it is asked, as QEMU does: it answers, and then speaks of a range as memory. */
  map(): WindowRequest {
    const request = this.next(BackendRequest.SHMEM_MAP);
    this.vmm.reply(request, true);
    this.commit(request);
    return request;
  }

  /** Maps. */
  commit(request: WindowRequest): void {
    this.#mapped.set(request.shmOffset, request);
    this.#speak();
  }

  unmap(): WindowRequest {
    const request = this.next(BackendRequest.SHMEM_UNMAP);
    this.vmm.reply(request, true);
    close(this.#mapped.get(request.shmOffset)?.fd as number);
    this.#mapped.delete(request.shmOffset);
    this.#speak();
    return request;
  }

  /** QEMU 11.1 goes through what it has mapped from the lowest on, up to what is refused: the daemon refuses all. */
  #speak(): void {
    const first = this.#mapped.get(Math.min(...this.#mapped.keys()));
    if (first === undefined) return;
    const { fd, shmOffset, fdOffset, length } = first;
    const guestAddress = WINDOW_AT + shmOffset;
    const region = { guestAddress, userAddress: 2 ** 40 + shmOffset, sizeBytes: length, mmapOffset: fdOffset };
    this.mount.guest.frontEnd.request('ADD_MEM_REG', regionPayload(region), [fd as number]);
  }

  post(request: FuseRequest): Posted {
    return this.mount.guest.post(request);
  }

  answer(posted: Posted, errno = 0): void {
    this.mount.guest.answer(posted, errno);
  }

  /** Has a range show a file. */
  show(nodeid: bigint, range: number): void {
    const posted = this.post(setup(nodeid, range));
    this.map();
    this.answer(posted);
  }
}

/** SETUPMAPPING of the first 2 MiB of a file. */
function setup(nodeid: bigint, range: number, fields: { foffset?: number; moffset?: number } = {}): FuseRequest {
  const place = { fh: 2n ** 64n - 1n, foffset: 0, len: RANGE_BYTES, flags: 2, moffset: range * RANGE_BYTES, ...fields };
  return { opcode: opcodes.SETUPMAPPING.code, nodeid, body: body(SetupmappingIn, place) };
}

function remove(nodeid: bigint, ...moffsets: number[]): FuseRequest {
  const ones = moffsets.map((moffset) => body(RemovemappingOne, { moffset, len: RANGE_BYTES }));
  const rest = concat(body(RemovemappingIn, { count: ones.length }), ...ones);
  return { opcode: opcodes.REMOVEMAPPING.code, nodeid, body: rest };
}

test('a range is there when the VMM has mapped it, not when it has answered', { skip }, (t) => {
  const machine = new Machine(t);
  const posted = machine.post(setup(machine.a, 2));
  const request = machine.next(BackendRequest.SHMEM_MAP);
  const { shmid, fdOffset, shmOffset, length } = request;
  assert.deepEqual([shmid, fdOffset, shmOffset, length], [0, 0, 2 * RANGE_BYTES, RANGE_BYTES]);
  const address = mapShared(request.fd as number, RANGE_BYTES, 0);
  assert.equal(Buffer.from(viewMemory(address, 5001)).toString(), `${'a'.repeat(5000)}\0`);
  machine.vmm.reply(request, true);
  // Others are served meanwhile, so that the answer has been heard.
  machine.mount.getattr(machine.a);
  assert.equal(machine.mount.guest.isAnswered(posted), false);
  machine.commit(request);
  machine.answer(posted);
  munmap(address, RANGE_BYTES);
});

test('a VMM speaks of the range again that it was refused first, and the next is there all the same', { skip }, (t) => {
  const machine = new Machine(t);
  machine.show(machine.a, 0);
  machine.show(machine.b, 1);
  const posted = machine.post(setup(machine.a, 2));
  const request = machine.next(BackendRequest.SHMEM_MAP);
  machine.vmm.reply(request, true);
  machine.mount.getattr(machine.a);
  assert.equal(machine.mount.guest.isAnswered(posted), false);
  machine.commit(request);
  machine.answer(posted);
});

test('a range that is there is there to be written to, without the VMM', { skip }, (t) => {
  const machine = new Machine(t);
  machine.show(machine.a, 0);
  machine.answer(machine.post(setup(machine.a, 0)));
});

test('a range that shows one file is unmapped before it shows another', { skip }, (t) => {
  const machine = new Machine(t);
  machine.show(machine.a, 1);
  const posted = machine.post(setup(machine.b, 1));
  assert.equal(machine.unmap().shmOffset, RANGE_BYTES);
  assert.equal(machine.mount.guest.isAnswered(posted), false);
  machine.map();
  machine.answer(posted);
});

test('what the VMM refuses to map is an error, and asked for again next time', { skip }, (t) => {
  const machine = new Machine(t);
  const posted = machine.post(setup(machine.a, 0));
  const request = machine.next(BackendRequest.SHMEM_MAP);
  close(request.fd as number);
  machine.vmm.reply(request, false);
  machine.answer(posted, -EIO);
  machine.show(machine.a, 0);
});

test('ranges that are given back are answered for at once, and an unmount when all are', { skip }, (t) => {
  const machine = new Machine(t);
  for (const range of [0, 1, 2]) machine.show(machine.a, range);
  machine.answer(machine.post(remove(machine.a, 0, RANGE_BYTES)));
  const posted = machine.post({ opcode: opcodes.DESTROY.code });
  const unmapped = [machine.unmap(), machine.unmap()];
  assert.equal(machine.mount.guest.isAnswered(posted), false);
  unmapped.push(machine.unmap());
  machine.answer(posted);
  assert.deepEqual(new Set(unmapped.map(({ shmOffset }) => shmOffset / RANGE_BYTES)), new Set([0, 1, 2]));
});

test('a guest that would create what another has made meanwhile, and empty it, is to look again', { skip }, (t) => {
  const machine = new Machine(t);
  const flags = O_RDWR | O_CREAT | O_TRUNC;
  machine.mount.create(ROOT, 'a', { flags, mode: 0o644 }, ESTALE);
  assert.equal(machine.mount.getattr(machine.a).size, 5000n);
});

test('a device that stands still asks its VMM for nothing', { skip }, (t) => {
  const machine = new Machine(t);
  const { guest } = machine.mount;
  const posted = machine.post(setup(machine.a, 0));
  const request = machine.next(BackendRequest.SHMEM_MAP);
  const waiting = machine.post(setup(machine.b, 1));
  const base = guest.stopQueue(1);
  machine.vmm.reply(request, true);
  machine.commit(request);
  // Its answer comes after all that it has to say to that.
  guest.frontEnd.queueCount();
  assert.equal(waitReadable(machine.vmm.fd, 0), false);
  guest.resumeQueue(1, base);
  machine.answer(posted);
  assert.equal(machine.map().shmOffset, RANGE_BYTES);
  machine.answer(waiting);
});

test('a guest maps nothing that is no file of its own, and nothing outside its window', { skip }, (t) => {
  const machine = new Machine(t);
  machine.answer(machine.post(setup(ROOT, 0)), -EINVAL);
  machine.answer(machine.post(setup(4711n, 0)), -EBADF);
  machine.answer(machine.post(setup(machine.a, RANGES)), -EINVAL);
  machine.answer(machine.post(setup(machine.a, 0, { foffset: 4096 })), -EINVAL);
  machine.answer(machine.post(setup(machine.a, 0, { moffset: 4096 })), -EINVAL);
  machine.answer(machine.post(remove(machine.a, RANGES * RANGE_BYTES)), -EINVAL);
  const short = { ...remove(machine.a, 0, 0), body: remove(machine.a, 0, 0).body?.subarray(0, 20) };
  machine.answer(machine.post(short), -EINVAL);
});
