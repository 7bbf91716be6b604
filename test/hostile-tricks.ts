/** What a daemon can do wrong, by name: to the reply of a request, to the rings, or over vhost-user. */
import {
  AttrOut,
  flags,
  Attr,
  CreateOut,
  Dirent,
  EntryOut,
  InitOut,
  LkOut,
  LseekOut,
  OpenOut,
  type OpcodeName,
  OutHeader,
  WriteOut,
} from '../src/fuse/index.ts';
import { Config, type FrontEndName } from '../src/vhost/index.ts';
import { concat } from './fuse.ts';
import { type Asked, dirent, FILE, FIRST_DIRENT, ROOT } from './hostile-share.ts';
import { WINDOW_TRICKS, type WindowTrick } from './hostile-window.ts';
import { Random } from './random.ts';

/** A reply on its way. */
export class Reply {
  readonly asked: Asked;
  readonly head: number;
  /** What the client has room for, header included. */
  readonly room: number;
  bytes: Uint8Array<ArrayBuffer>;
  /** What the ring will say. */
  used: number;

  constructor(asked: Asked, head: number, room: number, answer: Uint8Array | number) {
    this.asked = asked;
    this.head = head;
    this.room = room;
    const rest = typeof answer === 'number' ? new Uint8Array(0) : answer;
    this.bytes = concat(new Uint8Array(OutHeader.bytes), rest) as Uint8Array<ArrayBuffer>;
    this.used = this.bytes.length;
    OutHeader.set.len(this.view, 0, this.used);
    OutHeader.set.error(this.view, 0, typeof answer === 'number' ? answer : 0);
    this.unique = asked.view.getBigUint64(8, true);
  }

  get view(): DataView {
    return new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
  }

  set unique(unique: bigint) {
    this.view.setBigUint64(OutHeader.offsets.unique, unique, true);
  }

  get isGood(): boolean {
    return OutHeader.error(this.view, 0) === 0;
  }

  set error(error: number) {
    OutHeader.set.error(this.view, 0, error);
  }

  /** Another body, and a header that fits. */
  set rest(rest: Uint8Array) {
    this.bytes = concat(this.bytes.subarray(0, OutHeader.bytes), rest) as Uint8Array<ArrayBuffer>;
    this.used = this.bytes.length;
    OutHeader.set.len(this.view, 0, this.used);
  }

  get rest(): Uint8Array {
    return this.bytes.subarray(OutHeader.bytes);
  }

  /** Writes into the body, so many bytes behind the header. */
  put(at: number, bytes: 2 | 4 | 8, value: number | bigint): void {
    const { view } = this;
    if (bytes === 2) view.setUint16(OutHeader.bytes + at, Number(value), true);
    else if (bytes === 4) view.setUint32(OutHeader.bytes + at, Number(value), true);
    else view.setBigUint64(OutHeader.bytes + at, BigInt.asUintN(64, BigInt(value)), true);
  }
}

/** What is said instead of an answer over vhost-user; what is absent stays. */
export interface Saying {
  readonly request?: number;
  readonly flags?: number;
  readonly size?: number;
  readonly payload?: Uint8Array;
  readonly fds?: readonly number[];
  readonly way?: 'whole' | 'drip' | 'never';
}

export interface Trick {
  /** Whose replies are spoilt; absent: all. Never those of `pending`. */
  readonly at?: OpcodeName;
  readonly spoils?: (reply: Reply) => void;
  /**
   * What becomes of the reply. `held`: it never comes; `late`: when the client has gone; `reversed`: with `count`
   * others, the last first; the next four: and then a used element that is wrong; `leaves`: the daemon goes; `broken`:
   * it never comes, and the ring is said to be broken.
   */
  readonly fate?: 'held' | 'late' | 'reversed' | 'twice' | 'unknown' | 'outside' | 'jumps' | 'leaves' | 'broken';
  readonly count?: number;
  /** It goes when it hears this. */
  readonly leavesAt?: FrontEndName;
  /** On the channel for what is to be mapped, and at the requests for that. */
  readonly window?: WindowTrick;
  readonly says?: (name: FrontEndName, payload: Uint8Array) => Saying | undefined;
}

const TWO_53 = 2n ** 53n;
const NONSENSE = 0xffff_ffff;

/** Spoils good replies to requests about anything but the root. */
function spoilt(opcode: OpcodeName, spoils: (reply: Reply) => void): Trick {
  return {
    at: opcode,
    spoils: (reply) => {
      const isRoot = opcode === 'GETATTR' && reply.asked.nodeid === BigInt(ROOT);
      if (reply.isGood && !isRoot) spoils(reply);
    },
  };
}

const attrAt = (field: keyof typeof Attr.offsets, before: number): number => before + Attr.offsets[field];
const { entry: CREATED, open: OPENED } = CreateOut.offsets;
const { attr: ENTRY_ATTR, nodeid: NODE } = EntryOut.offsets;
const { lk: LOCK } = LkOut.offsets;

function listing(...entries: readonly Uint8Array[]): (reply: Reply) => void {
  return (reply) => {
    reply.rest = concat(...entries);
  };
}

/** The same at each opening of the listing, however far the client has come. */
const again = (name: string | Uint8Array, nodeid = FILE, next = 0): Uint8Array => dirent(name, nodeid, next, true);

function withField(entry: Uint8Array, offset: number, value: number): Uint8Array {
  const copy = new Uint8Array(entry);
  new DataView(copy.buffer).setUint32(offset, value, true);
  return copy;
}

const NAMELEN = FIRST_DIRENT.plus + Dirent.offsets.namelen;

/** Of any reply with a body. */
const REPLIES = {
  'used-0': spoilt('STATFS', (reply) => (reply.used = 0)),
  'used-less-than-header': spoilt('STATFS', (reply) => (reply.used = 15)),
  'used-longer': spoilt('STATFS', (reply) => (reply.used += 8)),
  'used-huge': spoilt('STATFS', (reply) => (reply.used = NONSENSE)),
  'length-shorter': spoilt('STATFS', (reply) => OutHeader.set.len(reply.view, 0, 16)),
  'length-huge': spoilt('STATFS', (reply) => OutHeader.set.len(reply.view, 0, NONSENSE)),
  'both-huge': spoilt('STATFS', (reply) => {
    OutHeader.set.len(reply.view, 0, NONSENSE);
    reply.used = NONSENSE;
  }),
  'unique-0': spoilt('STATFS', (reply) => (reply.unique = 0n)),
  'unique-other': spoilt('STATFS', (reply) => (reply.unique = reply.asked.view.getBigUint64(8, true) + 2n)),
  'error-positive': spoilt('STATFS', (reply) => {
    reply.rest = new Uint8Array(0);
    reply.error = 5;
  }),
  'error-512': spoilt('STATFS', (reply) => {
    reply.rest = new Uint8Array(0);
    reply.error = -512;
  }),
  'error-least': spoilt('STATFS', (reply) => {
    reply.rest = new Uint8Array(0);
    reply.error = -0x8000_0000;
  }),
  'error-with-body': spoilt('STATFS', (reply) => (reply.error = -5)),
  'error-unheard-of': spoilt('STATFS', (reply) => {
    reply.rest = new Uint8Array(0);
    reply.error = -500;
  }),
  'struct-short': spoilt('STATFS', (reply) => (reply.rest = new Uint8Array(79))),
  'struct-long': spoilt('STATFS', (reply) => (reply.rest = new Uint8Array(81))),
  'body-of-nothing': spoilt('FSYNC', (reply) => (reply.rest = new Uint8Array(1))),
} satisfies Record<string, Trick>;

const INITS = {
  'init-major-6': spoilt('INIT', (reply) => reply.put(InitOut.offsets.major, 4, 6)),
  'init-major-8': spoilt('INIT', (reply) => reply.put(InitOut.offsets.major, 4, 8)),
  'init-minor-26': spoilt('INIT', (reply) => reply.put(InitOut.offsets.minor, 4, 26)),
  'init-short': spoilt('INIT', (reply) => (reply.rest = reply.rest.slice(0, 24))),
  'init-error': spoilt('INIT', (reply) => {
    reply.rest = new Uint8Array(0);
    reply.error = -71;
  }),
  'init-all-ones': spoilt('INIT', (reply) => {
    for (let i = 8; i < InitOut.bytes; i += 4) reply.put(i, 4, NONSENSE);
  }),
  'init-all-zeros': spoilt('INIT', (reply) => {
    for (let i = 8; i < InitOut.bytes; i += 4) reply.put(i, 4, 0);
  }),
  'init-without-plus': spoilt('INIT', (reply) => {
    const agreed = InitOut.flags(reply.view, OutHeader.bytes);
    reply.put(InitOut.offsets.flags, 4, (agreed & ~flags.INIT.DO_READDIRPLUS) >>> 0);
  }),
  'init-odd-write': spoilt('INIT', (reply) => reply.put(InitOut.offsets.maxWrite, 4, 5001)),
  'root-is-file': {
    at: 'GETATTR',
    spoils: (reply) => reply.put(attrAt('mode', AttrOut.offsets.attr), 4, 0o100644),
  },
} satisfies Record<string, Trick>;

const DATA = {
  'read-too-much': spoilt('READ', (reply) => (reply.rest = new Uint8Array(reply.room))),
  'write-nothing': spoilt('WRITE', (reply) => reply.put(WriteOut.offsets.size, 4, 0)),
  'write-too-much': spoilt('WRITE', (reply) => reply.put(WriteOut.offsets.size, 4, NONSENSE)),
  'copy-too-much': spoilt('COPY_FILE_RANGE', (reply) => reply.put(WriteOut.offsets.size, 4, NONSENSE)),
  'seek-beyond-numbers': spoilt('LSEEK', (reply) => reply.put(LseekOut.offsets.offset, 8, TWO_53)),
  'seek-negative': spoilt('LSEEK', (reply) => reply.put(LseekOut.offsets.offset, 8, -1n)),
  'lock-backward': spoilt('GETLK', (reply) => {
    reply.put(LOCK, 8, 10);
    reply.put(LOCK + 8, 8, 9);
    reply.put(LOCK + 16, 4, 1);
  }),
  'lock-of-no-type': spoilt('GETLK', (reply) => reply.put(LOCK + 16, 4, 9)),
  'xattr-too-long': spoilt('GETXATTR', (reply) => (reply.rest = new Uint8Array(reply.room - OutHeader.bytes + 1))),
  'xattr-names-without-end': spoilt('LISTXATTR', (reply) => (reply.rest = Buffer.from('user.one\0user.t'))),
  'xattr-names-empty': spoilt('LISTXATTR', (reply) => (reply.rest = Buffer.from('user.one\0\0user.two\0'))),
  'link-with-nul': spoilt('READLINK', (reply) => (reply.rest = Buffer.from('file\0directory'))),
  'link-empty': spoilt('READLINK', (reply) => (reply.rest = new Uint8Array(0))),
  'link-of-4096': spoilt('READLINK', (reply) => (reply.rest = new Uint8Array(4096).fill(0x61))),
  'link-to-itself': spoilt('READLINK', (reply) => (reply.rest = Buffer.from('link'))),
  'handle-all-ones': spoilt('OPEN', (reply) => {
    for (let i = 0; i < OpenOut.bytes; i += 4) reply.put(i, 4, NONSENSE);
  }),
} satisfies Record<string, Trick>;

const NODES = {
  'mode-0': spoilt('GETATTR', (reply) => reply.put(attrAt('mode', AttrOut.offsets.attr), 4, 0)),
  'size-negative': spoilt('GETATTR', (reply) => reply.put(attrAt('size', AttrOut.offsets.attr), 8, -1n)),
  'size-beyond-numbers': spoilt('GETATTR', (reply) =>
    reply.put(attrAt('size', AttrOut.offsets.attr), 8, 2n ** 63n - 1n),
  ),
  'type-changes': spoilt('GETATTR', (reply) => reply.put(attrAt('mode', AttrOut.offsets.attr), 4, 0o040755)),
  'set-type-changes': spoilt('SETATTR', (reply) => reply.put(attrAt('mode', AttrOut.offsets.attr), 4, 0o040755)),
  'lookup-root': spoilt('LOOKUP', (reply) => reply.put(NODE, 8, ROOT)),
  'lookup-0': spoilt('LOOKUP', (reply) => reply.put(NODE, 8, 0)),
  'lookup-mode-0': spoilt('LOOKUP', (reply) => reply.put(attrAt('mode', ENTRY_ATTR), 4, 0)),
  'lookup-size-negative': spoilt('LOOKUP', (reply) => reply.put(attrAt('size', ENTRY_ATTR), 8, -1n)),
  'lookup-for-ever': spoilt('LOOKUP', (reply) => {
    reply.put(EntryOut.offsets.entryValid, 8, -1n);
    reply.put(EntryOut.offsets.entryValidNsec, 4, NONSENSE);
  }),
  'lookup-all-one-node': spoilt('LOOKUP', (reply) => reply.put(NODE, 8, FILE)),
  'mkdir-0': spoilt('MKDIR', (reply) => reply.put(NODE, 8, 0)),
  'mkdir-root': spoilt('MKDIR', (reply) => reply.put(NODE, 8, ROOT)),
  'mkdir-makes-file': spoilt('MKDIR', (reply) => reply.put(attrAt('mode', ENTRY_ATTR), 4, 0o100644)),
  'create-0': spoilt('CREATE', (reply) => reply.put(CREATED + NODE, 8, 0)),
  'create-makes-directory': spoilt('CREATE', (reply) => reply.put(CREATED + attrAt('mode', ENTRY_ATTR), 4, 0o040755)),
  'create-all-ones': spoilt('CREATE', (reply) => {
    for (let i = 0; i < OpenOut.bytes; i += 4) reply.put(OPENED + i, 4, NONSENSE);
  }),
} satisfies Record<string, Trick>;

const LISTINGS = {
  'list-name-of-0': spoilt('READDIRPLUS', listing(withField(again('name'), NAMELEN, 0))),
  'list-name-of-256': spoilt('READDIRPLUS', listing(again('n'.repeat(256)))),
  'list-name-beyond-reply': spoilt('READDIRPLUS', listing(withField(again('name'), NAMELEN, 255))),
  'list-name-huge': spoilt('READDIRPLUS', listing(withField(again('name'), NAMELEN, NONSENSE))),
  'list-part-of-entry': spoilt('READDIRPLUS', (reply) => (reply.rest = again('name').slice(0, 151))),
  'list-slash': spoilt('READDIRPLUS', listing(again('a/b'))),
  'list-nul': spoilt('READDIRPLUS', listing(again('a\0b'))),
  'list-root': spoilt('READDIRPLUS', listing(again('name', ROOT))),
  'list-clash': spoilt('READDIRPLUS', (reply) => {
    const isFirst = reply.asked.view.getBigUint64(48, true) === 0n;
    const asDirectory = withField(again('two', FILE, 2), ENTRY_ATTR + Attr.offsets.mode, 0o040755);
    reply.rest = isFirst ? concat(again('one', FILE, 1), asDirectory) : new Uint8Array(0);
  }),
  'list-mode-0': spoilt('READDIRPLUS', listing(withField(again('name'), ENTRY_ATTR + Attr.offsets.mode, 0))),
  'list-too-long': spoilt('READDIRPLUS', (reply) => (reply.rest = new Uint8Array(reply.room))),
  'list-dots-for-ever': spoilt('READDIRPLUS', listing(again('.', ROOT), again('..', ROOT))),
} satisfies Record<string, Trick>;

const RINGS = {
  'ring-unknown-id': { at: 'STATFS', fate: 'unknown' },
  'ring-id-outside': { at: 'STATFS', fate: 'outside' },
  'ring-id-twice': { at: 'STATFS', fate: 'twice' },
  'ring-index-jumps': { at: 'STATFS', fate: 'jumps' },
  'replies-reversed': { at: 'STATFS', fate: 'reversed', count: 8 },
  'ring-error': { at: 'STATFS', fate: 'broken' },
  'no-reply': { at: 'STATFS', fate: 'held' },
  'late-reply': { at: 'STATFS', fate: 'late' },
  'no-lock': { at: 'SETLKW', fate: 'held' },
  'no-reply-to-init': { at: 'INIT', fate: 'held' },
  'no-reply-to-destroy': { at: 'DESTROY', fate: 'held' },
  'leaves-at-init': { at: 'INIT', fate: 'leaves' },
  'leaves-at-request': { at: 'STATFS', fate: 'leaves' },
} satisfies Record<string, Trick>;

/** All that the client says before the first request. */
export const HANDSHAKE = [
  'GET_FEATURES',
  'GET_PROTOCOL_FEATURES',
  'SET_PROTOCOL_FEATURES',
  'GET_QUEUE_NUM',
  'SET_OWNER',
  'SET_VRING_CALL',
  'SET_VRING_ERR',
  'GET_CONFIG',
  'SET_FEATURES',
  'GET_STATUS',
  'SET_STATUS',
  'SET_MEM_TABLE',
  'SET_VRING_NUM',
  'SET_VRING_BASE',
  'SET_VRING_ADDR',
  'SET_VRING_KICK',
  'SET_VRING_ENABLE',
] as const satisfies readonly FrontEndName[];
/** Those that are answered. */
export const ANSWERED = HANDSHAKE.filter(
  (name) => !['SET_PROTOCOL_FEATURES', 'SET_OWNER', 'SET_FEATURES', 'SET_STATUS'].includes(name),
);

/** What is done to the answer of a message, whichever. */
export const SAYINGS = {
  never: () => ({ way: 'never' }),
  drip: () => ({ way: 'drip' }),
  empty: () => ({ payload: new Uint8Array(0), size: 0 }),
  short: (payload) => ({ payload: payload.slice(0, 4), size: 4 }),
  long: (payload) => ({ payload: concat(payload, new Uint8Array(8)), size: payload.length + 8 }),
  huge: () => ({ size: NONSENSE }),
  other: () => ({ request: 99 }),
  unmarked: () => ({ flags: 1 }),
  version: () => ({ flags: 6 }),
  descriptors: () => ({ fds: [0, 1, 2] }),
} satisfies Record<string, (payload: Uint8Array) => Saying>;

const only =
  (message: FrontEndName, saying: (payload: Uint8Array) => Saying) =>
  (name: FrontEndName, payload: Uint8Array): Saying | undefined =>
    name === message ? saying(payload) : undefined;
const number = (value: bigint): Saying => ({ payload: new Uint8Array(new BigUint64Array([value]).buffer) });
const without = (bit: bigint) => (payload: Uint8Array) =>
  number(new DataView(payload.buffer, payload.byteOffset).getBigUint64(0, true) & ~(1n << bit));

/** GET_SHMEM_CONFIG with another size of the first region. */
const window = (sizeBytes: bigint) => (payload: Uint8Array) => {
  const copy = new Uint8Array(payload);
  new DataView(copy.buffer).setBigUint64(8, sizeBytes, true);
  return { payload: copy };
};

/** GET_CONFIG with other bytes of struct virtio_fs_config. */
const config = (change: (config: Uint8Array, header: DataView) => void) => (payload: Uint8Array) => {
  const copy = new Uint8Array(payload);
  change(copy.subarray(Config.bytes), new DataView(copy.buffer));
  return { payload: copy };
};
const TAG_BYTES = 36;
const tagged = (tag: string) =>
  config((bytes) => bytes.fill(0, 0, TAG_BYTES).set(Buffer.from(tag, 'latin1').subarray(0, TAG_BYTES)));
const queuesIn = (count: number) =>
  config((bytes) => new DataView(bytes.buffer, bytes.byteOffset).setUint32(TAG_BYTES, count, true));

const CONFIGS = {
  'config-tag-of-36': { says: only('GET_CONFIG', tagged('t'.repeat(TAG_BYTES))) },
  'config-tag-not-utf8': { says: only('GET_CONFIG', tagged('\xff\xfe')) },
  'config-tag-then-rubbish': { says: only('GET_CONFIG', tagged('short\0rubbish\n')) },
  'config-no-tag': { says: only('GET_CONFIG', tagged('')) },
  'config-tag-of-lines': { says: only('GET_CONFIG', tagged('two\nlines')) },
  'config-queues-0': { says: only('GET_CONFIG', queuesIn(0)) },
  'config-queues-2': { says: only('GET_CONFIG', queuesIn(2)) },
  'config-queues-huge': { says: only('GET_CONFIG', queuesIn(NONSENSE)) },
  'config-of-39': {
    says: only('GET_CONFIG', (payload) => ({ payload: payload.slice(0, -1), size: payload.length - 1 })),
  },
  'config-says-39': {
    says: only(
      'GET_CONFIG',
      config((_, header) => Config.set.size(header, 0, 39)),
    ),
  },
  'config-elsewhere': {
    says: only(
      'GET_CONFIG',
      config((_, header) => Config.set.offset(header, 0, 4)),
    ),
  },
} satisfies Record<string, Trick>;

const VHOST = {
  'features-not-version-1': { says: only('GET_FEATURES', without(32n)) },
  'features-of-nothing': { says: only('GET_FEATURES', () => number(0n)) },
  'features-all': { says: only('GET_FEATURES', () => number(2n ** 64n - 1n)) },
  'features-without-protocol': { says: only('GET_FEATURES', without(30n)) },
  'features-without-event-idx': { says: only('GET_FEATURES', without(29n)) },
  'features-without-indirect': { says: only('GET_FEATURES', without(28n)) },
  'protocol-without-mq': { says: only('GET_PROTOCOL_FEATURES', without(0n)) },
  'protocol-without-ack': { says: only('GET_PROTOCOL_FEATURES', without(3n)) },
  'protocol-without-config': { says: only('GET_PROTOCOL_FEATURES', without(9n)) },
  'protocol-without-status': { says: only('GET_PROTOCOL_FEATURES', without(16n)) },
  'protocol-without-slots': { says: only('GET_PROTOCOL_FEATURES', without(15n)) },
  'queues-0': { says: only('GET_QUEUE_NUM', () => number(0n)) },
  'queues-1': { says: only('GET_QUEUE_NUM', () => number(1n)) },
  'queues-65535': { says: only('GET_QUEUE_NUM', () => number(65535n)) },
  'queues-huge': { says: only('GET_QUEUE_NUM', () => number(2n ** 64n - 1n)) },
  'memory-refused': { says: only('SET_MEM_TABLE', () => number(1n)) },
  'ring-refused': { says: only('SET_VRING_KICK', () => number(1n)) },
  'window-odd': { says: only('GET_SHMEM_CONFIG', window(4097n)) },
  'window-huge': { says: only('GET_SHMEM_CONFIG', window(2n ** 63n)) },
  'window-short': { says: only('GET_SHMEM_CONFIG', SAYINGS.short) },
  'never-stops': { says: only('GET_VRING_BASE', SAYINGS.never) },
  'stops-with-short-answer': { says: only('GET_VRING_BASE', SAYINGS.short) },
} satisfies Record<string, Trick>;

export const TRICKS = {
  none: {},
  ...REPLIES,
  ...INITS,
  ...DATA,
  ...NODES,
  ...LISTINGS,
  ...RINGS,
  ...VHOST,
  ...CONFIGS,
} as const satisfies Record<string, Trick>;

export type TrickName = keyof typeof TRICKS;

/** `leaves.MESSAGE`, `SAYING.MESSAGE` or `fuzz.SEED`, or the name of one above or of WINDOW_TRICKS. */
export function trickOf(name: string): Trick {
  if (name in WINDOW_TRICKS) return { window: WINDOW_TRICKS[name as keyof typeof WINDOW_TRICKS] };
  const [kind, what] = name.split('.');
  if (what === undefined) return TRICKS[name as TrickName];
  if (kind === 'fuzz') return fuzz(new Random(Number(what) + connections++));
  const message = what as FrontEndName;
  if (kind === 'leaves') return { leavesAt: message };
  return { says: only(message, SAYINGS[kind as keyof typeof SAYINGS]) };
}

/** Each connection gets mutations of its own. */
let connections = 0;
const EDGES = [0n, 1n, 2n, 255n, 256n, 4096n, 0x7fffn, 0xffffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn];
const WIDE_EDGES = [...EDGES, TWO_53 - 1n, TWO_53, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n];

/** Spoils every other reply at random; those without which nothing goes on, more seldom. */
function fuzz(random: Random): Trick {
  return {
    spoils: (reply) => {
      const { opcode, nodeid } = reply.asked;
      const isNeeded = opcode.name === 'INIT' || (opcode.name === 'GETATTR' && nodeid === BigInt(ROOT));
      if (random.below(isNeeded ? 20 : 2) !== 0) return;
      const times = 1 + random.below(3);
      for (let time = 0; time < times; time += 1) random.pick(MUTATIONS)(reply, random);
      if (random.below(15) === 0) random.pick(HEADER_MUTATIONS)(reply, random);
    },
  };
}

function anyOffset(reply: Reply, random: Random, bytes: number): number {
  const places = Math.floor((reply.bytes.length - OutHeader.bytes) / bytes);
  return places <= 0 ? -1 : bytes * random.below(places);
}

const putAt = (reply: Reply, at: number, bytes: 4 | 8, value: bigint): void => {
  if (at >= 0) reply.put(at, bytes, value);
};

const MUTATIONS: readonly ((reply: Reply, random: Random) => void)[] = [
  (reply, random) => putAt(reply, anyOffset(reply, random, 4), 4, random.pick(EDGES)),
  (reply, random) => putAt(reply, anyOffset(reply, random, 8), 8, random.pick(WIDE_EDGES)),
  (reply, random) => putAt(reply, anyOffset(reply, random, 4), 4, BigInt(random.word())),
  (reply, random) => {
    for (let i = random.below(8); i >= 0 && reply.rest.length > 0; i -= 1) {
      reply.rest[random.below(reply.rest.length)] ^= 1 << random.below(8);
    }
  },
  (reply, random) => {
    if (reply.asked.opcode.reply !== 'struct') reply.rest = reply.rest.slice(0, random.below(reply.rest.length + 1));
  },
  (reply, random) => {
    const most = Math.min(reply.room - OutHeader.bytes, 1000);
    if (['bytes', 'payload'].includes(reply.asked.opcode.reply)) reply.rest = random.bytes(random.below(most + 1));
  },
  (reply, random) => {
    if (random.below(4) !== 0) return;
    reply.rest = new Uint8Array(0);
    reply.error = -random.below(140);
  },
];

/** Each ends the connection. */
const HEADER_MUTATIONS: typeof MUTATIONS = [
  (reply, random) => (reply.used = random.word()),
  (reply, random) => reply.view.setUint32(4 * random.below(4), random.word(), true),
  (reply, random) => (reply.rest = random.bytes(random.below(5000))),
];
