/**
 * Mapped and other reads and writes in an order that a seed gives (VIRTIOFS_SEED repeats it), in two guests at once:
 * what each believes its file to be is compared with the host's. VIRTIOFS_MIXER_OPERATIONS says how many (`npm run
 * test:dax`: 100,000).
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';

import { type Host, scenario, type Vm } from '../lab/index.ts';
import { Random } from './random.ts';

const PROGRAM = 'node --disable-warning=ExperimentalWarning /opt/virtiofs/test/guest/mapped-mixer.ts';
const BATCH = 250;
const HOUR_MS = 3_600_000;

/** How guests mount and cache. */
interface Mode {
  /** Of each guest; default: files of 64 KiB and more are DAX, and what a file is changes as it grows. */
  readonly mounts: readonly ['always' | 'inode', 'always' | 'inode'];
  readonly cache: string;
  readonly writeback: boolean;
}

const MODES: readonly Mode[] = [
  { mounts: ['always', 'inode'], cache: 'always', writeback: true },
  { mounts: ['always', 'inode'], cache: 'auto', writeback: false },
  { mounts: ['always', 'always'], cache: 'always', writeback: false },
  { mounts: ['inode', 'always'], cache: 'auto', writeback: true },
];
const asked = process.env.VIRTIOFS_MIXER_OPERATIONS;
const modes = asked === undefined ? MODES.slice(0, 1) : MODES;
/** Of one guest. */
const operations = Math.ceil(Number(asked ?? 2000) / (2 * modes.length * BATCH)) * BATCH;

/** One guest's part. @returns how many batches were compared. */
async function mix(vm: Vm, host: Host, name: string, seed: number, dax: string): Promise<number> {
  const input = new PassThrough();
  let rest = '';
  let batches = 0;
  let failure: Error | undefined;
  const compare = (line: string): void => {
    const [done, size, sum] = line.split(' ');
    const bytes = readFileSync(host.path(name));
    assert.equal(`${bytes.length}`, size, `the host's size after ${done} operations`);
    assert.equal(createHash('sha1').update(bytes).digest('hex'), sum, `the host's file after ${done} operations`);
    batches += 1;
    input.write('\n');
  };
  const { code, stderr } = await vm.run(
    `${PROGRAM} /mnt/share/${name} ${seed} ${operations} ${BATCH} ${dax === 'always' ? '' : 'sync'}`,
    {
      timeoutMs: HOUR_MS,
      stdin: input,
      onStdout: (bytes) => {
        const lines = (rest + bytes.toString()).split('\n');
        rest = lines.pop() ?? '';
        try {
          for (const line of lines) compare(line);
        } catch (error) {
          failure ??= error as Error;
          // The guest's part ends then, too.
          input.end();
        }
      },
    },
  );
  if (failure !== undefined) throw failure;
  assert.equal(code, 0, stderr);
  return batches;
}

for (const { mounts, cache, writeback } of modes) {
  const title = `two guests with dax=${mounts.join(' and dax=')}, --cache ${cache}${writeback ? ' --writeback' : ''}`;
  scenario(
    `${title}: ${operations} operations each leave the files that they should`,
    {
      ...{ daxWindow: '64M', cache, guests: 2, cpus: 1, node: true, mount: false, timeLimitMs: HOUR_MS },
      daemonArgs: ['--dax-min-size', '64K', ...(writeback ? ['--writeback'] : [])],
    },
    async ({ vms, host }) => {
      const random = Random.fromEnvironment({ name: title });
      await Promise.all(
        vms.map(async (vm, i) => {
          const dax = mounts[i];
          await vm.sh(`mkdir -p /mnt/share; mount -t virtiofs -o dax=${dax} share /mnt/share`);
          const batches = await mix(vm, host, `file${i}`, random.word(), dax);
          assert.equal(batches, operations / BATCH);
        }),
      );
    },
  );
}
