import type { Command } from 'commander';

import { shellQuoted, type Vm } from '../../lab/index.ts';
import { addGuestOptions, directoryOf, type GuestOptions, startGuest, withGuestErrors, writeTo } from './guest.ts';
import { interactiveShell } from './shell.ts';

const EXAMPLES = `
Examples:
  $ virtiofs vm .                                 a shell in a guest, with this directory at /mnt/share
  $ virtiofs vm ~/project -- ls -l                runs one command there
  $ virtiofs vm . -- 'make 2>&1 | tail'           one argument is a script
  $ echo 'uname -r; ls' | virtiofs vm .           so is standard input
  $ virtiofs vm . --kernel 6.12 --queues 4 --cache always -- sh bench.sh

Without --qemu and --kernel it uses VIRTIOFS_QEMU and VIRTIOFS_KERNEL, then the QEMU of this machine, and fetches what
is missing into VIRTIOFS_CACHE (default ~/.cache/virtiofs). In a shell, Ctrl-D or exit leaves, and Ctrl-] ends the guest
at once.

Exit codes: that of COMMAND, or of the shell; 1 wrong use; 125 no guest (QEMU, kernel or boot failed); 130 Ctrl-C.`;

/** Adds `virtiofs vm`: a small guest with a directory. */
export function registerVm(program: Command): void {
  const command = program
    .command('vm')
    .description('boot a small Linux VM with a directory at /mnt/share; run a command there, or a shell')
    .argument('<dir>', 'the directory')
    .argument('[command...]', 'what to run in the guest, after --');
  addGuestOptions(command)
    .option('--readonly', 'the guest cannot change anything', false)
    .option('--dax', "the guest maps files from the host's page cache, through a window of 512M (QEMU 11.1)", false)
    .option('--dax-window <size>', 'the same through a window of this size, a power of two such as 64M')
    .addHelpText('after', EXAMPLES)
    .action((dir: string, words: string[], options: GuestOptions) => withGuestErrors(() => runVm(dir, words, options)));
}

async function runVm(dir: string, words: readonly string[], options: GuestOptions): Promise<void> {
  const sharedDir = directoryOf(dir);
  const guest = await startGuest(sharedDir, options);
  try {
    process.exitCode = await (words.length === 0 && process.stdin.isTTY && process.stdout.isTTY
      ? interactiveShell(guest.vm)
      : runCommand(guest.vm, words));
  } finally {
    await guest.close();
  }
}

/** The words of a command line as a script: one word is a script already, several are a command and its arguments. */
export function scriptOf(words: readonly string[]): string {
  if (words.length === 0) return 'sh -s';
  return words.length === 1 ? words[0] : words.map(shellQuoted).join(' ');
}

async function runCommand(vm: Vm, words: readonly string[]): Promise<number> {
  const { stdin, stdout, stderr } = process;
  try {
    const { code } = await vm.run(`cd /mnt/share\n${scriptOf(words)}`, {
      timeoutMs: Infinity,
      // Typing at a command that reads works in the shell; here a terminal would be taken from a job in background.
      stdin: stdin.isTTY ? undefined : stdin,
      onStdout: writeTo(stdout),
      onStderr: writeTo(stderr),
    });
    return code;
  } finally {
    stdin.destroy();
  }
}
