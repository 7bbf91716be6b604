/** A driver and a device on the same memory: what a request costs before and after it is served. */
import { GuestMemory } from '../../src/memory/index.ts';
import { type AddOptions, Chain, DeviceQueue, DIRECT, DriverQueue, POP_CHAIN } from '../../src/virtio/index.ts';
import type { MicroBench, MicroGroup } from './bench.ts';

/** Above 4 GiB, and far above 2^31 on the host, as guests have it: numbers that V8 cannot keep as small integers. */
const GUEST_BASE = 2 ** 33;
const HOST_BASE = 0x7f00_0000_0000;
const MEMORY_BYTES = 0x4_0000;
const BUFFERS_AT = GUEST_BASE + 0x2_0000;
const QUEUE_SIZE = 256;
const BATCH = 16;
const REPLY_BYTES = 120;

/** As a GETATTR of Linux: header and body, then room for the reply's header and body. */
const READABLE = [
  { address: BUFFERS_AT, length: 40 },
  { address: BUFFERS_AT + 0x100, length: 16 },
];
const WRITABLE = [
  { address: BUFFERS_AT + 0x200, length: 16 },
  { address: BUFFERS_AT + 0x300, length: 104 },
];

class Ring {
  readonly #memory = new GuestMemory();
  readonly #driver: DriverQueue;
  readonly #device: DeviceQueue;
  readonly #chain = new Chain();
  readonly #options: AddOptions;

  constructor(options: AddOptions) {
    this.#options = options;
    const buffer = new SharedArrayBuffer(MEMORY_BYTES);
    const hostAddress = HOST_BASE;
    const region = { guestAddress: GUEST_BASE, sizeBytes: MEMORY_BYTES, userAddress: hostAddress, hostAddress, buffer };
    this.#memory.add(region);
    const memory = this.#memory;
    const shape = { size: QUEUE_SIZE, guestAddress: GUEST_BASE, eventIdx: true, indirectEntries: 8 };
    const driver = new DriverQueue(memory, shape);
    this.#driver = driver;
    this.#device = new DeviceQueue(memory, 0);
    this.#device.start({
      size: QUEUE_SIZE,
      descriptorTable: memory.hostOfGuest(driver.descriptorTable, 1),
      availableRing: memory.hostOfGuest(driver.availableRing, 1),
      usedRing: memory.hostOfGuest(driver.usedRing, 1),
      eventIdx: true,
      indirect: true,
      nextAvailable: 0,
    });
  }

  /** So many chains, from being added to being collected; the device publishes once. */
  round(chains: number): void {
    const driver = this.#driver;
    const device = this.#device;
    for (let i = 0; i < chains; i += 1) {
      if (driver.add(READABLE, WRITABLE, this.#options) === -1) throw new Error('there is no room in the ring');
    }
    driver.publish();
    device.disableNotify();
    for (let i = 0; i < chains; i += 1) {
      if (device.pop(this.#chain) !== POP_CHAIN) throw new Error(`no chain: ${device.lastError}`);
      device.push(this.#chain.head, REPLY_BYTES);
    }
    device.publish();
    device.enableNotify();
    for (let i = 0; i < chains; i += 1) {
      if (driver.collect() < 0) throw new Error('a chain was not given back');
    }
    driver.enableInterrupts();
  }
}

function benchOf(kind: string, options: AddOptions, chains: number): MicroBench {
  const ring = new Ring(options);
  const many = chains === 1 ? 'a chain of 4' : `${chains} chains of 4`;
  return { name: `ring: ${many}, ${kind}`, run: () => ring.round(chains) };
}

export function openRingBenches(): MicroGroup {
  const benches = [1, BATCH].flatMap((chains) => [
    benchOf('direct', DIRECT, chains),
    benchOf('indirect', { indirect: true }, chains),
  ]);
  return { benches, [Symbol.dispose]: () => undefined };
}
