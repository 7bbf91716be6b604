/** Many files that one guest knows: our client, which forgets none of them. */
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';

import { finished, openVolumeSync, type Task, type Volume } from '../../src/client/index.ts';
import { Daemons } from './daemons.ts';
import { memoryOf } from './memory.ts';
import type { GrowthFigure, GrowthPoint, GrowthSeries } from './series.ts';

const FILES_PER_DIRECTORY = 1000;
const AT_RANDOM = 10_000;
/** Without a factor of 10: all over the tree, each file once. */
const STRIDE = 7919;

export interface FilesOptions {
  /** An empty folder. */
  readonly folder: string;
  /** Rising. */
  readonly counts: readonly number[];
  readonly peer?: readonly string[];
  readonly say: (what: string) => void;
}

function pathOf(i: number): string {
  return `${Math.floor(i / FILES_PER_DIRECTORY)}/${i % FILES_PER_DIRECTORY}`;
}

function makeFiles(share: string, count: number): void {
  mkdirSync(share);
  for (let i = 0; i < count; i += 1) {
    if (i % FILES_PER_DIRECTORY === 0) mkdirSync(join(share, `${i / FILES_PER_DIRECTORY}`));
    closeSync(openSync(join(share, pathOf(i)), 'wx'));
  }
}

function* lookUp(volume: Volume, from: number, to: number): Task<void> {
  for (let i = from; i < to; i += 1) yield* volume.stat(pathOf(i), true);
}

function* useSome(volume: Volume, count: number, known: number): Task<void> {
  for (let i = 0; i < count; i += 1) {
    const file = yield* volume.open(pathOf((i * STRIDE) % known), 0);
    yield* file.close();
  }
}

async function figuresOf(share: string, options: FilesOptions, peer?: readonly string[]): Promise<GrowthFigure[]> {
  const { folder, counts, say } = options;
  await using daemons = await Daemons.start(share, folder, 1, peer);
  // Twice: directories are names, too.
  const volume = openVolumeSync(daemons.socketPaths[0], { cache: 'always', cacheNames: 2 * (counts.at(-1) ?? 0) });
  const rate = (times: number, task: Task<void>): number => {
    const begin = performance.now();
    finished(task, () => volume.idle());
    return (times * 1000) / (performance.now() - begin);
  };
  try {
    let known = 0;
    return counts.map((count) => {
      say(`${count} files, ${peer === undefined ? 'virtiofs' : 'Rust virtiofsd'}`);
      const first = rate(count - known, lookUp(volume, known, count));
      known = count;
      const some = Math.min(AT_RANDOM, count);
      const rates = { 'first stat': first, 'open, close': rate(some, useSome(volume, some, count)) };
      return { processes: 1, memory: memoryOf(daemons.processes), rates };
    });
  } finally {
    finished(volume.close(), () => volume.idle());
  }
}

export async function growFiles(options: FilesOptions): Promise<GrowthSeries> {
  const { folder, counts, peer, say } = options;
  const share = join(folder, 'share');
  say(`making ${counts.at(-1)} files`);
  makeFiles(share, counts.at(-1) ?? 0);
  const ours = await figuresOf(share, options);
  const theirs = peer && (await figuresOf(share, options, peer));
  const points = counts.map((count, i): GrowthPoint => ({ count, ours: ours[i], theirs: theirs?.[i] }));
  return { of: 'files known', points };
}
