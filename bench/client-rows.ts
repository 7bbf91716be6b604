/** What the client asks of a daemon, to be measured: one operation after another, or a few side by side. */
import { closeSync, ftruncateSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

import type { OpenFile, Task, Volume } from '../src/client/index.ts';
import { O_CREAT, O_EXCL, O_RDWR, O_WRONLY } from '../src/sys/index.ts';

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const BLOCK = new Uint8Array(4 * KIB).fill(7);
const FILES = 64;
const DATA_BYTES = 64 * MIB;
const LISTED = 10_000;
/** Files that are made for one run, each to be removed by an operation of its own. */
const MADE = 3000;

/** Does operation `i` of a run. */
export type Operate = (i: number) => Task<void>;

export interface ClientRow {
  readonly name: string;
  /** What an operation is, in the plural. */
  readonly noun: string;
  /** Bytes that an operation moves. */
  readonly bytes?: number;
  /** Operations under way side by side. */
  readonly inFlight: number;
  /** Operations of a run, at most. */
  readonly most: number;
  /** On the host, before a run. */
  readonly prepare?: (share: string) => void;
  /** `file`: the one of the rows that read and write, open. */
  readonly operation: (volume: Volume, file: OpenFile) => Operate;
}

/** Fills a share with what the rows need. Its file of data: */
export const DATA = 'data';

export function fillShare(share: string): void {
  for (let i = 0; i < FILES; i += 1) writeFileSync(join(share, `file${i}`), BLOCK);
  const fd = openSync(join(share, DATA), 'w');
  const chunk = Buffer.alloc(MIB, 'data');
  for (let at = 0; at < DATA_BYTES; at += MIB) writeSync(fd, chunk);
  closeSync(fd);
  mkdirSync(join(share, 'many'));
  for (let i = 0; i < LISTED; i += 1) writeFileSync(join(share, 'many', `${i}`), '');
}

function makeFiles(share: string): void {
  for (let i = 0; i < MADE; i += 1) {
    const fd = openSync(join(share, `old${i}`), 'w');
    ftruncateSync(fd, 1);
    closeSync(fd);
  }
}

function removeNew(share: string): void {
  for (let i = 0; i < MADE; i += 1) rmSync(join(share, `new${i}`), { force: true });
}

function* stat(volume: Volume, i: number): Task<void> {
  yield* volume.stat(`file${i % FILES}`, true);
}

function* readFile(volume: Volume, into: Uint8Array, i: number): Task<void> {
  const file = yield* volume.open(`file${i % FILES}`, 0);
  yield* file.read(into, 0);
  yield* file.close();
}

function* makeFile(volume: Volume, i: number): Task<void> {
  const file = yield* volume.open(`new${i}`, O_WRONLY | O_CREAT | O_EXCL, 0o644);
  yield* file.write(BLOCK, 0);
  yield* file.close();
}

function* list(volume: Volume): Task<void> {
  const directory = yield* volume.openDirectory('many');
  let count = 0;
  for (let entries = yield* directory.read(0n); entries.length > 0; ) {
    count += entries.length;
    entries = yield* directory.read(entries[entries.length - 1].next);
  }
  yield* directory.close();
  if (count !== LISTED) throw new Error(`${count} entries were listed, not ${LISTED}`);
}

function* rename(volume: Volume, i: number): Task<void> {
  const names = ['name', 'other name'];
  yield* volume.rename(names[i % 2], names[(i + 1) % 2]);
}

const NAMES: readonly ClientRow[] = [
  { name: 'stat', noun: 'stats', inFlight: 1, most: Infinity, operation: (volume) => (i) => stat(volume, i) },
  {
    name: 'open+read+close, 4 KiB',
    noun: 'files',
    inFlight: 1,
    most: Infinity,
    operation: (volume) => {
      const into = new Uint8Array(BLOCK.length);
      return (i) => readFile(volume, into, i);
    },
  },
  {
    name: 'create+write+close, 4 KiB',
    noun: 'files',
    inFlight: 1,
    most: MADE,
    prepare: removeNew,
    operation: (volume) => (i) => makeFile(volume, i),
  },
  { name: 'readdir, 10,000', noun: 'listings', inFlight: 1, most: Infinity, operation: (volume) => () => list(volume) },
  {
    name: 'unlink',
    noun: 'files',
    inFlight: 1,
    most: MADE,
    prepare: makeFiles,
    operation: (volume) => (i) => volume.unlink(`old${i}`),
  },
  {
    name: 'rename',
    noun: 'renames',
    inFlight: 1,
    most: Infinity,
    prepare: (share) => {
      rmSync(join(share, 'other name'), { force: true });
      writeFileSync(join(share, 'name'), '');
    },
    operation: (volume) => (i) => rename(volume, i),
  },
];

/** The block of operation `i`: each comes in its turn, in no order that a read-ahead would see. */
function scattered(i: number, blocks: number): number {
  return (Math.imul(i, 0x9e3779b1) >>> 0) % blocks;
}

function dataRow(writes: boolean, random: boolean, bytes: number, inFlight: number): ClientRow {
  const size = bytes === MIB ? '1 MiB' : '4 KiB';
  const blocks = DATA_BYTES / bytes;
  const operation = (_volume: Volume, file: OpenFile): Operate => {
    const pieces = Array.from({ length: inFlight }, () => new Uint8Array(bytes).fill(7));
    return function* (i): Task<void> {
      const position = (random ? scattered(i, blocks) : i % blocks) * bytes;
      const piece = pieces[i % inFlight];
      const done = writes ? yield* file.write(piece, position) : yield* file.read(piece, position);
      if (done !== bytes) throw new Error(`${done} bytes at ${position}, not ${bytes}`);
    };
  };
  const name = `${random ? 'random' : 'sequential'} ${writes ? 'write' : 'read'}, ${size} x ${inFlight}`;
  return { name, noun: writes ? 'writes' : 'reads', bytes, inFlight, most: Infinity, operation };
}

const DATA_ROWS = [false, true].flatMap((writes) =>
  [false, true].flatMap((random) =>
    [4 * KIB, MIB].flatMap((bytes) => [1, 4].map((inFlight) => dataRow(writes, random, bytes, inFlight))),
  ),
);

export const ROWS: readonly ClientRow[] = [...NAMES, ...DATA_ROWS];

/** How the file of data is opened. */
export const DATA_FLAGS = O_RDWR;
