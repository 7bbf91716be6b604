import type { Vm } from '../../lab/index.ts';

/** Ctrl-], as telnet has it: everything else is the guest's. */
const LEAVE = 0x1d;

/**
 * The guest's shell on this terminal, until it ends.
 *
 * @returns its exit code.
 */
export async function interactiveShell(vm: Vm): Promise<number> {
  const { stdin, stdout } = process;
  const resize = (): string => `stty rows ${stdout.rows} cols ${stdout.columns} </dev/hvc0`;
  const onResize = (): void => void vm.run(resize()).catch(() => {});
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
    const script = `${resize()}
cd /mnt/share
export PS1='guest:\\w# '
exec setsid -c sh </dev/hvc0 >/dev/hvc0 2>&1`;
    const { code } = await vm.run(script, { timeoutMs: Infinity });
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
