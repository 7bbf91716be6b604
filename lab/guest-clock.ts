import { PassThrough } from 'node:stream';
import { LabError } from './errors.ts';
import { eachLine } from './exec.ts';
import type { Vm } from './vm.ts';

/** Good enough for tests that wait a second; a guest that has to wait for a CPU takes several tries. */
const NEAR_MS = 30;
const TRIES = 20;
const LIMIT_MS = 120_000;

/**
 * Sets the clock to each time that comes, `SECONDS NANOSECONDS`, and says what it is then. Perl has no clock_settime(2)
 * but its number: guests are always x86-64.
 */
const SET_CLOCK = `exec perl -MTime::HiRes=time -e '$| = 1; print "0\\n";
while (<STDIN>) { syscall(227, 0, pack("qq", split / /)) == 0 or die "$!\\n";
  printf "%.6f\\n", time }'`;

/**
 * Sets a guest's clock to the host's. Without KVM a guest starts with a clock that counts seconds, and so is up to one
 * late; with writeback, times of one and the same file are of both clocks.
 *
 * @param vm has perl, from fetchTools().
 * @returns the milliseconds that it may still be late.
 * @throws LabError when the guest's clock cannot be set.
 */
export async function setGuestClock(vm: Vm): Promise<number> {
  const stdin = new PassThrough();
  const said = new PassThrough();
  let lateMs = Infinity;
  let tries = 0;
  eachLine(said, (line) => {
    // The first line only says that it listens.
    if (tries > 0) lateMs = Date.now() - Number(line) * 1000;
    if (lateMs <= NEAR_MS || tries === TRIES) {
      stdin.end();
      return;
    }
    tries += 1;
    const nowMs = Date.now();
    stdin.write(`${Math.floor(nowMs / 1000)} ${(nowMs % 1000) * 1_000_000}\n`);
  });
  const { code, stderr } = await vm.run(SET_CLOCK, {
    stdin,
    timeoutMs: LIMIT_MS,
    onStdout: (bytes) => void said.write(bytes),
  });
  if (code !== 0) throw new LabError('CLOCK', `the guest's clock cannot be set: ${stderr.trim()}`);
  return lateMs;
}
