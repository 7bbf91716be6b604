import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { cacheFolder, findAsset, placeAsset, withLock, workFolder } from './cache.ts';

let cache = '';
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), 'virtiofs-cache-'));
});
afterEach(() => rmSync(cache, { recursive: true, force: true }));

const manifest = (version: string, fetched: string) => ({ name: 'qemu', version, packages: [], fetched });

function place(version: string, fetched: string): string {
  const work = workFolder(cache);
  mkdirSync(join(work.folder, 'tree'));
  return placeAsset(cache, work.folder, manifest(version, fetched)).tree;
}

test('the cache folder comes from the environment, in its order', () => {
  assert.equal(cacheFolder({ VIRTIOFS_CACHE: '/a', XDG_CACHE_HOME: '/b' }), '/a');
  assert.equal(cacheFolder({ XDG_CACHE_HOME: '/b' }), '/b/virtiofs');
  assert.match(cacheFolder({}), /\/\.cache\/virtiofs$/);
});

test('the version that was fetched last is found, whatever its number', () => {
  assert.equal(findAsset(cache, 'qemu'), undefined);
  place('1:9.0', '2026-01-02T00:00:00.000Z');
  place('1:8.0', '2026-01-03T00:00:00.000Z');
  assert.equal(findAsset(cache, 'qemu')?.version, '1:8.0');
});

test('an asset that was not finished is not found', () => {
  const tree = place('1', '2026-01-02T00:00:00.000Z');
  rmSync(join(tree, '../manifest.json'));
  assert.equal(findAsset(cache, 'qemu'), undefined);
});

test('only one at a time holds the lock', async () => {
  const order: string[] = [];
  const inside = Promise.withResolvers<void>();
  const waiting = Promise.withResolvers<void>();
  const first = withLock(cache, assert.fail, async () => {
    inside.resolve();
    await waiting.promise;
    order.push('first');
  });
  await inside.promise;
  const second = withLock(cache, waiting.resolve, async () => void order.push('second'));
  await Promise.all([first, second]);
  assert.deepEqual(order, ['first', 'second']);
  assert.deepEqual(readdirSync(cache), []);
});

test('a lock whose holder died is taken over', async () => {
  const lock = join(cache, 'lock');
  writeFileSync(lock, '');
  const longAgo = new Date(Date.now() - 60_000);
  utimesSync(lock, longAgo, longAgo);
  assert.equal(await withLock(cache, assert.fail, async () => existsSync(lock)), true);
});
