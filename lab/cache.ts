import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { removeAtExit, undoAtExit } from './cleanup.ts';

/*
 * The cache folder: assets/<name>/<version>/{manifest.json,tree/}. A version folder appears by one rename and is never
 * changed afterwards, so a reader needs no lock.
 */

/** What an asset is made of. */
export interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly packages: readonly { readonly name: string; readonly version: string; readonly sizeBytes: number }[];
  /** When it was fetched, ISO 8601. */
  readonly fetched: string;
}

/** An asset that is there: `tree` holds its files. */
export interface Asset extends Manifest {
  readonly tree: string;
}

const LOCK_BEAT_MS = 1_000;
const LOCK_STALE_MS = 15_000;

/** The cache folder: VIRTIOFS_CACHE, else virtiofs in XDG_CACHE_HOME or in ~/.cache. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  if (env.VIRTIOFS_CACHE) return env.VIRTIOFS_CACHE;
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'virtiofs');
}

/** The newest complete version of an asset, or undefined. */
export function findAsset(cache: string, name: string): Asset | undefined {
  const folder = join(cache, 'assets', name);
  let newest: Asset | undefined;
  for (const version of listFolder(folder)) {
    const manifest = readManifest(join(folder, version, 'manifest.json'));
    if (manifest === undefined) continue;
    if (newest === undefined || manifest.fetched > newest.fetched)
      newest = { ...manifest, tree: join(folder, version, 'tree') };
  }
  return newest;
}

function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function readManifest(path: string): Manifest | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as Manifest;
  } catch {
    return undefined;
  }
}

/** A private folder inside the cache, so that it can be renamed into place; gone at exit at the latest. */
export function workFolder(cache: string): { folder: string; remove: () => void } {
  mkdirSync(cache, { recursive: true });
  const folder = mkdtempSync(join(cache, 'making-'));
  return { folder, remove: removeAtExit(folder) };
}

/** Puts `work`/tree and its manifest into the cache, by one rename. */
export function placeAsset(cache: string, work: string, manifest: Manifest): Asset {
  writeFileSync(join(work, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  const parent = join(cache, 'assets', manifest.name);
  // A version may hold characters that no folder name should: epochs, tildes.
  const target = join(parent, encodeURIComponent(manifest.version));
  mkdirSync(parent, { recursive: true });
  rmSync(target, { recursive: true, force: true });
  renameSync(work, target);
  return { ...manifest, tree: join(target, 'tree') };
}

/**
 * Runs `body` while no other process does the same in this cache. The holder touches the lock file every second; one
 * that nobody touched for 15 s is taken over (process numbers would mean nothing between containers).
 *
 * @param onWait called once when another process holds the lock.
 */
export async function withLock<T>(cache: string, onWait: () => void, body: () => Promise<T>): Promise<T> {
  mkdirSync(cache, { recursive: true });
  const path = join(cache, 'lock');
  for (let round = 0; !tryLock(path); round += 1) {
    if (round === 1) onWait();
    await sleep(200);
  }
  const unlock = (): void => rmSync(path, { force: true });
  const forget = undoAtExit(unlock);
  const beat = setInterval(() => touch(path), LOCK_BEAT_MS);
  try {
    return await body();
  } finally {
    clearInterval(beat);
    forget();
    unlock();
  }
}

function touch(path: string): void {
  try {
    utimesSync(path, new Date(), new Date());
  } catch {
    // Somebody cleared the cache under us: whoever comes next makes a new lock.
  }
}

function tryLock(path: string): boolean {
  try {
    writeFileSync(path, `${process.pid}\n`, { flag: 'wx' });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const age = statSync(path, { throwIfNoEntry: false });
  if (age !== undefined && Date.now() - age.mtimeMs > LOCK_STALE_MS) rmSync(path, { force: true });
  return false;
}
