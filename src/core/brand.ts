/**
 * Identities that are all numbers and must never stand for one another.
 * A brand costs nothing at run time: it exists for `tsc` alone.
 */

/** A FUSE node id: slot in the low 32 bits, generation above. 1 is the root. */
export type NodeId = number & { readonly __brand: 'NodeId' };
/** A FUSE file handle: slot in the low 32 bits, generation above. */
export type Fh = number & { readonly __brand: 'Fh' };
/** An open descriptor of this process. */
export type Fd = number & { readonly __brand: 'Fd' };
/** An address in this process, 0 to 2^53 - 1. */
export type HostAddress = number & { readonly __brand: 'HostAddress' };
