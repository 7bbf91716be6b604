/** fanotify(7): what others are about to do to files, and leave to do it. Constants of linux/fanotify.h. */
import { bind, check, I, U2 } from './ffi.ts';
import { read, write } from './files.ts';
import { Arena } from './memory.ts';

// fanotify_init(2).
export const FAN_CLOEXEC = 0x1;
export const FAN_NONBLOCK = 0x2;
export const FAN_CLASS_PRE_CONTENT = 0x8;
/** Events tell the thread, not its process. */
export const FAN_REPORT_TID = 0x100;

// fanotify_mark(2).
export const FAN_MARK_ADD = 0x1;
export const FAN_MARK_REMOVE = 0x2;
/** After a write, or a change of what is allocated; truncate(2) is not among them. */
export const FAN_MODIFY = 0x2;
export const FAN_OPEN_PERM = 0x10000;
/** Linux 6.14: before content is read or changed. */
export const FAN_PRE_ACCESS = 0x100000;

const FAN_ALLOW = 1;
const FAN_EVENT_INFO_TYPE_RANGE = 6;

const libcInit = bind('fanotify_init', 2);
/** fanotify_init(2): a group, or a negative errno. `eventFlags`: of the descriptors that come with events. */
export const fanotifyInit = (flags: number, eventFlags: number): number => check(libcInit(I(flags), I(eventFlags)));

const libcMark = bind('fanotify_mark', 5);
/** fanotify_mark(2) of the file of `fd` itself, which is not O_PATH. */
export const fanotifyMark = (groupFd: number, flags: number, mask: number, fd: number): number =>
  check(libcMark(I(groupFd), I(flags), U2(mask, 0), I(fd), 0n));

// struct fanotify_event_metadata, and what follows it in struct fanotify_event_info_range.
const MASK = 8;
const FD = 16;
const PID = 20;
const METADATA_BYTES = 24;
const RANGE_BYTES = 24;
const RANGE_OFFSET = 8;
const RANGE_COUNT = 16;
/**
 * As few as may be, as each event comes with a descriptor, and who cannot have one is refused what he was about to do:
 * room for one with a range, and so for two without.
 */
const READ_BYTES = METADATA_BYTES + RANGE_BYTES;

/** The events of a group, one at a time. */
export class FanotifyEvents {
  readonly #groupFd: number;
  readonly #arena = new Arena(256);
  readonly #view = this.#arena.view;
  readonly #readAt = this.#arena.reserve(READ_BYTES);
  readonly #responseAt = this.#arena.reserve(8);
  /** The event that was taken last, and where those end that were read with it. */
  #at = this.#readAt;
  #end = this.#readAt;

  constructor(groupFd: number) {
    this.#groupFd = groupFd;
  }

  /** Takes the next event: 1, 0 where there is none now (FAN_NONBLOCK), or a negative errno. */
  next(): number {
    if (this.#at < this.#end) this.#at += this.#bytes;
    if (this.#at < this.#end) return 1;
    const length = read(this.#groupFd, this.#arena.address + this.#readAt, READ_BYTES);
    this.#at = this.#readAt;
    this.#end = this.#readAt + Math.max(length, 0);
    return length > 0 ? 1 : length;
  }

  // Of the event that was taken last.

  get mask(): number {
    return this.#view.getUint32(this.#at + MASK, true);
  }

  /** A descriptor of the file, the caller's to close; what is done through it makes no events. */
  get fd(): number {
    return this.#view.getInt32(this.#at + FD, true);
  }

  /** The process, or with FAN_REPORT_TID the thread; 0 for one of a PID namespace that is not below ours. */
  get pid(): number {
    return this.#view.getInt32(this.#at + PID, true);
  }

  /** What FAN_PRE_ACCESS is about, in whole pages: bytes from the beginning of the file; -1 without. */
  get offset(): number {
    return this.#hasRange ? Number(this.#view.getBigUint64(this.#at + METADATA_BYTES + RANGE_OFFSET, true)) : -1;
  }

  get count(): number {
    return this.#hasRange ? Number(this.#view.getBigUint64(this.#at + METADATA_BYTES + RANGE_COUNT, true)) : -1;
  }

  get #bytes(): number {
    return this.#view.getUint32(this.#at, true);
  }

  get #hasRange(): boolean {
    if (this.#bytes < METADATA_BYTES + RANGE_BYTES) return false;
    return this.#view.getUint8(this.#at + METADATA_BYTES) === FAN_EVENT_INFO_TYPE_RANGE;
  }

  /** Lets whoever waits for the answer to a permission event go on. `fd`: of the event. */
  allow(fd: number): number {
    this.#view.setInt32(this.#responseAt, fd, true);
    this.#view.setUint32(this.#responseAt + 4, FAN_ALLOW, true);
    return write(this.#groupFd, this.#arena.address + this.#responseAt, 8);
  }
}
