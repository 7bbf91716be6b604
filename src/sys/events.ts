import { EINTR, type Fd } from '../core/index.ts';
import {
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLLIN,
  O_CLOEXEC,
  O_NONBLOCK,
} from './constants.ts';
import { SysError } from './error.ts';
import { bind, check, I, U } from './ffi.ts';
import { close, read, write } from './files.ts';
import { Arena } from './memory.ts';

const libcEventfd = bind('eventfd', 2);
const libcEpollCreate = bind('epoll_create1', 2);
const libcEpollCtl = bind('epoll_ctl', 4);
const libcEpollWait = bind('epoll_wait', 4);
const libcPoll = bind('poll', 3);
const libcPipe = bind('pipe2', 2);

/** struct epoll_event is packed on x86-64 (12 bytes), naturally aligned elsewhere (16). */
const EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
const DATA_OFFSET = process.arch === 'x64' ? 4 : 8;
const MAX_EVENTS = 64;

const arena = new Arena(4096);
const eventsAt = arena.reserve(MAX_EVENTS * EVENT_BYTES);
const counterAt = arena.reserve(8);
const oneAt = arena.reserve(8);
const DRAIN_BYTES = 2048;
const drainAt = arena.reserve(DRAIN_BYTES);
arena.u32[oneAt >> 2] = 1;

/** eventfd(2), non-blocking. Throws SysError. */
export function eventfd(): Fd {
  return SysError.check(check(libcEventfd(0n, I(EFD_CLOEXEC | EFD_NONBLOCK))), 'eventfd', '0') as Fd;
}

/** Adds one to an eventfd: 0 or a negative errno (EAGAIN when its counter is full, which is a signal all the same). */
export const signalEventfd = (fd: number): number => write(fd, arena.address + oneAt, 8);

/** Sets an eventfd back to zero. */
export const drainEventfd = (fd: number): number => read(fd, arena.address + counterAt, 8);

/** pipe2(2), neither end blocking: the one to read from and the one to write to. Throws SysError. */
export function pipe(): [Fd, Fd] {
  SysError.check(check(libcPipe(U(arena.address + counterAt), I(O_CLOEXEC | O_NONBLOCK))), 'pipe2', '');
  return [arena.view.getInt32(counterAt, true) as Fd, arena.view.getInt32(counterAt + 4, true) as Fd];
}

/** Takes what lies in a pipe whose end to read from does not block. */
export function drainPipe(fd: number): void {
  while (read(fd, arena.address + drainAt, DRAIN_BYTES) === DRAIN_BYTES);
}

/** Waits at most `timeoutMs` until `fd` is readable; false when the time is over. A signal does not end it. */
export function waitReadable(fd: number, timeoutMs: number): boolean {
  const at = counterAt >> 2;
  const end = performance.now() + timeoutMs;
  for (let leftMs = timeoutMs; ; leftMs = Math.max(0, Math.ceil(end - performance.now()))) {
    arena.u32[at] = fd;
    arena.u32[at + 1] = EPOLLIN;
    const ready = check(libcPoll(U(arena.address + counterAt), 1n, I(leftMs)));
    if (ready !== -EINTR) return ready > 0;
  }
}

/** A set of descriptors to sleep on, as a rule level-triggered. Each has a key of 32 bits, given back by `key(i)`. */
export class Epoll {
  readonly fd: Fd;

  constructor() {
    this.fd = SysError.check(check(libcEpollCreate(I(EFD_CLOEXEC), 0n)), 'epoll_create1', '') as Fd;
  }

  /** `events`: EPOLLIN and others. */
  add(fd: number, key: number, events = EPOLLIN): void {
    const event = new DataView(arena.buffer, eventsAt, EVENT_BYTES);
    event.setUint32(0, events, true);
    event.setUint32(DATA_OFFSET, key, true);
    const result = check(libcEpollCtl(I(this.fd), I(EPOLL_CTL_ADD), I(fd), U(arena.address + eventsAt)));
    SysError.check(result, 'epoll_ctl', `add descriptor ${fd}`);
  }

  /** Takes a descriptor out. One that is not in the set is none of our trouble: closing it took it out already. */
  remove(fd: number): void {
    check(libcEpollCtl(I(this.fd), I(EPOLL_CTL_DEL), I(fd), U(arena.address + eventsAt)));
  }

  /** Sleeps; the number of ready descriptors, or a negative errno. EINTR comes through: the caller looks again. */
  wait(timeoutMs: number): number {
    return check(libcEpollWait(I(this.fd), U(arena.address + eventsAt), I(MAX_EVENTS), I(timeoutMs)));
  }

  /** The key of the i-th descriptor that the last `wait` of this thread found ready. */
  key(i: number): number {
    return arena.view.getUint32(eventsAt + i * EVENT_BYTES + DATA_OFFSET, true);
  }

  close(): void {
    close(this.fd);
  }
}
