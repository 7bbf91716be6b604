export * from './lens.ts';
export { LENS_SIZE_BYTES, serveLens } from './lens-server.ts';
export * from './policy.ts';
export * from './window.ts';
