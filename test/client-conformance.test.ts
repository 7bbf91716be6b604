/** The conformance suite through the client: what it answers in a kernel's stead, and what the daemon answers to it. */
import assert from 'node:assert/strict';
import { chmodSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

import {
  type ClientTargetOptions,
  clientTarget,
  formatReport,
  type Report,
  runConformance,
  throughClient,
} from '../conformance/index.ts';
import { TestDaemon } from './daemon.ts';

/** Fewer would mean that the client has lost what it had. */
const LEAST_PASSED = 400;
const DAEMON = ['--posix-acl', '--preserve-noatime', '--posix-locks', '--thread-pool-size', '0'];

interface Mode extends ClientTargetOptions {
  readonly serve: readonly string[];
  /** Not all behaviours. */
  readonly filter?: string;
}

/** What is believed for a while, and what is kept for ever; in part: nothing believed, nothing kept, files mapped. */
const MODES: readonly Mode[] = [
  { serve: ['--cache', 'auto'], cache: 'auto' },
  { serve: ['--cache', 'always', '--writeback'], cache: 'always', writeback: true },
  { serve: ['--cache', 'never'], cache: 'auto', filter: 'EEXIST' },
  { serve: ['--cache', 'auto'], cache: 'none', filter: 'write' },
  { serve: ['--cache', 'auto', '--tag', 'share', '--dax-window', '64M'], cache: 'auto', dax: '32M', filter: 'write' },
];

function failed({ outcomes }: Report): string[] {
  return outcomes.filter(({ verdict }) => verdict === 'failed').map(({ topic, sentence }) => `${topic}: ${sentence}`);
}

for (const { serve, cache, writeback, dax, filter } of MODES) {
  const which = filter === undefined ? 'every behaviour' : `what says '${filter}'`;
  test(`${which} holds through the client (${cache}) with ${serve.join(' ')}, and nothing is left`, async () => {
    await using daemon = await TestDaemon.start({ sockets: 2, args: [...serve, ...DAEMON] });
    // Other users shall get in.
    chmodSync(daemon.share, 0o755);
    const [path, secondSocketPath] = daemon.socketPaths;
    const target = clientTarget(path, { cache, writeback, dax, secondSocketPath });
    const outcome = runConformance(target, { filter, onOutcome: () => daemon.watched() });
    const report = throughClient(outcome, { writeback: writeback === true, dax: dax !== undefined });
    assert.deepEqual(failed(report), [], formatReport(report));
    const passed = report.outcomes.filter(({ verdict }) => verdict === 'passed').length;
    assert.ok(passed >= (filter === undefined ? LEAST_PASSED : 1), `${passed} passed`);
    assert.deepEqual(readdirSync(daemon.share), []);
  });
}
