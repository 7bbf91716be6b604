import { type Command, Option } from 'commander';
import colors from 'picocolors';

import {
  clientTarget,
  countOf,
  differences,
  directoryTarget,
  fallsShort,
  formatDifferences,
  formatReport,
  type Outcome,
  type Report,
  runConformance,
  selectBehaviours,
  type Target,
  throughClient,
} from '../../conformance/index.ts';
import { UserError } from '../core/index.ts';
import { runInGuest } from './behaviours-guest.ts';
import { addGuestOptions, type GuestOptions, withGuestErrors } from './guest.ts';

/** What the command line says. */
interface Options extends GuestOptions {
  readonly yardstick?: string;
  /** Of a daemon; the second one is for what two guests do. */
  readonly socket?: readonly string[];
  readonly filter?: string;
  readonly keep: boolean;
  readonly json: boolean;
  readonly lines: boolean;
  readonly guest: boolean;
  readonly writeback: boolean;
}

/** Options of the daemon without which a share lacks what a local file system has. */
const EVERYTHING = ['--posix-acl', '--preserve-noatime', '--allow-mmap'];

/** Small, so that ranges are given back, too. */
const CLIENT_WINDOW = '32M';
const CLIENT_CACHES = new Map<string, 'none' | 'auto' | 'always'>([
  ['none', 'none'],
  ['never', 'none'],
  ['auto', 'auto'],
  ['always', 'always'],
]);

const EXAMPLES = `
Examples:
  # virtiofs conformance /mnt/share                         as root: it acts as several users
  # virtiofs conformance /mnt/share --yardstick /var/tmp    and what differs from another file system
  # virtiofs conformance . --filter rename                  only what has that in its topic or its sentence
  # virtiofs conformance --guest --cache always             a share in a guest, beside ext4 in the same guest
  # virtiofs conformance --guest --dax              the same, mounted with dax=always
  # virtiofs conformance --socket /run/vm1.sock     a share of any virtio-fs daemon, without a VM
  # virtiofs conformance --guest -- --xattr                 what follows -- goes to 'virtiofs serve'

Without options of its own the daemon of --guest has ${EVERYTHING.join(' ')}.
Everything happens in a folder of its own, which goes again; in a guest, in a directory below TMPDIR. What the file
system, the user or the kernel lacks is 'not applicable', never 'passed'.

Exit codes: 0 nothing failed (beside another file system: nothing that passes there); 1 something did, or wrong use;
125 no guest (QEMU, kernel or boot failed).`;

/** Makes a command that says how a directory behaves. */
export function addBehaviours(command: Command): Command {
  command
    .argument('[words...]', 'the directory; with --guest, options of the daemon')
    .option('--yardstick <dir>', 'another directory, to compare with')
    .option('--socket <path>', 'a share of any daemon, by the client and without a VM; twice: a second guest', collect)
    .option('--filter <text>', 'only behaviours with this in their topic or sentence')
    .option('--keep', 'leave what the behaviours made', false)
    .option('--json', 'the outcome of each behaviour, as JSON', false)
    .addOption(new Option('--lines', 'a line on standard error for each behaviour').default(false).hideHelp())
    .option('--guest', 'boot a guest, and compare a share with ext4 in it', false)
    .option('--writeback', 'with --guest, --socket: the guest collects writes', false)
    .option('--dax', "with --guest, --socket: the guest maps all files from the host's page cache", false);
  return addGuestOptions(command)
    .addHelpText('after', EXAMPLES)
    .action((words: string[], options: Options) => withGuestErrors(() => runCommand(words, options)));
}

function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

async function runCommand(words: readonly string[], options: Options): Promise<void> {
  const { filter, guest, writeback, yardstick: other, json } = options;
  if (selectBehaviours(filter).length === 0) {
    throw new UserError(`--filter ${filter}: no behaviour has that in its sentence.`);
  }
  if (guest) {
    if (other !== undefined) throw new UserError('--yardstick is ext4 with --guest: leave one of them away.');
    const serveArgs = [...(writeback ? ['--writeback'] : []), ...(words.length > 0 ? words : EVERYTHING)];
    const cache = options.cache === 'none' ? 'never' : options.cache;
    const show = progressOf();
    const { report, yardstick } = await runInGuest({ ...options, cache, serveArgs, filter, onProgress: show.say });
    show.end();
    process.exitCode = showReports(report, yardstick, json);
    return;
  }
  if (options.socket !== undefined) {
    if (words.length > 0) throw new UserError('--socket is a share: leave the directory away.');
    const report = runOn(shareOf(options.socket, options), options);
    const share = throughClient(report, { writeback, dax: options.dax === true });
    process.exitCode = showReports(
      share,
      other === undefined ? undefined : runOn(directoryTarget(other), options),
      json,
    );
    return;
  }
  if (words.length !== 1) throw new UserError(`one directory is wanted, not ${words.length} (--help shows how).`);
  const report = runOn(directoryTarget(words[0]), options);
  const yardstick = other === undefined ? undefined : runOn(directoryTarget(other), options);
  process.exitCode = showReports(report, yardstick, json);
}

function shareOf([path, secondSocketPath]: readonly string[], { cache: mode, writeback, dax }: Options): Target {
  const cache = CLIENT_CACHES.get(mode ?? 'auto');
  if (cache === undefined) throw new UserError(`--cache ${mode}: with --socket it is none, auto or always.`);
  return clientTarget(path, { cache, writeback, secondSocketPath, dax: dax === true ? CLIENT_WINDOW : undefined });
}

function runOn(target: Target, { filter, lines, keep }: Options): Report {
  const show = lines ? { say: (text: string) => process.stderr.write(`${text}\n`), end: () => {} } : progressOf();
  const onOutcome = ({ topic }: Outcome, done: number, all: number): void => {
    show.say(`${target.name}: ${done} of ${all}, ${topic}`);
  };
  const report = runConformance(target, { filter, keep, onOutcome });
  show.end();
  return report;
}

/** One line on a terminal that says how far it is, and nothing elsewhere. */
function progressOf(): { readonly say: (text: string) => void; readonly end: () => void } {
  const { stderr } = process;
  if (!stderr.isTTY) return { say: () => {}, end: () => {} };
  return {
    say: (text) => void stderr.write(`\r\u001b[K${colors.dim(text)}`),
    end: () => void stderr.write('\r\u001b[K'),
  };
}

/** Prints one run, or two side by side. @returns the exit code. */
function showReports(report: Report, yardstick: Report | undefined, json: boolean): number {
  if (json) process.stdout.write(`${JSON.stringify({ report, yardstick }, undefined, 1)}\n`);
  else {
    process.stdout.write(`${formatReport(report)}\n`);
    if (yardstick !== undefined) {
      process.stdout.write(`\n${formatReport(yardstick)}\n\n${formatDifferences(report, yardstick)}\n`);
    }
  }
  const fails = yardstick === undefined ? countOf(report, 'failed') > 0 : fallsShort(differences(report, yardstick));
  return fails ? 1 : 0;
}
