export * from './constants.ts';
export * from './error.ts';
export * from './events.ts';
export { fastPath, viewMemory } from './ffi.ts';
export * from './files.ts';
export * from './identity.ts';
export * from './memory.ts';
export * from './process.ts';
export * from './sockets.ts';
