import type { Command } from 'commander';

import { registerPjdfstest } from './pjdfstest.ts';

/** Adds `virtiofs conformance`: suites that tell whether a share behaves as a local file system. */
export function registerConformance(program: Command): void {
  const conformance = program.command('conformance').description('hold a share against what a local file system does');
  registerPjdfstest(conformance);
}
