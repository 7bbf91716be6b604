import type { Command } from 'commander';
import colors from 'picocolors';

import { type Inspection, inspect } from '../../lab/index.ts';

const HELP = `
Signs: + all right; ! works, but less; x missing. A line that is not all right says what to do.

Exit codes: 0 'virtiofs serve' can work here; 1 it cannot.`;

/** One line of the report. */
export interface Finding {
  /** good; less: serve works, something is slower or missing; bad: serve cannot work. */
  readonly state: 'good' | 'less' | 'bad';
  readonly what: string;
  /** What was found. */
  readonly found: string;
  /** What to do about it. */
  readonly advice?: string;
}

/** Adds `virtiofs doctor`: what this machine has and lacks. */
export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('say what this machine has and lacks, and what to do about it')
    .addHelpText('after', HELP)
    .action(runDoctor);
}

async function runDoctor(): Promise<void> {
  const findings = [findSystem(), findNode(), await findFastPath()];
  const canServe = findings.every(({ state }) => state !== 'bad');
  // What needs system calls can be asked only where there are some.
  if (canServe) findings.push(...(await findRights()), await findLens(), await findGuard());
  findings.push(...guestFindings(await inspect()));
  for (const finding of findings) process.stdout.write(`${formatFinding(finding)}\n`);
  const serves = findings.every(({ state }) => state !== 'bad');
  process.stdout.write(serves ? "\n'virtiofs serve' can work here.\n" : "\n'virtiofs serve' cannot work here.\n");
  process.exitCode = serves ? 0 : 1;
}

/** One finding as text: a sign, what, found, and on a line of its own the advice. */
export function formatFinding({ state, what, found, advice }: Finding): string {
  const signs = { good: colors.green('+'), less: colors.yellow('!'), bad: colors.red('x') };
  const line = `${signs[state]} ${what.padEnd(12)} ${found}`;
  return advice === undefined ? line : `${line}\n${' '.repeat(15)}${colors.dim(advice)}`;
}

function findSystem(): Finding {
  const found = `${process.platform} ${process.arch}`;
  const good = process.platform === 'linux' && (process.arch === 'x64' || process.arch === 'arm64');
  return good
    ? { state: 'good', what: 'system', found }
    : { state: 'bad', what: 'system', found, advice: 'The daemon needs Linux on x86-64 or arm64.' };
}

function findNode(): Finding {
  const found = `${process.versions.node} (${process.execPath})`;
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 26 || (major === 26 && minor >= 10)) return { state: 'good', what: 'Node.js', found };
  const advice = 'It must be 26.10 or newer: reinstall with optional dependencies, or install that Node.js.';
  return { state: 'bad', what: 'Node.js', found, advice };
}

async function findFastPath(): Promise<Finding> {
  try {
    const { fastPath } = await import('../sys/index.ts');
    if (fastPath) return { state: 'good', what: 'system calls', found: 'node:ffi, on its fast path' };
    const advice = 'Use the Node.js release that this package comes with.';
    return { state: 'less', what: 'system calls', found: 'node:ffi, but slowly: this Node.js wraps each call', advice };
  } catch (error) {
    const advice = 'Use the Node.js release that this package comes with, without --permission.';
    return { state: 'bad', what: 'system calls', found: (error as Error).message, advice };
  }
}

/** What each capability is good for; without any, a daemon serves what its own user may do. */
const USEFUL: readonly (readonly [bit: number, name: string, use: string])[] = [
  [0, 'CHOWN', 'guests change owners'],
  [1, 'DAC_OVERRIDE', 'guests reach files of other users'],
  [2, 'DAC_READ_SEARCH', 'more inodes than descriptors are remembered'],
  [3, 'FOWNER', "guests change modes of other users' files"],
  [4, 'FSETID', 'set-group-id bits stay'],
  [6, 'SETGID', "files get the guest's group"],
  [7, 'SETUID', "files get the guest's owner"],
  [27, 'MKNOD', 'guests make device nodes'],
];
/** Each inode that a guest knows may hold a descriptor. */
const PLENTY_OF_DESCRIPTORS = 1_000_000;

async function findRights(): Promise<Finding[]> {
  const { descriptorLimit, effectiveCapabilities } = await import('../sys/index.ts');
  return [capabilityFinding(effectiveCapabilities()), descriptorFinding(descriptorLimit())];
}

/** @param effective the set as in /proc/self/status, CapEff. */
export function capabilityFinding(effective: bigint): Finding {
  const missing = USEFUL.filter(([bit]) => ((effective >> BigInt(bit)) & 1n) === 0n);
  if (missing.length === 0) return { state: 'good', what: 'capabilities', found: 'all that the daemon uses' };
  const found = missing.length === USEFUL.length ? 'none' : `without ${missing.map(([, name]) => name).join(', ')}`;
  const lost = missing.map(([, name, use]) => `${name}: ${use}`).join('; ');
  const advice = `Fine for one user's files. As root you would get ${lost}.`;
  return { state: 'less', what: 'capabilities', found, advice };
}

/** @param limit of RLIMIT_NOFILE. */
export function descriptorFinding({ soft, hard }: { soft: number; hard: number }): Finding {
  const found = `${soft} open files, at most ${hard}`;
  if (hard >= PLENTY_OF_DESCRIPTORS) return { state: 'good', what: 'limits', found };
  const advice = `Beyond that known files cost more: ulimit -Hn ${PLENTY_OF_DESCRIPTORS}, or LimitNOFILE= in a unit.`;
  return { state: 'less', what: 'limits', found, advice };
}

async function findLens(): Promise<Finding> {
  const { lensRefusal } = await import('../coherence/index.ts');
  return lensFinding(lensRefusal());
}

/** @param refusal of `lensRefusal`. */
export function lensFinding(refusal: string | undefined): Finding {
  if (refusal === undefined)
    return { state: 'good', what: 'DAX', found: 'guests can map files (--dax-window), with QEMU 11.1 or newer' };
  const found = 'guests cannot map files (--dax-window)';
  return { state: 'less', what: 'DAX', found, advice: `${refusal[0].toUpperCase()}${refusal.slice(1)}.` };
}

async function findGuard(): Promise<Finding> {
  const { guardRefusal } = await import('../coherence/index.ts');
  return guardFinding(guardRefusal(process.cwd()));
}

/** @param refusal of `guardRefusal`, for the current directory. */
export function guardFinding(refusal: string | undefined): Finding {
  const what = 'DAX guard';
  if (refusal === undefined) return { state: 'good', what, found: '--guard-truncate can work in this directory' };
  const found = '--guard-truncate cannot work in this directory';
  return { state: 'less', what, found, advice: `${refusal[0].toUpperCase()}${refusal.slice(1)}.` };
}

/** What the machine has for `virtiofs vm`, which `serve` does not need. */
export function guestFindings(inspection: Inspection): Finding[] {
  const { canFetch, accelerator } = inspection;
  const fetches = canFetch === true;
  return [
    qemuFinding(inspection),
    kernelFinding(inspection),
    fetches
      ? { state: 'good', what: 'fetching', found: `by apt, into ${inspection.cache}` }
      : {
          state: 'less',
          what: 'fetching',
          found: canFetch.why,
          advice: 'Set VIRTIOFS_QEMU, VIRTIOFS_KERNEL and VIRTIOFS_BUSYBOX.',
        },
    accelerator.kind === 'kvm'
      ? { state: 'good', what: 'KVM', found: accelerator.why }
      : {
          state: 'less',
          what: 'KVM',
          found: accelerator.why,
          advice: 'Guests are emulated (TCG): they work, some ten times slower.',
        },
  ];
}

function qemuFinding({ hostQemu, cachedQemus, canFetch }: Inspection): Finding {
  const given = process.env.VIRTIOFS_QEMU;
  if (given) return { state: 'good', what: 'QEMU', found: `${given} (VIRTIOFS_QEMU)` };
  if ('command' in hostQemu)
    return { state: 'good', what: 'QEMU', found: `${hostQemu.version} (${hostQemu.command[0]})` };
  const versions = cachedQemus.map(({ version }) => version).join(', ');
  if (versions !== '') return { state: 'good', what: 'QEMU', found: `${versions} (cache); ${hostQemu.why}` };
  const advice =
    canFetch === true
      ? "'virtiofs vm' and 'start' fetch it (28 MB)."
      : 'Install QEMU 7.2 or newer, or set VIRTIOFS_QEMU.';
  return { state: 'less', what: 'QEMU', found: hostQemu.why, advice };
}

function kernelFinding({ cachedKernels, canFetch }: Inspection): Finding {
  const given = process.env.VIRTIOFS_KERNEL;
  if (given) return { state: 'good', what: 'guest kernel', found: `${given} (VIRTIOFS_KERNEL)` };
  const versions = cachedKernels.map(({ version }) => version).join(', ');
  if (versions !== '') return { state: 'good', what: 'guest kernel', found: `Linux ${versions} (cache)` };
  const advice =
    canFetch === true ? "'virtiofs vm' and 'start' fetch one (14 MB)." : 'Set VIRTIOFS_KERNEL to an x86-64 image.';
  return { state: 'less', what: 'guest kernel', found: 'none yet', advice };
}
