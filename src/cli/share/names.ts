/** Names of files as text: whatever bytes they have, they can be kept, shown on a terminal, and typed in again. */
import { isUtf8 } from 'node:buffer';

import type { FacePath } from './face.ts';

/** A byte that is not UTF-8 is kept as the half of a surrogate pair, which UTF-8 cannot have. */
const ESCAPED = 0xdc00;
const HAS_ESCAPED = /[\udc80-\udcff]/u;

/** How many bytes a character of UTF-8 has by its first one. */
function lengthOf(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xe0) return 2;
  return first < 0xf0 ? 3 : 4;
}

/** Bytes as text, without loss. */
export function textOf(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString();
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const character = bytes.subarray(at, at + lengthOf(bytes[at]));
    const good = isUtf8(character);
    text += good ? character.toString() : String.fromCharCode(ESCAPED + bytes[at]);
    at += good ? character.length : 1;
  }
  return text;
}

/** Text as the bytes that textOf() was given. */
export function bytesOf(text: string): Buffer {
  if (!HAS_ESCAPED.test(text)) return Buffer.from(text);
  const parts = Array.from(text, (character) =>
    HAS_ESCAPED.test(character) ? Buffer.of(character.charCodeAt(0) - ESCAPED) : Buffer.from(character),
  );
  return Buffer.concat(parts);
}

/** A path for a call. */
export function pathOf(text: string): FacePath {
  return HAS_ESCAPED.test(text) ? bytesOf(text) : text;
}

/** What a terminal may obey, or shows as nothing or elsewhere: control characters, bidirectional ones, no UTF-8. */
const HIDDEN = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}\ufeff]/u;
const HIDDEN_RUNS = /([\p{Cc}\p{Cs}\p{Zl}\p{Zp}\p{Bidi_Control}\ufeff]+)/u;
/** What a shell reads as more than itself; at the beginning, also # and ~. */
const SPECIAL = /^[#~]|[ !"$&'()*;<=>?[\\^`|]|^[{}]$/;

const NAMED = new Map(
  Array.from('\x07a\bb\tt\nn\vv\ff\rr'.matchAll(/(.)(.)/gs), ([, raw, name]) => [raw, `\\${name}`]),
);

function escapes(hidden: string): string {
  const one = (byte: number): string =>
    NAMED.get(String.fromCharCode(byte)) ?? `\\${byte.toString(8).padStart(3, '0')}`;
  return `$'${Array.from(bytesOf(hidden), one).join('')}'`;
}

function inQuotes(text: string): string {
  if (!text.includes("'")) return `'${text}'`;
  return /["$`!\\]/.test(text) ? `'${text.replaceAll("'", `'\\''`)}'` : `"${text}"`;
}

/** A name as GNU ls shows it on a terminal: a shell reads it as this name. */
export function quoted(name: string): string {
  if (name === '') return "''";
  if (!HIDDEN.test(name)) return SPECIAL.test(name) ? inQuotes(name) : name;
  const parts = name.split(HIDDEN_RUNS).filter((part) => part !== '');
  return parts.map((part) => (HIDDEN.test(part) ? escapes(part) : `'${part.replaceAll("'", `'\\''`)}'`)).join('');
}

/** A name where nobody reads it back: it is quoted only if it could harm a terminal or break a line. */
export function shown(name: string): string {
  return HIDDEN.test(name) || name === '' ? quoted(name) : name;
}

/** A name with backslashes, as the completion of what is being typed. */
export function escaped(name: string): string {
  const special = /[\s!"$&'()*;<=>?[\\^`|#~{}]/g;
  return name
    .split(HIDDEN_RUNS)
    .map((part) => (HIDDEN.test(part) ? escapes(part) : part.replace(special, '\\$&')))
    .join('');
}

/** JSON whose strings hold nothing raw that a terminal obeys. */
export function jsonOf(value: unknown): string {
  const text = JSON.stringify(value, (_key, each: unknown) => (typeof each === 'bigint' ? Number(each) : each), 2);
  const hidden = /[\x7f-\x9f\p{Zl}\p{Zp}\p{Bidi_Control}\ufeff]/gu;
  return text.replace(hidden, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** Text of a file for a terminal: lines and tabs stay, all else that is hidden is shown as ^X or \xHH. */
export function harmless(text: string): string {
  return text.replace(/[^\P{C}\n\t]/gu, (found) => {
    const code = found.codePointAt(0) as number;
    if (code < 0x20 || code === 0x7f) return `^${String.fromCharCode(code ^ 0x40)}`;
    return code < 0x100 ? `\\x${code.toString(16)}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

const WIDE =
  /[\p{Emoji_Presentation}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\uff01-\uff60]/u;

/** Columns that a text takes on a terminal. */
export function widthOf(text: string): number {
  let width = 0;
  for (const character of text) if (!/\p{M}/u.test(character)) width += WIDE.test(character) ? 2 : 1;
  return width;
}
