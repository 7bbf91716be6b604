/**
 * vhost-user messages (QEMU docs/interop/vhost-user.rst): what each is, once. Multi-byte fields are in the machine's
 * own order; the machines that run this are little-endian.
 */
import { bytes, struct, u16, u32, u53, u64, u8 } from '../wire/index.ts';

export const VhostHeader = struct('vhost_user_header', 12, { request: u32, flags: u32, size: u32 });
/** Index and one number: ring size, base, enabled. */
export const VringState = struct('vhost_vring_state', 8, { index: u32, num: u32 });
/** Ring addresses are the front-end's own (user addresses). */
export const VringAddr = struct('vhost_vring_addr', 40, {
  index: u32,
  flags: u32,
  descUserAddr: u53,
  usedUserAddr: u53,
  availUserAddr: u53,
  logGuestAddr: u53,
});
export const MemoryRegion = struct('vhost_user_memory_region', 32, {
  guestPhysAddr: u53,
  memorySize: u53,
  userspaceAddr: u53,
  mmapOffset: u53,
});
/** SET_MEM_TABLE: this, then `nregions` regions. */
export const MemoryTable = struct('vhost_user_memory', 8, { nregions: u32, _padding: u32 });
export const SingleMemoryRegion = struct('vhost_user_single_memory_region', 40, {
  _padding: u64,
  region: MemoryRegion,
});
/** GET_CONFIG, SET_CONFIG: this, then `size` bytes. */
export const Config = struct('vhost_user_config', 12, { offset: u32, size: u32, flags: u32 });
export const Log = struct('vhost_user_log', 16, { mmapSize: u53, mmapOffset: u53 });
export const Inflight = struct('vhost_user_inflight', 24, {
  mmapSize: u53,
  mmapOffset: u53,
  numQueues: u16,
  queueSize: u16,
  _padding: bytes(4),
});
/** GET_SHMEM_CONFIG: sizes by shmid, 0 for none. */
export const ShmemConfig = struct('vhost_user_shmem_config', 2056, {
  nregions: u32,
  _padding: u32,
  memorySizes: bytes(2048, 8),
});
/** SHMEM_MAP and SHMEM_UNMAP, from the back-end. */
export const Mmap = struct('vhost_user_mmap', 40, {
  shmid: u8,
  _padding: bytes(7),
  fdOffset: u53,
  shmOffset: u53,
  len: u53,
  flags: u53,
});
export const U64 = struct('vhost_user_u64', 8, { value: u53 });

export const HEADER_VERSION = 1;
export const HEADER_REPLY = 4;
export const HEADER_NEED_REPLY = 8;
/** Of SET_VRING_KICK, _CALL and _ERR: no descriptor comes along. */
export const VRING_NO_FD = 0x100;
/** The largest payload that we take: SET_MEM_TABLE with 8 regions has 264 bytes, SET_CONFIG 268. */
export const MAX_PAYLOAD_BYTES = 4096;
export const MAX_TABLE_REGIONS = 8;

/** VIRTIO_F_* and VHOST_USER_F_*, by bit. */
export const Feature = {
  RING_INDIRECT_DESC: 28n,
  RING_EVENT_IDX: 29n,
  PROTOCOL_FEATURES: 30n,
  VERSION_1: 32n,
} as const;

/** VHOST_USER_PROTOCOL_F_*, by bit. */
export const ProtocolFeature = {
  MQ: 0n,
  REPLY_ACK: 3n,
  BACKEND_REQ: 5n,
  CONFIG: 9n,
  BACKEND_SEND_FD: 10n,
  RESET_DEVICE: 13n,
  CONFIGURE_MEM_SLOTS: 15n,
  STATUS: 16n,
  SHMEM: 22n,
} as const;

/** Requests of the back-end, by number: on the channel that SET_BACKEND_REQ_FD opens. */
export const BackendRequest = { SHMEM_MAP: 9, SHMEM_UNMAP: 10 } as const;
/** Of SHMEM_MAP: the guest may write. */
export const SHMEM_RW = 1;
export const MAX_SHMEM_REGIONS = 256;

/** One front-end request: its number and what comes with it. */
export interface FrontEndRequest<Name extends string = string> {
  readonly code: number;
  readonly name: Name;
  /** Bytes of payload; `most` for those with a variable tail. */
  readonly bytes: number;
  readonly most: number;
  /** Descriptors that may come along. */
  readonly fds: number;
  /** Whether the message has an answer of its own; the others get one where REPLY_ACK asks for it. */
  readonly replies: boolean;
}

interface Shape {
  readonly bytes?: number;
  readonly most?: number;
  readonly fds?: number;
  readonly replies?: boolean;
}

function request<const Name extends string>(code: number, name: Name, shape: Shape = {}): FrontEndRequest<Name> {
  const { bytes: least = 0, fds = 0, replies = false } = shape;
  return { code, name, bytes: least, most: shape.most ?? least, fds, replies };
}

/** Every request of the front-end that we answer. What is not here is refused by name or number. */
export const FRONT_END = [
  request(1, 'GET_FEATURES', { replies: true }),
  request(2, 'SET_FEATURES', { bytes: U64.bytes }),
  request(3, 'SET_OWNER'),
  request(4, 'RESET_OWNER'),
  request(5, 'SET_MEM_TABLE', {
    bytes: MemoryTable.bytes,
    most: MemoryTable.bytes + MAX_TABLE_REGIONS * MemoryRegion.bytes,
    fds: MAX_TABLE_REGIONS,
  }),
  request(8, 'SET_VRING_NUM', { bytes: VringState.bytes }),
  request(9, 'SET_VRING_ADDR', { bytes: VringAddr.bytes }),
  request(10, 'SET_VRING_BASE', { bytes: VringState.bytes }),
  request(11, 'GET_VRING_BASE', { bytes: VringState.bytes, replies: true }),
  request(12, 'SET_VRING_KICK', { bytes: U64.bytes, fds: 1 }),
  request(13, 'SET_VRING_CALL', { bytes: U64.bytes, fds: 1 }),
  request(14, 'SET_VRING_ERR', { bytes: U64.bytes, fds: 1 }),
  request(15, 'GET_PROTOCOL_FEATURES', { replies: true }),
  request(16, 'SET_PROTOCOL_FEATURES', { bytes: U64.bytes }),
  request(17, 'GET_QUEUE_NUM', { replies: true }),
  request(18, 'SET_VRING_ENABLE', { bytes: VringState.bytes }),
  request(21, 'SET_BACKEND_REQ_FD', { fds: 1 }),
  request(24, 'GET_CONFIG', { bytes: Config.bytes, most: Config.bytes + 256, replies: true }),
  request(25, 'SET_CONFIG', { bytes: Config.bytes, most: Config.bytes + 256 }),
  request(34, 'RESET_DEVICE'),
  request(36, 'GET_MAX_MEM_SLOTS', { replies: true }),
  request(37, 'ADD_MEM_REG', { bytes: SingleMemoryRegion.bytes, fds: 1 }),
  request(38, 'REM_MEM_REG', { bytes: SingleMemoryRegion.bytes, fds: 1 }),
  request(39, 'SET_STATUS', { bytes: U64.bytes }),
  request(40, 'GET_STATUS', { replies: true }),
  request(44, 'GET_SHMEM_CONFIG', { replies: true }),
] as const;

export type FrontEndName = (typeof FRONT_END)[number]['name'];

/** By number. */
export const FRONT_END_BY_CODE: ReadonlyMap<number, FrontEndRequest<FrontEndName>> = new Map(
  FRONT_END.map((each) => [each.code, each]),
);

/** The number of a request. */
export function codeOf(name: FrontEndName): number {
  const found = FRONT_END.find((each) => each.name === name);
  if (found === undefined) throw new RangeError(`no vhost-user request ${name}`);
  return found.code;
}
