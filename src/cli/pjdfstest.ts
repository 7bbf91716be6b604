import { geteuid } from 'node:process';

import { type Command, InvalidArgumentError, Option } from 'commander';

import { CACHE_MODES, type CacheMode } from '../coherence/index.ts';
import { UserError } from '../core/index.ts';
import {
  KERNEL_VERSIONS,
  messageOf,
  openPjdfstest,
  openScene,
  type OpenScene,
  pjdfstestGuest,
  type PjdfstestResult,
  progressTo,
  QEMU_VERSIONS,
  runPjdfstest,
  type SceneOptions,
} from '../../lab/index.ts';
import { directoryOf, parseCount, withGuestErrors } from './guest.ts';
import { newFailures, type Outcome, reportOf } from './pjdfstest-report.ts';

interface Options {
  readonly suite: string;
  readonly cache: CacheMode[];
  readonly writeback?: boolean;
  readonly jobs: number;
  readonly filter?: string;
  readonly timeLimit: number;
  readonly kernel?: string;
  readonly qemu?: string;
  readonly cpus: number;
}

/** How one share is served. */
interface Mode {
  readonly cache: CacheMode;
  readonly writeback: boolean;
}

const EXAMPLES = `
The suite is not part of this project: fetch pjdfstest and build it as its README says (linked statically it needs
nothing of the guest's libraries). DIR is the checkout, with the program pjdfstest and the folder tests. The shared
directory lies in TMPDIR (default /tmp): what the file system there cannot do, the share cannot.

Examples:
  # virtiofs conformance pjdfstest --suite ~/pjdfstest
  # virtiofs conformance pjdfstest --suite ~/pjdfstest --cache auto --no-writeback --filter rename

Exit codes: 0 all that passes on ext4 passes on the share; 1 something does not, or wrong use; 125 no guest (QEMU,
kernel or boot failed).`;

const DEFAULT_MODES: CacheMode[] = ['never', 'auto', 'always'];
const MINUTE_MS = 60_000;
/** For a guest's start and end. */
const GUEST_MS = 2 * MINUTE_MS;
const DISK = { mountPoint: '/mnt/disk', fileSystem: 'ext4', sizeMiB: 1024 } as const;

/** Parses a list of cache modes for commander. */
export function parseModes(text: string): CacheMode[] {
  return text.split(',').map((word) => {
    const mode = CACHE_MODES.find((each) => each === (word === 'none' ? 'never' : word));
    if (mode === undefined) throw new InvalidArgumentError(`Each is one of ${CACHE_MODES.join(', ')}.`);
    return mode;
  });
}

/** Adds `pjdfstest` to `virtiofs conformance`. */
export function registerPjdfstest(conformance: Command): void {
  conformance
    .command('pjdfstest')
    .description('run the public POSIX suite in a guest, on ext4 and on the share in each cache mode')
    .requiredOption('--suite <dir>', 'a built checkout of pjdfstest')
    .addOption(
      new Option('--cache <modes>', 'cache modes, with commas between them')
        .argParser(parseModes)
        .default(DEFAULT_MODES, DEFAULT_MODES.join(',')),
    )
    .option('--writeback', 'only with writeback (default: with and without)')
    .option('--no-writeback', 'only without writeback')
    .option('--filter <path>', 'only the test files below this path: rename, tests/rename, rename/00.t')
    .option('--jobs <n>', 'test files at once', parseCount, 8)
    .option('--time-limit <minutes>', 'for one run of the suite', parseCount, 60)
    .option('--cpus <n>', 'CPUs of the guest', parseCount, 2)
    .option('--kernel <version>', `Linux to boot: ${KERNEL_VERSIONS.join(', ')}, or the path of an image`)
    .option('--qemu <version>', `QEMU to use: ${QEMU_VERSIONS.join(', ')}, or the path of a qemu-system-x86_64`)
    .addHelpText('after', EXAMPLES)
    .action((options: Options) => withGuestErrors(() => pjdfstest(options)));
}

/** The test files that a filter names. */
export function chosenTests(tests: readonly string[], filter: string | undefined): string[] {
  const path = (filter ?? '').replace(/^(\.\/)?(tests(\/|$))?/, '').replace(/\/+$/, '');
  return tests.filter((test) => path === '' || test === path || test.startsWith(`${path}/`));
}

function modesOf({ cache, writeback }: Options): Mode[] {
  const ways = writeback === undefined ? [false, true] : [writeback];
  return cache.flatMap((each) => ways.map((way) => ({ cache: each, writeback: way })));
}

const nameOf = ({ cache, writeback }: Mode): string => (writeback ? `${cache}, writeback` : cache);

/** One line that is drawn anew on a terminal, and only begun and ended elsewhere. */
function countTo(title: string, total: number): { count: (done: number) => void; end: () => void } {
  const { stderr } = process;
  const began = performance.now();
  let last = 0;
  if (!stderr.isTTY) stderr.write(`${title}: ${total} files\n`);
  return {
    count(done) {
      if (stderr.isTTY && done !== last) stderr.write(`\r\u001b[K${title}: ${done} of ${total} files`);
      last = done;
    },
    end() {
      const seconds = Math.round((performance.now() - began) / 1000);
      stderr.write(`${stderr.isTTY ? '\r\u001b[K' : ''}${title}: ${last} files in ${seconds} s\n`);
    },
  };
}

class Runner {
  readonly #options: Options;
  readonly #guest: SceneOptions;
  readonly #tests: readonly string[];

  constructor(options: Options, guest: SceneOptions, tests: readonly string[]) {
    this.#options = options;
    this.#guest = guest;
    this.#tests = tests;
  }

  /** Opens a stage for a mode, long enough for `runs` runs, and strikes it afterwards. */
  async with<T>({ cache, writeback }: Mode, runs: number, body: (scene: OpenScene) => Promise<T>): Promise<T> {
    const daemonArgs = writeback ? ['--writeback'] : [];
    const timeLimitMs = runs * this.#options.timeLimit * MINUTE_MS + GUEST_MS;
    const scene = await openScene({ ...this.#guest, cache, daemonArgs, timeLimitMs });
    try {
      const result = await body(scene);
      await scene.close();
      return result;
    } finally {
      await scene.abandon();
    }
  }

  async run({ vm, daemon }: OpenScene, title: string, mountPoint: string): Promise<PjdfstestResult> {
    const tests = this.#tests;
    const line = countTo(title, tests.length);
    const limitMs = this.#options.timeLimit * MINUTE_MS;
    const running = runPjdfstest(vm, { mountPoint, tests, jobs: this.#options.jobs, limitMs, onProgress: line.count });
    // A guest whose daemon has gone waits for ever.
    const gone = daemon.exited.then(({ code, signal }) => {
      throw new UserError(`the daemon ended (${signal ?? code}) during the run\n${daemon.output}`);
    });
    gone.catch(() => {});
    try {
      return await Promise.race([running, gone]);
    } finally {
      line.end();
    }
  }
}

async function pjdfstest(options: Options): Promise<void> {
  if (geteuid?.() !== 0) throw new UserError('pjdfstest needs root: it makes files that belong to many users.');
  const suite = openPjdfstest(directoryOf(options.suite));
  const tests = chosenTests(suite.tests, options.filter);
  if (tests.length === 0) throw new UserError(`--filter ${options.filter}: the suite has no such test files.`);
  const { kernel, qemu, cpus } = options;
  const progress = progressTo(process.stderr);
  const guest = { ...(await pjdfstestGuest(suite, { progress })), kernel, qemu, cpus, progress, disks: [DISK] };
  const runner = new Runner(options, guest, tests);
  const outcomes: Outcome[] = [];
  let ext4: PjdfstestResult | undefined;
  for (const mode of modesOf(options)) {
    const name = nameOf(mode);
    try {
      const result = await runner.with(mode, ext4 === undefined ? 2 : 1, async (scene) => {
        ext4 ??= await runner.run(scene, 'ext4', DISK.mountPoint);
        return runner.run(scene, name, scene.share.mountPoint);
      });
      outcomes.push({ name, result });
    } catch (error) {
      // Without a yardstick the other modes tell nothing; with it they are worth their time.
      if (ext4 === undefined) throw error;
      outcomes.push({ name, error: messageOf(error) });
      process.stderr.write(`${name}: ${messageOf(error)}\n`);
    }
  }
  const yardstick = ext4;
  if (yardstick === undefined) return;
  process.stdout.write(`${reportOf(yardstick, outcomes)}\n`);
  if (!outcomes.every(({ result }) => result !== undefined && newFailures(yardstick, result).length === 0)) {
    process.exitCode = 1;
  }
}
