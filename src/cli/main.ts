#!/usr/bin/env node
/** The `virtiofs` command. */
import { Command } from 'commander';

import { UserError } from '../core/index.ts';
import { registerServe } from './serve.ts';

const EXIT_BUG = 70;

const program = new Command('virtiofs')
  .description('virtio-fs in TypeScript: share a directory with virtual machines')
  .showHelpAfterError('(--help shows the options)');
registerServe(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof UserError) {
    process.stderr.write(`virtiofs: ${error.message}\n`);
    process.exitCode = error.exitCode;
  } else {
    process.stderr.write(`virtiofs: this is a bug: ${(error as Error).stack ?? String(error)}\n`);
    process.exit(EXIT_BUG);
  }
}
