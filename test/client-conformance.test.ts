/** The conformance suite through the client: what it answers in a kernel's stead, and what the daemon answers to it. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
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
}

/** What the client and the daemon keep: nothing; everything, written at once or later. */
const MODES: readonly Mode[] = [
  { serve: ['--cache', 'never'], cache: 'none' },
  { serve: ['--cache', 'auto'], cache: 'auto' },
  { serve: ['--cache', 'always', '--writeback'], cache: 'always', writeback: true },
];

function failed({ outcomes }: Report): string[] {
  return outcomes.filter(({ verdict }) => verdict === 'failed').map(({ topic, sentence }) => `${topic}: ${sentence}`);
}

for (const { serve, cache, writeback } of MODES) {
  test(`every behaviour holds through the client with ${serve.join(' ')}, and nothing is left`, async () => {
    await using daemon = await TestDaemon.start({ sockets: 2, args: [...serve, ...DAEMON] });
    const [path, secondSocketPath] = daemon.socketPaths;
    const target = clientTarget(path, { cache, writeback, secondSocketPath });
    const report = throughClient(runConformance(target, { onOutcome: () => daemon.watched() }), writeback === true);
    assert.deepEqual(failed(report), [], formatReport(report));
    const passed = report.outcomes.filter(({ verdict }) => verdict === 'passed').length;
    assert.ok(passed >= LEAST_PASSED, `${passed} passed`);
    assert.deepEqual(readdirSync(daemon.share), []);
  });
}
