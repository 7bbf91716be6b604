/** The same calls on a share and on the host's own files, in two folders that begin alike, compared. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import promises from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Share, ShareSync, type Volume } from '../src/client/index.ts';

/** What scripts call: node:fs/promises, or what has its face. */
export type Face = Omit<typeof promises, 'watch'>;

/** Calls, and what they came to. `at`: where a path of the share is, for this face. */
export type Script = (face: Face, at: (path: string) => string) => Promise<unknown>;

/** Sentences of behavior, and the calls that show it. */
export type Scripts = Readonly<Record<string, Script>>;

/** A share of a folder of the host. */
export interface Bed {
  readonly folder: string;
  readonly volume: Volume;
  /** What is left open on the share's side. */
  readonly left: () => number;
  /** Gives all of it up, the folder as well. */
  end(): Promise<void>;
}

/** Each call, or the error that it ended with, in order. */
export async function outcomes(...calls: readonly (() => unknown)[]): Promise<unknown[]> {
  const results: unknown[] = [];
  for (const call of calls) {
    try {
      results.push(await call());
    } catch (error) {
      results.push(error);
    }
  }
  return results;
}

/** What both begin with. */
function seed(folder: string): void {
  fs.mkdirSync(join(folder, 'dir/sub/deep'), { recursive: true });
  fs.writeFileSync(join(folder, 'file'), 'hello, world\n');
  fs.writeFileSync(join(folder, 'empty'), '');
  fs.writeFileSync(join(folder, 'dir/one'), '1');
  fs.writeFileSync(join(folder, 'dir/sub/two.txt'), 'twenty-two', { mode: 0o600 });
  fs.writeFileSync(join(folder, 'dir/sub/deep/three.txt'), Buffer.alloc(5000, 'abc'));
  fs.symlinkSync('file', join(folder, 'link'));
  fs.symlinkSync('dir', join(folder, 'dirlink'));
  fs.symlinkSync('nowhere', join(folder, 'dangling'));
  fs.symlinkSync('../one', join(folder, 'dir/sub/up'));
}

/** A folder with the seed, that goes away with the test. */
export function seededFolder(): string {
  const folder = fs.mkdtempSync(join(tmpdir(), 'virtiofs-face-'));
  seed(folder);
  return folder;
}

const KINDS = ['isFile', 'isDirectory', 'isSymbolicLink', 'isFIFO', 'isSocket'] as const;

function kindOf(value: { readonly isFile: () => boolean }): string {
  return KINDS.filter((kind) => (value as fs.Dirent)[kind]()).join();
}

/** What can be compared: without the folder's name, numbers of inodes, and times that nobody set. */
export function comparable(value: unknown, folder: string): unknown {
  if (typeof value === 'string') return value.replaceAll(folder, '');
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Error) {
    const { name, message, code, errno, syscall, path, dest } = value as NodeJS.ErrnoException & { dest?: string };
    return comparable({ name, message, code, errno, syscall, path, dest }, folder);
  }
  if (Buffer.isBuffer(value)) return `bytes: ${value.toString('latin1').replaceAll(folder, '')}`;
  if (ArrayBuffer.isView(value)) return `view: ${Buffer.from(value.buffer).toString('latin1')}`;
  if (Array.isArray(value)) return value.map((each) => comparable(each, folder));
  if ('mtimeMs' in value) {
    const { mode, nlink, uid, gid, size } = value as fs.Stats;
    return {
      kind: kindOf(value as fs.Stats),
      mode,
      nlink,
      uid,
      gid,
      size: kindOf(value as fs.Stats) === 'isFile' && size,
    };
  }
  if ('parentPath' in value) {
    const { name, parentPath } = value as fs.Dirent;
    return comparable([name, parentPath.replace(/(?<=.)\/$/, ''), kindOf(value as fs.Dirent)], folder);
  }
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, comparable(each, folder)]));
}

/** All that is in a folder: kinds, modes, contents. */
function treeOf(folder: string): unknown {
  const names = fs.readdirSync(folder, { recursive: true }).map(String).toSorted();
  return names.map((name) => {
    const path = join(folder, name);
    const stats = fs.lstatSync(path);
    const content = stats.isFile() ? fs.readFileSync(path, 'latin1') : stats.isSymbolicLink() && fs.readlinkSync(path);
    return comparable([name, stats, content], folder);
  });
}

async function outcomeOf(script: Script, face: Face, root: string): Promise<unknown> {
  try {
    return { value: await script(face, (path) => root + path) };
  } catch (error) {
    return { error };
  }
}

/** The synchronous face, as if it were the other one. */
function promisesOf(share: ShareSync): Face {
  return new Proxy(share as unknown as Face, {
    get: (_target, name: string) => {
      if (name === 'constants') return share.constants;
      if (name === 'glob') return share.globSync;
      const method: unknown = Reflect.get(share, `${name}Sync`);
      return async (...args: unknown[]) => (method as (...each: unknown[]) => unknown)(...args);
    },
  });
}

/** Paths of a share have no folder in front. */
const NOWHERE = '<no folder>';

/** Which face of a share. */
export type Way = 'Share' | 'ShareSync';

/** Runs a script on the host and on a share, and compares what came of it. `makeBed` takes over the seeded folder. */
export async function compare(script: Script, way: Way, makeBed: (folder: string) => Promise<Bed>): Promise<void> {
  const folder = seededFolder();
  const bed = await makeBed(seededFolder());
  try {
    const expected = comparable(await outcomeOf(script, promises, folder), folder);
    const face = way === 'Share' ? new Share(bed.volume) : promisesOf(new ShareSync(bed.volume));
    const actual = comparable(await outcomeOf(script, face, ''), NOWHERE);
    assert.deepEqual(actual, expected);
    assert.deepEqual(treeOf(bed.folder), treeOf(folder));
    assert.equal(bed.left(), 0, 'files are left open');
  } finally {
    await bed.end();
    fs.rmSync(folder, { recursive: true, force: true });
  }
}
