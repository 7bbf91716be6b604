/** One folder in several guests, by this project's daemon and by others, to be measured in turn. */
import { randomBytes } from 'node:crypto';
import { chmodSync, closeSync, mkdirSync, mkdtempSync, openSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  boot,
  type Daemon,
  fetchTools,
  findVirtiofsd,
  progressTo,
  removeAtExit,
  type Share,
  startDaemon,
  type Vm,
} from '../lab/index.ts';

/** The folder in a guest. */
export interface Contestant {
  readonly label: string;
  readonly vm: Vm;
  readonly mountPoint: string;
  /** This project's daemon, which counts. */
  readonly daemon?: Daemon;
}

export interface ContestantOptions {
  /** Sizes of files to be in the folder, by their names; the host has them in its page cache. */
  readonly files: ReadonlyMap<string, number>;
  /** Sizes of DAX windows, a guest each. */
  readonly windows: readonly string[];
  /** --cache of this project's daemon and of virtiofsd. */
  readonly cache: string;
  /** The program of Rust virtiofsd; absent: found. */
  readonly virtiofsd?: string;
}

/** The only kernel of the lab with all of them. */
const KERNEL = '6.12-generic';
const CPUS = 4;
const MEMORY_MIB = 1024;
const BOOT_LIMIT_MS = 180_000;
const CHUNK_BYTES = 2 ** 20;
const NINE_P_CACHES = ['mmap', 'loose'];

export class Contest {
  readonly contestants: Contestant[] = [];
  readonly #options: ContestantOptions;
  readonly #folder = mkdtempSync(join(tmpdir(), 'virtiofs-contest-'));
  readonly #shared = join(this.#folder, 'share');
  readonly #remove = removeAtExit(this.#folder);
  readonly #daemons: Daemon[] = [];
  readonly #vms: Vm[] = [];

  private constructor(options: ContestantOptions) {
    this.#options = options;
  }

  /** Boots all guests. */
  static async open(options: ContestantOptions): Promise<Contest> {
    const contest = new Contest(options);
    try {
      contest.#fill();
      for (const window of options.windows) await contest.#addWindow(window);
      await contest.#addOthers();
      return contest;
    } catch (error) {
      await contest.close();
      throw error;
    }
  }

  /** Ends all guests and daemons. */
  async close(): Promise<void> {
    await Promise.all(this.#vms.map((vm) => vm.stop()));
    await Promise.all(this.#daemons.map((daemon) => daemon.stop()));
    this.#remove();
  }

  #fill(): void {
    mkdirSync(this.#shared);
    chmodSync(this.#folder, 0o711);
    for (const [name, sizeBytes] of this.#options.files) {
      const fd = openSync(join(this.#shared, name), 'w');
      for (let at = 0; at < sizeBytes; at += CHUNK_BYTES) writeSync(fd, randomBytes(CHUNK_BYTES));
      closeSync(fd);
    }
  }

  async #serve(tag: string, args: readonly string[], command?: readonly string[]): Promise<[string, Daemon]> {
    const socketPath = join(this.#folder, tag);
    const { cache } = this.#options;
    const daemon = await startDaemon({ sharedDir: this.#shared, socketPaths: [socketPath], cache, args, command });
    this.#daemons.push(daemon);
    return [socketPath, daemon];
  }

  async #boot(shares: readonly Share[]): Promise<Vm> {
    const progress = progressTo(process.stderr);
    const { tree } = await fetchTools(['fio'], { progress });
    const machine = { kernel: KERNEL, cpus: CPUS, memoryMiB: MEMORY_MIB, tools: tree, progress };
    const vm = await boot({ ...machine, shares, bootLimitMs: BOOT_LIMIT_MS, timeLimitMs: Infinity });
    this.#vms.push(vm);
    return vm;
  }

  /** In a guest of its own: QEMU tells every vhost-user device of a guest of each range that one has mapped. */
  async #addWindow(size: string): Promise<void> {
    const tag = `dax${size}`;
    const mountPoint = `/mnt/${tag}`;
    const [socketPath, daemon] = await this.#serve(tag, ['--tag', tag, '--dax-window', size]);
    const vm = await this.#boot([{ socketPath, tag, dax: true, mountPoint, mountOptions: 'dax=always' }]);
    this.contestants.push({ label: `virtiofs, DAX window of ${size}`, vm, mountPoint, daemon });
  }

  /** One guest: a share that nobody uses takes nothing from the others. */
  async #addOthers(): Promise<void> {
    const { virtiofsd } = this.#options;
    const [ours, daemon] = await this.#serve('ours', []);
    const command = virtiofsd === undefined ? await findVirtiofsd() : [virtiofsd];
    const [theirs] = await this.#serve('theirs', ['--sandbox', 'chroot'], command);
    const vm = await this.#boot([
      { socketPath: ours, tag: 'ours', mountPoint: '/mnt/ours' },
      { socketPath: theirs, tag: 'theirs', mountPoint: '/mnt/theirs' },
      ...NINE_P_CACHES.map((cache) => {
        const options = { mountPoint: `/mnt/${cache}`, mountOptions: `cache=${cache}` };
        return { kind: '9p', sharedDir: this.#shared, tag: cache, ...options } as const;
      }),
    ]);
    this.contestants.push(
      { label: 'virtiofs, no DAX', vm, mountPoint: '/mnt/ours', daemon },
      { label: 'Rust virtiofsd', vm, mountPoint: '/mnt/theirs' },
      ...NINE_P_CACHES.map((cache) => ({ label: `9p, cache=${cache}`, vm, mountPoint: `/mnt/${cache}` })),
    );
  }
}
