/** A guest that wants out of the shared directory, with and without help of somebody who moves things on the host. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { type TestContext, test } from 'node:test';

import { EINVAL, ELOOP, ENOENT, ENOTDIR, EXDEV } from '../src/core/index.ts';
import { flags, LinkIn, opcodes, RenameIn } from '../src/fuse/index.ts';
import { O_RDONLY, O_RDWR } from '../src/sys/index.ts';
import { commonDaemon } from './daemon.ts';
import { body, bytesOf, concat, name } from './fuse.ts';
import { Mount, ownFolder, ROOT } from './mount.ts';

const SECRET = 'outside';

const daemon = commonDaemon({ args: ['--stay', '--log-level', 'error'] });

interface Scene {
  readonly mount: Mount;
  /** Shared, as the host and as the guest know it. */
  readonly path: string;
  readonly nodeid: bigint;
  /** Beside the shared directory, with a file named 'secret' in it. */
  readonly outside: string;
}

function enter(t: TestContext): Scene {
  const mount = Mount.connect(daemon().socketPath);
  t.after(() => mount.guest.close());
  const own = ownFolder(daemon(), mount);
  const outside = join(daemon().share, '..', basename(own.path));
  mkdirSync(outside);
  writeFileSync(join(outside, 'secret'), SECRET);
  return { mount, outside, ...own };
}

/** Nothing outside was touched. */
function assertIntact({ outside }: Scene): void {
  assert.deepEqual(readdirSync(outside), ['secret']);
  assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), SECRET);
}

test("names that lead elsewhere are refused: '.', '..', and any with a slash", (t) => {
  const scene = enter(t);
  const { mount, nodeid, outside } = scene;
  const bad = ['.', '..', '/', 'a/b', '../secret', '/etc/passwd', 'a/', '/a', `../../${basename(outside)}/secret`];
  const { LOOKUP, UNLINK, RMDIR, MKDIR, CREATE, MKNOD, LINK, RENAME, RENAME2 } = opcodes;
  for (const each of bad) {
    for (const parent of [ROOT, nodeid]) {
      for (const { code, in: fixed, names } of [LOOKUP, UNLINK, RMDIR, MKDIR, CREATE, MKNOD, LINK, RENAME, RENAME2]) {
        const start = fixed === null ? new Uint8Array(0) : body(fixed, code === LINK.code ? { oldnodeid: nodeid } : {});
        if (names === 1) {
          mount.guest.ask({ opcode: code, nodeid: parent, body: concat(start, name(each)) }, EINVAL);
          continue;
        }
        mount.guest.ask({ opcode: code, nodeid: parent, body: concat(start, name(each), name('x')) }, EINVAL);
        mount.guest.ask({ opcode: code, nodeid: parent, body: concat(start, name('x'), name(each)) }, EINVAL);
      }
      mount.symlink(parent, each, 'target', EINVAL);
    }
  }
  assertIntact(scene);
});

test('a symlink that points outside is a symlink and nothing else', (t) => {
  const scene = enter(t);
  const { mount, path, nodeid, outside } = scene;
  symlinkSync(outside, join(path, 'dir'));
  symlinkSync(join(outside, 'secret'), join(path, 'file'));
  for (const each of ['dir', 'file']) {
    const { nodeid: found, attributes } = mount.lookup(nodeid, each);
    assert.equal(attributes.ino, lstatSync(join(path, each), { bigint: true }).ino);
    mount.lookup(found, 'secret', ENOTDIR);
    mount.lookup(found, '..', EINVAL);
    mount.open(found, O_RDONLY, EINVAL);
    mount.opendir(found, ENOTDIR);
    mount.create(found, 'new', { flags: O_RDWR, mode: 0o600 }, ENOTDIR);
    mount.mkdir(found, 'new', 0o700, ENOTDIR);
    mount.create(nodeid, each, { flags: O_RDWR, mode: 0o600 }, EINVAL);
    mount.setattr(found, { valid: flags.FATTR.SIZE, size: 0 }, EINVAL);
    const mtime = mount.setattr(found, { valid: flags.FATTR.MTIME, mtime: 5 }).mtimeNs;
    assert.equal(mtime, 5_000_000_000n);
    assert.notEqual(lstatSync(join(outside, 'secret')).mtimeMs, 5000);
    // The mode of a symlink cannot be changed; that of its target must not be.
    const mode = lstatSync(join(outside, 'secret')).mode;
    mount.guest.send({
      opcode: opcodes.SETATTR.code,
      nodeid: found,
      body: body(opcodes.SETATTR.in, { valid: flags.FATTR.MODE, mode: 0o777 }),
    });
    assert.equal(lstatSync(join(outside, 'secret')).mode, mode);
    const target = bytesOf(mount.guest.ask({ opcode: opcodes.READLINK.code, nodeid: found }));
    assert.ok(Buffer.from(target).toString().startsWith(outside));
  }
  const rest = concat(body(LinkIn, { oldnodeid: mount.lookup(nodeid, 'file').nodeid }), name('linked'));
  mount.guest.ask({ opcode: opcodes.LINK.code, nodeid, body: rest });
  assert.equal(lstatSync(join(path, 'linked')).isSymbolicLink(), true);
  assertIntact(scene);
});

test('a directory that the host swaps for a symlink to outside stays the directory it was', (t) => {
  const scene = enter(t);
  const { mount, path, nodeid, outside } = scene;
  mkdirSync(join(path, 'dir'));
  writeFileSync(join(path, 'dir', 'inner'), 'inside');
  const dir = mount.lookup(nodeid, 'dir').nodeid;
  const fh = mount.opendir(dir);
  renameSync(join(path, 'dir'), join(path, 'was-dir'));
  symlinkSync(outside, join(path, 'dir'));
  mount.lookup(dir, 'secret', ENOENT);
  const inner = mount.lookup(dir, 'inner').nodeid;
  assert.equal(Buffer.from(mount.read(mount.open(inner, O_RDONLY), 0, 10)).toString(), 'inside');
  mount.create(dir, 'made', { flags: O_RDWR, mode: 0o600 });
  assert.equal(existsSync(join(path, 'was-dir', 'made')), true);
  for (const plus of [false, true]) {
    assert.ok(mount.list(dir, fh, 0n, 4096, plus).every((each) => each.name !== 'secret'));
  }
  const moved = concat(body(RenameIn, { newdir: dir }), name('inner'), name('renamed'));
  mount.guest.ask({ opcode: opcodes.RENAME.code, nodeid: dir, body: moved });
  assert.equal(existsSync(join(path, 'was-dir', 'renamed')), true);
  assertIntact(scene);
});

test('a file that the host swaps for a symlink to outside stays the file it was', (t) => {
  const scene = enter(t);
  const { mount, path, nodeid, outside } = scene;
  writeFileSync(join(path, 'file'), 'inside');
  const file = mount.lookup(nodeid, 'file').nodeid;
  rmSync(join(path, 'file'));
  symlinkSync(join(outside, 'secret'), join(path, 'file'));
  assert.equal(Buffer.from(mount.read(mount.open(file, O_RDONLY), 0, 10)).toString(), 'inside');
  mount.setattr(file, { valid: flags.FATTR.SIZE | flags.FATTR.MODE, size: 0, mode: 0o777 });
  assertIntact(scene);
});

test('a directory that the host moves out of the shared one does not let its guests climb further', (t) => {
  const scene = enter(t);
  const { mount, path, nodeid, outside } = scene;
  mkdirSync(join(path, 'dir', 'sub'), { recursive: true });
  const dir = mount.lookup(nodeid, 'dir').nodeid;
  const sub = mount.lookup(dir, 'sub').nodeid;
  renameSync(join(path, 'dir'), join(outside, 'dir'));
  for (const parent of [dir, sub]) {
    mount.lookup(parent, '..', EINVAL);
    mount.lookup(parent, 'secret', ENOENT);
    const fh = mount.opendir(parent);
    const up = mount.list(parent, fh, 0n, 4096, true).find((each) => each.name === '..');
    assert.equal(up?.entry?.nodeid, 0n, "'..' is a name in a listing and no node");
  }
  renameSync(join(outside, 'dir'), join(path, 'dir'));
  assertIntact(scene);
});

test('while the host swaps a directory and a symlink all the time, no lookup ever sees what is outside', async (t) => {
  const scene = enter(t);
  const { mount, path, nodeid, outside } = scene;
  const outsideIno = lstatSync(join(outside, 'secret'), { bigint: true }).ino;
  const outsideDir = lstatSync(outside, { bigint: true }).ino;
  mkdirSync(join(path, 'dir'));
  writeFileSync(join(path, 'dir', 'secret'), 'inside');
  symlinkSync(outside, join(path, 'link'));
  await using swapper = startSwapper(join(path, 'dir'), join(path, 'link'));
  await swapper.running;
  let directories = 0;
  let links = 0;
  const deadline = performance.now() + 5000;
  for (let round = 0; (directories < 300 || links < 300) && performance.now() < deadline; round += 1) {
    const reply = mount.guest.send({ opcode: opcodes.LOOKUP.code, nodeid, body: name('dir') });
    if (reply.error !== 0) {
      assert.ok([-ENOENT, -ELOOP, -EXDEV].includes(reply.error), `LOOKUP: ${reply.error}`);
      continue;
    }
    const found = reply.body.getBigUint64(0, true);
    const attributes = mount.getattr(found);
    assert.notEqual(attributes.ino, outsideDir, 'the directory outside was looked up');
    const inner = mount.guest.send({ opcode: opcodes.LOOKUP.code, nodeid: found, body: name('secret') });
    if (inner.error === 0) {
      directories += 1;
      assert.notEqual(
        mount.getattr(inner.body.getBigUint64(0, true)).ino,
        outsideIno,
        'the file outside was looked up',
      );
    } else {
      links += 1;
      assert.equal(inner.error, -ENOTDIR);
    }
  }
  assert.ok(directories >= 300 && links >= 300, `${directories} directories and ${links} symlinks were seen`);
  assertIntact(scene);
});

/** A process that exchanges two names over and over. */
function startSwapper(first: string, second: string): AsyncDisposable & { running: Promise<unknown> } {
  const program = `
    import { renameSync } from 'node:fs';
    process.on('disconnect', () => process.exit(0));
    const [first, second] = process.argv.slice(1);
    const swap = () => {
      for (let i = 0; i < 50; i += 1) {
        renameSync(first, first + '.x');
        renameSync(second, first);
        renameSync(first + '.x', second);
      }
      setImmediate(swap);
    };
    swap();
    process.send('running');
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, first, second], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const ended = once(child, 'exit');
  return {
    running: once(child, 'message'),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM');
      await ended;
    },
  };
}
