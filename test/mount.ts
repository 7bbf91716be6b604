/** What a guest's kernel does with a mount: one call a request, each reply checked. Node ids and handles: bigints. */
import { mkdtempSync } from 'node:fs';
import { basename, join } from 'node:path';

import {
  AttrOut,
  BatchForgetIn,
  CreateIn,
  CreateOut,
  flags,
  ForgetIn,
  ForgetOne,
  GetattrIn,
  MkdirIn,
  MknodIn,
  OpenIn,
  opcodes,
  ReadIn,
  ReleaseIn,
  SetattrIn,
  WriteIn,
  WriteOut,
} from '../src/fuse/index.ts';
import { DIRECT } from '../src/virtio/index.ts';
import type { TestDaemon } from './daemon.ts';
import {
  attributesOf,
  body,
  bytesOf,
  concat,
  type Entry,
  entryOf,
  type Fields,
  type FileAttributes,
  handleOf,
  type Listed,
  listedOf,
  name,
} from './fuse.ts';
import { type Cut, type FuseRequest, type GuestOptions, HIPRIO, TestGuest } from './guest.ts';

export const ROOT = 1n;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export class Mount {
  readonly guest: TestGuest;

  constructor(guest: TestGuest) {
    this.guest = guest;
  }

  /** Connects a guest and has it send INIT. */
  static connect(socketPath: string, options: GuestOptions = {}): Mount {
    const mount = new Mount(new TestGuest(socketPath, options));
    const { error } = mount.guest.init();
    if (error !== 0) throw new Error(`INIT failed: ${error}`);
    return mount;
  }

  lookup(parent: bigint, text: string | Uint8Array, errno = 0): Entry {
    return this.#entry({ opcode: opcodes.LOOKUP.code, nodeid: parent, body: name(text) }, errno);
  }

  #entry(request: FuseRequest, errno: number): Entry {
    const reply = this.guest.ask(request, errno);
    return errno === 0 ? entryOf(reply) : NO_ENTRY;
  }

  getattr(nodeid: bigint, errno = 0, fields: Fields = {}): FileAttributes {
    const reply = this.guest.ask({ opcode: opcodes.GETATTR.code, nodeid, body: body(GetattrIn, fields) }, errno);
    return errno === 0 ? attributesOf(reply, AttrOut.offsets.attr) : NO_ENTRY.attributes;
  }

  setattr(nodeid: bigint, fields: Fields, errno = 0): FileAttributes {
    const reply = this.guest.ask({ opcode: opcodes.SETATTR.code, nodeid, body: body(SetattrIn, fields) }, errno);
    return errno === 0 ? attributesOf(reply, AttrOut.offsets.attr) : NO_ENTRY.attributes;
  }

  /** FORGET, on the queue that is for it. */
  forget(nodeid: bigint, nlookup: bigint | number): void {
    this.guest.ask({ opcode: opcodes.FORGET.code, nodeid, body: body(ForgetIn, { nlookup }) }, 0, HIPRIO);
  }

  batchForget(...ones: { nodeid: bigint; nlookup: bigint | number }[]): void {
    const list = ones.map((one) => body(ForgetOne, { ...one }));
    const request = { opcode: opcodes.BATCH_FORGET.code, nodeid: 0, body: concat(batch(ones.length), ...list) };
    this.guest.ask(request, 0, HIPRIO);
  }

  mkdir(parent: bigint, text: string | Uint8Array, mode = 0o755, errno = 0, owner: Partial<Owner> = {}): Entry {
    const rest = concat(body(MkdirIn, { mode }), name(text));
    return this.#entry({ opcode: opcodes.MKDIR.code, nodeid: parent, body: rest, ...owner }, errno);
  }

  mknod(parent: bigint, text: string | Uint8Array, fields: Fields, errno = 0, owner: Partial<Owner> = {}): Entry {
    const rest = concat(body(MknodIn, fields), name(text));
    return this.#entry({ opcode: opcodes.MKNOD.code, nodeid: parent, body: rest, ...owner }, errno);
  }

  symlink(parent: bigint, text: string, target: string | Uint8Array, errno = 0, owner: Partial<Owner> = {}): Entry {
    const rest = concat(name(text), name(target));
    return this.#entry({ opcode: opcodes.SYMLINK.code, nodeid: parent, body: rest, ...owner }, errno);
  }

  open(nodeid: bigint, openFlags: number, errno = 0): bigint {
    const request = { opcode: opcodes.OPEN.code, nodeid, body: body(OpenIn, { flags: openFlags }) };
    const reply = this.guest.ask(request, errno);
    return errno === 0 ? handleOf(reply) : 0n;
  }

  create(
    parent: bigint,
    text: string | Uint8Array,
    fields: Fields,
    errno = 0,
    owner: Partial<Owner> = {},
  ): { entry: Entry; fh: bigint } {
    const rest = concat(body(CreateIn, fields), name(text));
    const reply = this.guest.ask({ opcode: opcodes.CREATE.code, nodeid: parent, body: rest, ...owner }, errno);
    if (errno !== 0) return { entry: NO_ENTRY, fh: 0n };
    return { entry: entryOf(reply), fh: handleOf(reply, CreateOut.offsets.open) };
  }

  read(fh: bigint, offset: number | bigint, size: number, errno = 0, cut: Cut = DIRECT): Uint8Array {
    const request = { opcode: opcodes.READ.code, body: body(ReadIn, { fh, offset, size }), room: size };
    return bytesOf(this.guest.ask(request, errno, 1, cut));
  }

  write(
    fh: bigint,
    offset: number | bigint,
    data: Uint8Array,
    errno = 0,
    options: { cached?: boolean; cut?: Cut; openFlags?: number } = {},
  ): number {
    const writeFlags = options.cached ? flags.WRITE_IN.CACHE : 0;
    const fixed = body(WriteIn, { fh, offset, size: data.length, writeFlags, flags: options.openFlags ?? 0 });
    const request = { opcode: opcodes.WRITE.code, body: concat(fixed, data) };
    const reply = this.guest.ask(request, errno, 1, options.cut);
    return errno === 0 ? WriteOut.size(reply, 0) : 0;
  }

  release(fh: bigint, errno = 0): void {
    this.guest.ask({ opcode: opcodes.RELEASE.code, body: body(ReleaseIn, { fh }) }, errno);
  }

  opendir(nodeid: bigint, errno = 0): bigint {
    const reply = this.guest.ask({ opcode: opcodes.OPENDIR.code, nodeid, body: body(OpenIn) }, errno);
    return errno === 0 ? handleOf(reply) : 0n;
  }

  releasedir(fh: bigint, errno = 0): void {
    this.guest.ask({ opcode: opcodes.RELEASEDIR.code, body: body(ReleaseIn, { fh }) }, errno);
  }

  /** One READDIR or READDIRPLUS from a cookie on. */
  list(nodeid: bigint, fh: bigint, offset: bigint, size: number, plus = false, errno = 0): Listed[] {
    const { code } = plus ? opcodes.READDIRPLUS : opcodes.READDIR;
    const request = { opcode: code, nodeid, body: body(ReadIn, { fh, offset, size }), room: size };
    return listedOf(this.guest.ask(request, errno), plus);
  }

  /** A whole directory, in replies of at most `size` bytes. */
  listAll(nodeid: bigint, size = 4096, plus = false): Listed[] {
    const fh = this.opendir(nodeid);
    const all: Listed[] = [];
    for (let cookie = 0n; ; cookie = all[all.length - 1].next) {
      const some = this.list(nodeid, fh, cookie, size, plus);
      if (some.length === 0) break;
      all.push(...some);
    }
    this.releasedir(fh);
    return all;
  }

  destroy(): void {
    this.guest.ask({ opcode: opcodes.DESTROY.code, nodeid: 0 });
  }

  [Symbol.dispose](): void {
    this.guest.close();
  }
}

const NO_ENTRY: Entry = {
  nodeid: 0n,
  entryValid: 0n,
  attrValid: 0n,
  attributes: attributesOf(new DataView(new ArrayBuffer(88)), 0),
};

/** The fixed part of BATCH_FORGET. */
export function batch(count: number): Uint8Array {
  return body(BatchForgetIn, { count });
}

/** A directory of its own for one test: on the host, and as the guest knows it. */
export function ownFolder(daemon: TestDaemon, mount: Mount): { path: string; nodeid: bigint } {
  const path = mkdtempSync(join(daemon.share, 'own-'));
  return { path, nodeid: mount.lookup(ROOT, basename(path)).nodeid };
}
