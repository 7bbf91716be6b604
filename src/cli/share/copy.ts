/** Commands that copy and move: cp and mv in the share, put and get between it and this machine. */
import { constants } from 'node:fs';
import { resolve } from 'node:path';

import { type Command, InvalidArgumentError } from 'commander';

import { UserError } from '../../core/index.ts';
import { removeAll } from './change.ts';
import type { FileStats, ShareFiles } from './face.ts';
import { copyFile, KEPT_MODE, secondsOf, type Side } from './file-copy.ts';
import { kindOf } from './format.ts';
import { bytesOf, pathOf, shown, textOf } from './names.ts';
import { partOf, removeIfAny } from './part.ts';
import { Progress } from './progress.ts';
import { hasCode, lstatIfAny, pathsCommand, Run, type ShareCommand } from './run.ts';
import { placesFor, Transfer, type TransferOptions } from './transfer.ts';

const MAX_JOBS = 64;
const DEFAULT_JOBS = 4;

function parseJobs(text: string): number {
  if (/^[1-9]\d?$/.test(text) && Number(text) <= MAX_JOBS) return Number(text);
  throw new InvalidArgumentError(`It is a number of files, from 1 to ${MAX_JOBS}.`);
}

interface TransferFlags {
  readonly checksum?: boolean;
  readonly jobs: number;
  readonly quiet?: boolean;
}

function addTransferOptions(command: Command): Command {
  return command
    .option('--checksum', 'read back what was written, and compare; what is there already counts only if it is alike')
    .option('-j, --jobs <count>', 'files at once', parseJobs, DEFAULT_JOBS)
    .option('-q, --quiet', 'no progress');
}

/** The last path, and those before it. */
function split(paths: readonly string[]): { readonly sources: readonly string[]; readonly target: string } {
  if (paths.length < 2) throw new UserError(`where to? Two paths are needed, and ${shown(paths[0])} is the only one`);
  return { sources: paths.slice(0, -1), target: paths.at(-1) as string };
}

/** Copies to where it belongs. The places are worked out first: an error there is one of the target. */
async function transferAll(
  run: Run,
  { sources, target }: { readonly sources: readonly string[]; readonly target: string },
  options: TransferOptions,
): Promise<void> {
  const transfer = new Transfer(options);
  for (const place of await placesFor(sources, options.to, target)) await transfer.copy(place.source, place.target);
  run.context.signal.throwIfAborted();
}

async function move(run: Run, from: ShareFiles, to: ShareFiles, paths: Paths, flags: TransferFlags): Promise<void> {
  const { signal, stderr } = run.context;
  const visible = stderr.isTTY === true && !flags.quiet;
  const progress = new Progress({ terminal: visible ? stderr : undefined });
  run.beforeMessage = () => progress.clear();
  const onBytes = (count: number, sent: boolean): void => progress.done(count, sent);
  const copy = (source: Side, target: Side, stats: FileStats): Promise<void> =>
    copyFile({ from: source, to: target, stats, checksum: flags.checksum === true, signal, onBytes });
  try {
    await transferAll(run, paths, {
      from,
      to,
      jobs: flags.jobs,
      signal,
      recursive: true,
      preserve: true,
      copy,
      onFound: (bytes) => progress.found(bytes),
      onDone: () => progress.fileDone(),
      onError: (path, error) => run.fail(path, error),
    });
  } finally {
    progress.clear();
    if (visible) stderr.write(`${progress.summary()}\n`);
  }
}

interface Paths {
  readonly sources: readonly string[];
  readonly target: string;
}

/** A path of this machine, absolute. */
const hostPath = (path: string): string => textOf(bytesOf(resolve(path))) + (/.\/$/.test(path) ? '/' : '');

/** A command that goes from one side to the other. An error of the target is told with its name. */
function crossing(name: 'put' | 'get', configure: (command: Command) => Command): ShareCommand {
  return pathsCommand(
    name,
    (command) => addTransferOptions(configure(command)),
    async (run, paths, flags: TransferFlags) => {
      const { share, host } = run.context;
      const given = split(paths);
      const [fromPath, toPath] =
        name === 'put'
          ? [hostPath, (path: string) => run.resolve(path)]
          : [(path: string) => run.resolve(path), hostPath];
      const [from, to] = name === 'put' ? [host, share] : [share, host];
      await run.each([given.target], async () => {
        await move(run, from, to, { sources: given.sources.map(fromPath), target: toPath(given.target) }, flags);
      });
    },
  );
}

export const putCommand = crossing('put', (command) =>
  command
    .description('copy files and directories of this machine into the share; what was broken off goes on')
    .argument('<path...>', 'files of this machine, and last: where to in the share'),
);

export const getCommand = crossing('get', (command) =>
  command
    .description('copy files and directories of the share to this machine; what was broken off goes on')
    .argument('<path...>', 'files of the share, and last: where to on this machine'),
);

interface CpOptions {
  readonly recursive?: boolean;
  readonly preserve?: boolean;
}

/** Copies in the daemon, where it can, and gives the copy its name when it is complete. */
async function copyWithin(share: ShareFiles, from: Side, to: Side, stats: FileStats, preserve: boolean): Promise<void> {
  const found = await lstatIfAny(share, to.path);
  if (found !== undefined && kindOf(found) === 'directory') throw new UserError('there is a directory of that name');
  if (
    found?.ino === stats.ino &&
    (await share.realpath(pathOf(from.path), { encoding: 'buffer' })).equals(
      await share.realpath(pathOf(to.path), { encoding: 'buffer' }),
    )
  ) {
    throw new UserError(`${shown(to.path)} is the same file`);
  }
  const part = partOf(to.path);
  await removeIfAny(share, part);
  try {
    await share.copyFile(pathOf(from.path), pathOf(part), constants.COPYFILE_EXCL);
    await share.chmod(pathOf(part), Number(stats.mode) & KEPT_MODE);
    if (preserve) {
      await giveTo(share, part, stats);
      await share.utimes(pathOf(part), secondsOf(stats.atimeNs), secondsOf(stats.mtimeNs));
    }
    await share.rename(pathOf(part), pathOf(to.path));
  } catch (error) {
    await removeIfAny(share, part).catch(() => {});
    throw error;
  }
}

/** The owner stays, where that is allowed. */
async function giveTo(share: ShareFiles, path: string, { uid, gid }: FileStats): Promise<void> {
  try {
    await share.lchown(pathOf(path), Number(uid), Number(gid));
  } catch (error) {
    if (!hasCode(error, 'EPERM', 'EINVAL', 'ENOTSUP')) throw error;
  }
}

/** A directory cannot be copied into itself: there would be no end. */
async function refuseInside(share: ShareFiles, source: string, target: string): Promise<void> {
  const real = async (path: string): Promise<string> =>
    textOf(await share.realpath(pathOf(path), { encoding: 'buffer' }));
  if (kindOf(await share.lstat(pathOf(source), { bigint: true })) !== 'directory') return;
  const inside = await real(target.replace(/\/*[^/]+\/*$/, '') || '/');
  const outer = await real(source);
  if (`${inside}/`.startsWith(outer.endsWith('/') ? outer : `${outer}/`)) {
    throw new UserError(`a directory is not copied into itself: ${shown(target)}`);
  }
}

function transferWithin(run: Run, options: CpOptions): Transfer {
  const { share } = run;
  const preserve = options.preserve === true;
  return new Transfer({
    from: share,
    to: share,
    jobs: DEFAULT_JOBS,
    signal: run.context.signal,
    recursive: options.recursive === true,
    preserve,
    copy: (from, to, stats) => copyWithin(share, from, to, stats, preserve),
    onFound: () => {},
    onDone: () => {},
    onError: (path, error) => run.fail(path, error),
  });
}

/** Does something for each source with its place. */
async function eachPlace(
  run: Run,
  paths: readonly string[],
  work: (source: string, target: string) => Promise<void>,
): Promise<void> {
  const { sources, target } = split(paths);
  await run.each([target], async (place) => {
    const resolved = sources.map((source) => run.resolve(source));
    for (const { source, target: final } of await placesFor(resolved, run.share, place)) {
      await run.each([source], () => work(source, final));
    }
  });
}

export const cpCommand = pathsCommand(
  'cp',
  (command) =>
    command
      .description('copy files within the share')
      .argument('<path...>', 'the files, and last: where to')
      .option('-r, --recursive', 'directories with all that is in them, too')
      .option('-p, --preserve', 'mode, times and owner stay as they are'),
  async (run, paths, options: CpOptions) => {
    const transfer = transferWithin(run, options);
    await eachPlace(run, paths, async (source, target) => {
      await refuseInside(run.share, source, target);
      await transfer.copy(source, target);
    });
  },
);

interface MvOptions {
  /** False with --no-clobber. */
  readonly clobber?: boolean;
  readonly verbose?: boolean;
}

/** To another file system below the share: it is copied, and removed only when all of it is there. */
async function moveAcross(run: Run, source: string, target: string): Promise<void> {
  const attempt = new Run(run.name, run.context);
  await transferWithin(attempt, { recursive: true, preserve: true }).copy(source, target);
  if (attempt.exitCode !== 0) throw new UserError('not all of it could be copied: it stays where it is');
  await removeAll(run, source, source, false);
}

export const mvCommand = pathsCommand(
  'mv',
  (command) =>
    command
      .description('move or rename files within the share')
      .argument('<path...>', 'the files, and last: where to')
      .option('-n, --no-clobber', 'what is there already stays')
      .option('-v, --verbose', 'say what was moved'),
  (run, paths, options: MvOptions) =>
    eachPlace(run, paths, async (source, target) => {
      if (options.clobber === false && (await lstatIfAny(run.share, target)) !== undefined) return;
      try {
        await run.share.rename(pathOf(source), pathOf(target));
      } catch (error) {
        if (!hasCode(error, 'EXDEV')) throw error;
        await moveAcross(run, source, target);
      }
      if (options.verbose) await run.write(`renamed ${run.label(source)} -> ${run.label(target)}\n`);
    }),
);
