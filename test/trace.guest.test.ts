/** `virtiofs trace` between QEMU and the daemon: a real guest mounts through it, and its messages are told. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { boot, startDaemon } from '../lab/index.ts';
import { TestTracer } from './tracer.ts';

interface Line {
  readonly opcode?: string;
  readonly vhost?: string;
  readonly names: readonly string[];
  readonly fields: Readonly<Record<string, unknown>>;
  readonly reply?: { readonly error: string; readonly fields: Readonly<Record<string, unknown>> };
  readonly problems: readonly string[];
  readonly latencyUs?: number;
  readonly missed?: number;
}

const READY = 'Waiting for vhost-user socket connection...\n';
const MOUNT_POINT = '/mnt/share';

/** Files to share, and a folder around them that goes with the test. */
function makeShare(t: TestContext): { folder: string; share: string } {
  const folder = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const share = join(folder, 'share');
  mkdirSync(join(share, 'folder'), { recursive: true });
  for (let i = 0; i < 30; i += 1) writeFileSync(join(share, 'folder', `file-${i}`), `${i}`);
  writeFileSync(join(share, 'big'), Buffer.alloc(3_000_000, 'x'));
  return { folder, share };
}

test('a guest that lists and reads through it is told from INIT on, and works as without it', async (t) => {
  const { folder, share } = makeShare(t);
  const daemon = await startDaemon({ sharedDir: share, socketPaths: [join(folder, 'fs')], args: ['--stay'] });
  t.after(() => daemon.stop());
  const file = join(folder, 'trace');
  await using tracer = await TestTracer.start(join(folder, 'fs'), ['--json', '--vhost', '-o', file]);
  {
    await using vm = await boot({ shares: [{ socketPath: tracer.socketPath, tag: 'share', mountPoint: MOUNT_POINT }] });
    const listing = await vm.sh(`ls -l ${MOUNT_POINT}/folder | wc -l; cat ${MOUNT_POINT}/folder/file-7`);
    assert.equal(listing, '31\n7');
    assert.equal(await vm.sh(`cat ${MOUNT_POINT}/big | wc -c`), '3000000');
    await vm.sh(`echo from the guest > ${MOUNT_POINT}/written; ! cat ${MOUNT_POINT}/none`);
    assert.equal(readFileSync(join(share, 'written'), 'utf8'), 'from the guest\n');
    // As at its end: the trace goes on over it.
    await vm.sh(`umount ${MOUNT_POINT} && mount -t virtiofs share ${MOUNT_POINT} && ls ${MOUNT_POINT}`);
  }
  assert.equal(await tracer.stop(), 0);
  assert.equal(tracer.complained, READY);
  const lines = readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);
  const messages = lines.filter(({ opcode }) => opcode !== undefined);
  const named = (opcode: string): Line[] => messages.filter((each) => each.opcode === opcode);
  assert.equal(named('INIT').length, 2);
  const [init] = named('INIT');
  assert.match(init.fields.flags as string, /ASYNC_READ\|.*DO_READDIRPLUS.*INIT_EXT/);
  assert.match(init.reply?.fields.flags as string, /DO_READDIRPLUS/);
  assert.ok(named('LOOKUP').some(({ names, reply }) => names[0] === 'folder' && reply?.error === ''));
  assert.ok(named('LOOKUP').some(({ names, reply }) => names[0] === 'none' && reply?.error === 'ENOENT'));
  const listed = named('READDIRPLUS').map(({ reply }) => Number(reply?.fields.count ?? 0));
  assert.ok(Math.max(...listed) >= 30, `at most ${Math.max(...listed)} entries`);
  assert.ok(named('CREATE').some(({ names }) => names[0] === 'written'));
  assert.ok(named('READ').length > 5 && named('DESTROY').length >= 1);
  assert.ok(lines.some(({ vhost }) => vhost === 'SET_MEM_TABLE' || vhost === 'ADD_MEM_REG'));
  // On a busy machine the guest may be quicker than the tracer now and then.
  const spoiled = lines.filter(({ problems, missed }) => (problems ?? []).length > 0 || missed !== undefined);
  assert.ok(spoiled.length <= messages.length / 10, JSON.stringify(spoiled));
  const timed = messages.filter(({ latencyUs }) => latencyUs !== undefined);
  t.diagnostic(`${messages.length} messages, ${timed.length} timed, ${spoiled.length} not whole`);
  assert.ok(timed.length > messages.length / 4, `${timed.length} of ${messages.length} were timed`);
});

test('a guest with a DAX window maps files through it, and the trace has its mappings', async (t) => {
  const { folder, share } = makeShare(t);
  const args = ['--stay', '--tag', 'share', '--request-queues', '1', '--dax-window', '64M'];
  const daemon = await startDaemon({ sharedDir: share, socketPaths: [join(folder, 'fs')], args });
  t.after(() => daemon.stop());
  const file = join(folder, 'trace');
  await using tracer = await TestTracer.start(join(folder, 'fs'), ['--vhost', '-o', file]);
  {
    const mount = { mountPoint: MOUNT_POINT, mountOptions: 'dax=always' };
    await using vm = await boot({ shares: [{ socketPath: tracer.socketPath, tag: 'share', dax: true, ...mount }] });
    assert.equal(await vm.sh(`cat ${MOUNT_POINT}/big | tr -d x | wc -c; cat ${MOUNT_POINT}/folder/file-7`), '0\n7');
  }
  assert.equal(await tracer.stop(), 0);
  const text = readFileSync(file, 'utf8');
  assert.match(text, /^vhost < GET_SHMEM_CONFIG reply windows=0:67108864$/m);
  assert.match(text, /^vhost > SET_BACKEND_REQ_FD \+1 descriptors$/m);
  assert.match(text, /^SETUPMAPPING node \d+ fh \d+ .*len 2097152 flags .*READ.* -> ok /m);
  assert.doesNotMatch(text, /^READ /m);
  assert.equal(tracer.complained, READY);
});
