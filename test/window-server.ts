/** A back-end with a window, in a thread of its own: it asks for one range as soon as it may, and tells the answer. */
import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';

import type { Fd } from '../src/core/index.ts';
import { accept, EPOLLET, EPOLLIN, EPOLLOUT, Epoll, memfd } from '../src/sys/index.ts';
import { Backend, type BackendChannel, Channel, type VhostDevice } from '../src/vhost/index.ts';

const MIB = 1024 * 1024;
const LIMIT_MS = 10_000;

class Device implements VhostDevice {
  readonly queueCount = 1;
  readonly sharedMemory = [0, 4 * MIB];
  channel: BackendChannel | undefined;

  setMemory(): void {}
  startQueue(): void {}
  stopQueue(): number {
    return 0;
  }
  reset(): void {}
  warn(): void {}

  setBackendChannel(channel: BackendChannel | undefined): void {
    this.channel = channel;
    channel?.map(1, memfd('file', 8 * MIB), 4096, 2 * MIB, 2 * MIB, (ok) => parentPort?.postMessage(ok));
  }
}

const { listening } = workerData as { listening: number };
const device = new Device();
const backend = new Backend(new Channel(accept(listening) as Fd), device);
while (device.channel === undefined) backend.serveMessage();
// The queue is enabled.
while (device.channel.starts === 0) backend.serveMessage();
const epoll = new Epoll();
epoll.add(device.channel.fd, 0, EPOLLIN | EPOLLOUT | EPOLLET);
// What the front-end has begun to read, and then its answer.
while (device.channel.patienceMs < 0 && epoll.wait(LIMIT_MS) > 0) assert.ok(device.channel.receive());
// The range that was mapped.
while (device.channel.pending > 0) backend.serveMessage();
backend.end();
