export { Backend, type RingSetup, type VhostDevice } from './backend.ts';
export { Channel, type Message } from './channel.ts';
export { FrontEnd, type FrontEndQueue } from './front-end.ts';
export { VhostError, type VhostErrorCode } from './error.ts';
export { type MappedRegion, mapRegion, unmapRegion } from './mapped-memory.ts';
export * from './messages.ts';
