/** Requests through the gate, its handler and the host's kernel, on a directory of the host. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { ENODATA, ENOENT, ENOSYS } from '../../src/core/index.ts';
import { flags, type Opcode, opcodes, OutHeader } from '../../src/fuse/index.ts';
import { O_CREAT, O_EXCL, O_RDWR } from '../../src/sys/index.ts';
import { InProcess, type PreparedRequest } from '../in-process.ts';
import type { MicroBench, MicroGroup } from './bench.ts';

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const ROOT = 1;
const LISTED = 100;
const LISTING_BYTES = 32 * KIB;
/** No opcode of FUSE. */
const UNKNOWN = 99;
const FILE_MODE = 0o100644;
/** The body of SETATTR: 88 bytes. */
const SETATTR_WORDS = 22;
const SETATTR_MODE = 17;
/** Of fuse_entry_out, which fuse_open_out follows in the reply to CREATE. */
const ENTRY_BYTES = 128;

class Requests {
  readonly daemon = new InProcess();

  request({ code }: Opcode, nodeid: number, body: readonly number[], names?: string): PreparedRequest {
    return this.daemon.request(code, nodeid, body, names);
  }

  /** Asked by the user of this process. */
  creation(opcode: Opcode, body: readonly number[], newName: string): PreparedRequest {
    const request = this.request(opcode, ROOT, body, newName);
    request.setUser(process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
    return request;
  }

  /** Sends one, and expects it to end so: a figure of requests that fail would say nothing. */
  send(request: PreparedRequest, error = 0): number {
    const bytes = this.daemon.serve(request);
    const result = this.daemon.reply.getInt32(OutHeader.offsets.error, true);
    if (result !== -error) throw new Error(`a request ended with ${result}, not ${-error}`);
    return bytes;
  }

  /** A word of the body of the last reply. */
  word(offset: number): number {
    return this.daemon.reply.getUint32(OutHeader.bytes + offset, true);
  }

  /** Gives a handle of the last reply, at `offset` of its body, to a request whose body begins with one. */
  hand(offset: number, to: PreparedRequest): void {
    to.setWord(0, this.word(offset));
    to.setWord(1, this.word(offset + 4));
  }

  /** OPEN, or OPENDIR: the words of the handle. */
  open(opcode: Opcode, nodeid: number, openFlags: number): [number, number] {
    this.send(this.request(opcode, nodeid, [openFlags, 0]));
    return [this.word(0), this.word(4)];
  }
}

/** The words of a fuse_read_in or fuse_write_in of `bytes` at the start of a file. */
function transfer([low, high]: readonly [number, number], bytes: number): number[] {
  return [low, high, 0, 0, bytes, 0, 0, 0, 0, 0];
}

/** Those that are one request, whose reply nothing else needs. */
function single(requests: Requests, nodeid: number): MicroBench[] {
  const { daemon } = requests;
  const handle = requests.open(opcodes.OPEN, nodeid, O_RDWR);
  const chmod = Array.from({ length: SETATTR_WORDS }, () => 0);
  chmod[0] = flags.FATTR.MODE;
  chmod[SETATTR_MODE] = FILE_MODE;
  const list: [string, PreparedRequest, number?][] = [
    ['an unknown opcode', daemon.request(UNKNOWN, ROOT, []), ENOSYS],
    ['GETATTR', requests.request(opcodes.GETATTR, nodeid, [0, 0, 0, 0])],
    ['LOOKUP, known', requests.request(opcodes.LOOKUP, ROOT, [], 'file')],
    ['LOOKUP, absent', requests.request(opcodes.LOOKUP, ROOT, [], 'absent'), ENOENT],
    ['SETATTR, mode', requests.request(opcodes.SETATTR, nodeid, chmod)],
    ['GETXATTR, absent', requests.request(opcodes.GETXATTR, nodeid, [0, 0], 'user.absent'), ENODATA],
    ['READLINK', requests.request(opcodes.READLINK, daemon.lookup('link'), [])],
    ['STATFS', requests.request(opcodes.STATFS, ROOT, [])],
  ];
  for (const [size, bytes] of [
    ['4 KiB', 4 * KIB],
    ['1 MiB', MIB],
  ] as const) {
    list.push([`READ ${size}`, requests.request(opcodes.READ, nodeid, transfer(handle, bytes))]);
    const write = daemon.request(opcodes.WRITE.code, nodeid, transfer(handle, bytes), undefined, bytes);
    list.push([`WRITE ${size}`, write]);
  }
  return list.map(([name, request, error]) => ({
    name: `gate: ${name}`,
    run: () => void requests.send(request, error),
  }));
}

/** A directory read from its start, in one request. */
function listing(requests: Requests): MicroBench[] {
  const nodeid = requests.daemon.lookup('directory');
  return [opcodes.READDIR, opcodes.READDIRPLUS].map((opcode) => {
    const handle = requests.open(opcodes.OPENDIR, nodeid, 0);
    const request = requests.request(opcode, nodeid, transfer(handle, LISTING_BYTES));
    const run = (): void => {
      if (requests.send(request) === OutHeader.bytes) throw new Error(`${opcode.name} listed nothing`);
    };
    return { name: `gate: ${opcode.name} of ${LISTED}`, run };
  });
}

function opening(requests: Requests, nodeid: number): MicroBench {
  const open = requests.request(opcodes.OPEN, nodeid, [O_RDWR, 0]);
  const release = requests.request(opcodes.RELEASE, nodeid, [0, 0, 0, 0, 0, 0]);
  const run = (): void => {
    requests.send(open);
    requests.hand(0, release);
    requests.send(release);
  };
  return { name: 'gate: OPEN, RELEASE', run };
}

function creating(requests: Requests): MicroBench {
  const create = requests.creation(opcodes.CREATE, [O_RDWR | O_CREAT | O_EXCL, FILE_MODE, 0o22, 0], 'new');
  const release = requests.request(opcodes.RELEASE, ROOT, [0, 0, 0, 0, 0, 0]);
  const unlink = requests.request(opcodes.UNLINK, ROOT, [], 'new');
  const forget = requests.request(opcodes.FORGET, ROOT, [1, 0]);
  const run = (): void => {
    requests.send(create);
    requests.hand(ENTRY_BYTES, release);
    const [low, high] = [requests.word(0), requests.word(4)];
    release.setNodeid(low, high);
    forget.setNodeid(low, high);
    requests.send(release);
    requests.send(unlink);
    // There is no reply to it.
    requests.daemon.serve(forget);
  };
  return { name: 'gate: CREATE, RELEASE, UNLINK, FORGET', run };
}

function makingDirectories(requests: Requests): MicroBench {
  const make = requests.creation(opcodes.MKDIR, [0o755, 0o22], 'made');
  const remove = requests.request(opcodes.RMDIR, ROOT, [], 'made');
  const forget = requests.request(opcodes.FORGET, ROOT, [1, 0]);
  const run = (): void => {
    requests.send(make);
    forget.setNodeid(requests.word(0), requests.word(4));
    requests.send(remove);
    requests.daemon.serve(forget);
  };
  return { name: 'gate: MKDIR, RMDIR, FORGET', run };
}

function renaming(requests: Requests): MicroBench {
  const there = requests.request(opcodes.RENAME, ROOT, [ROOT, 0], 'name\0other name');
  const back = requests.request(opcodes.RENAME, ROOT, [ROOT, 0], 'other name\0name');
  const run = (): void => {
    requests.send(there);
    requests.send(back);
  };
  return { name: 'gate: RENAME, and back', run };
}

export function openGateBenches(): MicroGroup {
  const requests = new Requests();
  const { share } = requests.daemon;
  writeFileSync(join(share, 'file'), Buffer.alloc(MIB, 7));
  writeFileSync(join(share, 'name'), '');
  symlinkSync('file', join(share, 'link'));
  mkdirSync(join(share, 'directory'));
  for (let i = 0; i < LISTED; i += 1) writeFileSync(join(share, 'directory', `${i}`), '');
  const nodeid = requests.daemon.lookup('file');
  const benches = [
    ...single(requests, nodeid),
    opening(requests, nodeid),
    creating(requests),
    makingDirectories(requests),
    renaming(requests),
    ...listing(requests),
  ];
  return { benches, [Symbol.dispose]: () => requests.daemon.close() };
}
