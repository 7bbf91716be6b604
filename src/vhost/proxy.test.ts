import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type Fd, PAGE_BYTES } from '../core/index.ts';
import { GuestMemory } from '../memory/index.ts';
import { close, eventfd, mapShared, munmap, sealedMemfd, socketPair, viewMemory } from '../sys/index.ts';
import { Chain, DeviceQueue, DriverQueue, POP_CHAIN } from '../virtio/index.ts';
import { MessagePipe } from './message-pipe.ts';
import { codeOf, FRONT_END_BY_CODE, type FrontEndName, HEADER_VERSION, VringAddr } from './messages.ts';
import { memoryTable, u64, vringState } from './payloads.ts';
import { Proxy } from './proxy.ts';

const REQUEST = { address: PAGE_BYTES, length: 4 };
const REPLY = { address: PAGE_BYTES + 16, length: 8 };
const SOON_MS = 10;

interface Rig {
  readonly proxy: Proxy;
  /** Messages and exchanges, as they are told. */
  readonly told: string[];
  /** What is done while a message is told, by its name. */
  readonly meanwhile: Map<string, () => void>;
  readonly frontEnd: MessagePipe;
  readonly backEnd: MessagePipe;
  /** A request goes through the ring and is answered; nobody rings for it. */
  readonly exchange: () => void;
}

function send(pipe: MessagePipe, name: FrontEndName, payload?: Uint8Array, fds: readonly Fd[] = []): void {
  const { buffer } = new Uint8Array(payload ?? []);
  pipe.send({ request: codeOf(name), flags: HEADER_VERSION, payload: new DataView(buffer), fds: [] }, fds);
}

/** Guest memory with a ring that has both its sides here, and what a front-end says of it. */
function sharedRing(t: TestContext) {
  const sizeBytes = 2 * PAGE_BYTES;
  const memfd = sealedMemfd('guest-memory', sizeBytes);
  const hostAddress = mapShared(memfd, sizeBytes, 0);
  const buffer = viewMemory(hostAddress, sizeBytes);
  const kick = eventfd();
  t.after(() => {
    buffer.transfer();
    munmap(hostAddress, sizeBytes);
    for (const fd of [memfd, kick]) close(fd);
  });
  const memory = new GuestMemory();
  memory.add({ guestAddress: 0, sizeBytes, userAddress: hostAddress, hostAddress, buffer });
  const driver = new DriverQueue(memory, { size: 8, guestAddress: 0, eventIdx: false, indirectEntries: 0 });
  const device = new DeviceQueue(memory, 0);
  const descriptorTable = hostAddress + driver.descriptorTable;
  const availableRing = hostAddress + driver.availableRing;
  const usedRing = hostAddress + driver.usedRing;
  const rings = { descriptorTable, availableRing, usedRing, size: driver.size };
  device.start({ ...rings, eventIdx: false, indirect: false, nextAvailable: 0 });
  const addresses = new DataView(new ArrayBuffer(VringAddr.bytes));
  VringAddr.set.descUserAddr(addresses, 0, descriptorTable);
  VringAddr.set.availUserAddr(addresses, 0, availableRing);
  VringAddr.set.usedUserAddr(addresses, 0, usedRing);
  const table = memoryTable([{ guestAddress: 0, sizeBytes, userAddress: hostAddress, mmapOffset: 0 }]);
  return { driver, device, kick, memfd, table, addresses: new Uint8Array(addresses.buffer) };
}

/** A proxy with a queue 0 that works. */
function rig(t: TestContext): Rig {
  const ring = sharedRing(t);
  const [outside, outsideProxy] = socketPair();
  const [insideProxy, inside] = socketPair();
  const [frontEnd, backEnd] = [new MessagePipe(outside, 'proxy'), new MessagePipe(inside, 'proxy')];
  const told: string[] = [];
  const meanwhile = new Map<string, () => void>();
  const proxy = new Proxy(outsideProxy, insideProxy, {
    clock: () => 0,
    requestBytes: REQUEST.length,
    replyBytes: () => REPLY.length,
    message: (_sender, { request }) => {
      const name = FRONT_END_BY_CODE.get(request)?.name ?? `${request}`;
      told.push(name);
      meanwhile.get(name)?.();
    },
    exchanged: (queue) => void told.push(`exchange on ${queue}`),
    missed: (queue, count) => void told.push(`${count} missed on ${queue}`),
    warn: (message) => void told.push(message),
  });
  t.after(() => {
    for (const each of [proxy, frontEnd, backEnd]) each.close();
  });
  send(frontEnd, 'SET_MEM_TABLE', ring.table, [ring.memfd]);
  send(frontEnd, 'SET_VRING_NUM', vringState(0, ring.driver.size));
  send(frontEnd, 'SET_VRING_ADDR', ring.addresses);
  send(frontEnd, 'SET_VRING_KICK', u64(0), [ring.kick]);
  proxy.turn(SOON_MS);
  assert.deepEqual(told.splice(0), ['SET_MEM_TABLE', 'SET_VRING_NUM', 'SET_VRING_ADDR', 'SET_VRING_KICK']);
  const exchange = (): void => {
    const head = ring.driver.add([REQUEST], [REPLY]);
    ring.driver.publish();
    assert.equal(ring.device.pop(new Chain()), POP_CHAIN, ring.device.lastError);
    ring.device.push(head, REPLY.length);
    ring.device.publish();
    assert.equal(ring.driver.collect(), head);
  };
  return { proxy, told, meanwhile, frontEnd, backEnd, exchange };
}

test("what the rings had before the front-end's next message is told before it", (t) => {
  const { proxy, told, meanwhile, frontEnd, exchange } = rig(t);
  meanwhile.set('GET_STATUS', () => {
    exchange();
    send(frontEnd, 'SET_VRING_ENABLE', vringState(0, 0));
  });
  send(frontEnd, 'GET_STATUS');
  proxy.turn(SOON_MS);
  assert.deepEqual(told, ['GET_STATUS', 'exchange on 0', 'SET_VRING_ENABLE']);
});

test("so is what they had before the back-end's answer", (t) => {
  const { proxy, told, meanwhile, backEnd, exchange } = rig(t);
  meanwhile.set('GET_STATUS', () => {
    exchange();
    send(backEnd, 'GET_VRING_BASE', vringState(0, 1));
  });
  send(backEnd, 'GET_STATUS', u64(0));
  proxy.turn(SOON_MS);
  assert.deepEqual(told, ['GET_STATUS', 'exchange on 0', 'GET_VRING_BASE']);
});
