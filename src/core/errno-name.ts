import * as errnos from './errno.ts';

const NAMES = new Map<number, string>(Object.entries(errnos).map(([name, value]) => [value, name]));

/** The name of an error number: 2 and -2 both give 'ENOENT'; a number that Linux does not have gives 'errno N'. */
export function errnoName(errno: number): string {
  const value = Math.abs(errno);
  return NAMES.get(value) ?? `errno ${value}`;
}
