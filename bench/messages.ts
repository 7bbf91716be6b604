/**
 * How many FUSE messages common operations take: `npm run bench:messages -- [--cache MODE ...]`. Boots a guest for each
 * cache mode, runs each operation in it, and counts what the daemon was sent meanwhile, FORGETs apart.
 */
import { parseArgs } from 'node:util';

import { countMessages, OPERATIONS } from './operations.ts';

const { values } = parseArgs({
  options: { cache: { type: 'string', multiple: true, default: ['never', 'metadata', 'auto', 'always'] } },
});

const columns: (readonly [string, Map<string, number>])[] = [];
for (const cache of values.cache) columns.push([cache, await countMessages(cache)]);
console.log(['operation'.padEnd(22), ...columns.map(([cache]) => cache.padStart(10))].join(''));
for (const { name } of OPERATIONS) {
  console.log([name.padEnd(22), ...columns.map(([, results]) => `${results.get(name)}`.padStart(10))].join(''));
}
