import type { Vm } from '../../lab/index.ts';

/** Ctrl-], as telnet has it: everything else is the guest's. */
const LEAVE = 0x1d;

function sizeCommand(): string {
  return `stty rows ${process.stdout.rows} cols ${process.stdout.columns}`;
}

/** The size belongs to the open terminal, so it is set from within. */
function shellScript(): string {
  return `cd /mnt/share
export PS1='guest:\\w# '
exec setsid -c sh -c '${sizeCommand()}; exec sh' </dev/hvc0 >/dev/hvc0 2>&1`;
}

/**
 * The guest's shell on this terminal, until it ends.
 *
 * @returns its exit code.
 */
export async function interactiveShell(vm: Vm): Promise<number> {
  const { stdin, stdout } = process;
  const onResize = (): void => void vm.run(`${sizeCommand()} </dev/hvc0`).catch(() => {});
  const onKeys = (bytes: Buffer): void => {
    if (bytes.includes(LEAVE)) void vm.kill();
    else vm.terminal.write(bytes);
  };
  const onOutput = (bytes: Buffer): void => void stdout.write(bytes);
  stdin.setRawMode(true);
  stdin.on('data', onKeys);
  stdout.on('resize', onResize);
  vm.terminal.on('data', onOutput);
  try {
    const { code } = await vm.run(shellScript(), { timeoutMs: Infinity });
    return code;
  } catch (error) {
    if (vm.ended === undefined) throw error;
    stdout.write('\r\nThe guest has ended.\r\n');
    return 0;
  } finally {
    stdin.setRawMode(false);
    stdin.off('data', onKeys);
    // An open terminal would keep this process alive.
    stdin.pause();
    stdout.off('resize', onResize);
    vm.terminal.off('data', onOutput);
  }
}
