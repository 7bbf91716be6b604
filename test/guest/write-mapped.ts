/** In a guest: `node write-mapped.ts FROM TO [--direct]` writes all of FROM, mapped, to the new file TO. */
import { fstatSync, openSync } from 'node:fs';

import { mapShared, O_CREAT, O_DIRECT, O_WRONLY, SysError, write } from '../../src/sys/index.ts';

const [from, to, direct] = process.argv.slice(2);
const PAGE_BYTES = 4096;
const source = openSync(from, 'r+');
const { size } = fstatSync(source);
const address = mapShared(source, size, 0);
const target = openSync(to, O_WRONLY | O_CREAT | (direct === undefined ? 0 : O_DIRECT));
for (let at = 0; at < size; ) {
  // Odd pieces, but for O_DIRECT.
  const piece = direct === undefined ? 300_001 : 64 * PAGE_BYTES;
  at += SysError.check(write(target, address + at, Math.min(piece, size - at)), 'write', to);
}
