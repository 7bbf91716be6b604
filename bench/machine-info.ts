/** The machine of a measurement, as a report describes it: no names of hosts, users or folders. */
import { readFileSync, realpathSync } from 'node:fs';
import { arch, availableParallelism, release, totalmem } from 'node:os';

import type { MachineInfo } from './results.ts';

const MIB = 2 ** 20;

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

/** The type of the file system that an absolute path without symlinks lies on, by the text of /proc/self/mountinfo. */
export function parseFileSystem(mountinfo: string, path: string): string {
  let [deepest, type] = [-1, 'unknown'];
  for (const line of mountinfo.split('\n')) {
    const fields = line.split(' ');
    const separator = fields.indexOf('-', 6);
    if (separator === -1) continue;
    const mountPoint = unescaped(fields[4]);
    const isAbove = mountPoint === '/' || path === mountPoint || path.startsWith(`${mountPoint}/`);
    // What is mounted later on the same place hides what was there.
    if (isAbove && mountPoint.length >= deepest) [deepest, type] = [mountPoint.length, fields[separator + 1]];
  }
  return type;
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
    fileSystem: parseFileSystem(readFileSync('/proc/self/mountinfo', 'utf8'), realpathSync(folder)),
    node: process.version,
  };
}
