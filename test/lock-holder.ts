/**
 * A process of the host that locks a file when it is told to: `lock-holder.ts FILE`. For each line on stdin it says
 * `true` or `false` on stdout, whether it was given the lock: `posix TYPE START LENGTH` or `flock OPERATION`.
 */
import { openSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { setProcessLock, tryFlock } from './native.ts';

const fd = openSync(process.argv[2], 'r+');
for await (const line of createInterface(process.stdin)) {
  const [kind, type, start, length] = line.split(' ');
  const given =
    kind === 'posix' ? setProcessLock(fd, Number(type), Number(start), Number(length)) : tryFlock(fd, Number(type));
  process.stdout.write(`${given}\n`);
}
