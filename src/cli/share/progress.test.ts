import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { test } from 'node:test';

import { Progress } from './progress.ts';
import { place } from './testing.ts';

/** A terminal, and what was drawn on it. */
function screen(columns: number): { readonly terminal: Writable & { columns: number }; readonly drawn: string[] } {
  const drawn: string[] = [];
  const terminal = new Writable({
    write: (chunk, _encoding, done) => {
      drawn.push(String(chunk));
      done();
    },
  });
  return { terminal: Object.assign(terminal, { columns }), drawn };
}

test('the line tells how much is done, how fast, and for how long it goes on', () => {
  let now = 0;
  const { terminal, drawn } = screen(80);
  const progress = new Progress({ terminal, now: () => now });
  progress.found(400 * 2 ** 20);
  progress.done(100 * 2 ** 20, false);
  now = 10_000;
  progress.done(100 * 2 ** 20, true);
  assert.equal(progress.line(), `[${'#'.repeat(12).padEnd(24)}] 50% 200M of 400M, 10M/s, 0:20 left`);
  assert.equal(progress.summary(), '0 files, 100M sent in 10.0 s (10M/s), 100M were there already');
  progress.clear();
  assert.equal(drawn.at(-1), '\r\x1b[K');
});

test('the line is drawn ten times a second at most, and never wraps', () => {
  let now = 0;
  const { terminal, drawn } = screen(20);
  const progress = new Progress({ terminal, now: () => now });
  for (; now < 1000; now += 1) progress.found(1);
  assert.equal(drawn.length, 10);
  for (const line of drawn) assert.equal(line.replace('\r\x1b[K', '').length, 19);
});

test('progress is on a terminal alone, and not with --quiet', async (t) => {
  const { root, local, run } = place(t);
  writeFileSync(join(root, 'f'), 'text');
  assert.equal((await run(['get', 'f', join(local, 'a')])).err, '');
  const { err } = await run(['get', 'f', join(local, 'b')], { terminal: true });
  assert.match(err, /\[ {24}\] {2}0% 0 of 4, [^]*\n?1 file, 4 sent in [\d.]+ s /);
  assert.equal((await run(['get', '-q', 'f', join(local, 'c')], { terminal: true })).err, '');
});
