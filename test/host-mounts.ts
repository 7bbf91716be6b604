/** Mounts on the host, for tests: they are gone at the end of the test, whatever happens. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';

const mounted = new Set<string>();
process.on('exit', () => {
  for (const path of [...mounted].toReversed()) umount(path, '-l');
});

/** Runs a program that must succeed; what it printed. */
export function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Mounts with the arguments of mount(8), at a directory that is made, or a file that is there. */
export function mount(path: string, ...args: string[]): void {
  mkdirSync(path, { recursive: true });
  mountOver(path, ...args);
}

export function mountOver(path: string, ...args: string[]): void {
  run('mount', ...args, path);
  mounted.add(path);
}

/** Throws where the host has it in use, but for `-l`. */
export function umount(path: string, ...args: string[]): void {
  run('umount', ...args, path);
  mounted.delete(path);
}

/** A folder to share, in which a test may mount; undefined, and the test skipped, where nobody may. */
export function mountableFolder(t: TestContext): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-mounts-'));
  t.after(() => {
    for (const path of [...mounted].toReversed()) if (path.startsWith(folder)) umount(path, '-l');
    rmSync(folder, { recursive: true, force: true });
  });
  const refusal = whyNoMounts(join(folder, 'probe'));
  if (refusal === undefined) return folder;
  t.skip(refusal);
  return undefined;
}

function whyNoMounts(path: string): string | undefined {
  try {
    mount(path, '-t', 'tmpfs', 'none');
    umount(path);
    rmSync(path, { recursive: true });
    return undefined;
  } catch (error) {
    return `mounting takes root and mount(8): ${(error as Error).message}`;
  }
}
