/**
 * What the back-end asks of the front-end: to map files into a window of the guest, and to unmap them. Requests are
 * pipelined, answers come in the same order, and nothing here ever waits: whoever has a channel keeps its descriptor in
 * an epoll set and calls `receive()` when it is readable.
 */
import { assert, EAGAIN, type Fd, PAGE_BYTES } from '../core/index.ts';
import {
  close,
  isReceived,
  fileIdentity,
  O_ACCMODE,
  O_PATH,
  O_RDWR,
  receiveMessage,
  sendMessage,
  setNonblocking,
  shutdown,
  statusFlags,
} from '../sys/index.ts';
import type { MappedFiles } from './mapped-files.ts';
import {
  BackendRequest,
  HEADER_NEED_REPLY,
  HEADER_REPLY,
  HEADER_VERSION,
  MAX_SHMEM_REGIONS,
  Mmap,
  SHMEM_RW,
  U64,
  VhostHeader,
} from './messages.ts';

/** Hears whether the front-end has done it; once, and from `receive`, `map`, `unmap` or `close`. */
export type Done = (ok: boolean) => void;

/** A front-end that maps says so (ADD_MEM_REG) within this time, or never does. */
const COMMIT_MS = 1000;
/** Of a header, for the front-end to begin with. */
const KNOCK_BYTES = 1;
/** Added to the number of a request: there is none such, and QEMU says so on its standard error. */
const NO_REQUEST = 0x100;
const REPLY_BYTES = VhostHeader.bytes + U64.bytes;

interface Request {
  readonly code: number;
  readonly message: Uint8Array;
  readonly fds: readonly number[];
  /** The range that it is about. */
  readonly range: string;
  /** Of SHMEM_MAP: what is mapped. */
  readonly fileKey: string | undefined;
  /** Of SHMEM_MAP: where in the file. */
  readonly fdOffset: number;
  readonly shmOffset: number;
  readonly length: number;
  readonly done: Done;
}

/** How things are when a channel comes. */
interface ChannelState {
  /** The device runs. */
  readonly running: boolean;
  /** The front-end speaks of regions of memory one by one, and so of each range that it has mapped. */
  readonly saysCommits: boolean;
}

export class BackendChannel {
  readonly fd: Fd;
  readonly #files: MappedFiles;
  /** In their order. */
  readonly #requests: Request[] = [];
  /** How far the first of them is. Never more than one is on its way: see `#send`. */
  #stage: 'waiting' | 'knocked' | 'sent' = 'waiting';
  #running: boolean;
  #starts = 0;
  /** Until when the front-end may say that it has mapped what it has answered for; undefined: there is nothing. */
  #commitUntil: number | undefined;
  /** Whether it says so at all. */
  #saysCommits: boolean;
  /** What is mapped, by range: the file's key. What a reset of the guest unmapped stays until the range is reused. */
  readonly #mapped = new Map<string, string>();
  readonly #reply = new DataView(new ArrayBuffer(REPLY_BYTES));
  #replyBytes = 0;
  #broken = false;
  #closed = false;

  /** `fd` is the channel's from now on. */
  constructor(fd: Fd, files: MappedFiles, options: ChannelState) {
    this.fd = fd;
    this.#files = files;
    this.#running = options.running;
    this.#saysCommits = options.saysCommits;
    files.commits = {
      offsetOf: (key, fdOffset, length) => this.#awaited(key, fdOffset, length),
      commit: () => {
        if (this.#commitUntil !== undefined) this.#finish(true);
      },
    };
    setNonblocking(fd);
  }

  /** How often the device was started. A range that was mapped before the last time may have gone with a reset. */
  get starts(): number {
    return this.#starts;
  }

  /** Whether the device runs: while it does not, the front-end is asked for nothing. */
  setRunning(running: boolean): void {
    if (running && !this.#running) this.#starts += 1;
    this.#running = running;
    if (running) this.#send();
    else if (this.#stage === 'knocked') this.#withdraw();
  }

  /** Milliseconds until `expire` is to be called; -1: not at all. */
  get patienceMs(): number {
    return this.#commitUntil === undefined ? -1 : Math.max(0, Math.ceil(this.#commitUntil - performance.now()));
  }

  /** What the front-end has not said in time, it does not say. */
  expire(): void {
    if (this.#commitUntil === undefined || performance.now() < this.#commitUntil) return;
    this.#saysCommits = false;
    this.#finish(true);
  }

  /** How many requests have no answer yet. */
  get pending(): number {
    return this.#requests.length;
  }

  /**
   * Asks for `length` bytes of a file, from `fdOffset` on, at `shmOffset` of a window. All three are multiples of 4096,
   * and the range overlaps nothing that is mapped there. `fd` must be open for reading and writing (QEMU maps both,
   * whatever we say), and stay open until `done`; QEMU refuses a range whose end is beyond the file's, in whole pages,
   * and makes an empty file larger.
   */
  map(shmid: number, fd: number, fdOffset: number, shmOffset: number, length: number, done: Done): void {
    checkRange(shmid, shmOffset, length);
    assert(isPageMultiple(fdOffset), `SHMEM_MAP: ${fdOffset} is no offset of a page in a file`);
    const flags = statusFlags(fd);
    // QEMU would close the channel for good over an O_PATH descriptor.
    const usable = flags >= 0 && (flags & O_PATH) === 0 && (flags & O_ACCMODE) === O_RDWR;
    assert(usable, `SHMEM_MAP: descriptor ${fd} is not open for reading and writing`);
    const fileKey = fileIdentity(fd).key;
    if (!this.#broken) this.#files.add(fileKey);
    const message = mmapMessage(BackendRequest.SHMEM_MAP, shmid, fdOffset, shmOffset, length);
    const range = rangeKey(shmid, shmOffset);
    this.#ask({
      code: BackendRequest.SHMEM_MAP,
      message,
      fds: [fd],
      range,
      fileKey,
      fdOffset,
      shmOffset,
      length,
      done,
    });
  }

  /** Asks for the end of a mapping: exactly one that was asked for by `map`. */
  unmap(shmid: number, shmOffset: number, length: number, done: Done): void {
    checkRange(shmid, shmOffset, length);
    const message = mmapMessage(BackendRequest.SHMEM_UNMAP, shmid, 0, shmOffset, length);
    const range = rangeKey(shmid, shmOffset);
    const nothing = { fds: [], fileKey: undefined, fdOffset: 0 };
    this.#ask({ ...nothing, code: BackendRequest.SHMEM_UNMAP, message, range, shmOffset, length, done });
  }

  #ask(request: Request): void {
    if (this.#broken) {
      request.done(false);
      return;
    }
    this.#requests.push(request);
    this.#send();
  }

  /**
   * Sends what may be sent now. QEMU 11.1 ends by SIGSEGV over a request that it reads after it has stopped the device,
   * and may begin to do that at any moment. So it gets the first byte, with the descriptor, alone: once it has taken
   * that, it waits for the rest of the header and cannot stop anything meanwhile.
   */
  #send(): void {
    if (this.#broken || this.#stage !== 'waiting' || !this.#running || this.#requests.length === 0) return;
    const { message, fds } = this.#requests[0];
    this.#stage = 'knocked';
    this.#push(message.subarray(0, KNOCK_BYTES), fds);
    this.#sendRest();
  }

  #sendRest(): void {
    if (this.#broken || this.#stage !== 'knocked' || !isReceived(this.fd)) return;
    this.#stage = 'sent';
    this.#push(this.#requests[0].message.subarray(KNOCK_BYTES));
  }

  /** The front-end stops the device, and has not taken the byte: it becomes a request that does not exist. */
  #withdraw(): void {
    this.#stage = 'waiting';
    this.#push(voidMessage(this.#requests[0].code).subarray(KNOCK_BYTES));
  }

  /** What is so small goes into an empty socket, whole. */
  #push(bytes: Uint8Array, fds: readonly number[] = []): void {
    if (!this.#broken && sendMessage(this.fd, bytes, fds) < 0) this.#fail();
  }

  /**
   * When the descriptor is readable, or what was written to it has been read (edge-triggered: EPOLLIN, EPOLLOUT and
   * EPOLLET): goes on with what is sent, and takes the answers that are there. False when the channel is over: the
   * front-end closed it, or what it said makes no sense. Then everything that was pending has heard false, and so does
   * whatever comes; take the descriptor out of the epoll set and call `close()`.
   */
  receive(): boolean {
    this.#sendRest();
    while (!this.#broken) {
      const fds: Fd[] = [];
      const target = new Uint8Array(this.#reply.buffer);
      const got = receiveMessage(this.fd, target, this.#replyBytes, REPLY_BYTES - this.#replyBytes, fds);
      for (const fd of fds) close(fd);
      if (got === -EAGAIN) break;
      if (got <= 0 || fds.length > 0) {
        this.#fail();
        break;
      }
      this.#replyBytes += got;
      if (this.#replyBytes >= VhostHeader.bytes && !this.#isExpected()) {
        this.#fail();
        break;
      }
      if (this.#replyBytes === REPLY_BYTES) this.#settle();
    }
    return !this.#broken;
  }

  /** Whether the header that has come is that of the answer to the oldest request. */
  #isExpected(): boolean {
    return (
      this.#stage === 'sent' &&
      this.#commitUntil === undefined &&
      VhostHeader.request(this.#reply, 0) === this.#requests[0].code &&
      (VhostHeader.flags(this.#reply, 0) & ~HEADER_NEED_REPLY) === (HEADER_VERSION | HEADER_REPLY) &&
      VhostHeader.size(this.#reply, 0) === U64.bytes
    );
  }

  #settle(): void {
    const ok = U64.value(this.#reply, VhostHeader.bytes) === 0;
    this.#replyBytes = 0;
    if (ok && this.#requests[0].fileKey !== undefined && this.#saysCommits) {
      this.#commitUntil = performance.now() + COMMIT_MS;
    } else {
      this.#finish(ok);
    }
  }

  /**
   * QEMU answers before it has mapped anything: until then a guest would find nothing there. While it maps it sends a
   * range as a memory region, and waits. Of those that it was refused it sends the lowest, again and again, and no
   * other after that: which one it is says nothing.
   */
  #awaited(key: string, fdOffset: number, length: number): number {
    // It has answered before; what has come by two ways may be read in any order.
    if (this.#stage === 'sent' && this.#commitUntil === undefined) this.receive();
    if (this.#commitUntil === undefined) return -1;
    const [first] = this.#requests;
    const same = first.fileKey === key && first.fdOffset === fdOffset && first.length === length;
    return same ? first.shmOffset : -1;
  }

  #finish(ok: boolean): void {
    this.#commitUntil = undefined;
    this.#stage = 'waiting';
    const { range, fileKey, done } = this.#requests.shift() as Request;
    if (fileKey !== undefined && !ok) {
      this.#files.remove(fileKey);
    } else {
      // Unmapped, or not mapped any more since the guest was reset, or mapped anew.
      const before = this.#mapped.get(range);
      if (before !== undefined) this.#files.remove(before);
      if (fileKey === undefined) this.#mapped.delete(range);
      else this.#mapped.set(range, fileKey);
    }
    done(ok);
    this.#send();
  }

  /** The channel is of no use any more. Its descriptor stays, readable, until the owner has let go of it. */
  #fail(): void {
    this.#broken = true;
    shutdown(this.fd);
    this.#stage = 'waiting';
    this.#commitUntil = undefined;
    for (const { done } of this.#requests.splice(0)) done(false);
  }

  /** Gives the channel up: what is pending hears false. What is mapped stays mapped. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#fail();
    close(this.fd);
  }
}

const isPageMultiple = (value: number): boolean =>
  Number.isSafeInteger(value) && value >= 0 && value % PAGE_BYTES === 0;

/** QEMU takes ranges that are not made of pages, to no good. */
function checkRange(shmid: number, shmOffset: number, length: number): void {
  assert(Number.isInteger(shmid) && shmid >= 0 && shmid < MAX_SHMEM_REGIONS, `there is no window ${shmid}`);
  assert(
    isPageMultiple(shmOffset) && isPageMultiple(length) && length > 0,
    `${length} bytes at ${shmOffset} of window ${shmid} are no pages`,
  );
}

const rangeKey = (shmid: number, shmOffset: number): string => `${shmid}:${shmOffset}`;

/** A message without a meaning that begins as one with that code does. */
function voidMessage(code: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(VhostHeader.bytes));
  VhostHeader.set.request(view, 0, NO_REQUEST + code);
  VhostHeader.set.flags(view, 0, HEADER_VERSION);
  return new Uint8Array(view.buffer);
}

function mmapMessage(code: number, shmid: number, fdOffset: number, shmOffset: number, length: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(VhostHeader.bytes + Mmap.bytes));
  VhostHeader.set.request(view, 0, code);
  VhostHeader.set.flags(view, 0, HEADER_VERSION | HEADER_NEED_REPLY);
  VhostHeader.set.size(view, 0, Mmap.bytes);
  const at = VhostHeader.bytes;
  Mmap.set.shmid(view, at, shmid);
  Mmap.set.fdOffset(view, at, fdOffset);
  Mmap.set.shmOffset(view, at, shmOffset);
  Mmap.set.len(view, at, length);
  Mmap.set.flags(view, at, code === BackendRequest.SHMEM_MAP ? SHMEM_RW : 0);
  return new Uint8Array(view.buffer);
}
