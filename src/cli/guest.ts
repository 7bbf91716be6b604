import { mkdtempSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Writable } from 'node:stream';

import { type Command, InvalidArgumentError, Option } from 'commander';

import { CACHE_MODES } from '../coherence/index.ts';
import { UserError } from '../core/index.ts';
import {
  boot,
  type Daemon,
  KERNEL_VERSIONS,
  LabError,
  progressTo,
  QEMU_VERSIONS,
  removeAtExit,
  startDaemon,
  type Vm,
} from '../../lab/index.ts';

/** What a command line says about a guest. */
export interface GuestOptions {
  readonly cache?: string;
  readonly readonly?: boolean;
  readonly memory?: number;
  readonly cpus?: number;
  readonly kernel?: string;
  readonly qemu?: string;
  readonly queues?: number;
  readonly dax?: boolean;
  readonly daxWindow?: string;
}

/** A guest with a directory, and the daemon between them. */
export interface Guest {
  readonly vm: Vm;
  readonly daemon: Daemon;
  /** Unmounts and ends both. */
  close(): Promise<void>;
}

/** Exit code when there is no guest to speak of; those below belong to the guest's command. */
export const EXIT_NO_GUEST = 125;
/** Errors of the lab that are in the command line. */
const WRONG_USE = new Set(['VERSION', 'SUITE']);
const EXIT_UNREAD = 141;
const MOUNT_POINT = '/mnt/share';
const TAG = 'share';
/** As large as it can be: QEMU ends at 513 pieces of memory, and each 2 MiB of the window are one. */
const DAX_WINDOW = '512M';
const DAEMON_END_MS = 5_000;

/** Parses a number of at least 1 for commander. */
export function parseCount(text: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new InvalidArgumentError('It is a number from 1 on.');
  return Number(text);
}

/** Parses memory sizes for commander: `512`, `512M`, `2G`. @returns MiB. */
export function parseMemory(text: string): number {
  const match = /^([1-9][0-9]{0,8})([MG]?)i?B?$/i.exec(text);
  const sizeMiB = Number(match?.[1]) * (match?.[2].toUpperCase() === 'G' ? 1024 : 1);
  // Less than this and the kernel has no room for its own unpacked image.
  if (match === null || sizeMiB < 192) throw new InvalidArgumentError('It is like 512M or 2G, and at least 192M.');
  return sizeMiB;
}

/** Adds the options that say what kind of guest to boot. */
export function addGuestOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--cache <mode>', 'what the guest may cache').choices([...CACHE_MODES, 'none']).default('auto'),
    )
    .option('--memory <size>', 'memory of the guest (default: 512M)', parseMemory)
    .option('--cpus <n>', 'CPUs of the guest (default: as many as queues)', parseCount)
    .option('--queues <n>', 'request queues (default: 1)', parseCount)
    .option('--kernel <version>', `Linux to boot: ${KERNEL_VERSIONS.join(', ')}, or the path of an image`)
    .option('--qemu <version>', `QEMU to use: ${QEMU_VERSIONS.join(', ')}, or the path of a qemu-system-x86_64`);
}

/** @throws UserError unless `path` is a directory. */
export function directoryOf(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new UserError(`${path}: there is no such directory.`);
  if (!found.isDirectory()) throw new UserError(`${path}: this is not a directory.`);
  return resolve(path);
}

/** Runs what may fail for want of a guest; its errors become the user's. */
export async function withGuestErrors<T>(body: () => Promise<T>): Promise<T> {
  try {
    return await body();
  } catch (error) {
    if (!(error instanceof LabError)) throw error;
    const exitCode = WRONG_USE.has(error.code) ? 1 : EXIT_NO_GUEST;
    throw new UserError(error.message, { exitCode, cause: error });
  }
}

/** The size of the guest's DAX window, as on the command line; undefined for none. */
export function daxWindowOf({ dax, daxWindow }: GuestOptions): string | undefined {
  return daxWindow ?? (dax === true ? DAX_WINDOW : undefined);
}

/** What a guest's options say to its daemon. */
export function daemonArguments(options: GuestOptions): string[] {
  const window = daxWindowOf(options);
  return [
    ...(options.readonly === true ? ['--readonly'] : []),
    // The device that can have a window has no name of its own: the daemon tells it.
    ...(window === undefined
      ? []
      : ['--tag', TAG, '--request-queues', `${options.queues ?? 1}`, '--dax-window', window]),
  ];
}

/** Starts a daemon for `sharedDir` and boots a guest that has it at /mnt/share. */
export async function startGuest(sharedDir: string, options: GuestOptions): Promise<Guest> {
  // A reader that has had enough (| head) ends everything, as it ends any program: 128 + SIGPIPE.
  process.stdout.on('error', () => process.exit(EXIT_UNREAD));
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-'));
  const removeFolder = removeAtExit(folder);
  let daemon: Daemon | undefined;
  try {
    const socketPath = join(folder, 'fs');
    const args = daemonArguments(options);
    const dax = daxWindowOf(options) !== undefined;
    daemon = await startDaemon({ sharedDir, socketPaths: [socketPath], cache: options.cache, args });
    const running = daemon;
    const vm = await boot({
      qemu: options.qemu,
      kernel: options.kernel,
      memoryMiB: options.memory,
      cpus: options.cpus ?? options.queues,
      shares: [{ socketPath, tag: TAG, queues: options.queues, dax, mountPoint: MOUNT_POINT }],
      timeLimitMs: Infinity,
      progress: progressTo(process.stderr),
    });
    const close = async (): Promise<void> => {
      await vm.stop();
      await running.waitForEnd(DAEMON_END_MS).catch(() => running.kill());
      removeFolder();
    };
    return { vm, daemon, close };
  } catch (error) {
    await daemon?.kill();
    removeFolder();
    throw error;
  }
}

/** Writes to a stream; the promise lasts while the stream is full. */
export function writeTo(stream: Writable): (bytes: Buffer) => void | Promise<void> {
  return (bytes) => {
    if (stream.write(bytes)) return undefined;
    return new Promise((done) => void stream.once('drain', done));
  };
}
