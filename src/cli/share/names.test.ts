import assert from 'node:assert/strict';
import { test } from 'node:test';

import fc from 'fast-check';

import { bytesOf, escaped, harmless, jsonOf, quoted, shown, textOf, widthOf } from './names.ts';
import { commandsIn, wordsBeforeCursor } from './words.ts';

const name = fc.uint8Array({ minLength: 1, maxLength: 40 }).map((bytes) => textOf(Buffer.from(bytes)));
const asciiName = fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 20 });

test('bytes that are no UTF-8 come back as they were', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      assert.deepEqual(bytesOf(textOf(Buffer.from(bytes))), Buffer.from(bytes));
    }),
  );
  assert.equal(textOf(Buffer.from('gr\u00fcn')), 'gr\u00fcn');
});

test('whatever is in a name, nothing of it reaches a terminal raw, and a shell reads the same name', () => {
  fc.assert(
    fc.property(fc.oneof(name, asciiName), (each) => {
      for (const text of [quoted(each), escaped(each)]) {
        assert.doesNotMatch(text, /[\p{Cc}\p{Cs}]/u);
        assert.deepEqual(commandsIn(`ls ${text}`), [['ls', each]]);
      }
      assert.doesNotMatch(shown(each), /[\p{Cc}\p{Cs}]/u);
    }),
  );
});

test('names are quoted as GNU ls does on a terminal', () => {
  const expected = {
    plain: 'plain',
    'two words': "'two words'",
    "it's": `"it's"`,
    'it\'s "so"': `'it'\\''s "so"'`,
    'a\nb': "'a'$'\\n''b'",
    '\x1b[31mred': "$'\\033''[31mred'",
    'a#b': 'a#b',
    '#a': "'#a'",
    '': "''",
    'file\u202egpj.exe': "'file'$'\\342\\200\\256''gpj.exe'",
    '\u00e9t\u00e9': '\u00e9t\u00e9',
  };
  for (const [each, text] of Object.entries(expected)) assert.equal(quoted(each), text);
});

test('JSON holds no character raw that a terminal obeys', () => {
  const text = jsonOf({ path: '\x1b\x9b\u202e\x7f', size: 5n });
  assert.doesNotMatch(text.replaceAll('\n', ''), /[\p{Cc}\u202e]/u);
  assert.deepEqual(JSON.parse(text), { path: '\x1b\x9b\u202e\x7f', size: 5 });
});

test('a text for a terminal keeps lines and tabs, and shows the rest', () => {
  assert.equal(harmless('a\tb\nc\x1b[2J\r\x9b\u202e\x7f'), 'a\tb\nc^[[2J^M\\x9b\\u202e^?');
});

test('wide and combining characters count as a terminal shows them', () => {
  assert.equal(widthOf('ab'), 2);
  assert.equal(widthOf('\u6f22\u5b57'), 4);
  assert.equal(widthOf('e\u0301'), 1);
});

test('words are split and quoted as in a shell', () => {
  assert.deepEqual(commandsIn(`ls 'a b' "c \\" d" e\\ f;cat g # h; i\n\nstat ""`), [
    ['ls', 'a b', 'c " d', 'e f'],
    ['cat', 'g'],
    ['stat', ''],
  ]);
  assert.deepEqual(commandsIn(`ls a'b'"c"\\d $'\\x41\\u00e9\\e\\''`), [['ls', 'abcd', "A\u00e9\x1b'"]]);
  assert.deepEqual(commandsIn(' ; ;\n'), []);
});

test('quotes that do not end, and what a shell would do more with, are errors', () => {
  for (const line of ["ls 'a", 'ls "a', 'ls a\\', "ls $'a", 'ls a | cat', 'ls > b', 'echo $HOME', 'ls `a`']) {
    assert.throws(() => commandsIn(line), { name: 'UserError' }, line);
  }
});

test('what is being typed is found behind open quotes, too', () => {
  const last = (line: string): unknown => wordsBeforeCursor(line).at(-1);
  assert.deepEqual(last('ls a b'), { text: 'b', start: 5, end: 6, open: '' });
  assert.deepEqual(last("ls 'a b"), { text: 'a b', start: 3, end: 7, open: "'" });
  assert.deepEqual(last('ls '), { text: '', start: 3, end: 3, open: '' });
  assert.deepEqual(last('ls x; ca'), { text: 'ca', start: 6, end: 8, open: '' });
});
