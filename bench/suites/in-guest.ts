/** Work in a guest, timed by the guest's clock. */
import { shellQuoted, type Vm } from '../../lab/index.ts';

/** The slowest contestants take a minute for what others do in a second. */
export const WORK_LIMIT_MS = 600_000;

/** What a program said, as one line for the report. */
export function oneLine(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  return lines.find((line) => line !== '') ?? '';
}

/**
 * Runs a script in a folder of the guest; every command of it must succeed, and what they print is dropped.
 *
 * @throws Error whose message is one line: what the script did last, or the first that it said.
 */
export async function done(vm: Vm, folder: string, script: string): Promise<void> {
  await measured(vm, folder, script, '');
}

/**
 * As `done()`.
 *
 * @returns how long it took, in seconds.
 */
export async function timed(vm: Vm, folder: string, script: string): Promise<number> {
  // A clock of microseconds that takes no process; BusyBox before 1.35 has none, the kernel has one of 10 ms.
  const clock = '{ read -r uptime idle < /proc/uptime; printf \'%s\\n\' "${EPOCHREALTIME:-$uptime}"; }';
  const [began, ended] = (await measured(vm, folder, script, clock)).split('\n').map(Number);
  // What takes less than the clock can tell has taken some time all the same.
  return Math.max(ended - began, 1e-6);
}

async function measured(vm: Vm, folder: string, script: string, clock: string): Promise<string> {
  const whole = [`cd ${shellQuoted(folder)}`, clock, `{\n${script}\n} > /dev/null`, clock].join('\n');
  const { code, stdout, stderr } = await vm.run(`set -e\n${whole}`, { timeoutMs: WORK_LIMIT_MS });
  if (code === 0) return stdout;
  throw new Error(oneLine(stderr) || `'${oneLine(script)}' ended with ${code}`);
}
