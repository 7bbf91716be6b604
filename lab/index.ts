/**
 * The lab: real guests for tests, measurements and `virtiofs vm`.
 *
 * ```ts
 * import { boot } from 'virtiofs/lab';
 *
 * await using vm = await boot({ shares: [{ socketPath: '/tmp/fs.sock', tag: 'share', mountPoint: '/mnt/share' }] });
 * console.log(await vm.sh('ls -l /mnt/share'));
 * const { code, stdout, stderr } = await vm.run('cat /mnt/share/a; exit 3');
 * ```
 */
export { type Accelerator, chooseAccelerator, whyNoKvm } from './accelerator.ts';
export { type FetchOptions, fetchTools, KERNEL_VERSIONS, QEMU_VERSIONS } from './assets.ts';
export { type Asset, cacheFolder } from './cache.ts';
export { removeAtExit, undoAtExit } from './cleanup.ts';
export type { CpioEntry } from './cpio.ts';
export { type Daemon, type DaemonOptions, ownDaemon, type ProcessEnd, startDaemon } from './daemon.ts';
export type { Disk } from './disk.ts';
export { LabError, messageOf } from './errors.ts';
export { GUEST_PROJECT } from './guest-node.ts';
export { type GuestRootOptions, writeGuestRoot } from './guest-root.ts';
export { findBusybox, findKernel, findQemu, hostQemu, type Kernel, OLDEST_QEMU, type Qemu } from './host.ts';
export { type Inspection, inspect } from './inspect.ts';
export type { RunOptions, RunResult } from './lane.ts';
export type { NinePShare, Share, VirtiofsShare } from './machine.ts';
export {
  openPjdfstest,
  pjdfstestGuest,
  type PjdfstestResult,
  type PjdfstestSuite,
  runPjdfstest,
} from './pjdfstest.ts';
export type { FileResult } from './prove.ts';
export { shellQuoted } from './quote.ts';
export { type Progress, progressTo, silent } from './progress.ts';
export { type SceneBody, scenario, scenes } from './scenario.ts';
export {
  bootGuest,
  type Host,
  openScene,
  type OpenScene,
  type Scene,
  type SceneOptions,
  type SceneShare,
} from './scene.ts';
export { findVirtiofsd } from './virtiofsd.ts';
export { boot, type BootOptions, GuestError, type MachineEnd, type Vm } from './vm.ts';
