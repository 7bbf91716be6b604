import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { type FetchOptions, fetchTools } from './assets.ts';
import { LabError, messageOf } from './errors.ts';
import { exec } from './exec.ts';
import { which } from './host.ts';
import { programOfTree } from './qemu-program.ts';
import { shellQuoted } from './quote.ts';

/** A local filesystem of a guest, fresh at each boot and gone with the guest: what a share is compared with. */
export interface Disk {
  /** Where boot() mounts it. */
  readonly mountPoint: string;
  readonly fileSystem: 'ext4';
  /** The image is sparse: what the guest does not write takes no room on the host. */
  readonly sizeMiB: number;
  /** For `mount -o`. */
  readonly mountOptions?: string;
}

const FORMAT_LIMIT_MS = 60_000;
/** Nothing is zeroed ahead of time, neither now nor by the guest (noinit_itable): fresh files are all holes. */
const FORMAT = ['-q', '-F', '-t', 'ext4', '-E', 'lazy_itable_init=1,lazy_journal_init=1,nodiscard'];
/** The PATH of a user who is not root often lacks the last two. */
const PROGRAM_FOLDERS = `${process.env.PATH}:/usr/sbin:/sbin`;
const MOUNT_OPTIONS = 'noinit_itable';

/** The command line of an mke2fs: this machine's or a fetched one. */
async function findMke2fs(folders: string, options: FetchOptions): Promise<string[]> {
  const found = which('mke2fs', folders);
  if (found !== undefined) return [found];
  const { tree } = await fetchTools(['e2fsprogs'], options);
  return ['env', `MKE2FS_CONFIG=${join(tree, 'etc/mke2fs.conf')}`, ...programOfTree(tree, 'usr/sbin/mke2fs')];
}

/**
 * Makes and formats a disk's image.
 *
 * @param path of the image, which must not exist.
 * @param folders where mke2fs is looked for before it is fetched, as in PATH.
 * @throws LabError when there is no mke2fs, or it fails.
 */
export async function makeDisk(
  path: string,
  disk: Disk,
  options: FetchOptions = {},
  folders = PROGRAM_FOLDERS,
): Promise<void> {
  const fd = openSync(path, 'wx', 0o600);
  try {
    ftruncateSync(fd, disk.sizeMiB * 1024 * 1024);
  } finally {
    closeSync(fd);
  }
  const [program = '', ...args] = await findMke2fs(folders, options).catch((error: unknown) => {
    const why = `${disk.mountPoint} cannot be formatted: no mke2fs.\n${messageOf(error)}\nInstall e2fsprogs.`;
    throw new LabError('NO_MKFS', why, { cause: error });
  });
  const { code, stderr } = await exec(program, [...args, ...FORMAT, path], { timeoutMs: FORMAT_LIMIT_MS });
  if (code === 0) return;
  throw new LabError('MKFS', `the ${disk.sizeMiB} MiB for ${disk.mountPoint} cannot be formatted: ${stderr.trim()}`);
}

/**
 * QEMU's arguments for disks. They are NVMe namespaces, because Debian's kernels have that driver built in, while
 * virtio-blk is a module of a package that the lab does not fetch.
 */
export function diskArguments(paths: readonly string[]): string[] {
  if (paths.length === 0) return [];
  const namespaces = paths.flatMap((path, index) => [
    // Nothing has to survive the guest: no flush reaches the host's disk.
    ...['-drive', `if=none,id=disk${index},format=raw,cache=unsafe,file=${path.replaceAll(',', ',,')}`],
    ...['-device', `nvme-ns,bus=disks,drive=disk${index},nsid=${index + 1}`],
  ]);
  return ['-device', 'nvme,id=disks,serial=disks', ...namespaces];
}

/** The guest's script that mounts the disk which is number `index` in diskArguments(). */
export function mountDisk(disk: Disk, index: number): string {
  const point = shellQuoted(disk.mountPoint);
  const options = disk.mountOptions === undefined ? MOUNT_OPTIONS : `${MOUNT_OPTIONS},${disk.mountOptions}`;
  // The driver looks for its disks while process 1 runs already, and names them in the order in which it finds them.
  return `while :; do
  for found in /sys/block/nvme*; do
    { read -r nsid <"$found/nsid"; } 2>/dev/null && [ "$nsid" = ${index + 1} ] && [ -b "/dev/\${found##*/}" ] && break 2
  done
  usleep 10000
done
mkdir -p ${point} && mount -t ${disk.fileSystem} -o ${shellQuoted(options)} "/dev/\${found##*/}" ${point}`;
}
