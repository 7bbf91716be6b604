/** Numbers, modes and times as people read them. */
import { S_IFMT } from '../../sys/index.ts';

export type Kind =
  | 'file'
  | 'directory'
  | 'symlink'
  | 'fifo'
  | 'socket'
  | 'block device'
  | 'character device'
  | 'unknown';

const KINDS: readonly { readonly bits: number; readonly kind: Kind; readonly letter: string }[] = [
  { bits: 0o100000, kind: 'file', letter: '-' },
  { bits: 0o040000, kind: 'directory', letter: 'd' },
  { bits: 0o120000, kind: 'symlink', letter: 'l' },
  { bits: 0o010000, kind: 'fifo', letter: 'p' },
  { bits: 0o140000, kind: 'socket', letter: 's' },
  { bits: 0o060000, kind: 'block device', letter: 'b' },
  { bits: 0o020000, kind: 'character device', letter: 'c' },
];

function kindRow(mode: bigint): (typeof KINDS)[number] {
  const bits = Number(mode) & S_IFMT;
  return KINDS.find((row) => row.bits === bits) ?? { bits, kind: 'unknown', letter: '?' };
}

export function kindOf({ mode }: { readonly mode: bigint }): Kind {
  return kindRow(mode).kind;
}

/** `drwxr-xr-x`. */
export function modeText(mode: bigint): string {
  const bits = Number(mode);
  const special = [0o4000, 0o2000, 0o1000];
  const triples = special.map((flag, i) => {
    const rights = (bits >> (6 - 3 * i)) & 7;
    const letter = 'sst'[i];
    const last = rights & 1 ? (bits & flag ? letter : 'x') : bits & flag ? letter.toUpperCase() : '-';
    return `${rights & 4 ? 'r' : '-'}${rights & 2 ? 'w' : '-'}${last}`;
  });
  return kindRow(mode).letter + triples.join('');
}

/** Major and minor number of a device, as makedev(3) puts them together. */
export function deviceNumbers(rdev: bigint): { readonly major: bigint; readonly minor: bigint } {
  return {
    major: ((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn),
    minor: (rdev & 0xffn) | ((rdev >> 12n) & ~0xffn),
  };
}

const UNITS = ['', 'K', 'M', 'G', 'T', 'P', 'E'];

/** `1.4K`, `23M`: powers of 1024, rounded up, as ls -h and df -h do. */
export function humanSize(bytes: bigint | number): string {
  let size = Number(bytes);
  let unit = 0;
  for (; size >= 1024 && unit < UNITS.length - 1; unit += 1) size /= 1024;
  if (unit === 0) return String(size);
  const tenths = Math.ceil(size * 10) / 10;
  if (tenths < 10) return `${tenths.toFixed(1)}${UNITS[unit]}`;
  const whole = Math.ceil(size);
  return whole === 1024 && unit < UNITS.length - 1 ? `1.0${UNITS[unit + 1]}` : `${whole}${UNITS[unit]}`;
}

/** `3:07`, `1:02:33`. */
export function durationText(seconds: number): string {
  const all = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  const tail = String(rest).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${tail}` : `${minutes}:${tail}`;
}

const two = (value: number): string => String(value).padStart(2, '0');

/** A time of a file, in this time zone: to the minute, or in full with nanoseconds. */
export function timeText(ns: bigint, full = false): string {
  const date = new Date(Number(ns / 1_000_000n));
  if (Number.isNaN(date.getTime())) return '?';
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const minute = `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
  if (!full) return minute;
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? '-' : '+'}${two(Math.floor(Math.abs(offset) / 60))}${two(Math.abs(offset) % 60)}`;
  const fraction = String(((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n).padStart(9, '0');
  return `${minute}:${two(date.getSeconds())}.${fraction} ${zone}`;
}

/** For JSON: RFC 3339 with nanoseconds. */
export function timeJson(ns: bigint): string | null {
  const second = ns / 1_000_000_000n - (ns % 1_000_000_000n < 0n ? 1n : 0n);
  const date = new Date(Number(second) * 1000);
  if (Number.isNaN(date.getTime())) return null;
  return date.toISOString().replace('.000Z', `.${String(ns - second * 1_000_000_000n).padStart(9, '0')}Z`);
}

/** Rows as a table: columns that hold numbers stand right, but the last one is not filled up. */
export function table(rows: readonly (readonly string[])[], right: readonly boolean[]): string {
  const widths = right.map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) => (right[i] ? cell.padStart(widths[i]) : i === row.length - 1 ? cell : cell.padEnd(widths[i])))
      .join(' ');
  return rows.map((row) => `${line(row)}\n`).join('');
}
