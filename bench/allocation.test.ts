import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { GCProfiler } from 'node:v8';

import { parseXattrMap } from '../src/fs/passthrough/index.ts';
import { opcodes } from '../src/fuse/index.ts';
import { InProcess } from './in-process.ts';

/** Until everything is compiled for good. */
const WARM_UP = 200_000;
const REQUESTS = 1_000_000;
/** One allocated object of 16 bytes a request would be a collection every million or half a million of them. */
const MOST_COLLECTIONS = 1;

let daemon: InProcess;
before(() => {
  daemon = new InProcess();
  writeFileSync(join(daemon.share, 'file'), Buffer.alloc(4096, 7));
});
after(() => daemon.close());

/** Garbage collections while the prepared request is served a million times. */
function collectionsOf(serve: () => void): number {
  for (let i = 0; i < WARM_UP; i += 1) serve();
  const profiler = new GCProfiler();
  profiler.start();
  for (let i = 0; i < REQUESTS; i += 1) serve();
  return profiler.stop()?.statistics.length ?? 0;
}

test('a million GETATTR requests cause no garbage collection of their own', () => {
  daemon.prepare(opcodes.GETATTR.code, daemon.lookup('file'), [0, 0, 0, 0]);
  assert.ok(collectionsOf(() => daemon.serve()) <= MOST_COLLECTIONS);
});

test('a million READ requests cause no garbage collection of their own', () => {
  const nodeid = daemon.lookup('file');
  daemon.prepare(opcodes.READ.code, nodeid, [daemon.open(nodeid), 0, 0, 0, 4096, 0, 0, 0, 0, 0]);
  assert.ok(collectionsOf(() => daemon.serve()) <= MOST_COLLECTIONS);
});

test('a million LOOKUP requests cause no garbage collection of their own', () => {
  daemon.prepare(opcodes.LOOKUP.code, 1, [], 'file');
  assert.ok(collectionsOf(() => daemon.serve()) <= MOST_COLLECTIONS);
});

test('nor do a million with ids that are translated, or names of attributes', () => {
  const all = [{ from: 0, count: 0xffff_fff0, to: 0xffff_fff1, squash: true }];
  const xattrRules = parseXattrMap(':map:user.:user.virtiofs.:');
  const identity = { uids: { toHost: [], toGuest: all }, gids: { toHost: all, toGuest: [] }, xattrRules };
  const other = new InProcess({ identity });
  writeFileSync(join(other.share, 'file'), '');
  other.prepare(opcodes.GETATTR.code, other.lookup('file'), [0, 0, 0, 0]);
  assert.ok(collectionsOf(() => other.serve()) <= MOST_COLLECTIONS);
  other.prepare(opcodes.GETXATTR.code, 1, [0, 0], 'user.absent');
  assert.ok(collectionsOf(() => other.serve()) <= MOST_COLLECTIONS);
  other.close();
});

test('garbage of 32 bytes a request would be seen', () => {
  const kept: number[][] = [];
  daemon.prepare(opcodes.GETATTR.code, 1, [0, 0, 0, 0]);
  const seen = collectionsOf(() => {
    daemon.serve();
    kept[0] = [1, 2];
  });
  assert.ok(seen > MOST_COLLECTIONS, `${seen} collections`);
});
