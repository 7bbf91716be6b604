/**
 * The gate: everything that can be checked of a request without knowing the file system is checked here, once, for all
 * opcodes. What it needs is copied into the worker's scratch first, so that nothing is decided on memory that the guest
 * can still change.
 */
// Not the global of that name, which is behind a getter: it would be called for each request.
import { performance } from 'node:perf_hooks';

import { E2BIG, EAGAIN, EFAULT, EINVAL, EIO, ENOSYS } from '../core/index.ts';
import { type Handler, type RawFileSystem, type Request, RETRY, WOULD_SLEEP } from '../fs/file-system.ts';
import {
  encodeInit,
  flags,
  type InitOffer,
  InHeader,
  InterruptIn,
  layExtensions,
  nameLength,
  negotiate,
  OPCODE_COUNT,
  OPCODES,
  type Opcode,
  OutHeader,
  opcodes,
  SetxattrIn,
  targetLength,
  xattrNameLength,
} from '../fuse/index.ts';
import { ByteView, type GuestMemory, gatherInto, scatterFrom } from '../memory/index.ts';
import { Arena } from '../sys/index.ts';
import type { Chain } from '../virtio/index.ts';
import { type Counters, latencyBucket } from './counters.ts';
import type { Mappings } from './mappings.ts';
import { SESSION_FLAGS, SESSION_FLAGS2, SESSION_INITIALIZED } from './session-state.ts';
import type { Waits } from './waits.ts';

/** Room for a request less its file data: a symlink with its target, an attribute's value of 64 KiB. */
const REQUEST_BYTES = 80 * 1024;
/** Room for a reply less its file data: directory entries. */
const REPLY_BYTES = 256 * 1024;
/** Brought in at once: the header and the largest fixed part but SETATTR's. */
const FIRST_BYTES = InHeader.bytes + 88;
const WRITE = opcodes.WRITE.code;
const INIT = opcodes.INIT.code;
const DESTROY = opcodes.DESTROY.code;
const INTERRUPT = opcodes.INTERRUPT.code;

/** From `serve`: nothing was done and nothing answered, the request is to be served again. */
export const SERVE_AGAIN = -1;
/** From `serve` with `defer`: nothing was done and nothing answered, the request belongs to a thread that may sleep. */
export const SERVE_ELSEWHERE = -2;

/** By opcode, 1: may take as long as a disk does, or as a copy of gigabytes. READ finds out by itself. */
const SLEEPS = new Uint8Array(OPCODE_COUNT);
for (const name of ['FSYNC', 'FSYNCDIR', 'SYNCFS', 'FALLOCATE', 'COPY_FILE_RANGE', 'COPY_FILE_RANGE_64'] as const) {
  SLEEPS[opcodes[name].code] = 1;
}
const SETXATTR = opcodes.SETXATTR.code;
/** Its payload is the name '/' and the extensions. */
const TMPFILE = opcodes.TMPFILE.code;

export interface GateOptions {
  readonly memory: GuestMemory;
  readonly fileSystem: RawFileSystem;
  /** Shared by the session's workers. */
  readonly session: Int32Array;
  readonly counters: Counters;
  readonly offer: InitOffer;
  readonly warn: (message: string) => void;
  /** The session's requests that wait. Without, none may: they are answered EAGAIN. */
  readonly waits?: Waits;
  /** What the guest maps; absent where it has no DAX window. */
  readonly mappings?: Mappings;
}

export class Gate {
  readonly #memory: GuestMemory;
  readonly #fileSystem: RawFileSystem;
  readonly #handlers: readonly (Handler | undefined)[];
  readonly #session: Int32Array;
  readonly #counters: Counters;
  readonly #offer: InitOffer;
  readonly #warn: (message: string) => void;
  readonly #waits: Waits | undefined;
  readonly #mappings: Mappings | undefined;
  readonly #arena = new Arena(REQUEST_BYTES + REPLY_BYTES + 4096);
  readonly #copy: ByteView;
  /** Offsets in scratch: the request's header, and the reply's. */
  readonly #in: number;
  readonly #out: number;
  readonly #request: Request;

  constructor(options: GateOptions) {
    this.#memory = options.memory;
    this.#fileSystem = options.fileSystem;
    this.#session = options.session;
    this.#counters = options.counters;
    this.#offer = options.offer;
    this.#warn = options.warn;
    this.#waits = options.waits;
    this.#mappings = options.mappings;
    const { handlers } = options.fileSystem;
    this.#handlers = OPCODES.map((record) => record && handlers[record.name as keyof typeof handlers]);
    this.#copy = new ByteView(this.#arena.u8);
    this.#in = this.#arena.reserve(REQUEST_BYTES);
    this.#out = this.#arena.reserve(REPLY_BYTES + OutHeader.bytes);
    this.#request = {
      scratch: this.#arena,
      opcode: 0,
      nodeidLo: 0,
      nodeidHi: 0,
      uid: 0,
      gid: 0,
      agreed: 0,
      agreed2: 0,
      body: this.#in + InHeader.bytes,
      name: 0,
      nameLength: 0,
      name2: 0,
      name2Length: 0,
      data: { addresses: new Float64Array(0), lengths: new Float64Array(0), count: 0 },
      dataFrom: 0,
      dataBytes: 0,
      reply: this.#out + OutHeader.bytes,
      replyRoom: 0,
      nowait: false,
      groups: 0,
      groupCount: 0,
      contexts: 0,
      contextCount: 0,
    };
  }

  /** The `unique` of the request last served, in two words. */
  get uniqueLo(): number {
    return this.#arena.view.getInt32(this.#in + InHeader.offsets.unique, true);
  }

  get uniqueHi(): number {
    return this.#arena.view.getInt32(this.#in + InHeader.offsets.unique + 4, true);
  }

  /**
   * Serves one chain; the number of bytes written to it, for the used ring, or SERVE_AGAIN or SERVE_ELSEWHERE.
   * `hiprio`: it came on the hiprio queue. `defer`: others wait behind it, so it should not sleep.
   */
  serve(chain: Chain, hiprio: boolean, defer = false): number {
    const start = performance.now();
    const { readable, writable } = chain;
    const bytesIn = readable.bytes;
    if (bytesIn < InHeader.bytes) return this.#refuseRunt(bytesIn);
    // Less where the data of a WRITE is in a file that is mapped: only the kernel touches that.
    const first = gatherInto(this.#memory, readable, 0, this.#copy, this.#in, Math.min(bytesIn, FIRST_BYTES));
    if (first < InHeader.bytes) return this.#refuseRunt(bytesIn);
    const { view } = this.#arena;
    const opcode = InHeader.opcode(view, this.#in);
    const record = opcode < OPCODES.length ? OPCODES[opcode] : undefined;
    const replies = record === undefined || record.reply !== 'none';
    // Without room for a header nothing can be answered, so nothing is done either.
    if (replies && writable.bytes < OutHeader.bytes) return this.#refuseRunt(bytesIn);

    if (defer && record !== undefined && SLEEPS[opcode] === 1) return SERVE_ELSEWHERE;

    this.#request.nowait = defer;
    let result = this.#admit(chain, record, first, hiprio);
    if (result === 0) result = this.#execute(record as Opcode);
    if (result === WOULD_SLEEP && defer) return SERVE_ELSEWHERE;
    if (result === RETRY || result === WOULD_SLEEP) {
      if (this.#waits !== undefined && !hiprio) return SERVE_AGAIN;
      result = -EAGAIN;
    }
    // Not on the hiprio queue, whose thread has it done, and which tells nobody of sizes.
    if (!hiprio && this.#mappings?.isCut) this.#mappings.extend(result < 0 ? 0 : opcode, this.#request);
    const written = replies ? this.#reply(chain, record, result) : 0;
    this.#counters.count(opcode, result < 0, bytesIn, written, latencyBucket(start));
    return written;
  }

  /** Answers a chain with an error (a negative errno) instead of serving it; as `serve`. */
  refuse(chain: Chain, error: number): number {
    const { readable, writable } = chain;
    if (readable.bytes < InHeader.bytes || writable.bytes < OutHeader.bytes) return this.#refuseRunt(readable.bytes);
    const copied = gatherInto(this.#memory, readable, 0, this.#copy, this.#in, InHeader.bytes);
    if (copied < InHeader.bytes) return this.#refuseRunt(readable.bytes);
    const written = this.#reply(chain, undefined, error);
    this.#counters.count(InHeader.opcode(this.#arena.view, this.#in), true, readable.bytes, written, 0);
    return written;
  }

  /** Checks a request and lays it out for its handler: 0, or a negative errno. */
  #admit(chain: Chain, record: Opcode | undefined, gathered: number, hiprio: boolean): number {
    const { view } = this.#arena;
    const { readable, writable } = chain;
    const header = this.#in;
    if (record === undefined) return -ENOSYS;
    if (InHeader.len(view, header) !== readable.bytes) return -EINVAL;
    // virtio 5.11.6.1: the hiprio queue takes these and nothing else; what may block would hold them up.
    if (hiprio && !record.hiprio) return -EINVAL;
    if (record.code !== INIT && Atomics.load(this.#session, SESSION_INITIALIZED) === 0) return -EIO;
    if (this.#handlers[record.code] === undefined && !isOurs(record.code)) return -ENOSYS;
    const bodyEnd = InHeader.bytes + this.#bodyBytes(record);
    if (readable.bytes < bodyEnd || gathered < Math.min(bodyEnd, FIRST_BYTES)) return -EINVAL;

    const request = this.#request;
    request.opcode = record.code;
    request.nodeidLo = view.getInt32(header + InHeader.offsets.nodeid, true);
    request.nodeidHi = view.getInt32(header + InHeader.offsets.nodeid + 4, true);
    request.uid = view.getInt32(header + InHeader.offsets.uid, true);
    request.gid = view.getInt32(header + InHeader.offsets.gid, true);
    request.agreed = this.#session[SESSION_FLAGS];
    request.agreed2 = this.#session[SESSION_FLAGS2];
    request.groupCount = 0;
    request.contextCount = 0;
    const roomFor = OutHeader.bytes + record.outBytes;
    if (record.reply !== 'none' && writable.bytes < roomFor) return -EINVAL;
    request.replyRoom = Math.min(REPLY_BYTES, writable.bytes - OutHeader.bytes);
    if (record.code === WRITE) {
      request.data = readable;
      request.dataFrom = bodyEnd;
      request.dataBytes = readable.bytes - bodyEnd;
      return 0;
    }
    request.data = writable;
    request.dataFrom = OutHeader.bytes;
    request.dataBytes = record.payloadIn ? readable.bytes - bodyEnd : writable.bytes - OutHeader.bytes;
    if (readable.bytes > REQUEST_BYTES) return -E2BIG;
    if (readable.bytes > gathered) {
      const rest = readable.bytes - gathered;
      const copied = gatherInto(this.#memory, readable, gathered, this.#copy, header + gathered, rest);
      if (copied < rest) return -EFAULT;
    }
    return this.#admitNames(record, header + bodyEnd, header + readable.bytes);
  }

  /** Length of the fixed part: with SETXATTR_EXT that of SETXATTR is longer. */
  #bodyBytes(record: Opcode): number {
    const extended = record.code === SETXATTR && (this.#session[SESSION_FLAGS] & flags.INIT.SETXATTR_EXT) !== 0;
    return extended ? SetxattrIn.bytes : record.inBytes;
  }

  /** Finds the names behind the fixed part, and that nothing is left after them but declared extensions. */
  #admitNames(record: Opcode, from: number, end: number): number {
    const { u8, view } = this.#arena;
    const request = this.#request;
    let at = from;
    if (record.names === 2) {
      const first = nameLength(u8, at, end);
      if (first < 0) return first;
      request.name = at;
      request.nameLength = first;
      at += first + 1;
    }
    if (record.names > 0) {
      const last = lastNameLength(record, u8, at, end);
      if (last < 0) return last;
      if (record.names === 1) {
        request.name = at;
        request.nameLength = last;
      } else {
        request.name2 = at;
        request.name2Length = last;
      }
      at += last + 1;
    }
    if (record.code === INIT) return 0;
    const extensions = end - InHeader.totalExtlen(view, this.#in) * 8;
    if (record.code === TMPFILE) at = Math.max(at, extensions);
    else if (record.payloadIn) return 0;
    if (extensions !== at) return -EINVAL;
    return at === end ? 0 : layExtensions(view, u8, at, end, request);
  }

  /** Does what was asked: bytes of the reply's body, or a negative errno. */
  #execute(record: Opcode): number {
    if (record.code === INIT) return this.#init();
    if (record.code === DESTROY) return this.#destroy();
    const handler = this.#handlers[record.code];
    if (record.code === INTERRUPT) this.#interrupt();
    if (handler === undefined) return record.code === INTERRUPT ? 0 : -ENOSYS;
    try {
      return handler(this.#request);
    } catch (error) {
      // A bug of ours costs this request, not the VM.
      this.#warn(`${record.name} failed inside the daemon: ${(error as Error).stack ?? String(error)}`);
      return -EIO;
    }
  }

  #init(): number {
    const { view } = this.#arena;
    const length = InHeader.len(view, this.#in) - InHeader.bytes;
    const result = negotiate(view, this.#request.body, length, this.#offer);
    if (result.status === 'refused') {
      this.#warn(result.message);
      return -result.errno;
    }
    // virtio 5.11.6: a new INIT ends the session before it, without DESTROY when the guest was reset.
    this.#waits?.dropAll();
    this.#fileSystem.reset();
    this.#session[SESSION_FLAGS] = result.status === 'agreed' ? result.flags : 0;
    this.#session[SESSION_FLAGS2] = result.status === 'agreed' ? result.flags2 : 0;
    Atomics.store(this.#session, SESSION_INITIALIZED, result.status === 'agreed' ? 1 : 0);
    return encodeInit(view, this.#request.reply, result);
  }

  /** A file system may have a handler as well, for what it can end early itself. */
  #interrupt(): void {
    const { view } = this.#arena;
    const at = this.#request.body + InterruptIn.offsets.unique;
    this.#waits?.interrupt(view.getInt32(at, true), view.getInt32(at + 4, true));
  }

  #destroy(): number {
    this.reset();
    this.#mappings?.awaitEmpty();
    return 0;
  }

  /** Ends the FUSE session: nothing but INIT is served until the next one. */
  reset(): void {
    Atomics.store(this.#session, SESSION_INITIALIZED, 0);
    this.#waits?.dropAll();
    this.#fileSystem.reset();
  }

  /** Writes the reply, of exactly the length that it has: Linux 7.1 and newer give a mount up otherwise. */
  #reply(chain: Chain, record: Opcode | undefined, result: number): number {
    const { view, u32 } = this.#arena;
    const out = this.#out;
    const failed = result < 0;
    const length = OutHeader.bytes + (failed ? 0 : result);
    OutHeader.set.len(view, out, length);
    OutHeader.set.error(view, out, failed ? result : 0);
    const unique = (this.#in + InHeader.offsets.unique) >> 2;
    u32[(out + OutHeader.offsets.unique) >> 2] = u32[unique];
    u32[((out + OutHeader.offsets.unique) >> 2) + 1] = u32[unique + 1];
    // File data is in guest memory already.
    const fromScratch = !failed && record?.reply === 'payload' ? OutHeader.bytes : length;
    scatterFrom(this.#memory, chain.writable, 0, this.#copy, out, fromScratch);
    return length;
  }

  #refuseRunt(bytes: number): number {
    this.#counters.count(0, true, bytes, 0, 0);
    return 0;
  }
}

/** What the gate does itself, with or without a handler. */
function isOurs(opcode: number): boolean {
  return opcode === INIT || opcode === DESTROY || opcode === INTERRUPT;
}

function lastNameLength(record: Opcode, u8: Uint8Array, at: number, end: number): number {
  switch (record.lastName) {
    case 'target':
      return targetLength(u8, at, end);
    case 'xattr':
      return xattrNameLength(u8, at, end);
    case 'entry':
      return nameLength(u8, at, end);
  }
}
