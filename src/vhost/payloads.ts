/** Payloads that both ends write and read. */
import { assert } from '../core/index.ts';
import type { RegionRequest } from './mapped-memory.ts';
import {
  MAX_SHMEM_REGIONS,
  MAX_TABLE_REGIONS,
  MemoryRegion,
  MemoryTable,
  ShmemConfig,
  SingleMemoryRegion,
  VringState,
} from './messages.ts';

export function bigU64(value: bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, value, true);
  return new Uint8Array(view.buffer);
}

export function u64(value: number): Uint8Array {
  return bigU64(BigInt(value));
}

export function vringState(index: number, num: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(VringState.bytes));
  VringState.set.index(view, 0, index);
  VringState.set.num(view, 0, num);
  return new Uint8Array(view.buffer);
}

/** The payload of ADD_MEM_REG and REM_MEM_REG. */
export function singleRegion(request: RegionRequest): Uint8Array {
  const view = new DataView(new ArrayBuffer(SingleMemoryRegion.bytes));
  putRegion(view, SingleMemoryRegion.offsets.region, request);
  return new Uint8Array(view.buffer);
}

/** The payload of SET_MEM_TABLE. */
export function memoryTable(regions: readonly RegionRequest[]): Uint8Array {
  assert(regions.length <= MAX_TABLE_REGIONS, 'more regions than SET_MEM_TABLE has');
  const view = new DataView(new ArrayBuffer(MemoryTable.bytes + regions.length * MemoryRegion.bytes));
  MemoryTable.set.nregions(view, 0, regions.length);
  for (const [i, region] of regions.entries()) putRegion(view, MemoryTable.bytes + i * MemoryRegion.bytes, region);
  return new Uint8Array(view.buffer);
}

function putRegion(view: DataView, at: number, request: RegionRequest): void {
  MemoryRegion.set.guestPhysAddr(view, at, request.guestAddress);
  MemoryRegion.set.memorySize(view, at, request.sizeBytes);
  MemoryRegion.set.userspaceAddr(view, at, request.userAddress);
  MemoryRegion.set.mmapOffset(view, at, request.mmapOffset);
}

/** A vhost_user_memory_region at byte `at`. */
export function readRegion(payload: DataView, at: number): RegionRequest {
  return {
    guestAddress: MemoryRegion.guestPhysAddr(payload, at),
    sizeBytes: MemoryRegion.memorySize(payload, at),
    userAddress: MemoryRegion.userspaceAddr(payload, at),
    mmapOffset: MemoryRegion.mmapOffset(payload, at),
  };
}

/** The answer to GET_SHMEM_CONFIG: bytes by shmid. */
export function shmemConfig(sizes: readonly number[]): Uint8Array {
  assert(sizes.length <= MAX_SHMEM_REGIONS, 'more windows than vhost-user has');
  const view = new DataView(new ArrayBuffer(ShmemConfig.bytes));
  ShmemConfig.set.nregions(view, 0, sizes.filter((size) => size > 0).length);
  for (const [shmid, size] of sizes.entries()) {
    view.setBigUint64(ShmemConfig.offsets.memorySizes + shmid * 8, BigInt(size), true);
  }
  return new Uint8Array(view.buffer);
}
