/** A FUSE session as a guest has it: INIT, requests whose replies are held against the protocol, FORGET. */
import { assert, errnoName, PAGE_BYTES } from '../core/index.ts';
import {
  BatchForgetIn,
  ForgetOne,
  flags,
  InHeader,
  InitIn,
  InitOut,
  type Opcode,
  OutHeader,
  opcodes,
} from '../fuse/index.ts';
import { ConnectionError, Refusal } from './refusal.ts';
import { start, type Task } from './task.ts';
import { type Message, type Slot, type Transport } from './transport.ts';

/** Who asks. */
export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

export interface Call {
  readonly opcode: Opcode;
  readonly nodeid: bigint;
  /** What follows the header: the fixed part and names. */
  readonly body?: Uint8Array;
  /** What follows that: file data. */
  readonly data?: Uint8Array;
  /** For replies of no fixed length: how long they may be. */
  readonly room?: number;
  /** It may take as long as it likes. */
  readonly patient?: boolean;
}

/** What the daemon and we have agreed on. */
export interface Agreement {
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
  readonly maxReadaheadBytes: number;
  readonly maxWriteBytes: number;
  /** Data bytes of the largest READ or READDIR. */
  readonly maxReadBytes: number;
  readonly timeGranNs: number;
}

export interface SessionOptions {
  readonly credentials: Credentials;
  readonly writeback: boolean;
  readonly dax: boolean;
  /** Data bytes of a request, at most; a multiple of 4096. */
  readonly dataBytes: number;
}

/** Hears of every message and of its reply, as they were on the wire. */
export type Tracer = (request: Uint8Array, reply: Uint8Array | undefined, microseconds: number) => void;

const ERRNO_END = 512;
/** As many FORGETs as go into one message. */
const FORGET_BATCH = 256;
/** What fits behind the header of a slot's reply. */
const SMALL_REPLY_BYTES = 4096;
const { INIT, INIT2 } = flags;

/** What Linux 7.3 offers (fs/fuse/inode.c, fuse_new_init), less what needs /dev/fuse or a kernel behind it. */
const FLAGS =
  INIT.ASYNC_READ |
  INIT.POSIX_LOCKS |
  INIT.ATOMIC_O_TRUNC |
  INIT.EXPORT_SUPPORT |
  INIT.BIG_WRITES |
  INIT.DONT_MASK |
  INIT.FLOCK_LOCKS |
  INIT.AUTO_INVAL_DATA |
  INIT.DO_READDIRPLUS |
  INIT.READDIRPLUS_AUTO |
  INIT.ASYNC_DIO |
  INIT.NO_OPEN_SUPPORT |
  INIT.PARALLEL_DIROPS |
  INIT.HANDLE_KILLPRIV |
  INIT.POSIX_ACL |
  INIT.ABORT_ERROR |
  INIT.MAX_PAGES |
  INIT.CACHE_SYMLINKS |
  INIT.NO_OPENDIR_SUPPORT |
  INIT.EXPLICIT_INVAL_DATA |
  INIT.HANDLE_KILLPRIV_V2 |
  INIT.SETXATTR_EXT |
  INIT.SUBMOUNTS |
  INIT.INIT_EXT;
const FLAGS2 = INIT2.HAS_EXPIRE_ONLY | INIT2.DIRECT_IO_ALLOW_MMAP | INIT2.NO_EXPORT_SUPPORT;

export class Session {
  readonly transport: Transport;
  /** Of the requests from now on. */
  credentials: Credentials;
  tracer: Tracer | undefined;
  readonly #options: SessionOptions;
  #agreement: Agreement | undefined;
  #unique = 0;
  /** Node ids and counts that the daemon is to forget. */
  readonly #forgotten: { nodeid: bigint; count: number }[] = [];
  #forgetting = false;

  constructor(transport: Transport, options: SessionOptions) {
    this.transport = transport;
    this.credentials = options.credentials;
    this.#options = options;
  }

  get agreed(): Agreement {
    if (this.#agreement === undefined) throw new ConnectionError('EPROTO', 'there is no FUSE session yet');
    return this.#agreement;
  }

  /** FUSE_INIT. Throws ConnectionError. */
  *init(): Task<void> {
    const { writeback, dax, dataBytes } = this.#options;
    const body = new Uint8Array(InitIn.bytes);
    const view = viewOf(body);
    InitIn.set.major(view, 0, flags.KERNEL_VERSION);
    InitIn.set.minor(view, 0, flags.KERNEL_MINOR_VERSION);
    InitIn.set.maxReadahead(view, 0, dataBytes);
    const optional = (writeback ? INIT.WRITEBACK_CACHE : 0) | (dax ? INIT.MAP_ALIGNMENT : 0);
    const offered = (FLAGS | optional) >>> 0;
    const offered2 = FLAGS2 | (dax ? INIT2.HAS_INODE_DAX : 0);
    InitIn.set.flags(view, 0, offered);
    InitIn.set.flags2(view, 0, offered2);
    const reply = yield* this.#askInit(body);
    const [major, minor] = [InitOut.major(reply, 0), InitOut.minor(reply, 0)];
    if (major !== flags.KERNEL_VERSION || minor < 27) {
      throw this.#broken(`the daemon speaks FUSE ${major}.${minor}; 7.27 or newer is needed`);
    }
    const agreedFlags = InitOut.flags(reply, 0);
    const extended = (agreedFlags & INIT.INIT_EXT) !== 0;
    const maxPages = (agreedFlags & INIT.MAX_PAGES) === 0 ? flags.DEFAULT_MAX_PAGES : InitOut.maxPages(reply, 0);
    const maxBytes = Math.min(dataBytes, Math.max(1, maxPages) * PAGE_BYTES);
    this.#agreement = {
      minor,
      flags: (agreedFlags & offered) >>> 0,
      flags2: extended ? InitOut.flags2(reply, 0) & offered2 : 0,
      maxReadaheadBytes: Math.min(InitOut.maxReadahead(reply, 0), dataBytes),
      maxWriteBytes: Math.min(Math.max(InitOut.maxWrite(reply, 0), PAGE_BYTES), maxBytes),
      maxReadBytes: maxBytes,
      timeGranNs: Math.max(1, InitOut.timeGran(reply, 0)),
    };
  }

  *#askInit(body: Uint8Array): Task<DataView> {
    try {
      return yield* this.call({ opcode: opcodes.INIT, nodeid: 0n, body });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      throw this.#broken(`the daemon refuses FUSE_INIT: ${errnoName(error.errno)}`);
    }
  }

  /** Whether both sides have a flag of INIT. */
  has(flag: number): boolean {
    return (this.agreed.flags & flag) !== 0;
  }

  /** Sends a request and waits for its reply: what follows its header. Throws Refusal, ConnectionError. */
  *call(call: Call): Task<DataView<ArrayBuffer>> {
    const slot = yield* this.transport.slot(needsData(call), call.patient);
    try {
      const length = yield* this.#exchange(call, slot);
      const at = replyAt(call, slot);
      return viewOf(this.transport.bytes.slice(at, at + length));
    } finally {
      this.transport.free(slot);
    }
  }

  /** Sends a request whose reply is data, and puts them into `into`: how many. Throws Refusal, ConnectionError. */
  *transfer(call: Call, into: Uint8Array): Task<number> {
    const slot = yield* this.transport.slot(needsData(call), call.patient);
    try {
      const length = yield* this.#exchange(call, slot);
      const at = replyAt(call, slot);
      into.set(this.transport.bytes.subarray(at, at + length));
      return length;
    } finally {
      this.transport.free(slot);
    }
  }

  *#exchange(call: Call, slot: Slot): Task<number> {
    const began = performance.now();
    const message = this.#encode(call, slot);
    const used = yield* this.transport.exchange(message, call.opcode.hiprio);
    this.#trace(message, used, began);
    return this.#verified(call, slot, used);
  }

  #trace({ slot, requestBytes, dataInBytes, replyBytes, dataOutBytes }: Message, used: number, began: number): void {
    if (this.tracer === undefined) return;
    const { bytes } = this.transport;
    const dataAt = Math.max(0, slot.data);
    const both = (at: number, length: number, dataBytes: number): Uint8Array =>
      Buffer.concat([bytes.subarray(at, at + length), bytes.subarray(dataAt, dataAt + dataBytes)]);
    const written = Math.min(used, replyBytes);
    const dataWritten = Math.min(used - written, dataOutBytes);
    const request = both(slot.request, requestBytes, dataInBytes);
    const reply = replyBytes === 0 ? undefined : both(slot.reply, written, dataWritten);
    this.tracer(request, reply, (performance.now() - began) * 1000);
  }

  #encode(call: Call, slot: Slot): Message {
    const { opcode, nodeid, body, data, room = 0, patient = false } = call;
    const { bytes, view } = this.transport;
    const at = slot.request;
    const requestBytes = InHeader.bytes + (body?.length ?? 0);
    const dataInBytes = data?.length ?? 0;
    assert(at + requestBytes <= slot.reply, `${opcode.name} has ${requestBytes} bytes: more than there is room for`);
    this.#unique += 2;
    bytes.fill(0, at, at + InHeader.bytes);
    InHeader.set.len(view, at, requestBytes + dataInBytes);
    InHeader.set.opcode(view, at, opcode.code);
    view.setBigUint64(at + InHeader.offsets.unique, BigInt(this.#unique), true);
    view.setBigUint64(at + InHeader.offsets.nodeid, nodeid, true);
    InHeader.set.uid(view, at, this.credentials.uid);
    InHeader.set.gid(view, at, this.credentials.gid);
    InHeader.set.pid(view, at, process.pid);
    if (body !== undefined) bytes.set(body, at + InHeader.bytes);
    if (data !== undefined) bytes.set(data, slot.data);
    const answered = opcode.reply !== 'none';
    const isData = isDataReply(call);
    const outBytes = opcode.reply === 'struct' ? opcode.outBytes : isData ? 0 : room;
    return {
      slot,
      requestBytes,
      dataInBytes,
      replyBytes: answered ? OutHeader.bytes + outBytes : 0,
      dataOutBytes: isData ? room : 0,
      patient,
    };
  }

  /**
   * virtio_fs_verify_response and virtio_fs_request_complete of Linux 7.3 (fs/fuse/virtio_fs.c), and what
   * fuse_dev_do_write checks: how many bytes follow the header.
   */
  #verified({ opcode, room = 0 }: Call, slot: Slot, used: number): number {
    const { view } = this.transport;
    // Nobody waits for what comes of a good-bye, and not all daemons answer it.
    if (opcode.reply === 'none' || opcode.code === opcodes.DESTROY.code) return 0;
    const at = slot.reply;
    const said = (what: string): Error => this.#broken(`the daemon answered ${opcode.name} ${what}`);
    if (used < OutHeader.bytes) throw said(`with ${used} bytes`);
    const length = OutHeader.len(view, at);
    if (length !== used) throw said(`with ${used} bytes, and says that they are ${length}`);
    const unique = view.getBigUint64(at + OutHeader.offsets.unique, true);
    const asked = view.getBigUint64(slot.request + InHeader.offsets.unique, true);
    if (unique !== asked) throw said(`with the reply to request ${unique}, not ${asked}`);
    const error = OutHeader.error(view, at);
    if (error > 0 || error <= -ERRNO_END) throw said(`with error ${error}`);
    const rest = used - OutHeader.bytes;
    if (error !== 0) {
      if (rest !== 0) throw said(`with error ${error} and ${rest} bytes more`);
      throw new Refusal(-error);
    }
    const exact = opcode.reply === 'struct' || opcode.reply === 'empty';
    if (exact && rest !== opcode.outBytes) throw said(`with ${rest} bytes, not ${opcode.outBytes}`);
    if (!exact && rest > room) throw said(`with ${rest} bytes where there is room for ${room}`);
    return rest;
  }

  /** The daemon breaks the protocol: nothing that it says counts any more. */
  #broken(message: string): Error {
    const error = new ConnectionError('EPROTO', message);
    this.transport.fail(error);
    return error;
  }

  /** The guest lets go of an inode that it has looked up `count` times. Sent with others, soon. */
  forget(nodeid: bigint, count: number): void {
    this.#forgotten.push({ nodeid, count });
    // A caller who blocks never comes to what was put off.
    if (this.#forgotten.length >= FORGET_BATCH) start(this.#sendForgotten());
    if (this.#forgetting) return;
    this.#forgetting = true;
    setImmediate(() => start(this.#sendForgotten())).unref();
  }

  /** Sends all FORGETs that are due, and waits until they are taken. */
  *flushForgets(): Task<void> {
    while (this.#forgotten.length > 0) yield* this.#sendBatch();
  }

  *#sendForgotten(): Task<void> {
    try {
      yield* this.flushForgets();
    } catch (error) {
      // With the connection went all that was to be forgotten.
      if (!(error instanceof ConnectionError)) throw error;
    } finally {
      this.#forgetting = false;
    }
  }

  *#sendBatch(): Task<void> {
    const batch = this.#forgotten.splice(0, FORGET_BATCH);
    const body = new Uint8Array(BatchForgetIn.bytes + batch.length * ForgetOne.bytes);
    const view = viewOf(body);
    BatchForgetIn.set.count(view, 0, batch.length);
    for (const [i, { nodeid, count }] of batch.entries()) {
      const at = BatchForgetIn.bytes + i * ForgetOne.bytes;
      view.setBigUint64(at + ForgetOne.offsets.nodeid, nodeid, true);
      ForgetOne.set.nlookup(view, at, count);
    }
    yield* this.call({ opcode: opcodes.BATCH_FORGET, nodeid: 0n, body });
  }
}

function isDataReply({ opcode, room = 0 }: Call): boolean {
  return opcode.reply === 'payload' || (opcode.reply === 'bytes' && room > SMALL_REPLY_BYTES);
}

function needsData(call: Call): boolean {
  return call.data !== undefined || isDataReply(call);
}

function replyAt(call: Call, slot: Slot): number {
  return isDataReply(call) ? slot.data : slot.reply + OutHeader.bytes;
}

function viewOf<B extends ArrayBufferLike>(bytes: Uint8Array<B>): DataView<B> {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
