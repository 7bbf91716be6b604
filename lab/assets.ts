import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Asset, cacheFolder, findAsset, type Manifest, placeAsset, withLock, workFolder } from './cache.ts';
import { Archive, debianArchitecture, haveApt, type PackageRecord } from './debian.ts';
import { LabError } from './errors.ts';
import { unpackedKernel } from './kernel-image.ts';
import { keepModules } from './kernel-modules.ts';
import { type Progress, silent } from './progress.ts';
import { qemuOfTree, qemuStarts } from './qemu-program.ts';
import { compareVersions, upstreamVersion } from './versions.ts';

/** QEMU versions that can be fetched; each stands for the newest of its suite. */
export const QEMU_VERSIONS = ['7.2', '10.0', '11.1'] as const;
/**
 * Linux versions that can be fetched. 6.12 is the newest 6.12; 7.3 is the newest one from 7.3 on. Both are Debian's
 * kernel for clouds; 6.12-generic is the one for any machine, larger and slower to boot, which has 9p.
 */
export const KERNEL_VERSIONS = ['6.12', '6.12-generic', '7.3'] as const;
export type QemuVersion = (typeof QEMU_VERSIONS)[number];
export type KernelVersion = (typeof KERNEL_VERSIONS)[number];

const QEMU_SUITES: Record<QemuVersion, string> = { '7.2': 'bookworm', '10.0': 'trixie', '11.1': 'trixie-backports' };

/** The guest is always x86-64, whatever the host. */
const GUEST_ARCHITECTURE = 'amd64';

/** How an asset is found in an archive. */
interface Recipe {
  readonly name: string;
  readonly architecture: string;
  readonly suite: string;
  /** @returns the packages to unpack, the one that gives the version first, and the words for progress. */
  choose(archive: Archive): Promise<{ packages: PackageRecord[]; label: string }>;
  /** Last step before the tree is put into the cache: tries or completes it. */
  finish?(tree: string): Promise<void>;
}

/** Options of everything that may fetch. */
export interface FetchOptions {
  /** The cache folder. */
  readonly cache?: string;
  readonly progress?: Progress;
  /** Asks the network for a newer one even when the cache has one. */
  readonly refresh?: boolean;
}

/**
 * The packages that a program is reached through, starting at `root`: its libraries and data, but not the package
 * tools that Debian's dependencies lead to (adduser, debconf, PAM), nor what `skip` names. What `leaves` name is taken
 * without what it needs.
 */
export function neededBy(
  root: string,
  closure: readonly PackageRecord[],
  skip: ReadonlySet<string>,
  leaves: ReadonlySet<string> = new Set(),
): PackageRecord[] {
  const byName = new Map(closure.map((record) => [record.name, record]));
  const needed = new Map<string, PackageRecord>();
  const queue = [root];
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    const record = byName.get(name);
    if (record === undefined || needed.has(name) || skip.has(name)) continue;
    needed.set(name, record);
    if (!leaves.has(name)) queue.push(...record.depends);
  }
  return [...needed.values()];
}

const NOT_FOR_QEMU = new Set([
  // Network boot images: no device we use.
  'ipxe-qemu',
  // What only an installation needs.
  ...['adduser', 'passwd', 'login.defs', 'base-passwd', 'debconf', 'openssl-provider-legacy', 'libsasl2-modules-db'],
  ...['gcc-12-base', 'gcc-14-base'],
]);

/**
 * Sound, smart cards, Braille, USB redirection and helper programs; but in QEMU 7.2 also a module without which nothing
 * is emulated.
 */
const QEMU_PARTS = 'qemu-system-common';

function qemuRecipe(version: QemuVersion, whole: boolean): Recipe {
  const suite = QEMU_SUITES[version];
  return {
    name: `qemu-${version}`,
    architecture: debianArchitecture(),
    suite,
    async choose(archive) {
      const closure = await archive.resolve(['qemu-system-x86'], suite);
      const skip = version === '7.2' ? NOT_FOR_QEMU : new Set([...NOT_FOR_QEMU, QEMU_PARTS]);
      const packages = whole ? closure : neededBy('qemu-system-x86', closure, skip, new Set([QEMU_PARTS]));
      const main = packages.find(({ name }) => name === 'qemu-system-x86');
      if (main === undefined) throw new LabError('PACKAGES', `Debian ${suite} has no qemu-system-x86`);
      return {
        packages: [main, ...packages.filter((each) => each !== main)],
        label: `QEMU ${upstreamVersion(main.version)}`,
      };
    },
    async finish(tree) {
      if (await qemuStarts(qemuOfTree(tree))) return;
      throw new LabError('BROKEN', `QEMU ${version} was fetched but does not start`);
    },
  };
}

/** The newest kernel that the meta package `linux-image-FLAVOUR` of some suite stands for and that `fits`. */
async function kernelImage(
  archive: Archive,
  flavour: string,
  fits: (version: string) => boolean,
): Promise<string | undefined> {
  const found: string[] = [];
  for (const { depends } of await archive.show([`linux-image-${flavour}`])) {
    for (const name of depends) {
      const version = new RegExp(`^linux-image-(\\d+(?:\\.\\d+)*)\\S*-${flavour}$`).exec(name)?.[1];
      if (version !== undefined && fits(version)) found.push(name);
    }
  }
  return found.toSorted((a, b) => compareVersions(versionOfImage(a), versionOfImage(b))).at(-1);
}

function versionOfImage(name: string): string {
  return /linux-image-(\d+(?:\.\d+)*)/.exec(name)?.[1] ?? '0';
}

/** Of the generic kernel, which has virtio and virtiofs built in: 9p, and what disks take (ext4 does not say all). */
const GENERIC_MODULES = ['9p', '9pnet_virtio', 'nvme', 'crc32c_generic', 'ext4'];

function kernelRecipe(wanted: KernelVersion): Recipe {
  const [version = '', generic] = wanted.split('-');
  const flavour = generic === undefined ? 'cloud-amd64' : 'amd64';
  const exact = version === '6.12';
  const suite = exact ? 'trixie' : 'trixie-backports';
  return {
    name: `kernel-${wanted}`,
    architecture: GUEST_ARCHITECTURE,
    suite,
    async choose(archive) {
      const image = await kernelImage(archive, flavour, (each) =>
        exact ? each.startsWith(`${version}.`) : compareVersions(each, version) >= 0,
      );
      if (image === undefined) throw new LabError('PACKAGES', `Debian ${suite} has no kernel ${wanted}`);
      // Newer kernels have their image in a package of its own, without the modules: 14 MB instead of 34.
      const binary = await archive.show([image.replace('linux-image-', 'linux-binary-')]);
      const packages = (binary.length > 0 ? binary : await archive.show([image])).slice(0, 1);
      return { packages, label: `Linux ${versionOfImage(image)}` };
    },
    async finish(tree) {
      const unpacked = unpackedKernel(readFileSync(packedKernel(tree)));
      if (unpacked !== undefined) writeFileSync(join(tree, 'vmlinux'), unpacked);
      if (generic !== undefined) await keepModules(tree, GENERIC_MODULES);
    },
  };
}

function packedKernel(tree: string): string {
  const boot = join(tree, 'boot');
  const image = existsSync(boot) ? readdirSync(boot).find((name) => name.startsWith('vmlinuz-')) : undefined;
  if (image !== undefined) return join(boot, image);
  const modules = join(tree, 'usr/lib/modules');
  const release = existsSync(modules)
    ? readdirSync(modules).find((name) => existsSync(join(modules, name, 'vmlinuz')))
    : undefined;
  if (release === undefined) throw new LabError('BROKEN', `${tree} holds no kernel image`);
  return join(modules, release, 'vmlinuz');
}

/** The image of an unpacked kernel package that boots fastest. */
export function kernelOfTree(tree: string): string {
  const unpacked = join(tree, 'vmlinux');
  return existsSync(unpacked) ? unpacked : packedKernel(tree);
}

const BUSYBOX: Recipe = {
  name: 'busybox',
  architecture: GUEST_ARCHITECTURE,
  suite: 'trixie',
  async choose(archive) {
    const packages = (await archive.show(['busybox-static'])).slice(0, 1);
    return { packages, label: `BusyBox ${upstreamVersion(packages[0]?.version ?? '')}` };
  },
};

function toolsRecipe(names: readonly string[], suite: string): Recipe {
  return {
    name: `tools-${suite}-${names.toSorted().join('+')}`,
    architecture: GUEST_ARCHITECTURE,
    suite,
    async choose(archive) {
      const closure = await archive.resolve(names, suite);
      const skip = new Set(['adduser', 'passwd', 'login.defs', 'base-passwd', 'debconf']);
      const packages = names.flatMap((name) => neededBy(name, closure, skip));
      return { packages: [...new Set(packages)], label: `${names.join(', ')} for the guest` };
    },
  };
}

/** The tree of a QEMU, with the packages that it needs to start; with all that Debian asks for if it does not. */
export async function fetchQemu(version: QemuVersion, options: FetchOptions = {}): Promise<Asset> {
  try {
    return await ensure(qemuRecipe(version, false), options);
  } catch (error) {
    if (!(error instanceof LabError) || error.code !== 'BROKEN') throw error;
    return ensure(qemuRecipe(version, true), options);
  }
}

/** The tree of a kernel package. */
export function fetchKernel(version: KernelVersion, options: FetchOptions = {}): Promise<Asset> {
  return ensure(kernelRecipe(version), options);
}

/** The tree of busybox-static. */
export function fetchBusybox(options: FetchOptions = {}): Promise<Asset> {
  return ensure(BUSYBOX, options);
}

/**
 * Debian packages with all they need, as a tree that can become a guest's root or a part of its initramfs.
 *
 * @param names such as fio, attr, acl, perl.
 */
export function fetchTools(names: readonly string[], options: FetchOptions & { suite?: string } = {}): Promise<Asset> {
  return ensure(toolsRecipe(names, options.suite ?? 'trixie'), options);
}

const archives = new Map<string, Archive>();

function archiveFor(cache: string, { suite, architecture }: Recipe, progress: Progress): Archive {
  // One set of lists for trixie and its backports: the second adds 3 %.
  const suites = suite.startsWith('trixie') ? ['trixie', 'trixie-backports'] : [suite];
  const folder = join(cache, 'apt', `${suites[0]}-${architecture}`);
  let archive = archives.get(folder);
  if (archive === undefined) archives.set(folder, (archive = new Archive(folder, suites, architecture, progress)));
  return archive;
}

async function ensure(recipe: Recipe, options: FetchOptions): Promise<Asset> {
  const cache = options.cache ?? cacheFolder();
  const progress = options.progress ?? silent;
  const there = findAsset(cache, recipe.name);
  if (there !== undefined && !options.refresh) return there;
  if (!(await haveApt()))
    throw new LabError('NO_APT', `${recipe.name} cannot be fetched: this machine has no apt-get and dpkg-deb.`);
  const waiting = (): void => progress.note(`waiting for another process that uses ${cache}`);
  return withLock(cache, waiting, async () => {
    const now = findAsset(cache, recipe.name);
    if (now !== undefined && (!options.refresh || now.fetched !== there?.fetched)) return now;
    return make(cache, recipe, progress);
  });
}

async function make(cache: string, recipe: Recipe, progress: Progress): Promise<Asset> {
  const archive = archiveFor(cache, recipe, progress);
  await archive.update();
  const { packages, label } = await recipe.choose(archive);
  const version = packages[0]?.version;
  if (version === undefined) throw new LabError('PACKAGES', `Debian ${recipe.suite} has no ${recipe.name}`);
  const work = workFolder(cache);
  try {
    const tree = join(work.folder, 'tree');
    await archive.fetch(label, packages, tree);
    await recipe.finish?.(tree);
    const manifest: Manifest = {
      name: recipe.name,
      version,
      packages: packages.map(({ name, version: each, sizeBytes }) => ({ name, version: each, sizeBytes })),
      fetched: new Date().toISOString(),
    };
    return placeAsset(cache, work.folder, manifest);
  } finally {
    archive.tidy();
    work.remove();
  }
}
