/** `virtiofs bench`: the announcement's own measurements, on this machine. */
import { tmpdir } from 'node:os';
import { relative, resolve } from 'node:path';

import { type Command, InvalidArgumentError, Option } from 'commander';

import {
  type BenchResult,
  benchSuites,
  caveatOf,
  describeMachine,
  makeReportFolder,
  PLANS,
  plansOf,
  QUICK_IDS,
  runBench,
  readResult,
  runDaemonOnly,
  type RunProgress,
  SUITE_NAMES,
  writeReport,
} from '../../bench/index.ts';
import { progressTo } from '../../lab/index.ts';
import { UserError } from '../core/index.ts';
import { directoryOf, parseCount, withGuestErrors } from './guest.ts';
import { durationText } from './share/format.ts';

interface Options {
  readonly quick: boolean;
  readonly daemonOnly: boolean;
  readonly peers: readonly string[];
  readonly suite?: readonly string[];
  readonly workloads: readonly string[];
  readonly contestants?: readonly string[];
  readonly rounds?: number;
  readonly virtiofsd?: string;
  readonly dir: string;
  readonly out: string;
  readonly from?: string;
}

const PEERS = ['9p', 'virtiofsd'];
const ROUNDS = 3;
const DAEMON_ONLY_ROUNDS = 9;
const SECOND_MS = 1000;
const REDRAW_MS = 200;
const HELP_COLUMNS = 80;
const CLEAR_LINE = '\r\u001b[K';

/** Words in lines of a help text. */
function indented(words: readonly string[]): string {
  const lines: string[] = [];
  for (const word of words) {
    const longer = lines.length === 0 ? `  ${word}` : `${lines.at(-1)}, ${word}`;
    if (longer.length < HELP_COLUMNS) lines.splice(-1, 1, longer);
    else lines.push(`  ${word}`);
  }
  return lines.join(',\n');
}

const HELP = `
Guests are booted with the same folder by virtio-9p, Rust virtiofsd (this machine's, else Debian's
is fetched) and virtiofs, and made to do the same in turn, round after round. The report is a table
and charts in Markdown, a page for the browser, and the raw figures; it is written after each round.

Contestants:
${indented(PLANS.map(({ id }) => id))}
With --quick, where none are named:
${indented(QUICK_IDS)}

Examples:
  # virtiofs bench --quick
  # virtiofs bench --peers 9p --workloads smallfile --suite smallfile ~/smallfile
  # virtiofs bench --contestants 9p-loose,virtiofsd-auto,virtiofs-auto --rounds 5
  # virtiofs bench --daemon-only
  # virtiofs bench --from virtiofs-bench/result.json --out again

Exit codes: 0 reported; 1 wrong use; 125 no guest (QEMU, kernel or boot failed).`;

function parseWords(allowed: readonly string[]): (text: string) => string[] {
  return (text) => {
    const words = text.split(',');
    const wrong = words.find((word) => !allowed.includes(word));
    if (wrong !== undefined) throw new InvalidArgumentError(`'${wrong}' is none of ${allowed.join(', ')}.`);
    return words;
  };
}

const parsePeerNames = parseWords(PEERS);

function parsePeers(text: string): string[] {
  return text === 'none' ? [] : parsePeerNames(text);
}

/** Options, by their names in Options, that say nothing without a guest. */
const ABOUT_GUESTS = ['workloads', 'contestants', 'suite'];

/** And those that say something when nothing is measured. */
const FROM = ['from', 'out'];

/** Throws UserError for those of some options that were given, beside one that they do not go with. */
function refuseBeside(command: Command, flag: string, names: readonly string[], why: string): void {
  const given = names.filter((name) => command.getOptionValueSource(name) === 'cli');
  if (given.length === 0) return;
  const flags = command.options.filter((each) => given.includes(each.attributeName())).map(({ long }) => long);
  throw new UserError(`${flag} does not go with ${flags.join(', ')}: ${why}. Leave one of them out.`);
}

/** Adds `virtiofs bench`. */
export function registerBench(program: Command): void {
  program
    .command('bench')
    .description('measure shares in guests, beside virtio-9p and Rust virtiofsd')
    .option('--quick', 'less of everything: about 12 minutes without KVM, for the default contestants', false)
    .option('--daemon-only', 'no guest: our client asks the daemons', false)
    .addOption(
      new Option('--peers <names>', 'who is measured beside; or none')
        .argParser(parsePeers)
        .default(PEERS, PEERS.join(',')),
    )
    .addOption(
      new Option('--workloads <names>', 'what is done')
        .argParser(parseWords(SUITE_NAMES))
        .default(SUITE_NAMES, SUITE_NAMES.join(',')),
    )
    .option('--contestants <ids>', 'who takes part (default: all; with --quick some: see below)', (text) =>
      text.split(','),
    )
    .option('--suite <name and dir...>', 'a public tool from a checkout instead of our own: smallfile DIR')
    .option('--rounds <n>', `how often all is measured (default: ${ROUNDS}; --quick: 1)`, parseCount)
    .option('--virtiofsd <program>', "Rust virtiofsd (default: this machine's, or Debian's)")
    .option('--dir <dir>', 'where the shared folder is made: its file system is measured', tmpdir())
    .option('--out <dir>', 'where the report is written', 'virtiofs-bench')
    .option('--from <result.json>', 'nothing is measured: the report of what was')
    .addHelpText('after', HELP)
    .action((options: Options, command: Command) => bench(options, command));
}

/** The checkout of the public smallfile. Throws UserError. */
function smallfileOf({ suite }: Options): string | undefined {
  if (suite === undefined) return undefined;
  const [name, folder, ...more] = suite;
  if (name !== 'smallfile' || folder === undefined || more.length > 0) {
    throw new UserError(`--suite ${suite.join(' ')}: it takes the name smallfile and the folder of a checkout.`);
  }
  return directoryOf(folder);
}

/** For the report, which is published: without the paths of this machine. */
function commandLine(args: readonly string[]): string {
  return ['virtiofs bench', ...args.map((arg) => (arg.includes('/') ? 'PATH' : arg))].join(' ');
}

async function bench(options: Options, command: Command): Promise<void> {
  const out = resolve(options.out);
  if (options.from !== undefined) {
    const others = command.options.map((each) => each.attributeName()).filter((name) => !FROM.includes(name));
    refuseBeside(command, '--from', others, 'it measures nothing');
    show(writeReport(readResult(options.from), out));
    return;
  }
  let paths: readonly string[] = [];
  const common = {
    parent: directoryOf(options.dir),
    virtiofsd: options.virtiofsd,
    command: commandLine(process.argv.slice(3)),
    version: command.parent?.version() ?? '',
    progress: progressTo(process.stderr),
    onProgress: showProgress(),
    // What comes later may fail, or be broken off.
    onRound: (result: BenchResult): void => {
      paths = writeReport(result, out);
    },
  };
  const measure = options.daemonOnly ? daemonOnly(options, common, command) : inGuests(options, common);
  makeReportFolder(out);
  const caveat = caveatOf(describeMachine(common.parent).fileSystem);
  if (caveat !== undefined) process.stderr.write(`${caveat}\n--dir takes a folder on another one: docs/BENCH.md.\n`);
  try {
    await withGuestErrors(measure);
  } finally {
    process.stderr.write(process.stderr.isTTY ? CLEAR_LINE : '');
    show(paths);
  }
}

function show(paths: readonly string[]): void {
  for (const path of paths) process.stdout.write(`${relative('', path)}\n`);
}

type Common = Omit<Parameters<typeof runBench>[0], 'plans' | 'suites' | 'rounds'>;

/** What has to be measured. Throws UserError for what is not there. */
function inGuests(options: Options, common: Common): () => Promise<BenchResult> {
  const { quick, workloads, peers } = options;
  const suites = benchSuites(workloads, { quick, smallfile: smallfileOf(options) });
  const ids = options.contestants ?? (quick ? QUICK_IDS : PLANS.map(({ id }) => id));
  const plans = plansOf(ids, peers);
  const rounds = options.rounds ?? (quick ? 1 : ROUNDS);
  return () => runBench({ ...common, plans, suites, rounds });
}

function daemonOnly(options: Options, common: Common, command: Command): () => Promise<BenchResult> {
  refuseBeside(command, '--daemon-only', ABOUT_GUESTS, 'there is no guest, and our client asks for always the same');
  if (options.peers.includes('9p') && command.getOptionValueSource('peers') === 'cli') {
    throw new UserError(
      `--daemon-only does not go with --peers ${options.peers.join(',')}: 9p is for guests. ` +
        'Say --peers virtiofsd, or --peers none.',
    );
  }
  const rounds = options.rounds ?? (options.quick ? 3 : DAEMON_ONLY_ROUNDS);
  return () => runDaemonOnly({ ...common, rounds, peer: options.peers.includes('virtiofsd') });
}

/** On a terminal one line that changes; elsewhere a line for each contestant's turn. */
function showProgress(): (progress: RunProgress) => void {
  const began = performance.now();
  const terminal = process.stderr.isTTY;
  let [turn, drawn] = ['', 0];
  return ({ round, rounds, suite, contestant, step, part }) => {
    const now = performance.now();
    const next = `${round} ${suite} ${contestant}`;
    if (terminal ? now - drawn < REDRAW_MS : next === turn) return;
    [turn, drawn] = [next, now];
    const which = round === 0 ? 'counting' : `round ${round} of ${rounds}`;
    const left = part > 0 ? `, ${durationText(((now - began) / SECOND_MS) * (1 / part - 1))} left` : '';
    const line = `${which}, ${suite}: ${contestant}${terminal ? `, ${step}` : ''} (${Math.floor(part * 100)} %${left})`;
    const width = process.stderr.columns - 1;
    process.stderr.write(terminal ? `${CLEAR_LINE}${line.slice(0, width)}` : `${line}\n`);
  };
}
