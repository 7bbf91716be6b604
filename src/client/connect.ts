/** Opens a share: from a socket to a mounted volume. */
import { assert, bytesOfSize, UserError } from '../core/index.ts';
import {
  AttrOut,
  flags as fuse,
  GetattrIn,
  opcodes,
  RemovemappingIn,
  RemovemappingOne,
  SetupmappingIn,
} from '../fuse/index.ts';
import { S_IFDIR, S_IFMT, SysError } from '../sys/index.ts';
import { VhostError } from '../vhost/index.ts';
import { attributesAt, attrValidMs } from './attributes.ts';
import { bodyOf } from './body.ts';
import { DAX_RANGE_BYTES, type DaxOps, DaxRanges } from './window/dax.ts';
import { ShareError } from './error.ts';
import { Mount } from './mount.ts';
import { MountedVolume } from './mounted-volume.ts';
import { PageCache } from './cache/page-cache.ts';
import { ConnectionError, Refusal } from './refusal.ts';
import { Session, type Tracer } from './session.ts';
import { Share } from './face/share.ts';
import { ShareSync } from './face/share-sync.ts';
import { finished, promised, type Task } from './task.ts';
import { Transport } from './transport.ts';
import { type CacheMode, type Node, ROOT_NODE, Tree } from './tree.ts';
import type { Attributes } from './volume.ts';
import { WindowThread } from './window/window-thread.ts';

export interface ConnectOptions {
  /**
   * What is believed and kept. `auto` (default): names and attributes as long as the daemon says, file data from open
   * to open; `none`: nothing; `always`: everything, until it is given up.
   */
  readonly cache?: CacheMode;
  /** What is written is sent later: on close, on sync, or when there is much of it. Default false. */
  readonly writeback?: boolean;
  /** Files are mapped, not copied: how much of the daemon's DAX window to use, such as `64M`. Default: nothing. */
  readonly dax?: string | number;
  /** Which files: those that the daemon says (default), or all. */
  readonly daxFiles?: 'inode' | 'always';
  /** Request queues, default 1; as many as the daemon has, at most. */
  readonly queues?: number;
  /** How long the daemon may take for a request, in milliseconds: default 30000. */
  readonly timeoutMs?: number;
  /** Who asks: default the user of this process. */
  readonly uid?: number;
  readonly gid?: number;
  readonly groups?: readonly number[];
  /** Default that of this process. */
  readonly umask?: number;
  /** Bytes of file data that are kept, at most: default 64 MiB. */
  readonly cacheBytes?: number;
  /** Names that are kept, at most: default 50000. */
  readonly cacheNames?: number;
  /** Hears of every message. */
  readonly trace?: Tracer;
}

const CACHE_MODES: readonly CacheMode[] = ['none', 'auto', 'always'];
const QUEUE_SIZE = 128;
const DATA_BYTES = 1024 * 1024;
const DEFAULTS = { timeoutMs: 30_000, cacheBytes: 64 * 1024 * 1024, cacheNames: 50_000 };
/** Of one file, when it is read in order. */
const READAHEAD_BYTES = 512 * 1024;
const NO_HANDLE = 0xffff_ffff_ffff_ffffn;

/**
 * Opens the share of a virtio-fs daemon that listens at a socket, ours or another's. The caller's thread waits for the
 * daemon's answers to vhost-user's first messages, a millisecond or so. Throws UserError, ConnectionError.
 */
export async function connect(socketPath: string, options: ConnectOptions = {}): Promise<Share> {
  return new Share(await promised(openVolume(socketPath, options)));
}

/** The same, for a caller who blocks. */
export function connectSync(socketPath: string, options: ConnectOptions = {}): ShareSync {
  return new ShareSync(openVolumeSync(socketPath, options));
}

/** A share's volume, which faces are built on. Throws UserError, ConnectionError. */
export function* openVolume(socketPath: string, options: ConnectOptions = {}): Task<MountedVolume> {
  return yield* mount(openTransport(socketPath, options), options);
}

/** The same, for a caller who blocks. */
export function openVolumeSync(socketPath: string, options: ConnectOptions = {}): MountedVolume {
  const transport = openTransport(socketPath, options);
  return finished(mount(transport, options), () => transport.idle());
}

export function openTransport(socketPath: string, options: ConnectOptions): Transport {
  const { queues = 1, timeoutMs = DEFAULTS.timeoutMs } = options;
  if (!Number.isInteger(queues) || queues < 1) throw new UserError(`${queues} queues: give 1 or more`);
  if (!(timeoutMs > 0)) throw new UserError(`a time-out of ${timeoutMs} ms: give more than 0`);
  const { cache = 'auto' } = options;
  if (!CACHE_MODES.includes(cache)) throw new UserError(`cache '${cache}': give none, auto or always`);
  try {
    const window = options.dax !== undefined;
    return new Transport(socketPath, { queues, timeoutMs, queueSize: QUEUE_SIZE, dataBytes: DATA_BYTES, window });
  } catch (error) {
    throw explained(error, socketPath);
  }
}

function explained(error: unknown, socketPath: string): unknown {
  if (error instanceof SysError && error.syscall === 'connect') {
    const hint = 'is a virtio-fs daemon listening there, and may this user connect?';
    return new UserError(`no connection to '${socketPath}': ${error.message}; ${hint}`, { cause: error });
  }
  if (!(error instanceof VhostError)) return error;
  if (error.code === 'TIMEOUT') return new ConnectionError('ETIMEDOUT', `'${socketPath}': ${error.message}`);
  if (error.code === 'CLOSED') {
    const why = 'it may serve another VM, or be no vhost-user back-end';
    return new ConnectionError('ECONNRESET', `'${socketPath}': ${error.message}; ${why}`);
  }
  return new ConnectionError('EPROTO', `'${socketPath}': ${error.message}`);
}

/** A FUSE session over a transport, and what is cached of it. Throws UserError, ConnectionError. */
export function* mount(transport: Transport, options: ConnectOptions): Task<MountedVolume> {
  let window: WindowThread | undefined;
  const end = (): void => {
    // First told, as it may be waiting for the daemon; last given up, as the daemon may be showing something.
    window?.stop();
    transport.close();
    window?.close();
  };
  try {
    if (options.dax !== undefined) window = openWindow(transport, options.dax);
    return yield* mountWith(transport, window, options, end);
  } catch (error) {
    end();
    throw error;
  }
}

function* mountWith(
  transport: Transport,
  window: WindowThread | undefined,
  options: ConnectOptions,
  end: () => void,
): Task<MountedVolume> {
  const { cache: mode = 'auto', writeback = false } = options;
  const credentials = {
    uid: options.uid ?? process.getuid?.() ?? 0,
    gid: options.gid ?? process.getgid?.() ?? 0,
    groups: options.groups ?? process.getgroups?.() ?? [],
  };
  const session = new Session(transport, { credentials, writeback, dax: window !== undefined, dataBytes: DATA_BYTES });
  session.tracer = options.trace;
  yield* session.init();
  const { root, validMs } = yield* rootOf(session);
  const limit = options.cacheNames ?? DEFAULTS.cacheNames;
  const leaving = (node: Node): Task<void> | undefined => node.dax?.drop();
  const tree = new Tree(session, root, { mode, limit, leaving });
  tree.learn(tree.root, root, validMs);
  const { agreed } = session;
  const pages = new PageCache({
    limitBytes: options.cacheBytes ?? DEFAULTS.cacheBytes,
    maxReadaheadBytes: Math.min(READAHEAD_BYTES, agreed.maxReadaheadBytes),
    maxReadBytes: agreed.maxReadBytes,
    maxWriteBytes: agreed.maxWriteBytes,
    writeback: session.has(fuse.INIT.WRITEBACK_CACHE),
  });
  const ranges = window && new DaxRanges(window, daxOps(session));
  const dax = ranges && { ranges, always: options.daxFiles === 'always' };
  const umask = options.umask ?? process.umask();
  return new MountedVolume(new Mount({ session, tree, mode, pages, umask, dax }), end, transport.tag);
}

/** The window that the daemon offers, or the first `bytes` of it. Throws UserError. */
function openWindow(transport: Transport, size: string | number): WindowThread {
  const bytes = typeof size === 'number' ? size : bytesOfSize(size);
  const offered = transport.windowBytes;
  if (offered === 0) throw new UserError('the daemon has no DAX window: start it with one, or do without');
  if (bytes === undefined || !(bytes >= DAX_RANGE_BYTES)) {
    throw new UserError(`a DAX window of '${size}': give 2M or more, such as 64M`);
  }
  const sizeBytes = Math.min(offered, Math.floor(bytes / DAX_RANGE_BYTES) * DAX_RANGE_BYTES);
  const channel = transport.takeWindowChannel();
  assert(channel !== undefined, 'a window has a channel');
  return new WindowThread({ channel, sizeBytes });
}

function daxOps(session: Session): DaxOps {
  return {
    *setup(nodeid, _fh, fileOffset, windowOffset, write) {
      const { READ, WRITE } = fuse.SETUPMAPPING_IN;
      const flags = READ | (write ? WRITE : 0);
      const range = { foffset: fileOffset, len: DAX_RANGE_BYTES, moffset: windowOffset };
      // Linux maps by node id, never by handle (fs/fuse/dax.c).
      const body = bodyOf(SetupmappingIn, { ...range, fh: NO_HANDLE, flags });
      yield* session.call({ opcode: opcodes.SETUPMAPPING, nodeid, body });
    },
    *remove(ranges, nodeid) {
      const list = ranges.map(({ windowOffset, length }) =>
        bodyOf(RemovemappingOne, { moffset: windowOffset, len: length }),
      );
      const body = Buffer.concat([bodyOf(RemovemappingIn, { count: ranges.length }), ...list]);
      yield* session.call({ opcode: opcodes.REMOVEMAPPING, nodeid, body });
    },
  };
}

/** Throws ShareError where the daemon refuses it, ConnectionError where it is no directory. */
function* rootOf(session: Session): Task<{ root: Attributes; validMs: number }> {
  try {
    const reply = yield* session.call({ opcode: opcodes.GETATTR, nodeid: ROOT_NODE, body: bodyOf(GetattrIn, {}) });
    const root = attributesAt(reply, AttrOut.offsets.attr);
    if ((root.mode & S_IFMT) !== S_IFDIR) throw new ConnectionError('EPROTO', 'the root of the share is no directory');
    return { root, validMs: attrValidMs(reply) };
  } catch (error) {
    throw error instanceof Refusal ? new ShareError(-error.errno, 'stat', '/') : error;
  }
}
