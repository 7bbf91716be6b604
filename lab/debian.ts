import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { LabError } from './errors.ts';
import { exec, type ExecOptions, type Finished } from './exec.ts';
import { debianKeyring, mirrorsOf, sourcesList } from './mirror.ts';
import type { Progress } from './progress.ts';

/** A package that apt chose. */
export interface Package {
  readonly name: string;
  /** Debian version, with its epoch. */
  readonly version: string;
  readonly sizeBytes: number;
  /** Names of all alternatives of all Depends and Pre-Depends. */
  readonly depends: readonly string[];
}

/** What apt knows about a version of a package. */
export interface PackageRecord {
  readonly name: string;
  readonly version: string;
  readonly sizeBytes: number;
  readonly depends: readonly string[];
}

/** This machine's Debian name for its architecture. */
export function debianArchitecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch;
}

/** True when this machine can fetch and unpack Debian packages. */
export async function haveApt(): Promise<boolean> {
  const found = await Promise.all([exec('apt-get', ['--version']), exec('dpkg-deb', ['--version'])]);
  return found.every(({ code }) => code === 0);
}

/** Reads the output of `apt-cache show`. */
export function parseRecords(text: string): PackageRecord[] {
  const records: PackageRecord[] = [];
  for (const paragraph of text.split('\n\n')) {
    const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(paragraph)?.[1] ?? '';
    if (field('Package') === '') continue;
    const depends = `${field('Pre-Depends')},${field('Depends')}`
      .split(/[,|]/)
      .map((part) => part.trim().split(/[ :(]/)[0] ?? '')
      .filter((name) => name !== '');
    records.push({ name: field('Package'), version: field('Version'), sizeBytes: Number(field('Size')), depends });
  }
  return records;
}

/** Reads the output of `apt-get install --print-uris`: name and version of each package. */
export function parsePrintUris(text: string): { name: string; version: string }[] {
  const found: { name: string; version: string }[] = [];
  for (const line of text.split('\n')) {
    const match = /^'[^']+' ([^_ ]+)_([^_ ]+)_[^_ ]+\.deb \d+/.exec(line);
    if (match?.[1] && match[2]) found.push({ name: match[1], version: decodeURIComponent(match[2]) });
  }
  return found;
}

/**
 * One or more Debian suites, with apt's files in a folder of their own: nothing of the system's apt is read but its
 * configuration (proxies) and nothing is written. Works for any user.
 */
export class Archive {
  readonly #folder: string;
  readonly #suites: readonly string[];
  readonly #architecture: string;
  readonly #progress: Progress;
  #updated = false;

  /** @param folder apt's own folder for these suites; made when missing. */
  constructor(folder: string, suites: readonly string[], architecture: string, progress: Progress) {
    this.#folder = folder;
    this.#suites = suites;
    this.#architecture = architecture;
    this.#progress = progress;
  }

  /** Fetches the package lists, from the first mirror that has them. */
  async update(): Promise<void> {
    if (this.#updated) return;
    this.#writeConfiguration();
    const keyring = process.env.VIRTIOFS_DEBIAN_KEYRING ?? debianKeyring();
    if (keyring === undefined) throw noKeyring();
    const problems: string[] = [];
    for (const mirror of await mirrors()) {
      const task = this.#progress.start(`Debian package lists (${this.#suites.join(', ')})`, 0);
      writeFileSync(
        join(this.#folder, 'sources.list'),
        sourcesList(mirror, keyring, this.#suites, [this.#architecture]),
      );
      const result = await this.#apt('apt-get', ['-q', '-o', 'APT::Update::Error-Mode=any', 'update']);
      // apt before 2.1 knows no Error-Mode and ends with 0 after a failed download: the lists tell.
      if (result.code === 0 && this.#haveLists()) {
        task.done();
        this.#updated = true;
        return;
      }
      task.fail();
      problems.push(`${mirror}: ${lastLines(result.stderr, 3)}`);
    }
    throw cannotFetch(this.#suites, problems);
  }

  /** All known versions of the named packages; unknown names are left out. */
  async show(names: readonly string[]): Promise<PackageRecord[]> {
    if (names.length === 0) return [];
    return parseRecords((await this.#apt('apt-cache', ['show', ...names])).stdout);
  }

  /**
   * The packages that `names` need, themselves included, without recommendations, on a system where nothing is
   * installed.
   *
   * @param suite wins over the others.
   */
  async resolve(names: readonly string[], suite: string): Promise<Package[]> {
    const result = await this.#apt('apt-get', [
      'install',
      '--print-uris',
      '-qq',
      '--no-install-recommends',
      '-t',
      suite,
      ...names,
    ]);
    const chosen = parsePrintUris(result.stdout);
    if (result.code !== 0 || chosen.length === 0) {
      throw new LabError(
        'PACKAGES',
        `apt cannot resolve ${names.join(', ')} in ${suite}: ${lastLines(result.stderr, 5)}`,
      );
    }
    return this.show(chosen.map(({ name, version }) => `${name}=${version}`));
  }

  /** Fetches packages (apt checks their checksums) and unpacks them into `tree`. */
  async fetch(what: string, packages: readonly PackageRecord[], tree: string): Promise<void> {
    const totalBytes = packages.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const debs = join(this.#folder, `debs-${process.pid}`);
    mkdirSync(debs, { recursive: true });
    mkdirSync(tree, { recursive: true });
    const task = this.#progress.start(what, totalBytes);
    try {
      const result = await this.#apt(
        'apt-get',
        ['-q', '-o', 'APT::Status-Fd=3', 'download', ...packages.map(({ name, version }) => `${name}=${version}`)],
        { cwd: debs, onStatus: (line) => task.update((percentOf(line) * totalBytes) / 100) },
      );
      if (result.code !== 0) throw new LabError('NETWORK', `${what} cannot be fetched: ${lastLines(result.stderr, 5)}`);
      await unpack(debs, tree);
      task.done();
    } catch (error) {
      task.fail();
      throw error;
    } finally {
      rmSync(debs, { recursive: true, force: true });
    }
  }

  /** Removes what only speeds up the calls of one use. */
  tidy(): void {
    rmSync(join(this.#folder, 'cache/packages.bin'), { force: true });
  }

  #apt(command: string, args: readonly string[], options: ExecOptions = {}): Promise<Finished> {
    // Languages: apt's messages are parsed nowhere, but shown next to ours.
    const env = { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' };
    return exec(command, ['-c', join(this.#folder, 'apt.conf'), ...args], { ...options, env });
  }

  #haveLists(): boolean {
    const files = readdirSync(join(this.#folder, 'state/lists'));
    return this.#suites.every((suite) => files.some((file) => file.includes(`_dists_${suite}_main_binary-`)));
  }

  #writeConfiguration(): void {
    for (const part of ['state/lists/partial', 'cache/archives/partial'])
      mkdirSync(join(this.#folder, part), { recursive: true });
    writeFileSync(join(this.#folder, 'status'), '');
    writeFileSync(join(this.#folder, 'apt.conf'), aptConfiguration(this.#folder, this.#architecture));
  }
}

/**
 * Given with -c, so that it is read after the machine's own configuration: hooks and pins of the machine are dropped,
 * proxies stay.
 */
function aptConfiguration(folder: string, architecture: string): string {
  return [
    ...['APT::Update', 'DPkg', 'APT::Default-Release', 'APT::Architectures'].map((key) => `#clear ${key};`),
    `Dir::State "${folder}/state";`,
    `Dir::State::status "${folder}/status";`,
    `Dir::Cache "${folder}/cache";`,
    // 44 MB that save 0.7 s a call: tidy() removes it.
    'Dir::Cache::pkgcache "packages.bin";',
    'Dir::Cache::srcpkgcache "";',
    `Dir::Etc::SourceList "${folder}/sources.list";`,
    'Dir::Etc::SourceParts "/dev/null";',
    'Dir::Etc::Preferences "/dev/null";',
    'Dir::Etc::PreferencesParts "/dev/null";',
    `APT::Architecture "${architecture}";`,
    `APT::Architectures { "${architecture}"; };`,
    // Root's apt would change to the user _apt, who may not read a cache in somebody's home.
    'APT::Sandbox::User "root";',
    'Acquire::Languages "none";',
    'Acquire::GzipIndexes "true";',
    'Acquire::Retries "3";',
    'Acquire::AllowInsecureRepositories "false";',
    '',
  ].join('\n');
}

async function mirrors(): Promise<string[]> {
  const given = process.env.VIRTIOFS_DEBIAN_MIRROR;
  if (given) return [given.replace(/\/+$/, '')];
  const found = mirrorsOf((await exec('apt-get', ['update', '--print-uris'])).stdout);
  if (found.length > 0) return found;
  throw new LabError(
    'NO_MIRROR',
    'the apt of this machine knows no Debian mirror.\n' +
      'Set VIRTIOFS_DEBIAN_MIRROR to the address of one: the part before /dists/.',
  );
}

async function unpack(debs: string, tree: string): Promise<void> {
  for (const deb of readdirSync(debs).filter((name) => name.endsWith('.deb'))) {
    const result = await exec('dpkg-deb', ['-x', join(debs, deb), tree]);
    if (result.code !== 0) throw new LabError('UNPACK', `dpkg-deb -x ${deb}: ${lastLines(result.stderr, 3)}`);
  }
  for (const unused of ['doc', 'man', 'locale', 'lintian', 'icons']) {
    const folder = join(tree, 'usr/share', unused);
    if (existsSync(folder)) rmSync(folder, { recursive: true, force: true });
  }
}

/** The percentage in apt's `dlstatus:1:42.5:Retrieving file 1 of 2`, or 0. */
function percentOf(line: string): number {
  return line.startsWith('dlstatus:') ? Number(line.split(':')[2]) || 0 : 0;
}

function lastLines(text: string, count: number): string {
  return text.trim().split('\n').slice(-count).join('\n');
}

function noKeyring(): LabError {
  return new LabError(
    'NO_KEYRING',
    'the key that signs Debian packages is not on this machine.\n' +
      'Install the package debian-archive-keyring, or set VIRTIOFS_DEBIAN_KEYRING to a file that holds it.',
  );
}

function cannotFetch(suites: readonly string[], problems: readonly string[]): LabError {
  return new LabError(
    'NETWORK',
    `the package lists of Debian ${suites.join(', ')} cannot be fetched.\n${problems.join('\n')}\n` +
      'Check the network (proxies: those of apt and http_proxy), or set VIRTIOFS_DEBIAN_MIRROR to another mirror.',
  );
}
