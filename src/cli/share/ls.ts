import type { FileStats } from './face.ts';
import { deviceNumbers, humanSize, type Kind, kindOf, modeText, table, timeJson, timeText } from './format.ts';
import { jsonOf, pathOf, textOf, widthOf } from './names.ts';
import { type Entry, entriesOf, joined, pathsCommand, type Run } from './run.ts';
import { forAll } from './slots.ts';

interface Options {
  readonly long?: boolean;
  readonly all?: boolean;
  readonly recursive?: boolean;
  readonly humanReadable?: boolean;
  readonly json?: boolean;
}

interface Listed {
  readonly name: string;
  readonly path: string;
  /** Absent where only the name is wanted. */
  readonly stats?: FileStats;
  readonly target?: string;
}

/** Attributes of a file for --json, here and in `stat`. */
export function statsJson(path: string, stats: FileStats, target?: string): Record<string, unknown> {
  const { major, minor } = deviceNumbers(stats.rdev);
  const kind = kindOf(stats);
  return {
    path,
    type: kind,
    size: stats.size,
    mode: (Number(stats.mode) & 0o7777).toString(8).padStart(4, '0'),
    uid: stats.uid,
    gid: stats.gid,
    nlink: stats.nlink,
    ino: String(stats.ino),
    blocks: stats.blocks,
    atime: timeJson(stats.atimeNs),
    mtime: timeJson(stats.mtimeNs),
    ctime: timeJson(stats.ctimeNs),
    ...(target === undefined ? {} : { target }),
    ...(kind.endsWith('device') ? { major, minor } : {}),
  };
}

/** Where a symlink points; undefined for other files. */
export async function targetOf(run: Run, path: string, kind: Kind): Promise<string | undefined> {
  return kind === 'symlink' ? textOf(await run.share.readlink(pathOf(path), { encoding: 'buffer' })) : undefined;
}

/** Names in columns, downwards, as many as fit. */
export function columns(names: readonly string[], width: number): string {
  const widths = names.map(widthOf);
  for (let count = Math.min(names.length, Math.floor((width + 2) / 3)); count > 1; count -= 1) {
    const rows = Math.ceil(names.length / count);
    const starts = Array.from({ length: Math.ceil(names.length / rows) }, (_, i) => i * rows);
    const fills = starts.map((start) => Math.max(...widths.slice(start, start + rows)));
    if (fills.reduce((sum, fill) => sum + fill + 2, -2) > width) continue;
    const lines = Array.from({ length: rows }, (_, row) =>
      starts
        .filter((start) => start + row < names.length)
        .map((start, i) => names[start + row] + ' '.repeat(fills[i] + 2 - widths[start + row]))
        .join('')
        .trimEnd(),
    );
    return `${lines.join('\n')}\n`;
  }
  return names.map((name) => `${name}\n`).join('');
}

function longRow(run: Run, { name, stats, target }: Listed, options: Options): string[] {
  const label = target === undefined ? run.label(name) : `${run.label(name)} -> ${run.label(target)}`;
  if (stats === undefined) return ['?', '?', '?', '?', '?', '?', label];
  const { major, minor } = deviceNumbers(stats.rdev);
  const size = options.humanReadable ? humanSize(stats.size) : String(stats.size);
  return [
    modeText(stats.mode),
    String(stats.nlink),
    String(stats.uid),
    String(stats.gid),
    kindOf(stats).endsWith('device') ? `${major}, ${minor}` : size,
    timeText(stats.mtimeNs),
    label,
  ];
}

function longText(run: Run, files: readonly Listed[], options: Options): string {
  const rows = files.map((each) => longRow(run, each, options));
  return table(rows, [false, true, true, true, true, false, false]);
}

function textFor(run: Run, files: readonly Listed[], options: Options): string {
  if (options.long) return longText(run, files, options);
  const names = files.map(({ name }) => run.label(name));
  return columns(names, run.onTerminal ? (run.context.stdout.columns ?? 80) : 1);
}

/** With attributes, where they are wanted and can be had. */
async function listed(run: Run, name: string, path: string, options: Options): Promise<Listed> {
  if (!options.long && !options.json) return { name, path };
  try {
    const stats = await run.lstat(path);
    return { name, path, stats, target: await targetOf(run, path, kindOf(stats)) };
  } catch (error) {
    run.fail(path, error);
    return { name, path };
  }
}

/** One run of `ls`. */
class Listing {
  readonly #run: Run;
  readonly #options: Options;
  readonly #json: unknown[] = [];
  readonly #headings: boolean;
  #first = true;

  constructor(run: Run, options: Options, headings: boolean) {
    this.#run = run;
    this.#options = options;
    this.#headings = headings;
  }

  async #show(found: readonly Listed[]): Promise<void> {
    if (this.#options.json) {
      const known = found.filter(({ name }) => name !== '.' && name !== '..');
      this.#json.push(
        ...known.flatMap(({ path, stats, target }) => (stats === undefined ? [] : [statsJson(path, stats, target)])),
      );
    } else {
      await this.#run.write(textFor(this.#run, found, this.#options));
    }
  }

  async files(found: readonly Listed[]): Promise<void> {
    if (found.length === 0) return;
    await this.#show(found);
    this.#first = false;
  }

  async directory(path: string, operand: string): Promise<void> {
    const { all, long, json, humanReadable, recursive } = this.#options;
    const entries = (await entriesOf(this.#run.share, path)).filter(({ name }) => all || !name.startsWith('.'));
    const names = [...(all ? ['.', '..'] : []), ...entries.map(({ name }) => name)];
    const found = await forAll(names, (name) => listed(this.#run, name, joined(path, name), this.#options));
    if (!json) {
      const heading = this.#headings ? `${this.#first ? '' : '\n'}${this.#run.label(operand)}:\n` : '';
      const bytes = found.reduce((sum, { stats }) => sum + (stats?.blocks ?? 0n) * 512n, 0n);
      const total = long ? `total ${humanReadable ? humanSize(bytes) : bytes / 1024n}\n` : '';
      await this.#run.write(heading + total);
      this.#first = false;
    }
    await this.#show(found);
    if (recursive) await this.#below(path, operand, entries);
  }

  async #below(path: string, operand: string, entries: readonly Entry[]): Promise<void> {
    for (const { name, type } of entries) {
      if (!type.isDirectory()) continue;
      const below = joined(operand, name);
      try {
        await this.directory(joined(path, name), below);
      } catch (error) {
        this.#run.fail(below, error);
      }
    }
  }

  async end(): Promise<void> {
    if (this.#options.json) await this.#run.write(`${jsonOf(this.#json)}\n`);
  }
}

async function list(run: Run, operands: readonly string[], options: Options): Promise<void> {
  const paths = operands.length === 0 ? [run.context.cwd] : operands;
  const files: Listed[] = [];
  const directories: { path: string; operand: string }[] = [];
  await run.each(paths, async (path, operand) => {
    let stats = await run.lstat(path);
    if (kindOf(stats) === 'symlink' && !options.long && !options.json) {
      // One that leads nowhere is listed itself.
      stats = await run.share.stat(pathOf(path), { bigint: true }).catch(() => stats);
    }
    if (kindOf(stats) === 'directory') directories.push({ path, operand });
    else files.push(await listed(run, operand, path, options));
  });
  const listing = new Listing(run, options, paths.length > 1 || options.recursive === true);
  await listing.files(files);
  for (const { path, operand } of directories) {
    await run.each([path], () => listing.directory(path, operand));
  }
  await listing.end();
}

export const lsCommand = pathsCommand(
  'ls',
  (command) =>
    command
      .description('list directories of the share')
      .argument('[path...]', 'files and directories; none: the directory where it stands')
      .option('-l, --long', 'mode, links, owner, group, size and time of change, too')
      .option('-a, --all', 'names that begin with a dot, too')
      .option('-R, --recursive', 'what is in directories below, too')
      .option('-h, --human-readable', 'sizes like 1.4K and 23M')
      .option('--json', 'all attributes as JSON'),
  list,
);
