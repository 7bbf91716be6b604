/** Programs that are typed for node:fs take a share: what the compiler says here is the test. */
import assert from 'node:assert/strict';
import type fs from 'node:fs';
import promises from 'node:fs/promises';
import { test } from 'node:test';

import { Share, ShareSync } from '../src/client/index.ts';
import { HostVolume } from './host-volume.ts';

/** A program for node:fs/promises, all of it. */
function takesPromises(given: typeof promises): readonly string[] {
  return Object.keys(given);
}

/** All synchronous calls of node:fs that have a type. */
type Synchronous = Pick<typeof fs, Extract<keyof typeof fs, `${string}Sync`>>;

function takesSync(given: Synchronous): readonly string[] {
  return Object.keys(given);
}

/** A program for the streams. */
type Streams = Pick<typeof fs, 'createReadStream' | 'createWriteStream'>;

test('a Share has each name of node:fs/promises, with its type', () => {
  const share: typeof promises & Streams = new Share(new HostVolume('/'));
  const missing = Object.keys(promises).filter((name) => !takesPromises(share).includes(name));
  assert.deepEqual(missing, []);
});

test('a ShareSync has each synchronous name of node:fs, with its type', async () => {
  const names = Object.keys(await import('node:fs')).filter((name) => name.endsWith('Sync'));
  const share: Synchronous = new ShareSync(new HostVolume('/'));
  const missing = names.filter((name) => !takesSync(share).includes(name));
  // A Blob of a file is one that Node's own streams read from the host.
  assert.deepEqual(missing, ['openAsBlobSync']);
});

test('functions may be taken off a share, as off node:fs/promises', async () => {
  const { readdir, stat } = new Share(new HostVolume(import.meta.dirname));
  assert.equal((await stat('/share-types.test.ts')).isFile(), true);
  assert.equal((await readdir('.')).includes('share-types.test.ts'), true);
});
