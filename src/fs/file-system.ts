/**
 * The raw file-system interface: one method an opcode, over numbers and offsets. The gate (src/server) has checked
 * what can be checked without knowing the file system: lengths, names, reply room. What is left to the file system is
 * what only it knows: whether a node id or a handle is one that it gave to this session.
 */

import type { Extensions, OpcodeName } from '../fuse/index.ts';

/** Pieces of guest memory, in order. `src/memory` Segments has this shape. */
export interface DataSegments {
  /** Host addresses. */
  readonly addresses: Float64Array;
  /** Bytes of each. */
  readonly lengths: Float64Array;
  readonly count: number;
}

/** The worker's own memory: the fixed part of the request stands in it, replies are written to it. */
export interface Scratch {
  /** Host address of byte 0, for system calls. */
  readonly address: number;
  readonly u8: Uint8Array;
  readonly u32: Uint32Array;
  readonly view: DataView;
}

/** One request. The gate reuses the object: nothing of it is valid after the method returned. */
export interface Request extends Extensions {
  readonly scratch: Scratch;
  opcode: number;
  /** The node id in two words, as signed integers: a double that is handed on would cost an allocation. */
  nodeidLo: number;
  nodeidHi: number;
  /** Signed as well; -1, 'no id', in what does not create anything where idmapped mounts were agreed on. */
  uid: number;
  gid: number;
  /** What was agreed on at INIT (fuse_init_out `flags` and `flags2`), as signed words. */
  agreed: number;
  agreed2: number;
  /** Offset in scratch of the opcode's fixed struct. */
  body: number;
  /** Offsets in scratch of the NUL-terminated names, and their lengths without the NUL. */
  name: number;
  nameLength: number;
  name2: number;
  name2Length: number;
  /** Guest memory: the payload that came along (WRITE), or the room for the payload of the reply (READ). */
  data: DataSegments;
  /** Where the payload starts in `data`, in bytes. */
  dataFrom: number;
  /** Bytes of payload, or of room. */
  dataBytes: number;
  /** Offset in scratch (8-byte aligned) where the reply after fuse_out_header goes. */
  reply: number;
  /** Bytes that the driver has room for there. Scratch has room for 64 KiB at least, whatever the driver has. */
  replyRoom: number;
  /** Others wait behind this one: where it would sleep for long, WOULD_SLEEP has it done by another thread. */
  nowait: boolean;
}

/**
 * From a handler instead of an errno: cannot be done now, ask again. Nothing was done, and nothing may be kept for the
 * request, which may also never come again. It is asked again after `released`, and now and then in any case.
 */
export const RETRY = -1000;

/** From a handler instead of an errno, where the request says `nowait`: this would sleep. It is asked elsewhere. */
export const WOULD_SLEEP = -1001;

/** 0 or more: bytes of the reply after fuse_out_header. Negative: an errno, RETRY or WOULD_SLEEP. */
export type Handler = (request: Request) => number;

export interface RawFileSystem {
  /** One an opcode. What is absent answers ENOSYS; INIT and DESTROY are the gate's own. */
  readonly handlers: Partial<Record<OpcodeName, Handler>>;
  /**
   * A descriptor of a regular file to be mapped into guests: open for reading and writing, and the caller's to close;
   * or a negative errno. Absent where files are no files of the host: then there is no DAX.
   */
  openForMapping?(nodeidLo: number, nodeidHi: number): number;
  /** Bytes of a file, or a negative errno. As `openForMapping`. */
  sizeOf?(nodeidLo: number, nodeidHi: number): number;
  /**
   * Before a guest maps a range of a file, `writes`: to write to it. Makes sure of room for the holes in it: a store
   * that finds none is the end of the VMM (SIGBUS). 0 or a negative errno (ENOSPC, EDQUOT). As `openForMapping`.
   */
  reserveBlocks?(nodeidLo: number, nodeidHi: number, offset: number, length: number, writes: boolean): number;
  /** The session is void: the guest unmounted, rebooted or is gone. Every count and handle of it is dropped. */
  reset(): void;
}

/** What the server lends to the file system of a worker. */
export interface Services {
  /** Writes to the log; a guest may cause as much of it as it likes. */
  readonly warn: (message: string) => void;
  /** To be called when something is given back that requests answered RETRY may wait for. */
  readonly released: () => void;
}

/** A file system of nobody, on which a worker can practise. */
export interface ScratchFileSystem {
  readonly fileSystem: RawFileSystem;
  /** Nothing of it is on a disk. */
  readonly isMemory: boolean;
  /** Closes all, and leaves nothing behind. */
  close(): void;
}

/** What a file system module gives to the server; a module is named by its URL, so that every worker can load it. */
export interface FileSystemModule {
  /** Once a process, on the main thread. The result crosses threads: shared buffers, numbers, strings. */
  openExport(options: unknown): unknown;
  /** What the log should say of an export: limits that the user may want to know of. */
  remarks(exported: unknown): string[];
  /** Once a session (one VM), on the main thread. */
  openSession(exported: unknown): unknown;
  /** Once a worker. */
  openWorker(exported: unknown, session: unknown, services: Services): RawFileSystem;
  /**
   * In a worker, after `openWorker`: a file system like the export, with the same options, but empty, writable and of
   * nobody, with session and tables of its own. Requests are made up on it before a guest sends some. Throws where
   * there can be none.
   */
  openScratch?(exported: unknown, services: Services): ScratchFileSystem;
  /** Once a process, at its end, when no worker runs any more. */
  closeExport(exported: unknown): void;
  /** Figures for --stats: how many inodes and handles are known. */
  gauges(exported: unknown, sessions: readonly unknown[]): Record<string, number>;
}
