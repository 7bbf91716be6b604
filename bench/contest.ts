/** One folder in several guests, by this project's daemon and by others, to be measured in turn. */
import { chmodSync, mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  boot,
  type BootOptions,
  type Daemon,
  fetchTools,
  type Progress,
  removeAtExit,
  type Share,
  silent,
  startDaemon,
  type Vm,
} from '../lab/index.ts';
import { leaveOut, someoneIsLeft } from './left-out.ts';
import { type Peer, sandboxOf } from './peer.ts';
import type { Plan } from './plans.ts';
import type { LeftOut } from './results.ts';

/** The folder in a guest. */
export interface Contestant {
  readonly plan: Plan;
  readonly vm: Vm;
  readonly mountPoint: string;
  /** Absent for 9p, which QEMU serves. */
  readonly daemon?: Daemon;
}

export interface ContestOptions {
  readonly plans: readonly Plan[];
  /** Rust virtiofsd, where it takes part. */
  readonly peer?: Peer;
  /** Where the folder is made; absent: TMPDIR. */
  readonly parent?: string;
  /** Debian packages whose programs the guests need. */
  readonly packages: readonly string[];
  /** More of the guests. */
  readonly machine?: Pick<BootOptions, 'node' | 'files' | 'memoryMiB' | 'cpus'>;
  /** Fills the shared folder before anybody sees it. */
  readonly fill?: (sharedDir: string) => Promise<void> | void;
  readonly progress?: Progress;
}

/** The only kernel of the lab with 9p. */
const KERNEL = '6.12-generic';
const CPUS = 4;
const MEMORY_MIB = 1024;
const BOOT_LIMIT_MS = 180_000;

export class Contest {
  readonly contestants: Contestant[] = [];
  /** Plans that are not among them, because this machine could not start them. */
  readonly leftOut: LeftOut[] = [];
  /** The folder on the host. */
  readonly sharedDir: string;
  readonly #options: ContestOptions;
  readonly #folder: string;
  readonly #remove: () => void;
  readonly #daemons: Daemon[] = [];
  readonly #vms: Vm[] = [];

  private constructor(options: ContestOptions) {
    this.#options = options;
    this.#folder = mkdtempSync(join(options.parent ?? tmpdir(), 'virtiofs-contest-'));
    this.sharedDir = join(this.#folder, 'share');
    this.#remove = removeAtExit(this.#folder);
  }

  /** Boots all guests, one after another. Throws LabError where nobody can be started, or a guest of several. */
  static async open(options: ContestOptions): Promise<Contest> {
    const contest = new Contest(options);
    try {
      mkdirSync(contest.sharedDir);
      chmodSync(contest.#folder, 0o711);
      await options.fill?.(contest.sharedDir);
      const { plans } = options;
      await contest.#boot(plans.filter(({ daxWindow }) => daxWindow === undefined));
      // A guest for each window: QEMU tells every vhost-user device of a guest of each range that one has mapped.
      for (const plan of plans)
        if (plan.daxWindow !== undefined) await contest.#orLeaveOut(plan, () => contest.#boot([plan]));
      someoneIsLeft(contest.contestants.length, contest.leftOut);
      const order = plans.map(({ id }) => id);
      contest.contestants.sort((a, b) => order.indexOf(a.plan.id) - order.indexOf(b.plan.id));
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

  async #orLeaveOut(plan: Plan, start: () => Promise<void>): Promise<void> {
    try {
      await start();
    } catch (error) {
      this.leftOut.push(leaveOut(plan.label, error, this.#options.progress ?? silent));
    }
  }

  /** One guest with all of them: a share that nobody uses takes nothing from the others. */
  async #boot(plans: readonly Plan[]): Promise<void> {
    const { packages, progress = silent, machine } = this.#options;
    const served: { plan: Plan; share: Share; daemon?: Daemon }[] = [];
    for (const plan of plans) {
      await this.#orLeaveOut(plan, async () => void served.push({ plan, ...(await this.#serve(plan)) }));
    }
    if (served.length === 0) return;
    const tools = packages.length === 0 ? undefined : (await fetchTools(packages, { progress })).tree;
    const vm = await boot({
      cpus: CPUS,
      memoryMiB: MEMORY_MIB,
      ...machine,
      kernel: KERNEL,
      tools,
      progress,
      shares: served.map(({ share }) => share),
      bootLimitMs: BOOT_LIMIT_MS,
      timeLimitMs: Number.POSITIVE_INFINITY,
    });
    this.#vms.push(vm);
    for (const { plan, daemon } of served) {
      this.contestants.push({ plan, vm, daemon, mountPoint: mountPointOf(plan) });
    }
  }

  async #serve(plan: Plan): Promise<{ share: Share; daemon?: Daemon }> {
    const { id, kind, cache, writeback, daxWindow, queues } = plan;
    const mountPoint = mountPointOf(plan);
    const { sharedDir } = this;
    if (kind === '9p') return { share: { kind, sharedDir, tag: id, mountPoint, mountOptions: `cache=${cache}` } };
    const socketPath = join(this.#folder, id);
    const args = [
      ...(writeback ? ['--writeback'] : []),
      ...(kind === 'virtiofsd' ? ['--sandbox', sandboxOf(process.getuid?.())] : []),
      ...(daxWindow === undefined ? [] : ['--tag', id, '--dax-window', daxWindow]),
    ];
    const command = kind === 'virtiofs' ? undefined : this.#options.peer?.command;
    const daemon = await startDaemon({ sharedDir, socketPaths: [socketPath], cache, args, command });
    this.#daemons.push(daemon);
    const dax = daxWindow === undefined ? {} : { dax: true, mountOptions: 'dax=always' };
    return { share: { socketPath, tag: id, mountPoint, queues, ...dax }, daemon };
  }
}

function mountPointOf({ id }: Plan): string {
  return `/mnt/${id}`;
}
