/** Copies trees of files from one place to another, several files at once. What fails is told, and the others go on. */
import { UserError } from '../../core/index.ts';
import type { FileStats, ShareFiles } from './face.ts';
import { KEPT_MODE, sameTime, secondsOf, type Side } from './file-copy.ts';
import { kindOf } from './format.ts';
import { pathOf, shown } from './names.ts';
import { partOf, removeIfAny } from './part.ts';
import { baseName, entriesOf, hasCode, joined, lstatIfAny } from './run.ts';
import { Slots } from './slots.ts';

export interface TransferOptions {
  readonly from: ShareFiles;
  readonly to: ShareFiles;
  /** Files at once. */
  readonly jobs: number;
  readonly signal: AbortSignal;
  /** Directories, with all that is in them. */
  readonly recursive: boolean;
  /** Modes and times as they are at the source. */
  readonly preserve: boolean;
  /** Copies a file under its final name. */
  readonly copy: (from: Side, to: Side, stats: FileStats) => Promise<void>;
  /** A file of so many bytes will be copied. */
  readonly onFound: (bytes: number) => void;
  readonly onDone: () => void;
  /** Throws where the whole cannot go on. */
  readonly onError: (path: string, error: unknown) => void;
}

/** Directories are open to their owner until all is in them. */
const BUILDING_MODE = 0o700;
const NEW_MODE = 0o777;

export class Transfer {
  readonly #options: TransferOptions;
  readonly #slots: Slots;
  readonly #written = new Set<string>();

  constructor(options: TransferOptions) {
    this.#options = options;
    this.#slots = new Slots(options.jobs);
  }

  /** Copies a file, a symlink, or a directory to `target`. Errors go to onError; rejects with what that throws. */
  async copy(source: string, target: string): Promise<void> {
    await this.#guarded(source, async () => {
      const { from, recursive } = this.#options;
      const stats = await this.#slots.run(() => from.lstat(pathOf(source), { bigint: true }));
      const kind = kindOf(stats);
      if (kind === 'directory' && !recursive) throw new UserError('is a directory (EISDIR); -r copies it');
      if (this.#written.has(target)) throw new UserError(`${shown(target)} was written by this command already`);
      this.#written.add(target);
      if (kind === 'directory') await this.#directory(source, target, stats);
      else await this.#leaf(source, target, stats);
    });
  }

  async #guarded(path: string, work: () => Promise<void>): Promise<void> {
    this.#options.signal.throwIfAborted();
    try {
      await work();
    } catch (error) {
      this.#options.signal.throwIfAborted();
      this.#options.onError(path, error);
    }
  }

  async #leaf(source: string, target: string, stats: FileStats): Promise<void> {
    const { from, to, onFound, onDone, copy, signal } = this.#options;
    const kind = kindOf(stats);
    if (kind === 'symlink') {
      await this.#slots.run(() => this.#symlink(source, target, stats));
    } else if (kind === 'file') {
      onFound(Number(stats.size));
      await this.#slots.run(() => {
        signal.throwIfAborted();
        return copy({ files: from, path: source }, { files: to, path: target }, stats);
      });
    } else {
      throw new UserError(`is a ${kind}: it is not copied`);
    }
    onDone();
  }

  async #symlink(source: string, target: string, stats: FileStats): Promise<void> {
    const { from, to, preserve } = this.#options;
    const text = await from.readlink(pathOf(source), { encoding: 'buffer' });
    const found = await lstatIfAny(to, target);
    if (found !== undefined && kindOf(found) === 'directory') throw new UserError('there is a directory of that name');
    // Under another name first: at no time there is none.
    const part = partOf(target);
    if (found !== undefined) await removeIfAny(to, part);
    await to.symlink(text, pathOf(found === undefined ? target : part));
    if (found !== undefined) await to.rename(pathOf(part), pathOf(target));
    if (preserve) await to.lutimes(pathOf(target), secondsOf(stats.atimeNs), secondsOf(stats.mtimeNs));
  }

  /** Returns whether the directory is new. One that is there must be one, and no symlink to somewhere else. */
  async #makeDirectory(source: string, target: string): Promise<boolean> {
    const { to, preserve } = this.#options;
    try {
      await to.mkdir(pathOf(target), { mode: preserve ? BUILDING_MODE : NEW_MODE });
      return true;
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    // The contents of a root, or of where one stands, go where the caller says.
    const stats = await to[baseName(source) === '' ? 'stat' : 'lstat'](pathOf(target), { bigint: true });
    if (kindOf(stats) !== 'directory') throw new UserError(`there is a ${kindOf(stats)} of that name`);
    return false;
  }

  async #directory(source: string, target: string, stats: FileStats): Promise<void> {
    const { from, to, preserve } = this.#options;
    const isNew = await this.#slots.run(() => this.#makeDirectory(source, target));
    const entries = await this.#slots.run(() => entriesOf(from, source));
    const children: Promise<void>[] = [];
    for (const { name } of entries) {
      await this.#slots.room();
      const child = this.copy(joined(source, name), joined(target, name));
      // Whoever waits for all of them below hears of it.
      child.catch(() => {});
      children.push(child);
    }
    // What was broken off notes how far it came: all of them have ended before this does.
    const failed = (await Promise.allSettled(children)).find(({ status }) => status === 'rejected');
    if (failed?.status === 'rejected') throw failed.reason;
    // A place that was there, and only takes the contents of a root, stays what it is.
    if (!preserve || (!isNew && (baseName(source) === '' || (await this.#isDressed(target, stats))))) return;
    await to.chmod(pathOf(target), Number(stats.mode) & KEPT_MODE);
    await to.utimes(pathOf(target), secondsOf(stats.atimeNs), secondsOf(stats.mtimeNs));
  }

  async #isDressed(target: string, stats: FileStats): Promise<boolean> {
    const found = await this.#options.to.stat(pathOf(target), { bigint: true });
    const alike = (Number(found.mode) & KEPT_MODE) === (Number(stats.mode) & KEPT_MODE);
    return alike && sameTime(found.mtimeNs, stats.mtimeNs);
  }
}

/** Where sources go: into a directory that is there, or to exactly the name that is given. */
export async function placesFor(
  sources: readonly string[],
  files: ShareFiles,
  target: string,
): Promise<readonly { readonly source: string; readonly target: string }[]> {
  const found = await files.stat(pathOf(target), { bigint: true }).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  });
  if (found !== undefined && kindOf(found) === 'directory') {
    return sources.map((source) => {
      const name = baseName(source);
      return { source, target: name === '' ? target : joined(target, name) };
    });
  }
  if (sources.length > 1) throw new UserError('several files go into a directory, and there is none of that name');
  return [{ source: sources[0], target: target.replace(/(?<=.)\/+$/, '') }];
}
