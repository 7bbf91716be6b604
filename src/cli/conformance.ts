import type { Command } from 'commander';

import { addBehaviours } from './behaviours.ts';
import { registerPjdfstest } from './pjdfstest.ts';

/** Adds `virtiofs conformance`: suites that tell whether a share behaves as a local file system. */
export function registerConformance(program: Command): void {
  const conformance = program
    .command('conformance')
    .description('hold a directory or a share against POSIX, Linux, and what a local file system does');
  // After the subcommand's name its own options count: --cache and --filter mean other things there. Commander does so
  // only where the command above does, too.
  program.enablePositionalOptions();
  registerPjdfstest(addBehaviours(conformance).enablePositionalOptions());
}
