/** What a command runs with: the share, where it writes, what has failed. */
import type { Readable, Writable } from 'node:stream';
import { getSystemErrorMessage } from 'node:util';

import type { Command } from 'commander';

import { ConnectionError } from '../../client/index.ts';
import { UserError } from '../../core/index.ts';
import type { FileEntry, FileStats, ShareFiles } from './face.ts';
import { pathOf, quoted, shown, textOf } from './names.ts';

export type Input = Readable & { readonly isTTY?: boolean };
export type Output = Writable & { readonly isTTY?: boolean; readonly columns?: number };

/** Where a command stands. */
export interface Context {
  readonly share: ShareFiles;
  /** The files of this machine, for `put` and `get`. */
  readonly host: ShareFiles;
  /** What the share is called in tables. */
  readonly label: string;
  /** Where relative paths in the share begin: absolute. */
  readonly cwd: string;
  readonly stdin: Input;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Ctrl-C. */
  readonly signal: AbortSignal;
}

/** One of the commands: from the shell, and in `sh`. */
export interface ShareCommand {
  readonly name: string;
  /** Description, arguments, options. */
  readonly configure: (command: Command) => Command;
  /** `operands`: one for each argument; that of one with dots is a list. Resolves with the exit code. */
  readonly run: (context: Context, operands: readonly unknown[], options: Record<string, unknown>) => Promise<number>;
}

/** A command whose only argument is a list of paths. `work` has the options in its own type. */
export function pathsCommand(
  name: string,
  configure: ShareCommand['configure'],
  work: (run: Run, paths: readonly string[], options: never) => Promise<void>,
): ShareCommand {
  return {
    name,
    configure,
    async run(context, operands, options) {
      const run = new Run(name, context);
      try {
        await work(run, operands[0] as string[], options as never);
      } catch (error) {
        if (error instanceof ShareGone || !(error instanceof UserError)) throw error;
        run.say(error.message);
      }
      return run.exitCode;
    },
  };
}

/** The daemon has gone: nothing more can be done with the share. */
export class ShareGone extends UserError {}

/** Nobody reads what a command writes. */
export class OutputGone extends Error {}

interface SystemError extends Error {
  readonly code: string;
  readonly errno: number;
}

/** Of a call, and not a mistake in this program. */
export function isSystemError(error: unknown): error is SystemError {
  const { code, errno } = error as Partial<SystemError>;
  return error instanceof Error && typeof code === 'string' && typeof errno === 'number';
}

export function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return isSystemError(error) && codes.includes(error.code);
}

/** Such as `no such file or directory (ENOENT)`. */
export function reasonOf(error: SystemError | UserError): string {
  if (error instanceof UserError) return error.message;
  return `${getSystemErrorMessage(error.errno) ?? 'error'} (${error.code})`;
}

export interface Entry {
  readonly name: string;
  readonly type: FileEntry;
}

/** What is undefined where there is nothing. */
export async function lstatIfAny(files: ShareFiles, path: string): Promise<FileStats | undefined> {
  try {
    return await files.lstat(pathOf(path), { bigint: true });
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/** The entries of a directory by name. A stranger's daemon must not name another directory's files, or one twice. */
export async function entriesOf(files: ShareFiles, path: string): Promise<Entry[]> {
  const seen = new Set<string>();
  const entries = (await files.readdir(pathOf(path), { withFileTypes: true, encoding: 'buffer' })).map((type) => {
    const name = textOf(type.name);
    if (/^\.{0,2}$|[/\0]/.test(name)) throw new UserError(`the daemon lists a name that none can be: ${quoted(name)}`);
    if (seen.has(name)) throw new UserError(`the daemon lists a name twice: ${quoted(name)}`);
    seen.add(name);
    return { name, type };
  });
  return entries.toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

export function joined(directory: string, name: string): string {
  return directory.endsWith('/') ? directory + name : `${directory}/${name}`;
}

/** The last name in a path: '' for a root, '.' and '..'. */
export function baseName(path: string): string {
  const name = path.replace(/\/+$/, '').split('/').at(-1) as string;
  return name === '.' || name === '..' ? '' : name;
}

/** One run of a command. */
export class Run {
  readonly name: string;
  readonly context: Context;
  /** Called before a message is written: whatever draws on the terminal takes itself away. */
  beforeMessage: () => void = () => {};
  #failed = false;

  constructor(name: string, context: Context) {
    this.name = name;
    this.context = context;
  }

  get share(): ShareFiles {
    return this.context.share;
  }

  get exitCode(): number {
    return this.#failed ? 1 : 0;
  }

  /** Whether a person sees the output as it is. */
  get onTerminal(): boolean {
    return this.context.stdout.isTTY === true;
  }

  /** The absolute path of an operand. Throws UserError where it is empty. */
  resolve(operand: string): string {
    if (operand === '') throw new UserError('a path is not empty');
    return operand.startsWith('/') ? operand : joined(this.context.cwd, operand);
  }

  /** A name for the output: as GNU ls does on a terminal; elsewhere only what would break a line is quoted. */
  label(name: string): string {
    return this.onTerminal ? quoted(name) : shown(name);
  }

  lstat(path: string): Promise<FileStats> {
    return this.share.lstat(pathOf(path), { bigint: true });
  }

  /** Writes, and waits until it is taken. Rejects with OutputGone when nobody reads any more. */
  write(chunk: string | Uint8Array): Promise<void> {
    this.context.signal.throwIfAborted();
    if (chunk.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.context.stdout.write(chunk, (error) => {
        if (error) reject(hasCode(error, 'EPIPE') ? new OutputGone('nobody reads', { cause: error }) : error);
        else resolve();
      });
    });
  }

  /** Says what failed, and goes on. Throws what is a mistake in this program, and where the share has gone. */
  fail(path: string, error: unknown): void {
    this.context.signal.throwIfAborted();
    if (error instanceof ConnectionError) {
      throw new ShareGone(`${this.name}: ${shown(path)}: ${error.message}`, { cause: error });
    }
    const known = error instanceof UserError || isSystemError(error);
    if (!known || error instanceof ShareGone) throw error;
    this.say(`${shown(path)}: ${reasonOf(error)}`);
  }

  /** Says that something failed. */
  say(message: string): void {
    this.#failed = true;
    this.beforeMessage();
    this.context.stderr.write(`virtiofs ${this.name}: ${message}\n`);
  }

  /** Does something for each path. What fails is told, and the others go on. */
  async each(paths: readonly string[], work: (path: string, operand: string) => Promise<void>): Promise<void> {
    for (const operand of paths) {
      this.context.signal.throwIfAborted();
      try {
        await work(this.resolve(operand), operand);
      } catch (error) {
        this.fail(operand, error);
      }
    }
  }
}
