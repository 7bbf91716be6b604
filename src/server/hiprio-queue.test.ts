import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { RingSetup } from '../vhost/index.ts';
import { HiprioQueue } from './hiprio-queue.ts';

/** A queue, its driver and a clock: the driver kicks when it is asked to. */
class Scene {
  readonly kickFd = -1;
  next = 0;
  kicks = 0;
  runs = 0;
  clock = 1000;
  readonly queue = new HiprioQueue(this, () => this.clock);
  #available = 0;
  #asksForKicks = true;

  constructor() {
    this.queue.start({} as RingSetup);
    this.queue.serve();
    this.runs = 0;
  }

  start(): void {
    this.#asksForKicks = true;
  }

  stop(): number {
    return this.next;
  }

  /** As QueueRunner's: 64 at most. */
  run(quiet: boolean): boolean {
    this.runs += 1;
    this.next = Math.min(this.#available, this.next + 64);
    this.#asksForKicks = !quiet;
    return this.next < this.#available;
  }

  /** The driver has so many requests. */
  send(count = 1): void {
    this.#available += count;
    if (!this.#asksForKicks) return;
    this.#asksForKicks = false;
    this.kicks += 1;
    this.queue.kick();
    this.attend();
  }

  /** As the thread does, while there is something to do now. */
  attend(): void {
    do this.queue.serve();
    while (this.queue.patienceMs === 0);
  }

  /** Time goes by. */
  pass(milliseconds: number): void {
    for (const end = this.clock + milliseconds; this.clock < end; ) {
      const { patienceMs } = this.queue;
      this.clock = Math.min(end, patienceMs < 0 ? end : this.clock + patienceMs);
      this.attend();
    }
  }

  get unserved(): number {
    return this.#available - this.next;
  }
}

test('a request that comes alone is served with its kick, and nothing is looked for after it', () => {
  const scene = new Scene();
  for (let i = 0; i < 10; i += 1) {
    scene.send();
    assert.equal(scene.unserved, 0);
    assert.equal(scene.queue.patienceMs, -1);
    scene.pass(5);
  }
  assert.deepEqual([scene.kicks, scene.runs], [10, 10]);
});

test('requests that come often are served together, some milliseconds apart, without kicks', () => {
  const scene = new Scene();
  for (let i = 0; i < 1000; i += 1) {
    scene.send();
    scene.pass(0.25);
    assert.ok(scene.unserved < 20);
  }
  assert.equal(scene.kicks, 2);
  assert.ok(scene.runs < 80, `${scene.runs} times`);
});

test('requests that do not come any more leave the queue asleep, and the next has its kick', () => {
  const scene = new Scene();
  for (let i = 0; i < 10; i += 1) scene.send();
  scene.pass(20);
  assert.equal(scene.unserved, 0);
  assert.equal(scene.queue.patienceMs, -1);
  const { kicks } = scene;
  scene.send();
  assert.equal(scene.kicks, kicks + 1);
  assert.equal(scene.unserved, 0);
});

test('a flood is served at once', () => {
  const scene = new Scene();
  for (let i = 0; i < 100; i += 1) {
    scene.send(200);
    scene.pass(0.1);
  }
  scene.pass(4);
  assert.equal(scene.unserved, 0);
  assert.ok(scene.kicks > 50);
});

test('requests that come many at a time have their kicks, which cost them little', () => {
  const scene = new Scene();
  for (let i = 0; i < 100; i += 1) {
    scene.send(40);
    scene.pass(2);
  }
  assert.ok(scene.kicks > 40, `${scene.kicks} kicks`);
});

test('a queue that is stopped while requests gather serves them first, and gathers none when it starts again', () => {
  const scene = new Scene();
  for (let i = 0; i < 3; i += 1) scene.send();
  assert.ok(scene.queue.patienceMs > 0 && scene.unserved === 1);
  assert.equal(scene.queue.stop(), scene.next);
  assert.equal(scene.unserved, 0);
  assert.equal(scene.queue.patienceMs, -1);
  scene.queue.start({} as RingSetup);
  scene.attend();
  assert.equal(scene.queue.patienceMs, -1);
});
