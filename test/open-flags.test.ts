/** O_NOATIME and O_DIRECT of a guest, as the host gets them. */
import assert from 'node:assert/strict';
import { chownSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EINVAL } from '../src/core/index.ts';
import {
  AT_FDCWD,
  Arena,
  close,
  coldString,
  O_DIRECT,
  O_NOATIME,
  O_RDONLY,
  O_RDWR,
  openat,
  write,
} from '../src/sys/index.ts';
import { type DaemonOptions, TestDaemon } from './daemon.ts';
import { Mount, ROOT } from './mount.ts';

const BLOCK = 4096;

async function enter(t: TestContext, options: DaemonOptions): Promise<{ mount: Mount; daemon: TestDaemon }> {
  const daemon = await TestDaemon.start(options);
  t.after(() => daemon[Symbol.asyncDispose]());
  const mount = Mount.connect(daemon.socketPath);
  t.after(() => mount.guest.close());
  return { mount, daemon };
}

/** The flags with which a process has a file open for good, O_PATH excepted. */
function hostFlagsOf(daemon: TestDaemon, path: string): number[] {
  const folder = `/proc/${daemon.process.pid}`;
  const open = readdirSync(`${folder}/fd`).filter((fd) => readlinkSync(`${folder}/fd/${fd}`) === path);
  const flags = open.map((fd) => readFileSync(`${folder}/fdinfo/${fd}`, 'utf8').match(/^flags:\s+(\d+)/m)?.[1] ?? '');
  return flags.map((each) => Number.parseInt(each, 8)).filter((each) => (each & 0o10000000) === 0);
}

/** Opens a new file as the guest asks for it. Its path, its handle, and whether the host has the flag. */
function openWith(
  { mount, daemon }: { mount: Mount; daemon: TestDaemon },
  flag: number,
): { path: string; fh: bigint; passed: boolean } {
  const path = join(daemon.share, 'file');
  writeFileSync(path, Buffer.alloc(2 * BLOCK, 'a'));
  const fh = mount.open(mount.lookup(ROOT, 'file').nodeid, O_RDWR | flag);
  const [flags, ...more] = hostFlagsOf(daemon, path);
  assert.equal(more.length, 0);
  return { path, fh, passed: (flags & flag) !== 0 };
}

test('O_NOATIME counts on the host with --preserve-noatime only', async (t) => {
  assert.equal(openWith(await enter(t, {}), O_NOATIME).passed, false);
  assert.equal(openWith(await enter(t, { args: ['--preserve-noatime'] }), O_NOATIME).passed, true);
});

test('O_NOATIME is left out where the host reserves it for the owner', async (t) => {
  if (process.getuid?.() !== 0) {
    t.skip('a file of another owner takes root');
    return;
  }
  const wrapper = ['setpriv', '--bounding-set', '-fowner', '--inh-caps', '-all'];
  const { mount, daemon } = await enter(t, { wrapper, args: ['--preserve-noatime'] });
  const path = join(daemon.share, 'file');
  writeFileSync(path, 'x');
  chownSync(path, 4321, 4321);
  mount.open(mount.lookup(ROOT, 'file').nodeid, O_RDONLY | O_NOATIME);
  assert.deepEqual(
    hostFlagsOf(daemon, path).map((flags) => flags & O_NOATIME),
    [0],
  );
});

test('O_DIRECT is dropped, as a guest reads and writes by pages of its own', async (t) => {
  const stage = await enter(t, {});
  const { fh, path, passed } = openWith(stage, O_DIRECT);
  assert.equal(passed, false);
  assert.equal(stage.mount.write(fh, 1, Buffer.from('xyz')), 3);
  assert.equal(readFileSync(path, 'utf8').slice(0, 5), 'axyza');
});

/** Whether the file system of a directory takes whole blocks only from a descriptor that is O_DIRECT. */
function wantsWholeBlocks(path: string): boolean {
  const fd = openat(AT_FDCWD, coldString(path), O_RDWR | O_DIRECT, 0);
  if (fd < 0) return false;
  const result = write(fd, new Arena(BLOCK).address + 1, 3);
  close(fd);
  return result === -EINVAL;
}

test('with --allow-direct-io O_DIRECT counts: what is no whole block is refused, but for cached pages', async (t) => {
  const stage = await enter(t, { args: ['--allow-direct-io'] });
  const { mount } = stage;
  const { fh, path, passed } = openWith(stage, O_DIRECT);
  assert.equal(passed, true);
  if (!wantsWholeBlocks(path)) {
    t.skip('the file system of the temporary directory takes anything with O_DIRECT');
    return;
  }
  mount.write(fh, 1, Buffer.from('xyz'), EINVAL);
  // The last page of a file is written as far as the file goes, through whatever handle there is.
  assert.equal(mount.write(fh, BLOCK, Buffer.from('the end'), 0, { cached: true }), 7);
  assert.equal(readFileSync(path, 'utf8').slice(BLOCK - 1, BLOCK + 8), 'athe enda');
  assert.equal(readFileSync(path).length, 2 * BLOCK);
});
