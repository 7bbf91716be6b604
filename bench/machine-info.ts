/** The machine of a measurement, as a report describes it: no names of hosts, users or folders. */
import { readFileSync, readlinkSync, realpathSync } from 'node:fs';
import { arch, availableParallelism, release, totalmem } from 'node:os';
import { basename } from 'node:path';

import type { MachineInfo } from './results.ts';

const MIB = 2 ** 20;
const WITHOUT_JOURNAL = 'ext4 without a journal';

/** What a file system does to measurements on it, by its name in MachineInfo. */
export function caveatOf(fileSystem: string): string | undefined {
  if (fileSystem !== WITHOUT_JOURNAL) return undefined;
  // recently_deleted() in fs/ext4/ialloc.c.
  return (
    'The shared folder is on ext4 without a journal. Whoever creates a file there passes over all inodes that were ' +
    'deleted in the last minutes, and takes up to ten times as long, in the daemon: figures depend on who deleted ' +
    'before.'
  );
}

/**
 * The model in the text of /proc/cpuinfo. Where the kernel does not name it (arm64), its part number; the architecture
 * where there is not even that.
 */
export function parseCpuModel(cpuinfo: string): string {
  const field = (name: string): string | undefined =>
    cpuinfo
      .match(new RegExp(`^${name}\\s*:[ \\t]*(\\S.*)$`, 'm'))?.[1]
      .replace(/\s+/g, ' ')
      .trim();
  const named = field('model name') ?? field('Model') ?? field('cpu model');
  if (named !== undefined && named !== '' && named !== 'unknown') return named;
  const [implementer, part] = [field('CPU implementer'), field('CPU part')];
  return implementer === undefined || part === undefined ? `unnamed ${arch()}` : `${arch()} ${implementer}/${part}`;
}

/** The kernel writes these characters of a mount point as three octal digits (proc_pid_mountinfo(5)). */
function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** Where a path lies: a file system's type, and its device as `MAJOR:MINOR`. */
interface Mount {
  readonly type: string;
  readonly device: string;
}

/** The file system that an absolute path without symlinks lies on, by the text of /proc/self/mountinfo. */
export function parseMount(mountinfo: string, path: string): Mount {
  let [deepest, mount] = [-1, { type: 'unknown', device: '0:0' }];
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    if (separator === -1) continue;
    const mountPoint = unescaped(fields[4]);
    const isAbove = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
    // What is mounted later on the same place hides what was there.
    if (isAbove && mountPoint.length >= deepest)
      [deepest, mount] = [mountPoint.length, { type: fields[separator + 1], device: fields[2] }];
  }
  return mount;
}

/**
 * Whether ext4 has no journal, by what it tells in /proc/fs/ext4/DEVICE/options: how data is kept beside the journal is
 * among the options only where there is one (_ext4_show_options() in fs/ext4/super.c).
 */
export function hasNoJournal(options: string): boolean {
  return !/^data=/m.test(options);
}

/** The type of a mounted file system, and whether it is one that distorts measurements (`caveatOf`). */
function describeFileSystem({ type, device }: Mount): string {
  if (type !== 'ext4') return type;
  try {
    const name = basename(readlinkSync(`/sys/dev/block/${device}`));
    return hasNoJournal(readFileSync(`/proc/fs/ext4/${name}/options`, 'utf8')) ? WITHOUT_JOURNAL : type;
  } catch {
    // In a container without /sys, say: nothing is known of the device.
    return type;
  }
}

/** Describes this machine, with the file system of a folder that must be there. */
export function describeMachine(folder: string): MachineInfo {
  return {
    date: new Date().toISOString(),
    cpuModel: parseCpuModel(readFileSync('/proc/cpuinfo', 'utf8')),
    cores: availableParallelism(),
    memoryMiB: Math.round(totalmem() / MIB),
    // Without what a distribution, or who built it, adds: it may be a name.
    kernel: release().replace(/^(\d+(?:\.\d+)*).*/, '$1'),
    fileSystem: describeFileSystem(parseMount(readFileSync('/proc/self/mountinfo', 'utf8'), realpathSync(folder))),
    node: process.version,
  };
}
