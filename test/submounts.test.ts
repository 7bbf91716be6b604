/** Mounts on the host below the share, over a real connection. They take root. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { ENOENT } from '../src/core/index.ts';
import { flags, opcodes, StatfsOut, StatxIn, SyncfsIn } from '../src/fuse/index.ts';
import { O_RDONLY } from '../src/sys/index.ts';
import { TestDaemon } from './daemon.ts';
import { body } from './fuse.ts';
import { mount as mountHost, mountableFolder, mountOver, umount } from './host-mounts.ts';
import { Mount, ROOT } from './mount.ts';

const SUBMOUNT = BigInt(flags.ATTR.SUBMOUNT);
const TMPFS = ['-t', 'tmpfs', '-o', 'size=1m', 'none'];

interface Stage {
  readonly share: string;
  readonly guest: Mount;
  readonly daemon: TestDaemon;
}

/** A share that a test may mount in, with a daemon and a guest. */
async function enter(t: TestContext, ...args: string[]): Promise<Stage | undefined> {
  const share = mountableFolder(t);
  if (share === undefined) return undefined;
  const daemon = await TestDaemon.start({ share, args: ['--log-level', 'error', ...args] });
  t.after(() => daemon[Symbol.asyncDispose]());
  const guest = Mount.connect(daemon.socketPath, { indirectEntries: 512 });
  t.after(() => guest.guest.close());
  return { share, guest, daemon };
}

function content(guest: Mount, nodeid: bigint): string {
  const fh = guest.open(nodeid, O_RDONLY);
  const text = Buffer.from(guest.read(fh, 0, 100)).toString();
  guest.release(fh);
  return text;
}

test('a file system, and a directory bound into another, are announced as mounts', async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  const { share, guest } = stage;
  mkdirSync(join(share, 'plain', 'inner'), { recursive: true });
  mountHost(join(share, 'tmpfs'), ...TMPFS);
  mountHost(join(share, 'tmpfs2'), ...TMPFS);
  mountHost(join(share, 'bound'), '--bind', join(share, 'plain'));
  mkdirSync(join(share, 'tmpfs', 'inner'));
  const flagsOf = (parent: bigint, name: string): bigint => guest.lookup(parent, name).attributes.flags;
  assert.equal(flagsOf(ROOT, 'tmpfs'), SUBMOUNT);
  assert.equal(flagsOf(ROOT, 'bound'), SUBMOUNT);
  assert.equal(flagsOf(ROOT, 'plain'), 0n);
  const inoOf = (name: string): bigint => guest.lookup(ROOT, name).attributes.ino;
  assert.equal(new Set(['tmpfs', 'tmpfs2', 'plain', 'bound'].map(inoOf)).size, 4, 'they are seen beside one another');
  assert.equal(guest.getattr(guest.lookup(ROOT, 'tmpfs').nodeid).ino, inoOf('tmpfs'));
  for (const name of ['tmpfs', 'bound']) assert.equal(flagsOf(guest.lookup(ROOT, name).nodeid, 'inner'), 0n);
  const listed = new Map(guest.listAll(ROOT, 4096, true).map((each) => [each.name, each.entry?.attributes.flags]));
  assert.deepEqual(
    ['tmpfs', 'bound', 'plain'].map((name) => listed.get(name)),
    [SUBMOUNT, SUBMOUNT, 0n],
  );
  const bound = guest.lookup(guest.lookup(ROOT, 'bound').nodeid, 'inner');
  const plain = guest.lookup(guest.lookup(ROOT, 'plain').nodeid, 'inner');
  assert.notEqual(bound.nodeid, plain.nodeid, 'a file is another one on another mount');
  assert.equal(bound.attributes.ino, plain.attributes.ino);
});

test('each mount has its own figures and can be synced', async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  mountHost(join(stage.share, 'tmpfs'), ...TMPFS);
  const { nodeid } = stage.guest.lookup(ROOT, 'tmpfs');
  const blocks = (node: bigint): bigint =>
    stage.guest.guest.ask({ opcode: opcodes.STATFS.code, nodeid: node }).getBigUint64(StatfsOut.offsets.st, true);
  assert.equal(blocks(nodeid), 256n, 'a tmpfs of 1 MiB');
  assert.notEqual(blocks(ROOT), 256n);
  for (const node of [ROOT, nodeid]) {
    stage.guest.guest.ask({ opcode: opcodes.SYNCFS.code, nodeid: node, body: body(SyncfsIn) });
  }
});

test('without announcing, files of two file systems never have the same inode number', async (t) => {
  const stage = await enter(t, '--no-announce-submounts');
  if (stage === undefined) return;
  const { share, guest } = stage;
  writeFileSync(join(share, 'own'), '');
  const seen = new Set<bigint>();
  for (const name of ['a', 'b']) {
    mountHost(join(share, name), ...TMPFS);
    for (let i = 0; i < 20; i += 1) writeFileSync(join(share, name, `${i}`), name);
  }
  assert.equal(statSync(join(share, 'a', '7')).ino, statSync(join(share, 'b', '7')).ino, 'they have on the host');
  for (const name of ['a', 'b']) {
    const { nodeid, attributes } = guest.lookup(ROOT, name);
    assert.equal(attributes.flags, 0n);
    seen.add(attributes.ino);
    for (const listed of guest.listAll(nodeid).filter((each) => !each.name.startsWith('.'))) {
      const entry = guest.lookup(nodeid, listed.name);
      const { ino } = entry.attributes;
      assert.equal(ino, listed.ino, 'READDIR says what LOOKUP says');
      assert.equal(guest.getattr(entry.nodeid).ino, ino);
      const statx = { opcode: opcodes.STATX.code, nodeid: entry.nodeid, body: body(StatxIn, { sxMask: 0x7ff }) };
      assert.equal(guest.guest.ask(statx).getBigUint64(32 + 32, true), ino);
      seen.add(ino);
    }
  }
  assert.equal(seen.size, 42);
  assert.equal(guest.lookup(ROOT, 'own').attributes.ino, statSync(join(share, 'own'), { bigint: true }).ino);
  guest.guest.ask({ opcode: opcodes.SYNCFS.code, nodeid: ROOT, body: body(SyncfsIn) });
});

test('a file bound from another file system keeps apart from those around it', async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  const { share, guest } = stage;
  for (const name of ['a', 'b']) {
    mountHost(join(share, name), ...TMPFS);
    writeFileSync(join(share, name, 'file'), name);
  }
  writeFileSync(join(share, 'a', 'target'), '');
  mountOver(join(share, 'a', 'target'), '--bind', join(share, 'b', 'file'));
  const { nodeid } = guest.lookup(ROOT, 'a');
  const target = guest.lookup(nodeid, 'target');
  assert.equal(target.attributes.flags, 0n);
  assert.equal(content(guest, target.nodeid), 'b');
  assert.notEqual(target.attributes.ino, guest.lookup(nodeid, 'file').attributes.ino);
  assert.equal(
    statSync(join(share, 'a', 'target')).ino,
    statSync(join(share, 'a', 'file')).ino,
    'they have on the host',
  );
});

test('files of an overlay, which have the device of their layer, keep apart from one another', async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  const { share, guest } = stage;
  const layers = join(share, 'layers');
  for (const layer of ['lower', 'upper']) {
    mountHost(join(layers, layer), ...TMPFS);
    mkdirSync(join(layers, layer, 'data'));
    writeFileSync(join(layers, layer, 'data', layer), layer);
  }
  mkdirSync(join(layers, 'upper', 'work'));
  const [lower, upper, work] = ['lower/data', 'upper/data', 'upper/work'].map((each) => join(layers, each));
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work},xino=off`;
  try {
    mountHost(join(share, 'overlay'), '-t', 'overlay', '-o', options, 'none');
  } catch (error) {
    t.skip(`no overlay over two tmpfs: ${(error as Error).message}`);
    return;
  }
  const onHost = ['lower', 'upper'].map((name) => statSync(join(share, 'overlay', name)));
  assert.equal(onHost[0].ino, onHost[1].ino, 'on the host it is the device that differs');
  assert.notEqual(onHost[0].dev, onHost[1].dev);
  const { nodeid, attributes } = guest.lookup(ROOT, 'overlay');
  assert.equal(attributes.flags, SUBMOUNT);
  const files = ['lower', 'upper'].map((name) => guest.lookup(nodeid, name));
  assert.notEqual(files[0].attributes.ino, files[1].attributes.ino);
  assert.deepEqual(
    files.map((file) => [file.attributes.flags, content(guest, file.nodeid)]),
    [
      [0n, 'lower'],
      [0n, 'upper'],
    ],
  );
  for (const file of files) assert.equal(guest.getattr(file.nodeid).ino, file.attributes.ino);
});

test('the host can unmount what the guest has forgotten, and a new mount is not taken for the old one', async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  const { share, guest, daemon } = stage;
  const path = join(share, 'mount');
  mountHost(path, ...TMPFS);
  writeFileSync(join(path, 'file'), 'old');
  const before = statSync(join(path, 'file'));
  const root = guest.lookup(ROOT, 'mount').nodeid;
  const file = guest.lookup(root, 'file').nodeid;
  assert.throws(() => umount(path), /busy/, 'a guest knows files there');
  assert.equal((await daemon.gauges()).mounts, 2);
  guest.forget(file, 1);
  guest.forget(root, 1);
  umount(path);
  assert.equal((await daemon.gauges()).mounts, 1);
  mountHost(path, ...TMPFS);
  writeFileSync(join(path, 'file'), 'new');
  const after = statSync(join(path, 'file'));
  const newRoot = guest.lookup(ROOT, 'mount').nodeid;
  const again = guest.lookup(newRoot, 'file').nodeid;
  assert.equal(content(guest, again), 'new');
  guest.getattr(file, ENOENT);
  if (before.dev !== after.dev) t.diagnostic('the host has given another device number');
});

test('a mount that is pulled away stays what it was for who knows it, and no other takes its place', async (t) => {
  const stage = await enter(t);
  if (stage === undefined) return;
  const { share, guest } = stage;
  const path = join(share, 'mount');
  mountHost(path, ...TMPFS);
  writeFileSync(join(path, 'file'), 'old');
  const root = guest.lookup(ROOT, 'mount').nodeid;
  const file = guest.lookup(root, 'file').nodeid;
  umount(path, '-l');
  mountHost(path, ...TMPFS);
  writeFileSync(join(path, 'file'), 'new');
  const newRoot = guest.lookup(ROOT, 'mount').nodeid;
  assert.notEqual(newRoot, root);
  assert.equal(content(guest, guest.lookup(newRoot, 'file').nodeid), 'new');
  assert.equal(content(guest, file), 'old');
  assert.equal(readFileSync(join(path, 'file'), 'utf8'), 'new');
});
