/** A FUSE client without a kernel: asks a file system's handlers as the gate of src/server does. */
import { ENOSYS } from '../src/core/index.ts';
import type { Handler, RawFileSystem, Request } from '../src/fs/file-system.ts';
import { flags, type OpcodeName, opcodes } from '../src/fuse/index.ts';
import { Arena } from '../src/sys/index.ts';
import type { Long, User } from './face.ts';
import { failure } from './verdicts.ts';

const REQUEST_BYTES = 160 * 1024;
const REPLY_BYTES = 256 * 1024;
const DATA_BYTES = 2 << 20;
const HEADER_BYTES = 16;

export type Fields = Readonly<Record<string, Long>>;

export interface Ask {
  /** The fields of the fixed part, by their names; the others are 0. */
  readonly fields?: Fields;
  /** NUL-terminated strings behind it. */
  readonly names?: readonly Uint8Array[];
  /** What follows: file data goes to data memory (WRITE), a value behind the names (SETXATTR). */
  readonly payload?: Uint8Array;
  /** Room for file data, or for a reply of any length. */
  readonly room?: number;
}

export class FuseClient {
  /** Who asks. */
  user: User = { uid: 0, gid: 0 };
  readonly #handlers: RawFileSystem['handlers'];
  readonly #scratch = new Arena(REQUEST_BYTES + REPLY_BYTES + HEADER_BYTES + 4096);
  readonly #data = new Arena(DATA_BYTES);
  readonly #in = this.#scratch.reserve(REQUEST_BYTES);
  readonly #out = this.#scratch.reserve(REPLY_BYTES + HEADER_BYTES);

  constructor(fileSystem: RawFileSystem) {
    this.#handlers = fileSystem.handlers;
  }

  has(name: OpcodeName): boolean {
    return this.#handlers[name] !== undefined;
  }

  /** What the file system replies, after fuse_out_header; of READ the data. Throws SysError. */
  ask(name: OpcodeName, nodeid: bigint, ask: Ask = {}): DataView {
    const { user } = this;
    const result = this.#serve(name, this.#request(name, nodeid, ask, user));
    if (result < 0) throw failure(name, result, `node ${nodeid}`);
    // READ put the data elsewhere.
    const from = name === 'READ' ? this.#data.u8 : this.#scratch.u8.subarray(this.#out + HEADER_BYTES);
    return new DataView(from.slice(0, result).buffer);
  }

  #serve(name: OpcodeName, request: Request): number {
    const handler: Handler | undefined = this.#handlers[name];
    return handler === undefined ? -ENOSYS : handler(request);
  }

  #request(name: OpcodeName, nodeid: bigint, ask: Ask, user: User): Request {
    const { names = [], payload = new Uint8Array(0), room = REPLY_BYTES } = ask;
    const { u8 } = this.#scratch;
    const record = opcodes[name];
    u8.fill(0, this.#out, this.#out + 512);
    this.#putBody(name, ask.fields ?? {});
    let at = this.#in + record.inBytes;
    const places = names.map((bytes) => {
      const place = at;
      u8.set(bytes, at);
      u8[at + bytes.length] = 0;
      at += bytes.length + 1;
      return place;
    });
    const write = name === 'WRITE';
    if (write) this.#data.u8.set(payload);
    else u8.set(payload, at);
    const bodyEnd = this.#in + record.inBytes;
    const dataBytes = write ? payload.length : record.payloadIn ? at + payload.length - bodyEnd : room;
    const words = new BigInt64Array([BigInt.asIntN(64, nodeid)]);
    const [lo, hi] = new Int32Array(words.buffer);
    return {
      scratch: this.#scratch,
      opcode: record.code,
      nodeidLo: lo,
      nodeidHi: hi,
      uid: user.uid,
      gid: user.gid,
      // Nothing that changes how requests or replies look; but files need not be opened.
      agreed: flags.INIT.NO_OPEN_SUPPORT | flags.INIT.NO_OPENDIR_SUPPORT,
      agreed2: 0,
      body: this.#in,
      name: places[0] ?? 0,
      nameLength: names[0]?.length ?? 0,
      name2: places[1] ?? 0,
      name2Length: names[1]?.length ?? 0,
      data: {
        addresses: new Float64Array([this.#data.address]),
        lengths: new Float64Array([write ? payload.length : room]),
        count: 1,
      },
      dataFrom: 0,
      dataBytes,
      reply: this.#out + HEADER_BYTES,
      replyRoom: Math.min(room, REPLY_BYTES),
      nowait: false,
      groups: 0,
      groupCount: 0,
      contexts: 0,
      contextCount: 0,
    };
  }

  #putBody(name: OpcodeName, fields: Fields): void {
    const { u8 } = this.#scratch;
    const record = opcodes[name];
    u8.fill(0, this.#in, this.#in + 256);
    for (const [key, value] of Object.entries(fields)) {
      const field = record.in?.layout.find((each) => each.name === key);
      if (field === undefined) throw new RangeError(`${name} has no field ${key}`);
      const bits = BigInt.asUintN(64, BigInt(value));
      for (let i = 0; i < field.bytes; i += 1)
        u8[this.#in + field.offset + i] = Number((bits >> BigInt(8 * i)) & 0xffn);
    }
  }
}
