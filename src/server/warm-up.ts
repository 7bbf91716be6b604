/**
 * V8 compiles what serves requests after it has run for a while: a thread's first thousand or two take it several times
 * as long. So before a guest sends them a thread makes some up, and serves them on a file system of nobody, by the
 * whole way that a guest's take: ring, chain, gate, handler, reply.
 */
import { ENOENT } from '../core/index.ts';
import type { FileSystemModule } from '../fs/file-system.ts';
import { CreateOut, flags, InitOut, type Opcode, opcodes } from '../fuse/index.ts';
import type { ServingData } from './threads.ts';
import { type Content, DATA_BYTES, type NodeId, WarmUpDriver } from './warm-up-driver.ts';

/** A guest's request that comes meanwhile waits for so long at most, and for the one that is being served. */
const SLICE_MS = 0.5;
/**
 * V8 compiles a function well when it has run 400 times, and best when it has 3000 times. So often run those that all
 * requests have in common; a kind of request of its own would take seconds to get there, for a tenth of its time.
 */
const ROUNDS = 420;
const O_RDWR = 2;
const ROOT: NodeId = { lo: flags.ROOT_ID, hi: 0 };
const NOTHING: NodeId = { lo: 0, hi: 0 };
/** STATX_BASIC_STATS. */
const STATX_BASIC = 0x7ff;
/** To be forgotten: more than a node has been looked up. */
const ALL = 1000;
const LISTING_BYTES = 0x4000;
/** Until then there are more names at each listing: in the end a bit more than one listing takes. */
const KEPT_ROUNDS = 112;
/** Rounds to a session, and to what is done less often. */
const SESSION_ROUNDS = 16;
const SELDOM_ROUNDS = 4;
/** Of SETATTR: access, change and modification; 1 s and 1 ns. */
const TIMES = [0, 0, 1, 0, 1, 0, 0, 0, 1, 1, 0];
/** More than there is an interrupt for, and more than are served in one go. */
const SMALL_BURST = 9;
const LARGE_BURST = 72;
/** A name that is never there. */
const MISSING = 'missing';

type Served = Pick<ServingData, 'exported' | 'offer' | 'pool'>;

export class WarmUp {
  /** By name of the opcode: how often it was asked for, and the errors that nobody expected. */
  readonly asked = new Map<string, number>();
  readonly refusals = new Map<string, number>();
  readonly #driver: WarmUpDriver;
  readonly #resources: DisposableStack;
  readonly #script: Generator<void, void>;
  /** The fixed part: a value of one byte. */
  #setxattr = [1, 0];

  private constructor(driver: WarmUpDriver, resources: DisposableStack) {
    this.#driver = driver;
    this.#resources = resources;
    this.#script = this.#rounds();
  }

  /** Undefined where the file system has nothing to practise on. Throws where that cannot be had now. */
  static open(module: FileSystemModule, { exported, offer, pool }: Served): WarmUp | undefined {
    const scratch = module.openScratch?.(exported, { warn: () => undefined, released: () => undefined });
    if (scratch === undefined) return undefined;
    using resources = new DisposableStack();
    resources.adopt(scratch, () => scratch.close());
    const driver = new WarmUpDriver(scratch, offer, pool.size, resources);
    return new WarmUp(driver, resources.move());
  }

  /** Serves for half a millisecond. Whether there is more to do; `end` has been called otherwise. */
  step(): boolean {
    const end = performance.now() + SLICE_MS;
    while (!this.#resources.disposed && performance.now() < end) if (this.#script.next().done === true) this.end();
    return !this.#resources.disposed;
  }

  /** Frees everything; in the middle as well. */
  end(): void {
    this.#resources.dispose();
  }

  /** Sends a request, unless it was refused before: a guest does not ask again either. Whether it succeeded. */
  #ask(record: Opcode, nodeid: NodeId, content: Content = {}): boolean {
    const { name } = record;
    if (this.refusals.has(name)) return false;
    this.asked.set(name, (this.asked.get(name) ?? 0) + 1);
    const error = this.#driver.ask(record, nodeid, content);
    if (error === 0) return true;
    const isMissing = record === opcodes.LOOKUP && error === -ENOENT && content.names?.[0] === MISSING;
    if (!isMissing) this.refusals.set(name, error);
    return false;
  }

  /** The node id or handle at a byte of the last reply. */
  #id(at: number): NodeId {
    const { reply } = this.#driver;
    return { lo: reply.getUint32(at, true), hi: reply.getUint32(at + 4, true) };
  }

  *#rounds(): Generator<void, void> {
    for (let round = 0; round < ROUNDS; round += 1) {
      if (round % SESSION_ROUNDS === 0) yield* this.#newSession(round);
      yield* this.#round(round);
    }
  }

  /** As a guest does that mounts, a while after another. */
  *#newSession(round: number): Generator<void, void> {
    if (round > 0) {
      this.#ask(opcodes.DESTROY, ROOT);
      this.#driver.restart();
    }
    yield;
    const rest = Array.from({ length: 11 }, () => 0);
    const words = [flags.KERNEL_VERSION, flags.KERNEL_MINOR_VERSION, 0, 0xffffffff, 0xffffffff, ...rest];
    this.#ask(opcodes.INIT, ROOT, { words });
    const agreed = InitOut.flags(this.#driver.reply, 0);
    this.#setxattr = (agreed & flags.INIT.SETXATTR_EXT) === 0 ? [1, 0] : [1, 0, 0, 0];
    yield;
    // They stay there: listings become longer, and so do tables.
    const kept = round < KEPT_ROUNDS ? 16 : 0;
    for (let i = 0; i < kept; i += 1) {
      this.#ask(opcodes.SYMLINK, ROOT, { names: [`kept ${round} ${i}`, 'target'] });
      yield;
    }
    yield* this.#listing(ROOT);
  }

  /** The life of a file; that of a directory and of a symlink less often, as guests do. */
  *#round(round: number): Generator<void, void> {
    const isSeldom = round % SELDOM_ROUNDS === 0;
    let directory = ROOT;
    if (isSeldom) {
      if (!this.#ask(opcodes.MKDIR, ROOT, { words: [0o700, 0], names: ['directory'] })) return;
      directory = this.#id(0);
      yield;
    }
    const file = yield* this.#file(directory);
    if (isSeldom) {
      yield* this.#rare(directory, file, round % (4 * SELDOM_ROUNDS) === 0 ? LARGE_BURST : SMALL_BURST);
    }
    this.#ask(opcodes.UNLINK, directory, { names: ['renamed'] });
    yield;
    if (isSeldom) {
      this.#ask(opcodes.RMDIR, ROOT, { names: ['directory'] });
      yield;
      const two = [directory.lo, directory.hi, ALL, 0, file.lo, file.hi, ALL, 0];
      this.#ask(opcodes.BATCH_FORGET, ROOT, { words: [2, 0, ...two] });
    } else {
      this.#ask(opcodes.FORGET, file, { words: [ALL, 0] });
    }
    yield;
  }

  *#file(directory: NodeId): Generator<void, NodeId> {
    this.#ask(opcodes.LOOKUP, directory, { names: [MISSING] });
    yield;
    const creation = { words: [O_RDWR, 0o600, 0, 0], names: ['file'] };
    if (!this.#ask(opcodes.CREATE, directory, creation)) return NOTHING;
    const file = this.#id(0);
    const created = this.#id(CreateOut.offsets.open);
    yield;
    yield* this.#data(opcodes.WRITE, file, created);
    this.#ask(opcodes.LOOKUP, directory, { names: ['file'] });
    yield;
    this.#ask(opcodes.GETATTR, file, { words: [0, 0, 0, 0] });
    yield;
    const opened = this.#ask(opcodes.OPEN, file, { words: [O_RDWR, 0] }) ? this.#id(0) : NOTHING;
    yield;
    yield* this.#data(opcodes.READ, file, opened);
    yield* this.#times(file);
    const words = [directory.lo, directory.hi];
    this.#ask(opcodes.RENAME, directory, { words, names: ['file', 'renamed'] });
    yield;
    return file;
  }

  *#data(record: Opcode, file: NodeId, { lo, hi }: NodeId): Generator<void, void> {
    const words = [lo, hi, 0, 0, DATA_BYTES, 0, 0, 0, O_RDWR, 0];
    this.#ask(record, file, { words, dataBytes: record === opcodes.WRITE ? DATA_BYTES : 0 });
    yield;
    if (this.#driver.isMemory) this.#ask(opcodes.FSYNC, file, { words: [lo, hi, 0, 0] });
    yield;
    // Without handles there is nothing to close.
    if (lo === 0) return;
    this.#ask(opcodes.FLUSH, file, { words: [lo, hi, 0, 0, 0, 0] });
    yield;
    this.#ask(opcodes.RELEASE, file, { words: [lo, hi, O_RDWR, 0, 0, 0] });
    yield;
  }

  *#times(file: NodeId): Generator<void, void> {
    const valid = flags.FATTR.MODE | flags.FATTR.ATIME | flags.FATTR.MTIME;
    this.#ask(opcodes.SETATTR, file, { words: [valid, 0, 0, 0, 0, 0, ...TIMES, 0o600, 0, 0, 0, 0] });
    yield;
  }

  *#rare(directory: NodeId, file: NodeId, burst: number): Generator<void, void> {
    this.#ask(opcodes.GETATTR, file, { words: [0, 0, 0, 0], times: burst });
    yield;
    this.#ask(opcodes.STATX, file, { words: [0, 0, 0, 0, 0, STATX_BASIC] });
    yield;
    this.#ask(opcodes.ACCESS, file, { words: [4, 0] });
    yield;
    this.#ask(opcodes.STATFS, directory);
    yield;
    this.#ask(opcodes.SETATTR, file, {
      words: [flags.FATTR.SIZE, 0, 0, 0, 100, 0, ...TIMES, 0, 0, 0, 0, 0],
    });
    yield;
    yield* this.#attributes(file);
    yield* this.#names(directory, file);
    yield* this.#listing(directory);
    this.#ask(opcodes.UNLINK, directory, { names: ['symlink'] });
    yield;
  }

  *#attributes(file: NodeId): Generator<void, void> {
    this.#ask(opcodes.SETXATTR, file, { words: this.#setxattr, names: ['user.warm-up', ''] });
    yield;
    this.#ask(opcodes.GETXATTR, file, { words: [256, 0], names: ['user.warm-up'] });
    yield;
    this.#ask(opcodes.LISTXATTR, file, { words: [256, 0] });
    yield;
  }

  *#names(directory: NodeId, file: NodeId): Generator<void, void> {
    const here = [directory.lo, directory.hi];
    if (this.#ask(opcodes.LINK, directory, { words: [file.lo, file.hi], names: ['link'] })) {
      yield;
      this.#ask(opcodes.RENAME2, directory, { words: [...here, 0, 0], names: ['link', 'linked'] });
      yield;
      this.#ask(opcodes.UNLINK, directory, { names: ['linked'] });
    }
    yield;
    if (!this.#ask(opcodes.SYMLINK, directory, { names: ['symlink', 'target'] })) return;
    const symlink = this.#id(0);
    yield;
    this.#ask(opcodes.READLINK, symlink);
    yield;
  }

  *#listing(directory: NodeId): Generator<void, void> {
    const opened = this.#ask(opcodes.OPENDIR, directory, { words: [0, 0] });
    const { lo, hi } = opened ? this.#id(0) : NOTHING;
    yield;
    const words = [lo, hi, 0, 0, LISTING_BYTES, 0, 0, 0, 0, 0];
    this.#ask(opcodes.READDIR, directory, { words });
    yield;
    // From the beginning, then as known names.
    for (let i = 0; i < 2; i += 1) {
      this.#ask(opcodes.READDIRPLUS, directory, { words });
      yield;
    }
    if (opened) this.#ask(opcodes.RELEASEDIR, directory, { words: [lo, hi, 0, 0, 0, 0] });
    yield;
  }
}

const FREE = 0;
const TAKEN = 1;
/** How long a thread that is idle waits before it looks whether it is its turn. */
const TURN_MS = 20;

/** The warm-up of one thread: while it is idle, and no other of the process does the same, as they share processors. */
export class WarmUpTurn {
  readonly #turn: Int32Array | undefined;
  readonly #open: () => WarmUp | undefined;
  readonly #log: (message: string) => void;
  #warmUp: WarmUp | undefined;
  #isOver: boolean;
  #holds = false;

  /** `shared`: what `create` made; undefined: there is to be none. `log` is told of its end, or why there is none. */
  constructor(shared: SharedArrayBuffer | undefined, open: () => WarmUp | undefined, log: (message: string) => void) {
    this.#turn = shared && new Int32Array(shared);
    this.#open = open;
    this.#log = log;
    this.#isOver = shared === undefined;
  }

  /** One for a process. */
  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(4);
  }

  /** How long the thread may sleep before `step`, where it would sleep for `otherwise`; -1: until it is woken. */
  patienceMs(otherwise: number): number {
    if (this.#isOver) return otherwise;
    const patience = this.#holds ? 0 : TURN_MS;
    return otherwise < 0 ? patience : Math.min(otherwise, patience);
  }

  /** When the thread has nothing else to do: works for half a millisecond, while there is something left to do. */
  step(): void {
    if (this.#isOver) return;
    try {
      if (!this.#step()) this.end();
    } catch (error) {
      // A limit of descriptors, no folder for temporary files: all works without.
      this.#log(`no warm-up: ${(error as Error).message}`);
      this.end();
    }
  }

  #step(): boolean {
    if (this.#warmUp?.step() === true) return true;
    if (this.#warmUp !== undefined) {
      this.#log('warmed up');
      return false;
    }
    if (this.#turn === undefined || Atomics.compareExchange(this.#turn, 0, FREE, TAKEN) !== FREE) return true;
    this.#holds = true;
    this.#warmUp = this.#open();
    return this.#warmUp !== undefined;
  }

  /** Gives the turn to others; in the middle as well. */
  end(): void {
    this.#isOver = true;
    const warmUp = this.#warmUp;
    this.#warmUp = undefined;
    warmUp?.end();
    if (this.#turn !== undefined && this.#holds) Atomics.store(this.#turn, 0, FREE);
    this.#holds = false;
  }
}
