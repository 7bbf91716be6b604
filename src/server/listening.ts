/** Sockets that take connections, by their paths. */
import { type Stats, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';

import { UserError } from '../core/index.ts';
import { close, isSocketInUse, listenUnix, SOCKET_PATH_MAX, SysError, umask } from '../sys/index.ts';

const UMASK_PRIVATE = 0o077;

export interface Listening {
  readonly path: string;
  readonly fd: number;
  readonly inode: number;
}

/** Binds a socket that only its owner may connect to. Throws UserError. */
export function listen(path: string, option = '--socket-path'): Listening {
  if (Buffer.byteLength(path) >= SOCKET_PATH_MAX) {
    throw new UserError(
      `the socket path ${path} has ${Buffer.byteLength(path)} bytes; Linux allows ${SOCKET_PATH_MAX - 1}. ` +
        'Choose a shorter one.',
    );
  }
  removeStale(path, option);
  const before = umask(UMASK_PRIVATE);
  try {
    const fd = listenUnix(path);
    return { path, fd, inode: statSync(path).ino };
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    const why = error.code === 'ENOENT' ? `there is no directory ${dirname(path)}` : error.code;
    throw new UserError(`cannot make the socket ${path}: ${why}.`, { cause: error });
  } finally {
    umask(before);
  }
}

/** A socket that a daemon left behind when it was killed goes; anything else at that path is not ours to take. */
function removeStale(path: string, option: string): void {
  let found: Stats | undefined;
  try {
    found = statSync(path, { throwIfNoEntry: false });
  } catch (error) {
    throw new UserError(`cannot make the socket '${path}': ${(error as Error).message}.`, { cause: error });
  }
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new UserError(`${path} exists and is no socket. Choose another ${option}, or remove it.`);
  }
  if (isSocketInUse(path)) {
    throw new UserError(`the socket ${path} is in use by another process. Choose another ${option}, or end that one.`);
  }
  unlinkSync(path);
}

export function unlisten(socket: Listening): void {
  removeSocket(socket);
  close(socket.fd);
}

/** Removes the socket if it is still the one that was made here. */
export function removeSocket(socket: Listening): void {
  if (statSync(socket.path, { throwIfNoEntry: false })?.ino === socket.inode) unlinkSync(socket.path);
}
