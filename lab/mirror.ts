import { existsSync } from 'node:fs';

/*
 * Where Debian's packages come from. This project names no mirror: it uses the one that the machine's own apt is
 * configured with, or VIRTIOFS_DEBIAN_MIRROR. Every Debian mirror carries every current release.
 */

const RELEASES = new Set([
  ...['bullseye', 'bookworm', 'trixie', 'forky', 'duke', 'sid'],
  ...['oldoldstable', 'oldstable', 'stable', 'testing', 'unstable'],
]);

/** A release name without the `-updates`, `-backports` or similar after it. */
function baseRelease(release: string): string {
  return release.replace(/-(updates|backports|backports-sloppy|proposed-updates)$/, '');
}

/**
 * The Debian mirrors among what `apt-get update --print-uris` would fetch, the likeliest first.
 *
 * Other archives use Debian's release names too (`https://.../linux/debian bookworm`), so a place that also has
 * `bookworm-updates`, or whose path is `/debian`, goes first; apt's signature check settles it.
 *
 * @param printUris the command's output: `'URI' file size` a line.
 * @returns base URIs without a trailing slash.
 */
export function mirrorsOf(printUris: string): string[] {
  const scores = new Map<string, number>();
  for (const line of printUris.split('\n')) {
    const match = /^'([a-z+]+:.+?)\/dists\/([^/']+)\/InRelease'/.exec(line);
    if (match === null) continue;
    const [, base = '', release = ''] = match;
    if (!RELEASES.has(baseRelease(release)) || /^(cdrom|copy):/.test(base) || base.endsWith('-security')) continue;
    const score = (scores.get(base) ?? 0) + 1 + (base.endsWith('/debian') ? 1 : 0);
    scores.set(base, score);
  }
  return [...scores].toSorted(([, a], [, b]) => b - a).map(([base]) => base);
}

const KEYRINGS = ['debian-archive-keyring.gpg', 'debian-archive-keyring.pgp'];

/** The keyring that Debian's archives are signed with, on this machine. */
export function debianKeyring(folder = '/usr/share/keyrings'): string | undefined {
  return KEYRINGS.map((name) => `${folder}/${name}`).find((path) => existsSync(path));
}

/**
 * A sources list for one mirror.
 *
 * @param architectures Debian's names, such as `amd64`.
 */
export function sourcesList(
  mirror: string,
  keyring: string,
  suites: readonly string[],
  architectures: readonly string[],
): string {
  // target: a machine with apt-file or AppStream would fetch ten times as much.
  const options = `[signed-by=${keyring} arch=${architectures.join(',')} target=Packages]`;
  return suites.map((suite) => `deb ${options} ${mirror} ${suite} main\n`).join('');
}
