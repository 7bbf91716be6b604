/** Modules of a fetched kernel that guests load at their start: `modules/NN-NAME.ko` in its tree, in their order. */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { LabError } from './errors.ts';
import { exec } from './exec.ts';

const KEPT = 'modules';

/** The kernel takes one for the other in the names of modules. */
function sameName(name: string): string {
  return name.replaceAll('-', '_');
}

/** What a module says that it needs: the field `depends` of its .modinfo section, strings that end with a NUL. */
export function dependenciesOf(module: Buffer): string[] {
  const start = module.indexOf('\0depends=');
  if (start < 0) return [];
  const from = start + '\0depends='.length;
  return module
    .toString('latin1', from, module.indexOf(0, from))
    .split(',')
    .filter((name) => name !== '');
}

/**
 * Keeps the named modules of an unpacked kernel package and those that they need, unpacked, and removes all others.
 * What is built into the kernel is no module, and must not be named.
 */
export async function keepModules(tree: string, names: readonly string[]): Promise<void> {
  const all = join(tree, 'usr/lib/modules');
  const files = new Map<string, string>();
  for (const path of readdirSync(all, { recursive: true, encoding: 'utf8' })) {
    const name = /^(.+)\.ko(?:\.xz)?$/.exec(basename(path))?.[1];
    if (name !== undefined) files.set(sameName(name), join(all, path));
  }
  const kept = join(tree, KEPT);
  mkdirSync(kept);
  const done = new Set<string>();
  const keep = async (name: string): Promise<void> => {
    if (done.has(name)) return;
    done.add(name);
    const path = await unpacked(name, files.get(name));
    for (const needed of dependenciesOf(readFileSync(path))) await keep(sameName(needed));
    const place = String(readdirSync(kept).length).padStart(2, '0');
    renameSync(path, join(kept, `${place}-${name}.ko`));
  };
  for (const name of names) await keep(sameName(name));
  rmSync(all, { recursive: true });
}

async function unpacked(name: string, path: string | undefined): Promise<string> {
  if (path === undefined) throw new LabError('BROKEN', `the kernel package has no module ${name}`);
  if (!path.endsWith('.xz')) return path;
  const { code, stderr } = await exec('xz', ['--decompress', path]);
  if (code === 0) return path.slice(0, -'.xz'.length);
  throw new LabError('UNPACK', `the module ${name} cannot be unpacked: ${stderr.trim()}\nInstall xz-utils.`);
}

/** Host paths of the modules that a kernel's guests load, in their order. */
export function modulesOfTree(tree: string): string[] {
  const kept = join(tree, KEPT);
  if (!existsSync(kept)) return [];
  return readdirSync(kept)
    .toSorted()
    .map((file) => join(kept, file));
}
