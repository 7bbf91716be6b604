/**
 * The driver of a virtio-fs device without a VM: requests go out by rings in memory that the daemon maps, and come back
 * in any order. All in the caller's thread: the daemon's interrupts are 8 bytes in a pipe, for which the event loop
 * wakes, or a caller who blocks.
 */
import { Socket } from 'node:net';
import { availableParallelism } from 'node:os';

import { assert, type Fd, PAGE_BYTES } from '../core/index.ts';
import { drainPipe, pipe, close as closeFd, signalEventfd, waitReadable } from '../sys/index.ts';
import { type BackendRequests, type FrontEnd, VhostError } from '../vhost/index.ts';
import { DriverQueue, type GuestBuffer } from '../virtio/index.ts';
import { openDevice, type WindowOffer } from './device.ts';
import { ConnectionError } from './refusal.ts';
import { Latch, type Task } from './task.ts';

const HIPRIO = 0;

export interface TransportOptions {
  /** Request queues; as many as the daemon has, at most. */
  readonly queues: number;
  /** A power of two. */
  readonly queueSize: number;
  /** Bytes of data that the largest request carries. */
  readonly dataBytes: number;
  /** How long the daemon may take for a request. */
  readonly timeoutMs: number;
  /** The daemon's DAX window is wanted. */
  readonly window: boolean;
}

/** What a message takes in guest memory: room for it and its reply, and for a few of them room for data. */
export interface Slot {
  /** Offsets in `Transport.bytes`. */
  readonly request: number;
  readonly reply: number;
  /** -1: there is none. */
  readonly data: number;
}

/** A message that is to be sent: byte counts of what lies in the slot. */
export interface Message {
  readonly slot: Slot;
  readonly requestBytes: number;
  /** Of the slot's data: behind the request. */
  readonly dataInBytes: number;
  readonly replyBytes: number;
  /** Behind the reply: into the slot's data. */
  readonly dataOutBytes: number;
  /** It may take as long as it likes. */
  readonly patient: boolean;
}

const REQUEST_BYTES = 8192;
const REPLY_BYTES = 8192;
const SMALL_SLOTS = 64;
const DATA_SLOTS = 16;
/** The most buffers that a message has. */
const BUFFERS = 4;
/** How often it is looked whether the daemon is still there while requests wait. */
const LOOK_MS = 100;
/** A reply mostly comes within this time, sooner than a thread is put to sleep and woken. */
const SPIN_US = availableParallelism() > 1 ? 50 : 0;
const SPIN_LOOKS = 16;
/** Replies after which the pipe is emptied in any case: a daemon that finds it full may come to grief. */
const DRAIN_EVERY = 256;

interface Sent {
  readonly latch: Latch;
  readonly deadline: number;
  bytes: number;
}

interface Queue {
  readonly driver: DriverQueue;
  readonly kickFd: Fd;
  /** By head. */
  readonly sent: (Sent | undefined)[];
}

export class Transport {
  /** Guest memory. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** What the share is called, where the daemon says so. */
  readonly tag: string | undefined;
  readonly #frontEnd: FrontEnd;
  readonly #timeoutMs: number;
  readonly #indirect: boolean;
  #window: WindowOffer | undefined;
  readonly #queues: Queue[] = [];
  readonly #small: Slot[] = [];
  readonly #large: Slot[] = [];
  /** Those who wait for a slot, or for room in a queue. */
  #wanting: Latch[] = [];
  readonly #interruptFd: Fd;
  readonly #notifyFd: Fd;
  readonly #socket: Socket;
  #timer: NodeJS.Timeout | undefined;
  #pending = 0;
  /** Every reply that comes is told by an interrupt. Costly for the daemon, and for nothing while we look ourselves. */
  #armed = true;
  #minding = false;
  /** The process stays for the replies. */
  #watched = false;
  /** Replies since the pipe was emptied. */
  #answered = 0;
  #nextQueue = 0;
  #broken: Error | undefined;
  readonly #readable: GuestBuffer[] = [];
  readonly #writable: GuestBuffer[] = [];

  /** Connects and starts the rings; blocks while the daemon answers. Throws SysError, VhostError. */
  constructor(socketPath: string, options: TransportOptions) {
    const { queueSize, dataBytes, timeoutMs } = options;
    this.#timeoutMs = timeoutMs;
    [this.#interruptFd, this.#notifyFd] = pipe();
    let frontEnd: FrontEnd | undefined;
    try {
      const device = openDevice(socketPath, { ...options, notifyFd: this.#notifyFd });
      const { queues } = device;
      frontEnd = device.frontEnd;
      this.#frontEnd = frontEnd;
      this.#window = device.window;
      this.tag = device.tag;
      this.#indirect = frontEnd.indirectDescriptors;
      const ringBytes = roundUp(DriverQueue.bytes(queueSize, this.#indirect ? BUFFERS : 0), PAGE_BYTES);
      const dataAt = queues * ringBytes;
      const slotBytes = REQUEST_BYTES + REPLY_BYTES;
      const largeAt = dataAt + SMALL_SLOTS * slotBytes;
      const largeBytes = slotBytes + roundUp(dataBytes, PAGE_BYTES);
      const memoryBytes = largeAt + DATA_SLOTS * largeBytes;
      frontEnd.addMemory(0, memoryBytes);
      const [{ buffer }] = frontEnd.memory.regions;
      assert(buffer !== undefined, 'guest memory has a view');
      this.bytes = new Uint8Array(buffer, 0, memoryBytes);
      this.view = new DataView(buffer, 0, memoryBytes);
      for (let i = 0; i < SMALL_SLOTS; i += 1) this.#small.push(slotAt(dataAt + i * slotBytes, false));
      for (let i = 0; i < DATA_SLOTS; i += 1) this.#large.push(slotAt(largeAt + i * largeBytes, true));
      for (let index = 0; index < queues; index += 1) this.#layQueue(index, index * ringBytes, queueSize);
      for (let index = 0; index < queues; index += 1) frontEnd.enableQueue(index, true);
    } catch (error) {
      this.#window?.channel.close();
      frontEnd?.close();
      closeFd(this.#interruptFd);
      closeFd(this.#notifyFd);
      throw error;
    }
    const onread = { buffer: new Uint8Array(PAGE_BYTES), callback: () => this.#heard() };
    this.#socket = new Socket({ fd: this.#interruptFd, readable: true, writable: false, onread });
    this.#socket.resume();
    this.#socket.unref();
  }

  /** Bytes of the daemon's DAX window; 0 where none is wanted or offered. */
  get windowBytes(): number {
    return this.#window?.sizeBytes ?? 0;
  }

  /** The channel on which the daemon has something mapped there: the caller's from now on. */
  takeWindowChannel(): BackendRequests | undefined {
    const window = this.#window;
    this.#window = undefined;
    return window?.channel;
  }

  get requestQueues(): number {
    return this.#queues.length - 1;
  }

  /** Requests under way. */
  get pending(): number {
    return this.#pending;
  }

  get broken(): Error | undefined {
    return this.#broken;
  }

  #layQueue(index: number, guestAddress: number, size: number): void {
    const driver = new DriverQueue(this.#frontEnd.memory, {
      size,
      guestAddress,
      eventIdx: this.#frontEnd.eventIdx,
      indirectEntries: this.#indirect ? BUFFERS : 0,
    });
    const { kickFd } = this.#frontEnd.layQueue(index, driver);
    driver.enableInterrupts();
    this.#queues.push({ driver, kickFd, sent: Array.from({ length: size }, () => undefined) });
  }

  /**
   * A slot, with room for data or without; to be given back. `patient`: for what may take as long as it likes, and
   * leaves half of the slots to the others. Throws ConnectionError.
   */
  *slot(withData: boolean, patient = false): Task<Slot> {
    const [free, all] = withData ? [this.#large, DATA_SLOTS] : [this.#small, SMALL_SLOTS];
    for (;;) {
      this.#check();
      const slot = patient && free.length <= all / 2 ? undefined : free.pop();
      if (slot !== undefined) return slot;
      yield this.#want();
    }
  }

  free(slot: Slot): void {
    (slot.data < 0 ? this.#small : this.#large).push(slot);
    this.#satisfy();
  }

  /** Sends a message and waits until it comes back: how many bytes were written. Throws ConnectionError. */
  *exchange(message: Message, hiprio = false): Task<number> {
    const sent = { latch: new Latch(), deadline: this.#deadline(message), bytes: 0 };
    while (!this.#send(message, sent, hiprio)) yield this.#want();
    yield sent.latch;
    this.#check();
    return sent.bytes;
  }

  #deadline({ patient }: Message): number {
    return patient ? Number.POSITIVE_INFINITY : performance.now() + this.#timeoutMs;
  }

  /** False where there is no room in the queue. */
  #send(message: Message, sent: Sent, hiprio: boolean): boolean {
    this.#check();
    const queue = this.#queues[hiprio ? HIPRIO : this.#choose()];
    const { slot, requestBytes, dataInBytes, replyBytes, dataOutBytes } = message;
    put(this.#readable, slot.request, requestBytes, slot.data, dataInBytes);
    put(this.#writable, slot.reply, replyBytes, slot.data, dataOutBytes);
    const indirect = this.#indirect && this.#readable.length + this.#writable.length > 1;
    const head = queue.driver.add(this.#readable, this.#writable, { indirect });
    if (head < 0) return false;
    queue.sent[head] = sent;
    this.#pending += 1;
    this.#mindLater();
    if (queue.driver.publish()) signalEventfd(queue.kickFd);
    return true;
  }

  #choose(): number {
    this.#nextQueue = (this.#nextQueue + 1) % this.requestQueues;
    return 1 + this.#nextQueue;
  }

  #want(): Latch {
    const latch = new Latch();
    this.#wanting.push(latch);
    return latch;
  }

  #satisfy(): void {
    const wanting = this.#wanting;
    if (wanting.length === 0) return;
    this.#wanting = [];
    for (const latch of wanting) latch.settle();
  }

  /** For a caller who blocks: waits until something has come back. Throws ConnectionError. */
  idle(): void {
    this.#check();
    assert(this.#pending > 0, 'nobody waits for the daemon');
    this.#disarm();
    if (this.#answered >= DRAIN_EVERY) this.#drain();
    if (this.#collectSpinning()) return;
    if (!this.#arm() && waitReadable(this.#interruptFd, LOOK_MS)) this.#drain();
    if (!this.#collect()) this.#look();
  }

  #collectSpinning(): boolean {
    const end = performance.now() + SPIN_US / 1000;
    do {
      for (let i = 0; i < SPIN_LOOKS; i += 1) if (this.#collect()) return true;
    } while (performance.now() < end);
    return false;
  }

  #drain(): void {
    this.#answered = 0;
    drainPipe(this.#interruptFd);
  }

  /** Asks for an interrupt with the next reply, in all queues. True when some came meanwhile: then collect. */
  #arm(): boolean {
    this.#armed = true;
    let came = false;
    for (const { driver } of this.#queues) if (driver.enableInterrupts()) came = true;
    return came;
  }

  #disarm(): void {
    if (this.#armed) for (const { driver } of this.#queues) driver.disableInterrupts();
    this.#armed = false;
    this.#mindLater();
  }

  /**
   * A caller who comes back to the event loop while requests are under way is to hear of them there. One who blocks
   * until all is done never comes to this, and pays nothing for it.
   */
  #mindLater(): void {
    if (this.#minding || (this.#armed && this.#watched)) return;
    this.#minding = true;
    queueMicrotask(() => {
      this.#minding = false;
      if (this.#broken !== undefined || this.#pending === 0) return;
      this.#watch();
      if (!this.#armed && this.#arm()) this.#heard();
    });
  }

  #heard(): boolean {
    do this.#collect();
    while (this.#broken === undefined && this.#arm());
    return true;
  }

  /** Takes back what has come; whether anything has. */
  #collect(): boolean {
    let any = false;
    for (const queue of this.#queues) {
      const { driver } = queue;
      // Who was waiting may have closed the share.
      while (this.#broken === undefined) {
        const head = driver.collect();
        if (head < -1) {
          this.fail(new ConnectionError('EPROTO', 'the daemon gave back a request that it was not given'));
          return true;
        }
        if (head < 0) break;
        any = true;
        this.#armed = false;
        this.#settle(queue, head, driver.collectedBytes);
      }
    }
    if (any) this.#satisfy();
    return any;
  }

  #settle({ sent }: Queue, head: number, bytes: number): void {
    const request = sent[head];
    sent[head] = undefined;
    if (request === undefined) return;
    this.#pending -= 1;
    this.#answered += 1;
    if (this.#pending === 0) this.#unwatch();
    request.bytes = bytes;
    request.latch.settle();
  }

  /** Requests are under way: the process stays for their replies, and looks after the daemon. */
  #watch(): void {
    if (this.#watched) return;
    this.#watched = true;
    this.#socket.ref();
    this.#timer ??= setInterval(() => this.#look(), LOOK_MS);
    this.#timer.ref();
  }

  #unwatch(): void {
    if (!this.#watched) return;
    this.#watched = false;
    this.#socket.unref();
    this.#timer?.unref();
  }

  #look(): void {
    if (this.#pending === 0 || this.#broken !== undefined) return;
    if (this.#frontEnd.isOver) {
      // What it answered before it went counts.
      this.#collect();
      if (this.#pending > 0) this.fail(new ConnectionError('ECONNRESET', 'the daemon has closed the connection'));
      return;
    }
    if (this.#frontEnd.isRingBroken) {
      this.fail(new ConnectionError('EPROTO', 'the daemon says that a ring is broken'));
      return;
    }
    const now = performance.now();
    for (const { sent } of this.#queues) {
      for (const request of sent) {
        if (request === undefined || request.deadline >= now) continue;
        const limit = `${this.#timeoutMs} ms`;
        this.fail(new ConnectionError('ETIMEDOUT', `the daemon has not answered a request within ${limit}`));
        return;
      }
    }
  }

  #check(): void {
    if (this.#broken !== undefined) throw this.#broken;
  }

  /** The connection is over: whoever waits hears why, and so does whoever comes. */
  fail(error: Error): void {
    if (this.#broken !== undefined) return;
    this.#broken = error;
    for (const queue of this.#queues) {
      for (const [head, request] of queue.sent.entries()) {
        queue.sent[head] = undefined;
        request?.latch.settle();
      }
    }
    this.#pending = 0;
    this.#satisfy();
    this.#end();
  }

  /** Stops the rings and gives all back. */
  close(): void {
    try {
      if (this.#broken === undefined) this.#stop();
    } catch (error) {
      // It has gone meanwhile, or does not answer: so be it.
      if (!(error instanceof VhostError)) throw error;
    } finally {
      this.fail(new ConnectionError('EBADF', 'the share is closed'));
    }
  }

  /** As QEMU does: first none of them works any more, then each is taken back. */
  #stop(): void {
    for (const index of this.#queues.keys()) this.#frontEnd.enableQueue(index, false);
    for (const index of this.#queues.keys()) this.#frontEnd.stopQueue(index);
    this.#frontEnd.resetDevice();
  }

  #end(): void {
    clearInterval(this.#timer);
    // The pipe's end to read from is the socket's.
    this.#socket.destroy();
    closeFd(this.#notifyFd);
    this.takeWindowChannel()?.close();
    this.#frontEnd.close();
  }
}

function slotAt(at: number, withData: boolean): Slot {
  const data = at + REQUEST_BYTES + REPLY_BYTES;
  return { request: at, reply: at + REQUEST_BYTES, data: withData ? data : -1 };
}

function put(into: GuestBuffer[], address: number, length: number, dataAt: number, dataBytes: number): void {
  into.length = 0;
  if (length > 0) into.push({ address, length });
  if (dataBytes > 0) into.push({ address: dataAt, length: dataBytes });
}

function roundUp(bytes: number, to: number): number {
  return Math.ceil(bytes / to) * to;
}
