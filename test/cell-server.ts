/** Serves the file system of cell-file-system.ts. It takes those arguments of `virtiofs serve` that it needs. */
import { parseArgs } from 'node:util';

import { cachePolicy } from '../src/coherence/index.ts';
import { initOffer, Server, writeLine } from '../src/server/index.ts';

const { values } = parseArgs({
  allowPositionals: true,
  options: {
    'shared-dir': { type: 'string' },
    'socket-path': { type: 'string', multiple: true, default: [] },
    'thread-pool-size': { type: 'string', default: '2' },
    threads: { type: 'string' },
  },
});
/** From a signal to the end, whatever the sessions are at. */
const END_MS = 700;

const server = await Server.start({
  fileSystem: { module: new URL('cell-file-system.ts', import.meta.url).href, options: undefined },
  socketPaths: values['socket-path'],
  offer: initOffer(cachePolicy('auto')),
  stay: true,
  logLevel: 'warn',
  threads: values.threads === undefined ? undefined : Number(values.threads),
  threadPoolSize: Number(values['thread-pool-size']),
});
process.on('SIGTERM', () => {
  server.stop();
  // As `virtiofs serve`: what sleeps in the kernel, or here, is not waited for.
  setTimeout(() => process.exit(), END_MS).unref();
});
writeLine('Waiting for vhost-user socket connection...');
await server.finished;
process.exit();
