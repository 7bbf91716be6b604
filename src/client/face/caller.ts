/** Whom an operation runs for, and what operations have in common. */
import { textOf, ShareError } from '../error.ts';
import type { OpenState } from './open-state.ts';
import { Latch, type Task } from '../task.ts';
import type { SharePath, Volume } from '../volume.ts';

/** Whom an operation runs for. */
export interface Caller {
  readonly volume: Volume;
  /** It is run to its end without a turn of the event loop: nothing that it waits for may be a promise. */
  readonly blocks: boolean;
  /** The open file that a caller names, by a FileHandle or a descriptor; undefined: it is a path. */
  opened(target: unknown): OpenState | undefined;
}

/** Waits for a promise. Only for a caller who does not block. */
export function* settled<T>(promise: PromiseLike<T>): Task<T> {
  const latch = new Latch();
  let outcome: { readonly value: T } | { readonly error: unknown } | undefined;
  const wait = async (): Promise<void> => {
    try {
      outcome = { value: await promise };
    } catch (error) {
      outcome = { error };
    }
    latch.settle();
  };
  void wait();
  yield latch;
  if (outcome === undefined) throw new Error('a promise was not settled: it was waited for by a caller who blocks');
  if ('error' in outcome) throw outcome.error;
  return outcome.value;
}

export function* pause(caller: Caller, ms: number): Task<void> {
  if (caller.blocks) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
    return;
  }
  const latch = new Latch();
  setTimeout(() => latch.settle(), ms);
  yield latch;
}

/** Runs a task; an error is told as node:fs would: with its name of the call, and the paths as they were given. */
export function* named<T>(syscall: string, task: Task<T>, path?: SharePath, dest?: SharePath): Task<T> {
  try {
    return yield* task;
  } catch (error) {
    if (error instanceof ShareError) throw new ShareError(error.errno, syscall, path, dest);
    throw error;
  }
}

/** Whether an error is one of the share's, with one of these codes. */
export function isCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof ShareError && codes.includes(error.code);
}

/** The directory of a path, as dirname(3). */
export function parentOf(path: SharePath): SharePath {
  if (typeof path !== 'string') return Buffer.from(parentOf(textIn(path)) as string, 'latin1');
  const bare = path.replace(/\/+$/, '');
  const at = bare.lastIndexOf('/');
  if (at < 0) return bare === '' && path !== '' ? '/' : '.';
  return bare.slice(0, at).replace(/\/+$/, '') || '/';
}

/** One character for each byte, so that what is no UTF-8 stays what it is. */
function textIn(path: Uint8Array): string {
  return Buffer.from(path).toString('latin1');
}

interface SystemErrorContext {
  readonly code: string;
  /** Positive, as Node has it here. */
  readonly errno: number;
  readonly syscall: string;
  readonly message: string;
  readonly path: SharePath;
}

/** What Node calls a SystemError: `code` is one of its own, `info` has the rest. */
export function systemError(code: string, prefix: string, context: SystemErrorContext): Error {
  const path = textOf(context.path);
  const message = `${prefix}: ${context.syscall} returned ${context.code} (${context.message}) ${path}`;
  return Object.assign(new Error(message), {
    name: 'SystemError',
    code,
    info: { ...context, path },
    errno: context.errno,
    syscall: context.syscall,
    path,
  });
}
