export * from './assert.ts';
export type * from './brand.ts';
export * from './errno-name.ts';
export * from './errno.ts';
export * from './errors.ts';
export * from './limits.ts';
export * from './mutex.ts';
export * from './size.ts';
export * from './u64.ts';
