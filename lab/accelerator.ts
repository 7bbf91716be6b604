import { accessSync, constants, readFileSync } from 'node:fs';
import { messageOf } from './errors.ts';
import { exec } from './exec.ts';
import type { Kernel, Qemu } from './host.ts';

/** How guests run here, and why not faster. */
export interface Accelerator {
  readonly kind: 'kvm' | 'tcg';
  /** One sentence. */
  readonly why: string;
}

const PROBE_LIMIT_MS = 10_000;

/**
 * What of KVM can be told without a guest: the CPU's flags and the device.
 *
 * @returns why KVM cannot work, or undefined.
 */
export function whyNoKvm(cpuinfo: string = readCpuinfo(), device = '/dev/kvm'): string | undefined {
  if (process.arch !== 'x64') return `this machine is ${process.arch}, the guest x86-64`;
  // Present in many containers and VMs where it can do nothing: the flags tell.
  if (!/^flags\s*:.*\b(vmx|svm)\b/m.test(cpuinfo))
    return 'the CPU has neither vmx nor svm (a VM without nested virtualization?)';
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT')
      return `${device} is missing (modprobe kvm_intel or kvm_amd; in a container, pass the device)`;
    const why = code === 'EACCES' ? 'no permission (add yourself to the group kvm)' : messageOf(error);
    return `${device} cannot be opened: ${why}`;
  }
}

function readCpuinfo(): string {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    return '';
  }
}

/** Boots the kernel without a root filesystem: it must say its name and give up. */
async function probe(qemu: Qemu, kernel: Kernel): Promise<string | undefined> {
  const result = await exec(
    qemu.command[0] ?? '',
    [
      ...qemu.command.slice(1),
      ...[
        '-nodefaults',
        '-no-user-config',
        '-display',
        'none',
        '-machine',
        'q35,accel=kvm',
        '-cpu',
        'host',
        '-m',
        '256M',
      ],
      ...['-serial', 'stdio', '-no-reboot', '-kernel', kernel.path, '-append', 'console=ttyS0 panic=-1'],
    ],
    { timeoutMs: PROBE_LIMIT_MS },
  );
  if (/Linux version/.test(result.stdout)) return undefined;
  return `a probe boot failed: ${result.stderr.trim().split('\n').at(-1) || 'no sign of life'}`;
}

let chosen: Promise<Accelerator> | undefined;

/** KVM where it works, else TCG, which runs everywhere and slower. Probed once in a process. */
export function chooseAccelerator(qemu: Qemu, kernel: Kernel): Promise<Accelerator> {
  chosen ??= (async (): Promise<Accelerator> => {
    const why = whyNoKvm() ?? (await probe(qemu, kernel));
    if (why === undefined) return { kind: 'kvm', why: 'KVM works' };
    return { kind: 'tcg', why };
  })();
  return chosen;
}
