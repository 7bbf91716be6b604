/** Driver and device together, each checked against what the other was told, in random order and random cuts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GuestMemory, gather, type Segments, scatter } from '../memory/index.ts';
import {
  Chain,
  DeviceQueue,
  DriverQueue,
  type GuestBuffer,
  POP_BAD_CHAIN,
  POP_BROKEN,
  POP_CHAIN,
  POP_NOTHING,
} from './index.ts';

const RINGS_BYTES = 0x1_0000;
/** Buffers lie in small regions: neighbours for the guest, in reverse order and apart for the host. */
const REGION_BYTES = 0x200;
const REGIONS = 40;
const TABLE_ENTRIES = 12;

interface Setup {
  size: number;
  eventIdx: boolean;
  nextIndex: number;
  windowBytes: number;
  start: number;
}

interface Request {
  readable: GuestBuffer[];
  writable: GuestBuffer[];
  content: Uint8Array;
  reply: Uint8Array | undefined;
}

type Step =
  | { kind: 'add'; readable: number[]; writable: number[]; gap: number; shape: 'direct' | 'indirect' | 'mixed' }
  | { kind: 'kick' | 'pop' | 'use' | 'publish' | 'collect' | 'sleep' | 'rest' | 'restart'; pick: number };

class Model {
  readonly memory: GuestMemory;
  readonly driver: DriverQueue;
  readonly device: DeviceQueue;
  readonly setup: Setup;
  readonly requests = new Map<number, Request>();
  /** Popped and not pushed. */
  readonly inFlight: number[] = [];
  added = 0;
  collected = 0;
  deviceAwake = false;
  driverAwake = false;
  readonly #bytes: Uint8Array[] = [];
  readonly #chain = new Chain();
  #nextByte = RINGS_BYTES;

  constructor(setup: Setup) {
    this.setup = setup;
    this.memory = new GuestMemory(setup.windowBytes);
    const region = (guestAddress: number, hostAddress: number, sizeBytes: number): void => {
      const buffer = new ArrayBuffer(sizeBytes);
      this.memory.add({
        guestAddress: setup.start + guestAddress,
        userAddress: hostAddress,
        hostAddress,
        sizeBytes,
        buffer,
      });
      this.#bytes.push(new Uint8Array(buffer));
    };
    region(0, 0x9000_0000_0000, RINGS_BYTES);
    for (let i = 0; i < REGIONS; i += 1) region(RINGS_BYTES + i * REGION_BYTES, 2 ** 40 - i * 0x1000, REGION_BYTES);
    const { size, eventIdx, nextIndex } = setup;
    const guestAddress = setup.start;
    this.driver = new DriverQueue(this.memory, {
      size,
      guestAddress,
      eventIdx,
      nextIndex,
      indirectEntries: TABLE_ENTRIES,
    });
    this.device = new DeviceQueue(this.memory, 0);
    this.startDevice(nextIndex);
    this.driver.enableInterrupts();
  }

  startDevice(nextAvailable: number): void {
    const { size, eventIdx } = this.setup;
    this.device.start({
      size,
      eventIdx,
      indirect: true,
      nextAvailable,
      descriptorTable: this.memory.hostOfGuest(this.driver.descriptorTable, 1),
      availableRing: this.memory.hostOfGuest(this.driver.availableRing, 1),
      usedRing: this.memory.hostOfGuest(this.driver.usedRing, 1),
    });
  }

  /** As it is in the ring. */
  get availableIndex(): number {
    const at = this.driver.availableRing - this.setup.start + 2;
    return this.#bytes[0][at] | (this.#bytes[0][at + 1] << 8);
  }

  set availableIndex(index: number) {
    const at = this.driver.availableRing - this.setup.start + 2;
    this.#bytes[0][at] = index;
    this.#bytes[0][at + 1] = index >> 8;
  }

  byte(address: number, value?: number): number {
    const at = address - this.setup.start - RINGS_BYTES;
    const bytes = this.#bytes[1 + Math.floor(at / REGION_BYTES)];
    if (value !== undefined) bytes[at % REGION_BYTES] = value;
    return bytes[at % REGION_BYTES];
  }

  run(step: Step): void {
    if (step.kind === 'add') this.add(step);
    else if (step.kind === 'kick') this.kick();
    else if (step.kind === 'pop') this.pop(1 + (step.pick % 4));
    else if (step.kind === 'use') this.use(step.pick);
    else if (step.kind === 'publish') this.publish();
    else if (step.kind === 'collect') this.collect();
    else if (step.kind === 'sleep') this.sleepDevice();
    else if (step.kind === 'rest') this.sleepDriver();
    else this.restart();
  }

  add(step: Extract<Step, { kind: 'add' }>): void {
    const cuts = [...step.readable, ...step.writable];
    const room = REGIONS * REGION_BYTES + RINGS_BYTES - this.#nextByte;
    if (cuts.length === 0 || cuts.reduce((sum, length) => sum + length + step.gap, 0) > room) return;
    const place = (length: number): GuestBuffer => {
      const address = this.setup.start + this.#nextByte;
      this.#nextByte += length + step.gap;
      return { address, length };
    };
    const before = this.#nextByte;
    const readable = step.readable.map(place);
    const writable = step.writable.map(place);
    const inTable = { direct: false, indirect: true, mixed: true }[step.shape];
    const directFirst = step.shape === 'mixed' ? Math.min(1, readable.length + writable.length - 1) : 0;
    const head = this.driver.add(readable, writable, { indirect: inTable, directFirst });
    if (head === -1) {
      this.#nextByte = before;
      return;
    }
    assert.equal(this.requests.has(head), false, 'a head in use was given out again');
    this.added += 1;
    const content = new Uint8Array(bytesOf(readable)).map((_, i) => (this.added * 31 + i * 7) & 0xff);
    let at = 0;
    for (const { address, length } of readable)
      for (let i = 0; i < length; i += 1) this.byte(address + i, content[at++]);
    this.requests.set(head, { readable, writable, content, reply: undefined });
  }

  kick(): void {
    if (this.driver.publish()) this.deviceAwake = true;
  }

  pop(times: number): void {
    if (!this.deviceAwake) return;
    this.device.disableNotify();
    for (let i = 0; i < times; i += 1) {
      const result = this.device.pop(this.#chain);
      if (result === POP_NOTHING) return;
      assert.equal(result, POP_CHAIN, this.device.lastError);
      const { head, readable, writable } = this.#chain;
      const request = this.requests.get(head);
      assert(request !== undefined && !this.inFlight.includes(head), 'a chain came twice, or from nowhere');
      assert.deepEqual([readable.bytes, writable.bytes], [request.content.length, bytesOf(request.writable)]);
      const got = new Uint8Array(request.content.length);
      // In two parts, as a header and a body.
      const first = got.length >> 1;
      assert.equal(gather(this.memory, readable, 0, got, 0, first), first);
      gather(this.memory, readable, first, got, first, got.length - first);
      assert.deepEqual(got, request.content);
      request.reply = new Uint8Array(writable.bytes).map((_, k) => (head * 13 + k * 5 + 1) & 0xff);
      assert.equal(scatter(this.memory, writable, 0, request.reply, 0, writable.bytes), writable.bytes);
      this.inFlight.push(head);
    }
  }

  use(pick: number): void {
    if (!this.deviceAwake || this.inFlight.length === 0) return;
    const [head] = this.inFlight.splice(pick % this.inFlight.length, 1);
    const request = this.requests.get(head);
    assert(request?.reply !== undefined);
    // Any length up to all of it may be reported.
    request.reply = request.reply.subarray(0, pick % (request.reply.length + 1));
    this.device.push(head, request.reply.length);
  }

  publish(): void {
    if (this.device.publish()) this.driverAwake = true;
  }

  collect(): void {
    if (!this.driverAwake) return;
    this.driver.disableInterrupts();
    for (;;) {
      const head = this.driver.collect();
      if (head === -1) return;
      const request = this.requests.get(head);
      assert(request?.reply !== undefined, 'a chain came back that was not with the device');
      assert.equal(this.inFlight.includes(head), false);
      assert.equal(this.driver.collectedBytes, request.reply.length);
      const got = request.writable.flatMap(({ address, length }) =>
        Array.from({ length }, (_, i) => this.byte(address + i)),
      );
      assert.deepEqual(got.slice(0, request.reply.length), [...request.reply]);
      this.requests.delete(head);
      this.collected += 1;
    }
  }

  /** A device goes to sleep only when enabling kicks finds nothing. */
  sleepDevice(): void {
    if (this.deviceAwake && this.inFlight.length === 0 && !this.device.enableNotify()) this.deviceAwake = false;
  }

  sleepDriver(): void {
    if (this.driverAwake && !this.driver.enableInterrupts()) this.driverAwake = false;
  }

  restart(): void {
    if (this.inFlight.length > 0) return;
    this.publish();
    this.startDevice(this.device.stop());
    // As vhost-user starts a ring: with a kick.
    this.deviceAwake = true;
  }

  /** Nothing but kicks and interrupts moves either side from here on. */
  settle(): void {
    this.kick();
    for (let i = 0; i < 8; i += 1) {
      this.pop(this.setup.size);
      while (this.deviceAwake && this.inFlight.length > 0) this.use(i);
      this.publish();
      this.sleepDevice();
      this.collect();
      this.sleepDriver();
    }
    assert.equal(this.collected, this.added, 'a wake-up was lost');
    assert.deepEqual([this.requests.size, this.driver.freeDescriptors], [0, this.setup.size]);
    assert.deepEqual([this.deviceAwake, this.driverAwake], [false, false]);
  }
}

function bytesOf(buffers: GuestBuffer[]): number {
  return buffers.reduce((sum, { length }) => sum + length, 0);
}

const setups: fc.Arbitrary<Setup> = fc.record({
  size: fc.constantFrom(1, 2, 4, 8, 16, 64),
  eventIdx: fc.boolean(),
  nextIndex: fc.oneof(fc.constantFrom(0, 65533, 65535), fc.integer({ min: 0, max: 65535 })),
  windowBytes: fc.constantFrom(256, 4096, 2 ** 30),
  start: fc.constantFrom(0, 2 ** 32 - 0x1_0000 - 0x400, 2 ** 33, 2 ** 47),
});

const lengths = fc.array(fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 60 }) }, fc.constantFrom(0, 700)), {
  maxLength: 5,
});

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('add' as const),
        readable: lengths,
        writable: lengths,
        gap: fc.integer({ min: 0, max: 5 }),
        shape: fc.constantFrom('direct' as const, 'indirect' as const, 'mixed' as const),
      }),
    },
    {
      weight: 7,
      arbitrary: fc.record({
        kind: fc.constantFrom(
          ...(['kick', 'pop', 'pop', 'use', 'use', 'publish', 'collect', 'sleep', 'rest', 'restart'] as const),
        ),
        pick: fc.nat(10_000),
      }),
    },
  ),
  { maxLength: 60, size: 'max' },
);

function seedOf(t: { diagnostic(message: string): void }): number {
  const seed = Number(process.env['FC_SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`seed ${seed} (FC_SEED repeats it)`);
  return seed;
}

test('every request comes back exactly once, whole, with its exact length, and no wake-up is lost', (t) => {
  const property = fc.property(setups, steps, (setup, list) => {
    const model = new Model(setup);
    for (const step of list) model.run(step);
    model.settle();
  });
  fc.assert(property, { seed: seedOf(t), numRuns: 1500 });
});

/** Fields that a hostile driver may write at any moment, by where they lie from the start of the rings. */
const fields = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ area: fc.constantFrom('descriptor' as const, 'table' as const), at: fc.nat(65535) }),
  },
  { weight: 2, arbitrary: fc.record({ area: fc.constant('available' as const), at: fc.nat(40) }) },
  {
    weight: 1,
    arbitrary: fc.record({ area: fc.constantFrom('used' as const, 'anywhere' as const), at: fc.nat(RINGS_BYTES - 5) }),
  },
);

const values = fc.oneof(
  fc.constantFrom(
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    15,
    16,
    17,
    32,
    0x200,
    0xffff,
    0x1_0000,
    0x8000_0000,
    0xffff_fff0,
    0xffff_ffff,
  ),
  fc.integer({ min: 0, max: RINGS_BYTES + REGIONS * REGION_BYTES + 16 }),
  fc.integer({ min: 0, max: 0xffff_ffff }),
);

const attacks = fc.array(
  fc.record({ field: fields, value: values, bytes: fc.constantFrom(1, 2, 4), pops: fc.nat(6), keep: fc.boolean() }),
  { minLength: 1, maxLength: 200, size: 'max' },
);

/** Every piece of a list lies wholly in a region, and the lists say how long they are. */
function checkSegments(model: Model, segments: Segments): void {
  let sum = 0;
  for (let i = 0; i < segments.count; i += 1) {
    assert(segments.lengths[i] > 0);
    const region = model.memory.regionOfHost(segments.addresses[i], segments.lengths[i]);
    assert(region !== undefined, 'an address outside guest memory came out of pop');
    sum += segments.lengths[i];
  }
  assert.equal(segments.bytes, sum);
}

/** Where an attack writes, in the region of the rings. */
function placeOf(model: Model, area: string, at: number): number {
  const { driver, setup } = model;
  const start = setup.start;
  if (area === 'descriptor') return driver.descriptorTable - start + (at % (16 * setup.size));
  if (area === 'table') return DriverQueue.bytes(setup.size) + (at % (16 * TABLE_ENTRIES * setup.size));
  if (area === 'available') return driver.availableRing - start + (at % (6 + 2 * setup.size));
  if (area === 'used') return driver.usedRing - start + (at % (6 + 8 * setup.size));
  return at;
}

/** How often pop gave what, so that the test can say that it attacked at all. */
type Outcomes = Map<number, number>;

/** Pops and answers as a device would; anything but an exception or an address outside is fine. */
function serve(model: Model, chain: Chain, popped: number[], times: number, keep: boolean, outcomes: Outcomes): void {
  const { device } = model;
  for (let i = 0; i < times; i += 1) {
    chain.head = -1;
    const result = device.pop(chain);
    outcomes.set(result, (outcomes.get(result) ?? 0) + 1);
    if (result !== POP_CHAIN && result !== POP_BAD_CHAIN) {
      if (result === POP_NOTHING) break;
      // Broken: what a reset of the device does. Most entries of the ring are there to be taken again.
      device.publish();
      device.stop();
      popped.length = 0;
      model.startDevice((model.availableIndex - (i % (model.setup.size + 1))) & 0xffff);
      break;
    }
    assert(chain.head >= 0 && chain.head < model.setup.size);
    checkSegments(model, chain.readable);
    checkSegments(model, chain.writable);
    assert(chain.readable.bytes + chain.writable.bytes <= 2 ** 32);
    if (result === POP_BAD_CHAIN && device.lastError !== 'a descriptor outside guest memory') {
      assert.equal(chain.readable.count + chain.writable.count, 0);
    }
    popped.push(chain.head);
    if (!keep) for (const head of popped.splice(0)) device.push(head, chain.writable.bytes);
  }
  device.publish();
  device.enableNotify();
}

test('a driver that changes anything at any moment gets nothing but bad chains and a stopped queue', (t) => {
  let mutations = 0;
  const outcomes: Outcomes = new Map();
  const property = fc.property(setups, fc.array(steps, { maxLength: 1 }), attacks, (setup, honest, list) => {
    const model = new Model(setup);
    const indirect = list.length % 2 === 0;
    for (const step of honest.flat()) model.run(step);
    // Offer what can be offered, so that there is something to spoil.
    const buffers = [3, 9, 40].map((length, i) => ({ address: setup.start + RINGS_BYTES + 0x1f0 + i * 64, length }));
    while (model.driver.add(buffers.slice(0, 2), buffers.slice(2), { indirect }) !== -1);
    model.driver.publish();
    const rings = new Uint8Array(model.memory.regions[0].buffer as ArrayBuffer);
    const chain = new Chain(16);
    const popped = [...model.inFlight];
    for (const { field, value, bytes, pops, keep } of list) {
      const at = placeOf(model, field.area, field.at);
      for (let i = 0; i < bytes; i += 1) rings[at + i] = value >>> (8 * i);
      serve(model, chain, popped, pops, keep, outcomes);
      mutations += 1;
      model.availableIndex += pops >> 1;
    }
    // After a reset with rings in order, the same memory serves a driver that keeps to the rules.
    const { device } = model;
    device.publish();
    device.stop();
    const { size, eventIdx } = setup;
    const driver = new DriverQueue(model.memory, { size, eventIdx, guestAddress: setup.start });
    model.startDevice(0);
    const head = driver.add(buffers.slice(0, 1), []);
    driver.publish();
    assert.equal(device.pop(chain), POP_CHAIN, device.lastError);
    assert.equal(chain.readable.bytes, 3);
    device.push(head, 0);
    device.publish();
    assert.equal(driver.collect(), head);
  });
  fc.assert(property, { seed: seedOf(t), numRuns: 1500 });
  const [good, bad, broken] = [POP_CHAIN, POP_BAD_CHAIN, POP_BROKEN].map((result) => outcomes.get(result) ?? 0);
  t.diagnostic(`${mutations} mutations: ${good} chains, ${bad} bad ones, ${broken} broken queues`);
  assert(good > 1000 && bad > 1000 && broken > 1000, 'the attacks do not reach the code');
});
