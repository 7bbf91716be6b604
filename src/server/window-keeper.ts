/** Has the VMM map into a session's DAX window what the guest wishes. For the thread that speaks with the VMM. */
import { type DaxWindow, openLens, RANGE_BYTES, type Wish } from '../coherence/index.ts';
import { EIO, ENOSYS } from '../core/index.ts';
import type { RawFileSystem } from '../fs/file-system.ts';
import { close, drainEventfd, mapAt, unmapAt } from '../sys/index.ts';
import type { BackendChannel } from '../vhost/index.ts';

/** The only shared memory region of a virtio-fs device (virtio 5.11.4). */
const SHMID = 0;

/** A descriptor to map a file by, kept while a range shows the file. */
interface Lens {
  readonly key: string;
  readonly fd: number;
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
    range.busy = true;
    this.#channel?.unmap(SHMID, index * RANGE_BYTES, range.bytes, (ok) => {
      range.busy = false;
      this.#dropLens(range);
      if (!ok) this.#dropBefore(range.starts);
      this.#serveRange(index);
    });
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
    if (file.bytes === 0) {
      this.#fulfil(index, ticket, 0);
      return;
    }
    const lens = channel === undefined ? -EIO : this.#openLens(file.nodeidLo, file.nodeidHi);
    if (channel === undefined || typeof lens === 'number') {
      this.#fulfil(index, ticket, lens as number);
      return;
    }
    range.lens = lens;
    lens.uses += 1;
    range.bytes = file.bytes;
    range.starts = channel.starts;
    range.busy = true;
    this.#setShown(this.#shown + 1);
    channel.map(SHMID, lens.fd, file.offset, index * RANGE_BYTES, file.bytes, (ok) => {
      range.busy = false;
      // For requests whose buffer is a mapped file.
      if (ok && range.lens === lens) mapAt(range.address, lens.fd, file.bytes, file.offset);
      if (!ok) {
        this.#dropLens(range);
        this.#options.warn(
          `the VMM refuses to map ${file.bytes} bytes of a file at ${index * RANGE_BYTES} of the DAX window`,
        );
      }
      this.#fulfil(index, ticket, ok ? 0 : -EIO);
      this.#serveRange(index);
    });
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
    const fd = openLens(this.#options.lensMountFd, file);
    close(file);
    if (fd < 0) return fd;
    const lens = { key, fd, uses: 0 };
    this.#lenses.set(key, lens);
    return lens;
  }

  #setShown(count: number): void {
    this.#shown = count;
    this.#options.window.setShown(count);
  }

  #dropLens(range: Range): void {
    const { lens } = range;
    range.lens = undefined;
    if (lens === undefined) return;
    unmapAt(range.address, range.bytes);
    this.#setShown(this.#shown - 1);
    lens.uses -= 1;
    if (lens.uses > 0) return;
    this.#lenses.delete(lens.key);
    close(lens.fd);
  }
}
