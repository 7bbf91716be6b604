export { guardRefusal, openGuard, serveGuard } from './guard.ts';
export { GuardedFiles } from './guarded-files.ts';
export * from './lens.ts';
export { LENS_SIZE_BYTES, serveLens } from './lens-server.ts';
export * from './policy.ts';
export * from './window.ts';
