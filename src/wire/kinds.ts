/** Reads a field of the record that starts at byte `at` of `view`. */
export type Getter<Value> = (view: DataView, at: number) => Value;
/** Writes a field of the record that starts at byte `at` of `view`. */
export type Setter<Value> = (view: DataView, at: number, value: Value) => void;

/**
 * What a field is on the wire: little-endian, `bytes` long, at a multiple of `align`.
 * `getter` and `setter` make the accessors for a field at a fixed offset of its record; kinds without them
 * (bytes, opaque64) are only places.
 */
export interface Kind<Value> {
  readonly kind: string;
  readonly bytes: number;
  readonly align: number;
  readonly getter: ((offset: number) => Getter<Value>) | null;
  readonly setter: ((offset: number) => Setter<Value>) | null;
}

/** A kind without accessors. The type keeps such fields out of a struct's getters and setters. */
export interface PlaceKind extends Kind<never> {
  readonly getter: null;
  readonly setter: null;
}

/**
 * Not core's, though the same: V8 folds a constant of the same module into the code, but loads an imported one each
 * time (a READ's seven fields take 8 ns with this one, 14 ns with that).
 */
const TWO_32 = 0x1_0000_0000;

// Every accessor is a closure over its offset alone: with a constant struct V8 inlines it down to the load itself.

export const u8: Kind<number> = {
  kind: 'u8',
  bytes: 1,
  align: 1,
  getter: (offset) => (view, at) => view.getUint8(at + offset),
  setter: (offset) => (view, at, value) => view.setUint8(at + offset, value),
};

export const u16: Kind<number> = {
  kind: 'u16',
  bytes: 2,
  align: 2,
  getter: (offset) => (view, at) => view.getUint16(at + offset, true),
  setter: (offset) => (view, at, value) => view.setUint16(at + offset, value, true),
};

export const u32: Kind<number> = {
  kind: 'u32',
  bytes: 4,
  align: 4,
  getter: (offset) => (view, at) => view.getUint32(at + offset, true),
  setter: (offset) => (view, at, value) => view.setUint32(at + offset, value, true),
};

export const i32: Kind<number> = {
  kind: 'i32',
  bytes: 4,
  align: 4,
  getter: (offset) => (view, at) => view.getInt32(at + offset, true),
  setter: (offset) => (view, at, value) => view.setInt32(at + offset, value, true),
};

/**
 * An unsigned 64-bit field as a plain number, exact below 2^53 and unchecked above: the nearest double is read (all
 * ones reads as 2^64), and of a written number the low 64 bits are kept. Compare a sentinel such as -1 word by word
 * at `offsets`. Costs two loads and no BigInt, so the data path uses nothing else.
 */
export const u53: Kind<number> = {
  kind: 'u53',
  bytes: 8,
  align: 8,
  getter: (offset) => (view, at) => view.getUint32(at + offset, true) + view.getUint32(at + offset + 4, true) * TWO_32,
  setter: (offset) => (view, at, value) => {
    view.setUint32(at + offset, value, true);
    view.setUint32(at + offset + 4, value / TWO_32, true);
  },
};

/**
 * A signed 64-bit field as a plain number, exact between -2^53 and 2^53, unchecked beyond (seconds before 1970, offsets
 * that may be negative). No BigInt.
 */
export const i53: Kind<number> = {
  kind: 'i53',
  bytes: 8,
  align: 8,
  getter: (offset) => (view, at) => view.getUint32(at + offset, true) + view.getInt32(at + offset + 4, true) * TWO_32,
  setter: (offset) => (view, at, value) => {
    view.setUint32(at + offset, value, true);
    view.setInt32(at + offset + 4, Math.floor(value / TWO_32), true);
  },
};

/** An unsigned 64-bit field as a BigInt, exact. Allocates: for cold paths. */
export const u64: Kind<bigint> = {
  kind: 'u64',
  bytes: 8,
  align: 8,
  getter: (offset) => (view, at) => view.getBigUint64(at + offset, true),
  setter: (offset) => (view, at, value) => view.setBigUint64(at + offset, value, true),
};

/** A signed 64-bit field as a BigInt, exact. Allocates: for cold paths. */
export const i64: Kind<bigint> = {
  kind: 'i64',
  bytes: 8,
  align: 8,
  getter: (offset) => (view, at) => view.getBigInt64(at + offset, true),
  setter: (offset) => (view, at, value) => view.setBigInt64(at + offset, value, true),
};

/** Eight bytes that are copied or compared, never understood (a request's `unique`, a lock owner). */
export const opaque64: PlaceKind = { kind: 'opaque64', bytes: 8, align: 8, getter: null, setter: null };

/**
 * `count` elements that have no accessor: an array, reserved room, or (0) the place where a variable tail starts.
 * `align` is that of one element, as C would have it.
 */
export function bytes(count: number, align: 1 | 2 | 4 | 8 = 1): PlaceKind {
  return { kind: 'bytes', bytes: count, align, getter: null, setter: null };
}
