#!/usr/bin/env node
/** The `virtiofs` command. */
import { readFileSync } from 'node:fs';

import { Command, Help, type Option } from 'commander';

import { UserError } from '../core/index.ts';

/** What a bug of ours ends with (sysexits.h, EX_SOFTWARE). */
const EXIT_BUG = 70;

type Register = (program: Command) => void;

/** Each command is loaded when it is wanted: the daemon starts twice as fast without the lab's code. */
const COMMANDS: Readonly<Record<string, () => Promise<Register>>> = {
  serve: async () => (await import('./serve.ts')).registerServe,
  trace: async () => (await import('./trace/command.ts')).registerTrace,
  vm: async () => (await import('./vm.ts')).registerVm,
  bench: async () => (await import('./bench.ts')).registerBench,
  doctor: async () => (await import('./doctor.ts')).registerDoctor,
  conformance: async () => (await import('./conformance.ts')).registerConformance,
  start: async () => (await import('./start.ts')).registerStart,
  ...Object.fromEntries(
    ['ls', 'cat', 'stat', 'tree', 'df', 'cp', 'mv', 'rm', 'mkdir', 'put', 'get', 'sh'].map((name) => [
      name,
      async () => {
        const [{ registerShareCommand }, { openShare }] = await Promise.all([
          import('./share/register.ts'),
          import('./share/open.ts'),
        ]);
        return (program: Command) => registerShareCommand(program, name, openShare);
      },
    ]),
  ),
};

/** The version in package.json, which lies two folders up from a checkout's sources, three from what was built. */
function version(): string {
  const up = import.meta.url.endsWith('.ts') ? '../..' : '../../..';
  const text = readFileSync(new URL(`${up}/package.json`, import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** Without '(default: false)': that a flag is off until it is given goes without saying. */
function optionDescription(option: Option): string {
  const isFlag = typeof option.defaultValue === 'boolean';
  return isFlag ? option.description : new Help().optionDescription(option);
}

async function main(): Promise<void> {
  const program = new Command('virtiofs')
    .description('virtio-fs in TypeScript: share a directory with virtual machines')
    .version(version())
    .configureHelp({ optionDescription })
    .showHelpAfterError('(--help shows the options)');
  const wanted = COMMANDS[process.argv[2] ?? ''];
  for (const load of wanted === undefined ? Object.values(COMMANDS) : [wanted]) (await load())(program);
  await program.parseAsync();
}

try {
  await main();
} catch (error) {
  if (error instanceof UserError) {
    process.stderr.write(`virtiofs: ${error.message}\n`);
    process.exit(error.exitCode);
  }
  process.stderr.write(`virtiofs: this is a bug: ${(error as Error).stack ?? String(error)}\n`);
  process.exit(EXIT_BUG);
}
