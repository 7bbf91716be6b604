import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cpio, type CpioEntry } from './cpio.ts';

interface Found {
  readonly path: string;
  readonly fields: readonly number[];
  readonly bytes: Buffer;
}

/** Reads an archive as the kernel does (init/initramfs.c): header, name, data, each padded to 4 bytes. */
function read(archive: Uint8Array): Found[] {
  const bytes = Buffer.from(archive);
  const found: Found[] = [];
  let at = 0;
  for (;;) {
    assert.equal(bytes.toString('latin1', at, at + 6), '070701');
    const fields = Array.from({ length: 13 }, (_, i) =>
      parseInt(bytes.toString('latin1', at + 6 + 8 * i, at + 14 + 8 * i), 16),
    );
    const [size, nameLength] = [fields[6], fields[11]];
    const path = bytes.toString('utf8', at + 110, at + 110 + nameLength - 1);
    assert.equal(bytes[at + 110 + nameLength - 1], 0);
    const data = (at + 110 + nameLength + 3) & ~3;
    if (path === 'TRAILER!!!') return found;
    found.push({ path, fields, bytes: bytes.subarray(data, data + size) });
    at = (data + size + 3) & ~3;
  }
}

const ENTRIES: readonly CpioEntry[] = [
  { kind: 'folder', path: 'bin' },
  { kind: 'file', path: 'bin/sh', mode: 0o755, bytes: Buffer.from('12345') },
  { kind: 'symlink', path: 'sbin', target: 'bin' },
  { kind: 'character device', path: 'console', major: 5, minor: 1 },
];

test('an archive gives back its entries with types, modes, contents and devices', () => {
  const found = read(cpio(ENTRIES));
  assert.deepEqual(
    found.map(({ path, fields }) => [path, fields[1].toString(8), fields[9], fields[10]]),
    [
      ['bin', '40755', 0, 0],
      ['bin/sh', '100755', 0, 0],
      ['sbin', '120777', 0, 0],
      ['console', '20600', 5, 1],
    ],
  );
  assert.equal(found[1].bytes.toString(), '12345');
  assert.equal(found[2].bytes.toString(), 'bin');
});

test('every inode number is its own, because equal ones are hard links to the kernel', () => {
  const inodes = read(cpio(ENTRIES)).map(({ fields }) => fields[0]);
  assert.equal(new Set(inodes).size, inodes.length);
});

test('the same entries give the same bytes, whatever the clock says', () => {
  assert.deepEqual(cpio(ENTRIES), cpio(ENTRIES));
  for (const { fields } of read(cpio(ENTRIES))) assert.equal(fields[5], 0);
});

test('one file lies in the archive byte by byte as the format says', () => {
  const head = ['070701', '00000001', '000081a4', '00000000', '00000000', '00000001', '00000000', '00000002'];
  const tail = ['00000000', '00000000', '00000000', '00000000', '00000002', '00000000'];
  const expected = Buffer.concat([Buffer.from([...head, ...tail].join('')), Buffer.from('a\0hi\0\0')]);
  const archive = Buffer.from(cpio([{ kind: 'file', path: 'a', bytes: Buffer.from('hi') }]));
  assert.equal(archive.subarray(0, 116).toString('latin1'), expected.toString('latin1'));
  assert.equal(archive.toString('latin1', 116, 122), '070701');
});

test('names count in bytes, not in characters', () => {
  const name = '\u00e9t\u00e9';
  const [entry] = read(cpio([{ kind: 'folder', path: name }]));
  assert.equal(entry.path, name);
  assert.equal(entry.fields[11], 6);
});

test('a path that leads out of the archive is refused', () => {
  for (const path of ['', '/etc', 'a/../b', '..']) {
    assert.throws(() => cpio([{ kind: 'folder', path }]), RangeError);
  }
});
