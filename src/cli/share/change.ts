/** Commands that change names: rm, mkdir. */
import { InvalidArgumentError } from 'commander';

import { UserError } from '../../core/index.ts';
import { kindOf } from './format.ts';
import { pathOf } from './names.ts';
import { baseName, entriesOf, hasCode, joined, pathsCommand, type Run } from './run.ts';

interface RmOptions {
  readonly recursive?: boolean;
  readonly force?: boolean;
  readonly verbose?: boolean;
}

/** Removes a file, or a directory with all that is in it. Returns whether nothing is left. */
export async function removeAll(run: Run, path: string, operand: string, verbose: boolean): Promise<boolean> {
  const directory = kindOf(await run.lstat(path)) === 'directory';
  if (directory) {
    let left = 0;
    for (const { name } of await entriesOf(run.share, path)) {
      const below = joined(operand, name);
      run.context.signal.throwIfAborted();
      try {
        if (!(await removeAll(run, joined(path, name), below, verbose))) left += 1;
      } catch (error) {
        run.fail(below, error);
        left += 1;
      }
    }
    // What stands in the way was told already.
    if (left > 0) return false;
    await run.share.rmdir(pathOf(path));
  } else {
    await run.share.unlink(pathOf(path));
  }
  if (verbose) await run.write(`removed ${directory ? 'directory ' : ''}${run.label(operand)}\n`);
  return true;
}

async function remove(run: Run, paths: readonly string[], options: RmOptions): Promise<void> {
  await run.each(paths, async (path, operand) => {
    if (baseName(operand) === '') throw new UserError('a root, . and .. are not removed');
    try {
      const directory = kindOf(await run.lstat(path)) === 'directory';
      if (directory && !options.recursive) throw new UserError('is a directory (EISDIR); -r removes it');
      await removeAll(run, path, operand, options.verbose === true);
    } catch (error) {
      if (!options.force || !hasCode(error, 'ENOENT')) throw error;
    }
  });
}

export const rmCommand = pathsCommand(
  'rm',
  (command) =>
    command
      .description('remove files of the share')
      .argument('<path...>', 'the files')
      .option('-r, --recursive', 'directories with all that is in them, too')
      .option('-f, --force', 'what is not there is no error')
      .option('-v, --verbose', 'say what was removed'),
  remove,
);

interface MkdirOptions {
  readonly parents?: boolean;
  readonly mode?: number;
}

const MODE = 0o777;

/** Makes a directory where there is none, and those above it. Returns whether it is new. */
async function makeAll(run: Run, path: string, mode: number): Promise<boolean> {
  try {
    await run.share.mkdir(pathOf(path), { mode });
    return true;
  } catch (error) {
    const above = path.replace(/\/*[^/]+\/*$/, '');
    if (hasCode(error, 'ENOENT') && above !== '') {
      await makeAll(run, above, MODE);
      await run.share.mkdir(pathOf(path), { mode });
      return true;
    }
    if (!hasCode(error, 'EEXIST')) throw error;
    const found = await run.share.stat(pathOf(path), { bigint: true });
    if (kindOf(found) !== 'directory') throw error;
    return false;
  }
}

async function makeDirectories(run: Run, paths: readonly string[], options: MkdirOptions): Promise<void> {
  await run.each(paths, async (path) => {
    const mode = options.mode ?? MODE;
    const isNew = options.parents ? await makeAll(run, path, mode) : true;
    if (!options.parents) await run.share.mkdir(pathOf(path), { mode });
    // What was asked for counts, whatever the umask takes away.
    if (isNew && options.mode !== undefined) await run.share.chmod(pathOf(path), options.mode);
  });
}

function parseMode(text: string): number {
  if (/^[0-7]{1,4}$/.test(text)) return Number.parseInt(text, 8);
  throw new InvalidArgumentError('It is a mode like 755.');
}

export const mkdirCommand = pathsCommand(
  'mkdir',
  (command) =>
    command
      .description('make directories in the share')
      .argument('<path...>', 'the directories')
      .option('-p, --parents', 'those above, too; one that is there is no error')
      .option('-m, --mode <mode>', 'the mode, like 755', parseMode),
  makeDirectories,
);
