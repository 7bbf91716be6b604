import { type Accelerator, chooseAccelerator, whyNoKvm } from './accelerator.ts';
import { KERNEL_VERSIONS, kernelOfTree, QEMU_VERSIONS } from './assets.ts';
import { cacheFolder, findAsset } from './cache.ts';
import { haveApt } from './debian.ts';
import { hostQemu, type Kernel, type Qemu } from './host.ts';
import { debianKeyring } from './mirror.ts';
import { qemuOfTree } from './qemu-program.ts';
import { upstreamVersion } from './versions.ts';

/** What this machine has for guests, without fetching anything. */
export interface Inspection {
  readonly cache: string;
  /** The installed QEMU, or why it cannot be used. */
  readonly hostQemu: Qemu | { readonly why: string };
  /** What was fetched before. */
  readonly cachedQemus: readonly Qemu[];
  readonly cachedKernels: readonly Kernel[];
  /** How guests would run; without QEMU and kernel it is not tried, only looked at. */
  readonly accelerator: Accelerator;
  /** Whether QEMU and kernels can be fetched, network provided; else why not. */
  readonly canFetch: true | { readonly why: string };
}

/** Looks at this machine. */
export async function inspect(): Promise<Inspection> {
  const cache = cacheFolder();
  const host = await hostQemu();
  const cachedQemus: Qemu[] = [];
  for (const version of QEMU_VERSIONS) {
    const asset = findAsset(cache, `qemu-${version}`);
    if (asset === undefined) continue;
    cachedQemus.push({ command: qemuOfTree(asset.tree), version: upstreamVersion(asset.version), origin: 'cache' });
  }
  const cachedKernels: Kernel[] = [];
  for (const version of KERNEL_VERSIONS) {
    const asset = findAsset(cache, `kernel-${version}`);
    if (asset === undefined) continue;
    cachedKernels.push({ path: kernelOfTree(asset.tree), version: upstreamVersion(asset.version), origin: 'cache' });
  }
  const qemu = 'command' in host ? host : cachedQemus.at(-1);
  const kernel = cachedKernels.at(-1);
  const untried = (): Accelerator => {
    const why = whyNoKvm();
    return why === undefined ? { kind: 'kvm', why: 'not tried yet' } : { kind: 'tcg', why };
  };
  const accelerator = qemu && kernel ? await chooseAccelerator(qemu, kernel) : untried();
  return { cache, hostQemu: host, cachedQemus, cachedKernels, accelerator, canFetch: await canFetch() };
}

async function canFetch(): Promise<true | { why: string }> {
  if (!(await haveApt())) return { why: 'there is no apt-get and dpkg-deb' };
  if (debianKeyring() === undefined) return { why: 'there is no Debian keyring (package debian-archive-keyring)' };
  return true;
}
