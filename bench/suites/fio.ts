/** fio, as the announcement used it and as people do. */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { getSystemErrorMessage } from 'node:util';

import { shellQuoted } from '../../lab/index.ts';
import type { Outcome, Place, Step, Suite } from '../workload.ts';

const KIB = 2 ** 10;
const MIB = 2 ** 20;
const PAGE_BYTES = 4 * KIB;
/** A file of each job; the host has it in its page cache. */
const FILES = ['data0', 'data1', 'data2', 'data3'];
const LIMIT_MS = 300_000;

export interface FioJob {
  readonly engine: 'psync' | 'libaio' | 'mmap';
  readonly rw: 'read' | 'randread' | 'write' | 'randwrite';
  readonly blockBytes: number;
  readonly files: readonly string[];
  /** Of each file, from its beginning on. */
  readonly fileBytes: number;
  /** How much is read or written of each; absent: `fileBytes`. */
  readonly jobBytes?: number;
  /** It ends sooner when it has done all. */
  readonly seconds?: number;
}

interface FioDone {
  readonly total_ios: number;
  /** Milliseconds. */
  readonly runtime: number;
}

interface FioResult {
  readonly jobs: readonly { readonly error: number; readonly read: FioDone; readonly write: FioDone }[];
}

/** Runs fio, and writes all back: what a server has not got yet is not done. */
export async function runFio({ vm, folder }: Pick<Place, 'vm' | 'folder'>, job: FioJob): Promise<Outcome> {
  const { engine, rw, blockBytes, files, fileBytes, jobBytes = fileBytes, seconds } = job;
  const writes = rw.endsWith('write');
  const args = [
    ...[`--directory=${folder}`, `--ioengine=${engine}`, `--rw=${rw}`, `--bs=${blockBytes}`, `--size=${fileBytes}`],
    ...(engine === 'libaio' ? ['--iodepth=16'] : []),
    ...(writes ? ['--end_fsync=1'] : ['--readonly']),
    ...(seconds === undefined ? [] : [`--runtime=${seconds}`]),
    ...[`--io_size=${jobBytes}`, '--norandommap', '--invalidate=0', '--group_reporting'],
    ...['--output-format=json', '--output=/tmp/fio.json'],
    ...files.flatMap((file) => [`--name=${file}`, `--filename=${file}`]),
  ];
  const script = `fio ${args.map(shellQuoted).join(' ')} >&2; cat /tmp/fio.json`;
  const [{ error, read, write }] = (JSON.parse(await vm.sh(script, { timeoutMs: LIMIT_MS })) as FioResult).jobs;
  if (error !== 0) throw new Error(`fio ${engine}: ${getSystemErrorMessage(-error)}`);
  const done = writes ? write : read;
  return { operations: done.total_ios, seconds: done.runtime / 1000 };
}

/** Page by page, and so the host's page cache has them: of larger pieces ext4 looks at all to write a part. */
function fill(folder: string, fileBytes: number): Promise<void> {
  const data = randomBytes(MIB);
  for (const file of FILES) {
    const fd = openSync(join(folder, file), 'w');
    for (let at = 0; at < fileBytes; at += PAGE_BYTES) writeSync(fd, data, at % MIB, PAGE_BYTES);
    closeSync(fd);
  }
  return Promise.resolve();
}

function stepOf(name: string, job: FioJob): Step {
  const operation = job.rw.endsWith('write') ? 'writes' : 'reads';
  return { name, operation, operationBytes: job.blockBytes, run: (place) => runFio(place, job) };
}

const KINDS = [
  ['sequential read', 'read'],
  ['random read', 'randread'],
  ['sequential write', 'write'],
  ['random write', 'randwrite'],
] as const;

/** Files of `fileMiB`, and `seconds` for each row at most. */
export function fioSuite({ fileMiB, seconds }: { fileMiB: number; seconds: number }): Suite {
  const fileBytes = fileMiB * MIB;
  const steps: Step[] = [1, FILES.length].map((count) => {
    const files = FILES.slice(0, count);
    const job = { engine: 'mmap', rw: 'read', blockBytes: 4 * KIB, files, fileBytes, seconds: 10 * seconds } as const;
    return stepOf(`mmap read, ${count} ${count === 1 ? 'file' : 'files'}`, job);
  });
  for (const engine of ['psync', 'libaio', 'mmap'] as const) {
    for (const [title, rw] of KINDS) {
      for (const blockBytes of [4 * KIB, MIB]) {
        const size = blockBytes === MIB ? '1 MiB' : '4 KiB';
        const job = { engine, rw, blockBytes, files: FILES.slice(0, 1), fileBytes, seconds };
        steps.push(stepOf(`${engine} ${title}, ${size}`, job));
      }
    }
  }
  const prepare = (folder: string): Promise<void> => fill(folder, fileBytes);
  return { name: 'fio', packages: ['fio'], node: false, prepare, sharesFiles: true, steps };
}
