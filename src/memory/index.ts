export { ByteView, gather, gatherInto, scatter, scatterFrom } from './copy.ts';
export { MemoryError, type MemoryErrorCode } from './errors.ts';
export { GuestMemory, type Region } from './guest-memory.ts';
export { Segments } from './segments.ts';
