/**
 * Small files by many threads, as the public smallfile tool makes them: runs in a guest, and goes on from one job to
 * the next, because a JavaScript engine that is emulated takes seconds to start and to get warm.
 *
 * Arguments: a folder that holds two FIFOs, how many threads, and a folder to get warm in. A line in the FIFO `ask` is
 * a Job as JSON; the answer is a line in the FIFO `answer`, an Answer as JSON. The first answer comes unasked, when all
 * is warm.
 */
import { constants, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getSystemErrorName } from 'node:util';
import { type MessagePort, parentPort, receiveMessageOnPort, Worker, workerData } from 'node:worker_threads';

export type Operation = 'create' | 'ls-l' | 'read' | 'append' | 'rename' | 'delete-renamed';

/** What all threads do together. */
export interface Job {
  readonly operation: Operation;
  readonly folder: string;
  /** Of each thread. */
  readonly files: number;
  /** What is written or read of each file. */
  readonly fileBytes: number;
}

export interface Answer {
  /** From the barrier to the end of the last thread; absent when a thread failed. */
  readonly seconds?: number;
  readonly error?: string;
}

interface ThreadData {
  readonly index: number;
  readonly cells: Int32Array;
}

interface Report {
  readonly endedNs: bigint;
  readonly error?: string;
}

/** As the tool's defaults. */
const FILES_PER_FOLDER = 100;
const SOURCE = 'file_srcdir';
const DESTINATION = 'file_dstdir';

// Cells: threads that are ready for the job, its number, the number of the last that was let go, threads that are done.
const READY = 0;
const JOB = 1;
const GO = 2;
const DONE = 3;

/** Enough for the engine to compile what is used: rates do not grow any more after three rounds. */
const WARM_ROUNDS = 6;
const WARM_FILES = 32;
const WARM_BYTES = 4096;
const OPERATIONS: readonly Operation[] = ['create', 'ls-l', 'read', 'append', 'rename', 'delete-renamed'];

const padded = (number: number, width: number): string => String(number).padStart(width, '0');

/** A thread's files, in their order. */
function pathsOf(folder: string, tree: string, index: number, files: number): string[] {
  const thread = padded(index, 2);
  return Array.from({ length: files }, (_, file) => {
    const place = `d_${padded(Math.floor(file / FILES_PER_FOLDER), 3)}`;
    return join(folder, tree, `thrd_${thread}`, place, `_${thread}_${file + 1}_`);
  });
}

const { DynamicLibrary, getRawPointer, toArrayBuffer } = process.getBuiltinModule<'node:ffi'>('node:ffi');

/**
 * A function of libc: integers and addresses in, an int out. What is measured is the file system, and not Node's way to
 * it, which weighs as much where a CPU is emulated. Node's own lstat asks for the time of birth as well, which takes a
 * request of its own. From libc itself: a thread has this file's text only.
 */
function libc(name: string, parameters: number): (...values: bigint[]) => number {
  const types = Array.from({ length: parameters }, () => 'pointer' as const);
  return new DynamicLibrary(null).getFunction(name, { arguments: types, return: 'i32' });
}

const errnoAddress = new DynamicLibrary(null).getFunction('__errno_location', { arguments: [], return: 'pointer' });
/** errno of this thread. */
const errno = new Int32Array(toArrayBuffer(errnoAddress(), 4, false));

const open = libc('open', 3);
const close = libc('close', 2);
const read = libc('read', 3);
const write = libc('write', 3);
const pwrite = libc('pwrite', 4);
const lstat = libc('lstat', 2);
const rename = libc('rename', 2);
const unlink = libc('unlink', 2);

const CREATE = BigInt(constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_TRUNC);
const READ = BigInt(constants.O_RDONLY);
const UPDATE = BigInt(constants.O_RDWR);
const MODE = 0o666n;
/** struct stat, and more. */
const STAT_BYTES = 256;

/** Memory with an address. */
class Bytes {
  readonly length: bigint;
  readonly address: bigint;
  /** Kept, as the address is only as long as this. */
  readonly view: Uint8Array;

  constructor(view: Uint8Array) {
    this.view = view;
    this.length = BigInt(view.length);
    this.address = getRawPointer(view);
  }
}

/** Paths as libc takes them, encoded before anything is measured. */
class Paths {
  readonly addresses: readonly bigint[];
  readonly #bytes: Bytes;
  readonly #texts: readonly string[];

  constructor(texts: readonly string[]) {
    this.#texts = texts;
    this.#bytes = new Bytes(new TextEncoder().encode(texts.map((each) => `${each}\0`).join('')));
    let at = this.#bytes.address;
    this.addresses = texts.map((each) => {
      const here = at;
      at += BigInt(Buffer.byteLength(each) + 1);
      return here;
    });
  }

  /** What the call just made found wrong with the i-th. */
  error(i: number, call: string): Error {
    return new Error(`${getSystemErrorName(-errno[0])}: ${call} '${this.#texts[i]}'`);
  }
}

function openAll(paths: Paths, flags: bigint, use: (fd: bigint) => number, expected: number): void {
  for (const [i, address] of paths.addresses.entries()) {
    const fd = open(address, flags, MODE);
    if (fd < 0) throw paths.error(i, 'open');
    const moved = use(BigInt(fd));
    if (moved < 0) throw paths.error(i, 'read or write');
    if (close(BigInt(fd), 0n) !== 0) throw paths.error(i, 'close');
    if (moved !== expected) throw new Error(`${moved} bytes were read or written instead of ${expected}`);
  }
}

/** Lists each folder once, and asks for the attributes of each file in it. */
function list(folders: ReadonlyMap<string, Paths>, attributes: Bytes): void {
  for (const [folder, paths] of folders) {
    const found = readdirSync(folder).length;
    if (found !== paths.addresses.length) throw new Error(`${folder} has ${found} files`);
    for (const [i, address] of paths.addresses.entries()) {
      if (lstat(address, attributes.address) !== 0) throw paths.error(i, 'lstat');
    }
  }
}

function foldersOf(paths: readonly string[]): Map<string, Paths> {
  const folders = Map.groupBy(paths, (path) => dirname(path));
  return new Map([...folders].map(([folder, each]) => [folder, new Paths(each)]));
}

/** Makes what is not measured; the function that does the rest. */
function prepared({ operation, folder, files, fileBytes }: Job, index: number): () => void {
  const sources = pathsOf(folder, SOURCE, index, files);
  const destinations = pathsOf(folder, DESTINATION, index, files);
  const from = new Paths(sources);
  const to = new Paths(destinations);
  const { address, length, view } = new Bytes(new Uint8Array(fileBytes).fill(0x61 + index));
  switch (operation) {
    case 'create':
      for (const path of new Set([...sources, ...destinations].map((each) => dirname(each))))
        mkdirSync(path, { recursive: true });
      return () => openAll(from, CREATE, (fd) => write(fd, address, length), view.length);
    case 'ls-l': {
      const folders = foldersOf(sources);
      const attributes = new Bytes(new Uint8Array(STAT_BYTES));
      return () => list(folders, attributes);
    }
    case 'read':
      return () => openAll(from, READ, (fd) => read(fd, address, length), view.length);
    case 'append':
      // Opened for writing at its end as the tool does, which is not O_APPEND.
      return () => openAll(from, UPDATE, (fd) => pwrite(fd, address, length, length), view.length);
    case 'rename':
      return () => {
        for (const [i, path] of from.addresses.entries()) {
          if (rename(path, to.addresses[i]) !== 0) throw from.error(i, 'rename');
        }
      };
    case 'delete-renamed':
      return () => {
        for (const [i, path] of to.addresses.entries()) {
          if (unlink(path, 0n) !== 0) throw to.error(i, 'unlink');
        }
      };
  }
}

/** Waits until a cell has a value. */
function awaitCell(cells: Int32Array, cell: number, value: number): void {
  for (let now = Atomics.load(cells, cell); now !== value; now = Atomics.load(cells, cell)) {
    Atomics.wait(cells, cell, now);
  }
}

function countUp(cells: Int32Array, cell: number): void {
  Atomics.add(cells, cell, 1);
  Atomics.notify(cells, cell);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A thread does one job after another. */
function work({ index, cells }: ThreadData, port: MessagePort): void {
  for (let number = 1; ; number += 1) {
    awaitCell(cells, JOB, number);
    let run: () => void = () => undefined;
    let error: string | undefined;
    try {
      run = prepared(receiveMessageOnPort(port)?.message as Job, index);
    } catch (problem) {
      error = messageOf(problem);
    }
    countUp(cells, READY);
    awaitCell(cells, GO, number);
    try {
      run();
    } catch (problem) {
      error ??= messageOf(problem);
    }
    port.postMessage({ endedNs: process.hrtime.bigint(), error } satisfies Report);
    countUp(cells, DONE);
  }
}

/** This file as JavaScript: stripping its types in each thread anew would take as many times as long. */
function program(): URL {
  const path = fileURLToPath(import.meta.url);
  const text = readFileSync(path, 'utf8');
  const code = path.endsWith('.ts') ? stripTypeScriptTypes(text) : text;
  return new URL(`data:text/javascript,${encodeURIComponent(code)}`);
}

class Crew {
  readonly #cells = new Int32Array(new SharedArrayBuffer(4 * Int32Array.BYTES_PER_ELEMENT));
  readonly #ports: MessagePort[] = [];
  #jobs = 0;

  constructor(threads: number) {
    const url = program();
    for (let index = 0; index < threads; index += 1) {
      const { port1, port2 } = new MessageChannel();
      const data = { index, cells: this.#cells, port: port2 };
      // Memory that it can do with: the guest has little.
      const resourceLimits = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 32 };
      new Worker(url, { workerData: data, transferList: [port2], resourceLimits }).unref();
      this.#ports.push(port1);
    }
  }

  /** Has all threads do a job, at once. */
  do(job: Job): Answer {
    this.#jobs += 1;
    for (const port of this.#ports) port.postMessage(job);
    Atomics.store(this.#cells, READY, 0);
    Atomics.store(this.#cells, DONE, 0);
    this.#set(JOB);
    awaitCell(this.#cells, READY, this.#ports.length);
    const beganNs = process.hrtime.bigint();
    this.#set(GO);
    awaitCell(this.#cells, DONE, this.#ports.length);
    const reports = this.#ports.map((port) => receiveMessageOnPort(port)?.message as Report);
    const error = reports.find((report) => report.error !== undefined)?.error;
    if (error !== undefined) return { error };
    const endedNs = reports.reduce((last, report) => (report.endedNs > last ? report.endedNs : last), beganNs);
    return { seconds: Number(endedNs - beganNs) / 1e9 };
  }

  #set(cell: number): void {
    Atomics.store(this.#cells, cell, this.#jobs);
    Atomics.notify(this.#cells, cell);
  }
}

/** Serves one job after another; blocks, so that nothing runs while none is asked for. */
function serve(folder: string, threads: number, warmFolder: string): void {
  const crew = new Crew(threads);
  for (let round = 0; round < WARM_ROUNDS; round += 1) {
    for (const operation of OPERATIONS) {
      const job = { operation, folder: warmFolder, files: WARM_FILES, fileBytes: WARM_BYTES };
      const { error } = crew.do(job);
      if (error !== undefined) throw new Error(error);
    }
  }
  rmSync(warmFolder, { recursive: true });
  const say = (answer: Answer): void => writeFileSync(join(folder, 'answer'), `${JSON.stringify(answer)}\n`);
  say({});
  for (;;) say(crew.do(JSON.parse(readFileSync(join(folder, 'ask'), 'utf8')) as Job));
}

if (parentPort !== null) {
  const { port, ...data } = workerData as ThreadData & { port: MessagePort };
  work(data, port);
} else if (import.meta.main) {
  const [folder, threads, warmFolder] = process.argv.slice(2);
  serve(folder, Number(threads), warmFolder);
}
