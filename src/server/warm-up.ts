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
const ROUNDS = 100;
const O_RDWR = 2;
const ROOT: NodeId = { lo: flags.ROOT_ID, hi: 0 };
const NOTHING: NodeId = { lo: 0, hi: 0 };
/** STATX_BASIC_STATS. */
const STATX_BASIC = 0x7ff;
/** To be forgotten: more than a node has been looked up. */
const ALL = 1000;
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
  readonly #script: Generator<void, void>;
  /** The fixed part: a value of one byte. */
  #setxattr = [1, 0];
  #ended = false;

  private constructor(driver: WarmUpDriver) {
    this.#driver = driver;
    this.#script = this.#rounds();
  }

  /** Undefined where the file system has nothing to practise on. Throws where that cannot be had now. */
  static open(module: FileSystemModule, { exported, offer, pool }: Served): WarmUp | undefined {
    const scratch = module.openScratch?.(exported, { warn: () => undefined, released: () => undefined });
    return scratch && new WarmUp(new WarmUpDriver(scratch, offer, pool.size));
  }

  /** Serves for half a millisecond. Whether there is more to do; `end` has been called otherwise. */
  step(): boolean {
    const end = performance.now() + SLICE_MS;
    while (!this.#ended && performance.now() < end) if (this.#script.next().done === true) this.end();
    return !this.#ended;
  }

  /** Frees everything; in the middle as well. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#driver.close();
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
      this.#init();
      yield;
      yield* this.#round(round);
      this.#ask(opcodes.DESTROY, ROOT);
      yield;
    }
  }

  #init(): void {
    const rest = Array.from({ length: 11 }, () => 0);
    const words = [flags.KERNEL_VERSION, flags.KERNEL_MINOR_VERSION, 0, 0xffffffff, 0xffffffff, ...rest];
    this.#ask(opcodes.INIT, ROOT, { words });
    const agreed = InitOut.flags(this.#driver.reply, 0);
    this.#setxattr = (agreed & flags.INIT.SETXATTR_EXT) === 0 ? [1, 0] : [1, 0, 0, 0];
  }

  *#round(round: number): Generator<void, void> {
    // Stays there: listings become longer, and so do tables.
    this.#ask(opcodes.SYMLINK, ROOT, { names: [`kept ${round}`, 'target'] });
    yield;
    if (!this.#ask(opcodes.MKDIR, ROOT, { words: [0o700, 0], names: ['directory'] })) return;
    const directory = this.#id(0);
    yield;
    const file = yield* this.#file(directory, round % 16 === 15 ? LARGE_BURST : SMALL_BURST);
    const symlink = yield* this.#links(directory);
    yield* this.#listing(directory);
    yield* this.#listing(ROOT);
    for (const name of ['renamed', 'link', 'symlink']) {
      this.#ask(opcodes.UNLINK, directory, { names: [name] });
      yield;
    }
    this.#ask(opcodes.RMDIR, ROOT, { names: ['directory'] });
    yield;
    this.#ask(opcodes.FORGET, directory, { words: [ALL, 0] });
    yield;
    const two = [file.lo, file.hi, ALL, 0, symlink.lo, symlink.hi, ALL, 0];
    this.#ask(opcodes.BATCH_FORGET, ROOT, { words: [2, 0, ...two] });
    yield;
  }

  *#file(directory: NodeId, burst: number): Generator<void, NodeId> {
    const creation = { words: [O_RDWR, 0o600, 0, 0], names: ['file'] };
    if (!this.#ask(opcodes.CREATE, directory, creation)) return NOTHING;
    const file = this.#id(0);
    const created = this.#id(CreateOut.offsets.open);
    yield;
    yield* this.#data(file, created);
    for (let i = 0; i < 4; i += 1) yield* this.#looks(directory, file, i === 0 ? burst : 1);
    if (this.#ask(opcodes.OPEN, file, { words: [O_RDWR, 0] })) yield* this.#data(file, this.#id(0));
    yield;
    yield* this.#attributes(file);
    const here = [directory.lo, directory.hi];
    this.#ask(opcodes.RENAME, directory, { words: here, names: ['file', 'moved'] });
    yield;
    this.#ask(opcodes.RENAME2, directory, { words: [...here, 0, 0], names: ['moved', 'renamed'] });
    yield;
    this.#ask(opcodes.LINK, directory, { words: [file.lo, file.hi], names: ['link'] });
    yield;
    return file;
  }

  *#looks(directory: NodeId, file: NodeId, times: number): Generator<void, void> {
    this.#ask(opcodes.LOOKUP, directory, { names: ['file'] });
    yield;
    this.#ask(opcodes.LOOKUP, directory, { names: [MISSING] });
    yield;
    this.#ask(opcodes.GETATTR, file, { words: [0, 0, 0, 0], times });
    yield;
    this.#ask(opcodes.STATX, file, { words: [0, 0, 0, 0, 0, STATX_BASIC] });
    yield;
    this.#ask(opcodes.ACCESS, file, { words: [4, 0] });
    yield;
  }

  *#data(file: NodeId, { lo, hi }: NodeId): Generator<void, void> {
    const words = [lo, hi, 0, 0, DATA_BYTES, 0, 0, 0, O_RDWR, 0];
    this.#ask(opcodes.WRITE, file, { words, dataBytes: DATA_BYTES });
    yield;
    this.#ask(opcodes.READ, file, { words });
    yield;
    this.#ask(opcodes.FSYNC, file, { words: [lo, hi, 0, 0] });
    yield;
    // Without handles there is nothing to close.
    if (lo === 0) return;
    this.#ask(opcodes.FLUSH, file, { words: [lo, hi, 0, 0, 0, 0] });
    yield;
    this.#ask(opcodes.RELEASE, file, { words: [lo, hi, O_RDWR, 0, 0, 0] });
    yield;
  }

  *#attributes(file: NodeId): Generator<void, void> {
    const times = [0, 0, 1, 0, 1, 0, 0, 0, 1, 1, 0];
    const valid = flags.FATTR.MODE | flags.FATTR.ATIME | flags.FATTR.MTIME;
    this.#ask(opcodes.SETATTR, file, { words: [valid, 0, 0, 0, 0, 0, ...times, 0o600, 0, 0, 0, 0] });
    yield;
    this.#ask(opcodes.SETATTR, file, { words: [flags.FATTR.SIZE, 0, 0, 0, 100, 0, ...times, 0, 0, 0, 0, 0] });
    yield;
    this.#ask(opcodes.SETXATTR, file, { words: this.#setxattr, names: ['user.warm-up', ''] });
    yield;
    this.#ask(opcodes.GETXATTR, file, { words: [256, 0], names: ['user.warm-up'] });
    yield;
    this.#ask(opcodes.LISTXATTR, file, { words: [256, 0] });
    yield;
  }

  *#links(directory: NodeId): Generator<void, NodeId> {
    if (!this.#ask(opcodes.SYMLINK, directory, { names: ['symlink', 'target'] })) return NOTHING;
    const symlink = this.#id(0);
    yield;
    this.#ask(opcodes.READLINK, symlink);
    yield;
    this.#ask(opcodes.STATFS, directory);
    yield;
    return symlink;
  }

  *#listing(directory: NodeId): Generator<void, void> {
    const opened = this.#ask(opcodes.OPENDIR, directory, { words: [0, 0] });
    const { lo, hi } = opened ? this.#id(0) : NOTHING;
    yield;
    const words = [lo, hi, 0, 0, 0x2000, 0, 0, 0, 0, 0];
    this.#ask(opcodes.READDIR, directory, { words });
    yield;
    this.#ask(opcodes.READDIRPLUS, directory, { words });
    yield;
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

  /** `shared`: what `create` made; undefined: there is to be none. `log` is told why there is none all the same. */
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
    if (this.#warmUp !== undefined) return this.#warmUp.step();
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
