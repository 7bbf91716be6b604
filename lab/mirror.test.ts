import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debianKeyring, mirrorsOf, sourcesList } from './mirror.ts';

const uris = (...lines: string[]): string =>
  lines.map((line) => `'${line}/InRelease' ${line.replaceAll(/[:/]+/g, '_')}_InRelease 0 `).join('\n');

test('the mirror is the one that apt is configured with', () => {
  const text = uris(
    'http://mirror.test/debian/dists/bookworm',
    'http://mirror.test/debian/dists/bookworm-updates',
    'http://mirror.test/debian-security/dists/bookworm-security',
  );
  assert.deepEqual(mirrorsOf(text), ['http://mirror.test/debian']);
});

test('an archive of somebody else that uses the name of a Debian release comes last', () => {
  const text = uris(
    'https://other.test/linux/debian/dists/bookworm',
    'https://mirror.test/pub/dists/bookworm',
    'https://mirror.test/pub/dists/bookworm-updates',
    'https://mirror.test/pub/dists/bookworm-backports',
  );
  assert.deepEqual(mirrorsOf(text), ['https://mirror.test/pub', 'https://other.test/linux/debian']);
});

test('archives that are not Debian give no mirror', () => {
  const text = uris(
    'http://ubuntu.test/ubuntu/dists/noble',
    'https://node.test/node_20.x/dists/nodistro',
    'https://sdk.test/apt/dists/sdk-bookworm',
  );
  assert.deepEqual(mirrorsOf(text), []);
});

test('a medium in a drive is no mirror, and package lists are no release files', () => {
  const lists = "'http://mirror.test/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror.test_Packages 0 ";
  assert.deepEqual(mirrorsOf(`${uris('cdrom:[Debian 12]/dists/bookworm')}\n${lists}\n`), []);
});

test('a sources list trusts one keyring and fetches nothing but packages', () => {
  const list = sourcesList('http://mirror.test/debian', '/keys.gpg', ['trixie', 'trixie-backports'], ['amd64']);
  assert.equal(
    list,
    'deb [signed-by=/keys.gpg arch=amd64 target=Packages] http://mirror.test/debian trixie main\n' +
      'deb [signed-by=/keys.gpg arch=amd64 target=Packages] http://mirror.test/debian trixie-backports main\n',
  );
});

test('a machine without a Debian keyring has none', () => {
  assert.equal(debianKeyring('/nonexistent'), undefined);
});
