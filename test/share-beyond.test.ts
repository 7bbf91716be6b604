/** What a share has of its own: xattrs, streams, disposal, and what happens where a daemon cannot. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import { join } from 'node:path';
import { finished, pipeline } from 'node:stream/promises';
import { test, type TestContext } from 'node:test';

import { type DirectoryEntry, type OpenDirectory, Share, ShareError, type Task } from '../src/client/index.ts';
import { HostVolume } from './host-volume.ts';
import { seededFolder } from './share-bed.ts';

/** A share of a folder with the seed; all that was opened is closed in the end. */
function shared<T extends HostVolume = HostVolume>(t: TestContext, makeVolume?: (folder: string) => T) {
  const folder = seededFolder();
  const volume = makeVolume?.(folder) ?? new HostVolume(folder);
  t.after(() => {
    fs.rmSync(folder, { recursive: true });
    assert.equal(volume.opened.size, 0, 'files are left open');
  });
  return { folder, volume: volume as T, share: new Share(volume) };
}

test('paths begin at the root, with a slash or without', async (t) => {
  const { share } = shared(t);
  assert.equal(await share.readFile('dir/one', 'utf8'), '1');
  assert.deepEqual(await share.readdir('dir'), await share.readdir('/dir'));
  assert.equal(await share.mkdir('./a/b', { recursive: true }), './a');
  assert.deepEqual((await Array.fromAsync(share.glob('dir/*'))).toSorted(), ['dir/one', 'dir/sub']);
});

test('xattrs are set, listed, read and removed', async (t) => {
  const { share } = shared(t);
  await share.setxattr('/file', 'user.a', 'one');
  await share.setxattr('/link', 'user.b', Buffer.from([1, 2]), { create: true });
  await assert.rejects(share.setxattr('/file', 'user.a', '', { create: true }), {
    code: 'EEXIST',
    syscall: 'setxattr',
  });
  await assert.rejects(share.setxattr('/file', 'user.c', '', { replace: true }), { code: 'ENODATA' });
  assert.deepEqual(await share.listxattr('/file'), ['user.a', 'user.b']);
  assert.deepEqual(await share.listxattr('/link', { follow: false }), []);
  assert.deepEqual(await share.getxattr('/file', 'user.b'), Buffer.from([1, 2]));
  await share.removexattr('/file', 'user.a');
  const error = { code: 'ENODATA', syscall: 'getxattr', path: '/file' };
  await assert.rejects(share.getxattr('/file', 'user.a'), error);
  await assert.rejects(share.removexattr('/file', 'user.a'), { code: 'ENODATA', syscall: 'removexattr' });
});

test('watching says why it cannot be, and what to do', (t) => {
  const { share } = shared(t);
  for (const watch of [() => share.watch('/'), () => share.watchFile()]) {
    assert.throws(watch, { code: 'ERR_METHOD_NOT_IMPLEMENTED', message: /no notifications.*Ask stat\(\)/ });
  }
});

test('streams read a part, and write from a place on', async (t) => {
  const { share, folder } = shared(t);
  const pieces: string[] = [];
  const stream = share.createReadStream('/file', { start: 7, end: 11, encoding: 'utf8', highWaterMark: 2 });
  for await (const piece of stream) pieces.push(piece as string);
  assert.deepEqual([pieces, stream.bytesRead, stream.path], [['wo', 'rl', 'd'], 5, '/file']);
  const out = share.createWriteStream('/file', { flags: 'r+', start: 7, flush: true });
  out.write('moon');
  out.end('!');
  await finished(out);
  assert.equal(out.bytesWritten, 5);
  assert.equal(fs.readFileSync(join(folder, 'file'), 'utf8'), 'hello, moon!\n');
});

test('streams are piped, gathered and appended', async (t) => {
  const { share, folder } = shared(t);
  await pipeline(share.createReadStream('/dir/sub/deep/three.txt'), share.createWriteStream('/copy', { mode: 0o600 }));
  const out = share.createWriteStream('/copy', 'latin1');
  out.cork();
  for (const piece of ['one ', 'two ', '\u00e4']) out.write(piece);
  out.uncork();
  out.end();
  await finished(out);
  await pipeline(['more'], share.createWriteStream('/copy', { flags: 'a' }));
  assert.equal(fs.readFileSync(join(folder, 'copy'), 'latin1'), 'one two \u00e4more');
});

test('a stream that cannot be opened says so, and one that is destroyed is closed', async (t) => {
  const { share, volume } = shared(t);
  const [error] = (await once(share.createReadStream('/no'), 'error')) as [NodeJS.ErrnoException];
  assert.deepEqual([error.code, error.syscall, error.path], ['ENOENT', 'open', '/no']);
  const stream = share.createReadStream('/file');
  await once(stream, 'ready');
  assert.equal(volume.opened.size, 1);
  stream.destroy();
  await once(stream, 'close');
});

test('a stream that was aborted before it began leaves no file open', async (t) => {
  const { share } = shared(t);
  for (const create of [share.createReadStream, share.createWriteStream]) {
    const stream = create('/file', ABORTED);
    const opened = new Promise<void>((resolve) => stream.once('open', resolve));
    await assert.rejects(finished(stream), { code: 'ABORT_ERR' });
    await opened;
  }
});

const ABORTED = { signal: AbortSignal.abort() };

test('reads that were asked side by side go on one behind the other', async (t) => {
  const { share } = shared(t);
  await using handle = await share.open('/file');
  const reads = await Promise.all([5, 2, 6].map((length) => handle.read({ buffer: Buffer.alloc(length), length })));
  assert.deepEqual(
    reads.map(({ buffer }) => buffer.toString()),
    ['hello', ', ', 'world\n'],
  );
});

test('a copy is made by reading and writing where the daemon cannot', async (t) => {
  const { share, volume, folder } = shared(t);
  volume.copies = false;
  await share.copyFile('/dir/sub/deep/three.txt', '/copy');
  assert.deepEqual(fs.readFileSync(join(folder, 'copy')), fs.readFileSync(join(folder, 'dir/sub/deep/three.txt')));
});

test('half a copy is none', async (t) => {
  class Full extends HostVolume {
    override *open(...args: Parameters<HostVolume['open']>): ReturnType<HostVolume['open']> {
      const file = yield* super.open(...args);
      file.copyTo = () => this.call(() => assert.fail(new ShareError(-28, 'full')));
      return file;
    }
  }
  const { share, folder } = shared(t, (each) => new Full(each));
  const error = { code: 'ENOSPC', syscall: 'copyfile', path: '/file', dest: '/copy' };
  await assert.rejects(share.copyFile('/file', '/copy'), error);
  assert.equal(fs.existsSync(join(folder, 'copy')), false);
});

test('a directory is not copied into itself through a symlink', async (t) => {
  const { share, folder } = shared(t);
  await assert.rejects(share.cp('/dir', '/dirlink/sub/x/y', { recursive: true }), { code: 'ERR_FS_CP_EINVAL' });
  assert.equal(fs.existsSync(join(folder, 'dir/sub/x')), false);
});

test('types that a daemon does not tell are asked for', async (t) => {
  class Untyped extends HostVolume {
    override *openDirectory(path: string): Task<OpenDirectory> {
      const directory = yield* super.openDirectory(path);
      const read = directory.read.bind(directory);
      directory.read = function* (position): Task<readonly DirectoryEntry[]> {
        return (yield* read(position)).map((entry) => ({ ...entry, type: 0 }));
      };
      return directory;
    }
  }
  const { share, folder } = shared(t, (each) => new Untyped(each));
  const names = await share.readdir('/', { recursive: true });
  assert.deepEqual(names.toSorted(), fs.readdirSync(folder, { recursive: true }).map(String).toSorted());
  const dir = await share.opendir('/dir');
  for await (const entry of dir) assert.equal(entry.isDirectory(), entry.name === 'sub');
  await share.rm('/dir', { recursive: true });
});

test('a listing that goes down follows symlinks, but not in circles', async (t) => {
  const { share, folder } = shared(t);
  fs.symlinkSync('../..', join(folder, 'dir/sub/top'));
  fs.symlinkSync('../../other', join(folder, 'dir/sub/across'));
  fs.mkdirSync(join(folder, 'other'));
  fs.symlinkSync('../dir', join(folder, 'other/back'));
  const names = await share.readdir('/other', { recursive: true });
  assert.equal(names.includes('back/sub/deep/three.txt'), true);
  assert.equal(names.includes('back/sub/across'), true);
  assert.equal(
    names.some((name) => name.startsWith('back/sub/across/')),
    false,
  );
  assert.equal(
    names.some((name) => name.startsWith('back/sub/top/')),
    false,
  );
});

test('rm tries again what was in the way, as often as told', async (t) => {
  class Busy extends HostVolume {
    left = 2;
    override rmdir(path: string): Task<void> {
      this.left -= 1;
      return this.left < 0 ? super.rmdir(path) : this.call(() => assert.fail(new ShareError(-16, 'busy')));
    }
  }
  const { share, volume } = shared(t, (each) => new Busy(each));
  const how = { recursive: true, retryDelay: 1 };
  await assert.rejects(share.rm('/dir/sub/deep', { ...how, maxRetries: 1 }), { code: 'EBUSY', syscall: 'rmdir' });
  volume.left = 2;
  await share.rm('/dir/sub/deep', { ...how, maxRetries: 2 });
});

test('a share is closed at the end of its scope, once, and has its volume for the rest', async (t) => {
  const { volume } = shared(t);
  {
    await using share = new Share(volume);
    assert.equal(share.volume, volume);
    assert.equal(share.constants.O_CREAT, fs.constants.O_CREAT);
    await Promise.all([share.close(), share.close()]);
  }
  assert.equal(volume.closed, true);
});

test('a handle of another file system is not taken for one of the share', async (t) => {
  const { share, folder } = shared(t);
  await using handle = await fs.promises.open(join(folder, 'file'));
  await assert.rejects(share.readFile(handle), { code: 'ERR_INVALID_ARG_TYPE' });
});

test('what only --experimental-stream-iter has is refused with what to do', async (t) => {
  const { share } = shared(t);
  await using handle = await share.open('/file');
  assert.throws(() => handle.pull(), { code: 'ERR_METHOD_NOT_IMPLEMENTED', message: /createReadStream/ });
  assert.throws(() => handle.writer(), { code: 'ERR_METHOD_NOT_IMPLEMENTED', message: /createWriteStream/ });
});
