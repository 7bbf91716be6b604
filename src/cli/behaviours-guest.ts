import { type Report, throughDriver } from '../../conformance/index.ts';
import { GUEST_PROJECT, LabError, openScene, type OpenScene, progressTo, shellQuoted } from '../../lab/index.ts';
import { daxWindowOf, type GuestOptions } from './guest.ts';

export interface GuestRun extends GuestOptions {
  readonly filter?: string;
  /** Options of the daemon. */
  readonly serveArgs: readonly string[];
  readonly onProgress: (line: string) => void;
}

/** The share, and ext4 beside it. */
export interface GuestReports {
  readonly report: Report;
  readonly yardstick: Report;
}

const DISK = { mountPoint: '/mnt/ext4', fileSystem: 'ext4', sizeMiB: 1024 } as const;
const RUN_LIMIT_MS = 900_000;
const DAX_MOUNT = 'dax=always';
const MAIN = import.meta.url.endsWith('.ts') ? 'src/cli/main.ts' : 'dist/src/cli/main.js';

/**
 * Boots a guest with a share and an ext4 disk, and runs the behaviours on both in it.
 *
 * @throws LabError when there is no guest, or its run does not end well.
 */
export async function runInGuest(options: GuestRun): Promise<GuestReports> {
  const daxWindow = daxWindowOf(options);
  const mountOptions = daxWindow === undefined ? undefined : DAX_MOUNT;
  const scene = await openScene({
    qemu: options.qemu,
    kernel: options.kernel,
    memoryMiB: options.memory,
    cpus: options.cpus ?? options.queues,
    queues: options.queues,
    cache: options.cache,
    daxWindow,
    mountOptions,
    daemonArgs: options.serveArgs,
    node: true,
    disks: [DISK],
    timeLimitMs: RUN_LIMIT_MS + 120_000,
    progress: progressTo(process.stderr),
  });
  try {
    const reports = await runBoth(scene, options);
    await scene.close();
    const { cache = 'auto', serveArgs } = options;
    const mode = { cache, writeback: serveArgs.includes('--writeback'), dax: daxWindow !== undefined };
    const words = ['share', `--cache ${cache}`, ...(mode.dax ? [DAX_MOUNT] : []), ...serveArgs];
    return {
      report: { ...throughDriver(reports.report, mode), target: words.join(' ') },
      yardstick: { ...reports.yardstick, target: DISK.fileSystem },
    };
  } finally {
    await scene.abandon();
  }
}

async function runBoth({ vm, share, daemon }: OpenScene, { filter, onProgress }: GuestRun): Promise<GuestReports> {
  const args = [share.mountPoint, '--yardstick', DISK.mountPoint, '--json', '--lines', '--keep'];
  if (filter !== undefined) args.push('--filter', filter);
  const command = ['node', '--disable-warning=ExperimentalWarning', `${GUEST_PROJECT}/${MAIN}`, 'conformance', ...args];
  const stderr: Buffer[] = [];
  const result = vm.run(command.map(shellQuoted).join(' '), {
    timeoutMs: RUN_LIMIT_MS,
    onStderr: (bytes) => {
      stderr.push(bytes);
      onProgress(bytes.toString().trim().split('\n').at(-1) ?? '');
    },
  });
  // A guest whose daemon has gone waits for ever.
  const gone = daemon.exited.then(({ code, signal }) => {
    throw new LabError('DAEMON', `the daemon ended (${signal ?? code}) during the run\n${daemon.output}`);
  });
  gone.catch(() => {});
  const { code, stdout } = await Promise.race([result, gone]);
  try {
    return JSON.parse(stdout) as GuestReports;
  } catch (cause) {
    const said = Buffer.concat(stderr).toString().split('\n').slice(-20).join('\n');
    throw new LabError('COMMAND', `the behaviours did not run to their end (exit code ${code})\n${said}`, { cause });
  }
}
