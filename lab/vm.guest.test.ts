import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { boot, GuestError, type Vm } from './index.ts';

const isGuestError = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof GuestError && error.code === code && pattern.test(error.message);

describe('a guest', () => {
  let vm: Vm;
  before(async () => {
    vm = await boot();
  });
  after(() => vm?.kill());

  test('gives output, errors and the exit code apart', async () => {
    const { code, stdout, stderr } = await vm.run('echo out; echo err >&2; exit 7');
    assert.deepEqual({ code, stdout, stderr }, { code: 7, stdout: 'out\n', stderr: 'err\n' });
  });

  test('ends a command by a signal as a shell says it', async () => {
    assert.equal((await vm.run('sh -c "kill -INT \\$\\$"')).code, 128 + 2);
  });

  test('passes every byte both ways, and the end of the input', async () => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
    const { stdoutBytes } = await vm.run('cat', { stdin: bytes });
    assert.ok(stdoutBytes.equals(bytes));
    assert.equal(await vm.sh('cat'), '');
  });

  test('runs commands at once', async () => {
    const [waiting] = await Promise.all([
      vm.sh('mkfifo /tmp/fifo; cat /tmp/fifo'),
      vm.sh('until [ -p /tmp/fifo ]; do usleep 1000; done; echo through >/tmp/fifo'),
    ]);
    assert.equal(waiting, 'through');
  });

  test('streams output at the pace of the one who takes it', async () => {
    const sizes: number[] = [];
    const result = await vm.run('head -c 1000000 /dev/zero', {
      onStdout: async (bytes) => {
        await new Promise((resolve) => setImmediate(resolve));
        sizes.push(bytes.length);
      },
    });
    assert.equal(result.stdout, '');
    assert.equal(
      sizes.reduce((sum, size) => sum + size, 0),
      1_000_000,
    );
  });

  test('a command that fails says what and why', async () => {
    await assert.rejects(vm.sh('ls /nowhere'), isGuestError('COMMAND', /'ls \/nowhere' ended with 1[^]*No such file/));
  });

  test('is there again after a reset and after a reboot', async () => {
    await vm.sh('touch /tmp/before');
    await vm.reset();
    assert.equal(await vm.sh('ls /tmp'), '');
    await vm.reboot();
    assert.equal(await vm.sh('echo again'), 'again');
  });

  test('a command that does not end costs its own time and no other command', async () => {
    await assert.rejects(vm.run('sleep 1000', { timeoutMs: 200 }), isGuestError('TIME', /'sleep 1000' did not end/));
    assert.equal(await vm.sh('echo still there'), 'still there');
  });

  test('ends when it is told to', async () => {
    assert.deepEqual(await vm.stop(), { code: 0, signal: null });
    assert.equal(existsSync(`/proc/${vm.pid}`), false);
    await assert.rejects(vm.run('true'), isGuestError('EXITED', /QEMU ended/));
  });
});

test('a panic ends the guest, and the error shows the end of its console', async () => {
  const vm = await boot({ kernel: '6.12' });
  const crash = vm.sh('echo c >/proc/sysrq-trigger');
  await assert.rejects(crash, isGuestError('PANIC', /gave up: Kernel panic[^]*console ---[^]*sysrq_handle_crash/));
  assert.equal((await vm.exited).signal, 'SIGKILL');
});

test('a guest whose time is over ends', async () => {
  let vm: Vm | undefined;
  const tooLong = async (): Promise<void> => {
    // On a busy machine its time may be over before it is up.
    vm = await boot({ timeLimitMs: 20_000 });
    await vm.run('sleep 1000');
  };
  await assert.rejects(tooLong, isGuestError('TIME', /time of 20000 ms is over/));
  if (vm !== undefined) assert.equal((await vm.exited).signal, 'SIGKILL');
});

test('a kernel without a root filesystem does not come up, and the error says why', async () => {
  await assert.rejects(boot({ kernelArguments: 'rdinit=/nothing' }), isGuestError('PANIC', /Kernel panic/));
});

test('a socket that nobody listens on is in the error, in the words of QEMU', async () => {
  const shares = [{ socketPath: '/nonexistent/socket', tag: 'share' }];
  await assert.rejects(boot({ shares }), isGuestError('EXITED', /exit code 1[^]*QEMU said[^]*\/nonexistent\/socket/));
});
