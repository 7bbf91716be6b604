/** The thread that is another process: see second-process.ts. */
import { workerData } from 'node:worker_threads';
import { SysError } from '../src/sys/index.ts';
import type { Face } from './face.ts';
import { KernelFace } from './kernel-face.ts';
import { libc, SYS_GETTID, syscall } from './libc.ts';
import { type Answer, serveAsks } from './second-process.ts';

const CLONE_FILES = 0x400;

libc('unshare', 2)(CLONE_FILES);
const face = new KernelFace('/');
serveAsks(workerData as SharedArrayBuffer, syscall('gettid', SYS_GETTID), ({ base, name, args }): Answer => {
  face.base = base;
  try {
    const method = face[name] as (this: Face, ...args: readonly unknown[]) => unknown;
    return { value: method.apply(face, [...args]) };
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return { call: error.syscall, errno: error.errno, detail: '' };
  }
});
