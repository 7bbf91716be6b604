import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Command } from 'commander';
import colors from 'picocolors';

import { removeAtExit, type Vm } from '../../lab/index.ts';
import { addGuestOptions, type Guest, type GuestOptions, startGuest, withGuestErrors } from './guest.ts';
import { interactiveShell } from './shell.ts';

const HELP = `
A directory made for the occasion is shared with a small Linux guest, and both sides read what the other one wrote. On a
terminal you are then in the guest's shell. QEMU and a kernel are fetched where the machine has none.

Exit codes: 0 all worked; 1 wrong use, or guest and host saw different things; 125 no guest.`;

/** Adds `virtiofs start`: the whole thing, shown. */
export function registerStart(program: Command): void {
  const command = program
    .command('start')
    .description('show it: boot a small Linux VM with a demo directory, write and read from both sides');
  addGuestOptions(command)
    .addHelpText('after', HELP)
    .action((options: GuestOptions) => withGuestErrors(() => runStart(options)));
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);

/** Runs one side's step and shows what it did and how long it took. */
async function step(side: 'guest' | 'host', command: string, work: () => string | Promise<string>): Promise<string> {
  const began = performance.now();
  const text = await work();
  const took = `${(performance.now() - began).toFixed(1)} ms`;
  const prompt = side === 'guest' ? colors.green('guest# ') : colors.cyan('host$  ');
  say(`${prompt}${colors.bold(command)}  ${colors.dim(took)}`);
  if (text !== '') say(text.replaceAll(/^/gm, '       '));
  return text;
}

function makeDemo(folder: string): void {
  writeFileSync(join(folder, 'README.txt'), 'This directory is on the host. The guest has it at /mnt/share.\n');
  mkdirSync(join(folder, 'notes'));
  for (const day of ['monday', 'tuesday', 'wednesday']) {
    writeFileSync(join(folder, 'notes', `${day}.txt`), `Nothing happened on ${day}.\n`);
  }
}

/** What the guest and the host do in turn. @returns whether each saw what the other wrote. */
async function demonstrate(vm: Vm, folder: string): Promise<boolean> {
  const inGuest = (command: string): Promise<string> => step('guest', command, () => vm.sh(command));
  const fromHost = 'written on the host while the guest was running';
  const fromGuest = 'written in the guest';
  await inGuest('ls -lR /mnt/share');
  await step('host', `echo '${fromHost}' >${join(folder, 'from-host.txt')}`, () => {
    writeFileSync(join(folder, 'from-host.txt'), `${fromHost}\n`);
    return '';
  });
  const seenInGuest = await inGuest('cat /mnt/share/from-host.txt');
  await inGuest(`echo '${fromGuest}' >/mnt/share/from-guest.txt`);
  const seenOnHost = await step('host', `cat ${join(folder, 'from-guest.txt')}`, () =>
    readFileSync(join(folder, 'from-guest.txt'), 'utf8').trimEnd(),
  );
  await inGuest('df -h /mnt/share | tail -n 1');
  return seenInGuest === fromHost && seenOnHost === fromGuest;
}

function introduce({ vm, daemon }: Guest, uname: string, folder: string): void {
  say('');
  say(`${colors.bold('virtiofs')}: ${folder} on the host is /mnt/share in a guest.`);
  const how = vm.accel === 'kvm' ? 'KVM' : 'TCG (emulated: everything in it is slower than in real use)';
  say(colors.dim(`  Linux ${uname}, QEMU ${vm.qemuVersion}, ${how}`));
  say(colors.dim(`  daemon ready in ${daemon.readyMs.toFixed(0)} ms, guest up in ${(vm.bootMs / 1000).toFixed(1)} s`));
  say('');
}

async function runStart(options: GuestOptions): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-demo-'));
  const removeFolder = removeAtExit(folder);
  try {
    makeDemo(folder);
    const guest = await startGuest(folder, options);
    try {
      introduce(guest, await guest.vm.sh('uname -r'), folder);
      const same = await demonstrate(guest.vm, folder);
      say('');
      say(
        same ? colors.green('Each side read what the other wrote.') : colors.red('The two sides saw different things.'),
      );
      process.exitCode = same ? 0 : 1;
      if (process.stdin.isTTY && process.stdout.isTTY) {
        say(`This is the guest's shell; the host's side is ${folder}. Ctrl-D leaves.\n`);
        await interactiveShell(guest.vm);
      }
    } finally {
      await guest.close();
    }
  } finally {
    removeFolder();
  }
}
