/** vhost-user messages in words, for a person. Whatever they hold, this does not throw. */
import type { AnyStruct } from '../wire/index.ts';
import type { Message } from './channel.ts';
import {
  Config,
  Feature,
  FRONT_END_BY_CODE,
  type FrontEndName,
  HEADER_NEED_REPLY,
  HEADER_REPLY,
  MemoryRegion,
  MemoryTable,
  ProtocolFeature,
  ShmemConfig,
  SingleMemoryRegion,
  U64,
  VringAddr,
  VringState,
} from './messages.ts';

export interface DescribedMessage {
  /** Such as `SET_VRING_NUM`, or `request 99`. */
  readonly name: string;
  /** Whether it answers one. */
  readonly reply: boolean;
  readonly needsReply: boolean;
  readonly fds: number;
  /** What it says, such as `index=1 num=128`. */
  readonly says: string;
}

type Payload = (view: DataView) => string;

const numberText: Payload = (view) => `${view.getBigUint64(0, true)}`;
const vring: Payload = (view) => fields(VringState, view, 0);
const config: Payload = (view) => fields(Config, view, 0);
const queueOf: Payload = (view) => `index=${view.getUint8(0)}`;
const single: Payload = (view) => fields(MemoryRegion, view, SingleMemoryRegion.offsets.region);

const named =
  (features: Readonly<Record<string, bigint>>): Payload =>
  (view) => {
    const value = view.getBigUint64(0, true);
    const names = Object.keys(features).filter((name) => ((value >> features[name]) & 1n) === 1n);
    return `0x${value.toString(16)} ${names.join('|')}`;
  };

/** By message: the least length of a payload that says something, and what it says. */
const REQUESTS: Partial<Record<FrontEndName, readonly [number, Payload]>> = {
  SET_FEATURES: [U64.bytes, named(Feature)],
  SET_PROTOCOL_FEATURES: [U64.bytes, named(ProtocolFeature)],
  SET_MEM_TABLE: [MemoryTable.bytes, memoryTable],
  SET_VRING_NUM: [VringState.bytes, vring],
  SET_VRING_ADDR: [VringAddr.bytes, (view) => fields(VringAddr, view, 0)],
  SET_VRING_BASE: [VringState.bytes, vring],
  GET_VRING_BASE: [VringState.bytes, vring],
  SET_VRING_KICK: [U64.bytes, queueOf],
  SET_VRING_CALL: [U64.bytes, queueOf],
  SET_VRING_ERR: [U64.bytes, queueOf],
  SET_VRING_ENABLE: [VringState.bytes, vring],
  GET_CONFIG: [Config.bytes, config],
  SET_CONFIG: [Config.bytes, config],
  ADD_MEM_REG: [SingleMemoryRegion.bytes, single],
  REM_MEM_REG: [SingleMemoryRegion.bytes, single],
  SET_STATUS: [U64.bytes, numberText],
};
/** Other messages are acknowledged by a number: 0 for done. */
const REPLIES: Partial<Record<FrontEndName, readonly [number, Payload]>> = {
  GET_FEATURES: [U64.bytes, named(Feature)],
  GET_PROTOCOL_FEATURES: [U64.bytes, named(ProtocolFeature)],
  GET_VRING_BASE: [VringState.bytes, vring],
  GET_CONFIG: [Config.bytes, config],
  GET_SHMEM_CONFIG: [ShmemConfig.bytes, windows],
};

/** What a message says. */
export function describeMessage({ request, flags, payload, fds }: Message): DescribedMessage {
  const name = FRONT_END_BY_CODE.get(request)?.name;
  const reply = (flags & HEADER_REPLY) !== 0;
  const [least, payloadText] = (name && (reply ? REPLIES : REQUESTS)[name]) ?? [U64.bytes, numberText];
  const unread = payload.byteLength === 0 ? '' : `${payload.byteLength} bytes`;
  return {
    name: name ?? `request ${request}`,
    reply,
    needsReply: (flags & HEADER_NEED_REPLY) !== 0,
    fds: fds.length,
    says: payload.byteLength < least ? unread : payloadText(payload),
  };
}

/** The fields of a struct, as `index=1 num=128`. */
function fields(struct: AnyStruct, view: DataView, at: number): string {
  return struct.format(view, at).slice(struct.cname.length + 1, -1);
}

function memoryTable(view: DataView): string {
  const regions: string[] = [];
  const count = MemoryTable.nregions(view, 0);
  for (let i = 0; i < count; i += 1) {
    const at = MemoryTable.bytes + i * MemoryRegion.bytes;
    if (at + MemoryRegion.bytes > view.byteLength) break;
    regions.push(`{${fields(MemoryRegion, view, at)}}`);
  }
  return [`nregions=${count}`, ...regions].join(' ');
}

function windows(view: DataView): string {
  const sizes: string[] = [];
  for (let at = ShmemConfig.offsets.memorySizes; at < ShmemConfig.bytes; at += U64.bytes) {
    const size = view.getBigUint64(at, true);
    if (size > 0n) sizes.push(`${(at - ShmemConfig.offsets.memorySizes) / U64.bytes}:${size}`);
  }
  return `windows=${sizes.join(',')}`;
}
