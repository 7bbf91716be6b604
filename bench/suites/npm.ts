/** A project for `npm ci`: packages that npm itself is made of, their lock file, and a cache that holds them. */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';

import type { CpioEntry } from '../../lab/index.ts';
import { tarOf, type TarFile } from './tar.ts';

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly bin?: string | Readonly<Record<string, string>>;
  readonly engines?: Readonly<Record<string, string>>;
}

/** A package where npm has it. */
interface Installed {
  /** As lock files have it: `node_modules/a/node_modules/b`. */
  readonly place: string;
  readonly manifest: Manifest;
  readonly files: readonly TarFile[];
}

export interface NpmProject {
  readonly packageJson: string;
  readonly lockFile: string;
  /** How many files the packages have. */
  readonly files: number;
  /** By their places in the cache. */
  readonly tarballs: ReadonlyMap<string, Uint8Array>;
}

const IN_NPM = ['bin', 'lib', 'node_modules', 'index.js', 'package.json'];

const manifestOf = (folder: string): Manifest =>
  JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;

/** The folder of this machine's npm: the one that started this, else that of PATH or of Node.js; or undefined. */
export function findNpm(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const started = env.npm_execpath === undefined ? [] : [env.npm_execpath];
  const commands = (env.PATH ?? '').split(delimiter).map((folder) => join(folder, 'npm'));
  const programs = [...started, ...commands].filter((path) => existsSync(path)).map((path) => realpathSync(path));
  const beside = join(dirname(process.execPath), '../lib/node_modules/npm');
  const folders = [...programs.map((path) => dirname(dirname(path))), beside];
  return folders.find((folder) => existsSync(join(folder, 'bin/npm-cli.js')) && manifestOf(folder).name === 'npm');
}

/** The files below a folder, by their paths in it; `node_modules` apart. */
function* filesOf(folder: string, within = ''): Generator<TarFile> {
  for (const entry of readdirSync(join(folder, within), { withFileTypes: true })) {
    const path = join(within, entry.name);
    if (entry.isDirectory() && entry.name !== 'node_modules') yield* filesOf(folder, path);
    if (!entry.isFile()) continue;
    const host = join(folder, path);
    yield { path, bytes: readFileSync(host), executable: (statSync(host).mode & 0o100) !== 0 };
  }
}

/** Where npm finds what a package of it depends on, as Node.js does: the innermost `node_modules` that has it. */
function placeOf(npm: string, from: string, name: string): string | undefined {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    const place = at === '' ? `node_modules/${name}` : `${at}/node_modules/${name}`;
    if (existsSync(join(npm, place, 'package.json'))) return place;
    if (at === '') return undefined;
  }
}

/** A package and all that it needs, by their places; what `known` has is left out. */
function closureOf(npm: string, name: string, known: ReadonlyMap<string, Installed>): Map<string, Installed> {
  const found = new Map<string, Installed>();
  const take = (from: string, each: string): void => {
    const place = placeOf(npm, from, each);
    if (place === undefined || known.has(place) || found.has(place)) return;
    const folder = join(npm, place);
    const manifest = manifestOf(folder);
    found.set(place, { place, manifest, files: [...filesOf(folder)] });
    for (const needed of Object.keys(manifest.dependencies ?? {})) take(place, needed);
  };
  take('', name);
  return found;
}

function countFiles(packages: Iterable<Installed>): number {
  let sum = 0;
  for (const { files } of packages) sum += files.length;
  return sum;
}

/** What npm depends on, as much of it as has no more than so many files. */
function choose(npm: string, files: number): Installed[] {
  const chosen = new Map<string, Installed>();
  for (const name of Object.keys(manifestOf(npm).dependencies ?? {}).toSorted()) {
    const more = closureOf(npm, name, chosen);
    if (countFiles(chosen.values()) + countFiles(more.values()) > files) continue;
    for (const [place, each] of more) chosen.set(place, each);
  }
  return [...chosen.values()].toSorted((a, b) => (a.place < b.place ? -1 : 1));
}

/**
 * A project that depends on packages of npm, which have no more than so many files.
 *
 * @param npm npm's folder.
 */
export function npmProject(npm: string, files: number): NpmProject {
  const packages = choose(npm, files);
  const tarballs = new Map<string, Uint8Array>();
  const locked: Record<string, object> = {};
  for (const { place, manifest, files: own } of packages) {
    const { name, version, dependencies, bin, engines } = manifest;
    const tarball = gzipSync(tarOf(own.map((file) => ({ ...file, path: `package/${file.path}` }))), { level: 6 });
    const hash = createHash('sha512').update(tarball);
    const digest = hash.copy().digest('hex');
    // Where cacache has content: by its digest.
    tarballs.set(`content-v2/sha512/${digest.slice(0, 2)}/${digest.slice(2, 4)}/${digest.slice(4)}`, tarball);
    const resolved = `https://registry.npmjs.org/${name}/-/${name.replace(/^.*\//, '')}-${version}.tgz`;
    const bins = typeof bin === 'string' ? { [name.replace(/^.*\//, '')]: bin } : bin;
    locked[place] = {
      version,
      resolved,
      integrity: `sha512-${hash.digest('base64')}`,
      dependencies,
      bin: bins,
      engines,
    };
  }
  const direct = packages.filter(({ place }) => !place.includes('/node_modules/'));
  const dependencies = Object.fromEntries(direct.map(({ manifest }) => [manifest.name, manifest.version]));
  const root = { name: 'project', version: '1.0.0', dependencies };
  const lock = { name: 'project', version: '1.0.0', lockfileVersion: 3, requires: true };
  const text = (value: object): string => `${JSON.stringify(value, null, 2)}\n`;
  return {
    packageJson: text(root),
    lockFile: text({ ...lock, packages: { '': root, ...locked } }),
    files: countFiles(packages),
    tarballs,
  };
}

/** Files with the folders that they are in, each folder once and before what is in it. */
export function* withFolders(files: Iterable<Extract<CpioEntry, { kind: 'file' }>>): Generator<CpioEntry> {
  const made = new Set<string>();
  for (const file of files) {
    for (let at = file.path.indexOf('/'); at > 0; at = file.path.indexOf('/', at + 1)) {
      const folder = file.path.slice(0, at);
      if (!made.has(folder)) yield { kind: 'folder', path: folder };
      made.add(folder);
    }
    yield file;
  }
}

/** npm's own code for a guest, in the folder `target`. */
export function npmEntries(npm: string, target: string): CpioEntry[] {
  const paths = IN_NPM.flatMap((name) =>
    statSync(join(npm, name)).isFile()
      ? [name]
      : readdirSync(join(npm, name), { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name).slice(npm.length + 1)),
  );
  return [
    ...withFolders(
      paths.map((path) => ({ kind: 'file', path: `${target}/${path}`, bytes: readFileSync(join(npm, path)) }) as const),
    ),
  ];
}
