/** The options of `serve` for the DAX window. docs/DAX.md explains. */
import { type Command, InvalidArgumentError } from 'commander';

import { guardRefusal, lensRefusal, RANGE_BYTES } from '../coherence/index.ts';
import { bytesOfSize, MAX_REQUEST_QUEUES, UserError } from '../core/index.ts';

export interface DaxFlags {
  /** Bytes. */
  readonly daxWindow?: number;
  readonly daxMinSize: number;
  readonly daxName?: string[];
  readonly daxLargeWindow: boolean;
  readonly guardTruncate: boolean;
  readonly requestQueues: number;
  readonly readonly: boolean;
  readonly tag?: string;
}

const MIB = 2 ** 20;
/** QEMU 11.1 has room for 512 memory regions (hw/virtio/vhost-user.c) and aborts at one more; each range is one. */
const QEMU_MAX_BYTES = 512 * MIB;

/** `512M` in bytes, for commander. */
export function parseSize(text: string): number {
  const bytes = bytesOfSize(text);
  if (bytes === undefined) throw new InvalidArgumentError('It is a size like 512M or 1G.');
  return bytes;
}

/** Names for commander. A star stands for anything at one end. */
function collectNames(name: string, before: string[] | undefined): string[] {
  if (/^[^*/\0]+$|^\*[^*/\0]*$|^[^*/\0]+\*$/.test(name)) return [...(before ?? []), name];
  throw new InvalidArgumentError('It is the name of a file, or its beginning or its end with a *, and no path.');
}

/** A window is a PCI memory region, which has a power of two of bytes. */
function parseWindow(text: string): number {
  const bytes = parseSize(text);
  if (bytes >= RANGE_BYTES && Number.isInteger(Math.log2(bytes))) return bytes;
  throw new InvalidArgumentError('It is a power of two, 2M or more.');
}

export function parseQueues(text: string): number {
  if (/^[1-9]\d?$/.test(text) && Number(text) <= MAX_REQUEST_QUEUES) return Number(text);
  throw new InvalidArgumentError(`It is a number of queues, from 1 to ${MAX_REQUEST_QUEUES}.`);
}

export function addDaxOptions(command: Command): void {
  command
    .option('--dax-window <size>', 'let guests map files themselves, through a window of so many bytes', parseWindow)
    .option(
      '--dax-min-size <size>',
      'smaller files are read and written, unless mounted with dax=always',
      parseSize,
      MIB,
    )
    .option('--dax-name <name>', 'only files of that name, whatever their size; several times: *-shm', collectNames)
    .option('--dax-large-window', 'allow windows of more than 512M, of which QEMU would die', false)
    .option('--guard-truncate', 'VMs survive it when a program on the host makes a file shorter that they map', false)
    .option('--request-queues <count>', 'what a VMM is told that takes the tag from the daemon', parseQueues, 1);
}

/** Bytes of the window; undefined for none. Throws UserError. */
export function daxWindowOf(options: DaxFlags): number | undefined {
  const { daxWindow, daxLargeWindow, readonly, tag } = options;
  if (daxWindow === undefined) {
    if (!options.guardTruncate) return undefined;
    throw new UserError('--guard-truncate needs --dax-window: without one, VMs map nothing.');
  }
  const given = `--dax-window ${daxWindow / MIB}M`;
  if (readonly) {
    throw new UserError(`${given}: a VM can write to what it maps, so a share with --readonly has no window.`);
  }
  if (tag === undefined) {
    throw new UserError(`${given} needs --tag: a VMM that knows DAX windows takes the tag from the daemon.`);
  }
  if (daxWindow > QEMU_MAX_BYTES && !daxLargeWindow) {
    throw new UserError(
      `${given}: QEMU ends at more than 512M in a VM. Choose less, or add --dax-large-window for another VMM.`,
    );
  }
  const refusal = lensRefusal();
  if (refusal !== undefined) throw new UserError(`${given} cannot be had here: ${refusal}.`);
  return daxWindow;
}

/** Whether files that are mapped are guarded. Throws UserError where those of `sharedDir` cannot be. */
export function guardOf({ guardTruncate }: DaxFlags, sharedDir: string): boolean {
  const refusal = guardTruncate ? guardRefusal(sharedDir) : undefined;
  if (refusal === undefined) return guardTruncate;
  throw new UserError(`--guard-truncate: ${refusal}.`);
}
