/**
 * What a FUSE message says, for a person or for JSON: any bytes at all are described, and nothing in them makes this
 * throw. Pure; cold: a server does not need it.
 */
import { errnoName } from '../core/index.ts';
import { type Fields, fieldsOf, type Value, wide } from './describe-fields.ts';
import { type Extensions, layExtensions, secctxBytes } from './extensions.ts';
import { INIT_BYTESWAPPED, OPCODES, type Opcode, opcodeName, SETXATTR } from './opcodes.ts';
import { printable } from './printable.ts';
import {
  Direntplus,
  Dirent,
  ForgetOne,
  GetxattrOut,
  InHeader,
  IoctlOut,
  OutHeader,
  RemovemappingOne,
  Secctx,
} from './structs.ts';

/** One side of a message as far as it was caught. */
export interface Caught {
  /** Its first bytes, header included. */
  readonly bytes: Uint8Array;
  /** How many bytes it has in all. */
  readonly length: number;
}

export interface DescribeOptions {
  /** SETXATTR_EXT was agreed on: a SETXATTR has 8 bytes more. Default false. */
  readonly setxattrExt?: boolean;
  /** The guest is an arm64 one, with some flags of open(2) elsewhere. Default false. */
  readonly arm64?: boolean;
  /** How many entries of a list are told, default 4; all are counted. */
  readonly listed?: number;
}

/** A reply, or that there is none. */
export interface DescribedReply {
  /** In bytes, header included. */
  readonly length: number;
  /** Name of the errno; '' when the request succeeded. */
  readonly error: string;
  readonly fields: Fields;
}

/** A request and its reply, as JSON can hold it. Names are as `printable` has them. */
export interface Description {
  /** Such as `LOOKUP`, or `opcode 99`. */
  readonly opcode: string;
  readonly code: number;
  readonly unique: number | string;
  readonly nodeid: number | string;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** In bytes, header included. */
  readonly length: number;
  /** The fixed part by field, and what else the request is made of. */
  readonly fields: Fields;
  readonly names: readonly string[];
  /** Bytes after the fixed part and the names: file data, a value, a list. */
  readonly payloadBytes: number;
  readonly extensions?: Fields;
  /** Absent: there was none, as for FORGET. */
  readonly reply?: DescribedReply;
  /** What is wrong with the message, or could not be seen. */
  readonly problems: readonly string[];
}

const LISTED = 4;
/** The problem of a reply that was not there any more when it was read: nothing is known of it but its length. */
export const REPLY_GONE = 'the reply is gone';

/** A request while it is taken apart. */
interface Work {
  readonly view: DataView;
  readonly u8: Uint8Array;
  readonly length: number;
  /** End of the bytes that are there. */
  readonly end: number;
  readonly arm64: boolean;
  readonly listed: number;
  readonly problems: string[];
}

function workOn({ bytes, length }: Caught, options: DescribeOptions, problems: string[]): Work {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { arm64 = false, listed = LISTED } = options;
  return { view, u8: bytes, length, end: Math.min(bytes.length, length), arm64, listed, problems };
}

/** Describes a request and, where there is one, its reply. Never throws, whatever the bytes are. */
export function describe(request: Caught, reply: Caught | undefined, options: DescribeOptions = {}): Description {
  const problems: string[] = [];
  const work = workOn(request, options, problems);
  if (work.end < InHeader.bytes) {
    problems.push(`a request of ${request.length} bytes has no header`);
    return { ...NOTHING, length: request.length, problems };
  }
  const { view } = work;
  const code = InHeader.opcode(view, 0);
  const record = OPCODES[code];
  const announced = InHeader.len(view, 0);
  if (announced !== request.length) problems.push(`the header says ${announced} bytes, the buffers ${request.length}`);
  const extensionBytes = InHeader.totalExtlen(view, 0) * 8;
  const extensionsAt = Math.max(InHeader.bytes, request.length - extensionBytes);
  const body = describeBody({ ...work, length: extensionsAt, end: Math.min(work.end, extensionsAt) }, record, options);
  const unique = view.getBigUint64(InHeader.offsets.unique, true);
  return {
    opcode: code === INIT_BYTESWAPPED ? 'INIT (byte-swapped)' : opcodeName(code),
    code,
    unique: wide(unique),
    nodeid: wide(view.getBigUint64(InHeader.offsets.nodeid, true)),
    uid: InHeader.uid(view, 0),
    gid: InHeader.gid(view, 0),
    pid: InHeader.pid(view, 0),
    length: request.length,
    ...body,
    ...(extensionBytes > 0 && { extensions: describeExtensions(work, extensionsAt) }),
    ...(reply && { reply: describeReply(reply, record, unique, { ...options, fields: body.fields }, problems) }),
    problems,
  };
}

const NOTHING = {
  opcode: 'no header',
  code: -1,
  unique: 0,
  nodeid: 0,
  uid: 0,
  gid: 0,
  pid: 0,
  fields: {},
  names: [],
  payloadBytes: 0,
} as const;

type Body = Pick<Description, 'fields' | 'names' | 'payloadBytes'>;

/** Bytes of the fixed part: some guests send less of it. */
function fixedBytes({ length }: Work, record: Opcode, { setxattrExt = false }: DescribeOptions): number {
  const whole = record.in?.bytes ?? 0;
  if (record.code === SETXATTR.code && !setxattrExt) return record.inBytes;
  return record.names === 0 && !record.payloadIn ? Math.min(whole, length - InHeader.bytes) : whole;
}

function describeBody(work: Work, record: Opcode | undefined, options: DescribeOptions): Body {
  const { view, end, length, arm64, problems } = work;
  if (record === undefined) return { fields: {}, names: [], payloadBytes: length - InHeader.bytes };
  const fixed = fixedBytes(work, record, options);
  let at = InHeader.bytes + fixed;
  if (length - InHeader.bytes < Math.max(record.inBytes, 0))
    problems.push('the request is shorter than its fixed part');
  const fields: Record<string, Value> =
    record.in === null ? {} : { ...fieldsOf(record.in, view, InHeader.bytes, Math.min(at, end), arm64) };
  const names: string[] = [];
  for (let i = 0; i < record.names && at <= end; i += 1) {
    const terminator = work.u8.indexOf(0, at);
    const stop = terminator < 0 || terminator >= end ? end : terminator;
    if (stop === end) problems.push('a name has no end');
    names.push(printable(work.u8, at, stop));
    at = stop + 1;
  }
  const list = LISTS[record.name];
  if (list !== undefined) Object.assign(fields, list(work, at));
  return { fields, names, payloadBytes: Math.max(0, length - at) };
}

/** What the payload of some requests is a list of. */
const LISTS: Readonly<Record<string, (work: Work, at: number) => Fields>> = {
  BATCH_FORGET: (work, at) => ({ forgets: structList(work, at, ForgetOne) }),
  REMOVEMAPPING: (work, at) => ({ ranges: structList(work, at, RemovemappingOne) }),
};

function structList({ view, end, listed }: Work, at: number, struct: typeof ForgetOne | typeof RemovemappingOne) {
  const list: Value[] = [];
  for (let next = at; next + struct.bytes <= end && list.length < listed; next += struct.bytes) {
    list.push(fieldsOf(struct, view, next, end));
  }
  return list;
}

// Extensions.

function describeExtensions({ view, u8, end, length, problems }: Work, at: number): Fields {
  const laid: Extensions = { groups: 0, groupCount: 0, contexts: 0, contextCount: 0 };
  if (end < length) {
    problems.push('extensions beyond what was caught');
    return {};
  }
  if (layExtensions(view, u8, at, end, laid) < 0) {
    problems.push('malformed extensions');
    return {};
  }
  const contexts: Value[] = [];
  let next = laid.contexts;
  for (let i = 0; i < laid.contextCount; i += 1) {
    const nameAt = next + Secctx.bytes;
    const nameEnd = u8.indexOf(0, nameAt);
    const valueEnd = nameEnd + 1 + Secctx.size(view, next);
    contexts.push({ name: printable(u8, nameAt, nameEnd), value: labelText(u8, nameEnd + 1, valueEnd) });
    next += secctxBytes(Secctx.size(view, next), nameEnd - nameAt);
  }
  const groups = Array.from({ length: laid.groupCount }, (_, i) => view.getUint32(laid.groups + 4 * i, true));
  return { ...(contexts.length > 0 && { securityContexts: contexts }), ...(groups.length > 0 && { groups }) };
}

/** A label mostly has its NUL with it. */
function labelText(u8: Uint8Array, at: number, end: number): string {
  return printable(u8, at, end > at && u8[end - 1] === 0 ? end - 1 : end);
}

// Replies.

interface ReplyOptions extends DescribeOptions {
  /** Of the request. */
  readonly fields: Fields;
}

function describeReply(
  reply: Caught,
  record: Opcode | undefined,
  unique: bigint,
  options: ReplyOptions,
  problems: string[],
): DescribedReply {
  const work = workOn(reply, options, problems);
  const { view, length } = work;
  if (work.end < OutHeader.bytes) {
    if (length > 0) problems.push(`a reply of ${length} bytes has no header`);
    return { length, error: '', fields: {} };
  }
  // A driver that is quick has used the room again: what lies there says nothing of this request.
  if (view.getBigUint64(OutHeader.offsets.unique, true) !== unique) {
    problems.push(REPLY_GONE);
    return { length, error: '', fields: {} };
  }
  if (OutHeader.len(view, 0) !== length) {
    problems.push(`the reply's header says ${OutHeader.len(view, 0)} bytes, the device ${length}`);
  }
  const error = OutHeader.error(view, 0);
  if (error !== 0) return { length, error: errnoName(error), fields: {} };
  return { length, error: '', fields: replyFields(work, record, options) };
}

function replyFields(work: Work, record: Opcode | undefined, options: ReplyOptions): Fields {
  const { view, u8, length, end, arm64, problems } = work;
  const at = OutHeader.bytes;
  const bytes = length - at;
  if (record === undefined) return bytes === 0 ? {} : { bytes };
  if (record.out !== null) {
    if (bytes !== record.outBytes) problems.push(`the reply has ${bytes} bytes instead of ${record.outBytes}`);
    return fieldsOf(record.out, view, at, end, arm64);
  }
  const asksForSize = options.fields.size === 0;
  switch (record.name) {
    case 'READLINK':
      return { target: printable(u8, at, end) };
    case 'GETXATTR':
      return asksForSize ? fieldsOf(GetxattrOut, view, at, end) : { bytes };
    case 'LISTXATTR':
      return asksForSize ? fieldsOf(GetxattrOut, view, at, end) : attributeNames(work, at);
    case 'READDIR':
      return entries(work, at, false);
    case 'READDIRPLUS':
      return entries(work, at, true);
    case 'IOCTL':
      return { ...fieldsOf(IoctlOut, view, at, end), bytes: Math.max(0, bytes - IoctlOut.bytes) };
    case 'READ':
      return { bytes };
    default:
      return bytes === 0 ? {} : { bytes };
  }
}

function attributeNames({ u8, end, listed }: Work, at: number): Fields {
  const names: string[] = [];
  let count = 0;
  for (let next = at; next < end; count += 1) {
    const found = u8.indexOf(0, next);
    const stop = found < 0 || found > end ? end : found;
    if (count < listed) names.push(printable(u8, next, stop));
    next = stop + 1;
  }
  return { count, names };
}

/** The entries of a directory: all are counted, the first are told. */
function entries({ view, u8, end, length, listed, problems }: Work, from: number, plus: boolean): Fields {
  const list: Value[] = [];
  const start = plus ? Direntplus.offsets.dirent : 0;
  let count = 0;
  for (let at = from; at < end; count += 1) {
    const dirent = at + start;
    const nameAt = dirent + Dirent.bytes;
    const nameEnd = nameAt <= end ? nameAt + Dirent.namelen(view, dirent) : end + 1;
    if (nameEnd > end) {
      if (end === length) problems.push('a directory entry has no end');
      break;
    }
    if (list.length < listed) {
      const name = printable(u8, nameAt, nameEnd);
      const entry = plus ? (fieldsOf(Direntplus, view, at, end).entryOut as Fields) : undefined;
      list.push({ name, ...fieldsOf(Dirent, view, dirent, end), ...(entry && { entry }) });
    }
    at += (nameEnd - at + 7) & ~7;
  }
  if (end < length) problems.push(`${length - end} bytes of entries were not caught`);
  return { count, entries: list };
}
