/** Many known files and few descriptors: file handles, and what happens without them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { ENFILE, ENOENT, EOPNOTSUPP } from '../src/core/index.ts';
import { opcodes, RenameIn } from '../src/fuse/index.ts';
import { CAP_DAC_READ_SEARCH, hasCapability, O_RDONLY } from '../src/sys/index.ts';
import { type DaemonOptions, TestDaemon } from './daemon.ts';
import { body, concat, entryOf, name } from './fuse.ts';
import { mount as mountHost, mountableFolder } from './host-mounts.ts';
import { Mount, ROOT } from './mount.ts';
import { Random } from './random.ts';

const LIMIT = 512;
const FULL = 'descriptors for known and open files are in use';

/** A daemon over a share of so many files, in folders of 1000, and a guest. */
async function enter(
  t: TestContext,
  files: number,
  options: DaemonOptions,
): Promise<{ share: string; daemon: TestDaemon; guest: Mount }> {
  const share = mkdtempSync(join(tmpdir(), 'virtiofs-test-'));
  t.after(() => rmSync(share, { recursive: true }));
  for (let i = 0; i < files; i += 1) {
    if (i % 1000 === 0) mkdirSync(join(share, `${i / 1000}`));
    writeFileSync(join(share, `${Math.floor(i / 1000)}`, `${i}`), `${i}`);
  }
  const daemon = await TestDaemon.start({ share, ...options });
  t.after(() => daemon[Symbol.asyncDispose]());
  const guest = Mount.connect(daemon.socketPath, { queueSize: 1024, indirectEntries: 512 });
  t.after(() => guest.guest.close());
  return { share, daemon, guest };
}

/** Looks names up in a folder, many at a time. The node ids; 0 where the answer is ENFILE. */
function lookUpAll(guest: Mount, folder: bigint, names: readonly string[]): bigint[] {
  const { code } = opcodes.LOOKUP;
  const replies = guest.guest.sendAll(names.map((each) => ({ opcode: code, nodeid: folder, body: name(each) })));
  return replies.map(({ error, body: reply }) => {
    if (error !== 0) assert.equal(error, -ENFILE);
    return error === 0 ? entryOf(reply).nodeid : 0n;
  });
}

function content(guest: Mount, nodeid: bigint): string {
  const fh = guest.open(nodeid, O_RDONLY);
  const text = Buffer.from(guest.read(fh, 0, 100)).toString();
  guest.release(fh);
  return text;
}

/** What takes the capability from a program; undefined, and the test skipped, where that cannot be. */
function withoutCapability(t: TestContext): string[] | undefined {
  if (process.getuid?.() !== 0) return [];
  const wrapper = ['setpriv', '--bounding-set', '-dac_read_search', '--inh-caps', '-all'];
  if (spawnSync(wrapper[0], [...wrapper.slice(1), 'true']).status === 0) return wrapper;
  t.skip('to drop a capability takes setpriv(1)');
  return undefined;
}

function skipWithoutHandles(t: TestContext): boolean {
  if (hasCapability(CAP_DAC_READ_SEARCH)) return false;
  t.skip('files are opened by handle with CAP_DAC_READ_SEARCH only');
  return true;
}

test('20,000 known files need 512 descriptors, and all of them stay usable', async (t) => {
  if (skipWithoutHandles(t)) return;
  const files = 20_000;
  const { share, daemon, guest } = await enter(t, files, { args: ['--rlimit-nofile', `${LIMIT}`] });
  const nodes: bigint[] = [];
  const folders: bigint[] = [];
  for (let f = 0; f < files / 1000; f += 1) {
    folders.push(guest.lookup(ROOT, `${f}`).nodeid);
    const names = Array.from({ length: 1000 }, (_, i) => `${f * 1000 + i}`);
    nodes.push(...lookUpAll(guest, folders[f], names));
    daemon.watched();
  }
  assert.ok(!nodes.includes(0n));
  assert.equal((await daemon.gauges()).inodes, 1 + files + files / 1000);
  assert.ok(daemon.descriptors() < LIMIT, `${daemon.descriptors()} descriptors`);

  const random = Random.fromEnvironment(t);
  const gone = new Set<number>();
  for (let round = 0; round < 1000; round += 1) {
    const i = random.below(files);
    const folder = folders[Math.floor(i / 1000)];
    if (gone.has(i)) continue;
    const path = join(share, `${Math.floor(i / 1000)}`, `${i}`);
    const acts = [
      () => assert.equal(guest.lookup(folder, `${i}`).nodeid, nodes[i]),
      () => assert.equal(guest.getattr(nodes[i]).size, BigInt(`${i}`.length)),
      () => assert.equal(content(guest, nodes[i]), `${i}`),
      () => {
        guest.guest.ask({ opcode: opcodes.UNLINK.code, nodeid: folder, body: name(`${i}`) });
        assert.ok(!existsSync(path));
        gone.add(i);
      },
      () => {
        const target = concat(body(RenameIn, { newdir: folders[0] }), name(`${i}`), name(`moved${i}`));
        guest.guest.ask({ opcode: opcodes.RENAME.code, nodeid: folder, body: target });
        assert.ok(existsSync(join(share, '0', `moved${i}`)));
        assert.equal(content(guest, nodes[i]), `${i}`);
        gone.add(i);
      },
    ];
    random.pick(acts)();
  }
  assert.ok(daemon.descriptors() < LIMIT, `${daemon.descriptors()} descriptors`);
  assert.ok(!daemon.said.includes(FULL));
});

/** Beyond the bound: ENFILE and one line in the log. What is known, and what comes after a FORGET, is served. */
async function assertBounded(guest: Mount, daemon: TestDaemon): Promise<void> {
  const folder = guest.lookup(ROOT, '0').nodeid;
  const names = Array.from({ length: 1000 }, (_, i) => `${i}`);
  const nodes = lookUpAll(guest, folder, names);
  const known = nodes.filter((nodeid) => nodeid !== 0n);
  assert.ok(known.length > 100 && known.length < LIMIT, `${known.length} files`);
  assert.equal(nodes[999], 0n);
  await daemon.hears(FULL);
  for (const nodeid of known.slice(0, 20)) guest.getattr(nodeid);
  assert.equal(guest.lookup(folder, '60').nodeid, known[60]);
  guest.open(known[0], O_RDONLY, ENFILE);
  guest.lookup(folder, 'absent', ENOENT);
  for (const nodeid of known.slice(0, 20)) guest.forget(nodeid, 1);
  guest.lookup(folder, '999');
  assert.equal(content(guest, known[50]), '50');
  lookUpAll(guest, folder, names);
  assert.equal(daemon.said.split(FULL).length, 2, 'the log says it once');
}

test('without the capability for handles the log says so, and guests get ENFILE at the bound', async (t) => {
  const wrapper = withoutCapability(t);
  if (wrapper === undefined) return;
  const { guest, daemon } = await enter(t, 1000, { wrapper, args: ['--rlimit-nofile', `${LIMIT}`] });
  assert.match(daemon.said, /cannot be opened by handle.*CAP_DAC_READ_SEARCH/);
  await assertBounded(guest, daemon);
});

test('with --inode-file-handles=never every known file keeps its descriptor', async (t) => {
  const args = ['--rlimit-nofile', `${LIMIT}`, '--inode-file-handles', 'never'];
  const { guest, daemon } = await enter(t, 1000, { args });
  assert.doesNotMatch(daemon.said, /handle/);
  await assertBounded(guest, daemon);
});

test('--inode-file-handles=mandatory refuses to start without the capability', async (t) => {
  const wrapper = withoutCapability(t);
  if (wrapper === undefined) return;
  await using daemon = TestDaemon.launch({ wrapper, args: ['--inode-file-handles=mandatory'] });
  assert.equal((await daemon.ended).code, 1);
  assert.match(daemon.said, /--inode-file-handles=mandatory: .*CAP_DAC_READ_SEARCH/);
});

test('--inode-file-handles=mandatory refuses a mount without handles, where others keep descriptors', async (t) => {
  if (skipWithoutHandles(t)) return;
  const share = mountableFolder(t);
  if (share === undefined) return;
  mountHost(join(share, 'ramfs'), '-t', 'ramfs', 'none');
  writeFileSync(join(share, 'ramfs', 'file'), 'x');
  writeFileSync(join(share, 'file'), 'y');
  for (const when of ['mandatory', 'prefer']) {
    await using daemon = await TestDaemon.start({ share, args: ['--inode-file-handles', when] });
    using guest = Mount.connect(daemon.socketPath);
    assert.equal(content(guest, guest.lookup(ROOT, 'file').nodeid), 'y');
    if (when === 'mandatory') {
      guest.lookup(ROOT, 'ramfs', EOPNOTSUPP);
      await daemon.hears('which --inode-file-handles=mandatory asks for');
    } else {
      assert.equal(content(guest, guest.lookup(guest.lookup(ROOT, 'ramfs').nodeid, 'file').nodeid), 'x');
    }
  }
});

test('--rlimit-nofile sets the limit, 0 leaves it, and one that cannot be set is an error', async () => {
  const limits = ['--rlimit-nofile', '600'];
  await using daemon = await TestDaemon.start({ args: limits });
  const limitOf = (pid = 0): string =>
    spawnSync('grep', ['Max open files', `/proc/${pid}/limits`], { encoding: 'utf8' }).stdout;
  assert.match(limitOf(daemon.process.pid), /600 +600 /);
  await using left = await TestDaemon.start({ descriptorLimit: 500, args: ['--rlimit-nofile', '0'] });
  assert.match(limitOf(left.process.pid), /500 +500 /);
  for (const [value, complaint] of [
    ['9007199254740991', /EPERM.*hard limit/],
    ['383', /384 at least/],
    ['many', /384 at least/],
  ] as const) {
    await using refused = TestDaemon.launch({ args: ['--rlimit-nofile', value] });
    assert.equal((await refused.ended).code, 1);
    assert.match(refused.said, complaint);
  }
});
