import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setGuestClock } from './guest-clock.ts';
import { boot, fetchTools } from './index.ts';

const DAY_S = 86_400;

test("a guest's clock is set to the host's", async () => {
  const { tree } = await fetchTools(['perl']);
  await using vm = await boot({ tools: tree });
  await vm.sh('date -s @1000000000');
  await setGuestClock(vm);
  const guest = Number(await vm.sh('date +%s'));
  assert.ok(Math.abs(guest - Date.now() / 1000) < DAY_S, `the guest's clock says ${guest}`);
});

test('a guest whose clock cannot be set says so', async () => {
  await using vm = await boot();
  await assert.rejects(setGuestClock(vm), { code: 'CLOCK', message: /clock cannot be set: .*perl/ });
});
