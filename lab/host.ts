import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import {
  type FetchOptions,
  fetchBusybox,
  fetchKernel,
  fetchQemu,
  KERNEL_VERSIONS,
  type KernelVersion,
  kernelOfTree,
  QEMU_VERSIONS,
  type QemuVersion,
} from './assets.ts';
import { LabError, messageOf } from './errors.ts';
import { exec } from './exec.ts';
import { modulesOfTree } from './kernel-modules.ts';
import { qemuOfTree, qemuVersion } from './qemu-program.ts';
import { compareVersions, upstreamVersion } from './versions.ts';

/** The oldest QEMU that the daemon is tested with. */
export const OLDEST_QEMU = '7.2';
/** The oldest QEMU in which a share can have a DAX window. */
export const OLDEST_DAX_QEMU = '11.1';
const DEFAULT_QEMU: QemuVersion = '11.1';
/** The smaller of the two downloads, and the stricter kernel. */
const DEFAULT_KERNEL: KernelVersion = '7.3';

/** A QEMU that can be started. */
export interface Qemu {
  /** Program and first arguments. */
  readonly command: readonly string[];
  readonly version: string;
  /** Where it comes from: `VIRTIOFS_QEMU`, `this machine`, `cache`. */
  readonly origin: string;
}

/** A kernel that can be booted. */
export interface Kernel {
  readonly path: string;
  /** Empty when only the file is known. */
  readonly version: string;
  readonly origin: string;
  /** Host paths of modules that its guests load, in their order. */
  readonly modules?: readonly string[];
}

/** How a QEMU is found. */
export interface FindQemuOptions extends FetchOptions {
  /** True: one with a device for DAX. */
  readonly dax?: boolean;
}

/** The file of a program in PATH, or undefined. */
export function which(program: string, path = process.env.PATH ?? ''): string | undefined {
  for (const folder of path.split(delimiter)) {
    const file = join(folder, program);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // Not here.
    }
  }
  return undefined;
}

/** The QEMU that is installed on this machine and new enough, or why there is none. */
export async function hostQemu(oldest = OLDEST_QEMU): Promise<Qemu | { readonly why: string }> {
  // RHEL's is called qemu-kvm and lies beside the path.
  const found = which('qemu-system-x86_64') ?? (process.arch === 'x64' ? which('qemu-kvm', '/usr/libexec') : undefined);
  if (found === undefined) return { why: 'qemu-system-x86_64 is not installed' };
  const version = await qemuVersion([found]);
  if (version === undefined) return { why: `${found} does not start` };
  if (compareVersions(version, oldest) < 0) return { why: `${found} is ${version}, older than ${oldest}` };
  const device = await exec(found, ['-device', 'vhost-user-fs-pci,help'], { timeoutMs: 20_000 });
  if (device.code !== 0) return { why: `${found} has no vhost-user-fs-pci device` };
  return { command: [found], version, origin: 'this machine' };
}

/**
 * Finds a QEMU: VIRTIOFS_QEMU, else the machine's own when it is new enough and no version is asked for, else one from
 * the cache, which is fetched when it is not there.
 *
 * @param wanted a version of QEMU_VERSIONS, a path, or undefined for any.
 * @throws LabError with what to install and which variables to set.
 */
export async function findQemu(wanted: string | undefined, options: FindQemuOptions = {}): Promise<Qemu> {
  const found = await anyQemu(wanted, options);
  if (options.dax === true && compareVersions(found.version, OLDEST_DAX_QEMU) < 0) {
    const what = `the one that is wanted (${wanted ?? found.origin}) is ${found.version}`;
    throw new LabError('VERSION', `DAX takes QEMU ${OLDEST_DAX_QEMU} or newer, and ${what}`);
  }
  return found;
}

async function anyQemu(wanted: string | undefined, options: FindQemuOptions): Promise<Qemu> {
  const given = wanted?.includes('/') ? wanted : wanted === undefined ? process.env.VIRTIOFS_QEMU : undefined;
  if (given) {
    const version = await qemuVersion([given]);
    if (version === undefined) throw new LabError('NO_QEMU', `${given} is not a QEMU that starts here`);
    return { command: [given], version, origin: wanted === undefined ? 'VIRTIOFS_QEMU' : 'given' };
  }
  const oldest = options.dax === true ? OLDEST_DAX_QEMU : OLDEST_QEMU;
  const host = wanted === undefined ? await hostQemu(oldest) : { why: `version ${wanted} is wanted` };
  if ('command' in host) return host;
  const version = wanted ?? DEFAULT_QEMU;
  if (!isOneOf(QEMU_VERSIONS, version)) throw unknownVersion('QEMU', version, QEMU_VERSIONS);
  try {
    const asset = await fetchQemu(version, options);
    return { command: qemuOfTree(asset.tree), version: upstreamVersion(asset.version), origin: 'cache' };
  } catch (error) {
    throw new LabError(
      'NO_QEMU',
      `no QEMU: ${host.why}, and it cannot be fetched.\n${messageOf(error)}\n${INSTALL_QEMU}`,
      { cause: error },
    );
  }
}

const INSTALL_QEMU = `Install QEMU ${OLDEST_QEMU} or newer:
  Debian, Ubuntu   apt install qemu-system-x86
  Fedora           dnf install qemu-system-x86-core
  Arch             pacman -S qemu-system-x86
  Alpine           apk add qemu-system-x86_64
or set VIRTIOFS_QEMU to the path of a qemu-system-x86_64.`;

const GIVE_KERNEL = `Set VIRTIOFS_KERNEL to the path of an x86-64 Linux image, 5.4 or newer, with these built in:
VIRTIO_PCI, VIRTIO_FS, VIRTIO_CONSOLE, SERIAL_8250_CONSOLE, DEVTMPFS.`;

/**
 * Finds a kernel: VIRTIOFS_KERNEL when no version is asked for, else one from the cache, fetched when it is not there.
 *
 * @param wanted a version of KERNEL_VERSIONS, a path, or undefined for any.
 */
export async function findKernel(wanted: string | undefined, options: FetchOptions = {}): Promise<Kernel> {
  const given = wanted?.includes('/') ? wanted : wanted === undefined ? process.env.VIRTIOFS_KERNEL : undefined;
  if (given) {
    if (!existsSync(given)) throw new LabError('NO_KERNEL', `there is no kernel at ${given}`);
    return { path: given, version: '', origin: wanted === undefined ? 'VIRTIOFS_KERNEL' : 'given' };
  }
  const version = wanted ?? DEFAULT_KERNEL;
  if (!isOneOf(KERNEL_VERSIONS, version)) throw unknownVersion('kernel', version, KERNEL_VERSIONS);
  try {
    const asset = await fetchKernel(version, options);
    const { tree } = asset;
    const modules = modulesOfTree(tree);
    return { path: kernelOfTree(tree), version: upstreamVersion(asset.version), origin: 'cache', modules };
  } catch (error) {
    throw new LabError(
      'NO_KERNEL',
      `no kernel for the guest: it cannot be fetched.\n${messageOf(error)}\n${GIVE_KERNEL}`,
      { cause: error },
    );
  }
}

/** Finds a static BusyBox for the guest: VIRTIOFS_BUSYBOX, this machine's, or the cache's. */
export async function findBusybox(options: FetchOptions = {}): Promise<string> {
  const given = process.env.VIRTIOFS_BUSYBOX;
  if (given) return given;
  const host = which('busybox');
  if (host !== undefined && process.arch === 'x64' && isStatic(host)) return host;
  const asset = await fetchBusybox(options).catch((error: unknown) => {
    throw new LabError(
      'NO_BUSYBOX',
      `no BusyBox for the guest.\n${messageOf(error)}\nInstall busybox-static, or set VIRTIOFS_BUSYBOX.`,
      {
        cause: error,
      },
    );
  });
  return [join(asset.tree, 'usr/bin/busybox'), join(asset.tree, 'bin/busybox')].find((path) => existsSync(path)) ?? '';
}

/** True for a 64-bit ELF program that names no interpreter (program header type 3). */
export function isStatic(path: string): boolean {
  const bytes = readFileSync(path);
  if (bytes.length < 64 || bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2) return false;
  const table = Number(bytes.readBigUInt64LE(32));
  const size = bytes.readUInt16LE(54);
  const count = bytes.readUInt16LE(56);
  for (let i = 0; i < count; i += 1) if (bytes.readUInt32LE(table + i * size) === 3) return false;
  return true;
}

function isOneOf<T extends string>(known: readonly T[], version: string): version is T {
  return known.some((each) => each === version);
}

function unknownVersion(what: string, version: string, known: readonly string[]): LabError {
  return new LabError('VERSION', `${what} '${version}' is neither a path (with a '/') nor one of ${known.join(', ')}`);
}
