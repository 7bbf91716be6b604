import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EINVAL, ENAMETOOLONG } from '../core/errno.ts';
import { nameLength, targetLength, xattrNameLength } from './names.ts';

/** The string, Latin-1, with a NUL, three bytes into a buffer that goes on after it. */
function check(rule: typeof nameLength, text: string, end?: number): number {
  const buffer = Buffer.from(`xyz${text}\0after\0`, 'latin1');
  return rule(buffer, 3, end ?? buffer.length);
}

test('a name is 1 to 255 bytes of anything but slash and NUL', () => {
  assert.equal(check(nameLength, 'a'), 1);
  assert.equal(check(nameLength, 'n'.repeat(255)), 255);
  assert.equal(check(nameLength, '...'), 3);
  assert.equal(check(nameLength, '.x'), 2);
  assert.equal(check(nameLength, '..x'), 3);
  assert.equal(check(nameLength, '\x01\xff\x80 \n\\'), 6);
});

test('a name that could lead elsewhere is refused', () => {
  for (const name of ['', '.', '..', '/', 'a/b', '/etc', 'a/', '../x']) assert.equal(check(nameLength, name), -EINVAL);
});

test('a name over 255 bytes is too long, whatever else is wrong with it', () => {
  assert.equal(check(nameLength, 'n'.repeat(256)), -ENAMETOOLONG);
  assert.equal(check(nameLength, '/'.repeat(300)), -ENAMETOOLONG);
});

test('a name without its NUL before the end of the request is refused', () => {
  assert.equal(check(nameLength, 'abc', 3 + 3), -EINVAL);
  assert.equal(check(nameLength, 'abc', 3 + 4), 3);
  assert.equal(check(nameLength, 'abc', 3), -EINVAL);
  assert.equal(check(nameLength, 'abc', 0), -EINVAL);
});

test('a symlink target may hold slashes and is up to 4095 bytes', () => {
  assert.equal(check(targetLength, '../../etc/passwd'), 16);
  assert.equal(check(targetLength, '.'), 1);
  assert.equal(check(targetLength, 't'.repeat(4095)), 4095);
  assert.equal(check(targetLength, 't'.repeat(4096)), -ENAMETOOLONG);
  assert.equal(check(targetLength, ''), -EINVAL);
});

test('an attribute name may hold slashes and is up to 255 bytes', () => {
  assert.equal(check(xattrNameLength, 'user.a/b'), 8);
  assert.equal(check(xattrNameLength, 'u'.repeat(256)), -ENAMETOOLONG);
});
