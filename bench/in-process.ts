/** The daemon's request path without threads, sockets or a guest: a gate over a real directory, fed by hand. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { cachePolicy } from '../src/coherence/index.ts';
import {
  closeExport,
  openExport,
  openSession,
  openWorker,
  type PassthroughOptions,
} from '../src/fs/passthrough/index.ts';
import { InHeader, OutHeader, opcodes } from '../src/fuse/index.ts';
import { GuestMemory } from '../src/memory/index.ts';
import { Counters, COUNTERS_BYTES, Gate, initOffer, SESSION_WORDS } from '../src/server/index.ts';
import { Arena } from '../src/sys/index.ts';
import { Chain } from '../src/virtio/index.ts';

const RAM_BYTES = 4 << 20;
/** Where `request` lays them, one behind the other; what is below is for payload, and for `prepare`. */
const REQUESTS_AT = 3 << 19;
const REQUEST_BYTES = 4096;
const REPLY_AT = 2 << 20;
const INVALID_ID = 0xffffffff;

/** What the workers of a session have in common; it crosses threads. */
export interface SharedSession {
  readonly share: string;
  readonly exported: ReturnType<typeof openExport>;
  readonly session: ReturnType<typeof openSession>;
  readonly state: SharedArrayBuffer;
}

function newSession(options: Partial<PassthroughOptions>): SharedSession {
  const share = mkdtempSync(join(tmpdir(), 'virtiofs-bench-'));
  const basics = { ...cachePolicy('auto'), sharedDir: share, readonly: false, xattr: true };
  const state = new SharedArrayBuffer(SESSION_WORDS * 4);
  return { share, exported: openExport({ ...basics, ...options }), session: openSession(), state };
}

/** A request in guest memory, and the chain that brings it. */
export class PreparedRequest {
  readonly chain = new Chain();
  readonly at: number;
  readonly #view: DataView;

  /** @internal InProcess makes it. */
  constructor(view: DataView, at: number) {
    this.#view = view;
    this.at = at;
  }

  /** Changes word `i` of the body, such as a handle that another request has got. */
  setWord(i: number, value: number): void {
    this.#view.setUint32(this.at + InHeader.bytes + i * 4, value, true);
  }

  /** Who asks; what creates a file takes somebody. */
  setUser(uid: number, gid: number): void {
    InHeader.set.uid(this.#view, this.at, uid);
    InHeader.set.gid(this.#view, this.at, gid);
  }

  setNodeid(low: number, high: number): void {
    this.#view.setUint32(this.at + InHeader.offsets.nodeid, low, true);
    this.#view.setUint32(this.at + InHeader.offsets.nodeid + 4, high, true);
  }
}

export class InProcess {
  readonly shared: SharedSession;
  /** The reply of the last request, from its header on. */
  readonly reply: DataView;
  readonly #ram = new Arena(RAM_BYTES);
  readonly #memory = new GuestMemory();
  readonly #prepared = new PreparedRequest(this.#ram.view, 0);
  #nextRequestAt = REQUESTS_AT;
  readonly #gate: Gate;
  readonly #worker: ReturnType<typeof openWorker>;

  /** `released`: see Services of src/fs. `shared`: this is one more worker of that session, on a thread of its own. */
  constructor(
    options: Partial<PassthroughOptions> = {},
    released: () => void = () => undefined,
    shared?: SharedSession,
  ) {
    const { address, buffer } = this.#ram;
    this.#memory.add({ guestAddress: 0, sizeBytes: RAM_BYTES, userAddress: 0, hostAddress: address, buffer });
    this.reply = new DataView(buffer, REPLY_AT);
    this.shared = shared ?? newSession(options);
    this.#worker = openWorker(this.shared.exported, this.shared.session, { warn: () => undefined, released });
    this.#gate = new Gate({
      memory: this.#memory,
      fileSystem: this.#worker,
      session: new Int32Array(this.shared.state),
      counters: new Counters(new SharedArrayBuffer(COUNTERS_BYTES)),
      offer: initOffer(cachePolicy('auto')),
      warn: (message) => process.stderr.write(`${message}\n`),
    });
    if (shared !== undefined) return;
    this.prepare(opcodes.INIT.code, 0, [7, 41, 0, 0xffffffff, 0, ...Array.from({ length: 11 }, () => 0)]);
    this.serve();
  }

  get share(): string {
    return this.shared.share;
  }

  /** Lays a request in guest memory: the words of its fixed part, then a name. `serve` sends it, again and again. */
  prepare(opcode: number, nodeid: number, body: readonly number[], name?: string): void {
    this.#lay(this.#prepared, opcode, nodeid, body, name);
  }

  /** One more, that stays there beside others. `payloadBytes`: so much of guest memory follows, whatever is in it. */
  request(
    opcode: number,
    nodeid: number,
    body: readonly number[],
    name?: string,
    payloadBytes?: number,
  ): PreparedRequest {
    if (this.#nextRequestAt + REQUEST_BYTES > REPLY_AT) throw new Error('there is no room for one more request');
    const request = new PreparedRequest(this.#ram.view, this.#nextRequestAt);
    this.#nextRequestAt += REQUEST_BYTES;
    this.#lay(request, opcode, nodeid, body, name, payloadBytes);
    return request;
  }

  #lay(
    { at, chain }: PreparedRequest,
    opcode: number,
    nodeid: number,
    body: readonly number[],
    name?: string,
    payloadBytes = 0,
  ): void {
    const { view, u8 } = this.#ram;
    const nameBytes = name === undefined ? new Uint8Array(0) : new TextEncoder().encode(`${name}\0`);
    const length = InHeader.bytes + body.length * 4 + nameBytes.length;
    u8.fill(0, at, at + length);
    InHeader.set.len(view, at, length + payloadBytes);
    InHeader.set.opcode(view, at, opcode);
    InHeader.set.nodeid(view, at, nodeid);
    // As a guest with idmapped mounts: nobody.
    InHeader.set.uid(view, at, INVALID_ID);
    InHeader.set.gid(view, at, INVALID_ID);
    for (const [i, word] of body.entries()) view.setUint32(at + InHeader.bytes + i * 4, word, true);
    u8.set(nameBytes, at + InHeader.bytes + body.length * 4);
    chain.readable.clear();
    chain.writable.clear();
    this.#memory.append(chain.readable, at, length);
    if (payloadBytes > 0) this.#memory.append(chain.readable, 0, payloadBytes);
    this.#memory.append(chain.writable, REPLY_AT, RAM_BYTES - REPLY_AT);
  }

  /** The bytes of the reply. */
  serve(request: PreparedRequest = this.#prepared): number {
    return this.#gate.serve(request.chain, false);
  }

  /** Sends a request once and expects it to succeed. */
  expect(opcode: number, nodeid: number, body: readonly number[], name?: string): void {
    this.prepare(opcode, nodeid, body, name);
    this.serve();
    const error = OutHeader.error(this.reply, 0);
    if (error !== 0) throw new Error(`opcode ${opcode} on ${name ?? nodeid}: ${error}`);
  }

  /** LOOKUP in a directory, the root by default; the node id. */
  lookup(name: string, parent = 1): number {
    this.expect(opcodes.LOOKUP.code, parent, [], name);
    return this.reply.getUint32(OutHeader.bytes, true);
  }

  /** OPEN, for reading unless told otherwise; the low word of the handle. */
  open(nodeid: number, openFlags = 0): number {
    this.expect(opcodes.OPEN.code, nodeid, [openFlags, 0]);
    return this.reply.getUint32(OutHeader.bytes, true);
  }

  /** OPEN and RELEASE. */
  openAndRelease(nodeid: number): void {
    const fh = this.open(nodeid);
    this.expect(opcodes.RELEASE.code, nodeid, [fh, this.reply.getUint32(OutHeader.bytes + 4, true), 0, 0, 0, 0]);
  }

  /** As when the guest is gone. */
  reset(): void {
    this.#worker.reset();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  close(): void {
    this.#worker.reset();
    closeExport(this.shared.exported);
    rmSync(this.share, { recursive: true, force: true });
  }
}
