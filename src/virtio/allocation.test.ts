/**
 * The steady state allocates nothing. Shown by counting garbage collections, in a process of its own whose young
 * generation holds no more than 1 MiB a half: one heap number (16 bytes) a round would already be 16 MB in a million.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { PerformanceObserver } from 'node:perf_hooks';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { GuestMemory, gather, Segments, scatter } from '../memory/index.ts';
import { type AddOptions, Chain, DeviceQueue, DIRECT, DriverQueue, POP_BAD_CHAIN, POP_CHAIN } from './index.ts';

const ROUNDS = 1_000_000;
const WARM_UP_ROUNDS = 200_000;
/** A collection may be due to what was there before. */
const COLLECTIONS_MAX = 3;
const CHILD = 'VIRTIO_ALLOCATION_SCENARIO';

/** Above 4 GiB, and far above 2^31 on the host: numbers that V8 cannot keep as small integers. */
const GUEST_BASE = 2 ** 33;
const REGION_BYTES = 0x4_0000;
const QUEUE_SIZE = 64;

function makeMemory(): GuestMemory {
  const memory = new GuestMemory();
  for (let i = 0; i < 2; i += 1) {
    const guestAddress = GUEST_BASE + i * 2 ** 32;
    const hostAddress = 0x7f00_0000_0000 + i * 2 ** 36;
    const buffer = new SharedArrayBuffer(REGION_BYTES);
    memory.add({ guestAddress, sizeBytes: REGION_BYTES, userAddress: hostAddress, hostAddress, buffer });
  }
  return memory;
}

/** One request of four descriptors, from adding to collecting; buffers in both regions. */
function queueRounds(eventIdx: boolean, options: AddOptions): (rounds: number) => void {
  const memory = makeMemory();
  const driver = new DriverQueue(memory, { size: QUEUE_SIZE, guestAddress: GUEST_BASE, eventIdx, indirectEntries: 8 });
  const device = new DeviceQueue(memory, 0);
  device.start({
    size: QUEUE_SIZE,
    descriptorTable: memory.hostOfGuest(driver.descriptorTable, 1),
    availableRing: memory.hostOfGuest(driver.availableRing, 1),
    usedRing: memory.hostOfGuest(driver.usedRing, 1),
    eventIdx,
    indirect: true,
    nextAvailable: 0,
  });
  const near = GUEST_BASE + 0x1_0000;
  const far = GUEST_BASE + 2 ** 32 + 0x100;
  const readable = [
    { address: near, length: 40 },
    { address: far, length: 41 },
  ];
  const writable = [
    { address: near + 0x1000, length: 16 },
    { address: far + 0x1001, length: 104 },
  ];
  const chain = new Chain();
  const scratch = new Uint8Array(256);
  return (rounds) => {
    for (let i = 0; i < rounds; i += 1) {
      if (driver.add(readable, writable, options) === -1) throw new Error('no room');
      driver.publish();
      device.disableNotify();
      if (device.pop(chain) !== POP_CHAIN) throw new Error(device.lastError);
      gather(memory, chain.readable, 0, scratch, 0, 81);
      scatter(memory, chain.writable, 0, scratch, 128, 120);
      device.push(chain.head, 120);
      device.publish();
      device.enableNotify();
      if (driver.collect() !== chain.head) throw new Error('not the chain that was added');
      driver.enableInterrupts();
    }
  };
}

/** What a hostile driver costs: bad chains, one after another. */
function badRounds(): (rounds: number) => void {
  const memory = makeMemory();
  const driver = new DriverQueue(memory, { size: 4, guestAddress: GUEST_BASE, eventIdx: true });
  const device = new DeviceQueue(memory, 0);
  device.start({
    size: 4,
    descriptorTable: memory.hostOfGuest(driver.descriptorTable, 1),
    availableRing: memory.hostOfGuest(driver.availableRing, 1),
    usedRing: memory.hostOfGuest(driver.usedRing, 1),
    eventIdx: true,
    indirect: true,
    nextAvailable: 0,
  });
  const outside = [{ address: 2 ** 52 + 4096, length: 0xffff_ffff }];
  const chain = new Chain();
  return (rounds) => {
    for (let i = 0; i < rounds; i += 1) {
      driver.add(outside, outside);
      driver.publish();
      if (device.pop(chain) !== POP_BAD_CHAIN) throw new Error('accepted');
      device.push(chain.head, 0);
      device.publish();
      driver.collect();
    }
  };
}

/** The way of a descriptor that lies over regions, and of addresses that come as one number. */
function appendRounds(): (rounds: number) => void {
  const memory = new GuestMemory(4096);
  const at = { guestAddress: GUEST_BASE, userAddress: 0, hostAddress: 0x7f00_0000_0000 };
  memory.add({ ...at, sizeBytes: REGION_BYTES, buffer: new ArrayBuffer(REGION_BYTES) });
  const segments = new Segments();
  return (rounds) => {
    for (let i = 0; i < rounds; i += 1) {
      segments.clear();
      memory.appendWords(segments, 4000, 2, 5000);
      if (!memory.append(segments, GUEST_BASE + (i & 0xfff), 4096)) throw new Error('outside');
    }
  };
}

/** The control: one small object a round must be seen. */
function allocatingRounds(): (rounds: number) => void {
  const kept: object[] = [{}];
  return (rounds) => {
    for (let i = 0; i < rounds; i += 1) kept[0] = { round: i };
  };
}

const SCENARIOS: Record<string, () => (rounds: number) => void> = {
  'direct descriptors with EVENT_IDX': () => queueRounds(true, DIRECT),
  'direct descriptors with flags': () => queueRounds(false, DIRECT),
  'indirect descriptors with EVENT_IDX': () => queueRounds(true, { indirect: true }),
  'indirect descriptors with flags': () => queueRounds(false, { indirect: true }),
  'bad chains': badRounds,
  'pieces over borders': appendRounds,
};
const CONTROL = 'an object a round';

/** In the child: prints the number of collections. */
async function measure(scenario: string): Promise<void> {
  const rounds = scenario === CONTROL ? allocatingRounds() : SCENARIOS[scenario]();
  rounds(WARM_UP_ROUNDS);
  const starts: number[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) starts.push(entry.startTime);
  });
  observer.observe({ entryTypes: ['gc'] });
  const begin = performance.now();
  rounds(ROUNDS);
  const end = performance.now();
  // The entries are handed over by tasks of the event loop.
  for (let i = 0; i < 10; i += 1) await new Promise((resolve) => setImmediate(resolve));
  process.stdout.write(`${starts.filter((start) => start >= begin && start <= end).length}\n`);
}

function collections(scenario: string): number {
  const file = fileURLToPath(import.meta.url);
  const child = spawnSync(process.execPath, ['--max-semi-space-size=1', file], {
    env: { ...process.env, [CHILD]: scenario, NODE_TEST_CONTEXT: undefined, NODE_OPTIONS: '' },
    encoding: 'utf8',
  });
  assert.equal(child.status, 0, child.stderr);
  assert.match(child.stdout, /^\d+\n$/);
  return Number(child.stdout);
}

const scenario = process.env[CHILD];
if (scenario === undefined) {
  test('the count sees one object a round', () => {
    assert(collections(CONTROL) > COLLECTIONS_MAX);
  });
  for (const name of Object.keys(SCENARIOS)) {
    test(`a million rounds allocate nothing: ${name}`, (t) => {
      const count = collections(name);
      t.diagnostic(`${count} garbage collections`);
      assert(count <= COLLECTIONS_MAX, `${count} garbage collections`);
    });
  }
} else {
  await measure(scenario);
}
