/**
 * A copy that is not complete: `.NAME.part-virtiofs`, and beside it `.NAME.part-virtiofs.json`, which says of which
 * version of the source it is, and how much of it is safe. So a copy that was broken off goes on where it was.
 */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';

import type { FileStats, ShareFiles } from './face.ts';
import { bytesOf, pathOf } from './names.ts';
import { hasCode, joined } from './run.ts';

const PART = '.part-virtiofs';
const RECORD = '.json';
const NAME_MAX = 255;
const RECORD_MAX_BYTES = 1000;

export interface PartRecord {
  /** Bytes that are known to be stored. */
  readonly bytes: number;
  /** Of those bytes, where the copy is checked. */
  readonly sha256?: string;
}

/** Where a file is written until it is complete. */
export function partOf(target: string): string {
  const cut = target.lastIndexOf('/');
  const [directory, name] = [target.slice(0, cut), target.slice(cut + 1)];
  const fits = bytesOf(name).length + 1 + PART.length + RECORD.length <= NAME_MAX;
  const short = fits ? name : createHash('sha256').update(bytesOf(name)).digest('hex');
  return joined(directory, `.${short}${PART}`);
}

export const recordOf = (part: string): string => part + RECORD;

/** Removes a file if it is there. */
export async function removeIfAny(files: ShareFiles, path: string): Promise<void> {
  try {
    await files.unlink(pathOf(path));
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

/** Says what is safe in a part. Never through a symlink: the directory may be a stranger's. */
export async function writeRecord(
  files: ShareFiles,
  part: string,
  source: FileStats,
  record: PartRecord,
): Promise<void> {
  const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants;
  const text = JSON.stringify({ size: String(source.size), mtimeNs: String(source.mtimeNs), ...record });
  const handle = await files.open(pathOf(recordOf(part)), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600);
  try {
    await handle.write(Buffer.from(text), 0, text.length, 0);
  } finally {
    await handle.close();
  }
}

function parseRecord(text: string, source: FileStats): PartRecord | undefined {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof found !== 'object' || found === null) return undefined;
  const { size, mtimeNs, bytes, sha256 } = found as Record<string, unknown>;
  if (size !== String(source.size) || mtimeNs !== String(source.mtimeNs)) return undefined;
  if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes <= 0 || bytes > source.size) return undefined;
  return { bytes, sha256: typeof sha256 === 'string' ? sha256 : undefined };
}

/** What is safe in the part of this version of the source; undefined where nothing is known. */
export async function readRecord(files: ShareFiles, part: string, source: FileStats): Promise<PartRecord | undefined> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  try {
    const handle = await files.open(pathOf(recordOf(part)), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    try {
      const buffer = Buffer.alloc(RECORD_MAX_BYTES);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
      return parseRecord(buffer.toString('utf8', 0, bytesRead), source);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ELOOP', 'EISDIR', 'ENXIO', 'EACCES')) return undefined;
    throw error;
  }
}
