/**
 * Two clients and the host at work on the same few files, at random and one after another; what each client sees is
 * held against what was there, within what its cache mode allows. `npm run test:model` makes 100,000 calls instead of
 * some thousands; VIRTIOFS_SEED repeats a run.
 */
import assert from 'node:assert/strict';
import {
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { connectSync, type ConnectOptions, type ShareSync } from '../src/client/index.ts';
import { TestDaemon } from './daemon.ts';
import { Random } from './random.ts';

const OPERATIONS = Number(process.env.VIRTIOFS_MODEL_OPERATIONS ?? 6000);
const PATHS = ['a', 'b', 'c', 'd/a', 'd/b', 'd/c'];
const MAX_BYTES = 20_000;
const CLIENTS = 2;

/** A cache mode: what the daemon and its clients are told, and for how long a client may be wrong. */
interface Mode {
  readonly args: readonly string[];
  readonly options?: ConnectOptions;
  readonly trustMs: number;
  /** File data is that of the open, and not only of some time. */
  readonly closeToOpen: boolean;
}

const MODES: Readonly<Record<string, Mode>> = {
  never: { args: ['--cache', 'never'], trustMs: 0, closeToOpen: true },
  'always, by a client that keeps nothing': {
    args: ['--cache', 'always'],
    options: { cache: 'none' },
    trustMs: 0,
    closeToOpen: true,
  },
  auto: {
    args: ['--cache', 'auto', '--entry-timeout', '0.02', '--attr-timeout', '0.02'],
    trustMs: 20,
    closeToOpen: true,
  },
  'auto with write-back': {
    args: ['--cache', 'auto', '--writeback', '--entry-timeout', '0.02', '--attr-timeout', '0.02'],
    options: { writeback: true },
    trustMs: 20,
    closeToOpen: true,
  },
  always: { args: ['--cache', 'always'], trustMs: Infinity, closeToOpen: false },
};

/** What the host had, from a moment on. Files by device, inode and birth: numbers of inodes are used again. */
interface Moment {
  readonly fromMs: number;
  readonly names: ReadonlyMap<string, string>;
  readonly contents: ReadonlyMap<string, Buffer>;
}

class World {
  readonly root: string;
  readonly moments: Moment[] = [];
  /** As long as a call of a client takes, at most. */
  slowestMs = 0;
  /** By client, and path or file: since which moment it knows how it is, as it has changed it itself. */
  readonly #own = Array.from({ length: CLIENTS }, () => new Map<string, number>());

  constructor(root: string) {
    this.root = root;
    this.look();
  }

  get now(): Moment {
    return this.moments[this.moments.length - 1];
  }

  /** Something has changed. */
  look(): void {
    const names = new Map<string, string>();
    const contents = new Map<string, Buffer>();
    for (const path of PATHS) {
      const stats = statSync(join(this.root, path), { bigint: true, throwIfNoEntry: false });
      if (stats === undefined) continue;
      const file = `${stats.ino} ${stats.birthtimeNs}`;
      names.set(path, file);
      const [content, last] = [readFileSync(join(this.root, path)), this.moments.at(-1)?.contents.get(file)];
      contents.set(file, last?.equals(content) === true ? last : content);
    }
    this.moments.push({ fromMs: performance.now(), names, contents });
  }

  /** A client has changed these itself, paths or files: it knows how they are from now on. */
  knows(client: number, ...what: string[]): void {
    for (const each of what) this.#own[client].set(each, this.moments.length - 1);
  }

  /** What may be believed of a path or a file at `beganMs`, the latest first. */
  *believable(client: number, what: string, { trustMs }: Mode, beganMs: number): Generator<Moment> {
    const least = this.#own[client].get(what) ?? 0;
    for (let i = this.moments.length - 1; i >= least; i -= 1) {
      yield this.moments[i];
      // The daemon looks a while before the client hears what it saw, and takes it from then on for so long.
      if (this.moments[i].fromMs < beganMs - trustMs - this.slowestMs) return;
    }
  }

  /** The files that a client may find by a path; undefined for none. */
  found(client: number, path: string, mode: Mode, beganMs: number): Set<string | undefined> {
    const files = new Set<string | undefined>();
    for (const { names } of this.believable(client, path, mode, beganMs)) files.add(names.get(path));
    return files;
  }
}

function codeOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) throw error;
  return code;
}

/** The host, as a client of itself. */
function hostFace(root: string): Actor {
  return {
    write: (path, bytes, position) => {
      const fd = openSync(join(root, path), 'a+');
      closeSync(fd);
      const target = openSync(join(root, path), 'r+');
      writeSync(target, bytes, 0, bytes.length, position);
      closeSync(target);
    },
    truncate: (path, size) => truncateSync(join(root, path), size),
    unlink: (path) => rmSync(join(root, path)),
    rename: (from, to) => renameSync(join(root, from), join(root, to)),
  };
}

interface Actor {
  write(path: string, bytes: Buffer, position: number): void;
  truncate(path: string, size: number): void;
  unlink(path: string): void;
  rename(from: string, to: string): void;
}

function clientFace(share: ShareSync): Actor {
  return {
    write: (path, bytes, position) => {
      const fd = share.openSync(path, share.constants.O_RDWR | share.constants.O_CREAT, 0o644);
      try {
        share.writeSync(fd, bytes, 0, bytes.length, position);
      } finally {
        share.closeSync(fd);
      }
    },
    truncate: (path, size) => share.truncateSync(path, size),
    unlink: (path) => share.unlinkSync(path),
    rename: (from, to) => share.renameSync(from, to),
  };
}

class Game {
  readonly #world: World;
  readonly #mode: Mode;
  readonly #random: Random;
  readonly #shares: readonly ShareSync[];
  readonly #actors: readonly Actor[];
  #serial = 0;

  constructor(world: World, mode: Mode, random: Random, shares: readonly ShareSync[]) {
    this.#world = world;
    this.#mode = mode;
    this.#random = random;
    this.#shares = shares;
    this.#actors = [...shares.map(clientFace), hostFace(world.root)];
  }

  turn(): void {
    const beganMs = performance.now();
    if (this.#random.below(2) === 0) this.#change();
    else this.#look(this.#random.below(CLIENTS));
    this.#world.slowestMs = Math.max(this.#world.slowestMs, performance.now() - beganMs);
  }

  #path(): string {
    return PATHS[this.#random.below(PATHS.length)];
  }

  /** Somebody changes something. Where a client believes what is not so any more, it may fail or hit another file. */
  #change(): void {
    const who = this.#random.below(CLIENTS + 1);
    const [path, other] = [this.#path(), this.#path()];
    const actor = this.#actors[who];
    const found = who < CLIENTS ? this.#world.found(who, path, this.#mode, performance.now()) : new Set([undefined]);
    const written = this.#bytes();
    const position = this.#random.below(MAX_BYTES - written.length);
    const [kind, change] = this.#random.pick<readonly ['write' | 'content' | 'unlink' | 'rename', () => void]>([
      ['write', () => actor.write(path, written, position)],
      ['write', () => actor.write(path, written, position)],
      ['content', () => actor.truncate(path, this.#random.below(MAX_BYTES))],
      ['unlink', () => actor.unlink(path)],
      ['rename', () => actor.rename(path, other)],
    ]);
    const world = this.#world;
    const before = world.now.names.get(path);
    try {
      change();
    } catch (error) {
      world.look();
      if (who < CLIENTS) this.#allowError(codeOf(error), found, path);
      return;
    }
    world.look();
    if (who === CLIENTS) return;
    if (kind === 'write') this.#checkWritten(path, found, written, position);
    // By the name it has found a file that it had known before, or asked for.
    const [file] = found;
    if (kind === 'unlink') world.knows(who, path);
    else if (kind === 'rename') {
      // What the client takes for two names of one file stays as it is (rename(2)): it has asked nobody.
      if (world.now.names.get(path) !== before) world.knows(who, path, other);
    } else if (found.size === 1) world.knows(who, file ?? path);
  }

  #bytes(): Buffer {
    this.#serial += 1;
    return Buffer.from(`${this.#serial},`.repeat(1000)).subarray(0, 1 + this.#random.below(1000));
  }

  #checkWritten(path: string, found: Set<string | undefined>, bytes: Buffer, position: number): void {
    const { names, contents } = this.#world.now;
    const files = [...found, names.get(path)].filter((file) => file !== undefined);
    // A file without a name is out of our sight.
    const isThere = (file: string): boolean =>
      contents
        .get(file)
        ?.subarray(position, position + bytes.length)
        .equals(bytes) ?? true;
    assert.ok(files.some(isThere), `${bytes.length} bytes at ${position} of ${path} are nowhere`);
  }

  /** A path that is not there, or that the client does not know to be; or one that is there no more. */
  #allowError(code: string, found: Set<string | undefined>, path: string): void {
    const { names, contents } = this.#world.now;
    const gone = [...found].some((file) => file === undefined || !contents.has(file)) || !names.has(path);
    assert.ok(gone && ['ENOENT', 'ESTALE'].includes(code), `${code} for ${path}`);
  }

  #look(client: number): void {
    const path = this.#path();
    const views = [() => this.#stat(client, path), () => this.#read(client, path), () => this.#list(client)];
    views[this.#random.below(views.length)]();
  }

  #list(client: number): void {
    const names = this.#shares[client].readdirSync('/d').toSorted();
    assert.deepEqual(names, readdirSync(join(this.#world.root, 'd')).toSorted());
  }

  #stat(client: number, path: string): void {
    const beganMs = performance.now();
    const size = this.#shares[client].statSync(path, { throwIfNoEntry: false })?.size;
    const files = this.#world.found(client, path, this.#mode, beganMs);
    if (size === undefined) {
      assert.ok(files.has(undefined), `${path} is said not to be there`);
      return;
    }
    const sizes = new Set<number | undefined>();
    for (const file of files) {
      if (file === undefined) continue;
      // A file without a name is out of our sight.
      if (!this.#world.now.contents.has(file)) return;
      for (const { contents } of this.#world.believable(client, file, this.#mode, beganMs)) {
        sizes.add(contents.get(file)?.length);
      }
    }
    assert.ok(sizes.has(size), `${path} is said to have ${size} bytes, not one of ${[...sizes].join()}`);
  }

  #read(client: number, path: string): void {
    const beganMs = performance.now();
    const files = this.#world.found(client, path, this.#mode, beganMs);
    let content: Buffer;
    try {
      content = this.#shares[client].readFileSync(path);
    } catch (error) {
      this.#allowError(codeOf(error), files, path);
      return;
    }
    const known = [...files].filter((file) => file !== undefined);
    if (known.some((file) => !this.#world.now.contents.has(file))) return;
    const fits = (file: string): boolean =>
      this.#mode.closeToOpen
        ? (this.#world.now.contents.get(file)?.equals(content) ?? false)
        : this.#isPatchwork(file, content);
    assert.ok(known.some(fits), `${path} reads as ${content.length} bytes that are not its own`);
  }

  /** Every byte is what it was at some time. What the client has written into a page stands beside what it had kept. */
  #isPatchwork(file: string, content: Buffer): boolean {
    const versions = new Set<Buffer>();
    for (const { contents } of this.#world.moments) {
      const version = contents.get(file);
      if (version !== undefined) versions.add(version);
    }
    // Behind the end that it had then, and before the one that the client believes in, there are zeros.
    return content.every((byte, at) => {
      for (const version of versions) if (byte === (version[at] ?? 0)) return true;
      return false;
    });
  }
}

for (const [name, mode] of Object.entries(MODES)) {
  test(`what two clients see is what their cache mode allows: ${name}`, async (t) => {
    const daemon = await TestDaemon.start({ sockets: CLIENTS, args: mode.args });
    t.after(() => daemon[Symbol.asyncDispose]());
    mkdirSync(join(daemon.share, 'd'));
    const random = Random.fromEnvironment(t);
    const shares = daemon.socketPaths.map((path) => connectSync(path, mode.options));
    try {
      const game = new Game(new World(daemon.share), mode, random, shares);
      for (let i = 0; i < OPERATIONS / Object.keys(MODES).length; i += 1) game.turn();
    } finally {
      for (const share of shares) share.close();
    }
  });
}
