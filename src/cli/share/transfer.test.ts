import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { lstatSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import * as hostFiles from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';

import { ConnectionError } from '../../client/index.ts';
import type { ShareFiles, ShareHandle } from './face.ts';
import { place } from './testing.ts';

const MIB = 2 ** 20;

interface Watched {
  readonly files: ShareFiles;
  /** Bytes, of files that are not records. */
  read: number;
  written: number;
}

interface Hooks {
  /** Before anything else than a write. May throw. */
  readonly onCall?: () => void;
  /** Before a write, with its position. May throw. */
  readonly onWrite?: (path: string, position: number) => void;
  /** May change what is written. */
  readonly onChunk?: (chunk: Buffer) => Buffer;
}

/** Counts what is read and written, and lets a test step in. */
function watched(files: ShareFiles, hooks: Hooks = {}): Watched {
  const seen: Watched = { files, read: 0, written: 0 };
  const open: ShareFiles['open'] = async (path, flags, mode) => {
    hooks.onCall?.();
    const handle = await files.open(path, flags, mode);
    const counts = !String(path).endsWith('.json');
    const watching: ShareHandle = {
      read: async (buffer, offset, length, position) => {
        const result = await handle.read(buffer, offset, length, position);
        if (counts) seen.read += result.bytesRead;
        return result;
      },
      write: async (buffer, offset, length, position) => {
        if (!counts) return handle.write(buffer, offset, length, position);
        hooks.onWrite?.(String(path), position);
        const chunk =
          hooks.onChunk?.(buffer.subarray(offset, offset + length)) ?? buffer.subarray(offset, offset + length);
        seen.written += length;
        return handle.write(chunk, 0, length, position);
      },
      stat: (options) => handle.stat(options),
      truncate: async (length) => {
        hooks.onCall?.();
        await handle.truncate(length);
      },
      chmod: (bits) => handle.chmod(bits),
      utimes: (atime, mtime) => handle.utimes(atime, mtime),
      datasync: async () => {
        hooks.onCall?.();
        await handle.datasync();
      },
      close: () => handle.close(),
    };
    return watching;
  };
  const copy = { ...files, open };
  return Object.assign(seen, { files: copy });
}

const failure = (code: string, errno: number): Error => Object.assign(new Error(code), { code, errno });

/** Fails at the first write from `position` on. */
function breakAt(position: number): Hooks {
  return {
    onWrite: (_path, at) => {
      if (at >= position) throw failure('EIO', -5);
    },
  };
}

const listing = (folder: string): string[] => (readdirSync(folder, { recursive: true }) as string[]).toSorted();

test('put and get copy trees both ways, with modes, times and symlinks', async (t) => {
  const { root, local, run } = place(t);
  mkdirSync(join(local, 'd/e'), { recursive: true });
  const bytes = randomBytes(3 * MIB + 17);
  writeFileSync(join(local, 'd/e/big'), bytes);
  writeFileSync(join(local, 'd/empty'), '');
  chmodSync(join(local, 'd/e/big'), 0o4750);
  utimesSync(join(local, 'd/e/big'), 1_500_000_000.25, 1_600_000_000.123456);
  symlinkSync('e/big', join(local, 'd/link'));
  chmodSync(join(local, 'd/e'), 0o510);
  utimesSync(join(local, 'd/e'), 5, 6);
  assert.deepEqual(await run(['put', join(local, 'd'), '/']).then(({ code, err }) => [code, err]), [0, '']);
  assert.equal((await run(['get', '/d', join(local, 'back')])).code, 0);
  for (const copy of [join(root, 'd'), join(local, 'back')]) {
    assert.deepEqual(listing(copy), ['e', 'e/big', 'empty', 'link']);
    assert.deepEqual(readFileSync(join(copy, 'e/big')), bytes);
    const { mode, mtimeMs } = statSync(join(copy, 'e/big'));
    // Rights that would be those of another owner are not lent out.
    assert.equal(mode & 0o7777, 0o750);
    assert.ok(Math.abs(mtimeMs - 1_600_000_000_123.456) < 0.01);
    assert.equal(readlinkSync(join(copy, 'link')), 'e/big');
    assert.equal(statSync(join(copy, 'e')).mode & 0o777, 0o510);
    assert.equal(statSync(join(copy, 'e')).mtimeMs, 6000);
  }
  chmodSync(join(local, 'd/e'), 0o700);
});

test('a copy that was broken off goes on where it was, and sends nothing again', async (t) => {
  for (const direction of ['put', 'get'] as const) {
    for (const checksum of [[], ['--checksum']]) {
      const { root, local, share, run } = place(t);
      const bytes = randomBytes(5 * MIB + 100);
      const [source, target] = direction === 'put' ? [local, root] : [root, local];
      writeFileSync(join(source, 'big'), bytes);
      const words = direction === 'put' ? ['put', join(local, 'big'), '/'] : ['get', '/big', local];
      const options = (hooks?: Hooks): { seen: Watched; sent: Watched; options: object } => {
        const [from, to] = direction === 'put' ? [hostFiles, share] : [share, hostFiles];
        const [seen, sent] = [watched(from), watched(to, hooks)];
        const [shared, host] = direction === 'put' ? [sent, seen] : [seen, sent];
        return { seen, sent, options: { share: shared.files, host: host.files } };
      };
      const first = await run([...words, ...checksum], options(breakAt(3 * MIB)).options);
      assert.equal(first.code, 1);
      assert.match(first.err, /big: i\/o error \(EIO\)\n$/);
      assert.deepEqual(listing(target), ['.big.part-virtiofs', '.big.part-virtiofs.json']);

      const again = options();
      assert.deepEqual(await run([...words, ...checksum], again.options).then(({ code, err }) => [code, err]), [0, '']);
      assert.equal(again.sent.written, 2 * MIB + 100);
      assert.equal(again.seen.read, 2 * MIB + 100);
      assert.deepEqual(readFileSync(join(target, 'big')), bytes);
      assert.deepEqual(listing(target), ['big']);
    }
  }
});

test('what was broken off by Ctrl-C has no half file under its name, and goes on', async (t) => {
  const { root, local, share, run } = place(t);
  mkdirSync(join(local, 'd'));
  for (const name of ['a', 'b', 'c']) writeFileSync(join(local, 'd', name), randomBytes(4 * MIB));
  const ctrlC = new AbortController();
  const stopping = watched(share, {
    onWrite: (_path, position) => {
      if (position === 2 * MIB) ctrlC.abort();
    },
  });
  await assert.rejects(run(['put', join(local, 'd'), '/'], { share: stopping.files, signal: ctrlC.signal }), /abort/i);
  const left = listing(root).filter((name) => !name.includes('.part-virtiofs'));
  assert.deepEqual(left, ['d']);
  const again = watched(share);
  assert.equal((await run(['put', join(local, 'd'), '/'], { share: again.files })).code, 0);
  assert.deepEqual(listing(root), ['d', 'd/a', 'd/b', 'd/c']);
  assert.ok(stopping.written + again.written === 12 * MIB);
  for (const name of ['a', 'b', 'c']) {
    assert.deepEqual(readFileSync(join(root, 'd', name)), readFileSync(join(local, 'd', name)));
  }
});

test('of a daemon that went without a warning, what was noted before is not sent again', async (t) => {
  const { root, local, share, run } = place(t);
  const path = join(local, 'big');
  writeFileSync(path, '');
  truncateSync(path, 300 * MIB);
  const handle = await hostFiles.open(path, 'r+');
  await handle.write(Buffer.from('late'), 0, 4, 280 * MIB);
  await handle.close();
  let gone = false;
  const dying: Hooks = {
    onCall: () => {
      if (gone) throw new ConnectionError('ECONNRESET', 'it went');
    },
    onWrite: () => {
      gone = true;
      throw new ConnectionError('ECONNRESET', 'it went');
    },
  };
  await assert.rejects(run(['put', path, '/'], { share: watched(share, dying).files }), /it went/);
  const again = watched(hostFiles);
  assert.equal((await run(['put', path, '/'], { host: again.files })).code, 0);
  assert.equal(again.read, 44 * MIB);
  assert.deepEqual(listing(root), ['big']);
  const copy = await hostFiles.open(join(root, 'big'));
  const { buffer } = await copy.read(Buffer.alloc(4), 0, 4, 280 * MIB);
  const { size, blocks } = await copy.stat();
  await copy.close();
  assert.deepEqual([buffer.toString(), size], ['late', 300 * MIB]);
  assert.ok(blocks * 512 <= MIB, `${blocks} blocks`);
});

test('a part of another version of the source is begun anew', async (t) => {
  const { root, local, share, run } = place(t);
  writeFileSync(join(local, 'big'), randomBytes(4 * MIB));
  await run(['put', join(local, 'big'), '/'], { share: watched(share, breakAt(2 * MIB)).files });
  const bytes = randomBytes(4 * MIB);
  writeFileSync(join(local, 'big'), bytes);
  utimesSync(join(local, 'big'), 1, 2);
  const again = watched(share);
  assert.equal((await run(['put', join(local, 'big'), '/'], { share: again.files })).code, 0);
  assert.equal(again.written, 4 * MIB);
  assert.deepEqual(readFileSync(join(root, 'big')), bytes);
  assert.deepEqual(listing(root), ['big']);
});

test('with --checksum, a part that is not what was sent is begun anew', async (t) => {
  const { root, local, share, run } = place(t);
  const bytes = randomBytes(4 * MIB);
  writeFileSync(join(local, 'big'), bytes);
  const words = ['put', '--checksum', join(local, 'big'), '/'];
  await run(words, { share: watched(share, breakAt(2 * MIB)).files });
  writeFileSync(join(root, '.big.part-virtiofs'), randomBytes(2 * MIB));
  const again = watched(share);
  assert.equal((await run(words, { share: again.files })).code, 0);
  assert.equal(again.written, 4 * MIB);
  assert.deepEqual(readFileSync(join(root, 'big')), bytes);
});

test('--checksum finds what was stored wrongly, names the file, and leaves none', async (t) => {
  const { root, local, share, run } = place(t);
  mkdirSync(join(local, 'd'));
  for (const name of ['bad', 'good']) writeFileSync(join(local, 'd', name), name.repeat(1000));
  const flip = (chunk: Buffer): Buffer => {
    const copy = Buffer.from(chunk);
    if (copy.toString().startsWith('bad')) copy[10] ^= 1;
    return copy;
  };
  const broken = watched(share, { onChunk: flip });
  const { code, err } = await run(['put', '--checksum', join(local, 'd'), '/'], { share: broken.files });
  assert.equal(code, 1);
  const digest = createHash('sha256').update('bad'.repeat(1000)).digest('hex');
  assert.match(err, new RegExp(`^virtiofs put: ${local}/d/bad: what is stored is not what was sent: .*not ${digest}`));
  assert.deepEqual(listing(root), ['d', 'd/good']);
  // Without it, nobody looks.
  assert.equal((await run(['put', join(local, 'd'), '/'], { share: watched(share, { onChunk: flip }).files })).code, 0);
});

test('what is there already is not sent; with --checksum only if it is alike', async (t) => {
  const { root, local, share, run } = place(t);
  writeFileSync(join(local, 'f'), 'before');
  chmodSync(join(local, 'f'), 0o600);
  await run(['put', join(local, 'f'), '/']);
  const { ino } = statSync(join(root, 'f'));
  const { mtime } = statSync(join(local, 'f'));
  chmodSync(join(local, 'f'), 0o640);
  const again = watched(share);
  await run(['put', join(local, 'f'), '/'], { share: again.files });
  assert.equal(again.written, 0);
  assert.deepEqual([statSync(join(root, 'f')).ino, statSync(join(root, 'f')).mode & 0o777], [ino, 0o640]);
  writeFileSync(join(root, 'f'), 'behind');
  utimesSync(join(root, 'f'), mtime, statSync(join(local, 'f')).mtimeMs / 1000);
  await run(['put', join(local, 'f'), '/']);
  assert.equal(readFileSync(join(root, 'f'), 'utf8'), 'behind');
  await run(['put', '--checksum', join(local, 'f'), '/']);
  assert.equal(readFileSync(join(root, 'f'), 'utf8'), 'before');
});

test('holes stay holes', async (t) => {
  const { root, local, run } = place(t);
  const path = join(local, 'sparse');
  writeFileSync(path, '');
  truncateSync(path, 64 * MIB);
  const handle = await hostFiles.open(path, 'r+');
  await handle.write(Buffer.from('middle'), 0, 6, 20 * MIB + 5);
  await handle.close();
  assert.equal((await run(['put', '--checksum', path, '/'])).code, 0);
  const copy = join(root, 'sparse');
  assert.ok(statSync(copy).blocks * 512 <= MIB, `${statSync(copy).blocks} blocks`);
  assert.ok(readFileSync(copy).equals(readFileSync(path)));
});

test('a source that changes while it is copied is an error, and no copy', async (t) => {
  const { root, local, share, run } = place(t);
  const path = join(local, 'log');
  writeFileSync(path, randomBytes(2 * MIB));
  const appending = watched(share, { onWrite: () => writeFileSync(path, 'more', { flag: 'a' }) });
  const { code, err } = await run(['put', path, '/'], { share: appending.files });
  assert.equal(code, 1);
  assert.match(err, /log: it changed while it was copied; copy it again\n$/);
  assert.deepEqual(listing(root), []);
});

test('a source of the same size, written to while it is copied, is an error, too', async (t) => {
  const { root, local, share, run } = place(t);
  const path = join(local, 'base');
  writeFileSync(path, randomBytes(2 * MIB));
  const changing = watched(share, { onWrite: () => utimesSync(path, 1, 2) });
  assert.match((await run(['put', path, '/'], { share: changing.files })).err, /it changed while it was copied/);
  assert.deepEqual(listing(root), []);
});

test('what a part has behind what is safe does not come into the holes of the rest', async (t) => {
  const { root, local, share, run } = place(t);
  const path = join(local, 'sparse');
  writeFileSync(path, randomBytes(2 * MIB));
  truncateSync(path, 5 * MIB);
  writeFileSync(path, 'end', { flag: 'a' });
  await run(['put', path, '/'], { share: watched(share, breakAt(5 * MIB)).files });
  const part = join(root, '.sparse.part-virtiofs');
  writeFileSync(`${part}.json`, readFileSync(`${part}.json`, 'utf8').replace(/"bytes":\d+/, `"bytes":${2 * MIB}`));
  truncateSync(part, 2 * MIB);
  writeFileSync(part, randomBytes(MIB), { flag: 'a' });
  assert.equal((await run(['put', path, '/'])).code, 0);
  assert.ok(readFileSync(join(root, 'sparse')).equals(readFileSync(path)));
});

test('the note of a copy that is broken off is not written through a symlink', async (t) => {
  const { root, local, run } = place(t);
  writeFileSync(join(local, 'victim'), 'safe');
  writeFileSync(join(root, 'f'), randomBytes(3 * MIB));
  symlinkSync(join(local, 'victim'), join(local, '.f.part-virtiofs.json'));
  const breaking = watched(hostFiles, breakAt(2 * MIB));
  assert.equal((await run(['get', 'f', local], { host: breaking.files })).code, 1);
  assert.equal(readFileSync(join(local, 'victim'), 'utf8'), 'safe');
});

test('get never writes through symlinks that a stranger laid', async (t) => {
  const { root, local, run } = place(t);
  writeFileSync(join(local, 'victim'), 'safe');
  mkdirSync(join(local, 'outside'));
  mkdirSync(join(root, 'd/sub'), { recursive: true });
  writeFileSync(join(root, 'd/f'), 'attack');
  writeFileSync(join(root, 'd/sub/f'), 'attack');
  mkdirSync(join(local, 'd'));
  symlinkSync(join(local, 'victim'), join(local, 'd/f'));
  for (const name of ['.f.part-virtiofs', '.f.part-virtiofs.json']) {
    symlinkSync(join(local, 'victim'), join(local, 'd', name));
  }
  symlinkSync(join(local, 'outside'), join(local, 'd/sub'));
  const { err } = await run(['get', '/d', local]);
  assert.match(err, /\/d\/sub: there is a symlink of that name\n$/);
  assert.equal(readFileSync(join(local, 'victim'), 'utf8'), 'safe');
  assert.ok(lstatSync(join(local, 'd/f')).isFile());
  assert.equal(readFileSync(join(local, 'd/f'), 'utf8'), 'attack');
  assert.deepEqual(listing(join(local, 'outside')), []);
});

test('what cannot be copied is told, and the rest goes on', async (t) => {
  const { root, local, run } = place(t);
  mkdirSync(join(root, 'd/there'), { recursive: true });
  writeFileSync(join(root, 'd/f'), 'f');
  linkSync(join(root, 'd/f'), join(root, 'd/g'));
  mkdirSync(join(local, 'd/f'), { recursive: true });
  const { code, err } = await run(['get', 'd', '/none', local]);
  assert.equal(code, 1);
  assert.equal(
    err,
    'virtiofs get: /d/f: there is a directory of that name\nvirtiofs get: /none: no such file or directory (ENOENT)\n',
  );
  assert.deepEqual(listing(join(local, 'd')), ['f', 'g', 'there']);
});

test('the contents of the root go into the directory that is named', async (t) => {
  const { root, local, run } = place(t);
  writeFileSync(join(root, 'a'), 'a');
  mkdirSync(join(local, 'backup'));
  chmodSync(join(local, 'backup'), 0o711);
  assert.equal((await run(['get', '/', join(local, 'backup')])).code, 0);
  assert.deepEqual(listing(join(local, 'backup')), ['a']);
  assert.equal(statSync(join(local, 'backup')).mode & 0o777, 0o711);
  assert.equal((await run(['get', '/', join(local, 'new/')])).code, 0);
  assert.deepEqual(listing(join(local, 'new')), ['a']);
});

test('two sources of one name do not write over each other', async (t) => {
  const { root, local, run } = place(t);
  for (const each of ['x', 'y']) {
    mkdirSync(join(local, each));
    writeFileSync(join(local, each, 'same'), each);
  }
  const { code, err } = await run(['put', join(local, 'x/same'), join(local, 'y/same'), '/']);
  assert.equal(code, 1);
  assert.match(err, /y\/same: \/same was written by this command already/);
  assert.equal(readFileSync(join(root, 'same'), 'utf8'), 'x');
});

test('names of any bytes and of any length are copied', async (t) => {
  const { root, local, run } = place(t);
  mkdirSync(join(local, 'd'));
  const strange = Buffer.concat([Buffer.from(`${local}/d/`), Buffer.of(0xff, 0x0a, 0x1b)]);
  writeFileSync(strange, 'strange');
  writeFileSync(join(local, 'd', 'n'.repeat(255)), 'long');
  assert.deepEqual(await run(['put', join(local, 'd'), '/']).then(({ code, err }) => [code, err]), [0, '']);
  assert.equal(
    readFileSync(Buffer.concat([Buffer.from(`${root}/d/`), Buffer.of(0xff, 0x0a, 0x1b)]), 'utf8'),
    'strange',
  );
  assert.equal(readFileSync(join(root, 'd', 'n'.repeat(255)), 'utf8'), 'long');
});

test('no more files are copied at once than --jobs says', async (t) => {
  const { local, share, run } = place(t);
  mkdirSync(join(local, 'd'));
  for (let i = 0; i < 30; i += 1) writeFileSync(join(local, 'd', `f${i}`), 'x');
  for (const jobs of [1, 3]) {
    let [open, most] = [0, 0];
    const counting: ShareFiles['open'] = async (...given) => {
      open += 1;
      most = Math.max(most, open);
      const handle = await share.open(...given);
      const close = handle.close.bind(handle);
      return Object.assign(handle, { close: () => close().finally(() => (open -= 1)) });
    };
    const files = { ...share, open: counting };
    assert.equal((await run(['put', '-j', `${jobs}`, join(local, 'd'), `/to${jobs}`], { share: files })).code, 0);
    assert.equal(most, jobs);
  }
});

test('a daemon that goes ends the whole at once', async (t) => {
  const { local, share, run } = place(t);
  mkdirSync(join(local, 'd'));
  for (let i = 0; i < 50; i += 1) writeFileSync(join(local, 'd', `f${i}`), 'x');
  const gone = watched(share, {
    onWrite: () => {
      throw new ConnectionError('ECONNRESET', 'it went');
    },
  });
  await assert.rejects(run(['put', '-j', '1', join(local, 'd'), '/'], { share: gone.files }), {
    message: `put: ${local}/d/f0: ECONNRESET: it went`,
  });
});
