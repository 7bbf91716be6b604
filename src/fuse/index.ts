/** The FUSE protocol, 7.46, as virtio-fs carries it: structs, opcodes, flags, INIT, directory entries, names. Pure. */
export { type Caught, describe, type DescribedReply, type DescribeOptions, type Description } from './describe.ts';
export type { Fields, Value } from './describe-fields.ts';
export { describeLine } from './describe-line.ts';
export { direntBytes, direntplusBytes, direntType, encodeDirent, encodeDirentplus } from './dirent.ts';
export { type Extensions, layExtensions, MAX_GROUPS, secctxBytes } from './extensions.ts';
export * as flags from './flags.ts';
export { encodeInit, type InitAgreement, type InitOffer, type InitResult, negotiate } from './init.ts';
export { nameLength, targetLength, xattrNameLength } from './names.ts';
export * as opcodes from './opcodes.ts';
export {
  type LastString,
  OPCODE_COUNT,
  OPCODES,
  type Opcode,
  type OpcodeName,
  type OpcodeNumber,
  opcodeName,
  type ReplyKind,
} from './opcodes.ts';
export { printable } from './printable.ts';
export * from './structs.ts';
