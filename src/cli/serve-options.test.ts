/** Whoever reads the README finds every option of the daemon, there or in a document that it names. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { test } from 'node:test';

import { Command } from 'commander';

import { registerServe } from './serve.ts';

const textOf = (path: string): string => readFileSync(resolve(import.meta.dirname, '../..', path), 'utf8');

test('every option of serve is in the table of the README, and explained where that says', () => {
  const program = new Command();
  registerServe(program);
  const options = program.commands.flatMap((command) => command.options.flatMap(({ long }) => long ?? []));
  assert.ok(options.length > 25);
  const readme = textOf('README.md');
  const rows = readme.split('\n').filter((line) => line.startsWith('| `--'));
  for (const option of options) {
    // The opposite of a flag goes without saying.
    const flag = option.replace(/^--no-/, '--');
    const named = new RegExp(`\`${flag}[ \`]`);
    const row = rows.find((line) => named.test(line));
    assert.ok(row !== undefined || /^--(shared-dir|socket-path)$/.test(option), `README.md has no ${flag}`);
    for (const [, document] of row?.matchAll(/`(docs\/[A-Z]+\.md)`/g) ?? []) {
      assert.ok(textOf(document).includes(flag), `${document} has no ${flag}`);
    }
  }
});
