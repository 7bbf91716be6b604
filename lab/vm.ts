import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { chooseAccelerator } from './accelerator.ts';
import { removeAtExit, undoAtExit } from './cleanup.ts';
import { Console } from './console.ts';
import type { CpioEntry } from './cpio.ts';
import { type Disk, makeDisk, mountDisk } from './disk.ts';
import { LabError } from './errors.ts';
import { NODE_MEMORY_MIB, nodeForGuest } from './guest-node.ts';
import { DEFAULT_LANES, initramfs } from './guest-root.ts';
import { endingWithUs } from './guard.ts';
import { findBusybox, findKernel, findQemu } from './host.ts';
import { Lane, type RunOptions, type RunResult } from './lane.ts';
import {
  kernelArguments,
  laneFds,
  machineArguments,
  NINE_P_OPTIONS,
  QMP_FD,
  type Share,
  TERMINAL_FD,
} from './machine.ts';
import { type Progress, silent } from './progress.ts';
import { Qmp } from './qmp.ts';
import { shellQuoted } from './quote.ts';

/** What kind of machine to boot. Everything has a default. */
export interface BootOptions {
  /** A version (11.1, 10.0, 7.2), a path, or absent for VIRTIOFS_QEMU, the machine's own or the default. */
  readonly qemu?: string;
  /** A version (6.12, 7.3), a path, or absent for VIRTIOFS_KERNEL or the default. */
  readonly kernel?: string;
  /** Absent: KVM where it works, else TCG. */
  readonly accel?: 'kvm' | 'tcg';
  /** Default 512; 1024 with `node`. */
  readonly memoryMiB?: number;
  /** Default 1. */
  readonly cpus?: number;
  readonly shares?: readonly Share[];
  /** Local filesystems, to compare a share with. */
  readonly disks?: readonly Disk[];
  /** The tag of the share that is the guest's root filesystem; writeGuestRoot() fills its folder. */
  readonly rootTag?: string;
  /** A tree from fetchTools(): its programs are in the guest. */
  readonly tools?: string;
  /** True: the guest (whose root is no share) has this project in GUEST_PROJECT, and `node` to run it. */
  readonly node?: boolean;
  /** More files for the guest's root. */
  readonly files?: readonly CpioEntry[];
  readonly kernelArguments?: string;
  readonly extraArgs?: readonly string[];
  /** False makes guest memory private to QEMU, as people do by mistake. */
  readonly sharedMemory?: boolean;
  /** How many commands can run at once, default 3. */
  readonly lanes?: number;
  /** Time until the guest takes commands and has mounted its shares, default 60 s. */
  readonly bootLimitMs?: number;
  /** Lifetime of the whole machine, default 10 minutes; Infinity for none. QEMU is killed when it is over. */
  readonly timeLimitMs?: number;
  readonly progress?: Progress;
}

/** How QEMU ended. */
export interface MachineEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

const TAIL_LINES = 40;
const BOOT_LIMIT_MS = 60_000;
const TIME_LIMIT_MS = 600_000;
const RUN_LIMIT_MS = 60_000;
const STOP_LIMIT_MS = 5_000;

/** An error of a guest; its message ends with the last lines of the guest's console. */
export class GuestError extends LabError {
  override readonly name = 'GuestError';
}

/** A running guest. */
export class Vm {
  readonly pid: number;
  readonly accel: 'kvm' | 'tcg';
  readonly qemuVersion: string;
  /** Milliseconds from the start of QEMU to the guest taking commands. */
  bootMs = 0;
  /** Resolves when QEMU has ended, however. */
  readonly exited: Promise<MachineEnd>;
  readonly #child: ChildProcess;
  readonly #console = new Console();
  readonly #qmp: Qmp;
  readonly #lanes: Lane[];
  readonly #idle: Lane[] = [];
  readonly #queue: ((lane: Lane) => void)[] = [];
  readonly #shares: readonly Share[];
  readonly #disks: readonly Disk[];
  #stderr = '';
  #ended: MachineEnd | undefined;
  #stuck = 0;
  /** Rejects when the guest cannot go on: panic, end of QEMU, end of time. */
  readonly #failed = Promise.withResolvers<never>();

  /** @internal boot() makes it. */
  constructor(child: ChildProcess, plan: Plan, forget: () => void) {
    this.#child = child;
    this.pid = child.pid ?? -1;
    this.accel = plan.accel;
    this.qemuVersion = plan.qemuVersion;
    this.#shares = plan.shares;
    this.#disks = plan.disks;
    this.#failed.promise.catch(() => {});
    this.exited = new Promise((resolve) => {
      const over = (code: number | null, signal: NodeJS.Signals | null): void => {
        if (this.#ended !== undefined) return;
        this.#ended = { code, signal };
        this.#failed.reject(
          this.#error('EXITED', `QEMU ended${code === null ? ` by ${signal}` : ` with exit code ${code}`}`),
        );
        clearTimeout(timer);
        forget();
        resolve(this.#ended);
      };
      child.once('close', over);
      child.once('error', (error) => {
        this.#stderr += error.message;
        over(-1, null);
      });
    });
    const timer = setTimeout(
      () => this.#giveUp('TIME', `the guest's time of ${plan.timeLimitMs} ms is over`),
      timerMs(plan.timeLimitMs),
    );
    timer.unref();
    child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#console.add(text));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.#console.watch(() => {
      const panic = this.#console.panic;
      // The kernel prints more after that line, which tells more.
      if (panic !== undefined)
        setTimeout(() => this.#giveUp('PANIC', `the guest's kernel gave up: ${panic}`), 300).unref();
    });
    this.#qmp = new Qmp(child.stdio[QMP_FD] as Duplex);
    this.terminal.on('error', () => {});
    this.terminal.on('data', () => {});
    this.#lanes = Array.from({ length: plan.lanes }, (_, number) => {
      const { io, err } = laneFds(number);
      return new Lane(child.stdio[io] as Duplex, child.stdio[err] as Readable, plan.inputPath(number));
    });
  }

  /** The whole text of the guest's console so far. */
  get console(): string {
    return this.#console.text;
  }

  /** What QEMU itself printed. */
  get qemuMessages(): string {
    return this.#stderr;
  }

  /** The guest's interactive console (hvc0), a terminal: raw bytes both ways. */
  get terminal(): Duplex {
    return this.#child.stdio[TERMINAL_FD] as Duplex;
  }

  /** How QEMU ended, or undefined while it runs. */
  get ended(): MachineEnd | undefined {
    return this.#ended;
  }

  /** @internal Waits for the guest and mounts its shares. */
  async start(began: number, limitMs: number): Promise<void> {
    await this.#within(limitMs, 'the guest did not come up', this.#lanesReady());
    this.bootMs = performance.now() - began;
    await this.#mountShares();
  }

  /**
   * Runs a shell script (BusyBox ash) in the guest, as root in /. Several run at once, as many as there are lanes.
   *
   * @throws GuestError when the time is over or the guest is; a bad exit code is a result.
   */
  async run(script: string, options: RunOptions = {}): Promise<RunResult> {
    const limitMs = options.timeoutMs ?? RUN_LIMIT_MS;
    const lane = await this.#lane(limitMs);
    try {
      const result = await this.#within(
        limitMs,
        `'${firstLine(script)}' did not end in the guest`,
        lane.run(script, options),
      );
      this.#release(lane);
      return result;
    } catch (error) {
      // The script may still run there: the lane is lost.
      this.#stuck += 1;
      throw error;
    }
  }

  /**
   * Runs a script every command of which must succeed (set -e).
   *
   * @returns its standard output without the last newline.
   */
  async sh(script: string, options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(`set -e\n${script}`, options);
    if (code !== 0)
      throw this.#error('COMMAND', `'${firstLine(script)}' ended with ${code} in the guest\n${stderr}${stdout}`);
    return stdout.replace(/\n$/, '');
  }

  /** A command of QEMU's machine protocol. */
  qmp(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    return this.#within(STOP_LIMIT_MS * 2, `QEMU did not answer ${command}`, this.#qmp.command(command, args));
  }

  /** Presses the reset button and waits until the guest is there again, with its shares mounted. */
  async reset(limitMs = BOOT_LIMIT_MS): Promise<void> {
    this.#expectRestart();
    await this.qmp('system_reset');
    await this.start(performance.now(), limitMs);
  }

  /** Lets the guest reboot itself (orderly for its devices), and waits until it is there again. */
  async reboot(limitMs = BOOT_LIMIT_MS): Promise<void> {
    const lane = await this.#lane(limitMs);
    this.#expectRestart();
    lane.run('reboot -f', {}).catch(() => {});
    for (const each of this.#lanes) each.reset();
    await this.start(performance.now(), limitMs);
  }

  /** Unmounts in the guest, then ends QEMU; kills it when it does not listen. */
  async stop(): Promise<MachineEnd> {
    if (this.#ended !== undefined) return this.#ended;
    const points = [...this.#shares, ...this.#disks].flatMap(({ mountPoint }) => mountPoint ?? []).toReversed();
    if (points.length > 0 && this.#stuck === 0) {
      await this.run(points.map((point) => `umount ${shellQuoted(point)}`).join('\n'), {
        timeoutMs: STOP_LIMIT_MS,
      }).catch(() => {});
    }
    this.#qmp.command('quit').catch(() => {});
    await Promise.race([this.exited, sleep(STOP_LIMIT_MS, undefined, { ref: false })]);
    return this.kill();
  }

  /** Ends QEMU at once, as a power cut would. A QEMU whose daemon does not answer ends by nothing else. */
  kill(): Promise<MachineEnd> {
    if (this.#ended === undefined) this.#child.kill('SIGKILL');
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #mountShares(): Promise<void> {
    for (const { kind = 'virtiofs', tag, mountPoint, mountOptions } of this.#shares) {
      if (mountPoint === undefined) continue;
      const all = [kind === '9p' ? NINE_P_OPTIONS : undefined, mountOptions].filter((each) => each !== undefined);
      const options = all.length === 0 ? '' : `-o ${shellQuoted(all.join(','))} `;
      const point = shellQuoted(mountPoint);
      await this.sh(`mkdir -p ${point} && mount -t ${kind} ${options}${shellQuoted(tag)} ${point}`);
    }
    for (const [index, disk] of this.#disks.entries()) await this.sh(mountDisk(disk, index));
  }

  async #lanesReady(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => lane.ready));
    this.#idle.push(...this.#lanes);
  }

  #expectRestart(): void {
    this.#idle.length = 0;
    this.#stuck = 0;
    for (const lane of this.#lanes) lane.reset();
  }

  /** A lane that is free, or gets free within the limit. */
  async #lane(limitMs: number): Promise<Lane> {
    const lane = this.#idle.shift();
    if (lane !== undefined) return lane;
    if (this.#stuck === this.#lanes.length) throw this.#error('BUSY', 'earlier commands never ended in the guest');
    const free = Promise.withResolvers<Lane>();
    this.#queue.push(free.resolve);
    try {
      return await this.#within(limitMs, 'the guest took no command', free.promise);
    } catch (error) {
      const place = this.#queue.indexOf(free.resolve);
      if (place >= 0) this.#queue.splice(place, 1);
      throw error;
    }
  }

  #release(lane: Lane): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#idle.push(lane);
    else next(lane);
  }

  /** Waits, but not longer than the limit nor than the guest lives. */
  async #within<T>(limitMs: number, what: string, work: Promise<T>): Promise<T> {
    const over = Promise.withResolvers<never>();
    const timer = setTimeout(() => over.reject(this.#error('TIME', `${what} within ${limitMs} ms`)), timerMs(limitMs));
    work.catch(() => {});
    try {
      return await Promise.race([work, over.promise, this.#failed.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  #giveUp(code: string, message: string): void {
    this.#failed.reject(this.#error(code, message));
    void this.kill();
  }

  #error(code: string, message: string): GuestError {
    const said = this.#stderr.trim() === '' ? '' : `\n--- QEMU said ---\n${this.#stderr.trim()}`;
    const tail = this.#console.tail(TAIL_LINES);
    const shown = tail === '' ? '' : `\n--- the end of the guest's console ---\n${tail}`;
    return new GuestError(code, `${message}${said}${shown}`);
  }
}

/** setTimeout's longest time is 2^31 - 1 ms: longer, and Infinity, mean for ever. */
function timerMs(milliseconds: number): number {
  return Math.min(milliseconds, 2 ** 31 - 1);
}

function firstLine(script: string): string {
  const [line = '', ...more] = script.trim().split('\n');
  return more.length > 0 || line.length > 100 ? `${line.slice(0, 100)} ...` : line;
}

interface Plan {
  readonly command: readonly string[];
  readonly qemuVersion: string;
  readonly accel: 'kvm' | 'tcg';
  readonly shares: readonly Share[];
  readonly disks: readonly Disk[];
  readonly lanes: number;
  readonly timeLimitMs: number;
  readonly inputPath: (lane: number) => string;
}

async function makePlan(options: BootOptions, folder: string): Promise<Plan> {
  const fetching = { progress: options.progress ?? silent };
  const dax = options.shares?.some((share) => share.kind !== '9p' && share.dax) ?? false;
  const qemu = await findQemu(options.qemu, { ...fetching, dax });
  const kernel = await findKernel(options.kernel, fetching);
  const accel = options.accel ?? (await chooseAccelerator(qemu, kernel)).kind;
  const lanes = options.lanes ?? DEFAULT_LANES;
  const shares = options.shares ?? [];
  let initramfsPath: string | undefined;
  if (options.rootTag === undefined) {
    initramfsPath = join(folder, 'initramfs');
    const busybox = await findBusybox(fetching);
    const files = [...(options.node ? await nodeForGuest(fetching) : []), ...(options.files ?? [])];
    writeFileSync(initramfsPath, initramfs({ busybox, lanes, tools: options.tools, modules: kernel.modules, files }));
  }
  const disks = options.disks ?? [];
  const diskPaths = disks.map((_, index) => join(folder, `disk${index}`));
  for (const [index, disk] of disks.entries()) await makeDisk(diskPaths[index] ?? '', disk, fetching);
  const inputPath = (lane: number): string => join(folder, `in${lane}`);
  const args = machineArguments({
    ...{
      accel,
      lanes,
      shares,
      diskPaths,
      inputPath,
      initramfsPath,
      kernelPath: kernel.path,
      qemuVersion: qemu.version,
    },
    memoryMiB: options.memoryMiB ?? (options.node ? NODE_MEMORY_MIB : 512),
    cpus: options.cpus ?? 1,
    kernelArguments: kernelArguments(options.rootTag, options.kernelArguments ?? ''),
    sharedMemory: options.sharedMemory,
    extraArgs: options.extraArgs,
  });
  const timeLimitMs = options.timeLimitMs ?? TIME_LIMIT_MS;
  return {
    command: endingWithUs([...qemu.command, ...args], 'KILL'),
    qemuVersion: qemu.version,
    accel,
    shares,
    disks,
    lanes,
    timeLimitMs,
    inputPath,
  };
}

/**
 * Boots a guest and mounts its shares. The daemons' sockets must exist.
 *
 * @throws GuestError when the guest does not come up, LabError when QEMU or a kernel is missing.
 */
export async function boot(options: BootOptions = {}): Promise<Vm> {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-vm-'));
  const removeFolder = removeAtExit(folder);
  try {
    const made = await makePlan(options, folder);
    const [program = '', ...args] = made.command;
    const began = performance.now();
    const sockets = Array.from({ length: 2 + 2 * made.lanes }, () => 'pipe' as const);
    // A group of its own: Ctrl-C on the terminal must reach us first, and the guest's programs not at all.
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe', ...sockets], detached: true });
    const forget = undoAtExit(() => child.kill('SIGKILL'));
    const vm = new Vm(child, made, forget);
    void vm.exited.then(removeFolder);
    try {
      await vm.start(began, options.bootLimitMs ?? BOOT_LIMIT_MS);
    } catch (error) {
      await vm.kill();
      throw error;
    }
    return vm;
  } catch (error) {
    removeFolder();
    throw error;
  }
}
