/** Has the VMM map into a session's DAX window what the guest wishes. For the thread that speaks with the VMM. */
import {
  type DaxWindow,
  type GuardedFiles,
  openLens,
  RANGE_BYTES,
  type WindowFile,
  type Wish,
} from '../coherence/index.ts';
import { EIO, ENOSYS, errnoName } from '../core/index.ts';
import type { RawFileSystem } from '../fs/file-system.ts';
import { close, drainEventfd, mapAt, unmapAt } from '../sys/index.ts';
import type { BackendChannel } from '../vhost/index.ts';

/** The only shared memory region of a virtio-fs device (virtio 5.11.4). */
const SHMID = 0;

/** A descriptor to map a file by, kept while a range shows the file. */
interface Lens {
  readonly key: string;
  readonly fd: number;
  readonly nodeidLo: number;
  readonly nodeidHi: number;
  /** A descriptor of the file that is guarded; -1: none is. */
  readonly guarded: number;
  uses: number;
}

/** What the VMM has, or is about to have, in a range. */
interface Range {
  readonly address: number;
  lens: Lens | undefined;
  /** Bytes that are mapped. */
  bytes: number;
  /** The wish that this is the answer to. */
  ticket: number;
  /** A message is under way. */
  busy: boolean;
  /** How often the device had been started when it was mapped. */
  starts: number;
}

export interface KeeperOptions {
  readonly window: DaxWindow;
  /** An eventfd; see `serve`. */
  readonly wakeFd: number;
  readonly fileSystem: RawFileSystem;
  /** Reserved addresses, as many as the window has bytes: what the guest has mapped is mapped there as well. */
  readonly hostAddress: number;
  /** The lens's mount. */
  readonly lensMountFd: number;
  /** Absent: nobody hears of what others do to files. */
  readonly guard: GuardedFiles | undefined;
  /** Whoever waits for a wish is to ask again. */
  readonly fulfilled: () => void;
  readonly warn: (message: string) => void;
}

export class WindowKeeper {
  readonly #options: KeeperOptions;
  readonly #ranges: Range[];
  readonly #lenses = new Map<string, Lens>();
  #channel: BackendChannel | undefined;
  /** Ranges with a lens. */
  #shown = 0;

  constructor(options: KeeperOptions) {
    this.#options = options;
    this.#ranges = Array.from({ length: options.window.count }, (_, index) => {
      const address = options.hostAddress + index * RANGE_BYTES;
      return { address, lens: undefined, bytes: 0, ticket: 0, busy: false, starts: 0 };
    });
    options.window.setWakeFd(options.wakeFd);
  }

  /** The channel to the VMM, or none any more: with it went all that was mapped. */
  setChannel(channel: BackendChannel | undefined): void {
    this.#channel = channel;
    for (const range of this.#ranges) {
      range.busy = false;
      this.#dropLens(range);
    }
    if (channel !== undefined) this.#serveAll();
  }

  /** When `wakeFd` is readable: there are new wishes. */
  serve(): void {
    drainEventfd(this.#options.wakeFd);
    this.#serveAll();
  }

  #serveAll(): void {
    for (let index = 0; index < this.#ranges.length; index += 1) this.#serveRange(index);
  }

  #serveRange(index: number): void {
    const range = this.#ranges[index];
    if (range.busy || range.ticket === this.#options.window.ticket(index)) return;
    const wish = this.#options.window.wish(index);
    if (range.lens !== undefined) this.#unmap(index, range);
    else if (wish.file === undefined) range.ticket = wish.ticket;
    else this.#map(index, range, wish, wish.file);
  }

  #unmap(index: number, range: Range): void {
    if (range.bytes === 0) {
      this.#unmapped(index, range);
      return;
    }
    range.busy = true;
    this.#channel?.unmap(SHMID, index * RANGE_BYTES, range.bytes, (ok) => {
      range.busy = false;
      if (!ok) this.#dropBefore(range.starts);
      this.#unmapped(index, range);
    });
  }

  #unmapped(index: number, range: Range): void {
    const lens = this.#takeLens(range);
    this.#serveRange(index);
    // Only now: it may have been for another part of the same file, which stays guarded all the while.
    if (lens !== undefined) this.#giveBack(lens);
  }

  /** A range is not there any more: the guest was reset, and all went that was mapped before the device was started. */
  #dropBefore(starts: number): void {
    if (starts === this.#channel?.starts) return;
    for (const range of this.#ranges) if (range.starts <= starts && !range.busy) this.#dropLens(range);
  }

  #map(index: number, range: Range, wish: Wish, file: NonNullable<Wish['file']>): void {
    const { ticket } = wish;
    const channel = this.#channel;
    range.ticket = ticket;
    if (file.bytes === 0 && this.#options.guard === undefined) {
      this.#fulfil(index, ticket, 0);
      return;
    }
    const lens = channel === undefined ? -EIO : this.#openLens(file.nodeidLo, file.nodeidHi);
    if (channel === undefined || typeof lens === 'number') {
      this.#fulfil(index, ticket, lens as number);
      return;
    }
    lens.uses += 1;
    const bytes = this.#limit(index, ticket, lens, file.bytes);
    range.lens = lens;
    range.bytes = bytes;
    range.starts = channel.starts;
    this.#setShown(this.#shown + 1);
    if (bytes === 0) {
      this.#fulfil(index, ticket, 0);
      return;
    }
    range.busy = true;
    channel.map(SHMID, lens.fd, file.offset, index * RANGE_BYTES, bytes, (ok) => {
      range.busy = false;
      // For requests whose buffer is a mapped file.
      if (ok && range.lens === lens) mapAt(range.address, lens.fd, bytes, file.offset);
      if (!ok) {
        this.#dropLens(range);
        this.#options.warn(
          `the VMM refuses to map ${bytes} bytes of a file at ${index * RANGE_BYTES} of the DAX window`,
        );
      }
      this.#fulfil(index, ticket, ok ? 0 : -EIO);
      this.#serveRange(index);
    });
  }

  /** How much to show of a file that is guarded: what others did before that is unknown to us, and to the guest. */
  #limit(index: number, ticket: number, { guarded }: Lens, bytes: number): number {
    const sizeBytes = guarded < 0 ? -1 : (this.#options.guard?.sizeOf(guarded) ?? -1);
    return sizeBytes < 0 ? bytes : this.#options.window.limit(index, ticket, sizeBytes);
  }

  #fulfil(index: number, ticket: number, result: number): void {
    this.#options.window.fulfil(index, ticket, result);
    this.#options.fulfilled();
  }

  /** The lens over an inode that the guest knows, or a negative errno. */
  #openLens(nodeidLo: number, nodeidHi: number): Lens | number {
    const key = `${nodeidLo} ${nodeidHi}`;
    const known = this.#lenses.get(key);
    if (known !== undefined) return known;
    const file = this.#options.fileSystem.openForMapping?.(nodeidLo, nodeidHi) ?? -ENOSYS;
    if (file < 0) return file;
    const guarded = this.#guard(file, { nodeidLo, nodeidHi });
    const fd = openLens(this.#options.lensMountFd, file);
    if (guarded < 0) close(file);
    const lens = { key, fd, nodeidLo, nodeidHi, guarded, uses: 0 };
    if (fd < 0) {
      this.#unguard(lens);
      return fd;
    }
    this.#lenses.set(key, lens);
    return lens;
  }

  /** Before anything of a file is shown: the descriptor that is to stay open, or -1. */
  #guard(file: number, name: WindowFile): number {
    const result = this.#options.guard?.add(file, name) ?? -ENOSYS;
    if (result === 0) return file;
    if (this.#options.guard !== undefined) {
      this.#options.warn(`a file is mapped that cannot be guarded against truncation (${errnoName(result)})`);
    }
    return -1;
  }

  #unguard(lens: Lens): void {
    if (lens.guarded < 0) return;
    this.#options.guard?.remove(lens.guarded, lens);
    close(lens.guarded);
  }

  #setShown(count: number): void {
    this.#shown = count;
    this.#options.window.setShown(count);
  }

  #dropLens(range: Range): void {
    const lens = this.#takeLens(range);
    if (lens !== undefined) this.#giveBack(lens);
  }

  #takeLens(range: Range): Lens | undefined {
    const { lens } = range;
    range.lens = undefined;
    if (lens === undefined) return undefined;
    if (range.bytes > 0) unmapAt(range.address, range.bytes);
    this.#setShown(this.#shown - 1);
    return lens;
  }

  #giveBack(lens: Lens): void {
    lens.uses -= 1;
    if (lens.uses > 0) return;
    this.#lenses.delete(lens.key);
    this.#unguard(lens);
    close(lens.fd);
  }
}
