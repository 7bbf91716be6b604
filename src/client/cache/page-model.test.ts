/** The page cache against plain bytes, with a daemon that answers in random order. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';

import { type Backing, type CachedFile, PageCache, type PageCacheOptions } from './page-cache.ts';
import { type Running, start, type Task } from '../task.ts';
import { HostFile, pattern } from './testing-backing.ts';

const PAGE = 4096;
const MOST_BYTES = 12 * PAGE;

interface Setup {
  options: PageCacheOptions;
  sizes: [number, number];
  /** In which order the daemon answers. */
  seed: number;
}

interface Place {
  file: number;
  handle: number;
  position: number;
  length: number;
}

/** One member for each kind. */
type Of<K, T> = K extends string ? { kind: K } & T : never;
type GuestStep =
  | Of<'read' | 'write' | 'append' | 'resize' | 'invalidate', Place>
  | Of<'flush' | 'flush all', { file: number }>;
type HostStep = Of<'host' | 'host resize', Place>;
type Step = GuestStep | HostStep | { kind: 'answer'; times: number };

interface SharedFile {
  host: HostFile;
  file: CachedFile;
  handles: [Backing, Backing];
  /** What a guest must see. */
  content: Uint8Array;
}

class Model {
  readonly cache: PageCache;
  readonly files: SharedFile[];
  readonly #setup: Setup;
  #random: number;
  #writes = 0;

  constructor(setup: Setup) {
    this.#setup = setup;
    this.#random = setup.seed;
    this.cache = new PageCache(setup.options);
    this.files = setup.sizes.map((size, i) => {
      const host = new HostFile(pattern(size, i));
      const handles: [Backing, Backing] = [host.open(), host.open()];
      return { host, file: this.cache.file(size), handles, content: pattern(size, i) };
    });
  }

  /** What may have been answered, in the same order whenever the seed is the same. */
  #pick(limit: number): number {
    this.#random = (Math.imul(this.#random, 1_103_515_245) + 12_345) >>> 0;
    return (this.#random >>> 8) % limit;
  }

  /** One reply, if any is under way; now and then only what comes before it. */
  answer(): boolean {
    const hosts = this.files.map(({ host }) => host).filter(({ waiting }) => waiting.length > 0);
    if (hosts.length === 0) return false;
    const host = hosts[this.#pick(hosts.length)];
    const which = this.#pick(host.waiting.length);
    if (this.#pick(3) === 0) host.serve(which);
    else host.answer(which);
    return true;
  }

  settle(running: readonly Running<unknown>[]): void {
    while (running.some(({ settled }) => !settled)) {
      assert(this.answer(), 'a task waits for nothing');
      this.checkBytes();
    }
    for (const each of running) assert.doesNotThrow(() => each.result);
    this.checkBytes();
  }

  run<T>(task: Task<T>): T {
    const running = start(task);
    this.settle([running]);
    return running.result;
  }

  /** At most as much as allowed, and what is being read or sent. */
  checkBytes(): void {
    const requests = this.files.flatMap(({ host }) => host.waiting);
    const underWay = requests.reduce((sum, { length }) => sum + Math.ceil(length / PAGE) * PAGE, 0);
    const most = this.#setup.options.limitBytes + underWay;
    assert(this.cache.bytes <= most, `${this.cache.bytes} bytes, ${most} allowed`);
  }

  /** Starts what a guest does. What it must come to is known at once, as writers wait for each other. */
  begin(step: GuestStep): Running<unknown> {
    if (step.kind === 'flush all') return start(this.cache.flushAll());
    const shared = this.files[step.file];
    const { file, host } = shared;
    if (step.kind === 'flush') return start(file.flush());
    const { position, length } = step;
    if (step.kind === 'resize') {
      shared.content = resized(shared.content, position);
      return start(
        file.resize(
          position,
          host.ask('write', position, 0, () => host.resize(position)),
        ),
      );
    }
    if (step.kind === 'invalidate') {
      file.invalidate(position, position + length);
      return start(nothing());
    }
    const handle = shared.handles[step.handle];
    if (step.kind === 'read') return start(file.read(handle, new Uint8Array(length), position));
    this.#writes += 1;
    const from = pattern(length, this.#writes);
    const at = step.kind === 'append' ? shared.content.length : position;
    shared.content = written(shared.content, from, at);
    return start(file.write(handle, from, step.kind === 'append' ? undefined : position));
  }

  /** One after the other. */
  run1(step: Step): void {
    if (step.kind === 'answer') for (let i = 0; i < step.times; i += 1) this.answer();
    else if (step.kind === 'host' || step.kind === 'host resize') this.changeHost(step);
    else if (step.kind === 'read') this.read(step);
    else {
      this.settle([this.begin(step)]);
      const { host, content } = this.files[step.file];
      if (step.kind === 'flush' || !this.#setup.options.writeback) assert.deepEqual(host.content, content);
    }
    for (const { file, content } of this.files) assert.equal(file.sizeBytes, content.length);
  }

  read({ file: which, handle, position, length }: Place): void {
    const { file, handles, content } = this.files[which];
    const into = new Uint8Array(length);
    const count = this.run(file.read(handles[handle], into, position));
    assert.deepEqual(into.subarray(0, count), content.subarray(position, position + length));
  }

  /** Somebody on the host changes the file, and the guest hears of it. READs may be under way. */
  changeHost(step: HostStep): void {
    const shared = this.files[step.file];
    this.run(shared.file.flush());
    const { position, length } = step;
    if (step.kind === 'host') {
      this.#writes += 1;
      shared.host.put(pattern(length, this.#writes), position);
    } else shared.host.resize(position);
    shared.content = shared.host.content.slice();
    if (shared.content.length !== shared.file.sizeBytes) {
      shared.file.truncate(shared.content.length);
      shared.file.invalidate();
    } else shared.file.invalidate(position, position + length);
  }

  /** All that is left is sent, and what is on the host is what the guest saw. */
  end(): void {
    this.run(this.cache.flushAll());
    while (this.answer());
    this.checkBytes();
    for (const { file, host, content, handles } of this.files) {
      assert.equal(file.isDirty, false);
      assert.deepEqual(host.content, content);
      const into = new Uint8Array(content.length + 1);
      assert.equal(this.run(file.read(handles[0], into, 0)), content.length);
      assert.deepEqual(into.subarray(0, content.length), content);
      while (this.answer());
    }
    for (const { file } of this.files) file.truncate(0);
    assert.deepEqual([this.cache.bytes, this.cache.dirtyBytes], [0, 0]);
  }
}

function* nothing(): Task<void> {}

function resized(content: Uint8Array, sizeBytes: number): Uint8Array {
  const result = new Uint8Array(sizeBytes);
  result.set(content.subarray(0, sizeBytes));
  return result;
}

function written(content: Uint8Array, from: Uint8Array, position: number): Uint8Array {
  if (from.length === 0) return content;
  const result = resized(content, Math.max(content.length, position + from.length));
  result.set(from, position);
  return result;
}

const pages = (...counts: number[]): fc.Arbitrary<number> => fc.constantFrom(...counts.map((count) => count * PAGE));

const setups: fc.Arbitrary<Setup> = fc.record({
  options: fc.record({
    limitBytes: pages(1, 2, 3, 4, 8, 16, 64),
    maxReadaheadBytes: pages(0, 1, 4, 32),
    maxWriteBytes: pages(1, 1.5, 2, 8),
    maxReadBytes: pages(1, 2.5, 8),
    writeback: fc.boolean(),
  }),
  sizes: fc.tuple(fc.nat(MOST_BYTES), fc.nat(2 * PAGE)),
  seed: fc.nat(),
});

const positions = fc.oneof(
  fc.nat(MOST_BYTES),
  fc.nat(12).map((page) => page * PAGE),
  fc.nat(2 * PAGE),
);
const lengths = fc.oneof(
  fc.nat(3 * PAGE),
  fc.constantFrom(0, 1, PAGE, 2 * PAGE, MOST_BYTES),
  fc.integer({ min: PAGE - 2, max: PAGE + 2 }),
);
const file = fc.nat(1);
const place = { file, handle: fc.nat(1), position: positions, length: lengths };

function stepOf<K extends string>(...kinds: K[]): { kind: fc.Arbitrary<K> } {
  return { kind: fc.constantFrom(...kinds) };
}

const guestSteps = [
  { weight: 10, arbitrary: fc.record({ ...stepOf('read', 'read', 'write'), ...place }) },
  { weight: 3, arbitrary: fc.record({ ...stepOf('append', 'resize', 'invalidate'), ...place }) },
  { weight: 2, arbitrary: fc.record({ ...stepOf('flush', 'flush all'), file }) },
] as const;

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    ...guestSteps,
    { weight: 2, arbitrary: fc.record({ ...stepOf('host', 'host resize'), ...place }) },
    { weight: 3, arbitrary: fc.record({ ...stepOf('answer'), times: fc.nat(4) }) },
  ),
  { maxLength: 40, size: 'max' },
);

function seedOf(t: { diagnostic(message: string): void }): number {
  const seed = Number(process.env['FC_SEED'] ?? Date.now() % 2 ** 31);
  t.diagnostic(`seed ${seed} (FC_SEED repeats it)`);
  return seed;
}

test('what a guest reads, and what is in the file in the end, are the bytes that were written', (t) => {
  const property = fc.property(setups, steps, (setup, list) => {
    const model = new Model(setup);
    for (const step of list) model.run1(step);
    model.end();
  });
  fc.assert(property, { seed: seedOf(t), numRuns: 400 });
});

/** Every byte that was read was there at some time, and so was the size. */
function checkRead(into: Uint8Array, count: number, position: number, versions: readonly Uint8Array[]): void {
  const ends = versions.map(({ length }) => Math.max(0, Math.min(into.length, length - position)));
  assert(count >= Math.min(...ends) && count <= Math.max(...ends), `${count} bytes`);
  for (let i = 0; i < count; i += 1) {
    const found = versions.some((version) => (version[position + i] ?? 0) === into[i]);
    assert(found, `byte ${position + i} was never ${into[i]}`);
  }
}

test('who reads while others write sees bytes of before or after, and all ends as if each had waited', (t) => {
  const guestStep = fc.oneof(...guestSteps);
  const property = fc.property(
    setups,
    fc.array(fc.array(guestStep, { maxLength: 6 }), { maxLength: 6 }),
    (setup, batches) => {
      const model = new Model(setup);
      for (const batch of batches) {
        const versions = model.files.map(({ content }) => [content]);
        const reads: { file: number; into: Uint8Array; position: number; running: Running<number> }[] = [];
        const others: Running<unknown>[] = [];
        for (const step of batch) {
          if (step.kind === 'read') {
            const { file: shared, handles } = model.files[step.file];
            const into = new Uint8Array(step.length);
            const running = start(shared.read(handles[step.handle], into, step.position));
            reads.push({ file: step.file, into, position: step.position, running });
          } else others.push(model.begin(step));
          model.files.forEach(({ content }, i) => versions[i].push(content));
        }
        model.settle([...reads.map(({ running }) => running), ...others]);
        for (const { file: which, into, position, running } of reads) {
          checkRead(into, running.result, position, versions[which]);
        }
      }
      model.end();
    },
  );
  fc.assert(property, { seed: seedOf(t), numRuns: 400 });
});
