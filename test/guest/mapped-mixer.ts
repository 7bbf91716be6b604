/**
 * In a guest: does to a file, in an order that a seed gives, what programs do to files, half of it through a mapping,
 * and compares with what the file has to be. `node mapped-mixer.ts FILE SEED OPERATIONS BATCH [sync]`.
 *
 * After each batch it prints how many operations are done, the file's size and SHA-1, and waits for a line: then the
 * file on the host is to be that. With `sync` it calls fsync first: pages of a file that is not DAX are the guest's.
 */
import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';

import { bind, check, fallocate, mapShared, munmap, SysError, viewMemory } from '../../src/sys/index.ts';
import { I, U } from '../../src/sys/ffi.ts';
import { Random } from '../random.ts';

const libcMsync = bind('msync', 3);
const MS_SYNC = 4;
const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;
const PAGE_BYTES = 4096;
/** The file is never longer: it begins, goes on and ends in ranges of 2 MiB. */
const MAX_BYTES = 5 * 2 ** 20;
/** Of an operation. */
const LENGTH_MAX = 2 ** 16;
/** Where a file likes to end, and operations to begin. */
const EDGES = [0, PAGE_BYTES, 2 ** 21, 2 ** 22];

/** Which bytes an operation was about. */
type Span = readonly [start: number, end: number];

const NOTHING: Span = [0, 0];

/** A file, opened in all ways at once. */
class OpenFile {
  readonly fd: number;
  readonly appending: number;
  readonly direct: number;
  readonly bytes: Uint8Array;
  readonly #address: number;

  constructor(path: string) {
    this.fd = openSync(path, 'r+');
    this.appending = openSync(path, 'a');
    this.direct = openSync(path, constants.O_RDWR | constants.O_DIRECT);
    this.#address = mapShared(this.fd, MAX_BYTES, 0);
    this.bytes = new Uint8Array(viewMemory(this.#address, MAX_BYTES));
  }

  sync(length: number): void {
    SysError.check(check(libcMsync(U(this.#address), U(length), I(MS_SYNC))), 'msync', `${length} bytes`);
  }

  close(): void {
    (this.bytes.buffer as ArrayBuffer).transfer();
    munmap(this.#address, MAX_BYTES);
    for (const fd of [this.fd, this.appending, this.direct]) closeSync(fd);
  }
}

class Mixer {
  readonly #path: string;
  readonly #random: Random;
  /** What is written: parts of this. */
  readonly #pool: Uint8Array;
  readonly #got = new Uint8Array(MAX_BYTES);
  /** What the file has to be; zeros from `#size` on. */
  readonly #model = new Uint8Array(MAX_BYTES);
  #size = 0;
  #file: OpenFile;
  #neighbours = 0;

  constructor(path: string, seed: number) {
    this.#path = path;
    this.#random = new Random(seed);
    this.#pool = this.#random.bytes(4 * LENGTH_MAX);
    writeFileSync(path, '');
    this.#file = new OpenFile(path);
  }

  /** The size and the checksum that the file has to have; throws where it differs. */
  checkAll(): string {
    this.#compare([0, this.#size]);
    return `${this.#size} ${createHash('sha1').update(this.#model.subarray(0, this.#size)).digest('hex')}`;
  }

  /** One operation, and a look at what it was about. */
  step(): void {
    const operation = this.#random.pick(OPERATIONS);
    let span = NOTHING;
    try {
      span = this.#run(operation);
      this.#compare([Math.max(0, span[0] - PAGE_BYTES), Math.min(this.#size, span[1] + PAGE_BYTES)]);
    } catch (error) {
      throw new Error(`${operation} of ${span.join(' to ')}, the file has ${this.#size}`, { cause: error });
    }
  }

  sync(): void {
    fsyncSync(this.#file.fd);
  }

  #run(operation: Operation): Span {
    const file = this.#file;
    switch (operation) {
      case 'load':
        return this.#spanInside();
      case 'store':
        return this.#put(this.#spanInside(), (bytes, at) => file.bytes.set(bytes, at));
      case 'write':
        return this.#put(this.#span(), (bytes, at) => writeAll(file.fd, bytes, at));
      case 'write directly':
        return this.#put(this.#span(), (bytes, at) => writeAll(file.direct, bytes, at));
      case 'append':
        return this.#put(this.#spanFrom(this.#size), (bytes) => writeAll(file.appending, bytes, null));
      case 'truncate':
        return this.#resize((size) => ftruncateSync(file.fd, size));
      case 'truncate by name':
        return this.#resize((size) => truncateSync(this.#path, size));
      case 'punch a hole':
        return this.#zero(this.#spanInside(), FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE);
      case 'allocate':
        return this.#allocate(this.#span());
      case 'fsync':
        this.sync();
        return this.#spanInside();
      case 'msync':
        file.sync(this.#size);
        return this.#spanInside();
      case 'reopen':
        file.close();
        this.#file = new OpenFile(this.#path);
        return this.#spanInside();
      case 'neighbour':
        this.#haveNeighbour();
        return this.#spanInside();
    }
  }

  #put(span: Span, put: (bytes: Uint8Array, at: number) => void): Span {
    const [start, end] = span;
    const from = this.#random.below(this.#pool.length - (end - start));
    const bytes = this.#pool.subarray(from, from + end - start);
    put(bytes, start);
    this.#model.set(bytes, start);
    // To write nothing beyond the end changes nothing.
    if (start < end) this.#size = Math.max(this.#size, end);
    return span;
  }

  #resize(resize: (size: number) => void): Span {
    const before = this.#size;
    this.#size = this.#place(MAX_BYTES);
    resize(this.#size);
    this.#model.fill(0, this.#size, Math.max(before, this.#size));
    return [this.#size, this.#size];
  }

  #zero(span: Span, mode: number): Span {
    const [start, end] = span;
    if (start < end) SysError.check(fallocate(this.#file.fd, mode, start, 0, end - start, 0), 'fallocate', `${mode}`);
    this.#model.fill(0, start, end);
    return span;
  }

  #allocate(span: Span): Span {
    const [start, end] = span;
    if (start === end) return span;
    SysError.check(fallocate(this.#file.fd, 0, start, 0, end - start, 0), 'fallocate', '0');
    this.#size = Math.max(this.#size, end);
    return span;
  }

  /** Something else happens in the folder. */
  #haveNeighbour(): void {
    const name = `${this.#path}.${this.#neighbours}`;
    this.#neighbours = (this.#neighbours + 1) % 4;
    writeFileSync(name, this.#pool.subarray(0, this.#random.below(LENGTH_MAX)));
    truncateSync(name, this.#random.below(LENGTH_MAX));
    renameSync(name, `${this.#path}.other`);
    if (this.#random.below(2) === 0) rmSync(`${this.#path}.other`);
  }

  /** Compares a part with what a mapping and what read(2), in either way, see of it. */
  #compare([start, end]: Span): void {
    const { fd, direct, bytes } = this.#file;
    const { size } = fstatSync(fd);
    if (size !== this.#size) throw new Error(`the file has ${size} bytes instead of ${this.#size}`);
    // What a mapping shows of the last page is zero from the end on.
    const mappedEnd = end === this.#size ? Math.ceil(end / PAGE_BYTES) * PAGE_BYTES : end;
    this.#expect('a mapping', start, bytes.subarray(start, mappedEnd));
    const by = this.#random.pick([fd, direct]);
    const got = this.#got.subarray(0, Math.max(0, end - start));
    const count = readAll(by, got, start);
    if (count !== got.length) throw new Error(`read gives ${count} bytes at ${start}, not ${got.length}`);
    this.#expect(by === fd ? 'read' : 'read with O_DIRECT', start, got);
  }

  #expect(who: string, start: number, bytes: Uint8Array): void {
    const wanted = this.#model.subarray(start, start + bytes.length);
    if (Buffer.compare(bytes, wanted) === 0) return;
    const at = bytes.findIndex((byte, i) => byte !== wanted[i]);
    throw new Error(`${who} shows ${bytes[at]} instead of ${wanted[at]} at ${start + at}, from ${start} on`);
  }

  /** A position below `end`, often near one where something begins. */
  #place(end: number): number {
    if (this.#random.below(3) > 0) return this.#random.below(end);
    const near = this.#random.pick([...EDGES, this.#size]) + this.#random.below(17) - 8;
    return Math.max(0, Math.min(end, near));
  }

  #spanFrom(start: number): Span {
    const length = this.#random.below(this.#random.pick([16, 2 * PAGE_BYTES, LENGTH_MAX]));
    return [start, Math.min(MAX_BYTES, start + length)];
  }

  /** Anywhere. */
  #span(): Span {
    return this.#spanFrom(this.#place(Math.min(MAX_BYTES, this.#size + LENGTH_MAX)));
  }

  /** Of what there is. */
  #spanInside(): Span {
    const [start, end] = this.#spanFrom(this.#place(this.#size));
    return [start, Math.min(end, this.#size)];
  }
}

const FREQUENT = ['load', 'store', 'write', 'append'] as const;
const RARE = [
  ...(['write directly', 'truncate', 'truncate by name', 'punch a hole', 'allocate'] as const),
  ...(['fsync', 'msync', 'reopen', 'neighbour'] as const),
];
const OPERATIONS = [...FREQUENT, ...FREQUENT, ...FREQUENT, ...RARE];
type Operation = (typeof OPERATIONS)[number];

function writeAll(fd: number, bytes: Uint8Array, at: number | null): void {
  const count = writeSync(fd, bytes, 0, bytes.length, at);
  if (count !== bytes.length) throw new Error(`write takes ${count} of ${bytes.length} bytes`);
}

function readAll(fd: number, into: Uint8Array, at: number): number {
  let done = 0;
  for (let count = -1; count !== 0 && done < into.length; done += count) {
    count = readSync(fd, into, done, into.length - done, at + done);
  }
  return done;
}

const [path, seed, operations, batch, sync] = process.argv.slice(2);
const mixer = new Mixer(path, Number(seed));
const answer = new Uint8Array(1);
for (let done = 1; done <= Number(operations); done += 1) {
  try {
    mixer.step();
    if (done % Number(batch) !== 0) continue;
    if (sync === 'sync') mixer.sync();
    console.log(`${done} ${mixer.checkAll()}`);
  } catch (error) {
    throw new Error(`operation ${done} of seed ${seed}`, { cause: error });
  }
  if (readSync(0, answer) !== 1) throw new Error('nobody waits for more');
}
