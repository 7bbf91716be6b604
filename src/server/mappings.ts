/** What the guest's kernel asks of the DAX window (fs/fuse/dax.c), and what others' requests mean for what it shows. */
import { type DaxWindow, PENDING, type WindowFile } from '../coherence/index.ts';
import { EINVAL } from '../core/index.ts';
import { type Handler, type RawFileSystem, type Request, RETRY } from '../fs/file-system.ts';
import {
  FallocateIn,
  flags,
  OPCODES,
  OpenIn,
  opcodes,
  RemovemappingIn,
  RemovemappingOne,
  SetattrIn,
  SetupmappingIn,
} from '../fuse/index.ts';
import { FALLOC_FL_COLLAPSE_RANGE, O_TRUNC } from '../sys/index.ts';

/** The file whose length the guest knows better after a reply: that of the request, that of the reply, or any. */
const OF_REQUEST = 1;
const OF_REPLY = 2;
const OF_ANY = 3;
const TELLS = new Int8Array(OPCODES.length);
const { LOOKUP, CREATE, LINK, READDIRPLUS, COPY_FILE_RANGE, COPY_FILE_RANGE_64 } = opcodes;
for (const { code } of [opcodes.GETATTR, opcodes.SETATTR, opcodes.STATX]) TELLS[code] = OF_REQUEST;
for (const { code } of [opcodes.WRITE, opcodes.FALLOCATE]) TELLS[code] = OF_REQUEST;
for (const { code } of [LOOKUP, CREATE, LINK]) TELLS[code] = OF_REPLY;
for (const { code } of [READDIRPLUS, COPY_FILE_RANGE, COPY_FILE_RANGE_64]) TELLS[code] = OF_ANY;

export class Mappings {
  /** The file system as a guest with a window has it. */
  readonly fileSystem: RawFileSystem;
  readonly #passed: RawFileSystem;
  readonly #window: DaxWindow;
  readonly #others: readonly DaxWindow[];

  /** `others`: the windows of the export's other sessions. */
  constructor(passed: RawFileSystem, window: DaxWindow, others: readonly DaxWindow[]) {
    this.#passed = passed;
    this.#window = window;
    this.#others = others;
    this.fileSystem = {
      ...passed,
      handlers: {
        ...passed.handlers,
        ...(others.length > 0 ? this.#shorteningHandlers() : {}),
        SETUPMAPPING: (request) => this.#setup(request),
        REMOVEMAPPING: (request) => this.#remove(request),
      },
      // What is mapped goes with the FUSE session.
      reset: () => {
        window.reset();
        passed.reset();
      },
    };
  }

  /** Whether the window shows less of a file than it might. */
  get isCut(): boolean {
    return this.#window.isCut;
  }

  /**
   * Before the guest is told, by the reply to a request, of a file that is longer than what is shown of it, the window
   * shows all of it. What others have cut is shown again with any reply: nothing else may have the guest ask.
   */
  extend(opcode: number, request: Request): void {
    const tells = TELLS[opcode];
    if (tells === OF_REQUEST) {
      this.#extendFile(request.nodeidLo, request.nodeidHi);
    } else if (tells === OF_REPLY) {
      // All of these begin with a struct fuse_entry_out, and that with the node id.
      const { view } = request.scratch;
      this.#extendFile(view.getInt32(request.reply, true), view.getInt32(request.reply + 4, true));
    }
    if (tells !== OF_ANY && !this.#window.anyShrunk) return;
    for (const file of this.#window.cutFiles(tells !== OF_ANY)) this.#extendFile(file.nodeidLo, file.nodeidHi);
  }

  #extendFile(nodeidLo: number, nodeidHi: number): void {
    if (!this.#window.isCutFile(nodeidLo, nodeidHi)) return;
    const file = { nodeidLo, nodeidHi };
    // Who has just emptied it may have filled it again, and the guest be told by others that it is done.
    this.#window.awaitCuts(file);
    const sizeBytes = this.#sizeOf(file);
    if (sizeBytes > 0) this.#window.extend(file, sizeBytes);
  }

  /** The guest takes leave: QEMU 11.1 might not survive it if the device were reset before all is unmapped. */
  awaitEmpty(): void {
    this.#window.awaitEmpty();
  }

  #sizeOf({ nodeidLo, nodeidHi }: WindowFile): number {
    return this.#passed.sizeOf?.(nodeidLo, nodeidHi) ?? -EINVAL;
  }

  /** Ranges are always mapped to be written: when the guest comes to write to one, it only takes room for its holes. */
  #setup(request: Request): number {
    const { body } = request;
    const { view } = request.scratch;
    const offset = SetupmappingIn.foffset(view, body);
    const length = SetupmappingIn.len(view, body);
    const windowOffset = SetupmappingIn.moffset(view, body);
    const writes = (SetupmappingIn.flags(view, body) & flags.SETUPMAPPING_IN.WRITE) !== 0;
    const { nodeidLo, nodeidHi } = request;
    const reserved = this.#passed.reserveBlocks?.(nodeidLo, nodeidHi, offset, length, writes) ?? 0;
    if (reserved < 0) return reserved;
    const result = this.#window.setup(request, offset, length, windowOffset, () => this.#sizeOf(request));
    return result === PENDING ? RETRY : result;
  }

  #remove(request: Request): number {
    const { body, dataBytes } = request;
    const { view } = request.scratch;
    const count = RemovemappingIn.count(view, body);
    if (count > flags.REMOVEMAPPING_MAX_ENTRY || dataBytes !== count * RemovemappingOne.bytes) return -EINVAL;
    let result = 0;
    for (let i = 0; i < count; i += 1) {
      const at = body + RemovemappingIn.bytes + i * RemovemappingOne.bytes;
      const removed = this.#window.remove(RemovemappingOne.moffset(view, at), RemovemappingOne.len(view, at));
      if (removed < 0) result = removed;
    }
    return result;
  }

  /** Those that may make a file shorter: other guests lose sight of its end first. This one's kernel has seen to it. */
  #shorteningHandlers(): RawFileSystem['handlers'] {
    const { SETATTR, OPEN, FALLOCATE } = this.#passed.handlers;
    return {
      ...(SETATTR && { SETATTR: this.#shortening(SETATTR, sizeOfSetattr) }),
      ...(OPEN && { OPEN: this.#shortening(OPEN, sizeOfOpen) }),
      ...(FALLOCATE && { FALLOCATE: this.#shortening(FALLOCATE, sizeOfFallocate) }),
    };
  }

  #shortening(handler: Handler, sizeAfter: (request: Request) => number): Handler {
    return (request) => {
      const sizeBytes = sizeAfter(request);
      if (sizeBytes < 0 || sizeBytes >= this.#sizeOf(request)) return handler(request);
      const cut: DaxWindow[] = [];
      try {
        for (const other of this.#others) {
          if (!other.beginCut(request, sizeBytes)) return RETRY;
          cut.push(other);
        }
        return handler(request);
      } finally {
        for (const other of cut) other.endCut(request);
      }
    };
  }
}

// The size that a file has afterwards, where the request sets one; else -1.

function sizeOfSetattr({ scratch: { view }, body }: Request): number {
  return (SetattrIn.valid(view, body) & flags.FATTR.SIZE) === 0 ? -1 : SetattrIn.size(view, body);
}

function sizeOfOpen({ scratch: { view }, body }: Request): number {
  return (OpenIn.flags(view, body) & O_TRUNC) === 0 ? -1 : 0;
}

/** What is behind the range that goes moves; none of it is where it was. */
function sizeOfFallocate({ scratch: { view }, body }: Request): number {
  return (FallocateIn.mode(view, body) & FALLOC_FL_COLLAPSE_RANGE) === 0 ? -1 : FallocateIn.offset(view, body);
}
