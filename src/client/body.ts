import type { AnyStruct } from '../wire/index.ts';

/** What follows the header of a request: a struct, its fields by name (the others are 0), and NUL-terminated names. */
export function bodyOf(
  struct: AnyStruct | null,
  fields: Readonly<Record<string, number | bigint | undefined>>,
  ...names: readonly Uint8Array[]
): Uint8Array<ArrayBuffer> {
  const fixed = struct?.bytes ?? 0;
  const body = new Uint8Array(names.reduce((sum, { length }) => sum + length + 1, fixed));
  const view = new DataView(body.buffer);
  for (const { name, offset, bytes } of struct?.layout ?? []) {
    const value = fields[name];
    if (value === undefined) continue;
    if (bytes === 8) view.setBigUint64(offset, BigInt.asUintN(64, BigInt(value)), true);
    else view.setUint32(offset, Number(value), true);
  }
  let at = fixed;
  for (const name of names) {
    body.set(name, at);
    at += name.length + 1;
  }
  return body;
}
