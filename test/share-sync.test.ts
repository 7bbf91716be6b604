import assert from 'node:assert/strict';
import nodeFs from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';

import { ShareSync } from '../src/client/index.ts';
import { HostVolume } from './host-volume.ts';
import { comparable, outcomes, seededFolder } from './share-bed.ts';

type Face = Pick<typeof nodeFs, Extract<keyof ShareSync & keyof typeof nodeFs, `${string}Sync`>>;

/** Calls with descriptors: ShareSync is held against node:fs. */
const SCRIPTS: Readonly<Record<string, (fs: Face, path: string) => (() => unknown)[]>> = {
  'a descriptor has a position of its own': (fs, path) => {
    const fd = fs.openSync(path, 'r+');
    const bytes = Buffer.alloc(6);
    return [
      () => fs.readSync(fd, bytes),
      () => fs.readSync(fd, bytes, { position: 1, length: 2 }),
      () => fs.readSync(fd, bytes, 1, 2, null),
      () => bytes.toString(),
      () => fs.writeSync(fd, 'XY'),
      () => fs.writeSync(fd, Buffer.from('Z'), 0, 1, 0),
      () => fs.writeSync(fd, 'w', 3, 'latin1'),
      () => fs.readFileSync(fd, 'utf8'),
      () => fs.writeFileSync(fd, '!'),
      () => fs.appendFileSync(fd, '?'),
      () => fs.readvSync(fd, [Buffer.alloc(2), bytes], 1),
      () => bytes.toString(),
      () => fs.writevSync(fd, [Buffer.from('a'), Buffer.from('b')], 2),
      () => fs.readFileSync(path, 'utf8'),
      () => fs.closeSync(fd),
    ];
  },
  'an open file is asked, changed and synced': (fs, path) => {
    const fd = fs.openSync(path, 'r+');
    return [
      () => fs.ftruncateSync(fd, 4),
      () => fs.fchmodSync(fd, 0o604),
      () => fs.futimesSync(fd, 5, 6),
      () => fs.fchownSync(fd, -1, -1),
      () => fs.fsyncSync(fd),
      () => fs.fdatasyncSync(fd),
      () => fs.fstatSync(fd),
      () => fs.fstatSync(fd, { bigint: true }).mtimeNs,
      () => fs.closeSync(fd),
    ];
  },
  'a descriptor that is none is refused': (fs, path) => {
    const fd = fs.openSync(path, 'r');
    fs.closeSync(fd);
    return [
      () => fs.closeSync(fd),
      () => fs.readSync(fd, Buffer.alloc(1)),
      () => fs.writeSync(fd, 'x'),
      () => fs.futimesSync(fd, 1, 1),
      () => fs.fstatSync(-1),
      () => fs.fstatSync('1' as never),
      () => fs.openSync(path, 'q'),
      () => fs.openSync(`${path}/below`, 'r'),
    ];
  },
  'what is not there is undefined or false, if so asked': (fs, path) => [
    () => fs.lstatSync(`${path}2`, { throwIfNoEntry: false }),
    () => fs.statSync(`${path}2`, { throwIfNoEntry: false }),
    () => fs.existsSync(path),
    () => fs.existsSync(`${path}2`),
    () => fs.existsSync('\0'),
  ],
  'a Dir is read and closed': (fs, path) => {
    const dir = fs.opendirSync(join(path, '../dir'));
    const names: unknown[] = [];
    for (let entry = dir.readSync(); entry !== null; entry = dir.readSync()) names.push(entry.name);
    return [() => names.map(String).toSorted(), () => dir.closeSync(), () => dir.readSync(), () => dir.closeSync()];
  },
};

describe('ShareSync is as node:fs', () => {
  for (const [sentence, script] of Object.entries(SCRIPTS)) {
    test(sentence, async (t) => {
      const [folder, shared] = [seededFolder(), seededFolder()];
      t.after(() => [folder, shared].forEach((each) => nodeFs.rmSync(each, { recursive: true })));
      const volume = new HostVolume(shared);
      const expected = await outcomes(...script(nodeFs, join(folder, 'file')));
      const actual = await outcomes(...script(new ShareSync(volume), '/file'));
      assert.deepEqual(comparable(actual, shared), comparable(expected, folder));
      assert.equal(volume.opened.size, 0);
    });
  }
});

test('descriptors of a share are none of the process', (t) => {
  const folder = seededFolder();
  t.after(() => nodeFs.rmSync(folder, { recursive: true }));
  const share = new ShareSync(new HostVolume(folder));
  const [first, second] = [share.openSync('/file', 'r'), share.openSync('/file', 'r')];
  assert.notEqual(first, second);
  assert.throws(() => nodeFs.fstatSync(first), { code: 'EBADF' });
  share.closeSync(first);
  share.closeSync(second);
});

test('a share is closed at the end of its scope, once', () => {
  const volume = new HostVolume('/');
  {
    using share = new ShareSync(volume);
    share.close();
  }
  assert.equal(volume.closed, true);
});

test('a temporary directory goes away at the end of its scope', (t) => {
  const folder = seededFolder();
  t.after(() => nodeFs.rmSync(folder, { recursive: true }));
  const share = new ShareSync(new HostVolume(folder));
  let path: string;
  {
    using made = share.mkdtempDisposableSync('/dir/tmp-');
    path = made.path;
    share.writeFileSync(`${path}/x`, 'x');
  }
  assert.equal(share.existsSync(path), false);
});

test('what would wait for a promise is refused', (t) => {
  const folder = seededFolder();
  t.after(() => nodeFs.rmSync(folder, { recursive: true }));
  const share = new ShareSync(new HostVolume(folder));
  const filter = (async () => true) as never;
  assert.throws(() => share.cpSync('/file', '/other', { filter }), { code: 'ERR_INVALID_RETURN_VALUE' });
  assert.throws(() => share.writeFileSync('/file', ['a'] as never), { code: 'ERR_INVALID_ARG_TYPE' });
  assert.throws(() => share.watch(), { code: 'ERR_METHOD_NOT_IMPLEMENTED', message: /no notifications/ });
});
