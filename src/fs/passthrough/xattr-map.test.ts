import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';

import { EOPNOTSUPP, EPERM } from '../../core/index.ts';
import { acceptsAcls, MAPPED_NAME_BYTES, parseXattrMap, XattrMap } from './xattr-map.ts';

/** The host's name, or the errno. */
function client(rules: string, name: string): string | number {
  const bytes = Buffer.from(`xx${name}\0`);
  const into = new Uint8Array(MAPPED_NAME_BYTES + 4);
  const length = bytes.length - 3;
  const result = new XattrMap(parseXattrMap(rules)).mapClientName(bytes, 2, length, into, 4);
  if (result <= 0) return result === 0 ? name : result;
  assert.equal(into[4 + result], 0);
  return Buffer.from(into.subarray(4, 4 + result)).toString();
}

/** The guest's name, or undefined where it is hidden. */
function server(rules: string, name: string): string | undefined {
  const bytes = Buffer.from(`xx${name}\0`);
  const strip = new XattrMap(parseXattrMap(rules)).mapServerName(bytes, 2, bytes.length - 3);
  return strip < 0 ? undefined : name.slice(strip);
}

const refuses = (rules: string, message: RegExp): void => {
  assert.throws(() => parseXattrMap(rules), { name: 'UserError', message });
};

test('one prefix for all, and nothing else of the host is seen', () => {
  for (const rules of [':prefix:all::user.virtiofs.::bad:all:::', ':map::user.virtiofs.:']) {
    assert.equal(client(rules, 'trusted.x'), 'user.virtiofs.trusted.x');
    assert.equal(client(rules, 'user.virtiofs.x'), 'user.virtiofs.user.virtiofs.x');
    assert.equal(server(rules, 'user.virtiofs.trusted.x'), 'trusted.x');
    assert.equal(server(rules, 'user.own'), undefined);
  }
});

test('a part of the names gets a prefix, with any delimiter and white space between the rules', () => {
  const written = `
    /prefix/all/trusted./user.virtiofs./
    |bad|server||trusted.|
    /bad/client/user.virtiofs.//
    ,ok,all,,,`;
  for (const rules of [written, '/map/trusted./user.virtiofs./ \n']) {
    assert.equal(client(rules, 'trusted.x'), 'user.virtiofs.trusted.x');
    assert.equal(client(rules, 'user.virtiofs.trusted.x'), -EPERM);
    assert.equal(client(rules, 'user.x'), 'user.x');
    assert.equal(server(rules, 'user.virtiofs.trusted.x'), 'trusted.x');
    assert.equal(server(rules, 'trusted.x'), undefined);
    assert.equal(server(rules, 'user.x'), 'user.x');
  }
});

test('the first rule that matches counts', () => {
  const rules = ':ok:client:user.a.:: :bad:client:user.:: :unsupported:client:security.:: :ok:all:::';
  assert.equal(client(rules, 'user.a.b'), 'user.a.b');
  assert.equal(client(rules, 'user.b'), -EPERM);
  assert.equal(client(rules, 'security.selinux'), -EOPNOTSUPP);
  assert.equal(client(rules, 'trusted.t'), 'trusted.t');
});

test('a scope is for one direction, and unsupported names are hidden', () => {
  const rules = ':prefix:server::user.v.: :unsupported:server::security.: :ok:all:::';
  assert.equal(client(rules, 'user.x'), 'user.x');
  assert.equal(server(rules, 'user.v.trusted.x'), 'trusted.x');
  assert.equal(server(rules, 'security.selinux'), undefined);
  assert.equal(server(rules, 'user.w'), 'user.w');
});

test('a name that is nothing but the prefix is none of the guest', () => {
  assert.equal(server(':map::user.v.:', 'user.v.'), undefined);
});

test('every kind of wrong rule is refused, with its number and the reason', () => {
  refuses('', /--xattrmap has no rules/);
  refuses(' \n ', /--xattrmap has no rules/);
  refuses(
    ':good:all:::',
    /rule 1 of --xattrmap, ':good:all:::': 'good' is no type; prefix, ok, bad, unsupported and map/,
  );
  refuses(':ok:both:::', /rule 1 .*'both' is no scope; client, server and all/);
  refuses(':ok:all:::\n:bad:all::', /rule 2 .*':bad:all::': it is not whole; it must read :bad:SCOPE:KEY:PREPEND:/);
  refuses(':map:trusted.', /it must read :map:KEY:PREPEND:/);
  refuses('prefix', /rule 1 .*'refix' is no type/);
  refuses(':map::user.v.::ok:all:::', /a map rule ends the list; ':ok:all:::' comes after it/);
  refuses(`:ok:all:${'k'.repeat(256)}::`, /longer than the 255 bytes/);
});

test('a list that leaves names without a rule is refused', () => {
  refuses(':prefix:all:trusted.:user.v.:', /all other names that the guest uses/);
  refuses(':ok:client:::', /all other names that the host lists/);
  refuses(':ok:server:::', /all other names that the guest uses/);
  assert.doesNotThrow(() => parseXattrMap(':ok:client:::\t:bad:server:::'));
});

test('ACLs need their own names', () => {
  assert.equal(acceptsAcls(parseXattrMap(':map:trusted.:user.v.:')), true);
  assert.equal(acceptsAcls(parseXattrMap(':map::user.v.:')), false);
  assert.equal(acceptsAcls(parseXattrMap(':bad:server::system.::ok:all:::')), false);
});

test('what a guest sets under a mapped name is listed to it under that name, and is no name of the host', () => {
  const word = fc.stringMatching(/^[a-z]{1,8}$/);
  fc.assert(
    fc.property(word, word, word, word, (key, prepend, rest, other) => {
      const rules = `!map!${key}.!${prepend}.!`;
      const name = `${key}.${rest}`;
      const onHost = client(rules, name);
      assert.equal(onHost, `${prepend}.${name}`);
      assert.equal(server(rules, onHost), name);
      if (key !== prepend) assert.equal(server(rules, name), undefined);
      if (key !== prepend) assert.equal(client(rules, `${prepend}.${rest}`), -EPERM);
      if (other !== key && other !== prepend) assert.equal(client(rules, `${other}.${rest}`), `${other}.${rest}`);
    }),
  );
});

test('any text is read or refused, never worse', () => {
  const piece = fc.constantFrom(':', '/', ' ', 'ok', 'map', 'all', 'client', 'prefix', 'user.', '');
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      try {
        const map = new XattrMap(parseXattrMap(pieces.join('')));
        assert.ok(map.mapServerName(Buffer.from('user.x'), 0, 6) <= 6);
      } catch (error) {
        assert.equal((error as Error).name, 'UserError');
      }
    }),
  );
});
