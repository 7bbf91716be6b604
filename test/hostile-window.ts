/** What a daemon can do wrong on the channel by which it has files mapped into a client's window, by name. */
import { openSync, writeSync } from 'node:fs';

import { EIO, type Fd } from '../src/core/index.ts';
import {
  addSeals,
  close,
  eventfd,
  ftruncate,
  MFD_ALLOW_SEALING,
  memfd,
  O_PATH,
  pipe,
  receiveMessage,
  sendMessage,
  shutdown,
  socketPair,
  waitReadable,
} from '../src/sys/index.ts';
import {
  BackendRequest,
  HEADER_NEED_REPLY,
  HEADER_REPLY,
  HEADER_VERSION,
  Mmap,
  SHMEM_RW,
  U64,
  VhostHeader,
} from '../src/vhost/index.ts';
import { body, concat } from './fuse.ts';
import { FILE_BYTES } from './hostile-share.ts';

export const WINDOW_BYTES = 2 * 1024 * 1024;
const PAGE = 4096;
/** deadline: the client does not answer. */
const LIMIT_MS = 10_000;
const MAP = BackendRequest.SHMEM_MAP;
const UNMAP = BackendRequest.SHMEM_UNMAP;
const F_SEAL_WRITE = 8;
const FLOOD = 10_000;
const MOST_FDS = 8;
const REPLY_BYTES = VhostHeader.bytes + U64.bytes;
const NONSENSE = 0xffff_ffff;

type Answer = 'done' | 'refused' | 'closed';

interface Request {
  readonly code?: number;
  readonly flags?: number;
  /** What the header says of the payload. */
  readonly size?: number;
  readonly payload?: Uint8Array;
  readonly shmid?: number;
  readonly fdOffset?: number | bigint;
  readonly shmOffset?: number | bigint;
  readonly len?: number | bigint;
  readonly fds?: readonly number[];
  readonly rights?: number;
}

/** A file in memory of that many bytes, the first of which say who it is. */
function fileOf(letter: string, sizeBytes = WINDOW_BYTES): number {
  const fd = memfd(`hostile-${letter}`, sizeBytes, 1 | MFD_ALLOW_SEALING);
  writeSync(fd, Buffer.alloc(Math.min(FILE_BYTES, sizeBytes), letter));
  return fd;
}

/** The same file, opened anew. */
const reopened = (fd: number, flags: number | string): number => openSync(`/proc/self/fd/${fd}`, flags);

/** The channel, for whatever is to be said on it. */
export class RawWindow {
  readonly #fd: Fd;
  /** What is right to map. */
  readonly good = fileOf('w');
  readonly #fds: number[] = [this.good];

  constructor(fd: Fd) {
    this.#fd = fd;
  }

  /** A descriptor that is closed in the end. */
  own(...fds: readonly number[]): number {
    this.#fds.push(...fds);
    return fds[0];
  }

  end(): void {
    for (const fd of this.#fds.splice(0)) close(fd);
  }

  /** False where the client does not take any more of it. */
  write(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    return sendMessage(this.#fd, bytes, fds) >= 0;
  }

  /** The whole window, with the right file, where nothing else is said. */
  send(request: Request = {}): boolean {
    const { code = MAP, flags = HEADER_VERSION | HEADER_NEED_REPLY, shmid = 0, fdOffset = 0, shmOffset = 0 } = request;
    const { len = WINDOW_BYTES, rights = SHMEM_RW } = request;
    const payload = request.payload ?? body(Mmap, { shmid, fdOffset, shmOffset, len, flags: rights });
    const header = body(VhostHeader, { request: code, flags, size: request.size ?? payload.length });
    return this.write(concat(header, payload), request.fds ?? (code === MAP ? [this.good] : []));
  }

  answer(code: number = MAP): Answer {
    const bytes = new Uint8Array(REPLY_BYTES);
    const fds: Fd[] = [];
    for (let at = 0; at < REPLY_BYTES; ) {
      if (!waitReadable(this.#fd, LIMIT_MS)) throw new Error('the client says nothing');
      const got = receiveMessage(this.#fd, bytes, at, REPLY_BYTES - at, fds);
      if (got <= 0) return 'closed';
      at += got;
    }
    const view = new DataView(bytes.buffer);
    const head = [VhostHeader.request(view, 0), VhostHeader.flags(view, 0), VhostHeader.size(view, 0)];
    const right = [code, HEADER_VERSION | HEADER_REPLY, U64.bytes];
    if (fds.length > 0 || head.join() !== right.join())
      throw new Error(`answered with ${head.join()}, not ${right.join()}`);
    return view.getBigUint64(VhostHeader.bytes, true) === 0n ? 'done' : 'refused';
  }

  ask(request: Request = {}): Answer {
    return this.send(request) ? this.answer(request.code) : 'closed';
  }

  shut(): void {
    shutdown(this.#fd);
  }

  /** Nothing has been answered that was not asked. */
  get isQuiet(): boolean {
    return !waitReadable(this.#fd, 0);
  }
}

export interface WindowTrick {
  /** What the client reads in the end: of the window 'w', by READ 'a'; or the error. */
  readonly reads: RegExp | 'EIO';
  /** As soon as there is a channel: nobody listens yet. */
  readonly connected?: (raw: RawWindow) => void;
  /** At SETUPMAPPING: 0 or a negative errno. */
  readonly setup: (raw: RawWindow) => number;
  /** At the next STATFS. */
  readonly later?: (raw: RawWindow) => void;
}

function expect(answer: Answer, wanted: Answer, what: unknown): void {
  const text = JSON.stringify(what, (_, value: unknown) => (typeof value === 'bigint' ? `${value}` : value));
  if (answer !== wanted) throw new Error(`${text} is ${answer}, not ${wanted}`);
}

const W = /^w{10000}$/;
const A = /^a{10000}$/;

/** Maps what it should, after all. */
function mapped(raw: RawWindow): number {
  expect(raw.ask(), 'done', 'what is right');
  if (!raw.isQuiet) throw new Error('something was answered twice');
  return 0;
}

/** Each is refused, with or without an answer, and nothing comes of it. */
const refused = (requests: (raw: RawWindow) => readonly Request[]): WindowTrick => ({
  reads: W,
  setup: (raw) => {
    for (const request of requests(raw)) {
      expect(raw.ask(request), 'refused', request);
      if (!raw.send({ ...request, flags: HEADER_VERSION })) throw new Error('it is closed');
    }
    return mapped(raw);
  },
});

/** The client has nothing to do with such a channel any more; the daemon cannot map anything. */
const closes = (say: (raw: RawWindow) => void): WindowTrick => ({
  reads: 'EIO',
  setup: (raw) => {
    say(raw);
    expect(raw.answer(), 'closed', 'nonsense');
    return -EIO;
  },
});

/** Mapped, and then something happens. */
const afterwards = (reads: RegExp, later: (raw: RawWindow) => void): WindowTrick => ({ reads, setup: mapped, later });

const file = (make: (raw: RawWindow) => number, rest: Request = {}): WindowTrick =>
  refused((raw) => [{ ...rest, fds: [raw.own(make(raw))] }]);

const PLACES = {
  'window-map-beyond': refused(() => [
    { shmOffset: PAGE },
    { shmOffset: WINDOW_BYTES, len: PAGE },
    { len: 2 * WINDOW_BYTES },
  ]),
  'window-map-unaligned': refused(() => [
    { shmOffset: 1 },
    { len: 100 },
    { fdOffset: 512 },
    { shmOffset: 2048, len: 2048 },
  ]),
  'window-map-nothing': refused(() => [{ len: 0 }]),
  'window-map-overflow': refused(() =>
    [2n ** 64n, 2n ** 63n, 2n ** 53n, 2n ** 32n].flatMap((edge) => [
      { shmOffset: edge - 4096n, len: 8192 },
      { shmOffset: 4096, len: edge - 4096n },
      { fdOffset: edge - 4096n, len: edge - 4096n },
      { shmOffset: edge - 4096n, len: edge - 4096n, fdOffset: edge - 4096n },
    ]),
  ),
  'window-map-far-in-file': refused(() => [{ fdOffset: 2n ** 64n - 4096n }, { fdOffset: 2n ** 63n - 4096n }]),
  'window-map-other-window': refused(() => [{ shmid: 1 }, { shmid: 255 }]),
  'window-unmap-nothing': refused(() => [{ code: UNMAP }, { code: UNMAP, shmOffset: PAGE, len: PAGE }]),
  'window-unmap-overflow': refused(() => [
    { code: UNMAP, shmOffset: 2n ** 64n - 4096n, len: 8192 },
    { code: UNMAP, len: 2n ** 64n - 4096n },
  ]),
  'window-unknown-number': refused(() => [0, 1, 2, 8, 11, 255, NONSENSE].map((code) => ({ code, fds: [] }))),
  'window-unknown-with-files': refused((raw) => [{ code: 99, fds: [raw.good, raw.good, raw.good] }]),
  'window-map-twice': {
    reads: W,
    setup: (raw) => {
      mapped(raw);
      const other = raw.own(fileOf('x'));
      for (const at of [0, PAGE, WINDOW_BYTES - PAGE]) {
        expect(raw.ask({ shmOffset: at, len: PAGE, fds: [other] }), 'refused', 'a map over a map');
      }
      expect(raw.ask({ fds: [other] }), 'refused', 'a map over a map');
      return 0;
    },
  },
  'window-unmap-part': {
    reads: W,
    setup: (raw) => {
      mapped(raw);
      expect(raw.ask({ code: UNMAP, len: PAGE }), 'refused', 'a part of a map');
      expect(raw.ask({ code: UNMAP, shmOffset: PAGE, len: WINDOW_BYTES - PAGE }), 'refused', 'a part of a map');
      return 0;
    },
  },
} satisfies Record<string, WindowTrick>;

const FILES = {
  'window-file-pipe': refused((raw) => {
    const [from, to] = pipe();
    raw.own(from, to);
    return [{ fds: [from] }, { fds: [to] }];
  }),
  'window-file-directory': file(() => openSync('/', 'r')),
  'window-file-socket': refused((raw) => {
    const pair = socketPair();
    raw.own(...pair);
    return [{ fds: [pair[0]] }];
  }),
  'window-file-eventfd': file(() => eventfd()),
  'window-file-device': file(() => openSync('/dev/zero', 'r+')),
  'window-file-of-proc': file(() => openSync('/proc/self/status', 'r'), { rights: 0 }),
  'window-file-read-only': file((raw) => reopened(raw.good, 'r')),
  'window-file-write-only': file((raw) => reopened(raw.own(fileOf('x')), 1)),
  'window-file-path': file((raw) => reopened(raw.good, O_PATH), { rights: 0 }),
  'window-file-sealed': file(() => {
    const fd = fileOf('x');
    addSeals(fd, F_SEAL_WRITE);
    return fd;
  }),
  'window-file-shorter': {
    reads: /^w{4096}a{5904}$/,
    setup: (raw) => {
      expect(raw.ask({ fds: [raw.own(fileOf('w', PAGE))] }), 'done', 'a short file');
      return 0;
    },
  },
  'window-file-empty': {
    reads: A,
    setup: (raw) => {
      expect(raw.ask({ fds: [raw.own(fileOf('w', 0))] }), 'done', 'an empty file');
      return 0;
    },
  },
  'window-file-truncated': afterwards(A, (raw) => ftruncate(raw.good, 0, 0)),
  'window-file-cut': afterwards(/^w{4096}a{5904}$/, (raw) => ftruncate(raw.good, PAGE, 0)),
} satisfies Record<string, WindowTrick>;

const MESSAGES = {
  'window-no-file': closes((raw) => raw.send({ fds: [] })),
  'window-two-files': closes((raw) => raw.send({ fds: [raw.good, raw.good] })),
  'window-eight-files': closes((raw) => raw.send({ fds: Array.from({ length: MOST_FDS }, () => raw.good) })),
  'window-unmap-with-file': closes((raw) => raw.send({ code: UNMAP, fds: [raw.good] })),
  'window-payload-0': closes((raw) => raw.send({ payload: new Uint8Array(0) })),
  'window-payload-39': closes((raw) => raw.send({ payload: new Uint8Array(39) })),
  'window-payload-41': closes((raw) => raw.send({ payload: new Uint8Array(41) })),
  'window-payload-huge': closes((raw) => raw.send({ size: NONSENSE })),
  'window-version-2': closes((raw) => raw.send({ flags: 2 })),
  'window-garbage': closes((raw) => raw.write(new Uint8Array(4000).fill(0xa5))),
  'window-zeros': closes((raw) => raw.write(new Uint8Array(100))),
  'window-files-alone': closes((raw) => {
    raw.write(
      new Uint8Array(1),
      Array.from({ length: MOST_FDS }, () => raw.good),
    );
    raw.write(new Uint8Array(VhostHeader.bytes - 1));
  }),
  'window-files-in-drops': closes((raw) => {
    const header = body(VhostHeader, { request: 99, flags: HEADER_VERSION, size: 4000 });
    const fds = Array.from({ length: MOST_FDS }, () => raw.good);
    for (const byte of header) if (!raw.write(new Uint8Array([byte]), fds)) return;
    for (let i = 0; i < 300; i += 1) if (!raw.write(new Uint8Array(1), fds)) return;
  }),
  'window-shut': closes((raw) => raw.shut()),
  'window-shut-midway': closes((raw) => {
    raw.write(new Uint8Array(VhostHeader.bytes - 1), [raw.good]);
    raw.shut();
  }),
  'window-half-a-request': {
    reads: 'EIO',
    setup: (raw) => {
      raw.write(body(VhostHeader, { request: MAP, flags: HEADER_VERSION, size: Mmap.bytes }), [raw.good]);
      return -EIO;
    },
  },
} satisfies Record<string, WindowTrick>;

const TIMES = {
  'window-not-mapped': { reads: A, setup: () => 0 },
  'window-before-asked': {
    reads: W,
    connected: (raw) => raw.send(),
    setup: (raw) => {
      expect(raw.answer(), 'done', 'what nobody asked for');
      expect(raw.ask(), 'refused', 'a map over a map');
      return 0;
    },
  },
  'window-garbage-before-asked': {
    ...closes(() => undefined),
    connected: (raw) => raw.write(new Uint8Array(100).fill(0xa5)),
  },
  'window-unmaps-behind': afterwards(A, (raw) => expect(raw.ask({ code: UNMAP }), 'done', 'an unmap')),
  'window-changes-behind': afterwards(/^x{10000}$/, (raw) => {
    expect(raw.ask({ code: UNMAP }), 'done', 'an unmap');
    expect(raw.ask({ fds: [raw.own(fileOf('x'))] }), 'done', 'another map');
  }),
  // Nobody waits for the client to take its mappings back.
  'window-shut-behind': afterwards(/^w*a*$/, (raw) => raw.shut()),
  'window-garbage-behind': afterwards(/^w*a*$/, (raw) => {
    raw.write(new Uint8Array(100).fill(0xa5));
    expect(raw.answer(), 'closed', 'nonsense');
  }),
  'window-flood': {
    reads: W,
    setup: (raw) => {
      const wrong: readonly Request[] = [{ len: 0 }, { code: 99, fds: [] }, { shmid: 7 }, { code: UNMAP, len: PAGE }];
      for (let i = 0; i < FLOOD; i += 1) expect(raw.ask(wrong[i % wrong.length]), 'refused', wrong[i % wrong.length]);
      return mapped(raw);
    },
  },
  'window-flood-of-maps': {
    reads: W,
    setup: (raw) => {
      for (let i = 0; i < FLOOD / 2; i += 1) {
        expect(raw.ask({ len: PAGE }), 'done', 'a page');
        expect(raw.ask({ code: UNMAP, len: PAGE }), 'done', 'its end');
      }
      return mapped(raw);
    },
  },
  'window-flood-unheard': {
    reads: 'EIO',
    setup: (raw) => {
      for (let i = 0; i < FLOOD && raw.send({ len: 0 }); i += 1);
      return -EIO;
    },
  },
} satisfies Record<string, WindowTrick>;

export const WINDOW_TRICKS = { ...PLACES, ...FILES, ...MESSAGES, ...TIMES } as const satisfies Record<
  string,
  WindowTrick
>;
