import { chmodSync, mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeAtExit } from './cleanup.ts';
import { type Daemon, startDaemon } from './daemon.ts';
import { LabError } from './errors.ts';
import { exec } from './exec.ts';
import { writeGuestRoot } from './guest-root.ts';
import { findBusybox } from './host.ts';
import { shellQuoted } from './quote.ts';
import { boot, type BootOptions, type Vm } from './vm.ts';

/** A stage for a test: a shared folder, a daemon, and guests that have it mounted. */
export interface SceneOptions extends Omit<BootOptions, 'shares' | 'rootTag'> {
  /** Request queues of each guest, default 1. */
  readonly queues?: number;
  readonly queueSize?: number;
  /** True: guests have the device that can have a window for DAX. */
  readonly dax?: boolean;
  /** Size of that window, such as `512M`; implies `dax`. */
  readonly daxWindow?: string;
  /** The daemon's --cache, default auto. */
  readonly cache?: string;
  /** For `mount -o`. */
  readonly mountOptions?: string;
  /** False leaves the mounting to the test. */
  readonly mount?: boolean;
  /** True: the share is the guest's root filesystem. */
  readonly root?: boolean;
  /** How many guests share the folder, each by a socket of its own; default 1. */
  readonly guests?: number;
  readonly daemonArgs?: readonly string[];
  /** Another daemon; default this project's own. */
  readonly daemonCommand?: readonly string[];
  /** Fills the shared folder before the daemon starts. */
  readonly prepare?: (folder: string) => void | Promise<void>;
}

/** The host's half. */
export interface Host {
  /** The shared folder. */
  readonly folder: string;
  /** A path in it. */
  path(...names: string[]): string;
  /** Runs a shell script in it, every command of which must succeed (set -e). @returns its output, as Vm.sh does. */
  sh(script: string, options?: { timeoutMs?: number }): Promise<string>;
}

/** What a guest sees. */
export interface SceneShare {
  readonly tag: string;
  /** `/mnt/share`, or `/` when the share is the root filesystem. */
  readonly mountPoint: string;
}

/** The stage, set. */
export interface Scene {
  /** The first guest. */
  readonly vm: Vm;
  readonly vms: readonly Vm[];
  readonly daemon: Daemon;
  readonly host: Host;
  readonly share: SceneShare;
  /** The daemon's sockets, one for each guest. */
  readonly socketPaths: readonly string[];
}

const TAG = 'share';
const MOUNT_POINT = '/mnt/share';
const HOST_LIMIT_MS = 120_000;
const END_LIMIT_MS = 10_000;

function hostHalf(folder: string): Host {
  return {
    folder,
    path: (...names) => join(folder, ...names),
    async sh(script, { timeoutMs = HOST_LIMIT_MS } = {}) {
      const { code, stdout, stderr } = await exec('sh', ['-ec', script], { cwd: folder, timeoutMs });
      if (code !== 0) throw new LabError('COMMAND', `'${script}' ended with ${code} on the host\n${stderr}${stdout}`);
      return stdout.replace(/\n$/, '');
    },
  };
}

const hasDax = ({ dax, daxWindow }: SceneOptions): boolean => dax === true || daxWindow !== undefined;

/** What the daemon must be told for DAX: its device has no name of its own. */
function daxArguments(options: SceneOptions): string[] {
  const { daxWindow, queues = 1 } = options;
  if (!hasDax(options)) return [];
  return [
    '--tag',
    TAG,
    '--request-queues',
    `${queues}`,
    ...(daxWindow === undefined ? [] : ['--dax-window', daxWindow]),
  ];
}

/** Boots one more guest for a socket of a scene's daemon; the scene does not end it. */
export function bootGuest(options: SceneOptions, socketPath: string): Promise<Vm> {
  const { root = false, mount = true, queues, queueSize, mountOptions } = options;
  const mountPoint = mount && !root ? MOUNT_POINT : undefined;
  const dax = hasDax(options);
  const shares = [{ socketPath, tag: TAG, queues, queueSize, dax, mountPoint, mountOptions }];
  return boot({ ...options, shares, rootTag: root ? TAG : undefined });
}

/** A scene with what it takes to end it. */
export interface OpenScene extends Scene {
  /**
   * Unmounts, ends the guests and waits for the daemon, which must end by itself with exit code 0.
   *
   * @throws LabError when any of this fails; everything is gone nevertheless.
   */
  close(): Promise<void>;
  /** Ends everything at once and checks nothing. */
  abandon(): Promise<void>;
}

/** Sets the stage. */
export async function openScene(options: SceneOptions = {}): Promise<OpenScene> {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-scene-'));
  const removeFolder = removeAtExit(folder);
  const shared = join(folder, 'share');
  const vms: Vm[] = [];
  let daemon: Daemon | undefined;
  const abandon = async (): Promise<void> => {
    await Promise.all(vms.map((vm) => vm.kill()));
    await daemon?.kill();
    removeFolder();
  };
  try {
    // Guest users other than root shall get in: the folder around it is private.
    mkdirSync(shared);
    chmodSync(shared, 0o755);
    chmodSync(folder, 0o711);
    if (options.root === true) writeGuestRoot(shared, { busybox: await findBusybox(options), lanes: options.lanes });
    await options.prepare?.(shared);
    const socketPaths = Array.from({ length: options.guests ?? 1 }, (_, number) => join(folder, `fs${number}`));
    const { cache, daemonArgs, daemonCommand } = options;
    // A scene is short, and its guests want the processors.
    const cold = daemonCommand === undefined ? ['--no-warm-up'] : [];
    const args = [...cold, ...daxArguments(options), ...(daemonArgs ?? [])];
    daemon = await startDaemon({ sharedDir: shared, socketPaths, cache, args, command: daemonCommand });
    const booting = await Promise.allSettled(socketPaths.map((path) => bootGuest(options, path)));
    for (const booted of booting) if (booted.status === 'fulfilled') vms.push(booted.value);
    const failed = booting.find((booted) => booted.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    const share = { tag: TAG, mountPoint: options.root === true ? '/' : MOUNT_POINT };
    const scene = { vm: vms[0], vms, daemon, host: hostHalf(shared), share, socketPaths };
    const close = async (): Promise<void> => {
      try {
        await endWell(scene);
      } finally {
        await abandon();
      }
    };
    return { ...scene, close, abandon };
  } catch (error) {
    await abandon();
    throw withDaemonOutput(error, daemon);
  }
}

async function endWell({ vms, daemon }: Scene): Promise<void> {
  for (const vm of vms) {
    if (vm.ended === undefined) await unmountAll(vm);
    await vm.stop();
  }
  const { code, signal } = await daemon.waitForEnd(END_LIMIT_MS);
  if (code !== 0)
    throw new LabError('DAEMON', `the daemon ended badly: ${signal ?? `exit code ${code}`}\n${daemon.output}`);
}

/** Unmounts what is mounted from a share, last first; the root filesystem stays. */
async function unmountAll(vm: Vm): Promise<void> {
  const mounted = await vm.sh("grep ' virtiofs ' /proc/mounts | cut -d ' ' -f 2");
  const points = mounted.split('\n').filter((point) => point !== '' && point !== '/');
  for (const point of points.toReversed()) await vm.sh(`umount ${shellQuoted(point)}`);
}

/** Adds what the daemon printed to an error's message. */
export function withDaemonOutput(error: unknown, daemon: Daemon | undefined): unknown {
  const output = daemon?.output.trim();
  if (error instanceof Error && output) error.message += `\n--- the daemon said ---\n${output}`;
  return error;
}
