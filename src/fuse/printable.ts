/** Bytes and text that a person is shown: nothing in them moves a cursor, ends a line or looks like something else. */

/** Control and format characters, what is no character, and spaces other than the plain one. */
const STRANGE = /[\p{C}\p{Zl}\p{Zp}\p{Zs}"\\]/gu;
const SHORT: Readonly<Record<string, string>> = { ' ': ' ', '"': '\\"', '\\': '\\\\', '\n': '\\n', '\t': '\\t' };

/**
 * Bytes as text on one line: valid UTF-8 as it is; a quote, a backslash, a newline and a tab as in C; other bytes as
 * `\x1b`; characters that show nothing, or turn the direction of writing, as `\u{202e}`.
 */
export function printable(u8: Uint8Array, at = 0, end = u8.length): string {
  let text = '';
  for (let next = at; next < end; ) {
    const length = sequenceLength(u8, next, end);
    text += length === 0 ? byteText(u8[next]) : characterText(u8, next, length);
    next += Math.max(length, 1);
  }
  return text;
}

const byteText = (byte: number): string => `\\x${byte.toString(16).padStart(2, '0')}`;

function characterText(u8: Uint8Array, at: number, length: number): string {
  let point = length === 1 ? u8[at] : u8[at] & (0x7f >> length);
  for (let i = 1; i < length; i += 1) point = point * 64 + (u8[at + i] & 0x3f);
  return String.fromCodePoint(point).replace(STRANGE, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return SHORT[character] ?? (code < 0x80 ? byteText(code) : `\\u{${code.toString(16)}}`);
  });
}

/** How many bytes the character at `at` has; 0 where there is none (RFC 3629: no surrogates, nothing overlong). */
function sequenceLength(u8: Uint8Array, at: number, end: number): number {
  const first = u8[at];
  if (first < 0x80) return 1;
  const length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (length === 0 || at + length > end) return 0;
  for (let i = 1; i < length; i += 1) if ((u8[at + i] & 0xc0) !== 0x80) return 0;
  const second = u8[at + 1];
  const isWrong =
    (first === 0xe0 && second < 0xa0) ||
    (first === 0xed && second >= 0xa0) ||
    (first === 0xf0 && second < 0x90) ||
    (first === 0xf4 && second >= 0x90);
  return isWrong ? 0 : length;
}
