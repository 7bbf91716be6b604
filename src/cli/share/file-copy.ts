/** One file from one place to another: resumed, checked, and under its name only when it is complete. */
import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';

import { UserError } from '../../core/index.ts';
import type { FileStats, ShareFiles, ShareHandle } from './face.ts';
import { kindOf } from './format.ts';
import { pathOf } from './names.ts';
import { type PartRecord, partOf, readRecord, recordOf, removeIfAny, writeRecord } from './part.ts';
import { hasCode, lstatIfAny } from './run.ts';

/** A file, and where it is. */
export interface Side {
  readonly files: ShareFiles;
  readonly path: string;
}

export interface FileJob {
  readonly from: Side;
  readonly to: Side;
  /** Of the source. */
  readonly stats: FileStats;
  readonly checksum: boolean;
  readonly signal: AbortSignal;
  /** So many bytes more are where they belong; `sent`: they were copied just now. */
  onBytes(count: number, sent: boolean): void;
}

const CHUNK_BYTES = 2 ** 20;
/** Zeros are left out by so much. */
const HOLE_BYTES = 2 ** 16;
const ZEROS = Buffer.alloc(HOLE_BYTES);
/** After so much, what was written is made safe, and that is noted. */
const RECORD_BYTES = 256 * 2 ** 20;
/** Times are set as seconds in a double, and cut to microseconds on their way (libuv). */
const TIME_STEP_NS = 2000n;
/** What is kept of a mode: a file of another owner must not lend out the rights of its new one. */
export const KEPT_MODE = 0o777;

export const secondsOf = (ns: bigint): number => Number(ns / 1_000_000_000n) + Number(ns % 1_000_000_000n) / 1e9;

export function sameTime(a: bigint, b: bigint): boolean {
  return (a > b ? a - b : b - a) <= TIME_STEP_NS;
}

/** Reads all of `length` bytes from `position`, or less at the end of the file. */
async function readChunk(handle: ShareHandle, buffer: Buffer, position: number, length: number): Promise<number> {
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

async function writeChunk(handle: ShareHandle, chunk: Buffer, position: number): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    done += (await handle.write(chunk, done, chunk.length - done, position + done)).bytesWritten;
  }
}

/** Writes what is not zero. What lies behind the end of the file before need not be written. */
async function writeSparsely(handle: ShareHandle, chunk: Buffer, position: number): Promise<void> {
  const isHole = (at: number): boolean => {
    const piece = chunk.subarray(at, at + HOLE_BYTES);
    return piece.equals(ZEROS.subarray(0, piece.length));
  };
  for (let at = 0; at < chunk.length; ) {
    const start = at;
    while (at < chunk.length && !isHole(at)) at += HOLE_BYTES;
    if (at > start) await writeChunk(handle, chunk.subarray(start, at), position + start);
    while (at < chunk.length && isHole(at)) at += HOLE_BYTES;
  }
}

/** Feeds the first `bytes` of a file to `hash`. Returns whether there are so many. */
async function hashBytes(handle: ShareHandle, bytes: number, hash: Hash, signal: AbortSignal): Promise<boolean> {
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, Math.max(bytes, 1)));
  for (let position = 0; position < bytes; ) {
    signal.throwIfAborted();
    const length = Math.min(buffer.length, bytes - position);
    const count = await readChunk(handle, buffer, position, length);
    hash.update(buffer.subarray(0, count));
    if (count < length) return false;
    position += count;
  }
  return true;
}

/** The SHA-256 of a whole file, in hexadecimal. */
async function digestOf({ files, path }: Side, size: number, signal: AbortSignal): Promise<string> {
  const handle = await files.open(pathOf(path), constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const hash = createHash('sha256');
    await hashBytes(handle, size, hash, signal);
    return hash.digest('hex');
  } finally {
    await handle.close();
  }
}

/** Whether the target is there already: same size and time, and with a checksum the same contents. */
async function isThere({ from, to, stats, checksum, signal }: FileJob): Promise<boolean> {
  const found = await lstatIfAny(to.files, to.path);
  if (found === undefined) return false;
  if (kindOf(found) === 'directory') throw new UserError('there is a directory of that name');
  const alike = kindOf(found) === 'file' && found.size === stats.size && sameTime(found.mtimeNs, stats.mtimeNs);
  if (!alike) return false;
  const size = Number(stats.size);
  if (checksum && (await digestOf(from, size, signal)) !== (await digestOf(to, size, signal))) return false;
  const mode = Number(stats.mode) & KEPT_MODE;
  if ((Number(found.mode) & KEPT_MODE) !== mode) await to.files.chmod(pathOf(to.path), mode);
  return true;
}

/** A copy under way. */
class FileCopy {
  readonly #job: FileJob;
  readonly #part: string;
  readonly #size: number;
  readonly #sparse: boolean;
  #hash: Hash | undefined;
  /** Bytes that are in the part. */
  #position = 0;
  #recorded = 0;
  #hasRecord = false;

  constructor(job: FileJob) {
    this.#job = job;
    this.#part = partOf(job.to.path);
    this.#size = Number(job.stats.size);
    this.#sparse = job.stats.blocks * 512n < job.stats.size;
    this.#hash = job.checksum ? createHash('sha256') : undefined;
  }

  async run(): Promise<void> {
    const { from, to } = this.#job;
    const source = await from.files.open(pathOf(from.path), constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      const target = await this.#openPart();
      try {
        await this.#pumpOrRecord(source, target);
        await this.#checkSource(source);
        await this.#dress(target);
      } finally {
        await target.close();
      }
    } finally {
      await source.close();
    }
    if (this.#hash !== undefined) await this.#verify(this.#hash.digest('hex'));
    await to.files.rename(pathOf(this.#part), pathOf(to.path));
    if (this.#hasRecord) await removeIfAny(to.files, recordOf(this.#part));
  }

  /** The part that there is, cut to what is safe of it; or a new one. */
  async #openPart(): Promise<ShareHandle> {
    try {
      return await this.#createPart();
    } catch (error) {
      if (!hasCode(error, 'EEXIST')) throw error;
    }
    const { to, stats } = this.#job;
    const record = await readRecord(to.files, this.#part, stats);
    const old = record === undefined ? undefined : await this.#reopen(record);
    if (old !== undefined && record !== undefined) {
      this.#hasRecord = true;
      this.#position = record.bytes;
      this.#recorded = record.bytes;
      this.#job.onBytes(record.bytes, false);
      return old;
    }
    await this.#remove();
    return this.#createPart();
  }

  #createPart(): Promise<ShareHandle> {
    const { O_RDWR, O_CREAT, O_EXCL } = constants;
    return this.#job.to.files.open(pathOf(this.#part), O_RDWR | O_CREAT | O_EXCL, 0o600);
  }

  async #remove(): Promise<void> {
    await removeIfAny(this.#job.to.files, this.#part);
    await removeIfAny(this.#job.to.files, recordOf(this.#part));
  }

  async #reopen({ bytes, sha256 }: PartRecord): Promise<ShareHandle | undefined> {
    const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
    let handle: ShareHandle;
    try {
      handle = await this.#job.to.files.open(pathOf(this.#part), O_RDWR | O_NOFOLLOW | O_NONBLOCK);
    } catch (error) {
      if (hasCode(error, 'ENOENT', 'ELOOP', 'EISDIR', 'ENXIO', 'EACCES')) return undefined;
      throw error;
    }
    try {
      if (await this.#isGood(handle, bytes, sha256)) {
        await handle.truncate(bytes);
        return handle;
      }
    } catch (error) {
      await handle.close();
      throw error;
    }
    await handle.close();
    return undefined;
  }

  /** Whether the part has what its record says. Without a checksum of it, a checked copy does not trust it. */
  async #isGood(handle: ShareHandle, bytes: number, sha256: string | undefined): Promise<boolean> {
    const found = await handle.stat({ bigint: true });
    if (kindOf(found) !== 'file' || found.size < bytes) return false;
    if (this.#hash === undefined) return true;
    const hash = createHash('sha256');
    if (sha256 === undefined || !(await hashBytes(handle, bytes, hash, this.#job.signal))) return false;
    if (hash.copy().digest('hex') !== sha256) return false;
    // It has seen what the source's beginning was: it goes on with the rest.
    this.#hash = hash;
    return true;
  }

  async #pumpOrRecord(source: ShareHandle, target: ShareHandle): Promise<void> {
    try {
      await this.#pump(source, target);
    } catch (error) {
      // Where the share has gone, what was noted before must do.
      await (this.#position === 0 ? this.#remove() : this.#record(target)).catch(() => {});
      throw error;
    }
  }

  /** Copies from where it is to the end: the next chunk is read while one is written. */
  async #pump(source: ShareHandle, target: ShareHandle): Promise<void> {
    const length = Math.min(CHUNK_BYTES, Math.max(this.#size - this.#position, 1));
    let [buffer, other] = [Buffer.allocUnsafe(length), Buffer.allocUnsafe(length)];
    const read = (into: Buffer, position: number): Promise<number> => {
      const reading = readChunk(source, into, position, Math.min(length, this.#size - position));
      // It may fail before anybody waits for it.
      reading.catch(() => {});
      return reading;
    };
    let reading = read(buffer, this.#position);
    try {
      while (this.#position < this.#size) {
        const count = await reading;
        if (count === 0) break;
        this.#job.signal.throwIfAborted();
        const chunk = buffer.subarray(0, count);
        reading = read(other, this.#position + count);
        await (this.#sparse ? writeSparsely : writeChunk)(target, chunk, this.#position);
        this.#hash?.update(chunk);
        this.#position += count;
        this.#job.onBytes(count, true);
        [buffer, other] = [other, buffer];
        if (this.#position - this.#recorded >= RECORD_BYTES) await this.#record(target);
      }
    } finally {
      await reading.catch(() => {});
    }
    if (this.#sparse) await target.truncate(this.#position);
  }

  /** Makes safe what was written, and notes it. */
  async #record(target: ShareHandle): Promise<void> {
    const bytes = this.#position;
    if (bytes === this.#recorded) return;
    if (this.#sparse) await target.truncate(bytes);
    await target.datasync();
    const sha256 = this.#hash?.copy().digest('hex');
    await writeRecord(this.#job.to.files, this.#part, this.#job.stats, { bytes, sha256 });
    this.#recorded = bytes;
    this.#hasRecord = true;
  }

  async #checkSource(source: ShareHandle): Promise<void> {
    const { stats } = this.#job;
    const now = await source.stat({ bigint: true });
    if (now.size === stats.size && now.mtimeNs === stats.mtimeNs && this.#position === this.#size) return;
    await this.#remove();
    throw new UserError('it changed while it was copied; copy it again');
  }

  async #dress(target: ShareHandle): Promise<void> {
    const { mode, atimeNs, mtimeNs } = this.#job.stats;
    await target.chmod(Number(mode) & KEPT_MODE);
    await target.utimes(secondsOf(atimeNs), secondsOf(mtimeNs));
    if (this.#hash !== undefined) await target.datasync();
  }

  /** Reads back what was written. */
  async #verify(sent: string): Promise<void> {
    const { to, signal } = this.#job;
    const found = await digestOf({ files: to.files, path: this.#part }, this.#size, signal);
    if (found === sent) return;
    await this.#remove();
    throw new UserError(`what is stored is not what was sent: its SHA-256 is ${found}, not ${sent}; copy it again`);
  }
}

/**
 * Copies a regular file, with its mode and times. What is there already is not sent again.
 *
 * @throws UserError where it changed meanwhile, or is not what was sent, or a directory is in the way.
 */
export async function copyFile(job: FileJob): Promise<void> {
  if (await isThere(job)) job.onBytes(Number(job.stats.size), false);
  else await new FileCopy(job).run();
}
