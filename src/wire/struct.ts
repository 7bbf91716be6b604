import { assert } from '../core/index.ts';
import type { Getter, Kind, PlaceKind, Setter } from './kinds.ts';

/** One field of a struct, in the order of the wire. */
export interface FieldLayout {
  readonly name: string;
  /** Bytes from the start of the struct. */
  readonly offset: number;
  readonly bytes: number;
  readonly kind: string;
}

/** What every struct has, whatever its fields. */
export interface AnyStruct {
  /** The struct's name in C, for grep and for the comparison with `spec/`. */
  readonly cname: string;
  /** Total size. Structs that end in a variable tail (`bytes(0)`) count without it. */
  readonly bytes: number;
  /** Natural alignment: that of the widest field. */
  readonly align: number;
  readonly offsets: Readonly<Record<string, number>>;
  readonly layout: readonly FieldLayout[];
  /** One line for a person, such as `fuse_read_in{fh=3 offset=0 size=4096}`. Cold. */
  readonly format: (view: DataView, at: number) => string;
}

type Field = Kind<number> | Kind<bigint> | PlaceKind | AnyStruct;
type Fields = Readonly<Record<string, Field>>;

/** Names of the fields that have accessors: not `_...`, not places, not structs inside. */
type Accessible<F extends Fields> = {
  [Name in keyof F]: Name extends `_${string}`
    ? never
    : F[Name] extends AnyStruct | PlaceKind
      ? never
      : F[Name] extends Kind<number> | Kind<bigint>
        ? Name
        : never;
}[keyof F];
type ValueOf<T> = T extends Kind<number> ? number : T extends Kind<bigint> ? bigint : never;

/** A struct with a getter for each field, and a setter for each under `set`. */
export type Struct<F extends Fields> = Omit<AnyStruct, 'offsets'> & {
  readonly offsets: { readonly [Name in keyof F]: number };
  readonly set: { readonly [Name in Accessible<F>]: Setter<ValueOf<F[Name]>> };
} & { readonly [Name in Accessible<F>]: Getter<ValueOf<F[Name]>> };

const RESERVED = ['cname', 'bytes', 'align', 'offsets', 'layout', 'format', 'set'];

/**
 * Declares a wire struct, once: `size` bytes of `fields` in their order, every padding spelled out as a field whose
 * name starts with `_` (such fields have an offset but no accessor). Throws AssertionError, at load, where the
 * declaration cannot be what a C compiler would lay out: a field off its natural alignment, hidden padding, another
 * total size. A struct inside a struct is only a place: `Attr.ino(view, at + EntryOut.offsets.attr)`.
 */
export function struct<const F extends Fields>(cname: string, size: number, fields: F): Struct<F> {
  const getters: Record<string, unknown> = {};
  const setters: Record<string, unknown> = {};
  const offsets: Record<string, number> = {};
  const layout: FieldLayout[] = [];
  let end = 0;
  let align = 1;
  for (const [name, field] of Object.entries(fields)) {
    assert(!RESERVED.includes(name), `${cname}.${name}: the name is taken by the struct itself`);
    assert(end % field.align === 0, `${cname}.${name}: offset ${end} is not a multiple of ${field.align}`);
    offsets[name] = end;
    layout.push({ name, offset: end, bytes: field.bytes, kind: 'kind' in field ? field.kind : field.cname });
    if ('getter' in field && field.getter && field.setter && !name.startsWith('_')) {
      getters[name] = field.getter(end);
      setters[name] = field.setter(end);
    }
    end += field.bytes;
    align = Math.max(align, field.align);
  }
  assert(end === size, `${cname}: the fields take ${end} bytes, not ${size}`);
  assert(end % align === 0, `${cname}: ${end} bytes end in hidden padding (alignment ${align})`);
  const format = formatter(cname, fields, offsets, getters);
  const made = { cname, bytes: size, align, offsets, layout, format, set: setters, ...getters };
  return made as unknown as Struct<F>;
}

function formatter(cname: string, fields: Fields, offsets: Record<string, number>, getters: Record<string, unknown>) {
  return (view: DataView, at: number): string => {
    const parts: string[] = [];
    for (const [name, field] of Object.entries(fields)) {
      if (name.startsWith('_') || field.bytes === 0) continue;
      const start = at + offsets[name];
      if ('format' in field) parts.push(`${name}=${field.format(view, start)}`);
      else if (field.getter) parts.push(`${name}=${String((getters[name] as Getter<unknown>)(view, at))}`);
      else parts.push(`${name}=0x${hex(view, start, field.bytes)}`);
    }
    return `${cname}{${parts.join(' ')}}`;
  };
}

/** The bytes in the order of the wire. */
function hex(view: DataView, at: number, count: number): string {
  let text = '';
  for (let i = 0; i < count; i += 1) {
    text += view
      .getUint8(at + i)
      .toString(16)
      .padStart(2, '0');
  }
  return text;
}
