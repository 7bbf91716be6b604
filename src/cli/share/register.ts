/** The commands that work on a share, by its socket: what `virtiofs` has of them. */
import * as hostFiles from 'node:fs/promises';

import { type Command, InvalidArgumentError, Option } from 'commander';

import { ConnectionError } from '../../client/index.ts';
import { RANGE_BYTES } from '../../coherence/index.ts';
import { UserError } from '../../core/index.ts';
import { parseQueues, parseSize } from '../dax-options.ts';
import { mkdirCommand, rmCommand } from './change.ts';
import { cpCommand, getCommand, mvCommand, putCommand } from './copy.ts';
import type { Open, ShareOptions } from './face.ts';
import { catCommand, dfCommand, statCommand, treeCommand } from './look.ts';
import { lsCommand } from './ls.ts';
import { shown } from './names.ts';
import { type Context, isSystemError, OutputGone, reasonOf, type ShareCommand } from './run.ts';
import { shCommand } from './sh.ts';

const SIMPLE: readonly ShareCommand[] = [
  lsCommand,
  catCommand,
  statCommand,
  treeCommand,
  dfCommand,
  cpCommand,
  mvCommand,
  rmCommand,
  mkdirCommand,
  putCommand,
  getCommand,
];

/** All of them, in the order of the help. */
export const SHARE_COMMANDS: readonly ShareCommand[] = [...SIMPLE, shCommand(SIMPLE)];

/** As a program that these ended. */
const EXIT_CODES = { SIGINT: 130, SIGTERM: 143 };
/** The same of SIGPIPE. */
const EXIT_UNREAD = 141;
const MAX_TIMEOUT_SECONDS = 86_400;

function parseWindow(text: string): number {
  const bytes = parseSize(text);
  if (bytes > 0 && bytes % RANGE_BYTES === 0) return bytes;
  throw new InvalidArgumentError('It is a multiple of 2M.');
}

/** Seconds, in milliseconds. */
function parseTimeout(text: string): number {
  const seconds = Number(text);
  if (text.trim() !== '' && seconds > 0 && seconds <= MAX_TIMEOUT_SECONDS) return Math.ceil(seconds * 1000);
  throw new InvalidArgumentError(`It is a number of seconds, over 0 and up to ${MAX_TIMEOUT_SECONDS}.`);
}

interface Flags {
  readonly socket: string;
  readonly cache: ShareOptions['cache'];
  readonly writeback: boolean;
  readonly dax?: number;
  readonly queues: number;
  readonly timeout?: number;
}

function addShareOptions(command: Command): Command {
  return command
    .addOption(new Option('--socket <path>', "the daemon's socket").env('VIRTIOFS_SOCKET').makeOptionMandatory())
    .addOption(
      new Option('--cache <mode>', 'what is kept of the share').choices(['none', 'auto', 'always']).default('auto'),
    )
    .option('--writeback', 'writes are collected here before they are sent', false)
    .option('--dax <size>', "map files from the daemon's page cache through a window of so many bytes", parseWindow)
    .option('--queues <count>', 'request queues', parseQueues, 1)
    .option('--timeout <seconds>', 'how long the daemon may take for an answer', parseTimeout);
}

/** What goes wrong with the connection is no bug of this program. */
async function told<T>(socketPath: string, work: PromiseLike<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ConnectionError)
      throw new UserError(`${shown(socketPath)}: ${error.message}`, { cause: error });
    if (!isSystemError(error)) throw error;
    throw new UserError(`${shown(socketPath)}: ${reasonOf(error)}`, { cause: error });
  }
}

async function runCommand(
  command: ShareCommand,
  given: { readonly operands: readonly unknown[]; readonly options: Record<string, unknown> },
  open: Open,
): Promise<number> {
  const { socket, cache, writeback, dax, queues, timeout } = given.options as unknown as Flags;
  if (socket === '') throw new UserError('--socket: the path is empty.');
  const share = await told(socket, open(socket, { cache, writeback, daxBytes: dax, queues, timeoutMs: timeout }));
  const interrupted = new AbortController();
  const { stdin, stdout, stderr } = process;
  // The second Ctrl-C ends the process, as ever.
  let ended = EXIT_CODES.SIGINT;
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      ended = EXIT_CODES[signal];
      interrupted.abort();
    });
  }
  // Whoever writes is told, too.
  stdout.on('error', () => {});
  const context: Context = {
    share,
    host: hostFiles,
    label: socket,
    cwd: '/',
    stdin,
    stdout,
    stderr,
    signal: interrupted.signal,
  };
  try {
    const code = await command.run(context, given.operands, given.options);
    // What could not be written back is an error of the command.
    await told(socket, share[Symbol.asyncDispose]());
    return code;
  } catch (error) {
    // The first error tells more.
    await Promise.resolve(share[Symbol.asyncDispose]()).catch(() => {});
    if (interrupted.signal.aborted) return ended;
    if (error instanceof OutputGone) return EXIT_UNREAD;
    throw error;
  }
}

const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  ls: ['ls -lh /etc', 'ls -R --json /srv'],
  cat: ['cat /etc/hosts'],
  stat: ['stat /etc/hosts', 'stat -L --json /etc/localtime'],
  tree: ['tree -L 2 /srv'],
  df: ['df -h'],
  cp: ['cp -r -p /srv/site /srv/site.old'],
  mv: ['mv -n /inbox/a /inbox/b /done'],
  rm: ['rm -r /srv/site.old'],
  mkdir: ['mkdir -p /srv/a/b'],
  put: ['put -j 8 --checksum ./site /srv'],
  get: ['get /var/log ./logs'],
  sh: ['sh', "sh -c 'cd /srv; ls'"],
};

function epilogue(name: string): string {
  const examples = (EXAMPLES[name] ?? []).map((line) => `  $ virtiofs ${line} --socket /tmp/fs.sock`);
  const codes =
    name === 'sh'
      ? 'Exit codes: that of the last command; 127 there is none of that name; 2 quotes that do not end.'
      : 'Exit codes: 0 done; 1 something failed, and it was said what; 130 Ctrl-C; 70 a bug.';
  return ['\nExamples:', ...examples, '', codes].join('\n');
}

/** Adds one of the commands, such as `virtiofs ls`. `open` connects to the daemon. */
export function registerShareCommand(program: Command, name: string, open: Open): void {
  const found = SHARE_COMMANDS.find((command) => command.name === name);
  if (found === undefined) throw new Error(`there is no command ${name}`);
  const command = addShareOptions(found.configure(program.command(name))).addHelpText('after', epilogue(name));
  command.action(async (...given: unknown[]) => {
    const options = given.at(-2) as Record<string, unknown>;
    process.exitCode = await runCommand(found, { operands: given.slice(0, -2), options }, open);
  });
}
