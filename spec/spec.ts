/** The layouts in this folder, as the tests read them. */
import { readFileSync } from 'node:fs';

/** One C struct. `fields` are in the header's order: name, then offset and size in bytes (0 for a flexible array). */
export interface CStruct {
  readonly size: number;
  readonly fields: Readonly<Record<string, readonly [offset: number, size: number]>>;
}

export interface Spec {
  readonly source: string;
  readonly structs: Readonly<Record<string, CStruct>>;
  readonly enums: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Object-like macros with a number. Those above 2^53 are powers of two, hence exact. */
  readonly defines: Readonly<Record<string, number>>;
}

export function loadSpec(name: 'fuse' | 'vhost-user'): Spec {
  return JSON.parse(readFileSync(new URL(`${name}.json`, import.meta.url), 'utf8')) as Spec;
}
