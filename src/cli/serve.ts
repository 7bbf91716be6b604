import { statSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';

import { type Command, InvalidArgumentError, Option } from 'commander';

import { CACHE_MODES, type CacheMode, cachePolicy } from '../coherence/index.ts';
import { UserError } from '../core/index.ts';
import { type InodeFileHandles, moduleUrl, type PassthroughOptions } from '../fs/passthrough/index.ts';
import {
  createLog,
  formatStatistics,
  initOffer,
  LOG_LEVELS,
  type LogLevel,
  POOL_THREADS_MAX,
  type ServeOptions,
  Server,
  writeLine,
} from '../server/index.ts';
import { addDaxOptions, type DaxFlags, daxWindowOf, guardOf } from './dax-options.ts';
import { addIdentityOptions, type IdentityFlags, identityOf } from './identity-options.ts';

interface Options extends IdentityFlags, DaxFlags {
  readonly sharedDir: string;
  readonly socketPath: string[];
  readonly cache: CacheMode | 'none';
  readonly readonly: boolean;
  readonly posixLocks: boolean;
  readonly flock: boolean;
  readonly announceSubmounts: boolean;
  readonly inodeFileHandles: InodeFileHandles;
  readonly rlimitNofile?: number;
  readonly preserveNoatime: boolean;
  readonly allowDirectIo: boolean;
  readonly writeback: boolean;
  readonly allowMmap: boolean;
  /** Milliseconds, all three. */
  readonly entryTimeout?: number;
  readonly attrTimeout?: number;
  readonly negativeTimeout?: number;
  readonly threads?: number;
  readonly threadPoolSize?: number;
  readonly warmUp: boolean;
  readonly tag?: string;
  readonly stay: boolean;
  readonly stats: boolean;
  readonly logLevel: LogLevel;
}

const EXAMPLES = `
Examples:
  $ virtiofs serve --shared-dir /srv/data --socket-path /run/vm1.sock
  $ virtiofs serve --shared-dir . --socket-path /tmp/a.sock --socket-path /tmp/b.sock --stay

The VM (QEMU; the guest's memory must be shared):
  -object memory-backend-memfd,id=mem,size=1G,share=on -numa node,memdev=mem
  -chardev socket,id=fs,path=/run/vm1.sock -device vhost-user-fs-pci,chardev=fs,tag=data,queue-size=1024
In the guest:
  # mount -t virtiofs data /mnt

Signals: SIGTERM and SIGINT end the daemon; SIGUSR1 prints what it did so far.
Exit codes: 0 the VM has gone, or a signal; 1 wrong use, a directory or a socket that cannot be had; 70 a bug.`;

/** From a signal to the end, whatever the sessions are at. */
const END_MS = 700;

const MAX_TIMEOUT_SECONDS = 1e9;

/** More threads than any machine has CPUs for. */
const MOST_THREADS = 1024;

/** A number of threads, for commander. */
function threadsParser(least: number, most: number): (text: string) => number {
  return (text) => {
    if (/^\d+$/.test(text) && Number(text) >= least && Number(text) <= most) return Number(text);
    throw new InvalidArgumentError(`It is a number of threads, from ${least} to ${most}.`);
  };
}

const collect = (value: string, before: string[] | undefined): string[] => [...(before ?? []), value];

/** Seconds with fractions, for commander, in milliseconds. */
function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (text.trim() === '' || !(seconds >= 0 && seconds <= MAX_TIMEOUT_SECONDS)) {
    throw new InvalidArgumentError(`It is a number of seconds, from 0 to ${MAX_TIMEOUT_SECONDS}.`);
  }
  return Math.round(seconds * 1000);
}

/** Less leaves nothing for guests: 256 are the daemon's own. */
const LEAST_DESCRIPTORS = 384;

function parseLimit(text: string): number {
  const count = Number(text);
  const good = Number.isSafeInteger(count) && text.trim() !== '' && (count === 0 || count >= LEAST_DESCRIPTORS);
  if (!good) throw new InvalidArgumentError(`It is a number of descriptors: 0, or ${LEAST_DESCRIPTORS} at least.`);
  return count;
}

/** Adds `virtiofs serve`: the daemon, in the foreground. */
export function registerServe(program: Command): void {
  const command = program
    .command('serve')
    .description('share a directory with VMs through vhost-user sockets, in the foreground')
    .requiredOption('--shared-dir <dir>', 'the directory to share')
    .requiredOption('--socket-path <path>', 'the socket for a VM; several times for several VMs', collect)
    .addOption(new Option('--cache <mode>', 'what guests may cache').choices([...CACHE_MODES, 'none']).default('auto'))
    .option('--readonly', 'no guest can change anything', false)
    .option(
      '--writeback',
      'the guest collects writes in its cache, where it has one: not with never or metadata',
      false,
    )
    .option('--no-writeback', 'the guest writes through (the default)')
    .option('--allow-mmap', 'shared mappings also with --cache never or metadata', false)
    .option('--entry-timeout <seconds>', 'how long names are valid, instead of what --cache says', parseSeconds)
    .option('--attr-timeout <seconds>', 'how long attributes are valid', parseSeconds)
    .option('--negative-timeout <seconds>', 'how long a guest may trust that a name does not exist', parseSeconds)
    .option('--posix-locks', 'POSIX locks (fcntl) hold between guests and on the host, not only in the guest', false)
    .option('--flock', 'flock locks hold between guests and on the host', false)
    .option('--announce-submounts', 'mounts below the directory are mounts in the guest, too (the default)', true)
    .option('--no-announce-submounts', 'they look like directories of the same file system')
    .addOption(
      new Option('--inode-file-handles <when>', 'known files keep a file handle instead of a descriptor')
        .choices(['never', 'prefer', 'mandatory'])
        .default('prefer'),
    )
    .option('--rlimit-nofile <count>', 'how many descriptors the daemon may have; 0: its hard limit', parseLimit)
    .option('--preserve-noatime', 'O_NOATIME of a guest counts on the host', false)
    .option('--allow-direct-io', 'O_DIRECT of a guest counts on the host', false)
    .option(
      '--threads <threads>',
      'threads for request queues; more queues than these share them (default: one for each CPU, and 4 at least; ' +
        'with --dax-window each queue has its own)',
      threadsParser(1, MOST_THREADS),
    )
    .option(
      '--thread-pool-size <threads>',
      'threads that wait for the disk (fsync) while other requests go on; 0: none (default: 2 for each VM, 16 at most)',
      threadsParser(0, POOL_THREADS_MAX),
    )
    .option(
      '--warm-up',
      'idle threads serve made-up requests at first, to be quick when a guest comes (the default)',
      true,
    )
    .option('--no-warm-up', 'they do not: the first thousand requests of a guest take longer')
    .option('--tag <tag>', 'the tag, for a VMM that takes it from the daemon (crosvm, generic vhost-user devices)')
    .option('--stay', 'go on when a VM has gone, and let it connect again', false)
    .option('--stats', 'print what was done, by opcode, at the end', false)
    .addOption(new Option('--log-level <level>', 'what to log').choices(LOG_LEVELS).default('warn'));
  addIdentityOptions(command);
  addDaxOptions(command);
  command.addHelpText('after', EXAMPLES).action(serve);
}

/** Throws UserError unless `path` is a directory. */
function checkDirectory(path: string): string {
  if (path === '') throw new UserError('--shared-dir: the path is empty.');
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new UserError(`--shared-dir ${path}: there is no such directory.`);
  if (!found.isDirectory()) throw new UserError(`--shared-dir ${path}: this is not a directory.`);
  return resolve(path);
}

/** Throws UserError for options that are wrong, or do not go together. */
function serveOptions(options: Options): ServeOptions {
  const sharedDir = checkDirectory(options.sharedDir);
  if (options.socketPath.includes('')) throw new UserError('--socket-path: the path is empty.');
  const doubled = options.socketPath.find((path, i) => options.socketPath.indexOf(path) !== i);
  if (doubled !== undefined) throw new UserError(`--socket-path ${doubled} is given twice.`);
  const policy = cachePolicy(options.cache === 'none' ? 'never' : options.cache, {
    entryTtlMs: options.entryTimeout,
    attributeTtlMs: options.attrTimeout,
    negativeTtlMs: options.negativeTimeout,
    writeback: options.writeback,
    allowMmap: options.allowMmap,
    // Locks hold on open files, and a share that nothing may be changed in says so at OPEN.
    noOpen: options.readonly || options.posixLocks || options.flock ? false : undefined,
  });
  if (options.writeback && !policy.writeback) {
    createLog(options.logLevel).warn(`--writeback changes nothing with --cache ${options.cache}: no file data is kept`);
  }
  const identity = identityOf(options);
  const windowBytes = daxWindowOf(options);
  const { announceSubmounts, posixLocks, flock } = options;
  const passthrough: PassthroughOptions = {
    ...policy,
    sharedDir,
    readonly: options.readonly,
    ...identity.fileSystem,
    announceSubmounts,
    inodeFileHandles: options.inodeFileHandles,
    rlimitNofile: options.rlimitNofile,
    preserveNoatime: options.preserveNoatime,
    allowDirectIo: options.allowDirectIo,
    dax: windowBytes === undefined ? undefined : { minBytes: options.daxMinSize, names: options.daxName ?? [] },
    posixLocks,
    flock,
  };
  return {
    fileSystem: { module: moduleUrl, options: passthrough },
    socketPaths: options.socketPath,
    offer: initOffer(
      { ...policy, announceSubmounts, posixLocks, flock, dax: windowBytes !== undefined },
      identity.offered,
    ),
    tag: options.tag,
    requestQueues: options.requestQueues,
    windowBytes,
    guardTruncate: guardOf(options, sharedDir),
    threads: options.threads,
    threadPoolSize: options.threadPoolSize,
    warmUp: options.warmUp,
    stay: options.stay,
    logLevel: options.logLevel,
  };
}

/**
 * V8 compiles a function for good when it has run some 150 times, not 3000. Until then requests take up to twice as
 * long: numbers become objects on their way to the kernel. For what threads do, so before there are any.
 */
const COMPILE_EARLY = [
  '--invocation-count-for-maglev=50',
  '--invocation-count-for-turbofan=150',
  '--minimum-invocations-after-ic-update=50',
];

async function serve(options: Options): Promise<void> {
  // It takes some 60 ms at start, as the warm-up takes some: for those who stay.
  if (options.warmUp) for (const flag of COMPILE_EARLY) setFlagsFromString(flag);
  const server = await Server.start(serveOptions(options));
  const report = (): void => {
    const gauges = Object.entries(server.gauges()).map(([name, value]) => `${name} ${value}`);
    writeLine(`${formatStatistics(server.statistics())}\n${gauges.join(', ')}`);
  };
  const end = (): void => {
    server.stop();
    // A queue that is stuck in the kernel (a server that does not answer, a lease) cannot be waited for.
    setTimeout(() => process.exit(), END_MS).unref();
  };
  process.on('SIGTERM', end);
  process.on('SIGINT', end);
  process.on('SIGUSR1', report);
  // Kata and others wait for exactly this line.
  writeLine('Waiting for vhost-user socket connection...');
  // Node would keep what it compiled when the process ends; ours ends without Node.
  flushCompileCache();
  await server.finished;
  if (options.stats) report();
  // Not by running out of work: that takes as long as the threads are parked.
  process.exit();
}
