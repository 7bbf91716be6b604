/**
 * A daemon whose answers are right but for one trick: that of the socket's name (hostile-tricks.ts). It takes those
 * arguments of `virtiofs serve` that it needs, and serves one client after the other.
 */
import { rmSync } from 'node:fs';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';

import { EBADMSG, type Fd } from '../src/core/index.ts';
import { InHeader, type OpcodeName, OPCODES } from '../src/fuse/index.ts';
import { gather, scatter } from '../src/memory/index.ts';
import { configSpace } from '../src/server/config-space.ts';
import { MemoryMirror } from '../src/server/memory-mirror.ts';
import { accept, close, drainEventfd, Epoll, listenUnix, sendMessage, signalEventfd } from '../src/sys/index.ts';
import {
  Backend,
  type BackendChannel,
  Channel,
  FRONT_END_BY_CODE,
  HEADER_VERSION,
  type MappedRegion,
  type RingSetup,
  type VhostDevice,
  VhostError,
  VhostHeader,
} from '../src/vhost/index.ts';
import { Chain, DeviceQueue, POP_CHAIN } from '../src/virtio/index.ts';
import { body, concat } from './fuse.ts';
import { nameIn, PENDING, rightAnswer } from './hostile-share.ts';
import { Reply, type Trick, trickOf } from './hostile-tricks.ts';
import { RawWindow, WINDOW_BYTES } from './hostile-window.ts';

/** A head that a client with few requests under way does not use. */
const NEVER_GIVEN = 100;
const KEY_CONNECTION = 0;
const KEY_QUEUES = 1;
const QUEUES = 2;
/** deadline: nobody needs it any more. */
const IDLE_MS = 60_000;
const DRIP_MS = 20;

/** What is said over vhost-user, spoilt by the trick. */
class TrickyChannel extends Channel {
  readonly #trick: Trick;
  /** Of SET_VRING_ERR. */
  readonly errorFds: Fd[] = [];

  constructor(fd: Fd, trick: Trick) {
    super(fd, 'the client');
    this.#trick = trick;
  }

  override poll(): ReturnType<Channel['poll']> {
    const message = super.poll();
    if (message === undefined || typeof message === 'string') return message;
    const name = FRONT_END_BY_CODE.get(message.request)?.name;
    if (name !== undefined && this.#trick.leavesAt === name) throw new VhostError('CLOSED', 'as it was told');
    if (name === 'SET_VRING_ERR') this.errorFds.push(...message.fds.splice(0));
    return message;
  }

  override close(): void {
    for (const fd of this.errorFds.splice(0)) close(fd);
    super.close();
  }

  override send(request: number, flags: number, payload: Uint8Array, fds: readonly number[] = []): void {
    const answer = {
      request,
      flags: HEADER_VERSION | flags,
      payload,
      fds,
      size: payload.length,
      way: 'whole' as const,
    };
    const name = FRONT_END_BY_CODE.get(request)?.name;
    const spoilt = name === undefined ? answer : { ...answer, ...this.#trick.says?.(name, payload) };
    if (spoilt.way === 'never') return;
    const header = body(VhostHeader, { request: spoilt.request, flags: spoilt.flags, size: spoilt.size });
    const bytes = concat(header, spoilt.payload);
    if (spoilt.way === 'whole') sendMessage(this.fd, bytes, spoilt.fds);
    else for (const byte of bytes) this.#drip(byte);
  }

  #drip(byte: number): void {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, DRIP_MS);
    sendMessage(this.fd, new Uint8Array([byte]));
  }
}

class Served implements VhostDevice {
  readonly queueCount = QUEUES;
  readonly sharedMemory = [WINDOW_BYTES];
  readonly config = configSpace('hostile', QUEUES - 1);
  #channel: TrickyChannel | undefined;
  #raw: RawWindow | undefined;
  /** What came of the first SETUPMAPPING. */
  #setUp: number | undefined;
  readonly #trick: Trick;
  readonly #epoll = new Epoll();
  readonly #mirror = new MemoryMirror();
  readonly #queues = Array.from({ length: QUEUES }, (_, index) => new DeviceQueue(this.#mirror.memory, index));
  /** The rings are spoilt. */
  #scribbled = false;
  readonly #rings: (RingSetup | undefined)[] = [];
  readonly #chain = new Chain();
  /** Replies that are held back. */
  #held: { readonly reply: Reply; readonly index: number }[] = [];
  #over = false;

  constructor(trick: Trick) {
    this.#trick = trick;
  }

  serve(fd: Fd): void {
    const channel = new TrickyChannel(fd, this.#trick);
    this.#channel = channel;
    const backend = new Backend(channel, this);
    this.#epoll.add(fd, KEY_CONNECTION);
    try {
      while (!this.#over) {
        const ready = this.#epoll.wait(IDLE_MS);
        if (ready === 0) process.exit();
        for (let i = 0; i < ready && !this.#over; i += 1) {
          const key = this.#epoll.key(i);
          if (key !== KEY_CONNECTION) this.#serveQueue(key - KEY_QUEUES);
          else if (!backend.serveMessage()) this.#over = true;
        }
      }
    } catch (error) {
      if (!(error instanceof VhostError)) throw error;
    }
    // Too late: the client has gone.
    if (this.#trick.fate === 'late') this.#giveBack();
    backend.end();
    this.#epoll.close();
  }

  setMemory(regions: readonly MappedRegion[]): void {
    this.#mirror.set(regions);
  }

  startQueue(index: number, ring: RingSetup): void {
    this.#queues[index].start(ring);
    this.#rings[index] = ring;
    this.#epoll.add(ring.kickFd, KEY_QUEUES + index);
  }

  stopQueue(index: number): number {
    const ring = this.#rings[index];
    if (ring !== undefined) this.#epoll.remove(ring.kickFd);
    this.#rings[index] = undefined;
    return this.#queues[index].stop();
  }

  setBackendChannel(channel: BackendChannel | undefined): void {
    this.#raw?.end();
    const { window } = this.#trick;
    this.#raw = channel === undefined || window === undefined ? undefined : new RawWindow(channel.fd);
    if (this.#raw !== undefined) window?.connected?.(this.#raw);
  }

  /** What is said on the channel at a request; 0, or a negative errno: the client did not answer as it should. */
  #speak(name: OpcodeName): number {
    const { window } = this.#trick;
    const raw = this.#raw;
    if (raw === undefined || window === undefined) return 0;
    try {
      // Asked once more, to be written to, it has said all that it has to say.
      if (name === 'SETUPMAPPING') return (this.#setUp ??= window.setup(raw));
      if (name === 'STATFS') window.later?.(raw);
      return 0;
    } catch (error) {
      process.stderr.write(`${String(error)}\n`);
      return -EBADMSG;
    }
  }

  reset(): void {}
  warn(): void {}

  get #isSilent(): boolean {
    return this.#over || this.#scribbled;
  }

  #serveQueue(index: number): void {
    const ring = this.#rings[index];
    if (ring === undefined) return;
    drainEventfd(ring.kickFd);
    const queue = this.#queues[index];
    do {
      while (!this.#isSilent && queue.pop(this.#chain) === POP_CHAIN) this.#answer(index);
    } while (!this.#isSilent && queue.enableNotify());
    if (queue.publish()) signalEventfd(ring.callFd);
  }

  #answer(index: number): void {
    const chain = this.#chain;
    const request = new Uint8Array(chain.readable.bytes);
    gather(this.#mirror.memory, chain.readable, 0, request, 0, request.length);
    const view = new DataView(request.buffer);
    const opcode = OPCODES[InHeader.opcode(view, 0)];
    if (opcode === undefined) throw new Error(`opcode ${InHeader.opcode(view, 0)}`);
    const asked = { opcode, nodeid: view.getBigUint64(InHeader.offsets.nodeid, true), view };
    const room = chain.writable.bytes;
    const spoken = this.#speak(opcode.name as OpcodeName);
    const reply = new Reply(asked, chain.head, room, spoken < 0 ? spoken : rightAnswer(asked));
    const isPending = asked.nodeid === BigInt(PENDING) || (opcode.name === 'LOOKUP' && nameIn(asked) === 'pending');
    let fate: Trick['fate'];
    if (isPending) {
      fate = opcode.name === 'LOOKUP' ? undefined : 'held';
    } else if (opcode.reply !== 'none' && (this.#trick.at === undefined || this.#trick.at === opcode.name)) {
      this.#trick.spoils?.(reply);
      ({ fate } = this.#trick);
    }
    if (opcode.reply === 'none') reply.used = 0;
    else scatter(this.#mirror.memory, chain.writable, 0, reply.bytes, 0, Math.min(reply.bytes.length, room));
    this.#give(reply, index, fate);
  }

  #give(reply: Reply, index: number, fate: Trick['fate']): void {
    const queue = this.#queues[index];
    const { head, used } = reply;
    if (fate === 'leaves') this.#over = true;
    else if (fate === 'broken') signalEventfd(this.#channel?.errorFds[index] ?? -1);
    else if (fate === 'held' || fate === 'late') this.#held.push({ reply, index });
    else if (fate === 'reversed') {
      this.#held.push({ reply, index });
      if (this.#held.length === this.#trick.count) this.#giveBack();
    } else if (fate === undefined || fate === 'twice') queue.push(head, used);
    if (fate === 'twice') this.#scribble(index, 1, (elements) => elements(0, head, used));
    if (fate === 'unknown') this.#scribble(index, 1, (elements) => elements(0, NEVER_GIVEN, used));
    if (fate === 'outside') this.#scribble(index, 1, (elements) => elements(0, 0x8000_0000, used));
    if (fate === 'jumps') this.#scribble(index, 1000, () => {});
  }

  /** Gives back all that was held, the last first. */
  #giveBack(): void {
    const held = this.#held.toReversed();
    this.#held = [];
    for (const { reply, index } of held) this.#queues[index].push(reply.head, reply.used);
    for (const [index, ring] of this.#rings.entries()) {
      this.#queues[index].publish();
      if (ring !== undefined) signalEventfd(ring.callFd);
    }
  }

  /** Behind the back of the queue: writes used elements, and raises the index by so many. */
  #scribble(index: number, count: number, write: (put: (i: number, id: number, used: number) => void) => void): void {
    const ring = this.#rings[index];
    if (ring === undefined) return;
    this.#queues[index].publish();
    const [region] = this.#mirror.memory.regions;
    const at = ring.usedRing - region.hostAddress;
    const words = new Uint16Array(region.buffer as ArrayBuffer, at, 2);
    const elements = new Uint32Array(region.buffer as ArrayBuffer, at + 4, 2 * ring.size);
    const next = words[1];
    write((i, id, used) => elements.set([id, used], 2 * ((next + i) & (ring.size - 1))));
    Atomics.store(words, 1, next + count);
    // What the queue writes next would be in the same place.
    this.#scribbled = true;
    signalEventfd(ring.callFd);
  }
}

const { values } = parseArgs({
  allowPositionals: true,
  options: { 'shared-dir': { type: 'string' }, 'socket-path': { type: 'string', multiple: true, default: [] } },
});
const paths = values['socket-path'];
const epoll = new Epoll();
const listening = paths.map((path, key) => {
  // Of one before it that was killed.
  rmSync(path, { force: true });
  const fd = listenUnix(path);
  epoll.add(fd, key);
  return fd;
});
process.stderr.write('Waiting for vhost-user socket connection...\n');
while (epoll.wait(IDLE_MS) > 0) {
  const key = epoll.key(0);
  new Served(trickOf(basename(paths[key], '.sock'))).serve(accept(listening[key]) as Fd);
}
process.exit();
