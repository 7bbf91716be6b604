/*
 * QEMU's command line. Pure, so that it can be read in a test.
 */
import { diskArguments } from './disk.ts';

/** A virtio-fs socket that a guest gets as a device. */
export interface VirtiofsShare {
  readonly kind?: 'virtiofs';
  /** Host path of the daemon's vhost-user socket. */
  readonly socketPath: string;
  /** Name of the filesystem in the guest: `mount -t virtiofs TAG`. */
  readonly tag: string;
  /** Request queues, default 1. */
  readonly queues?: number;
  /** Descriptors of a queue, default 1024: requests of 1 MiB fit. */
  readonly queueSize?: number;
  /** Where boot() mounts it; not mounted when absent. */
  readonly mountPoint?: string;
  /** For `mount -o`. */
  readonly mountOptions?: string;
  /**
   * True: the device can have a window for DAX (QEMU 11.1). Its tag, and how many queues the guest uses, come from the
   * daemon's configuration space then; `tag` must be the same.
   */
  readonly dax?: boolean;
  /** Another device than vhost-user-fs-pci: gets the id of the character device, gives the argument of -device. */
  readonly device?: (chardev: string) => string;
}

/** A host folder that QEMU itself serves, by virtio-9p, to compare virtio-fs with. It takes a kernel with 9p. */
export interface NinePShare {
  readonly kind: '9p';
  readonly sharedDir: string;
  /** Name of the filesystem in the guest, 31 bytes at most. */
  readonly tag: string;
  /** Where boot() mounts it; not mounted when absent. */
  readonly mountPoint?: string;
  /** For `mount -o`, after NINE_P_OPTIONS: `cache=mmap`, say. */
  readonly mountOptions?: string;
}

export type Share = VirtiofsShare | NinePShare;

/** For `mount -t 9p -o`. The largest message that the driver takes: 125 pages. */
export const NINE_P_OPTIONS = 'trans=virtio,version=9p2000.L,msize=512000';

/** What a command line is made of. */
export interface MachineOptions {
  readonly accel: 'kvm' | 'tcg';
  readonly qemuVersion: string;
  readonly memoryMiB: number;
  readonly cpus: number;
  readonly kernelPath: string;
  /** Absent when the root filesystem is a share. */
  readonly initramfsPath?: string;
  readonly kernelArguments: string;
  readonly shares: readonly Share[];
  /** Images of the guest's disks. */
  readonly diskPaths?: readonly string[];
  readonly lanes: number;
  /** The socket paths of the lanes' input ports. */
  readonly inputPath: (lane: number) => string;
  /** False only to show what happens without: the daemon cannot reach the guest's memory then. */
  readonly sharedMemory?: boolean;
  readonly extraArgs?: readonly string[];
}

/** Descriptors that QEMU inherits, all sockets: QMP, the interactive console, and io and err of each lane. */
export const QMP_FD = 3;
export const TERMINAL_FD = 4;
export function laneFds(lane: number): { io: number; err: number } {
  return { io: 5 + 2 * lane, err: 6 + 2 * lane };
}

/** A comma in an option's value is written twice. */
function quoted(value: string): string {
  return value.replaceAll(',', ',,');
}

function laneArguments(lane: number, inputPath: string): string[] {
  const { io, err } = laneFds(lane);
  const port = (name: string, backend: string): string[] => [
    ...['-chardev', `socket,id=lane${lane}${name},${backend}`],
    ...['-device', `virtserialport,bus=ports.0,chardev=lane${lane}${name},name=lab.${lane}.${name}`],
  ];
  return [
    ...port('io', `fd=${io}`),
    ...port('err', `fd=${err}`),
    ...port('in', `path=${quoted(inputPath)},server=on,wait=off`),
  ];
}

/**
 * vhost-user-fs-pci has no window: QEMU's device for a vhost-user back-end of any kind has what the back-end asks for.
 * 26 is VIRTIO_ID_FS, 44 the size of struct virtio_fs_config.
 */
function daxDevice(queues: number, queueSize: number): string {
  return `vhost-user-test-device-pci,virtio-id=26,num_vqs=${1 + queues},vq_size=${queueSize},config_size=44`;
}

function ninePArguments({ sharedDir, tag }: NinePShare, id: string): string[] {
  const server = `local,id=${id},path=${quoted(sharedDir)},security_model=none,multidevs=remap`;
  return ['-fsdev', server, '-device', `virtio-9p-pci,fsdev=${id},mount_tag=${quoted(tag)}`];
}

function shareArguments(share: Share, index: number): string[] {
  const chardev = `fs${index}`;
  if (share.kind === '9p') return ninePArguments(share, chardev);
  const { queues = 1, queueSize = 1024, tag } = share;
  const standard = `vhost-user-fs-pci,tag=${quoted(tag)},num-request-queues=${queues},queue-size=${queueSize}`;
  const ours = share.dax === true ? daxDevice(queues, queueSize) : standard;
  const device = share.device?.(chardev) ?? `${ours},chardev=${chardev}`;
  return ['-chardev', `socket,id=${chardev},path=${quoted(share.socketPath)}`, '-device', device];
}

/**
 * Emulated, a plain CPU is faster than 'max', which saves AVX registers at each switch of a process. QEMU 7.2 emulates
 * cmpxchg16b wrongly: one boot in twenty ends in a panic, mostly in the slab allocator. Without it none in sixty did.
 */
function emulatedCpu(qemuVersion: string): string {
  return Number(qemuVersion.split('.')[0]) < 8 ? 'Nehalem,-cx16' : 'Nehalem';
}

/** The arguments after the program. Standard output is the guest's serial console. */
export function machineArguments(options: MachineOptions): string[] {
  const lanes = Array.from({ length: options.lanes }, (_, lane) => laneArguments(lane, options.inputPath(lane)));
  const shared = options.sharedMemory === false ? 'off' : 'on';
  const initrd = options.initramfsPath === undefined ? [] : ['-initrd', options.initramfsPath];
  return [
    ...['-nodefaults', '-no-user-config', '-display', 'none'],
    ...['-machine', 'q35,memory-backend=memory', '-accel', options.accel],
    ...['-cpu', options.accel === 'kvm' ? 'host' : emulatedCpu(options.qemuVersion)],
    ...['-smp', String(options.cpus), '-m', `${options.memoryMiB}M`],
    ...['-object', `memory-backend-memfd,id=memory,size=${options.memoryMiB}M,share=${shared}`],
    ...['-chardev', `socket,id=qmp,fd=${QMP_FD}`, '-qmp', 'chardev:qmp'],
    ...['-chardev', 'stdio,id=console,signal=off', '-device', 'isa-serial,chardev=console'],
    ...['-device', 'virtio-serial-pci,id=ports'],
    ...['-chardev', `socket,id=terminal,fd=${TERMINAL_FD}`, '-device', 'virtconsole,bus=ports.0,chardev=terminal'],
    ...lanes.flat(),
    ...options.shares.flatMap((share, index) => shareArguments(share, index)),
    ...diskArguments(options.diskPaths ?? []),
    ...['-kernel', options.kernelPath, ...initrd, '-append', options.kernelArguments],
    ...(options.extraArgs ?? []),
  ];
}

/*
 * A panic must stay on the console instead of rebooting. The rest is speed: each letter on the console costs an exit,
 * the self-tests of the crypto code cost a second under TCG.
 */
const BOOT_ARGUMENTS =
  'console=ttyS0 quiet panic=0 cryptomgr.notests nokaslr mitigations=off audit=0 tsc=reliable no_timer_check';

/** The kernel's command line. `rootTag`: the tag of the share that is the root filesystem. */
export function kernelArguments(rootTag: string | undefined, extra: string): string {
  const root = rootTag === undefined ? 'rdinit=/init' : `rootfstype=virtiofs root=${rootTag} rw init=/init`;
  return `${BOOT_ARGUMENTS} ${root} ${extra}`.trim();
}
