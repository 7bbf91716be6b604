/** Wire layouts, declared once: `struct()`, the kinds of its fields, and `flags()`. Pure; little-endian. */
export { bit, type Flags, flags } from './flags.ts';
export {
  bytes,
  type Getter,
  i32,
  i53,
  i64,
  type Kind,
  opaque64,
  type PlaceKind,
  type Setter,
  u8,
  u16,
  u32,
  u53,
  u64,
} from './kinds.ts';
export { type AnyStruct, type FieldLayout, type Struct, struct } from './struct.ts';
