import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GuestMemory } from '../memory/index.ts';
import { Chain, DeviceQueue, DriverQueue, type DriverQueueOptions, POP_CHAIN } from './index.ts';

const BASE = 0x8000;
const DATA = 0x2_0000;
const READABLE = [
  { address: DATA, length: 40 },
  { address: DATA + 0x100, length: 8 },
];
const WRITABLE = [{ address: DATA + 0x200, length: 16 }];

function rig(over: Partial<DriverQueueOptions> = {}) {
  const memory = new GuestMemory();
  const buffer = new ArrayBuffer(0x4_0000);
  memory.add({ guestAddress: 0, sizeBytes: buffer.byteLength, userAddress: 0, hostAddress: 0x10_0000, buffer });
  const driver = new DriverQueue(memory, { size: 8, guestAddress: BASE, eventIdx: false, indirectEntries: 4, ...over });
  const device = new DeviceQueue(memory, 0);
  device.start({
    size: driver.size,
    descriptorTable: 0x10_0000 + driver.descriptorTable,
    availableRing: 0x10_0000 + driver.availableRing,
    usedRing: 0x10_0000 + driver.usedRing,
    eventIdx: over.eventIdx ?? false,
    indirect: true,
    nextAvailable: over.nextIndex ?? 0,
  });
  return { driver, device, chain: new Chain(), bytes: new DataView(buffer) };
}

test('rings are laid one after another and take the bytes that are announced', () => {
  const { driver } = rig();
  assert.equal(driver.descriptorTable, BASE);
  assert.equal(driver.availableRing, BASE + 128);
  assert.equal(driver.usedRing, BASE + 128 + 24);
  assert.equal(DriverQueue.bytes(8), 128 + 24 + 72);
  assert.equal(DriverQueue.bytes(8, 4), DriverQueue.bytes(8) + 8 * 4 * 16);
});

test('rings that do not fit into guest memory or into the rules are refused', () => {
  for (const [over, code] of [
    [{ guestAddress: 0x4_0000 - 16 }, 'OUTSIDE'],
    [{ guestAddress: BASE + 8 }, 'ALIGNMENT'],
    [{ size: 12 }, 'SIZE'],
  ] as const) {
    assert.throws(() => rig(over), { name: 'QueueError', code });
  }
});

test('a chain goes to the device and comes back with the bytes written', () => {
  for (const options of [undefined, { indirect: true }, { indirect: true, directFirst: 2 }]) {
    const { driver, device, chain } = rig();
    const head = driver.add(READABLE, WRITABLE, options);
    assert.equal(device.pop(chain), 0);
    assert.equal(driver.publish(), true);
    assert.equal(device.pop(chain), POP_CHAIN, device.lastError);
    assert.deepEqual([chain.head, chain.descriptors], [head, 3]);
    assert.deepEqual([chain.readable.bytes, chain.writable.bytes], [48, 16]);
    assert.equal(driver.collect(), -1);
    device.push(head, 11);
    device.publish();
    assert.equal(driver.collect(), head);
    assert.equal(driver.collectedBytes, 11);
    assert.equal(driver.collect(), -1);
    assert.equal(driver.freeDescriptors, 8);
  }
});

test('a chain that needs more descriptors than are free is refused and changes nothing', () => {
  const { driver, device, chain } = rig();
  const heads = [driver.add(READABLE, WRITABLE), driver.add(READABLE, WRITABLE)];
  assert.equal(driver.freeDescriptors, 2);
  assert.equal(driver.add(READABLE, WRITABLE), -1);
  assert.equal(driver.add(READABLE, WRITABLE, { indirect: true, directFirst: 2 }), -1);
  assert.notEqual(driver.add(READABLE, WRITABLE, { indirect: true, directFirst: 1 }), -1);
  assert.equal(driver.freeDescriptors, 0);
  driver.publish();
  // Back in the other order, then everything again.
  for (let i = 0; i < 3; i += 1) assert.equal(device.pop(chain), POP_CHAIN);
  const returned = heads.toReversed();
  for (const head of returned) device.push(head, 0);
  device.publish();
  assert.deepEqual([driver.collect(), driver.collect(), driver.collect()], [...returned, -1]);
  assert.equal(driver.freeDescriptors, 6);
  driver.add(READABLE, WRITABLE);
  driver.add(READABLE, WRITABLE);
  assert.equal(driver.publish(), true);
  for (let i = 0; i < 2; i += 1) assert.equal(device.pop(chain), POP_CHAIN);
});

test('a chain without buffers, or with too many for its table, is a bug of ours', () => {
  const { driver } = rig();
  assert.throws(() => driver.add([], []), { name: 'AssertionError' });
  assert.throws(() => driver.add(READABLE, [...WRITABLE, ...WRITABLE, ...WRITABLE], { indirect: true }), {
    name: 'AssertionError',
  });
  assert.throws(() => driver.add(READABLE, WRITABLE, { indirect: true, directFirst: 3 }), { name: 'AssertionError' });
});

test('a used element that names no chain of ours is told from none', () => {
  const { driver, bytes } = rig();
  const head = driver.add(READABLE, WRITABLE);
  driver.publish();
  for (const id of [8, 0xffff_ffff, (head + 1) % 8]) {
    bytes.setUint32(driver.usedRing + 4, id, true);
    bytes.setUint16(driver.usedRing + 2, 1, true);
    assert.equal(driver.collect(), -2);
  }
  bytes.setUint32(driver.usedRing + 4, head, true);
  assert.equal(driver.collect(), head);
  // The same head once more.
  bytes.setUint32(driver.usedRing + 12, head, true);
  bytes.setUint16(driver.usedRing + 2, 2, true);
  assert.equal(driver.collect(), -2);
});

test('kicks follow the flag of the device, or its avail_event', () => {
  for (const eventIdx of [false, true]) {
    const { driver, device, chain } = rig({ eventIdx });
    const offer = () => {
      assert.notEqual(driver.add([], WRITABLE), -1);
      return driver.publish();
    };
    assert.equal(offer(), true);
    device.disableNotify();
    assert.equal(offer(), false);
    while (device.pop(chain) === POP_CHAIN) device.push(chain.head, 0);
    assert.equal(device.enableNotify(), false);
    assert.equal(offer(), true);
    assert.equal(driver.publish(), false);
  }
});

test('interrupts follow the flag of the driver, or its used_event', () => {
  for (const eventIdx of [false, true]) {
    const { driver, device, chain } = rig({ eventIdx });
    const use = () => {
      driver.add([], WRITABLE);
      driver.publish();
      assert.equal(device.pop(chain), POP_CHAIN);
      device.push(chain.head, 0);
      return device.publish();
    };
    assert.equal(use(), true);
    driver.disableInterrupts();
    assert.equal(use(), false);
    assert.equal(driver.enableInterrupts(), true);
    while (driver.collect() >= 0);
    assert.equal(driver.enableInterrupts(), false);
    assert.equal(use(), true);
  }
});

test('a queue may begin at any index', () => {
  const { driver, device, chain } = rig({ nextIndex: 65534, eventIdx: true });
  for (let i = 0; i < 5; i += 1) {
    const head = driver.add([], WRITABLE);
    driver.publish();
    assert.equal(device.pop(chain), POP_CHAIN, device.lastError);
    device.push(chain.head, i);
    device.publish();
    assert.equal(driver.collect(), head);
    assert.equal(driver.collectedBytes, i);
  }
  assert.equal(device.stop(), 3);
});
