/** `virtiofs trace`: shows the messages of a virtio-fs session while they go by. docs/TRACE.md explains. */
import { setImmediate as nextTurn } from 'node:timers/promises';

import { type Command, InvalidArgumentError } from 'commander';

import { errnoName, type Fd, UserError } from '../../core/index.ts';
import { OPCODES } from '../../fuse/index.ts';
import { createLog, type Listening, limited, listen, type Log, unlisten, writeLine } from '../../server/index.ts';
import { accept, close, connectUnix, isSocketInUse, SysError, waitReadable } from '../../sys/index.ts';
import { endsConnection, Proxy } from '../../vhost/index.ts';
import { Output } from './output.ts';
import { Recorder, replyBytesOf, REQUEST_BYTES } from './recorder.ts';

interface Options {
  readonly socket: string;
  readonly listen: string;
  readonly json: boolean;
  readonly vhost: boolean;
  readonly filter?: readonly string[];
  readonly node?: string;
  readonly errors: boolean;
  readonly slow?: number;
  readonly output?: string;
  readonly summary: boolean;
}

const EXAMPLES = `
Examples:
  $ virtiofs serve --shared-dir . --socket-path /tmp/fs.sock --stay
  $ virtiofs trace --socket /tmp/fs.sock --listen /tmp/trace.sock
and the VM, or another client, connects to /tmp/trace.sock instead of /tmp/fs.sock.

  $ virtiofs trace --socket /tmp/fs.sock --listen /tmp/trace.sock --filter LOOKUP,CREATE --errors
  $ virtiofs trace --socket /tmp/fs.sock --listen /tmp/trace.sock --json -o trace.jsonl --summary

Signals: SIGTERM and SIGINT end it, and the connection that it stands in.
Exit codes: 0 a signal, or nobody reads any more; 1 wrong use, no daemon, a socket or a file that cannot be had;
70 a bug.`;

/** A signal interrupts a wait; one that comes just before it is seen so late. */
const SIGNAL_MS = 100;

const NAMES: readonly string[] = OPCODES.flatMap((record) => record?.name ?? []);

/** Names of opcodes for commander. */
function parseOpcodes(text: string): string[] {
  const names = text.split(',').map((name) => name.trim().toUpperCase());
  const unknown = names.find((name) => !NAMES.includes(name));
  if (unknown === undefined) return names;
  throw new InvalidArgumentError(`There is no opcode '${unknown}'; docs/OPCODES.md names all.`);
}

function parseNode(text: string): string {
  if (/^\d{1,20}$/.test(text)) return `${BigInt(text)}`;
  throw new InvalidArgumentError('It is a node id, as the trace shows it.');
}

function parseMilliseconds(text: string): number {
  if (text.trim() !== '' && Number(text) >= 0 && Number.isFinite(Number(text))) return Number(text);
  throw new InvalidArgumentError('It is a number of milliseconds, such as 0.5.');
}

/** Adds `virtiofs trace`. */
export function registerTrace(program: Command): void {
  program
    .command('trace')
    .description('show the messages between a VM and its daemon: names, fields, how long each took')
    .requiredOption('--socket <path>', "the daemon's socket")
    .requiredOption('--listen <path>', 'the socket to make, for the VM or client to connect to')
    .option('--json', 'a line of JSON for each message, with all fields', false)
    .option('--vhost', 'the vhost-user messages that set things up, too', false)
    .option('--filter <opcodes>', 'only these, such as LOOKUP,CREATE', parseOpcodes)
    .option('--node <id>', 'only messages about this node', parseNode)
    .option('--errors', 'only requests that failed', false)
    .option('--slow <ms>', 'only requests that took so long at least', parseMilliseconds)
    .option('-o, --output <file>', 'write there instead of to stdout')
    .option('--summary', 'at the end a table on stderr, by opcode, of what was shown', false)
    .addHelpText('after', EXAMPLES)
    .action(trace);
}

/** Throws UserError where no daemon has the socket. */
function checkDaemon(path: string): void {
  let inUse: boolean;
  try {
    inUse = isSocketInUse(path);
  } catch (error) {
    if (!(error instanceof SysError) && !(error instanceof RangeError)) throw error;
    throw new UserError(`--socket ${path}: ${error.message}.`, { cause: error });
  }
  if (!inUse) throw new UserError(`--socket ${path}: no daemon is there. Start one first, with this --socket-path.`);
}

async function trace(options: Options): Promise<void> {
  checkDaemon(options.socket);
  const output = new Output(options.output);
  const recorder = new Recorder({
    ...options,
    opcodes: options.filter,
    nodeid: options.node,
    slowMs: options.slow,
    arm64: process.arch === 'arm64',
    timeOriginMs: performance.timeOrigin,
    line: (text) => output.line(text),
  });
  const listening = listen(options.listen, '--listen');
  const tracer = new Tracer(options.socket, listening, recorder, output);
  process.on('SIGINT', () => tracer.stop());
  process.on('SIGTERM', () => tracer.stop());
  try {
    // What whoever starts us waits for, as it would for the daemon's.
    writeLine('Waiting for vhost-user socket connection...');
    await tracer.run();
    output.close();
  } finally {
    unlisten(listening);
  }
  if (options.summary) writeLine(recorder.summary.toString());
}

/** Serves one connection after another. */
class Tracer {
  readonly #daemonPath: string;
  readonly #listening: Listening;
  readonly #recorder: Recorder;
  readonly #output: Output;
  readonly #log: Log = createLog('warn');
  readonly #warn = limited(this.#log.warn);
  #isStopped = false;

  constructor(daemonPath: string, listening: Listening, recorder: Recorder, output: Output) {
    this.#daemonPath = daemonPath;
    this.#listening = listening;
    this.#recorder = recorder;
    this.#output = output;
  }

  stop(): void {
    this.#isStopped = true;
  }

  get #goesOn(): boolean {
    return !this.#isStopped && !this.#output.ended;
  }

  async run(): Promise<void> {
    while (this.#goesOn) {
      // A wait in the kernel ends with a signal, whose listener runs in the next turn.
      await nextTurn();
      if (!waitReadable(this.#listening.fd, SIGNAL_MS)) continue;
      const frontEnd = accept(this.#listening.fd);
      if (frontEnd < 0) {
        this.#warn(`accepting a connection on ${this.#listening.path} failed: ${errnoName(frontEnd)}`);
        continue;
      }
      await this.#serve(frontEnd as Fd);
    }
  }

  async #serve(frontEnd: Fd): Promise<void> {
    const proxy = this.#connect(frontEnd);
    if (proxy === undefined) return;
    this.#recorder.connected();
    try {
      while (this.#goesOn && proxy.turn(SIGNAL_MS)) {
        this.#output.flush();
        await nextTurn();
      }
    } catch (error) {
      if (!endsConnection(error)) throw error;
      this.#log.warn(`the connection is closed: ${error.message}`);
    } finally {
      proxy.close();
      this.#output.flush();
    }
  }

  /** Undefined: there is no daemon any more, and the client has to go. */
  #connect(frontEnd: Fd): Proxy | undefined {
    const recorder = this.#recorder;
    let backEnd: Fd;
    try {
      backEnd = connectUnix(this.#daemonPath);
    } catch (error) {
      close(frontEnd);
      if (!(error instanceof SysError)) throw error;
      this.#warn(`a connection is refused: ${error.message}; start the daemon again, with --stay`);
      return undefined;
    }
    return new Proxy(frontEnd, backEnd, {
      clock: () => performance.now(),
      requestBytes: REQUEST_BYTES,
      replyBytes: replyBytesOf,
      message: (sender, message) => recorder.message(sender, message),
      exchanged: (queue, exchange) => recorder.exchanged(queue, exchange),
      missed: (queue, count) => recorder.missed(queue, count),
      warn: this.#warn,
    });
  }
}
