export { Backend, type RingSetup, type VhostDevice } from './backend.ts';
export { BackendChannel, type Done } from './backend-channel.ts';
export { BackendRequests, type WindowRequest } from './backend-requests.ts';
export { Channel, type Message } from './channel.ts';
export { FrontEnd, type FrontEndQueue } from './front-end.ts';
export { VhostError, type VhostErrorCode } from './error.ts';
export { LENS_BYTES, MappedFiles } from './mapped-files.ts';
export { type MappedRegion, mapRegion, unmapRegion } from './mapped-memory.ts';
export * from './messages.ts';
