/** The thread that is another process: see second-process.ts. */
import { workerData } from 'node:worker_threads';
import { SysError } from '../src/sys/index.ts';
import type { Face } from './face.ts';
import { KernelFace } from './kernel-face.ts';
import { libc, SYS_GETTID, syscall } from './libc.ts';
import { type Answer, serveAsks } from './second-process.ts';

const CLONE_FILES = 0x400;

function separate(): Answer {
  try {
    libc('unshare', 2)(CLONE_FILES);
    return { value: syscall('gettid', SYS_GETTID) };
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return { call: 'unshare', errno: error.errno, detail: '' };
  }
}

const face = new KernelFace('/');
serveAsks(workerData as SharedArrayBuffer, separate(), ({ base, name, args }): Answer => {
  face.base = base;
  try {
    const method = face[name] as (this: Face, ...args: readonly unknown[]) => unknown;
    return { value: method.apply(face, [...args]) };
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return { call: error.syscall, errno: error.errno, detail: '' };
  }
});
