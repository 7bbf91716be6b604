/** What a behaviour can come to, other than to pass. */
import { errnoName } from '../src/core/index.ts';
import { SysError } from '../src/sys/index.ts';

/** The target did something else than the sentence says. */
export class Mismatch extends Error {
  override readonly name = 'Mismatch';
}

/** The target lacks what the behaviour is about. */
export class NotApplicable extends Error {
  override readonly name = 'NotApplicable';
}

/** A value in a message: numbers, strings, byte arrays (in part), objects as JSON. */
function shown(value: unknown): string {
  if (typeof value === 'bigint') return String(value);
  if (value instanceof Uint8Array) {
    const text = JSON.stringify(Buffer.from(value.subarray(0, 40)).toString('latin1'));
    return `${value.length} bytes ${text}${value.length > 40 ? '...' : ''}`;
  }
  const replaced = (_: string, inner: unknown): unknown => (typeof inner === 'bigint' ? String(inner) : inner);
  const text = JSON.stringify(value, replaced) ?? String(value);
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}

function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b) === 0;
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((each, i) => same(each, b[i]));
  return false;
}

/** Holds a value against the expected one: numbers, strings, byte arrays, and arrays of these. */
export function equal(actual: unknown, expected: unknown, what: string): void {
  if (!same(actual, expected)) throw new Mismatch(`${what}: expected ${shown(expected)}, got ${shown(actual)}`);
}

export function ok(condition: boolean, what: string): void {
  if (!condition) throw new Mismatch(what);
}

/** A mode in octal. */
export function modeIs(mode: number, expected: number, what = 'mode'): void {
  const octal = (value: number): string => `0${(value & 0o7777).toString(8)}`;
  equal(octal(mode), octal(expected), what);
}

type ErrnoName = `E${string}`;

/** Expects a call to fail with one of these errors. */
export function fails(wanted: ErrnoName | readonly ErrnoName[], call: () => unknown): void {
  const names: readonly string[] = typeof wanted === 'string' ? [wanted] : wanted;
  const expected = names.join(' or ');
  let result: unknown;
  try {
    result = call();
  } catch (error) {
    if (!(error instanceof SysError)) throw error;
    if (names.includes(error.code)) return;
    throw new Mismatch(`expected ${expected}, got ${error.message}`);
  }
  throw new Mismatch(`expected ${expected}, got success${result === undefined ? '' : ` (${shown(result)})`}`);
}

/** The result of a call; where one of these errors comes instead, the file system does not have it. */
export function supported<T>(what: string, call: () => T, ...without: readonly ErrnoName[]): T {
  try {
    return call();
  } catch (error) {
    const lacking: readonly string[] = without.length > 0 ? without : ['EOPNOTSUPP', 'ENOSYS', 'ENOTTY'];
    if (error instanceof SysError && lacking.includes(error.code)) throw new NotApplicable(`${what}: ${error.code}`);
    throw error;
  }
}

/** An errno as the errors of this room have it. */
export function failure(call: string, errno: number, detail: string): SysError {
  return new SysError(call, errno, detail || errnoName(errno));
}
