/** Commands that look at what is there: cat, stat, tree, df. */
import { constants } from 'node:fs';

import { InvalidArgumentError } from 'commander';

import type { FileStats, FileSystemStats } from './face.ts';
import { deviceNumbers, humanSize, kindOf, modeText, table, timeText } from './format.ts';
import { statsJson, targetOf } from './ls.ts';
import { harmless, jsonOf, pathOf } from './names.ts';
import { entriesOf, joined, pathsCommand, type Run } from './run.ts';

const CHUNK_BYTES = 2 ** 20;

/** Writes a file out: as it is, or so that a terminal obeys nothing in it. */
async function writeFile(run: Run, path: string): Promise<void> {
  const handle = await run.share.open(pathOf(path), constants.O_RDONLY);
  const decoder = run.onTerminal ? new TextDecoder() : undefined;
  try {
    const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
    for (let position = 0; ; ) {
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, position);
      const bytes = buffer.subarray(0, bytesRead);
      await run.write(decoder === undefined ? bytes : harmless(decoder.decode(bytes, { stream: bytesRead > 0 })));
      if (bytesRead === 0) break;
      position += bytesRead;
    }
  } finally {
    await handle.close();
  }
}

export const catCommand = pathsCommand(
  'cat',
  (command) =>
    command
      .description('write files of the share out; on a terminal, control characters are shown, not obeyed')
      .argument('<path...>', 'the files'),
  (run, paths) => run.each(paths, (path) => writeFile(run, path)),
);

interface StatOptions {
  readonly dereference?: boolean;
  readonly json?: boolean;
}

function statText(run: Run, name: string, stats: FileStats, target: string | undefined): string {
  const { major, minor } = deviceNumbers(stats.rdev);
  const kind = kindOf(stats);
  const device = kind.endsWith('device') ? `  Device: ${major}, ${minor}` : '';
  const arrow = target === undefined ? '' : ` -> ${run.label(target)}`;
  const mode = (Number(stats.mode) & 0o7777).toString(8).padStart(4, '0');
  const birth = stats.birthtimeNs > 0n ? timeText(stats.birthtimeNs, true) : '-';
  return `  File: ${run.label(name)}${arrow}
  Size: ${stats.size}  Blocks: ${stats.blocks}  IO block: ${stats.blksize}  ${kind}
 Inode: ${stats.ino}  Links: ${stats.nlink}${device}
  Mode: ${mode}/${modeText(stats.mode)}  Uid: ${stats.uid}  Gid: ${stats.gid}
Access: ${timeText(stats.atimeNs, true)}
Modify: ${timeText(stats.mtimeNs, true)}
Change: ${timeText(stats.ctimeNs, true)}
 Birth: ${birth}
`;
}

async function showStats(run: Run, paths: readonly string[], options: StatOptions): Promise<void> {
  const all: unknown[] = [];
  await run.each(paths, async (path, operand) => {
    const stats = await run.share[options.dereference ? 'stat' : 'lstat'](pathOf(path), { bigint: true });
    const target = await targetOf(run, path, kindOf(stats));
    if (options.json) all.push(statsJson(path, stats, target));
    else await run.write(statText(run, operand, stats, target));
  });
  if (options.json) await run.write(`${jsonOf(all)}\n`);
}

export const statCommand = pathsCommand(
  'stat',
  (command) =>
    command
      .description('show all attributes of files of the share')
      .argument('<path...>', 'the files')
      .option('-L, --dereference', 'of what symlinks point to')
      .option('--json', 'as JSON'),
  showStats,
);

interface TreeOptions {
  readonly level?: number;
  readonly all?: boolean;
}

const BRANCH = '\u251c\u2500\u2500 ';
const LAST = '\u2514\u2500\u2500 ';
const TRUNK = '\u2502   ';

interface TreeCounts {
  directories: number;
  files: number;
}

/** Writes what is below a directory, line by line. */
async function drawTree(
  run: Run,
  place: { readonly path: string; readonly indent: string; readonly depth: number },
  options: TreeOptions,
  counts: TreeCounts,
): Promise<void> {
  const all = await entriesOf(run.share, place.path);
  const entries = all.filter(({ name }) => options.all || !name.startsWith('.'));
  for (const [i, { name, type }] of entries.entries()) {
    const last = i === entries.length - 1;
    const path = joined(place.path, name);
    const target = type.isSymbolicLink() ? await targetOf(run, path, 'symlink').catch(() => '?') : undefined;
    const arrow = target === undefined ? '' : ` -> ${run.label(target)}`;
    await run.write(`${place.indent}${last ? LAST : BRANCH}${run.label(name)}${arrow}\n`);
    counts[type.isDirectory() ? 'directories' : 'files'] += 1;
    if (!type.isDirectory() || place.depth >= (options.level ?? Infinity)) continue;
    try {
      const indent = place.indent + (last ? '    ' : TRUNK);
      await drawTree(run, { path, indent, depth: place.depth + 1 }, options, counts);
    } catch (error) {
      run.fail(path, error);
    }
  }
}

async function showTrees(run: Run, operands: readonly string[], options: TreeOptions): Promise<void> {
  const counts: TreeCounts = { directories: 0, files: 0 };
  await run.each(operands.length === 0 ? [run.context.cwd] : operands, async (path, operand) => {
    const stats = await run.share.stat(pathOf(path), { bigint: true });
    await run.write(`${run.label(operand)}\n`);
    if (kindOf(stats) === 'directory') await drawTree(run, { path, indent: '', depth: 1 }, options, counts);
  });
  const count = (number: number, one: string, many: string): string => `${number} ${number === 1 ? one : many}`;
  await run.write(
    `\n${count(counts.directories, 'directory', 'directories')}, ${count(counts.files, 'file', 'files')}\n`,
  );
}

function parseLevel(text: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It is a number of levels, from 1.');
}

export const treeCommand = pathsCommand(
  'tree',
  (command) =>
    command
      .description('show directories of the share as trees')
      .argument('[path...]', 'the directories; none: the one where it stands')
      .option('-L, --level <count>', 'so many levels', parseLevel)
      .option('-a, --all', 'names that begin with a dot, too'),
  showTrees,
);

interface DfOptions {
  readonly humanReadable?: boolean;
  readonly inodes?: boolean;
}

/** As df has it: of what may be used, rounded up. */
function percent(used: bigint, available: bigint): string {
  const all = used + available;
  return all === 0n ? '-' : `${(used * 100n + all - 1n) / all}%`;
}

function dfRow(run: Run, path: string, numbers: FileSystemStats, options: DfOptions): string[] {
  const { blocks, bfree, bavail, frsize, files, ffree } = numbers;
  const end = (used: bigint, available: bigint): string[] => [percent(used, available), run.label(path)];
  const label = run.label(run.context.label);
  if (options.inodes) {
    const text = options.humanReadable ? humanSize : String;
    return [label, text(files), text(files - ffree), text(ffree), ...end(files - ffree, ffree)];
  }
  const text = (count: bigint): string =>
    options.humanReadable ? humanSize(count * frsize) : String((count * frsize) / 1024n);
  return [label, text(blocks), text(blocks - bfree), text(bavail), ...end(blocks - bfree, bavail)];
}

async function showSpace(run: Run, operands: readonly string[], options: DfOptions): Promise<void> {
  const rows: string[][] = [];
  const paths = operands.length === 0 ? [run.context.cwd] : operands;
  await run.each(paths, async (path, operand) => {
    rows.push(dfRow(run, operand, await run.share.statfs(pathOf(path), { bigint: true }), options));
  });
  if (rows.length === 0) return;
  const heads = options.inodes
    ? ['Inodes', 'IUsed', 'IFree', 'IUse%']
    : [options.humanReadable ? 'Size' : '1K-blocks', 'Used', 'Available', 'Use%'];
  await run.write(table([['Share', ...heads, 'Path'], ...rows], [false, true, true, true, true, false]));
}

export const dfCommand = pathsCommand(
  'df',
  (command) =>
    command
      .description('show how full the file system of the share is')
      .argument('[path...]', 'in which part of the share; none: at its root')
      .option('-h, --human-readable', 'sizes like 1.4K and 23M')
      .option('-i, --inodes', 'files instead of blocks'),
  showSpace,
);
