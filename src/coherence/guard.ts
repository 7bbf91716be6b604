/**
 * The guard: when somebody on the host makes a file shorter that guests have mapped, what goes is taken out of their
 * windows before it goes (see window.ts). The kernel holds whoever is about to do it until we say so (fanotify(7),
 * pre-content events of Linux 6.14).
 *
 * An event says where in the file, and not what: a read of a page looks like a truncation. So we look what the thread
 * that waits has called, and all but a call that makes a file shorter goes on at once. Nothing here ever waits.
 */
import { readlinkSync } from 'node:fs';
import { release } from 'node:os';

import { EAGAIN, EBADF, EINVAL, EMFILE, ENOSYS, EOPNOTSUPP, EPERM, type Fd } from '../core/index.ts';
import {
  AT_FDCWD,
  close,
  coldString,
  drainEventfd,
  Epoll,
  FAN_CLASS_PRE_CONTENT,
  FAN_CLOEXEC,
  FAN_MARK_ADD,
  FAN_NONBLOCK,
  FAN_OPEN_PERM,
  FAN_REPORT_TID,
  FanotifyEvents,
  fanotifyInit,
  fanotifyMark,
  O_CLOEXEC,
  O_DIRECTORY,
  O_RDONLY,
  openat,
  SysError,
} from '../sys/index.ts';
import { GUARD_MASK, type GuardedFiles } from './guarded-files.ts';
import { HostCalls, RUNNING } from './host-calls.ts';
import { ANSWER_MS, type DaxWindow, type WindowFile } from './window.ts';

/** Makes the group of the guard. Throws SysError; `guardRefusal` has the words. */
export function openGuard(): Fd {
  const flags = FAN_CLASS_PRE_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_TID;
  return SysError.check(fanotifyInit(flags, O_RDONLY | O_CLOEXEC), 'fanotify_init', 'FAN_CLASS_PRE_CONTENT') as Fd;
}

/** proc_ns(5): PROC_PID_INIT_INO of include/linux/proc_ns.h. */
const HOST_PIDS = 'pid:[4026531836]';
const CAPABILITY = 'it takes CAP_SYS_ADMIN on the host, not in a user namespace: run as root outside of one';
const KERNEL =
  `Linux ${release()} does not say when a file is made shorter: ` +
  'it takes 6.14 with CONFIG_FANOTIFY_ACCESS_PERMISSIONS';

const MEANINGS: Readonly<Record<string, string>> = {
  [`fanotify_init ${EPERM}`]: CAPABILITY,
  [`fanotify_init ${EINVAL}`]: KERNEL,
  [`fanotify_init ${ENOSYS}`]: 'the kernel has no fanotify(7), or a filter of system calls forbids it: allow it',
  [`fanotify_init ${EMFILE}`]: 'this user has as many fanotify groups as fs.fanotify.max_user_groups says: raise it',
  [`fanotify_mark ${EINVAL}`]: KERNEL,
  [`fanotify_mark ${EPERM}`]: CAPABILITY,
  [`fanotify_mark ${EOPNOTSUPP}`]: 'the kernel guards files on ext4, xfs and btrfs alone, and this is another',
};

/** Why files below a directory cannot be guarded, for a user, or undefined where they can. It tries. */
export function guardRefusal(directory: string): string | undefined {
  let group = -1;
  let folder = -1;
  try {
    if (readlinkSync('/proc/self/ns/pid') !== HOST_PIDS) {
      return "it has to see what others' processes do: run in the PID namespace of the host (--pid=host)";
    }
    const opened = openat(AT_FDCWD, coldString(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    folder = SysError.check(opened, 'open', directory);
    group = openGuard();
    SysError.check(fanotifyMark(group, FAN_MARK_ADD, GUARD_MASK, folder), 'fanotify_mark', directory);
    return undefined;
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    return MEANINGS[`${error.syscall} ${error.errno}`] ?? `the kernel refuses it: ${error.message}`;
  } finally {
    if (group >= 0) close(group);
    if (folder >= 0) close(folder);
  }
}

/** A thread that waits for leave to do something. */
interface Asker {
  readonly tid: number;
  /** Of the event. */
  readonly fd: number;
  readonly opens: boolean;
  /** As FanotifyEvents has it. */
  readonly offset: number;
  readonly since: number;
}

/** A call that sets the length of a file, from the event on until it is over. */
interface Shortening {
  readonly tid: number;
  /** As HostCalls has it. */
  readonly call: string;
  /** Of the event. */
  readonly fd: number;
  readonly files: readonly WindowFile[];
  /** What stays. */
  readonly sizeBytes: number;
  /** The file is this long at most when it is done; -1: it becomes longer. */
  readonly doneBytes: number;
  /** Since the event, and then since it was allowed. */
  since: number;
  allowed: boolean;
}

/** A file that may be longer than what is shown of it. */
interface Grown {
  /** Of an event. */
  readonly fd: number;
  readonly files: readonly WindowFile[];
  /** When it was first and last written to. */
  readonly since: number;
  last: number;
}

/** Who writes a file anew does so piece by piece, and each time more is shown of it the guest loses sight of it. */
const QUIET_MS = 20;
const GROWN_MS = 200;
/** Who asks is mostly asleep by now, and otherwise, but for one in a hundred, within this time. */
const DOZE_MS = 0.1;
/** How often one is looked at that is under way: at first, and later. Most are over in some 100 us. */
const SOON_MS = 1;
const LATER_MS = 20;

export class Guard {
  readonly #events: FanotifyEvents;
  readonly #files: GuardedFiles;
  readonly #windows: readonly DaxWindow[];
  readonly #calls = new HostCalls();
  /** Those who do not sleep yet: the kernel tells us first. What they have called cannot be seen before. */
  #awake: Asker[] = [];
  #underWay: Shortening[] = [];
  #grown: Grown[] = [];

  constructor(groupFd: number, files: GuardedFiles, windows: readonly DaxWindow[]) {
    this.#events = new FanotifyEvents(groupFd);
    this.#files = files;
    this.#windows = windows;
  }

  /** Milliseconds until `advance` is to be called; -1: not before something happens. */
  get patienceMs(): number {
    if (this.#awake.length > 0)
      return this.#awake.some(({ since }) => performance.now() - since < DOZE_MS) ? 0 : SOON_MS;
    if (this.#underWay.length + this.#grown.length === 0) return -1;
    return this.#underWay.some(({ since }) => performance.now() - since < LATER_MS) ? SOON_MS : LATER_MS;
  }

  /** Answers all events that there are. Throws SysError. */
  serve(): void {
    for (;;) {
      const result = this.#events.next();
      if (result === 0 || result === -EAGAIN) return;
      if (result === -EBADF || result === -EINVAL) throw new SysError('read', result, 'fanotify group');
      // There was no descriptor to be had for an event (EMFILE, ENFILE): the kernel has refused what it was about.
      if (result < 0) continue;
      if (this.#events.fd >= 0) this.#take(this.#events.fd, this.#events.mask);
    }
  }

  /** Goes on with what is under way. */
  advance(): void {
    this.#awake = this.#awake.filter((asker) => !this.#answer(asker));
    this.#underWay = this.#underWay.filter((each) => {
      if (!each.allowed) this.#cut(each);
      if (!each.allowed || !this.#isOver(each)) return true;
      this.#end(each);
      return false;
    });
    const now = performance.now();
    this.#grown = this.#grown.filter(({ fd, files, since, last }) => {
      if (now - last < QUIET_MS && now - since < GROWN_MS) return true;
      this.#regrow(fd, files);
      return false;
    });
  }

  /** Leaves nobody waiting for it. */
  end(): void {
    for (const { fd } of this.#awake) this.#allow(fd);
    this.#awake = [];
    for (const each of this.#underWay) {
      if (!each.allowed) this.#events.allow(each.fd);
      this.#end(each);
    }
    this.#underWay = [];
    for (const { fd, files } of this.#grown) this.#regrow(fd, files);
    this.#grown = [];
  }

  #take(fd: number, mask: number): void {
    if ((mask & GUARD_MASK) !== 0) {
      const { pid: tid, offset } = this.#events;
      const asker = { tid, fd, opens: (mask & FAN_OPEN_PERM) !== 0, offset, since: performance.now() };
      if (!this.#answer(asker)) this.#awake.push(asker);
      return;
    }
    // FAN_MODIFY: what was cut may be there again, and nothing tells the guest to ask.
    this.#grow(fd, this.#files.namesOf(fd));
  }

  /** False while the one who asks does not sleep yet. */
  #answer(asker: Asker): boolean {
    const call = this.#calls.at(asker.tid);
    if (call === RUNNING) return false;
    const shortening = this.#shorteningOf(asker, call);
    if (shortening === undefined) {
      this.#allow(asker.fd);
      return true;
    }
    for (const window of this.#windows) for (const file of shortening.files) window.hold(file);
    this.#underWay.push(shortening);
    this.#cut(shortening);
    return true;
  }

  #allow(fd: number): void {
    this.#events.allow(fd);
    close(fd);
  }

  #shorteningOf({ tid, fd, opens, offset }: Asker, call: string): Shortening | undefined {
    const emptied = opens && this.#calls.empties(tid, call) ? 0 : -1;
    const sizeBytes = opens ? emptied : this.#calls.lengthAfter(call, offset);
    const before = sizeBytes < 0 ? 0 : this.#files.sizeOf(fd);
    if (sizeBytes < 0 || sizeBytes === before) return undefined;
    if (sizeBytes < before) this.#files.watch(fd);
    // Of what a guest does, the threads that do it have seen to the others.
    if (this.#calls.isOurs(tid)) return undefined;
    const files = this.#files.namesOf(fd);
    if (files.length === 0) return undefined;
    // By fallocate(2) more than that stays. What grows is done when the call is over: nothing is cut meanwhile.
    const stays = !opens && this.#calls.collapses(call) ? before - 1 : sizeBytes;
    const doneBytes = sizeBytes < before ? stays : -1;
    return { tid, call, fd, files, sizeBytes, doneBytes, since: performance.now(), allowed: false };
  }

  /** Lets it happen when nothing is shown any more of what goes, or the VMM does not answer. */
  #cut(shortening: Shortening): void {
    let done = true;
    const shortens = shortening.doneBytes >= 0;
    for (const window of shortens ? this.#windows : []) {
      for (const file of shortening.files) done = window.cut(file, shortening.sizeBytes) && done;
    }
    if (!done && performance.now() - shortening.since <= ANSWER_MS) return;
    this.#events.allow(shortening.fd);
    shortening.allowed = true;
    shortening.since = performance.now();
  }

  /** The file has become shorter, or it did not come to it. */
  #isOver({ tid, call, fd, doneBytes, since }: Shortening): boolean {
    const size = this.#files.sizeOf(fd);
    if (size <= doneBytes) return true;
    const now = this.#calls.at(tid);
    return now === RUNNING ? performance.now() - since > ANSWER_MS : now !== call;
  }

  #end({ fd, files }: Shortening): void {
    for (const window of this.#windows) for (const file of files) window.endCut(file);
    this.#grow(fd, files);
  }

  #grow(fd: number, files: readonly WindowFile[]): void {
    const now = performance.now();
    const known = this.#grown.find((each) => isSame(each.files, files));
    if (known === undefined) {
      this.#grown.push({ fd, files, since: now, last: now });
      return;
    }
    known.last = now;
    close(fd);
  }

  /** Has all that there is of a file shown again. */
  #regrow(fd: number, files: readonly WindowFile[]): void {
    const size = this.#files.sizeOf(fd);
    close(fd);
    if (size < 0) return;
    for (const window of this.#windows) for (const file of files) window.regrow(file, size);
  }
}

function isSame(some: readonly WindowFile[], others: readonly WindowFile[]): boolean {
  if (some.length !== others.length) return false;
  return some.every((each, i) => each.nodeidLo === others[i].nodeidLo && each.nodeidHi === others[i].nodeidHi);
}

const KEY_EVENTS = 0;
const KEY_STOP = 1;
const KEY_WAKE = 2;

export interface GuardOptions {
  /** Of `openGuard`; `serveGuard` closes it. */
  readonly groupFd: number;
  /** Readable when it is to end. */
  readonly stopFd: number;
  /** An eventfd: something has been done in a window. */
  readonly wakeFd: number;
  readonly files: GuardedFiles;
  readonly windows: readonly DaxWindow[];
}

/** Guards until `stopFd` is readable. However it ends, nobody is left waiting. Throws SysError. */
export function serveGuard({ groupFd, stopFd, wakeFd, files, windows }: GuardOptions): void {
  const epoll = new Epoll();
  const guard = new Guard(groupFd, files, windows);
  try {
    epoll.add(groupFd, KEY_EVENTS);
    epoll.add(stopFd, KEY_STOP);
    epoll.add(wakeFd, KEY_WAKE);
    for (;;) {
      const ready = epoll.wait(guard.patienceMs);
      for (let i = 0; i < ready; i += 1) {
        if (epoll.key(i) === KEY_STOP) return;
        if (epoll.key(i) === KEY_WAKE) drainEventfd(wakeFd);
      }
      guard.serve();
      guard.advance();
    }
  } finally {
    guard.end();
    epoll.close();
    // Whoever still waits for an answer goes on.
    close(groupFd);
  }
}
