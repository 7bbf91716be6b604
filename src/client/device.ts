/** A virtio-fs device at a socket, up to where its rings start: what a VMM and a driver ask of it, in order. */
import type { Fd } from '../core/index.ts';
import { FS_TAG_BYTES, FsConfig } from '../virtio/index.ts';
import { type BackendRequests, FrontEnd, PROTOCOL_FEATURES, ProtocolFeature, VhostError } from '../vhost/index.ts';

const HIPRIO_QUEUES = 1;
const NEWLINE = 0x0a;

const bits = (...numbers: bigint[]): bigint => numbers.reduce((sum, each) => sum | (1n << each), 0n);
/**
 * Memory is a table that does not change. A daemon that is told of regions one by one waits for us to say so of what it
 * has mapped in the window, as QEMU does.
 */
const WITHOUT_SLOTS = PROTOCOL_FEATURES & ~bits(ProtocolFeature.CONFIGURE_MEM_SLOTS);
/** Nobody would listen to a daemon that asks. */
const WITHOUT_WINDOW =
  WITHOUT_SLOTS & ~bits(ProtocolFeature.BACKEND_REQ, ProtocolFeature.BACKEND_SEND_FD, ProtocolFeature.SHMEM);

interface DeviceOptions {
  /** Request queues; as many as the daemon has, at most. */
  readonly queues: number;
  /** How long the daemon may take for an answer. */
  readonly timeoutMs: number;
  /** A DAX window is wanted. */
  readonly window: boolean;
  /** Where the daemon's interrupts go; the caller's. */
  readonly notifyFd: Fd;
}

export interface WindowOffer {
  /** On which the daemon asks to map; the taker's to close. */
  readonly channel: BackendRequests;
  /** 0: there is none. */
  readonly sizeBytes: number;
}

interface Device {
  readonly frontEnd: FrontEnd;
  /** Hiprio included. They are prepared, and have no rings. */
  readonly queues: number;
  /** What the share is called, where the daemon says so. */
  readonly tag: string | undefined;
  /** Absent where none is wanted, or the daemon does not know what that is. */
  readonly window: WindowOffer | undefined;
}

/** What struct virtio_fs_config says. */
interface DeviceConfig {
  readonly tag: string;
  readonly requestQueues: number;
}

/** Throws SysError, VhostError. */
export function openDevice(socketPath: string, options: DeviceOptions): Device {
  const wanted = options.window ? WITHOUT_SLOTS : WITHOUT_WINDOW;
  const frontEnd = FrontEnd.connect(socketPath, options.timeoutMs, wanted);
  let channel: BackendRequests | undefined;
  try {
    const most = frontEnd.queueCount();
    const prepared = queuesOf(most, options.queues);
    if (frontEnd.hasBackendChannel) channel = frontEnd.openBackendChannel();
    for (let index = 0; index < prepared; index += 1) frontEnd.prepareQueue(index, options.notifyFd);
    const [sizeBytes = 0] = frontEnd.sharedMemory();
    const bytesOfConfig = frontEnd.config(0, FsConfig.bytes);
    const config = bytesOfConfig && configOf(bytesOfConfig, most);
    const queues = Math.min(prepared, HIPRIO_QUEUES + (config?.requestQueues ?? prepared));
    const window = channel && { channel, sizeBytes };
    return { frontEnd, queues, tag: config?.tag, window };
  } catch (error) {
    channel?.close();
    frontEnd.close();
    throw error;
  }
}

/** virtio 5.11.2: hiprio, and one request queue at least. Throws VhostError. */
function queuesOf(most: number | undefined, wanted: number): number {
  if (most === undefined) return HIPRIO_QUEUES + 1;
  if (most < 2) throw new VhostError('UNSUPPORTED', `the back-end has ${most} queues; a file system has 2 or more`);
  return Math.min(HIPRIO_QUEUES + wanted, most);
}

/**
 * Reads struct virtio_fs_config; `most`: of all queues, where the back-end says so. Refuses what Linux refuses
 * (fs/fuse/virtio_fs.c: no tag, a line break in it, no request queue) and QEMU (vhost-user.c: more queues than there
 * are). Throws VhostError.
 */
function configOf(config: Uint8Array, most: number | undefined): DeviceConfig {
  const view = new DataView(config.buffer, config.byteOffset, config.byteLength);
  const padded = config.subarray(FsConfig.offsets.tag, FsConfig.offsets.tag + FS_TAG_BYTES);
  // A tag of 36 bytes has no NUL behind it.
  const end = padded.indexOf(0);
  const tag = end === -1 ? padded : padded.subarray(0, end);
  const requestQueues = FsConfig.numRequestQueues(view, 0);
  const bad = (what: string): VhostError => new VhostError('MALFORMED', `the back-end's configuration has ${what}`);
  if (tag.length === 0) throw bad('no tag');
  if (tag.includes(NEWLINE)) throw bad('a tag with a line break');
  if (requestQueues === 0) throw bad('0 request queues; a file system has 1 or more');
  if (most !== undefined && HIPRIO_QUEUES + requestQueues > most) {
    throw bad(`${requestQueues} request queues; with that for FORGET the back-end has ${most} queues in all`);
  }
  return { tag: new TextDecoder().decode(tag), requestQueues };
}
