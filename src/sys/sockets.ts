/** UNIX sockets that pass descriptors. Set-up and the vhost-user channel: never the data path. */
import { assert, ECONNREFUSED, EINTR, EMFILE, ENOENT, EPROTOTYPE, type Fd } from '../core/index.ts';
import {
  AF_UNIX,
  MSG_CMSG_CLOEXEC,
  MSG_CTRUNC,
  MSG_NOSIGNAL,
  SCM_RIGHTS,
  SHUT_RDWR,
  SIOCOUTQ,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
} from './constants.ts';
import { SysError } from './error.ts';
import { bind, check, I, U } from './ffi.ts';
import { close, ioctl } from './files.ts';
import { Arena } from './memory.ts';

const libcSocket = bind('socket', 3);
const libcSocketpair = bind('socketpair', 4);
const libcBind = bind('bind', 3);
const libcListen = bind('listen', 2);
const libcConnect = bind('connect', 3);
const libcAccept4 = bind('accept4', 4);
const libcSendmsg = bind('sendmsg', 3);
const libcRecvmsg = bind('recvmsg', 3);
const libcShutdown = bind('shutdown', 2);

/** sizeof(sockaddr_un.sun_path), with its NUL. */
export const SOCKET_PATH_MAX = 108;
/** vhost-user passes at most eight descriptors with a message (SET_MEM_TABLE). */
const MAX_FDS = 8;
const CMSG_HEADER_BYTES = 16;
const MSGHDR_BYTES = 56;

const arena = new Arena(8192);
const addressAt = arena.reserve(112);
const messageAt = arena.reserve(MSGHDR_BYTES);
const iovecAt = arena.reserve(16);
const controlAt = arena.reserve(CMSG_HEADER_BYTES + MAX_FDS * 4);
const pairAt = arena.reserve(8);
const dataAt = arena.reserve(4096);
const DATA_BYTES = 4096;

/** The address of a socket path in sockaddr_un form; its length. Throws RangeError on a path that does not fit. */
function socketAddress(path: string): number {
  const bytes = Buffer.from(path);
  if (bytes.length >= SOCKET_PATH_MAX) {
    throw new RangeError(`the socket path ${path} has ${bytes.length} bytes; Linux allows ${SOCKET_PATH_MAX - 1}`);
  }
  arena.u8.fill(0, addressAt, addressAt + 112);
  arena.view.setUint16(addressAt, AF_UNIX, true);
  arena.u8.set(bytes, addressAt + 2);
  return 2 + bytes.length + 1;
}

function unixSocket(): Fd {
  return SysError.check(check(libcSocket(I(AF_UNIX), I(SOCK_STREAM | SOCK_CLOEXEC), 0n)), 'socket', 'AF_UNIX') as Fd;
}

/**
 * Whether the other end of a Unix socket has received all that was sent (SIOCOUTQ). What is in between counts with all
 * that the kernel needs for it, hundreds of bytes; a single one is still counted when whoever waits for EPOLLOUT is
 * woken (sock_wfree, net/core/sock.c).
 */
export function isReceived(fd: number): boolean {
  return ioctl(fd, SIOCOUTQ, arena.address + pairAt) === 0 && arena.view.getInt32(pairAt, true) <= 1;
}

/** Two sockets that are connected with each other. Throws SysError. */
export function socketPair(): [Fd, Fd] {
  const type = SOCK_STREAM | SOCK_CLOEXEC;
  const result = check(libcSocketpair(I(AF_UNIX), I(type), 0n, U(arena.address + pairAt)));
  SysError.check(result, 'socketpair', 'AF_UNIX');
  return [arena.view.getInt32(pairAt, true) as Fd, arena.view.getInt32(pairAt + 4, true) as Fd];
}

/** Binds and listens. EADDRINUSE when the path exists, whatever it is. Throws SysError. */
export function listenUnix(path: string, backlog = 1): Fd {
  const length = socketAddress(path);
  const fd = unixSocket();
  try {
    SysError.check(check(libcBind(I(fd), U(arena.address + addressAt), I(length))), 'bind', path);
    SysError.check(check(libcListen(I(fd), I(backlog))), 'listen', path);
  } catch (error) {
    close(fd);
    throw error;
  }
  return fd;
}

/** Connects. Throws SysError. */
export function connectUnix(path: string): Fd {
  const length = socketAddress(path);
  const fd = unixSocket();
  const result = check(libcConnect(I(fd), U(arena.address + addressAt), I(length)));
  if (result < 0) close(fd);
  SysError.check(result, 'connect', path);
  return fd;
}

/**
 * Whether a process still holds the socket at `path`. Asked with a socket of the other type: the kernel answers
 * EPROTOTYPE for a living one and ECONNREFUSED for one left behind, and whoever listens there notices nothing
 * (a daemon that serves one connection would take a real one for its VM).
 */
export function isSocketInUse(path: string): boolean {
  const length = socketAddress(path);
  const fd = SysError.check(check(libcSocket(I(AF_UNIX), I(SOCK_DGRAM | SOCK_CLOEXEC), 0n)), 'socket', 'AF_UNIX');
  const result = check(libcConnect(I(fd), U(arena.address + addressAt), I(length)));
  close(fd);
  if (result === -ECONNREFUSED || result === -ENOENT) return false;
  if (result < 0 && result !== -EPROTOTYPE) throw new SysError('connect', result, path);
  return true;
}

/** accept4(2): the connection, or a negative errno. */
export const accept = (fd: number): number => check(libcAccept4(I(fd), 0n, 0n, I(SOCK_CLOEXEC)));

/** Ends a connection in both directions: whoever is blocked in it wakes up. */
export const shutdown = (fd: number): number => check(libcShutdown(I(fd), I(SHUT_RDWR)));

function messageHeader(dataBytes: number, controlBytes: number): void {
  const { view, address } = arena;
  arena.u8.fill(0, messageAt, messageAt + MSGHDR_BYTES);
  view.setBigUint64(iovecAt, BigInt(address + dataAt), true);
  view.setBigUint64(iovecAt + 8, BigInt(dataBytes), true);
  view.setBigUint64(messageAt + 16, BigInt(address + iovecAt), true);
  view.setBigUint64(messageAt + 24, 1n, true);
  if (controlBytes === 0) return;
  view.setBigUint64(messageAt + 32, BigInt(address + controlAt), true);
  view.setBigUint64(messageAt + 40, BigInt(controlBytes), true);
}

/** Sends all of `data` (at most 4096 bytes), with descriptors on its first byte. 0 or a negative errno. */
export function sendMessage(fd: number, data: Uint8Array, fds: readonly number[] = []): number {
  assert(data.length > 0 && data.length <= DATA_BYTES && fds.length <= MAX_FDS, 'a message does not fit');
  for (let sent = 0; sent < data.length; ) {
    arena.u8.set(data.subarray(sent), dataAt);
    const withFds = sent === 0 && fds.length > 0;
    messageHeader(data.length - sent, withFds ? CMSG_HEADER_BYTES + ((fds.length * 4 + 7) & ~7) : 0);
    if (withFds) {
      arena.view.setBigUint64(controlAt, BigInt(CMSG_HEADER_BYTES + fds.length * 4), true);
      arena.view.setInt32(controlAt + 8, SOL_SOCKET, true);
      arena.view.setInt32(controlAt + 12, SCM_RIGHTS, true);
      for (const [i, passed] of fds.entries()) arena.view.setInt32(controlAt + CMSG_HEADER_BYTES + i * 4, passed, true);
    }
    const result = check(libcSendmsg(I(fd), U(arena.address + messageAt), I(MSG_NOSIGNAL)));
    if (result === -EINTR) continue;
    if (result < 0) return result;
    sent += result;
  }
  return 0;
}

/**
 * Receives up to `length` bytes (at most 4096) into `target` from `at`, blocking; descriptors are appended to `fds`,
 * which then owns them. The number of bytes, 0 at the end of the connection, or a negative errno.
 */
export function receiveMessage(fd: number, target: Uint8Array, at: number, length: number, fds: Fd[]): number {
  const wanted = Math.min(length, DATA_BYTES);
  const controlBytes = CMSG_HEADER_BYTES + MAX_FDS * 4;
  let received: number;
  do {
    messageHeader(wanted, controlBytes);
    received = check(libcRecvmsg(I(fd), U(arena.address + messageAt), I(MSG_CMSG_CLOEXEC)));
  } while (received === -EINTR);
  if (received < 0) return received;
  const { view } = arena;
  const controlLength = Number(view.getBigUint64(messageAt + 40, true));
  if (controlLength >= CMSG_HEADER_BYTES && view.getInt32(controlAt + 12, true) === SCM_RIGHTS) {
    const end = Number(view.getBigUint64(controlAt, true));
    for (let o = CMSG_HEADER_BYTES; o + 4 <= end; o += 4) fds.push(view.getInt32(controlAt + o, true) as Fd);
  }
  // The process is at its limit of descriptors: some of the message's are lost.
  if ((view.getInt32(messageAt + 48, true) & MSG_CTRUNC) !== 0) return -EMFILE;
  target.set(arena.u8.subarray(dataAt, dataAt + received), at);
  return received;
}
